"""Impact kernels: how long each VM is hit, and the small sums a stage keeps of its impacts.

Kernels see one-dimensional contiguous arrays the caller owns; they allocate nothing, raise nothing and read no clock.
Several short loops instead of one long one: each vectorises, and a pass over a block that sits in cache is cheap.

Axes: V = VMs, U = units, Q = 65,537 quantiles, P = profiles, H = hours of the stage, B = HISTOGRAM_BIN_COUNT,
T = tries.
"""

import numpy as np

from fleetsim.kernels.jit import inlined, kernel, rows_of
from fleetsim.kernels.rng import draw64
from fleetsim.schema import TRIES_MAX

HOUR_MS = 3_600_000

# Lengths below 128 ms have a bin each; above, a bin is what shares the upper seven bits.
_EXACT_COUNT = 128
_HALF = _EXACT_COUNT >> 1
HISTOGRAM_BIN_COUNT = (32 - 7 + 2) * _HALF
# A float64 holds exponent and mantissa side by side; 46 bits down, six bits of mantissa are left.
_FLOAT_SHIFT = 46
_FLOAT_BIAS = (1023 + 7 - 2) * _HALF

_16 = np.uint32(16)
_32 = np.uint64(32)
_LOW_16 = np.uint32(0xFFFF)


@kernel
def draw_lengths(key, address, replica, quantile_ms, vm_key, duration_ms):
    """Length of each VM's impact, interpolated between quantiles in integers (semantics.md 5).

    Reads   quantile_ms  uint32[Q]  not falling
            vm_key       int64[V]
    Writes  duration_ms  uint32[V]
    """
    # The draws wait where the lengths will stand.
    for row in range(vm_key.shape[0]):
        duration_ms[row] = np.uint32(draw64(key, np.uint64(vm_key[row]), address, replica) >> _32)
    for row in range(vm_key.shape[0]):
        entry = np.int64(duration_ms[row] >> _16)
        fraction = np.int64(duration_ms[row] & _LOW_16)
        lower_ms = np.int64(quantile_ms[entry])
        span_ms = np.int64(quantile_ms[entry + 1]) - lower_ms
        duration_ms[row] = np.uint32(lower_ms + ((span_ms * fraction + 32768) >> 16))


@kernel
def draw_profiled_lengths(key, address, replica, quantile_ms, profile, vm_key, duration_ms):
    """The same where VMs have profiles of their own: quantile_ms uint32[P, Q], profile uint8[V] its row for each VM."""
    for row in range(vm_key.shape[0]):
        draw = np.uint32(draw64(key, np.uint64(vm_key[row]), address, replica) >> _32)
        entry = np.int64(draw >> _16)
        lower_ms = np.int64(quantile_ms[profile[row], entry])
        span_ms = np.int64(quantile_ms[profile[row], entry + 1]) - lower_ms
        duration_ms[row] = np.uint32(lower_ms + ((span_ms * np.int64(draw & _LOW_16) + 32768) >> 16))


@inlined
def _length_at(quantile_ms, profile, draw):
    """The length that *draw* names in a row of the table, as `draw_profiled_lengths` has it."""
    upper = np.uint32(draw >> _32)
    entry = np.int64(upper >> _16)
    lower_ms = np.int64(quantile_ms[profile, entry])
    span_ms = np.int64(quantile_ms[profile, entry + 1]) - lower_ms
    return lower_ms + ((span_ms * np.int64(upper & _LOW_16) + 32768) >> 16)


@kernel
def draw_tries(
    key, length_address, try_address, replica, failure_below, timeout_ms,
    quantile_ms, profile, vm_key,
    duration_ms, try_count, is_failed,
):  # fmt: skip
    """How often each VM is tried until that succeeds, or may not be done again, and how long it is down for all that.

    Try k is as long as draw k says, and fails if another, halved, is below *failure_below*; the next follows at once,
    unless it would begin more than *timeout_ms* after the first, or be one too many (semantics.md 33).

    Reads    quantile_ms  uint32[P, Q]
             profile      uint8[V]   row in that table
             vm_key       int64[V]
    Writes   duration_ms  uint32[V]  of all tries; fits, since timeout_ms and the longest length do together
             try_count    int64[V]
             is_failed    bool[V]    the last one too
    """
    for row in range(vm_key.shape[0]):
        entity = np.uint64(vm_key[row])
        number = 0
        sum_ms = np.int64(0)
        fails = True
        while fails and number < TRIES_MAX and sum_ms <= timeout_ms:
            sum_ms += _length_at(
                quantile_ms, profile[row], draw64(key, entity, length_address + np.uint64(number), replica)
            )
            draw = draw64(key, entity, try_address + np.uint64(number), replica)
            fails = draw >> np.uint64(1) < failure_below
            number += 1
        duration_ms[row] = sum_ms
        try_count[row] = number
        is_failed[row] = fails


@kernel
def split_tries(
    key, length_address, replica, quantile_ms, profile, vm_key, duration_ms, try_count, is_failed,
    offsets, try_ms, is_aborted,
):  # fmt: skip
    """Take impacts apart into the tries that `draw_tries` has found; the last of one that a deletion cut is shorter.

    Reads    duration_ms  uint32[V]    as it was felt
             the others as `draw_tries`
    Writes   offsets      int64[V+1]   tries of each VM
             try_ms       uint32[T]    T >= sum of try_count
             is_aborted   bool[T]      it went on to its end, and had failed
    """
    place = 0
    offsets[0] = 0
    for row in range(vm_key.shape[0]):
        entity = np.uint64(vm_key[row])
        left_ms = np.int64(duration_ms[row])
        number = 0
        while left_ms > 0:
            length_ms = _length_at(
                quantile_ms, profile[row], draw64(key, entity, length_address + np.uint64(number), replica)
            )
            number += 1
            try_ms[place] = min(length_ms, left_ms)
            is_aborted[place] = length_ms <= left_ms and (number < try_count[row] or is_failed[row])
            left_ms -= length_ms
            place += 1
        offsets[row + 1] = place


@kernel
def measure_units(unit_offsets, duration_ms, unit_ms, unit_unavailable_ms):
    """Longest impact of each unit, and the sum of its impacts.

    Reads   unit_offsets         int64[U+1]  VM rows of each unit, none empty
            duration_ms          uint32[V]
    Writes  unit_ms              int64[U]
            unit_unavailable_ms  int64[U]
    """
    for unit in range(unit_ms.shape[0]):
        longest_ms = sum_ms = np.int64(0)
        for row in rows_of(unit_offsets, unit):
            longest_ms = max(longest_ms, np.int64(duration_ms[row]))
            sum_ms += np.int64(duration_ms[row])
        unit_ms[unit] = longest_ms
        unit_unavailable_ms[unit] = sum_ms


@kernel
def tally_unit_hours(
    first_hour, unit_start_ms, unit_offsets, unit_unavailable_ms, hourly_start_count, hourly_unavailable_ms
):
    """Count units' impacts by the hour they start in. Returns the sum of their VMs' starts, in ms.

    Reads    unit_start_ms          int64[U]    ms since scenario.start, >= first_hour * HOUR_MS
             unit_offsets           int64[U+1]
             unit_unavailable_ms    int64[U]
    Updates  hourly_start_count     int64[H]    H reaches the latest start
             hourly_unavailable_ms  int64[H]
    """
    sum_ms = np.int64(0)
    for unit in range(unit_start_ms.shape[0]):
        hour = np.uint64(unit_start_ms[unit] // HOUR_MS - first_hour)
        vm_count = unit_offsets[unit + 1] - unit_offsets[unit]
        hourly_start_count[hour] += vm_count
        hourly_unavailable_ms[hour] += unit_unavailable_ms[unit]
        sum_ms += unit_start_ms[unit] * vm_count
    return sum_ms


@kernel
def tally_single_hours(first_hour, start_ms, duration_ms, hourly_start_count, hourly_unavailable_ms):
    """The same for singles: start_ms int64[V], duration_ms uint32[V]."""
    for row in range(start_ms.shape[0]):
        hour = np.uint64(start_ms[row] // HOUR_MS - first_hour)
        hourly_start_count[hour] += 1
        hourly_unavailable_ms[hour] += np.int64(duration_ms[row])


@kernel
def tally_lengths(duration_ms, histogram):
    """Count VMs by length: duration_ms uint32[V], into histogram int64[B] (bounds: `bin_starts_ms`)."""
    for row in range(duration_ms.shape[0]):
        if duration_ms[row] < _EXACT_COUNT:
            histogram[duration_ms[row]] += 1
        else:
            bits = np.float64(duration_ms[row]).view(np.int64)
            histogram[np.uint64((bits >> _FLOAT_SHIFT) - _FLOAT_BIAS)] += 1


@kernel
def count_lengths(duration_ms, shift, counts):
    """Count VMs by length.

    Reads    duration_ms  uint32[V], of which the lowest *shift* uint32 bits do not count
    Updates  counts       int64[]  the last of what is longer too
    """
    last = np.uint32(counts.shape[0] - 1)
    for row in range(duration_ms.shape[0]):
        counts[min(duration_ms[row] >> shift, last)] += 1


@kernel
def bin_starts_ms(out):
    """Lower bound of each histogram bin: int64[B]."""
    for position in range(out.shape[0]):
        bits = max(position // _HALF - 1, 0)
        out[position] = (position - bits * _HALF) << bits
