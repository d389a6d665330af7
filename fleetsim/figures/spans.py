"""What charts of a run show by time and by length: VMs out, VMs that wait for their update, and how long VMs are out.

Counted in bins, a few parts at a time: memory follows the bins, not the fleet.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from fleetsim.figures.declared import HOUR_MS
from fleetsim.figures.pauses import impacts_of_part, table_of
from fleetsim.figures.runs import RunFiles, fails, in_turn, ms_since_start, tries, whole_impacts

BIN_WIDTHS_MS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000),
    *(60_000 * minutes for minutes in (1, 2, 5, 10, 15, 30)),
    *(HOUR_MS * hours for hours in (1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2_160, 8_760, 87_600)),
)
"""Widths of bins that people count in."""
PAUSES = ("freeze", "live_migration")
"""Kinds of events that pause; all others that last take a VM down."""


def bin_width_ms(span_ms: int, count: int) -> int:
    """The narrowest of BIN_WIDTHS_MS of which *count* are as long as *span_ms*; the widest if none is."""
    return next((width_ms for width_ms in BIN_WIDTHS_MS if width_ms * count >= span_ms), BIN_WIDTHS_MS[-1])


def courses(files: RunFiles, bins_ms: Mapping[str, int]) -> pl.DataFrame:
    """How many VMs are out, wait and are updated: one row a campaign of *bins_ms* (name -> width of its bins) and bin.

    `campaign`, `bin_start_ms` and `bin_ms` (i64, since scenario start), without gaps from the first bin in which
    something is so to the last; `paused_mean`, `down_mean` and `pending_mean` (f64), the VMs that are paused, down, or
    will be updated and are not yet, on average over the bin and exactly: times the width and summed up they are
    `unavailable_ms` and `pending_vm_ms`; `updated_count` (i64), VMs updated by the end of the bin. Of the VMs looked
    at. Empty where the run kept no events.
    """
    start_ms = {each["name"]: int(each.get("start_ms", 0)) for each in files.campaigns}
    born = {"created": "created"} if "created" in files.fleet_schema else {}
    failing = {each["name"] for each in files.campaigns if fails(each)}
    pieces = []
    for part in files.parts("events") if files.has("events") else ():
        if part.campaign not in bins_ms:
            continue
        width_ms, asked_ms = bins_ms[part.campaign], pl.lit(start_ms[part.campaign], pl.Int64)
        is_pause = pl.col("kind").cast(pl.String).is_in(PAUSES)
        out = tries(files, part.path).with_columns(
            what=pl.when(is_pause).then(pl.lit("paused")).otherwise(pl.lit("down"))
        )
        updated = whole_impacts(files, part).filter(~pl.col("has_failed"))
        if files.only or born:
            of_fleet = files.fleet(part.fleet_path, born)
            updated = updated.join(of_fleet, on="vm_row")
            out = out.join(of_fleet, on="vm_row", how="semi") if files.only else out
        since_ms = pl.max_horizontal(asked_ms, ms_since_start(files, "created")) if born else asked_ms
        waits = updated.select(what=pl.lit("pending"), start_ms=since_ms, end_ms="end_ms")
        # Mostly all wait from the campaign's start until their only try ends: then ends of both are the same.
        shares_ends = not born and part.campaign not in failing
        for spans in (out.select("what", "start_ms", "end_ms"), *(() if shares_ends else (waits,))):
            for at_ms, is_end in (("start_ms", False), ("end_ms", True)):
                counted = spans.group_by("what", bin=pl.col(at_ms) // width_ms).agg(
                    count=pl.len().cast(pl.Int64), sum_ms=pl.col(at_ms).sum()
                )
                told = counted.with_columns(campaign=pl.lit(part.campaign), is_end=pl.lit(is_end))
                pieces.append(told.select(_COUNTED.columns))
    total = pl.concat([_COUNTED, *in_turn(files, "courses", pieces)])
    total = total.group_by("campaign", "what", "bin", "is_end").agg(pl.col("count", "sum_ms").sum())
    found = []
    for name, width_ms in bins_ms.items():
        own = total.filter(campaign=name)
        if not born and name not in failing:
            ends = own.filter("is_end").with_columns(what=pl.lit("pending"))
            count = int(ends["count"].sum())
            starts = ends.head(1).with_columns(
                bin=pl.lit(start_ms[name] // width_ms, pl.Int64),
                is_end=pl.lit(value=False),
                count=pl.lit(count, pl.Int64),
                sum_ms=pl.lit(count * start_ms[name], pl.Int64),
            )
            own = pl.concat([own, starts, ends])
        found.append(_course(own, name, width_ms))
    return pl.concat([_COURSES, *found])


_COUNTED = pl.DataFrame(
    schema={
        "campaign": pl.String,
        "what": pl.String,
        "bin": pl.Int64,
        "is_end": pl.Boolean,
        "count": pl.Int64,
        "sum_ms": pl.Int64,
    }
)
_COURSES = pl.DataFrame(
    schema={
        "campaign": pl.String,
        "bin_start_ms": pl.Int64,
        "bin_ms": pl.Int64,
        "paused_mean": pl.Float64,
        "down_mean": pl.Float64,
        "pending_mean": pl.Float64,
        "updated_count": pl.Int64,
    }
)


def _course(counted: pl.DataFrame, campaign: str, width_ms: int) -> pl.DataFrame:
    """The rows of `courses` of *campaign*, whose starts and ends are *counted* by bin."""
    # What has started x before t, and not ended, adds t - x up to t: over a bin, the difference of both its ends.
    if counted.is_empty():
        return _COURSES
    first, last = counted["bin"].min(), counted["bin"].max()
    sign = pl.when("is_end").then(-1).otherwise(1)
    summed = counted.group_by("what", "bin").agg(
        (pl.col("count", "sum_ms") * sign).sum(), end_count=pl.col("count").filter("is_end").sum()
    )
    bins = pl.DataFrame({"bin": pl.int_range(first, last + 1, eager=True)})  # type: ignore[operator, arg-type]
    columns = {}
    for what in ("paused", "down", "pending"):
        own = bins.join(summed.filter(what=what), on="bin", how="left", maintain_order="left").fill_null(0)
        count, sum_ms = own["count"].cum_sum(), own["sum_ms"].cum_sum()
        count_before, sum_before_ms = count.shift(1, fill_value=0), sum_ms.shift(1, fill_value=0)
        start_ms = own["bin"] * width_ms
        until_end_ms = (start_ms + width_ms) * count - sum_ms
        columns[f"{what}_mean"] = (until_end_ms - (start_ms * count_before - sum_before_ms)) / width_ms
        if what == "pending":
            columns["updated_count"] = own["end_count"].cum_sum()
    return (
        bins.select(campaign=pl.lit(campaign), bin_start_ms=pl.col("bin") * width_ms, bin_ms=pl.lit(width_ms, pl.Int64))
        .with_columns(**columns)
        .select(_COURSES.columns)
    )


@dataclass(frozen=True, slots=True)
class Stragglers:
    """Few VMs that take more than half of a campaign's time: who is updated before them, by when, and how many wait.

    `prompt_count` VMs are updated by `prompt_ms`, since scenario start; `late_count` take until the end.
    """

    prompt_count: int
    prompt_ms: int
    late_count: int


STRAGGLER_BINS = 1_000
"""In so many parts of a campaign's time updates are looked at: a pause between two that is shorter is none."""


def stragglers(files: RunFiles, campaign: str, first_ms: int, last_ms: int, few_ratio: float) -> Stragglers | None:
    """The VMs, *few_ratio* of those updated at most, that take more than half of *first_ms* to *last_ms* by *campaign*.

    Both since scenario start. Of several such times, the one after which nobody is updated for longest; None where
    there is none, or the run kept no events. Of the VMs looked at.
    """
    span_ms = max(1, last_ms - first_ms)
    end_ms = pl.col("end_ms")
    pieces = []
    for part in files.parts("events") if files.has("events") else ():
        if part.campaign != campaign:
            continue
        updated = whole_impacts(files, part).filter(~pl.col("has_failed"))
        if files.only:
            updated = updated.join(files.fleet(part.fleet_path, {}), on="vm_row", how="semi")
        binned = updated.group_by(bin=(end_ms - first_ms) * STRAGGLER_BINS // span_ms)
        pieces.append(binned.agg(count=pl.len().cast(pl.Int64), least_ms=end_ms.min(), most_ms=end_ms.max()))
    found = (
        pl.concat([_UPDATED, *in_turn(files, "stragglers", pieces)])
        .group_by("bin")
        .agg(pl.col("count").sum(), pl.col("least_ms").min(), pl.col("most_ms").max())
        .sort("bin")
        .with_columns(prompt_count=pl.col("count").cum_sum(), quiet_ms=pl.col("least_ms").shift(-1) - pl.col("most_ms"))
        .with_columns(late_count=pl.col("count").sum() - pl.col("prompt_count"))
        .filter(
            pl.col("late_count").is_between(1, few_ratio * pl.col("count").sum()),
            2 * (last_ms - pl.col("most_ms")) > span_ms,
        )
        .sort("quiet_ms", "bin", descending=[True, False])
    )
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    return Stragglers(row["prompt_count"], row["most_ms"], row["late_count"])


_UPDATED = pl.DataFrame(schema=dict.fromkeys(("bin", "count", "least_ms", "most_ms"), pl.Int64))


def lengths(files: RunFiles, bins_ms: Mapping[str, int]) -> pl.DataFrame:
    """How long VMs are out, summed as in reports: one row a campaign of *bins_ms* (name -> width), `is_down` and bin.

    `campaign`, `is_down` (else paused), `bin_start_ms`, `bin_ms`, `vm_count`; VMs hit alone, of several iterations by
    their last. Exact but where the run kept neither outcomes nor events: there the engine's bins are spread evenly.
    """
    table = table_of(files)
    keys = ["campaign", "is_down", "bin_start_ms", "bin_ms"]
    found = [pl.DataFrame(schema=dict(zip([*keys, "vm_count"], _LENGTH_TYPES, strict=True)))]
    if table is None:
        found += [_spread(files, name, width_ms) for name, width_ms in bins_ms.items()]
        return pl.concat(found).group_by(keys).agg(pl.col("vm_count").sum()).sort(keys)
    pieces = []
    for part in files.parts(table):
        if part.campaign not in bins_ms:
            continue
        width_ms = bins_ms[part.campaign]
        rows = impacts_of_part(files, part, table, {}).filter(pl.col("lost_ms").is_not_null() & ~pl.col("comes_back"))
        bins = {"bin_start_ms": pl.col("lost_ms") // width_ms * width_ms, "bin_ms": pl.lit(width_ms, pl.Int64)}
        counted = rows.with_columns(**bins).group_by(keys).agg(pl.col("vm_count").sum().cast(pl.Float64))
        pieces.append(counted.select(*keys, "vm_count"))
    found += in_turn(files, "lengths", pieces)
    return pl.concat(found).group_by(keys).agg(pl.col("vm_count").sum()).sort(keys)


_LENGTH_TYPES = (pl.String, pl.Boolean, pl.Int64, pl.Int64, pl.Float64)


def _spread(files: RunFiles, campaign: str, width_ms: int) -> pl.DataFrame:
    """The engine's histogram of *campaign* in bins of *width_ms*, each of its bins spread evenly over 1/64 more."""
    rows = (
        files.scan("summary")
        .filter(pl.col("figure").is_in(["paused_ms_histogram", "down_ms_histogram"]), pl.col("campaign") == campaign)
        .group_by(is_down=pl.col("figure") == "down_ms_histogram", low_ms="bin_start_ms")
        .agg(pl.col("value").sum())
        .with_columns(high_ms=pl.col("low_ms") + pl.max_horizontal(1, pl.col("low_ms") // 64))
        .with_columns(bin=pl.int_ranges(pl.col("low_ms") // width_ms, (pl.col("high_ms") - 1) // width_ms + 1))
        .explode("bin")
        .collect()
    )
    start_ms = pl.col("bin") * width_ms
    part_ms = pl.min_horizontal("high_ms", start_ms + width_ms) - pl.max_horizontal("low_ms", start_ms)
    return rows.select(
        campaign=pl.lit(campaign),
        is_down="is_down",
        bin_start_ms=start_ms,
        bin_ms=pl.lit(width_ms, pl.Int64),
        vm_count=pl.col("value") * part_ms / (pl.col("high_ms") - pl.col("low_ms")),
    )
