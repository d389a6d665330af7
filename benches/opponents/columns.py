"""Whole columns at once, in memory: NumPy and Polars. With constant lengths both use the closed form of a start."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benches.campaign import (
    DOMAIN_COUNT,
    DOMAIN_SIZE,
    FREEZE_MS,
    GAP_MS,
    MU,
    REGION_COUNT,
    REGION_MS,
    SEED,
    SET_SIZE,
    SIGMA,
    TURN_MS,
    Given,
)

if TYPE_CHECKING:
    import polars as pl

Impacts = tuple[object, object]


def _drawn(vms: int) -> npt.NDArray[np.uint32]:
    """A length for each VM, in ms."""
    return np.rint(np.random.default_rng(SEED).lognormal(MU, SIGMA, vms)).astype(np.uint32)


def vectorised(given: Given) -> Callable[[], Impacts]:
    """NumPy: VMs as an array (region, set, place in domain, domain), and broadcasts over it."""
    return (lambda: _from_lengths(given.vms)) if given.is_random else (lambda: _closed_form(given.vms))


def _closed_form(vms: int) -> Impacts:
    region_ms = np.arange(REGION_COUNT) % 2 * REGION_MS
    set_ms = np.tile(np.arange(DOMAIN_COUNT) * TURN_MS, DOMAIN_SIZE)
    region_sets = vms // REGION_COUNT // SET_SIZE
    start_ms = np.empty((REGION_COUNT, region_sets, SET_SIZE), np.int64)
    np.add(region_ms[:, None, None], set_ms, out=start_ms)
    return start_ms.reshape(vms), np.full(vms, FREEZE_MS, np.uint32)


def _from_lengths(vms: int) -> Impacts:
    duration_ms = _drawn(vms)
    by_region = duration_ms.reshape(REGION_COUNT, -1, DOMAIN_SIZE, DOMAIN_COUNT)
    turn_ms = by_region.max(axis=2).astype(np.int64) + GAP_MS  # (region, set, domain)
    next_ms = turn_ms.cumsum(axis=2)
    region_ms = next_ms[:, :, -1].max(axis=1) - GAP_MS
    region_ms[1::2], region_ms[::2] = region_ms[::2].copy(), 0  # when each starts
    unit_ms = next_ms - turn_ms + region_ms[:, None, None]
    start_ms = np.empty(by_region.shape, np.int64)
    start_ms[:] = unit_ms[:, :, None, :]
    return start_ms.reshape(vms), duration_ms


def query(given: Given) -> Callable[[], Impacts]:
    """Polars: expressions over row numbers; with random lengths, domains by group_by and cum_sum."""
    return (lambda: _polars_from_lengths(given.vms)) if given.is_random else (lambda: _polars_closed_form(given.vms))


def _polars_closed_form(vms: int) -> Impacts:
    import polars as pl

    vm = pl.int_range(vms, dtype=pl.Int64)
    frame = pl.select(
        start_ms=vm % DOMAIN_COUNT * TURN_MS + vm // (vms // REGION_COUNT) % 2 * REGION_MS,
        duration_ms=pl.repeat(FREEZE_MS, vms, dtype=pl.UInt32),
    )
    return frame["start_ms"], frame["duration_ms"]


def _polars_from_lengths(vms: int) -> Impacts:
    frame = polars_impacts(vms).collect()
    return frame["start_ms"], frame["duration_ms"]


def polars_impacts(vms: int) -> "pl.LazyFrame":
    """start_ms and duration_ms of each VM, with random lengths."""
    import polars as pl

    fleet = pl.LazyFrame({"duration_ms": _drawn(vms)})
    vm = pl.int_range(pl.len(), dtype=pl.UInt32)
    unit = vm // SET_SIZE * DOMAIN_COUNT + vm % DOMAIN_COUNT
    unit_set, region = pl.col("unit") // DOMAIN_COUNT, pl.col("unit") // (vms // DOMAIN_SIZE // REGION_COUNT)
    units = (
        fleet.group_by(unit.alias("unit"))
        .agg(turn_ms=pl.col("duration_ms").max().cast(pl.Int64) + GAP_MS)
        .sort("unit")
        .with_columns(region=region, next_ms=pl.col("turn_ms").cum_sum().over(unit_set))
        .collect()
    )
    through = units.group_by("region").agg(region_ms=pl.col("next_ms").max() - GAP_MS)
    seconds = through.filter(pl.col("region") % 2 == 0).with_columns(pl.col("region") + 1)
    begins_ms = pl.col("next_ms") - pl.col("turn_ms") + pl.col("region_ms").fill_null(0)
    starts = units.join(seconds, on="region", how="left", maintain_order="left").select(begins_ms).to_series()
    # By place and not by a join: units are sorted and all there.
    return fleet.select(start_ms=pl.lit(starts).gather(unit), duration_ms="duration_ms")
