"""Walk kernels: sets and singles nothing else can affect go through a stage in one pass, without a queue.

A set walks its populated update domains once, one at a time; the next domain starts when the last VM of the former
is back, its unit was held for `work`, and the gap has passed (semantics.md 13-16, 27). Equal, event for event, to the
same sets driven tick by tick.

Axes: V = VMs, U = units (populated domains of sets, in (set, domain) order), S = sets, K = most domains of a set.
Times are int64 ms since scenario.start, but where an origin is added for the files.
"""

import numpy as np

from fleetsim.kernels.jit import kernel, rows_of
from fleetsim.kernels.rng import draw64, scaled
from fleetsim.schema import NEVER_MS

# Positions of `totals`, the int64 sums and records a block keeps.
FIRST_START_MS = 0
END_MS = 1
LONGEST_MS = 2
DOWN_COUNT = 3  # the fullest domain, as DOWN_COUNT of DOWN_OF_COUNT VMs of its set
DOWN_OF_COUNT = 4
LAST_ROW = 5
LAST_SPREAD_MS = 6
LAST_WORK_MS = 7
LAST_GAP_MS = 8
LAST_DOMAIN_COUNT = 9
FREE_MS = 10  # as END_MS, but with the units that nobody is left in
LAST_CAP_MS = 11
ONE_VM_COUNT = 12  # sets of one VM, and of one domain with more
ONE_DOMAIN_COUNT = 13
TOTAL_COUNT = 14

_1 = np.uint64(1)


@kernel
def draw_units(key, address, replica, set_key, update_domain, out):
    """The draw each domain is ordered by: set_key int64[U], update_domain uint8[U] -> out uint64[U]."""
    for unit in range(out.shape[0]):
        number = address + np.uint64(update_domain[unit])
        out[unit] = draw64(key, np.uint64(set_key[unit]), number, replica)


@kernel
def draw_starts(start_ms, spread_ms, key, address, replica, entity_key, out):
    """First instant of each set or single, in [start_ms, start_ms + spread_ms): entity_key int64[E] -> out int64[E]."""
    for entity in range(out.shape[0]):
        draw = draw64(key, np.uint64(entity_key[entity]), address, replica)
        out[entity] = start_ms + np.int64(scaled(draw, np.uint64(spread_ms)))


@kernel
def draw_starts_within(start_ms, window_ms, key, address, replica, entity_key, held_ms, out):
    """The same of singles in a window: anywhere that lets them end in it, held_ms int64[E]; too long ones at once."""
    for entity in range(out.shape[0]):
        draw = draw64(key, np.uint64(entity_key[entity]), address, replica)
        room_ms = max(np.int64(0), window_ms - held_ms[entity])
        out[entity] = start_ms + np.int64(scaled(draw, np.uint64(room_ms + 1)))


@kernel
def _take_turns(units, unit_priority, turn):
    """Put the *units* of one set into *turn*, the smallest priority first; as they stand where none has one."""
    if unit_priority.shape[0] == 0:
        in_order = np.uint64(0)
        for unit in units:
            turn[in_order] = unit
            in_order += _1
        return
    # Units stand in domain order. Counting those that go before needs no branch, which a sort of random
    # priorities would mispredict all the time: for the few domains of a set that is twice as fast.
    for unit in units:
        place = np.uint64(0)
        for other in units:
            goes_before = unit_priority[other] < unit_priority[unit]
            is_tie = unit_priority[other] == unit_priority[unit]
            place += np.uint64(goes_before | (is_tie & (other < unit)))
        turn[place] = unit


@kernel
def number_turns(set_offsets, unit_priority, order, turn):
    """The place of each unit in the walk of its set: unit_priority as `walk_sets` -> turn int64[U]; order uint64[K]."""
    for set_row in range(set_offsets.shape[0] - 1):
        units = rows_of(set_offsets, set_row)
        _take_turns(units, unit_priority, order)
        for place in range(len(units)):
            turn[order[place]] = place


@kernel
def walk_sets(
    stage_start_ms, work_ms, gap_ms,
    set_offsets, set_start_ms,
    unit_offsets, unit_priority, unit_ms, turn,
    unit_start_ms,
    totals,
):  # fmt: skip
    """Start every unit of the block's sets.

    Reads    set_offsets    int64[S+1]   units of each set, none empty
             set_start_ms   int64[S]     first start of each set
             unit_offsets   int64[U+1]   VM rows of each unit, none empty
             unit_priority  uint64[U]    the smallest of a set goes first; ties by domain; [0]: all are equal
             unit_ms        int64[U]     longest impact of each unit
    Scratch  turn           uint64[K]     K >= domains of the largest set
    Writes   unit_start_ms  int64[U]
    Updates  totals         int64[TOTAL_COUNT]
    """
    # Sums and records stay in registers over the sets; through the array they would cost as much as the walk.
    first_start_ms, end_ms, longest_ms = totals[FIRST_START_MS], totals[END_MS], totals[LONGEST_MS]
    down_count, down_of_count = totals[DOWN_COUNT], totals[DOWN_OF_COUNT]
    one_vm_count = one_domain_count = np.int64(0)
    for set_row in range(set_offsets.shape[0] - 1):
        units = rows_of(set_offsets, set_row)
        domain_count = len(units)
        _take_turns(units, unit_priority, turn)
        clock_ms = set_start_ms[set_row]
        first_start_ms = min(first_start_ms, clock_ms)

        set_work_ms = np.int64(0)
        unit_vm_count_max = np.int64(0)
        for place in range(domain_count):
            unit = turn[place]
            unit_start_ms[unit] = clock_ms
            held_ms = max(unit_ms[unit], work_ms)
            set_work_ms += held_ms
            unit_vm_count_max = max(unit_vm_count_max, unit_offsets[unit + _1] - unit_offsets[unit])
            clock_ms += held_ms + gap_ms

        set_gap_ms = (domain_count - 1) * gap_ms
        longest_ms = max(longest_ms, set_work_ms + set_gap_ms)
        first_row = unit_offsets[set_offsets[set_row]]
        vm_count = unit_offsets[set_offsets[set_row + 1]] - first_row
        if domain_count == 1:
            one_vm_count += np.int64(vm_count == 1)
            one_domain_count += np.int64(vm_count > 1)
        elif unit_vm_count_max * down_of_count > down_count * vm_count:
            down_count, down_of_count = unit_vm_count_max, vm_count
        if clock_ms - gap_ms > end_ms:
            end_ms = clock_ms - gap_ms
            totals[LAST_ROW] = first_row
            totals[LAST_SPREAD_MS] = set_start_ms[set_row] - stage_start_ms
            totals[LAST_WORK_MS] = set_work_ms
            totals[LAST_GAP_MS] = set_gap_ms
            totals[LAST_DOMAIN_COUNT] = domain_count
    totals[FIRST_START_MS], totals[END_MS], totals[LONGEST_MS] = first_start_ms, end_ms, longest_ms
    totals[DOWN_COUNT], totals[DOWN_OF_COUNT] = down_count, down_of_count
    totals[ONE_VM_COUNT] += one_vm_count
    totals[ONE_DOMAIN_COUNT] += one_domain_count


@kernel
def walk_living_sets(
    stage_start_ms, until_ms, work_ms, gap_ms,
    set_offsets, set_start_ms,
    unit_offsets, unit_priority, turn,
    deleted_ms, busy_until_ms, is_moved, duration_ms,
    unit_start_ms, unit_overdue_ms,
    totals,
):  # fmt: skip
    """As `walk_sets`, where VMs may be deleted before their unit starts: it hits those that are left.

    A unit with nobody left is done when that is so and its turn has come, even while its set rests: it takes no time
    and no gap, but its region is not free before (semantics.md 10). A unit that would end after *until_ms* does not
    start, nor does any after it in its set (semantics.md 33).

    Reads    deleted_ms     int64[V]  NEVER_MS where it is not
             busy_until_ms  int64[V]  the end of what its customer has started: until then its unit waits; else 0
             is_moved       bool[V]   whether it is updated by that, and so is not hit afterwards
             duration_ms    uint32[V] lengths as drawn
    Writes   unit_start_ms  int64[U]  NEVER_MS where nobody was left, or no room
    Updates  unit_overdue_ms int64[U] = NEVER_MS  when it was seen that there is no room
    Updates  totals         but what is counted of sets: DOWN_COUNT, DOWN_OF_COUNT, ONE_VM_COUNT, ONE_DOMAIN_COUNT
    """
    for set_row in range(set_offsets.shape[0] - 1):
        units = rows_of(set_offsets, set_row)
        _take_turns(units, unit_priority, turn)
        turn_ms = clock_ms = set_start_ms[set_row]
        walk_start_ms, walk_end_ms = np.int64(NEVER_MS), np.int64(0)
        set_work_ms = hit_domain_count = waited_ms = walk_waited_ms = np.int64(0)
        is_overdue = False
        for place in range(len(units)):
            unit = turn[place]
            is_overdue |= clock_ms >= until_ms
            if is_overdue:
                unit_start_ms[unit], unit_overdue_ms[unit] = NEVER_MS, min(clock_ms, until_ms)
                continue
            held_ms = last_deleted_ms = np.int64(0)
            begin_ms = clock_ms
            for row in rows_of(unit_offsets, unit):
                begin_ms = max(begin_ms, min(busy_until_ms[row], until_ms))
            for row in rows_of(unit_offsets, unit):
                if is_moved[row]:
                    last_deleted_ms = max(last_deleted_ms, busy_until_ms[row])
                    continue
                if deleted_ms[row] > begin_ms:
                    held_ms = max(held_ms, work_ms, np.int64(duration_ms[row]))
                last_deleted_ms = max(last_deleted_ms, deleted_ms[row])
            if hit_domain_count > 0:
                waited_ms += begin_ms - clock_ms
            clock_ms = begin_ms
            if held_ms == 0:
                unit_start_ms[unit] = NEVER_MS
                turn_ms = max(turn_ms, last_deleted_ms)
                continue
            if clock_ms + held_ms > until_ms:
                is_overdue = True
                unit_start_ms[unit], unit_overdue_ms[unit] = NEVER_MS, clock_ms
                continue
            unit_start_ms[unit] = clock_ms
            walk_start_ms = min(walk_start_ms, clock_ms)
            turn_ms = walk_end_ms = clock_ms + held_ms
            clock_ms = walk_end_ms + gap_ms
            walk_waited_ms = waited_ms
            set_work_ms += held_ms
            hit_domain_count += 1
        totals[FREE_MS] = max(totals[FREE_MS], turn_ms)
        if hit_domain_count == 0:
            continue
        totals[FIRST_START_MS] = min(totals[FIRST_START_MS], walk_start_ms)
        # Without what it waited for moves: another order might not have.
        totals[LONGEST_MS] = max(totals[LONGEST_MS], walk_end_ms - walk_start_ms - walk_waited_ms)
        if walk_end_ms > totals[END_MS]:
            totals[END_MS] = walk_end_ms
            totals[LAST_ROW] = unit_offsets[set_offsets[set_row]]
            totals[LAST_SPREAD_MS] = walk_start_ms - stage_start_ms
            totals[LAST_WORK_MS] = set_work_ms
            totals[LAST_GAP_MS] = walk_end_ms - walk_start_ms - set_work_ms
            totals[LAST_DOMAIN_COUNT] = hit_domain_count


@kernel
def start_vms(origin_ms, unit_offsets, unit_start_ms, start_ms):
    """Give each VM of a set the start of its unit, *origin_ms* later: unit_start_ms int64[U] -> start_ms int64[V]."""
    for unit in range(unit_start_ms.shape[0]):
        at_ms = origin_ms + unit_start_ms[unit]
        for row in rows_of(unit_offsets, unit):
            start_ms[row] = at_ms


@kernel
def sets_out_ms(set_offsets, unit_offsets, duration_ms):
    """Milliseconds in which all VMs of a set are out, summed over the sets of one domain: no other set is ever out.

    All VMs of such a set start together: it is out until the first of them is back.
    """
    sum_ms = np.int64(0)
    for set_row in range(set_offsets.shape[0] - 1):
        unit = set_offsets[set_row]
        if set_offsets[set_row + 1] - unit == 1:
            shortest_ms = duration_ms[unit_offsets[unit]]
            for row in rows_of(unit_offsets, unit):
                shortest_ms = min(shortest_ms, duration_ms[row])
            sum_ms += np.int64(shortest_ms)
    return sum_ms


@kernel
def walk_singles(stage_start_ms, work_ms, row_start, single_start_ms, duration_ms, totals):
    """Sum up the singles, which start when drawn.

    Reads    single_start_ms  int64[V]
             duration_ms      uint32[V]
             row_start        row in the block of the first of them
    Updates  totals           int64[TOTAL_COUNT]
    """
    first_start_ms, end_ms, longest_ms = totals[FIRST_START_MS], totals[END_MS], totals[LONGEST_MS]
    for row in range(duration_ms.shape[0]):
        held_ms = max(np.int64(duration_ms[row]), work_ms)
        first_start_ms = min(first_start_ms, single_start_ms[row])
        longest_ms = max(longest_ms, held_ms)
        end_ms = max(end_ms, single_start_ms[row] + held_ms)
    if end_ms > totals[END_MS]:
        # Which one ended last is looked up afterwards: kept along, it would stop the loop above from vectorising.
        row = 0
        while single_start_ms[row] + max(np.int64(duration_ms[row]), work_ms) < end_ms:
            row += 1
        totals[LAST_ROW] = row_start + row
        totals[LAST_SPREAD_MS] = single_start_ms[row] - stage_start_ms
        totals[LAST_WORK_MS] = end_ms - single_start_ms[row]
        totals[LAST_GAP_MS] = 0
        totals[LAST_DOMAIN_COUNT] = 1
    totals[FIRST_START_MS], totals[END_MS], totals[LONGEST_MS] = first_start_ms, end_ms, longest_ms
