"""Blocks that go through the loops of other kernels a stretch at a time.

What one loop leaves in the cache the next finds there; over a whole block each would wait for memory.

Axes: V = VMs, U = units, S = sets, K = most domains of a set, Q = 65,537 quantiles, B = impact.HISTOGRAM_BIN_COUNT.
Times are int64 ms since scenario.start, but where an origin is added for the files.
"""

import numpy as np

from fleetsim.kernels import impact, walk
from fleetsim.kernels.jit import kernel

STRETCH_VMS = 1 << 14
"""VMs of a stretch, but for the set it ends with: their arrays stay in the second cache of a core."""


@kernel
def walk_plain(
    stage_start_ms, spread_ms, work_ms, gap_ms, origin_ms,
    key, length_address, spread_address, replica, quantile_ms,
    vm_key, set_offsets, set_key, unit_offsets, unit_priority, turn, set_start_ms, unit_ms,
    duration_ms, unit_start_ms, unit_unavailable_ms, start_ms, histogram, totals,
):  # fmt: skip
    """Take all sets of a block through a stage in which every VM is hit.

    Reads    quantile_ms          uint32[Q]  as `impact.draw_lengths`; empty where duration_ms has all lengths already
             vm_key               int64[V]
             set_key              int64[S]
             the others as `walk.walk_sets`
    Scratch  turn                 uint64[K]
             set_start_ms         int64[S]
             unit_ms              int64[U]
    Writes   duration_ms          uint32[V]
             unit_start_ms        int64[U]
             unit_unavailable_ms  int64[U]
             start_ms             int64[V]  *origin_ms* later
    Updates  histogram            int64[B]  with what was drawn
             totals               int64[walk.TOTAL_COUNT]
    Returns the milliseconds in which all VMs of a set are out, summed over sets.
    """
    out_ms = np.int64(0)
    set_count = set_key.shape[0]
    first = np.int64(0)
    while first < set_count:
        row = unit_offsets[set_offsets[first]]
        last = first + 1
        while last < set_count and unit_offsets[set_offsets[last]] - row < STRETCH_VMS:
            last += 1
        unit, unit_stop = set_offsets[first], set_offsets[last]
        row_stop = unit_offsets[unit_stop]
        if quantile_ms.shape[0]:
            impact.draw_lengths(
                key, length_address, replica, quantile_ms, vm_key[row:row_stop], duration_ms[row:row_stop]
            )
            impact.tally_lengths(duration_ms[row:row_stop], histogram)
        own_sets, own_units = set_offsets[first : last + 1], unit_offsets[unit : unit_stop + 1]
        impact.measure_units(own_units, duration_ms, unit_ms[unit:unit_stop], unit_unavailable_ms[unit:unit_stop])
        own_start_ms = set_start_ms[first:last]
        walk.draw_starts(stage_start_ms, spread_ms, key, spread_address, replica, set_key[first:last], own_start_ms)
        walk.walk_sets(
            stage_start_ms, work_ms, gap_ms, own_sets, own_start_ms,
            unit_offsets, unit_priority, unit_ms, turn, unit_start_ms, totals,
        )  # fmt: skip
        walk.start_vms(origin_ms, own_units, unit_start_ms[unit:unit_stop], start_ms)
        out_ms += walk.sets_out_ms(own_sets, unit_offsets, duration_ms)
        first = last
    return out_ms
