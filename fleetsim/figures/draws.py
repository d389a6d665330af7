"""How far figures are chance: what they come to over the replicas of a run."""

from collections.abc import Container

import polars as pl
import polars.selectors as cs

from fleetsim.figures.cliques import may_exclude
from fleetsim.figures.runs import RunFiles

_NOT_DRAWN = (
    *("application_down_ratio_max", "application_out_ms", "quorum_lost_ms"),
    *("temp_disk_lost_gib", "addresses_changed_count"),
)
"""Figures of campaigns that replicas do not keep, as only events tell them; of quorums those of sets are kept."""


def not_drawn(columns: Container[str]) -> tuple[str, ...]:
    """Figures of campaigns that replicas over a fleet with *columns* do not keep, as only events tell them."""
    return (*_NOT_DRAWN, "length_bound_ratio") if may_exclude(columns) else _NOT_DRAWN


def band(name: str) -> dict[str, pl.Expr]:
    """`p05` and `p95` of the n values of *name*: those at positions ceil(0.05 n) and ceil(0.95 n); null of none."""
    value = pl.col(name).drop_nulls().sort()
    return {
        f"p{percent:02}": value.get((value.len() * percent + 99) // 100 - 1, null_on_oob=True) for percent in (5, 95)
    }


def replica_path(replica: int) -> str:
    """The file of a *replica*, in the folder of its run."""
    return f"replicas/replica={replica:05}/part-00000.parquet"


def bands(files: RunFiles) -> pl.DataFrame | None:
    """One row a figure of the replicas: `grain`, `key`, `figure`, `p05` and `p95`; None where there is one draw."""
    count = int(files.manifest.get("replicas", 1))
    paths = [path for replica in range(count) if (path := files.path / replica_path(replica)).is_file()]
    if count < 2 or not paths or files.only:
        return None
    return (
        pl.scan_parquet(paths, hive_partitioning=False)
        .with_columns(cs.categorical().cast(pl.String))
        .group_by("grain", "key", "figure")
        .agg(pl.col("value").count().alias("count"), **band("value"))
        .filter(pl.col("count") > 0)
        .drop("count")
        .sort("grain", "key", "figure")
        .collect()
    )
