"""Polars as a whole process: lazy queries into two Parquet sinks at once, by the streaming engine.

Settings that measured best (Polars 2.1, 10 M VMs): words as Enum of one word, which is three times as fast as strings;
no statistics, which take half the time; lz4, as fleetsim has it; row groups of 250,000.
"""

from pathlib import Path

import polars as pl

from benches.campaign import (
    DOMAIN_COUNT,
    FREEZE_MS,
    REGION_COUNT,
    REGION_MS,
    REGIONS,
    START_MS_EPOCH,
    TABLES,
    TURN_MS,
    UINT8,
    Given,
)


def knowing(given: Given) -> None:
    """The fleet by heart: vm_row is the VM, and region and domain follow from it."""
    vm = pl.int_range(given.vms, dtype=pl.UInt32)
    if given.is_random:
        from benches.opponents.columns import polars_impacts

        _write(polars_impacts(given.vms).with_columns(vm_row=vm), given.folder / "out")
        return
    second = pl.col("vm_row") // (given.vms // REGION_COUNT) % 2
    fleet = pl.LazyFrame().select(vm_row=vm).with_columns(domain=pl.col("vm_row") % DOMAIN_COUNT, second=second)
    _write(_closed_form(fleet), given.folder / "out")


def reading(given: Given) -> None:
    """The prepared fleet, region by region, of which vm_row and update_domain are read."""
    regions = [
        pl.scan_parquet(given.prepared / "fleet" / f"region={region}" / "*.parquet", hive_partitioning=False).select(
            "vm_row", domain="update_domain", second=pl.lit(place % 2)
        )
        for place, region in enumerate(REGIONS)
    ]
    _write(_closed_form(pl.concat(regions)), given.folder / "out")


def _closed_form(fleet: pl.LazyFrame) -> pl.LazyFrame:
    """*fleet* has vm_row, domain, and second: whether it is in the second region of its pair."""
    start_ms = pl.col("domain").cast(pl.Int64) * TURN_MS + pl.col("second").cast(pl.Int64) * REGION_MS
    return fleet.select("vm_row", start_ms=start_ms, duration_ms=pl.lit(FREEZE_MS, pl.UInt32))


def _write(impacts: pl.LazyFrame, out: Path) -> None:
    """*impacts* has vm_row, start_ms and duration_ms."""
    computed = {
        "vm_row": pl.col("vm_row"),
        "start_at": (pl.col("start_ms") + START_MS_EPOCH).cast(pl.Datetime("ms", "UTC")),
        "duration_ms": pl.col("duration_ms"),
        "paused_ms": pl.col("duration_ms"),
    }
    out.mkdir()
    sinks = []
    for table, columns in TABLES.items():
        frame = impacts.select(
            **{name: computed[name] if same is None else _same(name, same) for name, same in columns.items()}
        )
        path = out / f"{table}.parquet"
        sinks.append(frame.sink_parquet(path, compression="lz4", statistics=False, row_group_size=250_000, lazy=True))
    pl.collect_all(sinks, engine="streaming")


def _same(name: str, value: str | int) -> pl.Expr:
    if isinstance(value, str):
        return pl.lit(value, pl.Enum([value]))
    return pl.lit(value, pl.UInt8 if name in UINT8 else pl.UInt32)
