"""How campaigns with windows went, iteration by iteration: who acted, what the platform did, and who remains."""

from typing import Any

import polars as pl

from fleetsim.figures.declared import OUTCOME_COUNTS
from fleetsim.figures.runs import RunFiles, in_turn, ms_since_start, scanned, stage_columns
from fleetsim.schema import COME_BACK, Phase, Result

_REQUESTS = {
    "requests_refused_count": Result.RETRY_LATER.name.lower(),
    "requests_failed_count": Result.ABORTED.name.lower(),
}


def iterations(files: RunFiles, stage_rows: pl.DataFrame) -> pl.DataFrame:
    """One row a campaign with windows and iteration of it, in file order; instants since scenario start.

    `campaign`, `iteration`, `region_count`; `notice_ms` of the first region, `scheduled_end_ms` of the last, and
    `notice_lead_ms`, the shortest from a notice to the scheduled window (null where nothing was announced); `vm_count`
    and how these ended it, as of stages, as far as told; requests that were refused, and that failed (null where the
    run kept no events).
    """
    asked = [each["name"] for each in files.campaigns if "scheduled" in each]
    keys = ["campaign", "iteration"]
    names = ["notice", "scheduled_start", "scheduled_end"]
    windows = files.scan("stages").select(
        *keys, "region", *(ms_since_start(files, f"{name}_at").alias(f"{name}_ms") for name in names)
    )
    own = stage_rows.filter(pl.col("campaign").is_in(asked))
    counts = [name for name in ("vm_count", *OUTCOME_COUNTS, "remaining_count") if name in own.columns]
    told = (
        own.join(windows.collect(), on=[*keys, "region"], how="left")
        .group_by(keys)
        .agg(
            pl.len().alias("region_count"),
            pl.col("notice_ms").min(),
            pl.col("scheduled_end_ms").max(),
            (pl.col("scheduled_start_ms") - pl.col("notice_ms")).min().alias("notice_lead_ms"),
            pl.col(counts).sum(),
        )
    )
    place = {name: number for number, name in enumerate(asked)}
    order = pl.col("campaign").replace_strict(place, return_dtype=pl.Int64)
    return told.join(_requests(files, asked), on=keys, how="left").sort(order, "iteration")


def _requests(files: RunFiles, asked: list[str]) -> pl.DataFrame:
    """Requests that came to nothing, by campaign and iteration."""
    types = {"campaign": pl.String, "iteration": pl.UInt8, **dict.fromkeys(_REQUESTS, pl.Int64)}
    found = [pl.DataFrame(schema=types)]
    pieces = []
    for part in files.parts("events") if asked and files.has("events") else ():
        if part.campaign not in asked:
            continue
        rows = scanned(part.path).select("vm_row", "result", pl.col("phase").cast(pl.String))
        if files.only:
            rows = rows.join(files.fleet(part.fleet_path, {}), on="vm_row", how="semi")
        is_theirs = pl.col("phase") == Phase.SELF_SERVICE.name.lower()
        counts = {
            name: (is_theirs & (pl.col("result").cast(pl.String) == word)).sum().cast(pl.Int64)
            for name, word in _REQUESTS.items()
        }
        pieces.append(rows.select(**counts).with_columns(*stage_columns(part)).select(found[0].columns))
    found += in_turn(files, "requests", pieces)
    return pl.concat(found).group_by("campaign", "iteration").agg(pl.col(*_REQUESTS).sum())


def remaining(files: RunFiles, stage_rows: pl.DataFrame, count: int) -> dict[str, list[dict[str, Any]]]:
    """The first *count* VMs of each campaign that its last iteration has left without the update, as far as told.

    Each has its `vm`, `region`, `iteration`, `outcome` and `reason`, as `outcomes` has them.
    """
    if "remaining_count" not in stage_rows.columns:  # only some VMs are looked at, and no outcomes tell of them
        return {}
    stages = set(stage_rows.filter(pl.col("remaining_count") > 0).select("campaign", "iteration", "region").rows())
    found: dict[str, list[dict[str, Any]]] = {}
    for part in files.parts("outcomes") if files.has("outcomes") else ():
        named = found.setdefault(part.campaign, [])
        if (part.campaign, part.iteration, part.region) not in stages or len(named) >= count:
            continue
        words = pl.col("outcome", "reason").cast(pl.String)
        rows = scanned(part.path).select("vm_row", "iteration", words)
        rows = rows.filter(pl.col("outcome").is_in([outcome.name.lower() for outcome in COME_BACK]))
        rows = rows.join(files.fleet(part.fleet_path, {"name": "vm"}), on="vm_row").sort("vm_row")
        told = rows.head(count - len(named)).select(
            "iteration", "outcome", "reason", vm="name", region=pl.lit(part.region)
        )
        named += told.select("vm", "region", "iteration", "outcome", "reason").collect().to_dicts()
    return found
