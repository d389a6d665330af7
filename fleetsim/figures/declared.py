"""Each figure of a run, defined once: what it is, of what, in which unit, and how people read it."""

from dataclasses import dataclass

from fleetsim import schema

HOUR_MS = 3_600_000
MONTH_MS = 30 * 24 * HOUR_MS
"""The month of service levels: 30 days, counted from the scenario's start."""
SLA_LINES = {line: MONTH_MS * (10_000 - line) // 10_000 for line in (9_990, 9_995, 9_999)}
"""Service levels in hundredths of a percent, and the ms a month each leaves: 43.2, 21.6 and 4.32 min (Azure: SLA of
virtual machines v1.8: 99.9 % of a single VM, 99.95 % of an availability set, 99.99 % over zones)."""
PAUSE_BOUNDS_MS = (1_000, 5_000, 10_000, 15_000, 30_000, 60_000)
"""Pauses a guest notices: probes of 5 s, two of them missed, TCP time-outs of 15 s and more, of 30 s in clusters."""
PERCENTILES = (50, 99)

STAGE = ("campaign", "iteration", "region")
"""What names a stage in every table."""
GRAINS = ("campaign", "stage", "hour", "pause", "cause", "sla", "application", "by")
"""What a figure can be of: `pause` is a length, `cause` one of CAUSES, `sla` one of `vm`, `set`, `application`, and
`by` stands for the fleet columns a reader asks for."""
CAUSES = ("wave", "window", "pair", "campaign", "spread", "gap", "cap")
"""What a stage waits for, in the order in which it meets them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its name as it stands in every report, its unit, its meaning, and the grains it has.

    Of two runs that are asked for the same, the one with less of it is better where `is_less_better`; of the others,
    as `vm_hit_count`, it cannot be said.
    """

    name: str
    unit: str
    definition: str
    grains: tuple[str, ...]
    is_less_better: bool = False


_UNWANTED = ("skipped", "overdue", "failed", "cancelled")
"""Outcomes of which fewer are better."""
_OUTCOME_MEANINGS = {
    "updated_self_service": "updated when their owner asked for it",
    "updated_scheduled": "updated in the scheduled window",
    "updated": "updated",
    "skipped": "left out of the iteration after a failed request",
    "already_updated": "created after their stage started, on hosts updated already",
    "deleted": "deleted before they were updated, or while they were",
    "overdue": "not updated: there was no room in the calendar",
    "failed": "not updated: all tries in the scheduled window failed",
    "cancelled": "not updated: the campaign was stopped",
    "unaffected": "not concerned: by the kind of the campaign or by their size",
}
OUTCOME_COUNTS = tuple(f"{word}_count" for word in schema.words(schema.Outcome))
LEFT_COUNTS = tuple(f"{outcome.name.lower()}_count" for outcome in schema.COME_BACK)
"""Of VMs that have another iteration, where there is one: a campaign counts them by their last."""
SLA_COUNTS = {f"sla_{line}_missed_count": allowed_ms for line, allowed_ms in SLA_LINES.items()}
"""Figures of service levels, and the ms out a month that each allows."""

_OF_VMS = ("campaign", "stage", "by")
_OF_STAGES = ("campaign", "stage")
FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "length_ms", "ms", "from the first unit's start to the last unit's end", _OF_STAGES, is_less_better=True
        ),
        Figure(
            "length_bound_ratio",
            "ratio",
            "length_ms over the best lower bound: the longest set or single, the work over a cap, or hosts of which no"
            " two may be at work at once; of a campaign also those of two paired regions one after the other, pair_lag"
            " between them, and of waves one after the other, bake between them; null of a run over hosts that keeps no"
            " events, which alone tell what hosts may not be at work at once",
            _OF_STAGES,
        ),
        Figure(
            "first_start_ms",
            "ms",
            "when the first unit starts, of applications and groups the first impact, since scenario start",
            (*_OF_VMS, "application"),
        ),
        Figure(
            "last_end_ms",
            "ms",
            "when the last unit ends, of applications and groups the last impact, since scenario start",
            (*_OF_VMS, "application"),
            is_less_better=True,
        ),
        Figure("vm_count", "VMs", "VMs in scope, hit or not; of an application: all it has", (*_OF_VMS, "application")),
        Figure(
            "vm_hit_count",
            "VMs",
            "VMs in scope that were hit: that have an impact, of several iterations in their last",
            (*_OF_VMS, "application"),
        ),
        *(
            Figure(
                f"{word}_count",
                "VMs",
                f"VMs in scope that ended it `{word}`: {meaning}",
                _OF_STAGES,
                is_less_better=word in _UNWANTED,
            )
            for word, meaning in _OUTCOME_MEANINGS.items()
        ),
        Figure(
            "remaining_count",
            "VMs",
            "VMs in scope that are not updated when the last iteration is over: skipped, overdue or failed in it",
            _OF_STAGES,
            is_less_better=True,
        ),
        Figure(
            "paused_ms_p50",
            "ms",
            "pause of a VM, summed, of several iterations in its last: at position ceil(0.50 n) of the n VMs paused",
            _OF_VMS,
            is_less_better=True,
        ),
        Figure("paused_ms_p99", "ms", "as paused_ms_p50, at position ceil(0.99 n)", _OF_VMS, is_less_better=True),
        Figure(
            "paused_ms_max", "ms", "longest pause of a VM, summed as in paused_ms_p50", _OF_VMS, is_less_better=True
        ),
        Figure(
            "down_ms_p50",
            "ms",
            "time a VM is down, summed, all its tries in, of several iterations in its last: at position ceil(0.50 n)"
            " of the n VMs down",
            _OF_VMS,
            is_less_better=True,
        ),
        Figure("down_ms_p99", "ms", "as down_ms_p50, at position ceil(0.99 n)", _OF_VMS, is_less_better=True),
        Figure(
            "down_ms_max", "ms", "longest time a VM is down, summed as in down_ms_p50", _OF_VMS, is_less_better=True
        ),
        Figure(
            "paused_over_ratio",
            "ratio",
            "share of the VMs hit that are paused longer than that",
            ("pause",),
            is_less_better=True,
        ),
        Figure(
            "over_tolerance_count",
            "VMs",
            "VMs paused longer than they stand: than their pause_max_ms, else than [tolerance] of their workload",
            _OF_VMS,
            is_less_better=True,
        ),
        Figure("unavailable_ms", "VM-ms", "time VMs were paused or down, summed", _OF_VMS, is_less_better=True),
        Figure(
            "pending_vm_ms",
            "VM-ms",
            "time until VMs are updated, summed over those hit that have not failed: from the campaign's start, or the"
            " VM's creation, to its last event's end",
            _OF_STAGES,
            is_less_better=True,
        ),
        Figure(
            "set_down_ratio_max",
            "ratio",
            "largest share of a set's living VMs out at once by the platform, over sets with a guarantee",
            _OF_STAGES,
            is_less_better=True,
        ),
        Figure("self_service_ratio", "ratio", "share of the VMs in scope that their customers moved", _OF_STAGES),
        Figure("temp_disk_lost_gib", "GiB", "temporary disks lost by moves, summed", _OF_STAGES, is_less_better=True),
        Figure(
            "addresses_changed_count",
            "VMs",
            "VMs whose dynamic addresses changed with a move",
            _OF_STAGES,
            is_less_better=True,
        ),
        Figure(
            "set_out_ms",
            "ms",
            "time in which all living VMs of a set were out, summed",
            _OF_STAGES,
            is_less_better=True,
        ),
        Figure(
            "application_down_ratio_max",
            "ratio",
            "largest share of one application's living VMs out at once",
            ("campaign", "application"),
            is_less_better=True,
        ),
        Figure(
            "application_out_ms",
            "ms",
            "time in which all living VMs of an application were out, summed",
            ("campaign", "application"),
            is_less_better=True,
        ),
        Figure(
            "quorum_lost_ms",
            "ms",
            "time in which fewer VMs of a set or application were up than [quorum] asks for, though as many were"
            " living, summed",
            ("campaign", "stage", "application"),
            is_less_better=True,
        ),
        Figure(
            "no_guarantee_count",
            "sets",
            "sets not promised a VM that stays up; of a region's iterations, in the one that has most",
            _OF_STAGES,
            is_less_better=True,
        ),
        Figure(
            "waited_ms",
            "ms",
            "time stages waited for a wave, a pair, another campaign, and, of the set or single of each that ended"
            " last, for its turn within spread and for gaps; summed over stages",
            ("cause",),
        ),
        *(
            Figure(
                name,
                "count",
                f"VMs, sets or applications out for more than {allowed_ms / 60_000:g} min within one of the months of"
                " 30 d since scenario start; a set or application is out while all its living VMs are; `*` counts all"
                " campaigns together",
                ("sla",),
                is_less_better=True,
            )
            for name, allowed_ms in SLA_COUNTS.items()
        ),
        Figure("hourly_start_count", "VMs", "impacts that start within the hour, all tries of a VM as one", ("hour",)),
        Figure(
            "hourly_unavailable_ms",
            "VM-ms",
            "whole time of the impacts that start within the hour",
            ("hour",),
        ),
    )
}
"""Every figure of a report. Whatever shows one shows it under this name, in this unit, by this definition."""


def duration(value_ms: float) -> str:
    """*value_ms* as people say it: `250 ms`, `30.0 s`, `9 min 30 s`, `25 h 20 min`, `1,870 d 3 h`."""
    whole_ms = round(value_ms)
    if whole_ms < 1_000:
        return f"{whole_ms} ms" if whole_ms else "0 s"
    if whole_ms < 59_950:
        return f"{whole_ms / 1_000:.1f} s"
    for larger, larger_s, smaller, smaller_s, stop_s in _SPANS:
        # Rounded before the units are chosen, so that 59 min 59.9 s is 1 h and not 59 min 60 s.
        rounded_s = round(whole_ms / 1_000 / smaller_s) * smaller_s
        if rounded_s < stop_s:
            first, rest_s = divmod(rounded_s, larger_s)
            return f"{first:,} {larger}" + (f" {rest_s // smaller_s} {smaller}" if rest_s else "")
    raise AssertionError("the last span has no end")


_SPANS: tuple[tuple[str, int, str, int, float], ...] = (
    ("min", 60, "s", 1, 3_600),
    ("h", 3_600, "min", 60, 100 * 3_600),
    ("d", 86_400, "h", 3_600, float("inf")),
)
"""Larger unit and its seconds, smaller unit and its seconds, and from how many seconds on it is too fine."""
