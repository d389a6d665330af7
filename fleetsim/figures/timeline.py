"""Figures of stages and campaigns, from the aggregates of the engine, which `fleetsim verify` recomputes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import polars.selectors as cs

from fleetsim import schema
from fleetsim.figures.cliques import clique_of, may_exclude
from fleetsim.figures.declared import HOUR_MS, LEFT_COUNTS, OUTCOME_COUNTS, STAGE, duration
from fleetsim.figures.runs import RunFiles, in_turn, ms_since_start, scanned, stage_columns, whole_impacts
from fleetsim.schema import FIRST_ITERATION, Effect, Kind

_SINGLE_VALUES = [
    name
    for name in schema.SUMMARY_FIGURES
    if name not in ("hourly_start_count", "hourly_unavailable_ms", "paused_ms_histogram", "down_ms_histogram")
]


_MOVED = ("temp_disk_lost_gib", "addresses_changed_count")


def stages(files: RunFiles) -> pl.DataFrame:
    """One row a stage: the single values of `summary` as columns, `bottleneck`, and the stage's figures."""
    singles = (
        files.scan("summary")
        .filter(pl.col("bin_start_ms").is_null())
        .group_by(STAGE)
        .agg(
            pl.col("value")
            .filter(pl.col("figure") == name)
            .first()
            .cast(pl.Float64 if name.endswith("_ratio_max") else pl.Int64)
            .alias(name)
            for name in _SINGLE_VALUES
        )
    )
    counts = pl.col(OUTCOME_COUNTS).cast(pl.Int64)
    scope = files.scan("stages").select(*STAGE, "wave", "bottleneck", counts)
    is_last = pl.col("iteration") == pl.col("iteration").max().over("campaign", "region")
    # Before runs counted them by stage, they were known by region alone.
    no_guarantee = files.scan("no_guarantee").group_by("region").agg(in_region_count=pl.len().cast(pl.Int64))
    told = (
        scope.join(singles, on=STAGE, how="left")
        .join(no_guarantee, on="region", how="left")
        .with_columns(
            pl.coalesce("no_guarantee_count", "in_region_count", pl.lit(0, pl.Int64)).alias("no_guarantee_count"),
            pl.coalesce("free_ms", "end_ms").alias("free_ms"),
            vm_count=pl.sum_horizontal(OUTCOME_COUNTS),
            remaining_count=pl.when(is_last).then(pl.sum_horizontal(LEFT_COUNTS)).otherwise(0),
            length_ms=pl.col("end_ms") - pl.col("first_start_ms"),
            last_end_ms=pl.col("end_ms"),
        )
        .drop("in_region_count", "application_out_ms")
        .sort("start_ms", *STAGE, nulls_last=True)
        .collect()
    )
    told = told.join(_moved(files), on=STAGE, how="left", maintain_order="left")
    # Of all VMs their outcomes, which every run counts, tell who was moved.
    is_asking = pl.lit(not files.only) & pl.col("campaign").is_in(list(_asking(files)))
    told = told.with_columns(
        moved_count=pl.coalesce("moved_count", pl.when(is_asking).then("updated_self_service_count")),
        scope_count=pl.coalesce("scope_count", pl.when(is_asking).then("vm_count")),
    ).with_columns(self_service_ratio=_share("moved_count", "scope_count"))
    events = files.parts("events") if may_exclude(files.fleet_schema) else []
    cliques = [clique_of(files, stage, events) for stage in told.select(STAGE).iter_rows(named=True)]
    clique_ms = pl.Series("clique_bound_ms", [clique and clique.bound_ms for clique in cliques], pl.Int64)
    return told.with_columns(
        clique_ms, bound_ms=pl.max_horizontal("longest_ms", "cap_bound_ms", clique_ms)
    ).with_columns(length_bound_ratio=_over_bound(files))


def _over_bound(files: RunFiles) -> pl.Expr:
    """`length_ms` over `bound_ms`; null where only events would tell which hosts exclude one another."""
    is_known = not _lacks_cliques(files)
    return pl.when(pl.lit(is_known)).then(pl.col("length_ms") / pl.col("bound_ms"))


def _lacks_cliques(files: RunFiles) -> bool:
    """Whether hosts may exclude one another, and events would tell which, but are not there."""
    return may_exclude(files.fleet_schema) and not files.has("events")


@dataclass(frozen=True, slots=True)
class Bound:
    """The best lower bound of a campaign's length: of a region, of a pair in turn, or of waves.

    Of a region it is the longest set or, if that is longer, the work over a cap, or hosts of which no two may be at
    work at once: such regions are `capped` or `exclusive`.
    """

    bound_ms: int
    regions: tuple[str, ...]
    pair_lag_ms: int = 0
    waves: tuple[tuple[int, "Bound"], ...] = ()
    """Where waves bind: each that hits somebody, by number, and its own bound."""
    bake_ms: int = 0
    capped: tuple[str, ...] = ()
    exclusive: tuple[str, ...] = ()
    is_as_it_went: bool = False
    """Where VMs are deleted: in another order others would have been left."""
    has_windows: bool = False
    """Of a campaign with windows, which are not in the bound: work starts at random within them, and waits for them."""
    lacks_cliques: bool = False
    """Of a run over hosts without events, which tell what hosts exclude one another: the best bound may be larger."""

    def sentence(self) -> str:
        """The bound in words."""
        if self.waves:
            each = (
                f"wave {number}, {duration(wave.bound_ms)} in {' and '.join(wave.regions)}"
                for number, wave in self.waves
            )
            baked = f", {duration(self.bake_ms)} of bake before the next" if self.bake_ms else ""
            what = f"{'; then '.join(each)}{baked}"
        else:
            later = f", {duration(self.pair_lag_ms)} later," if self.pair_lag_ms else ""
            then = "".join(f", then{later} in its pair {region}" for region in self.regions[1:])
            kinds = {
                "the longest set or single": set(self.regions) - {*self.capped, *self.exclusive},
                "the work under the caps": self.capped,
                "hosts that sets keep from one another": self.exclusive,
            }
            listed = [kind for kind, regions in kinds.items() if regions]
            comma = "," if len(listed) > 1 else ""
            what = f"{', or '.join(listed)}{comma} in {self.regions[0]}{then}"
        claim = "as VMs were deleted, it took at least" if self.is_as_it_went else "no order takes less than"
        left_out = ", windows left out" if self.has_windows else ""
        left_out += ", hosts that exclude one another left out, as only events tell them" if self.lacks_cliques else ""
        return f"{claim} {duration(self.bound_ms)}{left_out}: {what}"


def bound(files: RunFiles, stage_rows: pl.DataFrame, campaign: dict[str, Any]) -> Bound | None:
    """The largest lower bound of the length of *campaign*, the one that binds; None where nothing is hit.

    Two regions that exclude each other never work at once, so one's longest set, `pair_lag` and the other's follow
    each other; so do waves, with `bake` after each.
    """
    rows = stage_rows.filter(pl.col("campaign") == campaign["name"]).drop_nulls("bound_ms")
    bounds_ms: dict[int, dict[str, int]] = defaultdict(dict)
    for wave, region, value_ms in sorted(rows.select("wave", "region", "bound_ms").iter_rows()):
        of_wave = bounds_ms[wave]
        of_wave[region] = max(of_wave.get(region, 0), value_ms)
    waves = [(wave, _bound_of(files, campaign, of_wave)) for wave, of_wave in sorted(bounds_ms.items())]
    everywhere = {region: value_ms for of_wave in bounds_ms.values() for region, value_ms in of_wave.items()}
    bounds = [_bound_of(files, campaign, everywhere)] if everywhere else []
    if len(waves) > 1:
        bake_ms = int(campaign.get("bake_ms", 0))
        total_ms = sum(best.bound_ms for _, best in waves) + bake_ms * (waves[-1][0] - waves[0][0])
        bounds.append(Bound(total_ms, (), waves=tuple(waves), bake_ms=bake_ms))
    best = max(bounds, key=lambda bound: bound.bound_ms, default=None)
    if best is None:
        return None
    longest_ms = pl.col("longest_ms")
    is_capped = (pl.col("cap_bound_ms") > longest_ms) & (pl.col("cap_bound_ms") == pl.col("bound_ms"))
    is_exclusive = ~is_capped.fill_null(value=False) & (pl.col("bound_ms") > longest_ms)
    capped, exclusive = (set(rows.filter(binds)["region"]) for binds in (is_capped, is_exclusive))
    return replace(
        best,
        capped=tuple(region for region in best.regions if region in capped),
        exclusive=tuple(region for region in best.regions if region in exclusive),
        is_as_it_went="deleted" in files.fleet_schema,
        has_windows="scheduled" in campaign,
        lacks_cliques=_lacks_cliques(files),
    )


def _bound_of(files: RunFiles, campaign: dict[str, Any], bounds_ms: dict[str, int]) -> Bound:
    """The bound of stages that may all be at work at once, but for pairs: of each region by *bounds_ms*."""
    bounds = [Bound(value_ms, (region,)) for region, value_ms in bounds_ms.items()]
    if campaign["name"] in files.excluding:
        for edge in sorted(sorted(edge) for edge in files.edges if edge <= bounds_ms.keys()):
            lag_ms = int(campaign["pair_lag_ms"])
            bounds.append(Bound(sum(bounds_ms[region] for region in edge) + lag_ms, tuple(edge), lag_ms))
    return max(bounds, key=lambda bound: bound.bound_ms)


def campaigns(files: RunFiles, stage_rows: pl.DataFrame) -> pl.DataFrame:
    """One row a campaign, in file order, with its figures; no VMs and no length where nothing is in scope.

    A figure that the run does not have, as it was not asked for or is of a later version, is null.
    """
    rows_of = stage_rows.partition_by("campaign", as_dict=True)
    nobody = stage_rows.head(0)
    bounds = {each["name"]: bound(files, rows_of.get((each["name"],), nobody), each) for each in files.campaigns}
    names = pl.DataFrame(
        {
            "campaign": list(bounds),
            "bound_ms": [best.bound_ms if best else None for best in bounds.values()],
        },
        schema={"campaign": pl.String, "bound_ms": pl.Int64},
    )
    counts = ["vm_count", *OUTCOME_COUNTS, "remaining_count", "vm_hit_count", "unavailable_ms", "set_out_ms"]
    # Whoever comes back is in scope of several stages, and counted once: how it ends the last of them.
    is_first = pl.col("iteration") == FIRST_ITERATION
    is_last = pl.col("iteration") == pl.col("iteration").max().over("campaign", "region")
    weak = stage_rows.group_by("campaign", "region").agg(pl.col("no_guarantee_count").max())
    weak = weak.group_by("campaign").agg(pl.col("no_guarantee_count").sum())
    # Of those hit, only who has failed comes back.
    hit_and_back = pl.when(is_last).then(0).otherwise("failed_count")
    rows = stage_rows.drop("no_guarantee_count").with_columns(
        pl.col("vm_hit_count") - hit_and_back,
        pl.when(is_first).then(pl.col("vm_count", "scope_count")),
        pl.when(is_last).then(pl.col(LEFT_COUNTS)),
    )
    of_stages = rows.group_by("campaign").agg(
        (pl.col("end_ms").max() - pl.col("first_start_ms").min()).alias("length_ms"),
        pl.col("first_start_ms").min(),
        pl.col("last_end_ms", "set_down_ratio_max").max(),
        pl.col(counts).sum(),
        *(_sum_of_known(name) for name in ("pending_vm_ms", "quorum_lost_ms", *_MOVED)),
        _sum_of_known("moved_count"),
        _sum_of_known("scope_count"),
    )
    of_stages = of_stages.with_columns(self_service_ratio=_share("moved_count", "scope_count"))
    of_stages = of_stages.drop("moved_count", "scope_count").join(weak, on="campaign")
    # What no stage has alone: applications span regions.
    whole = ("application_out_ms", "quorum_lost_ms")
    of_whole = (
        files.scan("summary")
        .filter(pl.col("region") == "*", pl.col("figure").is_in(whole))
        .group_by("campaign")
        .agg(_sum_of_known("value", pl.col("figure") == name).cast(pl.Int64).alias(f"whole_{name}") for name in whole)
        .collect()
    )
    return (
        names.join(of_stages, on="campaign", how="left", maintain_order="left")
        .join(of_whole, on="campaign", how="left", maintain_order="left")
        .with_columns(
            pl.col(*counts, "no_guarantee_count").fill_null(0),
            length_bound_ratio=_over_bound(files),
            application_out_ms=pl.col("whole_application_out_ms"),
            quorum_lost_ms=pl.coalesce("whole_quorum_lost_ms", "quorum_lost_ms"),
        )
        .drop("bound_ms", *(f"whole_{name}" for name in whole))
    )


def _moved(files: RunFiles) -> pl.DataFrame:
    """What moves, by customers and the platform, came to in each stage that has any; empty without outcomes.

    STAGE, `moved_count` and `scope_count` VMs, `temp_disk_lost_gib` (null where the fleet does not tell),
    `addresses_changed_count`.
    """
    asking = _asking(files)
    able = asking | {each["name"] for each in files.campaigns if each["kind"] == Kind.REDEPLOY.name.lower()}
    has_disks = "temp_disk_gib" in files.fleet_schema
    types = {"moved_count": pl.Int64, "scope_count": pl.Int64, "temp_disk_lost_gib": pl.Float64}
    types |= {"addresses_changed_count": pl.Int64}
    found = [pl.DataFrame(schema={"campaign": pl.String, "iteration": pl.UInt8, "region": pl.String, **types})]
    pieces = []
    for part in files.parts("outcomes") if able and files.has("outcomes") else ():
        if part.campaign not in able:
            continue
        rows = scanned(part.path).select("vm_row", "outcome", "effects")
        if has_disks or files.only:
            disks = {"disk_gib": "temp_disk_gib"} if has_disks else {}
            rows = rows.join(files.fleet(part.fleet_path, disks), on="vm_row")
        has_lost = (pl.col("effects") & int(Effect.TEMP_DISK_LOST)) != 0
        disk_gib = pl.col("disk_gib").filter(has_lost).sum() if has_disks else pl.lit(None, pl.Float64)
        sums = (
            (pl.col("outcome").cast(pl.String) == "updated_self_service").sum(),
            pl.len() if part.campaign in asking else pl.lit(0),
            disk_gib,
            ((pl.col("effects") & int(Effect.ADDRESS_CHANGED)) != 0).sum(),
        )
        named = [each.cast(dtype).alias(name) for each, (name, dtype) in zip(sums, types.items(), strict=True)]
        pieces.append(rows.select(named).with_columns(*stage_columns(part)).select(found[0].columns))
    found += in_turn(files, "moves", pieces)
    counts = pl.col("moved_count", "scope_count", "addresses_changed_count").sum()
    summed = pl.concat(found).group_by(STAGE).agg(counts, _sum_of_known("temp_disk_lost_gib"))
    return summed.with_columns(self_service_ratio=_share("moved_count", "scope_count"))


def _asking(files: RunFiles) -> set[str]:
    """Campaigns whose customers may act."""
    return {
        each["name"]
        for each in files.campaigns
        if (asked := each.get("self_service", {})).get("uptake_ratio") or "requests" in asked
    }


def _share(part: str, whole: str) -> pl.Expr:
    """*part* of *whole*; null where there is nothing."""
    return pl.when(pl.col(whole) > 0).then(pl.col(part) / pl.col(whole))


def _sum_of_known(name: str, where: pl.Expr | None = None) -> pl.Expr:
    """The sum of a column, where *where*; null, not 0, where it has no value."""
    values = pl.col(name) if where is None else pl.col(name).filter(where)
    return pl.when(values.count() > 0).then(values.sum()).alias(name)


def hours(files: RunFiles, keys: Sequence[str] = ("campaign",)) -> pl.DataFrame:
    """One row a group of *keys*, of STAGE, and hour since scenario start in which impacts start: quiet hours have none.

    Of the VMs looked at, if they are not all: none where the run kept no events.
    """
    names = ("hourly_start_count", "hourly_unavailable_ms")
    if files.only:
        found = times(files, {}, [*keys, "hour"])
        return found.select(*keys, "hour", hourly_start_count="start_count", hourly_unavailable_ms="unavailable_ms")
    return (
        files.scan("summary")
        .filter(pl.col("figure").is_in(names))
        .group_by(*keys, hour=pl.col("bin_start_ms") // HOUR_MS)
        .agg(pl.col("value").filter(pl.col("figure") == name).sum().cast(pl.Int64).alias(name) for name in names)
        .filter(pl.any_horizontal(pl.col(names) > 0))
        .sort(*keys, "hour")
        .collect()
    )


WINDOWS = ("notice", "self_service_start", "self_service_end", "scheduled_start", "scheduled_end")


def windows(files: RunFiles) -> pl.DataFrame:
    """One row a stage: STAGE and the instants of WINDOWS in ms since scenario start, null where there are none."""
    instants = (ms_since_start(files, f"{name}_at").alias(f"{name}_ms") for name in WINDOWS)
    return files.scan("stages").select(*STAGE, *instants).collect()


def times(files: RunFiles, columns: Mapping[str, str], keys: Sequence[str]) -> pl.DataFrame:
    """When the VMs looked at are hit, one row a group of *keys*, sorted by them; empty where the run kept no events.

    *keys* are `hour`, columns of STAGE, and *columns* (name here -> name in the fleet). Also `first_start_ms`,
    `last_end_ms`, `start_count`, `unavailable_ms` and `pending_vm_ms`, i64, the instants since scenario start.
    """
    start_ms = {each["name"]: int(each["start_ms"]) for each in files.campaigns if "start_ms" in each}
    sums = {
        "first_start_ms": pl.col("first_start_ms").min(),
        "last_end_ms": pl.col("last_end_ms").max(),
        **{name: pl.col(name).sum() for name in ("start_count", "unavailable_ms", "pending_vm_ms")},
    }
    fleet_types = {name: files.fleet_schema[column] for name, column in columns.items()}
    types = {"campaign": pl.String(), "iteration": pl.UInt8(), "region": pl.String()} | fleet_types
    order = [*keys, *sums]
    total = pl.DataFrame(schema={name: types.get(name, pl.Int64()) for name in order})
    born = {"created": "created"} if "created" in files.fleet_schema else {}
    pieces = []
    for part in files.parts("events") if files.has("events") else ():
        rows = whole_impacts(files, part)
        if columns or files.only or born:
            rows = rows.join(files.fleet(part.fleet_path, {**columns, **born}), on="vm_row")
        asked_ms = pl.lit(start_ms.get(part.campaign, 0), pl.Int64)
        since_ms = pl.max_horizontal(asked_ms, ms_since_start(files, "created")) if born else asked_ms
        rows = rows.with_columns(
            *stage_columns(part),
            hour=pl.col("start_ms") // HOUR_MS,
            first_start_ms="start_ms",
            last_end_ms="end_ms",
            start_count=pl.lit(1, pl.Int64),
            unavailable_ms=pl.col("end_ms") - pl.col("start_ms"),
            pending_vm_ms=pl.when("has_failed").then(0).otherwise(pl.col("end_ms") - since_ms),
        )
        pieces.append(rows.group_by(keys).agg(**sums).select(order))
    for counted in in_turn(files, "times", pieces):
        total = pl.concat([total, counted]).group_by(keys).agg(**sums).select(order)
    return total.with_columns(cs.categorical().cast(pl.String)).sort(keys)
