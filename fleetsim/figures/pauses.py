"""How long VMs are paused, or down, and when: percentiles and groups by any fleet column, exact.

They come from the outcomes, else the events, a few parts at a time: memory follows the part, not the fleet.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import polars as pl
import polars.selectors as cs

from fleetsim import schema
from fleetsim.errors import InputError
from fleetsim.figures.declared import HOUR_MS, LEFT_COUNTS, PERCENTILES, STAGE
from fleetsim.figures.runs import Part, RunFiles, in_turn, scanned, stage_columns
from fleetsim.figures.timeline import stages
from fleetsim.schema import COME_BACK, FIRST_ITERATION, Kind

BINS_AN_OCTAVE = 64
"""Bins in which pauses are counted first: a percentile's bin, about 1 % wide, holds few VMs or few values."""

_DOWN = (Kind.REBOOT.name.lower(), Kind.REDEPLOY.name.lower())
"""Kinds under which VMs are down, not paused. A freeze may reboot some: those, VM by VM."""
_COME_BACK = [outcome.name.lower() for outcome in COME_BACK]

Tallies = Mapping[str, pl.Expr]
"""What is counted of VMs besides them and their pauses: a name that ends in `_count` -> whether a VM counts."""


def tallies(files: RunFiles, pause_bounds_ms: Iterable[int] = (), *, outcomes: bool = False) -> dict[str, pl.Expr]:
    """VMs paused longer than they stand, than each of *pause_bounds_ms*, and by outcome where *outcomes* are asked for.

    What the run cannot tell is left out.
    """
    of_vm: dict[str, pl.Expr] = {}
    table = table_of(files)
    if files.tolerance is not None and table is not None:
        of_vm["over_tolerance_count"] = ~pl.col("is_down") & (pl.col("paused_ms") > pl.col("tolerance_ms"))
    for bound_ms in pause_bounds_ms:
        of_vm[f"paused_over_{bound_ms}_count"] = pl.col("paused_ms") > bound_ms
    if outcomes and table == "outcomes":
        words = pl.col("outcome").cast(pl.String)
        of_vm |= {f"{word}_count": words == word for word in schema.words(schema.Outcome)}
        of_vm["remaining_count"] = words.is_in(_COME_BACK) & ~pl.col("comes_back")
    return of_vm


def table_of(files: RunFiles) -> str | None:
    """The table that VMs are counted from; None where the run kept neither."""
    return next((table for table in ("outcomes", "events") if files.has(table)), None)


def impacts(
    files: RunFiles, columns: Mapping[str, str], grains: Sequence[Sequence[str]], of_vm: Tallies | None = None
) -> pl.DataFrame:
    """VMs in scope counted by what *grains* name and by time lost, so that `impact_by` of a grain is exact.

    A grain names columns of STAGE and of *columns* (name here -> name in the fleet). Also `is_down` (else paused),
    `comes_back` (in a later iteration), `lost_ms` (null: no event), `lost_ms_max`, `vm_count`, `unavailable_ms` and the
    counts of *of_vm*; from the outcomes, else the events.

    Counting each time that occurs would take memory by the VM. So pauses are counted in narrow bins first,
    then, one by one, those in the bins that hold a percentile of a grain. Raise `InputError` where the run
    kept neither table and *columns*, or the VMs looked at, need one.
    """
    table, of_vm = table_of(files), of_vm or {}
    if table is None:
        needed = next(iter([*columns.values(), *files.only]), None)
        if needed is not None:
            raise InputError(
                f"{files.path}: groups by '{needed}' need the outcomes or the events,"
                " got [outputs] with both false; without them only 'region' can be grouped by"
            )
        return _histogram(files).with_columns(
            (pl.when(each.fill_null(False)).then("vm_count").otherwise(0)).alias(name) for name, each in of_vm.items()
        )
    grains = [[*grain, "is_down", "comes_back"] for grain in grains]
    keys = list(dict.fromkeys(key for grain in grains for key in grain))
    binned = _counted(files, table, columns, [*keys, "bin"], of_vm)
    wide = [
        binned.join(_percentile_bins(binned, grain), on=[*grain, "bin"], how="semi", nulls_equal=True)
        for grain in grains
    ]
    split = pl.concat(wide).select(*keys, "bin").unique()
    if not split.is_empty():
        rest = binned.join(split, on=[*keys, "bin"], how="anti", nulls_equal=True)
        one_by_one = _counted(files, table, columns, [*keys, "bin", "lost_ms"], of_vm, split)
        binned = pl.concat([rest, one_by_one])
    return binned.drop("bin").with_columns(cs.categorical().cast(pl.String))


def _percentile_bins(binned: pl.DataFrame, grain: Sequence[str]) -> pl.DataFrame:
    """Groups of *grain* and their bins that hold a percentile and more than one value."""
    merged = (
        binned.lazy()
        .filter(pl.col("bin").is_not_null())
        .group_by(*grain, "bin")
        .agg(pl.col("vm_count").sum(), pl.col("lost_ms").min(), pl.col("lost_ms_max").max())
        .sort("bin")
    )
    columns = ("bin", "lost_ms", "lost_ms_max")
    return (
        merged.group_by(grain)
        .agg(
            pl.concat_list(_nearest_rank(pl.col(name), pl.col("vm_count"), percent) for percent in PERCENTILES).alias(
                name
            )
            for name in columns
        )
        .explode(columns)
        .filter(pl.col("lost_ms") < pl.col("lost_ms_max"))
        .select(*grain, "bin")
        .collect()
    )


def _nearest_rank(value: pl.Expr, count: pl.Expr, percent: int) -> pl.Expr:
    """The value at position ceil(*percent* n / 100); each ascending *value* stands *count* times."""
    position = (count.sum() * percent + 99) // 100
    return value.filter(count.cum_sum() >= position).first()


def _counted(
    files: RunFiles,
    table: str,
    columns: Mapping[str, str],
    keys: list[str],
    of_vm: Tallies,
    only: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """VMs in scope counted by *keys*, with the pauses' bounds; those that join *only*, where it is given."""
    sums = {
        "lost_ms": pl.col("lost_ms").min(),
        "lost_ms_max": pl.col("lost_ms_max").max(),
        **{name: pl.col(name).sum() for name in ("vm_count", "unavailable_ms", *of_vm)},
    }
    sums = {name: total for name, total in sums.items() if name not in keys}
    fleet_types = {name: files.fleet_schema[column] for name, column in columns.items()}
    types = {
        "campaign": pl.String(),
        "iteration": pl.UInt8(),
        "region": pl.String(),
        "bin": pl.Int32(),
        "is_down": pl.Boolean(),
        "comes_back": pl.Boolean(),
    } | fleet_types
    order = [
        *(key for key in keys if key != "lost_ms"),
        "lost_ms",
        *(name for name in sums if name != "lost_ms"),
    ]
    total = pl.DataFrame(schema={name: types.get(name, pl.Int64()) for name in order})
    pieces = []
    for part in files.parts(table):
        rows = impacts_of_part(files, part, table, columns).with_columns(
            each.fill_null(False).cast(pl.Int64).alias(name) for name, each in of_vm.items()
        )
        if only is not None:
            rows = rows.join(only.lazy(), on=only.columns, how="semi", nulls_equal=True)
        pieces.append(rows.group_by(keys).agg(**sums).select(order))
    for counted in in_turn(files, "pauses", pieces):
        total = pl.concat([total, counted]).group_by(keys).agg(**sums).select(order)
    return total


def impacts_of_part(files: RunFiles, part: Part, table: str, columns: Mapping[str, str]) -> pl.LazyFrame:
    """One row a VM in scope of *part*: what `_counted` counts by, and the sums of the VM alone."""
    rows = scanned(part.path)
    of_tolerance, tolerance_ms = files.tolerance or ({}, pl.lit(None, pl.Int64))
    given = {**columns, **of_tolerance}
    is_last = part.iteration == files.last_iterations.get((part.campaign, part.region), part.iteration)
    if table == "outcomes":
        hit = rows.select(
            "vm_row",
            "outcome",
            comes_back=pl.col("outcome").cast(pl.String).is_in(_COME_BACK) & pl.lit(not is_last),
            paused_ms=pl.when(pl.col("paused_ms") + pl.col("down_ms") > 0).then(pl.col("paused_ms").cast(pl.Int64)),
            unavailable_ms=pl.col("paused_ms").cast(pl.Int64) + pl.col("down_ms"),
        )
        if given or files.only:
            hit = hit.join(files.fleet(part.fleet_path, given), on="vm_row")
    else:
        kind = pl.col("kind").cast(pl.String)
        paused = kind.is_in([Kind.FREEZE.name.lower(), Kind.LIVE_MIGRATION.name.lower()])
        duration_ms = pl.col("duration_ms").cast(pl.Int64)
        per_vm = (
            rows.filter(duration_ms > 0)
            .group_by("vm_row")
            .agg(paused_ms=duration_ms.filter(paused).sum(), unavailable_ms=duration_ms.sum())
        )
        # Every VM that the campaign selects is in scope; one without an event is known to the fleet alone.
        where = next(each.get("where", {}) for each in files.campaigns if each["name"] == part.campaign)
        fleet = files.fleet(part.fleet_path, given, where)
        # Whoever is in scope again without an event is not told: it stays where it was.
        hit = fleet.join(per_vm, on="vm_row", how="left" if part.iteration == FIRST_ITERATION else "inner")
        hit = hit.with_columns(pl.col("unavailable_ms").fill_null(0))
        if not is_last:
            others = [other for other in files.parts(table) if other.fleet_path == part.fleet_path]
            others = [other for other in others if other.campaign == part.campaign]
            later = [other.path for other in others if other.iteration > part.iteration]
            hits = [scanned(path).filter(pl.col("duration_ms") > 0).select("vm_row") for path in later]
            hit_later = pl.concat([fleet.select("vm_row").head(0), *hits]).unique()
            hit = hit.join(hit_later.with_columns(comes_back=pl.lit(value=True)), on="vm_row", how="left")
            hit = hit.with_columns(pl.col("comes_back").fill_null(value=False))
        else:
            hit = hit.with_columns(comes_back=pl.lit(value=False))
    kind_asked = next(each["kind"] for each in files.campaigns if each["name"] == part.campaign)
    is_down = pl.lit(value=True)
    if kind_asked not in _DOWN:
        is_down = (pl.col("unavailable_ms") > pl.col("paused_ms")).fill_null(value=False)
    lost_ms = pl.when(pl.col("paused_ms").is_not_null()).then("unavailable_ms")
    return hit.with_columns(
        *stage_columns(part),
        bin=((lost_ms + 1).log(2) * BINS_AN_OCTAVE).floor().cast(pl.Int32),
        is_down=is_down,
        lost_ms=lost_ms,
        lost_ms_max=lost_ms,
        tolerance_ms=tolerance_ms,
        vm_count=pl.lit(1, pl.Int64),
    )


def _histogram(files: RunFiles) -> pl.DataFrame:
    """`impacts` by stage from the engine's histogram: a pause is its bin's lower bound, 1/64 low at most."""
    is_down = pl.col("figure") == "down_ms_histogram"
    bins = (
        files.scan("summary")
        .filter(pl.col("figure").is_in(["paused_ms_histogram", "down_ms_histogram"]))
        .select(
            *STAGE,
            is_down=is_down,
            paused_ms=pl.when(~is_down).then("bin_start_ms").otherwise(0),
            lost_ms="bin_start_ms",
            lost_ms_max="bin_start_ms",
            vm_count=pl.col("value").cast(pl.Int64),
            unavailable_ms=pl.lit(0, pl.Int64),
            comes_back=pl.lit(value=False),
        )
    )
    # One more row a stage makes its sums exact: the VMs without an event, and the unavailable time.
    is_down = pl.col("campaign").is_in([each["name"] for each in files.campaigns if each["kind"] in _DOWN])
    told = stages(files).lazy().with_columns(back_count=pl.sum_horizontal(LEFT_COUNTS) - pl.col("remaining_count"))
    nobody = pl.lit(None, pl.Int64)
    rest = [
        told.select(
            *STAGE,
            is_down=is_down,
            paused_ms=nobody,
            lost_ms=nobody,
            lost_ms_max=nobody,
            vm_count=vm_count,
            unavailable_ms=unavailable_ms,
            comes_back=pl.lit(comes_back),
        )
        for comes_back, vm_count, unavailable_ms in (
            (False, pl.col("vm_count") - pl.col("vm_hit_count") - pl.col("back_count"), pl.col("unavailable_ms")),
            (True, pl.col("back_count"), pl.lit(0, pl.Int64)),
        )
    ]
    return pl.concat([bins, *rest]).collect()


def impact_by(counted: pl.DataFrame, grain: Sequence[str]) -> pl.DataFrame:
    """Figures of the VMs *counted* by `impacts`, one row a group of *grain*, largest group first.

    Where the grain does not tell iterations apart, a VM counts once: as in the last that it was in scope of.
    """
    sums_ms = counted.group_by(grain).agg(pl.col("unavailable_ms").sum())  # in whichever iteration
    if "iteration" not in grain:
        counted = counted.filter(~pl.col("comes_back"))
    is_hit = pl.col("lost_ms").is_not_null()
    figures: dict[str, pl.Expr] = {}
    is_down = pl.col("is_down")
    told = {"paused": ~is_down} | ({"down": is_down} if counted["is_down"].any() else {})
    for word, is_so in told.items():
        lost_ms, lost_ms_max, count = (
            pl.col(name).filter(is_hit & is_so) for name in ("lost_ms", "lost_ms_max", "vm_count")
        )
        figures |= {f"{word}_ms_p{each}": _nearest_rank(lost_ms, count, each) for each in PERCENTILES}
        figures[f"{word}_ms_max"] = lost_ms_max.max()
    return (
        counted.lazy()
        .sort("lost_ms")
        .group_by(grain)
        .agg(
            cs.ends_with("_count").sum(),
            vm_hit_count=pl.col("vm_count").filter(is_hit).sum(),
            **figures,
        )
        .join(sums_ms.lazy(), on=grain, how="left", nulls_equal=True)
        .sort("vm_count", *grain, descending=[True, *(False for _ in grain)])
        .collect()
    )


def pauses_over(counted: pl.DataFrame, pause_bounds_ms: Iterable[int]) -> pl.DataFrame:
    """`paused_over_ratio` by campaign and `pause` (a `pause_key`), from `impacts` *counted* with such tallies."""
    by_campaign = impact_by(counted, ["campaign"])
    return pl.concat(
        by_campaign.select(
            "campaign",
            pause=pl.lit(pause_key(bound_ms)),
            pause_ms=pl.lit(bound_ms, pl.Int64),
            paused_over_ratio=pl.when(pl.col("paused_ms_max").is_not_null()).then(
                pl.col(f"paused_over_{bound_ms}_count") / pl.col("vm_hit_count")
            ),
        )
        for bound_ms in pause_bounds_ms
    ).sort("campaign", "pause_ms")


def pause_ms(text: str) -> int:
    """A length in ms from *text* as scenarios spell it: `25s`, `1.5min`; raise `InputError` for anything else."""
    units_ms = {"ms": 1, "s": 1_000, "min": 60_000, "h": HOUR_MS, "d": 24 * HOUR_MS}
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|min|h|d)", text.strip())
    value_ms = Fraction(match[1]) * units_ms[match[2]] if match else Fraction(-1)
    if not (0 <= value_ms <= schema.LENGTH_MS_MAX and value_ms.denominator == 1):
        raise InputError(f"timeout: must be a length up to 49 d in ms, s, min, h or d, as 25s, got '{text}'")
    return int(value_ms)


def pause_key(value_ms: int) -> str:
    """*value_ms* as a key of the grain `pause`: `25s`, `1500ms`."""
    return f"{value_ms // 1_000}s" if value_ms % 1_000 == 0 else f"{value_ms}ms"
