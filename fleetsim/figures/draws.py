"""How far figures are chance: what they come to over the replicas of a run."""

import polars as pl
import polars.selectors as cs

from fleetsim.figures.runs import RunFiles


def bands(files: RunFiles) -> pl.DataFrame | None:
    """One row a figure that replicas were asked for: `grain`, `key`, `figure`, `p05` and `p95`; None without replicas.

    `p05` and `p95` stand at positions ceil(0.05 n) and ceil(0.95 n) of the n replicas in which the figure has a value.
    """
    paths = sorted(files.path.glob("replicas/replica=*/part-*.parquet"))
    if files.manifest.get("replicas", 1) < 2 or not paths or files.only:
        return None
    value = pl.col("value").drop_nulls().sort()
    ranked = {f"p{percent:02}": value.get((value.len() * percent + 99) // 100 - 1) for percent in (5, 95)}
    return (
        pl.scan_parquet(paths, hive_partitioning=False)
        .with_columns(cs.categorical().cast(pl.String))
        .group_by("grain", "key", "figure")
        .agg(pl.col("value").count().alias("count"), **ranked)
        .filter(pl.col("count") > 0)
        .drop("count")
        .sort("grain", "key", "figure")
        .collect()
    )
