"""When sets and applications are out, and which service levels that misses: swept out of the events.

So many intervals at a time, whatever the fleet.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl

from fleetsim import schema
from fleetsim.figures.declared import MONTH_MS, SLA_COUNTS, SLA_LINES
from fleetsim.figures.runs import RunFiles, in_turn, intervals, ms_since_start, scanned
from fleetsim.progress import Progress

INTERVALS_AT_ONCE = 2**24
"""Impacts of applications swept at once, about: what bounds the memory of a sweep, whatever the fleet."""


def application_outages(
    run: str | Path | RunFiles, resolved: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> pl.DataFrame | None:
    """How long each application is out and without quorum: one row a campaign and application it hits, worst first.

    Swept exactly out of the events and the fleet's `application`, over all regions; a VM counts from `created` to
    `deleted`. Columns: `campaign`, `application`, `vm_count` (all it has), `vm_hit_count`, `first_start_ms`,
    `last_end_ms` (since scenario start), `application_out_ms` (all living VMs out), `quorum_lost_ms` (null without
    [quorum] by application), `application_down_ratio_max` and `month_out_ms_max` (the most of application_out_ms
    within one of the months of 30 d since scenario start). Where only some VMs are looked at, these are the
    applications that have one of them, whole. None where the fleet has no applications or no events were kept.

    *run* is the folder; with *resolved*, what resolved.toml says or will say, its manifest is not looked at. About
    INTERVALS_AT_ONCE impacts are in memory at a time, besides the rows found.
    """
    files = _files_of(run, resolved, progress)
    if "application" not in files.fleet_schema or not files.has("events"):
        return None
    found = [_APPLICATIONS]
    for campaign in files.campaigns:
        for rows in _applications(files, [campaign["name"]]):
            found.append(rows.select(pl.lit(campaign["name"]).alias("campaign"), *_APPLICATIONS.columns[1:]))
    place = {each["name"]: number for number, each in enumerate(files.campaigns)}
    worst = ["quorum_lost_ms", "application_out_ms", "application_down_ratio_max", "vm_count"]
    return pl.concat(found).sort(
        pl.col("campaign").replace_strict(place, return_dtype=pl.Int64),
        *worst,
        "application",
        descending=[False, *(True for _ in worst), False],
        nulls_last=True,
    )


def application_totals(
    run: str | Path | RunFiles, resolved: Mapping[str, Any] | None = None, progress: Progress | None = None
) -> dict[str, dict[str, int]]:
    """Campaign -> `application_out_ms` and, with [quorum] by application, `quorum_lost_ms`, summed over applications.

    As `application_outages`, of which no row is kept. Empty where that is None.
    """
    files = _files_of(run, resolved, progress)
    if "application" not in files.fleet_schema or not files.has("events"):
        return {}
    names = ["application_out_ms", *(["quorum_lost_ms"] if _min_up(files) is not None else [])]
    totals = {}
    for campaign in files.campaigns:
        sums = dict.fromkeys(names, 0)
        for rows in _applications(files, [campaign["name"]]):
            for name in names:
                sums[name] += int(rows[name].sum())
        totals[campaign["name"]] = sums
    return totals


_APPLICATIONS = pl.DataFrame(
    schema={
        "campaign": pl.String,
        "application": pl.String,
        **dict.fromkeys(("vm_count", "vm_hit_count", "first_start_ms", "last_end_ms"), pl.Int64),
        **dict.fromkeys(("application_out_ms", "quorum_lost_ms"), pl.Int64),
        "application_down_ratio_max": pl.Float64,
        "month_out_ms_max": pl.Int64,
    }
)


def _files_of(run: str | Path | RunFiles, resolved: Mapping[str, Any] | None, progress: Progress | None) -> RunFiles:
    if isinstance(run, RunFiles):
        return run
    return RunFiles.open(run) if resolved is None else RunFiles(Path(run), {}, dict(resolved))


def _min_up(files: RunFiles) -> str | int | float | None:
    """How many VMs of an application [quorum] asks for; None where it asks for none, or of sets."""
    quorum = files.resolved.get("quorum", {})
    return quorum["min_up"] if quorum.get("by") == "application" else None


def quorum_needed(min_up: str | int | float) -> pl.Expr:
    """How many VMs must be up of `living`: a majority, a count, or a share, rounded up."""
    if min_up == "majority":
        return pl.col("living") // 2 + 1
    if isinstance(min_up, float):
        ratio = Fraction(str(min_up))  # as the scenario spells it: 0.55 of 20 are 11, in floats a hair more
        return (pl.col("living").cast(pl.Int64) * ratio.numerator + (ratio.denominator - 1)) // ratio.denominator
    return pl.lit(int(min_up), pl.Int64)


def _applications(files: RunFiles, names: Collection[str]) -> Iterator[pl.DataFrame]:
    """The columns of `application_outages`, but for the campaign, of the campaigns *names* taken together."""
    if files.only:
        # Whoever looks at some VMs of an application asks what becomes of it, not of them.
        own = [files.fleet(path, {"group": "application"}).select("group").unique() for path in files.fleet_paths]
        asked = pl.concat(in_turn(files, "applications", own))["group"].cast(pl.String).drop_nulls().implode()
        for rows in _applications(replace(files, only={}), names):
            yield rows.filter(pl.col("application").is_in(asked))
        return
    min_up = _min_up(files)
    lost = None if min_up is None else _is_lost(min_up)
    for swept in _swept(files, names):
        spans, hits = swept.spans, swept.hits
        out = spans.group_by("group").agg(
            application_out_ms=_SPAN_MS.filter(_IS_ALL_OUT).sum(),
            quorum_lost_ms=pl.lit(None, pl.Int64) if lost is None else _SPAN_MS.filter(lost).sum(),
            application_down_ratio_max=pl.col("down_ratio").max(),
        )
        hit = hits.group_by("group").agg(
            vm_hit_count=pl.col("vm_row").n_unique().cast(pl.Int64),
            first_start_ms=pl.col("start_ms").min(),
            last_end_ms=pl.col("end_ms").max(),
        )
        yield (
            hit.join(swept.vms.group_by("group").agg(pl.col("vm_count").sum()), on="group", how="left")
            .join(out, on="group", how="left")
            .join(_most_in_a_month(spans.filter(_IS_ALL_OUT), "group"), on="group", how="left")
            .join(swept.words, on="group", how="left")
            .with_columns(pl.col("month_out_ms_max").fill_null(0))
            .select(_APPLICATIONS.columns[1:])
        )


def application_shares(
    files: RunFiles, campaign: str, applications: Sequence[str], bounds: Sequence[float]
) -> pl.DataFrame:
    """How long how much of each of *applications* is out at once by *campaign*: one row an application and step.

    `application`, `step` (i64, how many of the ascending *bounds*, shares of its living VMs, are reached) and `out_ms`
    (i64), in which some VM is out; the steps of an application that occur, in order. Applications are whole, though
    only some VMs are looked at. Empty where the run kept no events.
    """
    types = {"application": pl.String, "step": pl.Int64, "out_ms": pl.Int64}
    step = pl.sum_horizontal(*((pl.col("down_ratio") >= bound).cast(pl.Int64) for bound in bounds))
    found = [pl.DataFrame(schema=types)]
    for swept in _swept(replace(files, only={}), [campaign], applications) if files.has("events") else ():
        summed = swept.spans.group_by("group", step=step).agg(out_ms=_SPAN_MS.sum())
        found.append(summed.join(swept.words, on="group").select(*types))
    place = {name: number for number, name in enumerate(applications)}
    return pl.concat(found).sort(pl.col("application").replace_strict(place, return_dtype=pl.Int64), "step")


@dataclass(frozen=True, slots=True)
class _Swept:
    """Whole applications swept: `_out_spans` of them, their impacts, `_lives`, and `application` by `group`."""

    spans: pl.DataFrame
    hits: pl.DataFrame
    vms: pl.DataFrame
    words: pl.DataFrame


def _swept(files: RunFiles, names: Collection[str], applications: Sequence[str] | None = None) -> Iterator[_Swept]:
    """What the campaigns *names* together do to applications, or to those given, so many at a time."""
    events: dict[Path, list[Path]] = defaultdict(list)
    for part in files.parts("events"):
        if part.campaign in names:
            events[part.fleet_path].append(part.path)
    for fleets in _portions(files, events, applications):
        rows_hit = [
            pl.concat(intervals(files, each) for each in events[path]).join(rows.select("vm_row", "group"), on="vm_row")
            for path, rows in fleets.items()
            if path in events
        ]
        if not rows_hit:
            continue
        hits = pl.concat(in_turn(files, "applications", rows_hit))
        if hits.is_empty():
            continue
        hit_groups = hits.lazy().select("group").unique()
        lives = [_lives(files, rows.join(hit_groups, on="group", how="semi")) for rows in fleets.values()]
        vms = pl.concat(in_turn(files, "applications", lives))
        # Both are in memory, so that the codes of words are the same in both; numbers sort three times as fast.
        words, code = vms.select(pl.col("group").unique()), pl.col("group").to_physical()
        hits, vms = hits.with_columns(code), vms.with_columns(code)
        spans = _out_spans(vms.lazy(), hits.lazy())
        yield _Swept(spans, hits, vms, words.select(code, application=pl.col("group").cast(pl.String)))


_SPAN_MS = pl.col("end_ms") - pl.col("start_ms")
_IS_ALL_OUT = pl.col("out") == pl.col("living")


def _is_lost(min_up: str | int | float) -> pl.Expr:
    """Whether too few are up, while enough to be up are living."""
    needed, living = quorum_needed(min_up), pl.col("living")
    return (living >= needed) & (living - pl.col("out") < needed)


def _portions(
    files: RunFiles, events: Mapping[Path, list[Path]], applications: Sequence[str] | None
) -> Iterator[dict[Path, pl.LazyFrame]]:
    """The VMs with an application, or one of those given, in portions of whole ones: part -> `vm_row`, `group`, lives.

    One portion where they fit in memory; else those of applications that are in one region, region by region, and
    the rest over all regions, each cut by a hash of the application where even that is too much.
    """
    lives = {name: name for name in ("created", "deleted") if name in files.fleet_schema}
    fleets = {
        path: files.fleet(path, {"group": "application", **lives}).filter(
            pl.col("group").is_not_null()
            if applications is None
            else pl.col("group").cast(pl.String).is_in(list(applications))
        )
        for path in files.fleet_paths
    }
    counts: dict[Path, int] = defaultdict(int)
    for path in fleets:
        # Lifetimes are rows too.
        counted = [*events.get(path, []), *([path] if lives else [])]
        counts[path] = max(
            (each.item() for each in pl.collect_all([scanned(each).select(pl.len()) for each in counted])), default=0
        )
    if sum(counts.values()) <= INTERVALS_AT_ONCE:
        yield fleets
        return
    regions: dict[str, list[Path]] = defaultdict(list)
    for path in fleets:
        regions[path.parent.name].append(path)
    seen = []
    for paths in regions.values():
        seen.append(
            pl.concat(
                in_turn(files, "applications", [fleets[path].select("group").unique() for path in paths])
            ).unique()
        )
    in_regions = pl.concat(seen).group_by("group").agg(region_count=pl.len())
    wide = in_regions.filter(pl.col("region_count") > 1).select("group").lazy()
    for paths in regions.values():
        narrow = {path: fleets[path].join(wide, on="group", how="anti") for path in paths}
        yield from _cut(narrow, sum(counts[path] for path in paths))
    if len(wide.collect()):
        everywhere = {path: rows.join(wide, on="group", how="semi") for path, rows in fleets.items()}
        sizes = pl.collect_all([rows.select(pl.len()) for rows in everywhere.values()])
        yield from _cut(everywhere, sum(size.item() for size in sizes))


def _cut(fleets: dict[Path, pl.LazyFrame], interval_count: int) -> Iterator[dict[Path, pl.LazyFrame]]:
    """*fleets* by a hash of their applications, so that about INTERVALS_AT_ONCE of *interval_count* are in each."""
    portion_count = -(-interval_count // INTERVALS_AT_ONCE)
    for portion in range(portion_count):
        is_here = pl.col("group").cast(pl.String).hash() % portion_count == portion
        yield {path: rows.filter(is_here) for path, rows in fleets.items()}


def _lives(files: RunFiles, rows: pl.LazyFrame) -> pl.LazyFrame:
    """`vm_count` of *rows* by `group`, `created_ms` and `deleted_ms` since scenario start (null: always, never)."""
    lives = {
        f"{name}_ms": ms_since_start(files, name) if name in files.fleet_schema else pl.lit(None, pl.Int64)
        for name in ("created", "deleted")
    }
    return rows.select("group", **lives).group_by("group", *lives).agg(vm_count=pl.len().cast(pl.Int64))


def _out_spans(vms: pl.LazyFrame, hits: pl.LazyFrame) -> pl.DataFrame:
    """The spans in which VMs of a group are out: `group`, `start_ms`, `end_ms`, `out`, `living`, `down_ratio`.

    *vms* as `_lives` has them; *hits*: `group`, `start_ms`, `end_ms`, one row an impact.
    A sweep: the changes of both counts, summed in order of time; between two at one instant nothing lasts. Each group
    begins and ends with nobody, so one running sum serves them all.
    """
    none, one = pl.lit(0, pl.Int64), pl.lit(1, pl.Int64)
    living = pl.col("vm_count")
    always = vms.group_by("group").agg(
        living=living.filter(pl.col("created_ms").is_null()).sum(),
        ever=living.filter(pl.col("deleted_ms").is_null()).sum(),
    )
    changes = [
        hits.select("group", at_ms="start_ms", out=one, living=none),
        hits.select("group", at_ms="end_ms", out=-one, living=none),
        vms.drop_nulls("created_ms").select("group", at_ms="created_ms", out=none, living=living),
        vms.drop_nulls("deleted_ms").select("group", at_ms="deleted_ms", out=none, living=-living),
        always.select("group", at_ms=pl.lit(-schema.NEVER_MS, pl.Int64), out=none, living="living"),
        always.select("group", at_ms=pl.lit(schema.NEVER_MS, pl.Int64), out=none, living=-pl.col("ever")),
    ]
    return (
        pl.concat(changes)
        .sort("group", "at_ms")
        .select(
            "group",
            pl.col("out", "living").cum_sum(),
            start_ms="at_ms",
            end_ms=pl.col("at_ms").shift(-1),
        )
        .filter((pl.col("out") > 0) & (pl.col("start_ms") < pl.col("end_ms")))
        # Where Polars knows `living` to be the same all over, it would multiply by 1 / living: 3 of 5 is not 3 x 0.2.
        .with_columns(down_ratio=pl.map_batches(["out", "living"], _ratio, return_dtype=pl.Float64))
        .collect()
    )


def _ratio(both: Sequence[pl.Series]) -> pl.Series:
    """The first of *both* over the second, to the last bit."""
    part, whole = both
    return pl.Series(part.to_numpy() / whole.to_numpy())


def _most_in_a_month(spans: pl.DataFrame, key: str) -> pl.DataFrame:
    """`month_out_ms_max` by *key*: the most of the *spans* (`start_ms`, `end_ms`) within one month, cut exactly."""
    month = pl.col("month")
    return (
        spans.lazy()
        .with_columns(month=pl.int_ranges(pl.col("start_ms") // MONTH_MS, (pl.col("end_ms") - 1) // MONTH_MS + 1))
        .explode("month")
        .group_by(key, "month")
        .agg(
            out_ms=(
                pl.min_horizontal("end_ms", (month + 1) * MONTH_MS) - pl.max_horizontal("start_ms", month * MONTH_MS)
            ).sum()
        )
        .group_by(key)
        .agg(month_out_ms_max=pl.col("out_ms").max())
        .collect()
    )


def service_levels(files: RunFiles, campaign_rows: pl.DataFrame, applications: pl.DataFrame | None) -> pl.DataFrame:
    """How many miss each of SLA_COUNTS: one row a campaign and `of` (`vm`, `set`, `application`).

    Of several campaigns, `*` is all of them together. *campaign_rows* are those of `campaigns`, with pauses;
    *applications* is what `application_outages` found. Sets are whole, so they are left out where only some VMs are
    looked at; all are where the run kept no events.
    """
    names = [each["name"] for each in files.campaigns]
    views = {name: [name] for name in names} | ({"*": names} if len(names) > 1 else {})
    found = []
    for view, own in views.items():
        rows = campaign_rows.filter(pl.col("campaign").is_in(own))
        # Nobody is out for longer than the longest pauses of each campaign: mostly that alone is the answer.
        is_paused = all(_only_pauses(each) for each in files.campaigns if each["name"] in own)
        longest_ms = int(rows["paused_ms_max"].sum()) if is_paused else None
        months: dict[str, list[pl.Series]] = {}
        if files.has("events"):
            months["vm"] = [] if _is_short(longest_ms) else _months_of(files, own, "vm_row")
            if "set" in files.fleet_schema and not files.only:
                # Within its region no two stages are at work at once, so that campaigns add up.
                months["set"] = [] if _is_short(int(rows["set_out_ms"].sum())) else _months_of(files, own, "set")
        if applications is not None:
            if len(own) == 1:
                months["application"] = [applications.filter(campaign=own[0])["month_out_ms_max"]]
            elif _is_short(longest_ms) and not {"created", "deleted"} & set(files.fleet_schema):
                months["application"] = []
            else:
                months["application"] = [each["month_out_ms_max"] for each in _applications(files, own)]
        for of, each in months.items():
            missed = {name: sum(int((ms > allowed_ms).sum()) for ms in each) for name, allowed_ms in SLA_COUNTS.items()}
            found.append({"campaign": view, "of": of, **missed})
    return pl.DataFrame(found, schema={"campaign": pl.String, "of": pl.String, **dict.fromkeys(SLA_COUNTS, pl.Int64)})


_PAUSING = ("no_impact", "freeze", "live_migration")


def _only_pauses(campaign: Mapping[str, Any]) -> bool:
    """Whether *campaign* has no VM down, not even those that it cannot freeze."""
    has_reboots = campaign.get("cannot_freeze") == "reboot" and bool(campaign["cannot_freeze_sizes"])
    return campaign["kind"] in _PAUSING and not has_reboots


def _is_short(value_ms: int | None) -> bool:
    """Whether *value_ms* out in all is within every service level."""
    return value_ms is not None and value_ms <= min(SLA_LINES.values())


def _months_of(files: RunFiles, names: Collection[str], key: str) -> list[pl.Series]:
    """The most each VM (*key* `vm_row`), or set, is out within a month by the campaigns *names*; one series a part.

    Neither is in two parts of the fleet.
    """
    events: dict[Path, list[pl.LazyFrame]] = defaultdict(list)
    for part in files.parts("events"):
        if part.campaign in names:
            events[part.fleet_path].append(intervals(files, part.path))
    found = []
    lives = {name: name for name in ("created", "deleted") if name in files.fleet_schema}
    for fleet_path, pieces in events.items():
        hits = pl.concat(pieces)
        if key == "vm_row":
            if files.only:
                hits = hits.join(files.fleet(fleet_path, {}), on="vm_row", how="semi")
            spans = hits.collect()
        else:
            vms = files.fleet(fleet_path, {"group": key, **lives}).filter(pl.col("group").is_not_null())
            spans = _out_spans(_lives(files, vms), hits.join(vms.select("vm_row", "group"), on="vm_row"))
            spans = spans.filter(_IS_ALL_OUT)
        found.append(_most_in_a_month(spans, "group" if key != "vm_row" else key)["month_out_ms_max"])
    return found
