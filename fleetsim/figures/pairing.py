"""Two runs over the same fleet, VM by VM: who is hit in both, whose time out grows, whose outcome changes.

Rows of a part of the fleet meet those of the same part of the other run, so that a join never holds more than a part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from fleetsim.figures.pauses import BINS_AN_OCTAVE, impacts_of_part, table_of
from fleetsim.figures.runs import Part, RunFiles, in_turn, scanned
from fleetsim.figures.spans import bin_width_ms

PERCENTILES_PAIRED = (50, 95)
DIFFERENCE_BINS = 60
JOINS_AT_ONCE = 2
"""Parts of the fleet joined side by side: a join holds both runs' rows of a part."""
TOLD = 5
"""VMs and sets that are told of those that gain most, and of those that lose most."""


@dataclass(frozen=True)
class Paired:
    """What became of the same VMs in two runs; a difference is the other run's value less the base's.

    A VM is in scope of a run's campaign, and hit by it, as in reports. Differences are of the time out, summed over
    iterations, of VMs hit in both. `over_*` are None where not both runs have a tolerance, `outcomes` (`outcome_base`,
    `outcome`, `vm_count`) where not both kept them.
    """

    vm_count: int
    only_base_count: int
    only_other_count: int
    hit_both_count: int
    hit_only_base_count: int
    hit_only_other_count: int
    longer_count: int
    shorter_count: int
    equal_count: int
    difference_ms_p50: int | None
    difference_ms_p95: int | None
    difference_ms_min: int | None
    difference_ms_max: int | None
    difference_ms_sum: int
    over_both_count: int | None
    over_only_base_count: int | None
    over_only_other_count: int | None
    outcome_changed_count: int | None
    outcomes: pl.DataFrame | None
    bins: pl.DataFrame
    """`bin_start_ms`, `bin_ms`, `vm_count`: the distribution of differences."""
    vms: pl.DataFrame
    """`vm`, `region`, `base_ms`, `other_ms`, `difference_ms`: TOLD that lose most, then TOLD that gain most."""
    vms_over: pl.DataFrame
    """`vm`, `region`, `base_ms`, `other_ms`: the first TOLD over tolerance in the other run alone."""
    sets: pl.DataFrame
    """`set`, `region`, `vm_count`, `base_ms`, `other_ms`, `difference_ms`: sums over their VMs, as `vms`."""


def paired(base: RunFiles, other: RunFiles, campaign_base: str, campaign: str) -> Paired | None:
    """The VMs of *campaign_base* of the run *base* beside those of *campaign* of *other*, which is over the same fleet.

    Of the VMs looked at. None where one of them kept neither outcomes nor events.
    """
    table_base, table_other = table_of(base), table_of(other)
    if table_base is None or table_other is None:
        return None
    # Equal fleets have equal parts, under equal names.
    sides = _sides(base, table_base, campaign_base), _sides(other, table_other, campaign)
    have_outcomes = table_base == table_other == "outcomes"
    places = sorted({*sides[0], *sides[1]})
    joined = [_joined(sides[0].get(place), sides[1].get(place)) for place in places]
    pieces: list[pl.LazyFrame] = []
    has_sets = "set" in base.fleet_schema
    knows = base.tolerance is not None and other.tolerance is not None
    for place, rows in zip(places, joined, strict=True):
        fleet_path = base.path / place
        changed = rows.filter(pl.col("is_paired") & (pl.col("difference_ms") != 0))
        is_now_over = pl.lit(knows) & pl.col("is_over_other").fill_null(value=False)
        is_now_over &= ~pl.col("is_over_base").fill_null(value=False)
        named = scanned(fleet_path).select("vm_row", "vm", pl.col("region").cast(pl.String))
        told = [
            changed.sort("difference_ms", "vm_row", descending=[True, False]).head(TOLD),
            changed.sort("difference_ms", "vm_row").head(TOLD),
            rows.filter(is_now_over).sort("vm_row").head(TOLD),
        ]
        pieces += [
            rows.group_by(_KEYS).agg(
                vm_count=pl.len().cast(pl.Int64),
                low_ms=pl.col("difference_ms").min(),
                high_ms=pl.col("difference_ms").max(),
                sum_ms=pl.col("difference_ms").sum(),
            ),
            *(each.join(named, on="vm_row", maintain_order="left").select(_NAMED) for each in told),
        ]
        if has_sets:
            of_set = base.fleet(fleet_path, {"set": "set", "region": "region"}).drop_nulls("set")
            pieces.append(
                rows.join(of_set, on="vm_row")
                .group_by("set", pl.col("region").cast(pl.String))
                .agg(pl.len().cast(pl.Int64).alias("vm_count"), pl.col("base_ms", "other_ms").fill_null(0).sum())
            )
    step = 5 if has_sets else 4
    found = list(in_turn(base, "pairs", pieces, at_once=step * JOINS_AT_ONCE))
    counted, more, less, over = (_concat(found[place::step]) for place in range(4))
    if not len(counted):
        counted = _EMPTY
    bins, exact = _differences(base, joined, counted)
    told_vms = [_most(each, "difference_ms", turn, ["vm_row"]) for each, turn in ((more, True), (less, False))]
    return Paired(
        **_counts(counted, knows),
        **{f"difference_ms_p{each}": _rank(exact, each) for each in PERCENTILES_PAIRED},  # type: ignore[arg-type]
        outcomes=_outcomes(counted) if have_outcomes else None,
        outcome_changed_count=_changed(counted) if have_outcomes else None,
        bins=bins,
        vms=pl.concat(told_vms).drop("vm_row"),
        vms_over=over.sort("vm_row").head(TOLD).drop("vm_row", "difference_ms"),
        sets=_set_ends(_concat(found[4::5])) if has_sets else _SETS,
    )


def _sides(files: RunFiles, table: str, campaign: str) -> dict[str, pl.LazyFrame]:
    """Part of the fleet, by its path in the run -> one row a VM in scope of *campaign*, its iterations as one."""
    parts: dict[str, list[Part]] = {}
    for part in files.parts(table):
        if part.campaign == campaign:
            parts.setdefault(str(part.fleet_path.relative_to(files.path)), []).append(part)
    outcome = pl.col("outcome").cast(pl.String) if table == "outcomes" else pl.lit(None, pl.String)
    is_over = ~pl.col("is_down") & (pl.col("paused_ms") > pl.col("tolerance_ms")).fill_null(value=False)
    found = {}
    for place, own in parts.items():
        rows = [
            impacts_of_part(files, part, table, {}).select(
                "vm_row",
                "comes_back",
                lost_ms="unavailable_ms",
                is_hit=pl.col("lost_ms").is_not_null(),
                is_over=is_over if files.tolerance is not None else pl.lit(None, pl.Boolean),
                outcome=outcome,
            )
            for part in own
        ]
        if len(rows) == 1:
            found[place] = rows[0].drop("comes_back")
            continue
        # As in reports: time is summed, all else is as in the last iteration that the VM was in scope of.
        last = [pl.col(name).filter(~pl.col("comes_back")).first() for name in ("is_hit", "is_over", "outcome")]
        found[place] = pl.concat(rows).group_by("vm_row").agg(pl.col("lost_ms").sum(), *last)
    return found


def _joined(base: pl.LazyFrame | None, other: pl.LazyFrame | None) -> pl.LazyFrame:
    """One row a VM in scope of either: its values in both, null where it is out of scope."""
    sides = [_SIDE.lazy() if side is None else side for side in (base, other)]
    one, two = (
        side.select("vm_row", pl.col("lost_ms").cast(pl.Int64).alias(f"{word}_ms"),
                    pl.col("is_hit", "is_over", "outcome").name.suffix(f"_{word}"))
        for side, word in zip(sides, ("base", "other"), strict=True)
    )  # fmt: skip
    rows = one.join(two, on="vm_row", how="full", coalesce=True)
    is_paired = pl.col("is_hit_base").fill_null(value=False) & pl.col("is_hit_other").fill_null(value=False)
    difference_ms = pl.when(is_paired).then(pl.col("other_ms") - pl.col("base_ms"))
    size = (pl.col("difference_ms").abs().log(2) * BINS_AN_OCTAVE).floor().cast(pl.Int32) + 1
    return rows.with_columns(is_paired=is_paired, difference_ms=difference_ms).with_columns(
        bin=pl.when(pl.col("difference_ms") == 0)
        .then(0)
        .otherwise(size * pl.col("difference_ms").sign().cast(pl.Int32))
    )


_SIDE = pl.DataFrame(
    schema={
        "vm_row": pl.UInt32,
        "lost_ms": pl.Int64,
        "is_hit": pl.Boolean,
        "is_over": pl.Boolean,
        "outcome": pl.String,
    }
)
_KEYS = ["is_hit_base", "is_hit_other", "is_over_base", "is_over_other", "outcome_base", "outcome_other", "bin"]
_NAMED = ["vm_row", "vm", "region", "base_ms", "other_ms", "difference_ms"]
_EMPTY = pl.DataFrame(
    schema={
        **dict.fromkeys(_KEYS[:4], pl.Boolean),
        **dict.fromkeys(_KEYS[4:6], pl.String),
        "bin": pl.Int32,
        **dict.fromkeys(("vm_count", "low_ms", "high_ms", "sum_ms"), pl.Int64),
    }
)
_SETS = pl.DataFrame(
    schema={
        "set": pl.String,
        "region": pl.String,
        **dict.fromkeys(("vm_count", "base_ms", "other_ms", "difference_ms"), pl.Int64),
    }
)


def _concat(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames, how="vertical_relaxed") if frames else pl.DataFrame()


def _differences(
    files: RunFiles, joined: Sequence[pl.LazyFrame], counted: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The differences in even bins, and (`difference_ms`, `vm_count`), exact in the bins that hold a percentile."""
    binned = (
        counted.drop_nulls("bin")
        .group_by("bin")
        .agg(pl.col("vm_count", "sum_ms").sum(), pl.col("low_ms").min(), pl.col("high_ms").max())
        .sort("bin")
    )
    bins = pl.DataFrame(schema=dict.fromkeys(("bin_start_ms", "bin_ms", "vm_count"), pl.Int64))
    if binned.is_empty():
        return bins, pl.DataFrame(schema=dict.fromkeys(("difference_ms", "vm_count"), pl.Int64))
    at = binned["vm_count"].cum_sum()
    total = int(at[-1])
    places = {int((at >= _position(total, percent)).arg_max() or 0) for percent in PERCENTILES_PAIRED}
    wanted = [binned["bin"][place] for place in places if binned["low_ms"][place] < binned["high_ms"][place]]
    width_ms = bin_width_ms(int(binned["high_ms"][-1]) - int(binned["low_ms"][0]) + 1, DIFFERENCE_BINS)
    exact_ms = pl.when(pl.col("bin").is_in(wanted)).then("difference_ms")
    pieces = [
        rows.drop_nulls("difference_ms")
        .group_by(bin_start_ms=pl.col("difference_ms").floordiv(width_ms) * width_ms, exact_ms=exact_ms)
        .agg(vm_count=pl.len().cast(pl.Int64))
        for rows in joined
    ]
    found = _concat(list(in_turn(files, "differences", pieces)))
    bins = found.group_by("bin_start_ms").agg(pl.col("vm_count").sum()).sort("bin_start_ms")
    one_by_one = found.drop_nulls("exact_ms").group_by(difference_ms="exact_ms").agg(pl.col("vm_count").sum())
    rest = binned.filter(~pl.col("bin").is_in(wanted)).select(difference_ms="low_ms", vm_count="vm_count")
    exact = pl.concat([rest, one_by_one]).sort("difference_ms")
    return bins.select("bin_start_ms", pl.lit(width_ms, pl.Int64).alias("bin_ms"), "vm_count"), exact


def _position(total: int, percent: int) -> int:
    return -(-total * percent // 100)


def _rank(exact: pl.DataFrame, percent: int) -> int | None:
    """The difference at position ceil(*percent* n / 100) of n."""
    if exact.is_empty():
        return None
    at = exact["vm_count"].cum_sum()
    return int(exact["difference_ms"][int((at >= _position(int(at[-1]), percent)).arg_max() or 0)])


def _counts(counted: pl.DataFrame, knows_tolerance: bool) -> dict[str, Any]:
    def count(*conditions: pl.Expr) -> int:
        return int(counted.filter(*conditions)["vm_count"].sum())

    in_base, in_other = (pl.col(f"is_hit_{word}").is_not_null() for word in ("base", "other"))
    hit_base, hit_other, over_base, over_other = (
        pl.col(name).fill_null(value=False) for name in ("is_hit_base", "is_hit_other", "is_over_base", "is_over_other")
    )
    over = {
        "over_both_count": (over_base, over_other),
        "over_only_base_count": (over_base, ~over_other),
        "over_only_other_count": (~over_base, over_other),
    }
    paired_rows = counted.drop_nulls("bin")
    return {
        "vm_count": count(in_base, in_other),
        "only_base_count": count(in_base, ~in_other),
        "only_other_count": count(~in_base, in_other),
        "hit_both_count": count(hit_base, hit_other),
        "hit_only_base_count": count(hit_base, ~hit_other),
        "hit_only_other_count": count(~hit_base, hit_other),
        "longer_count": count(pl.col("bin") > 0),
        "shorter_count": count(pl.col("bin") < 0),
        "equal_count": count(pl.col("bin") == 0),
        "difference_ms_min": paired_rows["low_ms"].min(),
        "difference_ms_max": paired_rows["high_ms"].max(),
        "difference_ms_sum": int(paired_rows["sum_ms"].sum()),
        **{name: count(*conditions) if knows_tolerance else None for name, conditions in over.items()},
    }


def _outcomes(counted: pl.DataFrame) -> pl.DataFrame:
    """VMs in scope of both, by outcome in the base and in the other, most first."""
    return (
        counted.drop_nulls(["outcome_base", "outcome_other"])
        .group_by("outcome_base", outcome="outcome_other")
        .agg(pl.col("vm_count").sum())
        .sort("vm_count", "outcome_base", "outcome", descending=[True, False, False])
    )


def _changed(counted: pl.DataFrame) -> int:
    return int(_outcomes(counted).filter(pl.col("outcome_base") != pl.col("outcome"))["vm_count"].sum())


def _most(rows: pl.DataFrame, by: str, is_largest: bool, ties: Sequence[str]) -> pl.DataFrame:
    """The TOLD *rows* in which *by* rises most, or falls most."""
    sign = pl.col(by) > 0 if is_largest else pl.col(by) < 0
    return rows.filter(sign).sort(by, *ties, descending=[is_largest, *(False for _ in ties)]).head(TOLD)


def _set_ends(rows: pl.DataFrame) -> pl.DataFrame:
    """The sets whose VMs lose most, and gain most, of what parts of the fleet give in *rows*."""
    if not rows.width:
        return _SETS
    whole = (
        rows.group_by("region", pl.col("set").cast(pl.String))
        .agg(pl.col("vm_count", "base_ms", "other_ms").sum())
        .with_columns(difference_ms=pl.col("other_ms") - pl.col("base_ms"))
        .select(_SETS.columns)
    )
    return pl.concat(_most(whole, "difference_ms", turn, ["region", "set"]) for turn in (True, False))
