"""Outage kernels: how much of a set is out at once, how long all of it, and how long its quorum is lost.

All living VMs of a set count, whether the campaign hits them or not (semantics.md 10). Where every VM of every set
is hit and none comes or goes, `walk` knows all of this without a sweep.

Axes: V = VMs of sets, in set order, S = sets.
"""

import numpy as np

from fleetsim.kernels.jit import kernel, rows_of
from fleetsim.schema import NEVER_MS, NoGuarantee

GUARANTEED = -1
"""In `weigh_sets`: the set has two populated domains or more."""
NOT_HIT = -2
"""In `weigh_sets`: no VM of the set is to be hit."""
LATE = -3
"""To `sweep_sets`: those of its VMs that are hit come, or are moved, beside what was promised at the stage's start."""

# Positions of `totals` of `sweep_sets`.
OUT_MS = 0
QUORUM_LOST_MS = 1
DOWN_COUNT = 2  # the largest share out at once, as DOWN_COUNT of DOWN_OF_COUNT living VMs of a set with a guarantee
DOWN_OF_COUNT = 3
TOTAL_COUNT = 4

# A breakpoint is an instant shifted left, and below it what changes then.
_CHANGE_BITS = 2
_BACK, _DELETED, _CREATED, _OUT = 0, 1, 2, 3
BREAKPOINTS_A_VM = 4

_TURNS_MAX = 20
BREAKPOINTS_MIN = 3 * _TURNS_MAX

_ONE_VM = np.int8(NoGuarantee.ONE_VM)
_ONE_DOMAIN = np.int8(NoGuarantee.ONE_DOMAIN)


@kernel
def weigh_sets(vm_offsets, domain, is_living, is_hit, reason):
    """Whether each set is promised a VM that stays up, by its living VMs.

    Reads   vm_offsets  int64[S+1]  VMs of each set
            domain      uint8[V]    the domain walked
            is_living   bool[V]
            is_hit      bool[V]     may be hit, so living
    Writes  reason      int8[S]     NoGuarantee, GUARANTEED or NOT_HIT
    """
    for set_row in range(reason.shape[0]):
        living_count = np.int64(0)
        lowest, highest = np.uint8(255), np.uint8(0)
        has_hit = False
        for row in rows_of(vm_offsets, set_row):
            has_hit |= is_hit[row]
            if is_living[row]:
                living_count += 1
                lowest, highest = min(lowest, domain[row]), max(highest, domain[row])
        if not has_hit:
            reason[set_row] = NOT_HIT
        elif living_count == 1:
            reason[set_row] = _ONE_VM
        elif lowest >= highest:
            reason[set_row] = _ONE_DOMAIN
        else:
            reason[set_row] = GUARANTEED


@kernel
def sweep_sets(vm_offsets, reason, created_ms, deleted_ms, start_ms, end_ms, need, breakpoints, totals):
    """Go through the impacts of each set in order of time.

    Reads    vm_offsets   int64[S+1]  VMs of each set
             reason       int8[S]     from `weigh_sets`
             created_ms   int64[V]    -NEVER_MS where it always was
             deleted_ms   int64[V]    NEVER_MS where it is not
             start_ms     int64[V]    NEVER_MS where a VM is not hit
             end_ms       int64[V]
             need         int64[3]    VMs up that make a quorum: at least need[0], and the ceiling of need[1] / need[2]
                                      of the living, and more than half of them where need[2] is 0
    Scratch  breakpoints  int64[]     BREAKPOINTS_A_VM for each VM of the largest set, and BREAKPOINTS_MIN
    Updates  totals       int64[TOTAL_COUNT]
    """
    for set_row in range(reason.shape[0]):
        if reason[set_row] == NOT_HIT:
            continue
        rows = rows_of(vm_offsets, set_row)
        first_ms, last_ms = np.int64(NEVER_MS), np.int64(0)
        for row in rows:
            if start_ms[row] != NEVER_MS:
                first_ms, last_ms = min(first_ms, start_ms[row]), max(last_ms, end_ms[row])
        if last_ms == 0:
            continue
        is_guaranteed = reason[set_row] == GUARANTEED
        living_count = out_count = count = np.int64(0)
        is_steady = True
        for row in rows:
            living_count += np.int64((created_ms[row] <= first_ms) & (first_ms < deleted_ms[row]))
            is_steady &= (created_ms[row] <= first_ms) | (created_ms[row] >= last_ms)
            is_steady &= (deleted_ms[row] <= first_ms) | (deleted_ms[row] >= last_ms)
        if is_steady and _sweep_turns(rows, start_ms, end_ms, living_count, is_guaranteed, need, breakpoints, totals):
            continue
        for row in rows:
            if first_ms < created_ms[row] and created_ms[row] < last_ms:
                breakpoints[count] = created_ms[row] << _CHANGE_BITS | _CREATED
                count += 1
            if first_ms < deleted_ms[row] and deleted_ms[row] < last_ms:
                breakpoints[count] = deleted_ms[row] << _CHANGE_BITS | _DELETED
                count += 1
            if start_ms[row] != NEVER_MS:
                breakpoints[count] = start_ms[row] << _CHANGE_BITS | _OUT
                breakpoints[count + 1] = end_ms[row] << _CHANGE_BITS | _BACK
                count += 2
        _sort(breakpoints, count)
        place = np.int64(0)
        while place < count:
            at_ms = breakpoints[place] >> _CHANGE_BITS
            while place < count and breakpoints[place] >> _CHANGE_BITS == at_ms:
                change = breakpoints[place] & 3
                if change == _OUT:
                    out_count += 1
                elif change == _BACK:
                    out_count -= 1
                elif change == _CREATED:
                    living_count += 1
                else:
                    living_count -= 1
                place += 1
            if out_count == 0 or place == count:
                continue
            span_ms = (breakpoints[place] >> _CHANGE_BITS) - at_ms
            if out_count == living_count:
                totals[OUT_MS] += span_ms
            up_min = _quorum(living_count, need)
            if living_count - out_count < up_min <= living_count:
                totals[QUORUM_LOST_MS] += span_ms
            if is_guaranteed and out_count * totals[DOWN_OF_COUNT] > totals[DOWN_COUNT] * living_count:
                totals[DOWN_COUNT], totals[DOWN_OF_COUNT] = out_count, living_count


@kernel
def _sweep_turns(rows, start_ms, end_ms, living_count, is_guaranteed, need, scratch, totals):
    """`sweep_sets` of one set, as many of which live all the time, if those that start together are back before others.

    So most sets are hit: then nothing needs to be sorted but the ends of a turn that is half the set or more. Returns
    False where it is not so, or there are more than _TURNS_MAX turns; nothing is added up then.
    """
    turn_start_ms, turn_end_ms = scratch[:_TURNS_MAX], scratch[_TURNS_MAX : 2 * _TURNS_MAX]
    sizes, ends_ms = scratch[2 * _TURNS_MAX : 3 * _TURNS_MAX], scratch[3 * _TURNS_MAX :]
    count, is_apart = 0, True
    for row in rows:
        if start_ms[row] == NEVER_MS:
            continue
        if count == 0 or start_ms[row] != turn_start_ms[count - 1]:  # VMs stand by domain
            if count == _TURNS_MAX:
                return False
            turn_start_ms[count], turn_end_ms[count], sizes[count] = start_ms[row], 0, 0
            count += 1
        sizes[count - 1] += 1
        turn_end_ms[count - 1] = max(turn_end_ms[count - 1], end_ms[row])
        is_apart &= start_ms[row] < end_ms[row]
    for turn in range(count):
        for other in range(turn):
            is_apart &= (turn_end_ms[turn] <= turn_start_ms[other]) | (turn_end_ms[other] <= turn_start_ms[turn])
    if not is_apart:
        return False
    up_min = _quorum(living_count, need)
    for turn in range(count):
        size = sizes[turn]
        if is_guaranteed and size * totals[DOWN_OF_COUNT] > totals[DOWN_COUNT] * living_count:
            totals[DOWN_COUNT], totals[DOWN_OF_COUNT] = size, living_count
        loses_quorum = living_count - size < up_min <= living_count
        if size < living_count and not loses_quorum:
            continue
        found = 0
        for row in rows:
            if start_ms[row] == turn_start_ms[turn]:
                ends_ms[found] = end_ms[row]
                found += 1
        _sort(ends_ms, size)
        if size == living_count:
            totals[OUT_MS] += ends_ms[0] - turn_start_ms[turn]
        if loses_quorum:  # until as few are out as may be
            totals[QUORUM_LOST_MS] += ends_ms[size - 1 - (living_count - up_min)] - turn_start_ms[turn]
    return True


@kernel
def _quorum(living_count, need):
    if need[2] == 0:
        return living_count // 2 + 1
    return max(need[0], -((-living_count * need[1]) // need[2]))


@kernel
def _sort(values, count):
    """Sort values[:count] in place: Shell's, with Knuth's gaps. Sets are small, and mostly almost in order."""
    for gap in (29524, 9841, 3280, 1093, 364, 121, 40, 13, 4, 1):
        for position in range(gap, count):
            value = values[position]
            hole = position
            while hole >= gap and values[hole - gap] > value:
                values[hole] = values[hole - gap]
                hole -= gap
            values[hole] = value
