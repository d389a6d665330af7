"""What a run writes: the engine's arrays and sums as rows of the declared tables.

Columns that say the same in every row share their buffers among blocks, and are dictionary-encoded: a few bytes.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetsim.blocks import Int64s
from fleetsim.customers import Requests
from fleetsim.engine import Impacts, Steps, Sums, WeakSets, histogram_bin_starts_ms
from fleetsim.kernels.impact import HOUR_MS
from fleetsim.kinds import KINDS, MaintenanceKind
from fleetsim.scenario import Campaign
from fleetsim.schema import (
    EVENTS,
    NO_GUARANTEE,
    NO_ROW,
    OUTCOMES,
    STAGES,
    STEPS,
    SUMMARY,
    SUMMARY_FIGURES,
    Bottleneck,
    Effect,
    Kind,
    NoGuarantee,
    Outcome,
    Phase,
    Reason,
    Result,
    StepState,
    Table,
    words,
)
from fleetsim.stages import Decided, Verdict
from fleetsim.storage import Place, readable
from fleetsim.tables import arrow_schema, coded, constant_text, instants
from fleetsim.tries import Tries

Provenance = Mapping[str, str]
SummaryRow = tuple[str, int, str, str, int | None, float]
"""A row of `summary`: campaign, iteration, region, figure, bin_start_ms, value."""


def vm_rows(start: int, count: int) -> pa.Array:
    """The column `vm_row` of a part: uint32[count] from *start* on."""
    return pa.array(np.arange(start, start + count, dtype=np.uint32))


def events_schema(provenance: Provenance, *, has_hosts: bool, are_hosts_known: bool) -> pa.Schema:
    """The columns of `events`: hosts of VMs where some region has them, which are never null where all are known."""
    hosts = ["host_from", "host_to"] if has_hosts else []
    schema = arrow_schema(EVENTS, provenance, optional=hosts)
    for name in hosts if are_hosts_known else []:
        place = schema.get_field_index(name)
        schema = schema.set(place, schema.field(place).with_nullable(False))
    return schema


def events(impacts: Impacts, campaign: Campaign, iteration: int, vm_row: pa.Array, schema: pa.Schema) -> pa.Table:
    """Rows of `events` by *schema*, one a VM hit or a request; *vm_row* is that of every VM of the part."""
    kind = _kind(campaign)
    count = len(impacts.duration_ms)
    columns = {
        "campaign": _same_text(campaign.name, count),
        "phase": _same_code(EVENTS, "phase", Phase.SCHEDULED if kind.has_windows else Phase.PLATFORM, count),
        "kind": _same_code(EVENTS, "kind", campaign.kind, count)
        if impacts.is_rebooted is None
        else coded(EVENTS["kind"], np.where(impacts.is_rebooted, Kind.REBOOT, campaign.kind).astype(np.int8)),
        "result": _same_code(EVENTS, "result", Result.COMPLETED, count),
        "iteration": _same(pa.uint8(), iteration, count),
        "vm_row": vm_row if impacts.rows is None else vm_row.take(pa.array(impacts.rows)),
        "start_at": instants(impacts.start_at_ms),
        "duration_ms": pa.array(impacts.duration_ms),
        "effects": _effects(impacts, kind),
    }
    host_row = pa.nulls(count, pa.uint32()) if impacts.host_row is None else pa.array(impacts.host_row)
    # Whoever is redeployed goes to hardware that comes instead, of which no inventory tells; all others stay.
    leaves = campaign.kind == Kind.REDEPLOY
    columns |= {"host_from": host_row, "host_to": pa.nulls(count, pa.uint32()) if leaves else host_row}
    if impacts.tries is not None:
        columns = _by_try(columns, impacts, impacts.tries)
    by_platform = pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
    if impacts.requests is None:
        return by_platform
    asked = _requests(impacts.requests, campaign, iteration, vm_row, schema)
    both = pa.concat_tables([by_platform, asked], promote_options="none").unify_dictionaries()
    # By row: the platform's hit of a VM, if there is one, comes after all that its customer did.
    order = np.lexsort((both["start_at"].cast(pa.int64()).to_numpy(), both["vm_row"].to_numpy()))
    return both.take(pa.array(order)).combine_chunks()


def _by_try(columns: Mapping[str, pa.Array], impacts: Impacts, tries: Tries) -> dict[str, pa.Array]:
    """*columns* of `events`, a row an impact, as a row a try: who was tried in vain was down, and has not moved."""
    of_impact = pa.array(np.repeat(np.arange(len(tries.counts)), tries.counts))
    by_try = {name: column.take(of_impact) for name, column in columns.items()}
    effects = by_try["effects"].to_numpy(zero_copy_only=False)
    return by_try | {
        "host_to": pc.if_else(pa.array(tries.is_aborted), by_try["host_from"], by_try["host_to"]),
        "result": coded(EVENTS["result"], np.where(tries.is_aborted, Result.ABORTED, Result.COMPLETED).astype(np.int8)),
        "start_at": instants(tries.starts_ms(impacts.start_at_ms)),
        "duration_ms": pa.array(tries.duration_ms),
        "effects": pa.array(np.where(tries.is_aborted, Effect.MEMORY_LOST, effects).astype(np.uint8)),
    }


def _requests(requests: Requests, campaign: Campaign, iteration: int, vm_row: pa.Array, schema: pa.Schema) -> pa.Table:
    """Rows of `events`, one a request: whoever moves is started anew on another host."""
    count = len(requests.rows)
    columns = {
        "campaign": _same_text(campaign.name, count),
        "phase": _same_code(EVENTS, "phase", Phase.SELF_SERVICE, count),
        "kind": _same_code(EVENTS, "kind", Kind.REDEPLOY, count),
        "result": coded(EVENTS["result"], requests.result),
        "iteration": _same(pa.uint8(), iteration, count),
        "vm_row": vm_row.take(pa.array(requests.rows)),
        "start_at": instants(requests.at_ms),
        "duration_ms": pa.array(requests.duration_ms),
        "effects": pa.array(requests.effects),
        **_hosts_of(requests),
    }
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _hosts_of(requests: Requests) -> dict[str, pa.Array]:
    """Where VMs were when customers asked, and where they were then: elsewhere only if they moved."""
    if requests.hosts is None:
        nowhere = pa.nulls(len(requests.rows), pa.uint32())
        return {"host_from": nowhere, "host_to": nowhere}
    host_from, host_to = requests.hosts
    return {"host_from": pa.array(host_from), "host_to": pa.array(np.where(host_to < NO_ROW, host_to, host_from))}


def steps(
    found: Steps, campaign: Campaign, iteration: int, vm_row_start: int, start_ms_epoch: int, provenance: Provenance
) -> pa.Table:
    """Rows of `steps`, one a unit; *vm_row_start* is that of the region, *start_ms_epoch* scenario.start."""
    count = len(found.unit_row)

    def rows(of_region: Int64s | None) -> pa.Array:
        if of_region is None:
            return pa.nulls(count, pa.uint32())
        return pa.array((of_region + vm_row_start).astype(np.uint32), mask=of_region < 0)

    waited_for = STEPS["waited_for"].codes
    assert waited_for is not None
    columns = {
        "campaign": _same_text(campaign.name, count),
        "iteration": _same(pa.uint8(), iteration, count),
        "unit_row": rows(found.unit_row),
        "host_row": pa.nulls(count, pa.uint32()) if found.host_row is None else pa.array(found.host_row),
        "set_row": rows(found.set_row),
        "domain": pa.nulls(count, pa.uint8())
        if found.domain is None
        else pa.array(found.domain.astype(np.uint8), mask=found.domain < 0),
        "state": _same_code(STEPS, "state", StepState.WORK, count),
        "start_at": instants(found.start_ms + start_ms_epoch),
        "duration_ms": pa.array(found.duration_ms),
        "waited_for": pa.DictionaryArray.from_arrays(
            pa.array(found.waited_for, mask=found.waited_for < 0), pa.array(words(waited_for))
        ),
        "waited_row": rows(found.waited_row),
        "waited_ms": pa.array(found.waited_ms),
    }
    return _table(STEPS, columns, provenance)


def _effects(impacts: Impacts, kind: MaintenanceKind) -> pa.Array:
    """Effects of each impact: a VM deleted during its own keeps none (semantics.md 8)."""
    effects = kind.effects if impacts.effects is None else impacts.effects
    if impacts.is_cut is not None and impacts.is_cut.any():
        return pa.array(np.where(impacts.is_cut, 0, effects).astype(np.uint8))
    if impacts.effects is not None:
        return pa.array(impacts.effects)
    return _same(pa.uint8(), int(kind.effects), len(impacts.duration_ms))


def _effects_of_all(impacts: Impacts, kind: MaintenanceKind) -> npt.NDArray[np.uint8]:
    """Effects of each impact, with those of all its tries."""
    effects: npt.NDArray[np.uint8] = _effects(impacts, kind).to_numpy(zero_copy_only=False)
    if impacts.tries is None:
        return effects
    of_last = np.where(impacts.tries.ends_aborted, 0, effects)
    return (of_last | np.where(impacts.tries.has_aborted, Effect.MEMORY_LOST, 0)).astype(np.uint8)


def outcomes(
    impacts: Impacts, campaign: Campaign, iteration: int, vm_row: pa.Array, provenance: Provenance
) -> pa.Table:
    """Rows of `outcomes`, one a VM selected; *vm_row* is that of every VM of the part."""
    kind = _kind(campaign)
    down_ms = None
    if impacts.rows is None or impacts.fates is None:
        count = len(vm_row)
        lost_ms = pa.array(impacts.duration_ms)
        columns = {
            "vm_row": vm_row,
            "outcome": _same_code(OUTCOMES, "outcome", Outcome.UPDATED, count),
            "reason": _same_code(OUTCOMES, "reason", Reason.NONE, count),
            "event_count": _same(pa.uint32(), 1, count),
            "effects": _effects(impacts, kind),
        }
    else:
        rows, fates = impacts.fates.rows, impacts.fates
        count = len(rows)

        asked = impacts.requests

        def selected(values: Any, asked_values: Any, dtype: type[np.generic]) -> pa.Array:
            """The sum of *values* of the VMs hit and of requests as a column of the VMs selected."""
            column = np.zeros(len(vm_row), dtype)
            column[impacts.rows] = values
            if asked is not None:
                np.add.at(column, asked.rows, asked_values)
            return pa.array(column[rows])

        lost_ms = selected(impacts.duration_ms, asked and asked.duration_ms, np.uint32)
        if impacts.is_rebooted is not None:  # and so nobody has asked for anything
            lost_ms = selected(np.where(impacts.is_rebooted, 0, impacts.duration_ms), None, np.uint32)
            down_ms = selected(np.where(impacts.is_rebooted, impacts.duration_ms, 0), None, np.uint32)
        columns = {
            "vm_row": vm_row.take(pa.array(rows)),
            "outcome": coded(OUTCOMES["outcome"], fates.outcome[rows]),
            "reason": coded(OUTCOMES["reason"], fates.reason[rows]),
            "event_count": selected(1 if impacts.tries is None else impacts.tries.counts, 1, np.uint32),
            # A VM has one impact at most: no effect is counted twice.
            "effects": selected(_effects_of_all(impacts, kind), asked and asked.effects, np.uint8),
        }
    none_ms = _same(pa.uint32(), 0, count)
    columns |= {
        "campaign": _same_text(campaign.name, count),
        "iteration": _same(pa.uint8(), iteration, count),
        "paused_ms": lost_ms if kind.is_paused else none_ms,
        "down_ms": (none_ms if down_ms is None else down_ms) if kind.is_paused else lost_ms,
    }
    return _table(OUTCOMES, columns, provenance)


def _kind(campaign: Campaign) -> MaintenanceKind:
    return KINDS[campaign.kind.name.lower()]


_longest: dict[tuple[str, int | str], pa.Array] = {}


def _same(data_type: pa.DataType, value: int | str, count: int) -> pa.Array:
    """A column that says *value* in every row: a slice of the longest one asked for so far, which all blocks share."""
    key = (str(data_type), value)
    longest = _longest.get(key)
    if longest is None or len(longest) < count:
        longest = _longest[key] = pa.repeat(pa.scalar(value, data_type), count)
    return longest.slice(0, count)


def _same_text(word: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(_same(pa.int32(), 0, count), pa.array([word]), safe=False)


def _same_code(table: Table, name: str, code: IntEnum, count: int) -> pa.DictionaryArray:
    codes = table[name].codes
    assert codes is not None
    # Checking that a constant is within bounds, row by row, would take longer than writing it.
    return pa.DictionaryArray.from_arrays(_same(pa.int8(), int(code), count), pa.array(words(codes)), safe=False)


def stages(
    sums: Mapping[Decided, Sums], campaigns: Sequence[Campaign], start_ms_epoch: int, provenance: Provenance
) -> pa.Table:
    """The table `stages`, in the order of *sums*."""
    return _from_rows(STAGES, stage_rows(sums, campaigns, start_ms_epoch), provenance)


def stage_rows(
    sums: Mapping[Decided, Sums], campaigns: Sequence[Campaign], start_ms_epoch: int
) -> list[tuple[Any, ...]]:
    """Rows of `stages`, in the order of *sums*."""
    rows = []
    for decided, total in sums.items():
        row: dict[str, Any] = dict.fromkeys(STAGES.names())
        row.update({f"{word}_count": int(total.outcome_counts[code]) for code, word in enumerate(words(Outcome))})
        row.update(
            campaign=campaigns[decided.stage.place].name,
            iteration=decided.stage.iteration,
            region=decided.stage.region,
            wave=decided.stage.wave,
            bottleneck=_bottleneck(decided, total).name.lower(),
        )
        windows = campaigns[decided.stage.place].windows
        if windows is not None and decided.verdict is Verdict.AT_WORK:
            opens_at = start_ms_epoch + decided.at_ms
            row.update(
                notice_at=opens_at - windows.lead_ms,
                self_service_start_at=opens_at - windows.gap_ms - windows.self_service_ms,
                self_service_end_at=opens_at - windows.gap_ms,
                scheduled_start_at=opens_at,
                scheduled_end_at=opens_at + windows.scheduled_ms,
            )
        if total.end_ms:
            row.update(first_start_at=start_ms_epoch + total.first_start_ms, last_end_at=start_ms_epoch + total.end_ms)
        rows.append(tuple(row.values()))
    return rows


def _bottleneck(decided: Decided, total: Sums) -> Bottleneck:
    if not total.end_ms:
        return Bottleneck.NONE
    waited_for = Bottleneck.PAIR if decided.waited_for_pair else Bottleneck.CAMPAIGN
    lead_ms = decided.stage.lead_ms or 0
    parts_ms = {
        Bottleneck.WORK: total.last_work_ms,
        Bottleneck.GAP: total.last_gap_ms,
        Bottleneck.SPREAD: total.last_spread_ms,
        Bottleneck.CAP: total.last_cap_ms,
        Bottleneck.WINDOW: lead_ms,
        waited_for: decided.at_ms - decided.stage.asked_ms - lead_ms,
    }
    return max(parts_ms, key=lambda part: parts_ms[part])


def summary(
    sums: Mapping[Decided, Sums], campaigns: Sequence[Campaign], rest: Sequence[SummaryRow], provenance: Provenance
) -> pa.Table:
    """The table `summary`: what `summary_rows` tells; last the *rest*, of whole campaigns."""
    return _from_rows(SUMMARY, [*summary_rows(sums, campaigns), *rest], provenance)


def summary_rows(sums: Mapping[Decided, Sums], campaigns: Sequence[Campaign]) -> list[SummaryRow]:
    """Rows of `summary`, in the order of *sums*: single figures of each stage, then its bins."""
    return [
        (campaigns[decided.stage.place].name, decided.stage.iteration, decided.stage.region, *figure)
        for decided, total in sums.items()
        for figure in _figures(decided, total, _kind(campaigns[decided.stage.place]))
    ]


def _figures(decided: Decided, total: Sums, kind: MaintenanceKind) -> list[tuple[str, int | None, float]]:
    singles: dict[str, float] = {
        "asked_ms": decided.stage.asked_ms,
        "vm_hit_count": total.vm_hit_count,
        "pending_vm_ms": total.pending_vm_ms,
        "unavailable_ms": total.unavailable_ms,
        "set_count": total.set_count,
        "single_count": total.single_count,
        "set_down_ratio_max": total.down_count / total.down_of_count,
        "set_out_ms": total.set_out_ms,
        "no_guarantee_count": int(total.no_guarantee_counts.sum()),
    }
    if total.quorum_lost_ms is not None:
        singles["quorum_lost_ms"] = total.quorum_lost_ms
    if total.end_ms and total.cap_bound_ms is not None:
        singles["cap_bound_ms"] = total.cap_bound_ms
    if decided.verdict is Verdict.AT_WORK:
        singles |= {"start_ms": decided.at_ms, "free_ms": total.free_ms}
    if total.end_ms:
        singles |= {
            "end_ms": total.end_ms,
            "first_start_ms": total.first_start_ms,
            "longest_ms": total.longest_ms,
            "last_vm_row": total.last_vm_row,
            "last_spread_ms": total.last_spread_ms,
            "last_work_ms": total.last_work_ms,
            "last_gap_ms": total.last_gap_ms,
            "last_cap_ms": total.last_cap_ms,
            "last_domain_count": total.last_domain_count,
        }
    figures: list[tuple[str, int | None, float]] = [
        (figure, None, float(singles[figure])) for figure in SUMMARY_FIGURES if figure in singles
    ]
    hours = sorted(total.hourly.items())
    figures += [("hourly_start_count", hour * HOUR_MS, float(counts[0])) for hour, counts in hours]
    figures += [("hourly_unavailable_ms", hour * HOUR_MS, float(counts[1])) for hour, counts in hours]
    bounds_ms = histogram_bin_starts_ms()
    histograms = [("paused_ms_histogram" if kind.is_paused else "down_ms_histogram", total.histogram)]
    if total.reboot_histogram is not None:
        histograms.append(("down_ms_histogram", total.reboot_histogram))
    for figure, histogram in histograms:
        filled = np.flatnonzero(histogram)
        counts = histogram[filled].astype(np.float64)
        figures += zip(repeat(figure), bounds_ms[filled].tolist(), counts.tolist(), strict=False)
    return figures


def weak_sets(path: Place, weak: WeakSets, region: str) -> pa.Table:
    """Rows of `no_guarantee`: the sets that stand at the rows of *weak* in the fleet part *path*."""
    with pq.ParquetFile(readable(path)) as part:
        sets = part.read(columns=["set"], use_threads=False)["set"].take(pa.array(weak.row)).combine_chunks()
    regions = constant_text(region, np.zeros(len(weak.row), np.int32))
    columns = [regions, sets, coded(NO_GUARANTEE["reason"], weak.reason)]
    return pa.Table.from_arrays(columns, names=NO_GUARANTEE.names())


def no_guarantee(path: Place, regions: Collection[str], weak: Sequence[pa.Table], provenance: Provenance) -> pa.Table:
    """Rows of `no_guarantee`: of the prepared fleet's at *path* those in *regions*, and *weak* ones; each once."""
    table = pq.ParquetFile(readable(path)).read()
    schema = arrow_schema(NO_GUARANTEE, provenance, table.schema.field("set").type)
    in_scope = table.filter(pc.is_in(table["region"].cast(pa.string()), pa.array(sorted(regions), pa.string())))
    if not weak:
        return in_scope.cast(schema)
    plain = pa.schema([("region", pa.string()), schema.field("set"), ("reason", pa.string())])
    found = pa.concat_tables([each.cast(plain) for each in (in_scope, *weak)])
    by_set = (
        found.group_by(plain.names)
        .aggregate([])
        .select(plain.names)
        .sort_by([(name, "ascending") for name in plain.names])
    )
    reason = pc.index_in(by_set["reason"], pa.array(words(NoGuarantee))).combine_chunks().cast(pa.int8())
    columns = [
        by_set["region"].combine_chunks().dictionary_encode(),
        by_set["set"],
        coded(NO_GUARANTEE["reason"], reason.to_numpy()),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _table(table: Table, columns: Mapping[str, pa.Array], provenance: Provenance) -> pa.Table:
    schema = arrow_schema(table, provenance)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _from_rows(table: Table, rows: Sequence[tuple[Any, ...]], provenance: Provenance) -> pa.Table:
    """*rows*, whose values are in the order of the columns."""
    schema = arrow_schema(table, provenance)
    columns = zip(*rows, strict=True) if rows else [() for _ in schema]
    arrays = []
    for field, values in zip(schema, columns, strict=True):
        is_text = pa.types.is_dictionary(field.type)
        array = pa.array(values, pa.string() if is_text else field.type)
        arrays.append(array.dictionary_encode().cast(field.type) if is_text else array)
    return pa.Table.from_arrays(arrays, schema=schema)
