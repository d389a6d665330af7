"""How far figures are chance: what they come to over the replicas of a run."""

import polars as pl
import polars.selectors as cs

from fleetsim.figures.runs import RunFiles


def band(name: str) -> dict[str, pl.Expr]:
    """`p05` and `p95` of the n values of *name*: those at positions ceil(0.05 n) and ceil(0.95 n); null of none."""
    value = pl.col(name).drop_nulls().sort()
    return {
        f"p{percent:02}": value.get((value.len() * percent + 99) // 100 - 1, null_on_oob=True) for percent in (5, 95)
    }


def bands(files: RunFiles) -> pl.DataFrame | None:
    """One row a figure of the replicas: `grain`, `key`, `figure`, `p05` and `p95`; None where there is one draw."""
    paths = sorted(files.path.glob("replicas/replica=*/part-*.parquet"))
    if files.manifest.get("replicas", 1) < 2 or not paths or files.only:
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
