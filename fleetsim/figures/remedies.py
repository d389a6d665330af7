"""Pauses that are longer than a workload stands, and what helps."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from fleetsim.figures.declared import duration
from fleetsim.figures.pauses import impacts_of_part, pause_key, table_of
from fleetsim.figures.runs import RunFiles, in_turn, spelt


@dataclass(frozen=True, slots=True)
class Remedy:
    """One way to fewer VMs over their tolerance: how many it saves, whether only expectedly, and how to ask for it."""

    name: str
    sentence: str
    saved_count: float
    over_tolerance_count: float
    is_expected: bool = False
    toml: str | None = None


@dataclass(frozen=True, slots=True)
class Intolerance:
    """VMs of a campaign and workload (None: of those without one) that are paused longer than they stand."""

    campaign: str
    workload: str | None
    vm_count: int
    vm_hit_count: int
    over_tolerance_count: int
    tolerance_ms_min: int
    tolerance_ms_max: int
    left_out_count: int
    """VMs that stay without the update where the workload is left out: `where` leaves those without one out too."""
    remedies: tuple[Remedy, ...]


LIVE_MIGRATION_PAUSE_MS = 5_000
"""A live migration pauses a VM for typically 5 s at most (Azure: maintenance and updates, 2024 and 2026)."""
PUBLISHED_PAUSE_MS = (6_000, 9_000)
"""p50 and p99 of pauses "almost always below 10 s" (the same source; preset azure-2024)."""
PUBLISHED_PAUSE_MS_MAX = 10_000
_Z_P99 = 2.3263478740408408


def intolerances(files: RunFiles) -> list[Intolerance]:
    """Workloads of each campaign with VMs over their tolerance, most of them first, and what helps each.

    Empty where the run knows no tolerance, or kept nothing that VMs are counted from.
    """
    table = table_of(files)
    if files.tolerance is None or table is None:
        return []
    columns = {name: name for name in ("workload", "size") if name in files.fleet_schema}
    fixed = [spelt(size) for size in files.resolved.get("cannot_migrate_sizes", [])]
    size = pl.col("size").cast(pl.String) if "size" in columns else pl.lit(None, pl.String)
    keys = ["workload", "tolerance_ms", "can_migrate"]
    pieces = [
        impacts_of_part(files, part, table, columns)
        .select(
            "campaign",
            (pl.col("workload") if "workload" in columns else pl.lit(None)).cast(pl.String).alias("workload"),
            "tolerance_ms",
            can_migrate=~size.is_in(fixed).fill_null(False),
            is_hit=pl.col("paused_ms").is_not_null(),
            is_paused=(pl.col("paused_ms") > 0).fill_null(False),  # and not down: no pause is too long for those
            is_over=(pl.col("paused_ms") > pl.col("tolerance_ms")).fill_null(False),
        )
        .group_by("campaign", *keys)
        .agg(pl.len().cast(pl.Int64).alias("vm_count"), pl.col("is_hit", "is_paused", "is_over").sum().cast(pl.Int64))
        for part in files.parts(table)
    ]
    counted = [piece for piece in in_turn(files, "tolerance", pieces) if len(piece)]
    found = []
    for campaign in files.campaigns if counted else ():
        own = pl.concat(counted).filter(campaign=campaign["name"])
        scope = dict(own.group_by("workload").agg(pl.col("is_hit").sum()).sort("workload").rows())
        for (workload,), rows in own.group_by("workload"):
            over_count = int(rows["is_over"].sum())
            known = rows.filter(pl.col("tolerance_ms").is_not_null() & (pl.col("is_paused") > 0))
            if over_count:
                found.append(
                    Intolerance(
                        campaign=campaign["name"],
                        workload=workload,
                        vm_count=int(rows["vm_count"].sum()),
                        vm_hit_count=int(rows["is_hit"].sum()),
                        over_tolerance_count=over_count,
                        tolerance_ms_min=int(min(known["tolerance_ms"])),
                        tolerance_ms_max=int(max(known["tolerance_ms"])),
                        left_out_count=sum(scope[each] for each in {workload, None} & scope.keys()),
                        remedies=tuple(_remedies(files, campaign, workload, known, scope)),
                    )
                )
    place = {each["name"]: number for number, each in enumerate(files.campaigns)}
    return sorted(found, key=lambda each: (place[each.campaign], -each.over_tolerance_count, each.workload or ""))


def _remedies(
    files: RunFiles, campaign: dict[str, Any], workload: str | None, rows: pl.DataFrame, scope: dict[str | None, int]
) -> Iterator[Remedy]:
    """What helps the VMs paused of *rows*: counts by what they stand. *scope*: VMs hit, by workload."""
    tolerance_ms, can_migrate = pl.col("tolerance_ms"), pl.col("can_migrate")
    over_count = int(rows["is_over"].sum())

    def after(
        name: str, sentence: str, still_over: pl.Expr, is_expected: bool = False, toml: str | None = None
    ) -> Remedy:
        over = float(rows.select(still_over.sum()).item())
        return Remedy(name, sentence, over_count - over, over, is_expected, toml)

    p50, p99 = (f"{value_ms // 1_000} s" for value_ms in PUBLISHED_PAUSE_MS)
    shares = [_published_share(value_ms) for value_ms in rows["tolerance_ms"]]
    yield after(
        "published_profile",
        f"pauses half below {p50}, one in a hundred above {p99}",
        pl.col("is_paused") * (1 - pl.Series(shares, dtype=pl.Float64)),
        is_expected=True,
        toml=f'length = {{ p50 = "{p50.replace(" ", "")}", p99 = "{p99.replace(" ", "")}" }}',
    )
    yield after(
        "published_maximum",
        f"pauses never above {PUBLISHED_PAUSE_MS_MAX // 1_000} s, all that long",
        pl.col("is_paused").filter(tolerance_ms < PUBLISHED_PAUSE_MS_MAX),
        toml=f'length = "{pause_key(PUBLISHED_PAUSE_MS_MAX)}"',
    )
    least_ms = int(rows.select(tolerance_ms.min()).item())
    if least_ms > 0:
        longest = f"no pause above {duration(least_ms)}: the longest that all of them stand"
        yield after("longest_pause", longest, pl.lit(0), toml=f'length = "{pause_key(least_ms)}"')
    fixed = "" if rows["can_migrate"].all() else "; some sizes cannot"
    yield after(
        "live_migration",
        f"live migration, with pauses of typically {LIVE_MIGRATION_PAUSE_MS // 1_000} s at most{fixed}",
        pl.when(can_migrate & (tolerance_ms < LIVE_MIGRATION_PAUSE_MS))
        .then("is_paused")
        .when(can_migrate)
        .then(0)
        .otherwise("is_over"),
        is_expected=True,
    )
    yield _leaving_out(files, campaign, workload, over_count, scope)
    yield Remedy(
        "self_service",
        "self-service: only maintenance that reboots VMs has it, a freeze has none",
        0,
        over_count,
    )


def _leaving_out(
    files: RunFiles, campaign: dict[str, Any], workload: str | None, over_count: int, scope: dict[str | None, int]
) -> Remedy:
    """Leaving *workload* out by `where`, which names those that stay in: VMs without workload go out with it."""
    kept = [name for name in scope if name is not None and name != workload]
    left_count = sum(scope[each] for each in {workload, None} & scope.keys())
    others = left_count - scope[workload]
    besides = f", {others:,} without workload among them" if others else ""
    sentence = f"leaving it out: {left_count:,} VMs stay without the update{besides}"
    toml = None
    if kept and not files.only:
        where = {**campaign.get("where", {}), "workload": kept}
        toml = (
            f"where = {{ {', '.join(f'{_toml_key(column)} = {_toml(values)}' for column, values in where.items())} }}"
        )
    return Remedy("leaving_out", sentence, over_count, 0, toml=toml)


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    """*value*, text, number, truth or list of them, as TOML; a list breaks into lines, as even inline tables may."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON leaves that one as it is
    if not isinstance(value, list):
        return spelt(value)
    lines = [""]
    for each in map(_toml, value):
        if lines[-1] and len(lines[-1]) + len(each) > _TOML_WIDTH:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{each},"
    if len(lines) == 1:
        return f"[{lines[0].removesuffix(',')}]"
    return "\n".join(["[", *(f"  {line}" for line in lines), "]"])


_TOML_WIDTH = 64


def _published_share(tolerance_ms: int) -> float:
    """The share of pauses of the published profile, lognormal by its p50 and p99, that are *tolerance_ms* at most."""
    if tolerance_ms <= 0:
        return 0.0
    p50_ms, p99_ms = PUBLISHED_PAUSE_MS
    z = math.log(tolerance_ms / p50_ms) / math.log(p99_ms / p50_ms) * _Z_P99
    return (1 + math.erf(z / math.sqrt(2))) / 2
