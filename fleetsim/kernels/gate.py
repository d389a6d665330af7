"""Gate kernels: units that can hold one another back go through a stage together, from instant to instant.

A unit claims places. A place is a (set, domain), which is open while no other domain of the set is claimed and every
unit of an earlier position there has started; or a whole set, for a unit that hits several of its domains; or room for
so many VMs (or hosts) under a cap. A unit starts when all its places are open at once (semantics.md 14-21). Where
units of one set wait for nothing else, `walk` is equal and faster.

Units that could start at an instant are tried in one order, once: a start only takes, so one pass is enough. A unit
that cannot start waits at the first place that is closed to it. When a place opens only the first that waits there is
looked at, and after it the next, while the place stays open: no instant scans who waits. Who waits where, and who is
to be tried, are bits in the order of units (`bits`).

Nothing starves and nothing waits in a circle: a unit takes its places all at once or none, so who waits holds nothing;
each end frees what it held, and of those that then fit the first starts. A position is passed when its units have
started, which nothing but ends can delay; units are finite, each runs once, and one larger than its cap starts when
the cap is free (semantics.md 19, 21).

Axes: U = units; W = walkers; V = VMs, by unit and place; S = sets; P = places; R = resources, which are the sets, then
the cap groups (a region, zone or cluster under one cap); C = caps; Z = zones where these take turns, else one; K =
claims, a row a unit and (set, domain); M = needs, a row a unit and cap group; E = entries, a row a unit and place it
can wait at. Units are in the order of stable keys, their ranks in the order in which they are tried, cell by cell.
Times are int64 ms since scenario.start.
"""

import numpy as np

from fleetsim.kernels import bits
from fleetsim.kernels.jit import kernel, rows_of
from fleetsim.schema import NEVER_MS, WaitedFor

NONE = -1

# States of a unit.
_FAR = 0  # its earliest start has not come
_WAITING = 1
_AT_WORK = 2
_DONE = 3

_CLAIM, _GAP, _CAP = np.int8(WaitedFor.CLAIM), np.int8(WaitedFor.GAP), np.int8(WaitedFor.CAP)
_ZONE = np.int8(WaitedFor.ZONE)


# ---- What units need ----------------------------------------------------------------------------------------


@kernel
def count_needs(set_count, vm_offsets, vm_place, vm_group, met, claim_offsets, need_offsets):
    """How many claims and needs each unit has.

    Reads    vm_offsets int64[U+1], vm_place int64[V] rising within the unit, NONE for singles
             vm_group   int64[C, V]  under each cap, counted from 0: as resources they come after the sets
    Scratch  met        int64[R] = NONE
    Writes   claim_offsets, need_offsets int64[U+1]
    """
    claims = needs = np.int64(0)
    for unit in range(vm_offsets.shape[0] - 1):
        claim_offsets[unit], need_offsets[unit] = claims, needs
        before = np.int64(NONE)
        for row in rows_of(vm_offsets, unit):
            if vm_place[row] != before:
                claims += np.int64(vm_place[row] != NONE)
                before = vm_place[row]
            for cap in range(vm_group.shape[0]):
                group = vm_group[cap, row]
                if group != NONE and met[set_count + group] != unit:
                    met[set_count + group] = unit
                    needs += 1
    claim_offsets[-1], need_offsets[-1] = claims, needs


@kernel
def fill_needs(
    set_count, vm_offsets, vm_place, vm_group, duration_ms, claim_offsets, need_offsets, met,
    counts_one, claim_place, claim_left, need_group, need_left, most_needed, longest_ms, left,
):  # fmt: skip
    """What each unit claims and needs, as `count_needs` counted.

    Scratch  met         int64[R]
    Writes   claim_place, claim_left int64[K]  (set, domain) and how many VMs the unit has there
             need_group, need_left   int64[M]  cap group and how many VMs
             longest_ms  int64[U] longest impact of a VM; left int64[U] VMs
    Updates  most_needed int64[R] the most any unit needs of a cap group
    """
    for unit in range(vm_offsets.shape[0] - 1):
        claim, need_start, need_stop = claim_offsets[unit] - 1, need_offsets[unit], need_offsets[unit]
        before, longest = np.int64(NONE), np.int64(0)
        rows = rows_of(vm_offsets, unit)
        left[unit] = len(rows)
        for row in rows:
            longest = max(longest, np.int64(duration_ms[row]))
            place = vm_place[row]
            if place != NONE:
                if place != before:
                    claim += 1
                    claim_place[claim], claim_left[claim] = place, 0
                    before = place
                claim_left[claim] += 1
            for cap in range(vm_group.shape[0]):
                group = vm_group[cap, row]
                if group == NONE:
                    continue
                group += set_count
                need = met[group]
                if not (need_start <= need < need_stop and need_group[need] == group):
                    need = need_stop
                    need_stop += 1
                    met[group], need_group[need], need_left[need] = need, group, 0
                need_left[need] += 1
        longest_ms[unit] = longest
        for need in range(need_start, need_stop):
            group = need_group[need]
            most_needed[group] = max(most_needed[group], 1 if counts_one[group] else need_left[need])


@kernel
def weigh_caps(
    vm_offsets, vm_group, counts_hosts, most, created_ms, deleted_ms, unit_start_ms, unit_end_ms, asked, load
):  # fmt: skip
    """What the units took of each cap group in all, in ms times VMs or hosts; one larger than its cap took all of it.

    Scratch  asked  int64[G] = 0
    Updates  load   int64[G]
    """
    for unit in range(unit_start_ms.shape[0]):
        start_ms = unit_start_ms[unit]
        if start_ms == NEVER_MS:
            continue
        for cap in range(vm_group.shape[0]):
            for row in rows_of(vm_offsets, unit):
                group = vm_group[cap, row]
                if group != NONE and created_ms[row] <= start_ms < deleted_ms[row]:
                    asked[group] = 1 if counts_hosts[group] else asked[group] + 1
            for row in rows_of(vm_offsets, unit):
                group = vm_group[cap, row]
                if group != NONE and asked[group]:
                    load[group] += min(asked[group], most[group]) * (unit_end_ms[unit] - start_ms)
                    asked[group] = 0


@kernel
def _root_of(resource, parent):
    while parent[resource] != resource:
        parent[resource] = parent[parent[resource]]
        resource = parent[resource]
    return resource


@kernel
def find_components(host, set_row, first_set, parent):
    """Join sets that share a host: host, set_row int64[N], a row a VM in a set; NONE for hosts that join nobody.

    Updates  first_set  int64[hosts] = NONE  of each
    Writes   parent     int64[S]  the first set of each set's component
    """
    for set_ in range(parent.shape[0]):
        parent[set_] = set_
    for row in range(host.shape[0]):
        if host[row] == NONE:
            continue
        if first_set[host[row]] == NONE:
            first_set[host[row]] = set_row[row]
        one, other = _root_of(first_set[host[row]], parent), _root_of(set_row[row], parent)
        parent[max(one, other)] = min(one, other)
    for set_ in range(parent.shape[0]):
        parent[set_] = _root_of(set_, parent)


@kernel
def _joined(root, resource, parent):
    """Join *resource* to those of *root*, which may be NONE. Returns the root of both."""
    other = _root_of(resource, parent)
    if root != NONE:
        parent[root] = other
    return other


@kernel
def find_cells(set_count, vm_offsets, vm_place, vm_group, set_of_place, parent, number, cell):
    """Number the cells, groups of units that can affect one another, by the resources they share.

    Reads    vm_*  as in `count_needs`; set_of_place int64[]
    Scratch  parent  int64[R]; number int64[R] = NONE
    Writes   cell    int64[U]  from 0, in the order of their first units
    Returns how many cells there are.
    """
    for resource in range(parent.shape[0]):
        parent[resource] = resource
    unit_count = cell.shape[0]
    for unit in range(unit_count):
        root, before = np.int64(NONE), np.int64(NONE)
        for row in rows_of(vm_offsets, unit):
            if vm_place[row] != before and vm_place[row] != NONE:
                before = vm_place[row]
                root = _joined(root, set_of_place[before], parent)
            for cap in range(vm_group.shape[0]):
                group = vm_group[cap, row]
                is_new = row == vm_offsets[unit] or group != vm_group[cap, row - 1]
                if is_new and group != NONE:
                    root = _joined(root, set_count + group, parent)
        cell[unit] = root
    count = np.int64(0)
    for unit in range(unit_count):
        if cell[unit] == NONE:  # neither in a set nor under a cap
            cell[unit] = count
            count += 1
            continue
        root = _root_of(cell[unit], parent)
        if number[root] == NONE:
            number[root] = count
            count += 1
        cell[unit] = number[root]
    return count


@kernel
def rank_units(walker_order, walker_offsets, position, cell, position_count, bucket_offsets, order):
    """Put units in the order in which they are tried: by cell, position, and the order of their walkers.

    Reads    walker_order int64[W], walker_offsets int64[W+1] units of each; position, cell int64[U]
    Scratch  bucket_offsets int64[cells * position_count + 1] = 0
    Writes   order int64[U]
    """
    for unit in range(order.shape[0]):
        bucket_offsets[cell[unit] * position_count + position[unit] + 1] += 1
    for bucket in range(bucket_offsets.shape[0] - 1):
        bucket_offsets[bucket + 1] += bucket_offsets[bucket]
    for walker in walker_order:
        for unit in range(walker_offsets[walker], walker_offsets[walker + 1]):
            bucket = cell[unit] * position_count + position[unit]
            order[bucket_offsets[bucket]] = unit
            bucket_offsets[bucket] += 1


@kernel
def put_by_rank(order, offsets, names, counts, new_offsets, new_names, new_counts):
    """Rows of units, their claims or needs, in the order of the units' ranks.

    Reads    order int64[U]; offsets int64[U+1] rows of each unit; names, counts int64[rows]
    Writes   new_offsets int64[U+1]; new_names, new_counts int64[rows]
    """
    place = np.int64(0)
    for rank in range(order.shape[0]):
        new_offsets[rank] = place
        for row in rows_of(offsets, order[rank]):
            new_names[place], new_counts[place] = names[row], counts[row]
            place += 1
    new_offsets[-1] = place


@kernel
def put_by_unit(
    order, start_ms, end_ms, overdue_ms, waited_for, waited_unit,
    new_start_ms, new_end_ms, new_overdue_ms, new_waited_for, new_waited_unit,
):  # fmt: skip
    """What `run_gate` found of units that stand by rank, in their own order: [U] each, by *order* int64[U]."""
    for rank in range(order.shape[0]):
        unit = order[rank]
        new_start_ms[unit], new_end_ms[unit], new_overdue_ms[unit] = start_ms[rank], end_ms[rank], overdue_ms[rank]
        new_waited_for[unit] = waited_for[rank]
        new_waited_unit[unit] = NONE if waited_unit[rank] == NONE else order[waited_unit[rank]]


@kernel
def number_sets(claim_place, resource_of, set_places, number, set_order, new_place):
    """Number sets anew, in the order in which units claim them.

    Reads    claim_place  int64[K], by the rank of the unit; resource_of int64[P]; set_places int64[S+1] places of each
    Scratch  number       int64[S] = NONE
    Writes   set_order    int64[S]  the set of each new number
             new_place    int64[K]  claim_place by new numbers
    """
    count = np.int64(0)
    for place in claim_place:
        if number[resource_of[place]] == NONE:
            number[resource_of[place]] = count
            set_order[count] = resource_of[place]
            count += 1
    for set_ in range(number.shape[0]):  # those that nobody claims
        if number[set_] == NONE:
            number[set_] = count
            set_order[count] = set_
            count += 1
    start = np.int64(0)
    for rank in range(number.shape[0]):
        number[set_order[rank]] = start
        start += set_places[set_order[rank] + 1] - set_places[set_order[rank]]
    for claim in range(claim_place.shape[0]):
        set_ = resource_of[claim_place[claim]]
        new_place[claim] = number[set_] + claim_place[claim] - set_places[set_]


@kernel
def sum_walks(walker_offsets, unit_start_ms, unit_end_ms, hit_count, held_ms, walk_end_ms):
    """Of each walker the units that hit somebody, how long they were held in all, and the last end: int64[W] each."""
    for walker in range(walker_offsets.shape[0] - 1):
        hits = held = last = np.int64(0)
        for unit in range(walker_offsets[walker], walker_offsets[walker + 1]):
            if unit_start_ms[unit] < NEVER_MS:
                hits += 1
                held += unit_end_ms[unit] - unit_start_ms[unit]
                last = max(last, unit_end_ms[unit])
        hit_count[walker], held_ms[walker], walk_end_ms[walker] = hits, held, last


@kernel
def sum_chain(last, gap_ms, stage_start_ms, unit_start_ms, unit_end_ms, earliest_ms, waited_for, waited_unit):
    """What the units that led, one letting the next start, to the end of unit *last* spent their time with.

    Returns how many they are, and in ms the first one's wait within `spread`, work, gaps and waits for caps: these sum
    up to the time from the stage's start.
    """
    count, gaps_ms, caps_ms = np.int64(1), np.int64(0), np.int64(0)
    unit = last
    while waited_unit[unit] != NONE:
        before = waited_unit[unit]
        if waited_for[unit] == _CAP:
            caps_ms += unit_start_ms[unit] - unit_start_ms[before]
        elif waited_for[unit] != _ZONE:
            gaps_ms += gap_ms
        unit = before
        count += 1
    spread_ms = earliest_ms[unit] - stage_start_ms
    caps_ms += unit_start_ms[unit] - earliest_ms[unit]  # for units that never started, as all their VMs had gone
    work_ms = unit_end_ms[last] - stage_start_ms - spread_ms - gaps_ms - caps_ms
    return count, spread_ms, work_ms, gaps_ms, caps_ms


@kernel
def _first_of_set(claim, claim_start, claim_place, resource_of):
    """The first claim that the unit of *claim* has of the same set."""
    while claim > claim_start and resource_of[claim_place[claim - 1]] == resource_of[claim_place[claim]]:
        claim -= 1
    return claim


@kernel
def count_entries(
    claim_offsets, claim_place, need_offsets, need_group, need_left, counts_one, resource_of, place_offsets,
    is_changing, entry_offsets, slot_offsets,
):  # fmt: skip
    """Where each place keeps who waits: entry_offsets int64[P+1], and slot_offsets int64[M+1] into `need_entry`."""
    entry_offsets[:] = 0
    slots = np.int64(0)
    for unit in range(claim_offsets.shape[0] - 1):
        for claim in range(claim_offsets[unit], claim_offsets[unit + 1]):
            place = claim_place[claim]
            entry_offsets[place + 1] += 1
            if claim == _first_of_set(claim, claim_offsets[unit], claim_place, resource_of) + 1:
                entry_offsets[place_offsets[resource_of[place]] + 1] += 1
        for need in range(need_offsets[unit], need_offsets[unit + 1]):
            slot_offsets[need] = slots
            group = need_group[need]
            most = np.int64(1) if counts_one[group] else need_left[need]
            for needed in range(1 if is_changing else most, most + 1):
                entry_offsets[place_offsets[group] + needed] += 1
                slots += 1
    slot_offsets[-1] = slots
    for place in range(entry_offsets.shape[0] - 1):
        entry_offsets[place + 1] += entry_offsets[place]


@kernel
def fill_entries(
    order, claim_offsets, claim_place, need_offsets, need_group, need_left, counts_one, resource_of, place_offsets,
    is_changing, entry_offsets, slot_offsets, filled,
    claim_entry, whole_entry, need_entry, rank_of_entry,
):  # fmt: skip
    """Give each unit its entries, in each place by rank.

    Scratch  filled       int64[P] = 0
    Writes   claim_entry  int64[K]  at the (set, domain)
             whole_entry  int64[K]  at the whole set, on the first claim of a unit that has several of one set
             need_entry   int64[slots]  at the cap group, for each number it may need
             rank_of_entry int64[E]
    """
    for rank in range(order.shape[0]):
        unit = order[rank]
        for claim in range(claim_offsets[unit], claim_offsets[unit + 1]):
            place = claim_place[claim]
            claim_entry[claim] = entry_offsets[place] + filled[place]
            filled[place] += 1
            rank_of_entry[claim_entry[claim]] = rank
            first = _first_of_set(claim, claim_offsets[unit], claim_place, resource_of)
            if claim == first + 1:
                whole = place_offsets[resource_of[place]]
                whole_entry[first] = entry_offsets[whole] + filled[whole]
                filled[whole] += 1
                rank_of_entry[whole_entry[first]] = rank
        for need in range(need_offsets[unit], need_offsets[unit + 1]):
            group = need_group[need]
            most = np.int64(1) if counts_one[group] else need_left[need]
            slot = slot_offsets[need]
            for needed in range(1 if is_changing else most, most + 1):
                place = place_offsets[group] + needed - 1
                need_entry[slot] = entry_offsets[place] + filled[place]
                filled[place] += 1
                rank_of_entry[need_entry[slot]] = rank
                slot += 1


# ---- The agenda ---------------------------------------------------------------------------------------------


@kernel
def _push(ms, unit, heap_ms, heap_unit, size):
    """Put the end of *unit* on the agenda at *ms*: a binary heap of *size*, by instant. Returns its new size."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap_ms[parent] <= ms:
            break
        heap_ms[place], heap_unit[place] = heap_ms[parent], heap_unit[parent]
        place = parent
    heap_ms[place], heap_unit[place] = ms, unit
    return size + 1


@kernel
def _pop(heap_ms, heap_unit, size):
    """Take the first end off the agenda, which has *size* of them; which of an instant comes first decides nothing."""
    first = heap_unit[0]
    size -= 1
    ms, unit = heap_ms[size], heap_unit[size]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap_ms[child + 1] < heap_ms[child]:
            child += 1
        if ms <= heap_ms[child]:
            break
        heap_ms[place], heap_unit[place] = heap_ms[child], heap_unit[child]
        place = child
    heap_ms[place], heap_unit[place] = ms, unit
    return first


# ---- The gate -----------------------------------------------------------------------------------------------


@kernel
def _change(
    by, row, unit, set_count, vm_place, vm_group, claim_offsets, claim_place, need_offsets, need_group,
    claim_left, need_left, left,
):  # fmt: skip
    """Note that *unit* has *by* VMs more, where the VM at *row* is."""
    left[unit] += by
    for claim in range(claim_offsets[unit], claim_offsets[unit + 1]):
        if claim_place[claim] == vm_place[row]:
            claim_left[claim] += by
    for need in range(need_offsets[unit], need_offsets[unit + 1]):
        for cap in range(vm_group.shape[0]):
            if need_group[need] == set_count + vm_group[cap, row]:
                need_left[need] += by


@kernel
def _is_open(place, set_, place_offsets, claimed):
    """Whether a unit whose turn has come may claim *place* of a set."""
    is_joined = claimed[set_] == place and place != place_offsets[set_]
    return claimed[set_] == NONE or is_joined


@kernel
def _released_by(
    unit, end_ms, first_row, claim_offsets, claim_place, claim_left, resource_of, last_end_ms, last_unit, last_place,
):  # fmt: skip
    """The first unit that ended at *end_ms*, as the last one of another domain of a set that *unit* claims."""
    found, before = np.int64(NONE), np.int64(NONE)
    for claim in range(claim_offsets[unit], claim_offsets[unit + 1]):
        set_ = resource_of[claim_place[claim]]
        if claim_left[claim] == 0:
            continue
        # Of a set of which it hits several domains it claims all: whoever had any of it kept it waiting.
        is_other = last_place[set_] != claim_place[claim] or set_ == before
        before = set_
        if not is_other or last_end_ms[set_] != end_ms:
            continue
        if found == NONE or first_row[last_unit[set_]] < first_row[found]:
            found = last_unit[set_]
    return found


@kernel
def _leave(unit, waits_at, waits_entry, waiting, waiting_levels):
    """Note that *unit* waits at its place no longer."""
    bits.remove(waiting, waiting_levels, waits_entry[unit])
    waits_at[unit] = NONE


@kernel
def _open_zone(zone, zone_left, zone_ranks, order, state, waits_at, ready, ready_levels):
    """Have the units be tried of the first zone after *zone* that is not done; return it, or the last."""
    while zone_left[zone] == 0 and zone + 1 < zone_left.shape[0]:
        zone += 1
    for rank in range(zone_ranks[zone], zone_ranks[zone + 1]):
        if state[order[rank]] == _WAITING and waits_at[order[rank]] == NONE:
            bits.add(ready, ready_levels, rank)
    return zone


@kernel
def run_gate(
    work_ms, gap_ms, until_ms, set_count,
    order, rank_of, cell_units, opening, cell_openings, earliest_ms, first_row, waits_turn, walker_offsets, walker,
    zone_ranks, zone_of,
    vm_offsets, vm_place, vm_group, duration_ms, created_ms, deleted_ms,
    deletions, cell_deletions, creations, cell_creations, unit_of_row,
    claim_offsets, claim_place, claim_left, claim_entry, whole_entry,
    need_offsets, need_group, need_left, slot_offsets, need_entry, counts_one, is_changing,
    place_offsets, resource_of, entry_offsets, rank_of_entry, is_ordered, limit,
    agenda_ms, agenda_unit, resting_ms, resting, ready, ready_levels, waiting, waiting_levels,
    state, waits_at, waits_entry, longest_ms, left, unstarted, front, claimed, at_work, release_ms, used,
    woken, woken_ms, last_end_ms, last_unit, last_place, zone_left,
    unit_start_ms, unit_end_ms, unit_overdue_ms, waited_for, waited_unit,
):  # fmt: skip
    """Start every unit of a stage. Returns how many are not done in the end: none, or the argument above is wrong.

    A unit that would end after *until_ms* when nothing else keeps it does not start, nor does any later one of its
    walker; at *until_ms* that is so of all that still wait (semantics.md 33).

    Reads    order          int64[U]    unit of each rank; rank_of int64[U] the reverse
             cell_units     int64[]     how many units each cell has
             opening        int64[]     ranks of units whose earliest start must be waited for, by cell and that
             cell_openings  int64[]     offsets of cells in it
             earliest_ms    int64[U];   first_row int64[U] what decides which of several units is told of
             waits_turn     bool[U]     the others, which wait for their turn in their one set from the start
             walker_offsets int64[W+1]  units of each walker; walker int64[U]
             zone_ranks     int64[Z+1]  ranks of the units of each zone, one after the other; zone_of int64[U]
             vm_*           int64[V]    as in `count_needs`
             duration_ms    uint32[V]
             created_ms     int64[V]    -NEVER_MS where it is there from the start
             deleted_ms     int64[V]    NEVER_MS where it is not
             deletions      int64[]     rows that are deleted, by cell and instant; cell_deletions: offsets of cells
             creations      int64[]     the same of those that are created
             unit_of_row    int64[V]
             claim_*, need_*, *_entry   as filled above; `claim_left`, `need_left` and `left` change as VMs come and go
             counts_one     bool[R]     cap groups under which a unit counts as one
             is_changing    bool        whether VMs come or go
             place_offsets  int64[R+1]  places of each resource: of a set first the whole of it, then its domains; of a
                                        cap group those for units that need one of it, two, and so on
             resource_of    int64[P]
             is_ordered     bool[S]     whether domains, in the order of their places, have to start in turn
             limit          int64[R]    VMs or hosts that may be at work; of cap groups
    Scratch  agenda_*       int64[U]    who ends when
             resting_ms, resting int64[K]  when gaps pass, and of which set: ends come in order, so gaps do, and they
                                        need no heap; one in which the set was at work again counts for nothing
             ready, waiting uint64[] = 0, sets of ranks and of entries, with levels as `bits` has them
             state int8[U] = 0; waits_at, waits_entry int64[U] = NONE; unstarted int64[P] = 0; front int64[S]
             claimed int64[S] = NONE; at_work int64[S] = 0; release_ms int64[S]; used int64[R] = 0
             woken int64[R]; woken_ms int64[R] = -1
             last_end_ms, last_unit int64[R] = NONE, last_place int64[S] = NONE: who ended last there, the first of
             several, and what of the set that one had claimed
             zone_left int64[Z]  units of each that are not done
    Writes   unit_start_ms  int64[U]    NEVER_MS where nobody was left, or no room
             unit_end_ms    int64[U]    or when that was seen
    Updates  unit_overdue_ms int64[U] = NEVER_MS  when it was seen that there is no room
    Updates  waited_for     int8[U] = NONE  of those that did not start when they first might: a claim or gap if a set
                                        of its own was released to it just then, else a cap if there came room
             waited_unit    int64[U] = NONE  whose end that was, the first of several
    """
    unit_count = order.shape[0]
    for unit in range(unit_count):
        unit_start_ms[unit] = NEVER_MS
        for claim in range(claim_offsets[unit], claim_offsets[unit + 1]):
            unstarted[claim_place[claim]] += 1
        if waits_turn[unit]:
            claim = claim_offsets[unit]
            state[unit] = _WAITING
            waits_at[unit], waits_entry[unit] = claim_place[claim], claim_entry[claim]
            bits.add(waiting, waiting_levels, claim_entry[claim])
    for row in creations:
        _change(
            -1, row, unit_of_row[row], set_count, vm_place, vm_group, claim_offsets, claim_place,
            need_offsets, need_group, claim_left, need_left, left,
        )  # fmt: skip
    for set_ in range(set_count):
        front[set_] = NONE
        if is_ordered[set_]:
            front[set_] = place_offsets[set_] + 1
            while front[set_] < place_offsets[set_ + 1] and unstarted[front[set_]] == 0:
                front[set_] += 1

    zone, zone_end_ms, zone_end_unit, zone_open_ms = np.int64(0), np.int64(NONE), np.int64(NONE), np.int64(NONE)
    first_rank = np.int64(0)
    for cell in range(cell_units.shape[0]):
        open_count, agenda_size = cell_units[cell], np.int64(0)
        rested = resting_stop = np.int64(0)
        opened, opening_stop = cell_openings[cell], cell_openings[cell + 1]
        deleted, deletions_stop = cell_deletions[cell], cell_deletions[cell + 1]
        created, creations_stop = cell_creations[cell], cell_creations[cell + 1]
        while open_count:
            now = np.int64(NEVER_MS)
            if opened < opening_stop:
                now = earliest_ms[order[opening[opened]]]
            if agenda_size:
                now = min(now, agenda_ms[0])
            if rested < resting_stop:
                now = min(now, resting_ms[rested])
            if deleted < deletions_stop:
                now = min(now, deleted_ms[deletions[deleted]])
            if created < creations_stop:
                now = min(now, created_ms[creations[created]])
            if now >= until_ms:  # whoever is at work has ended by then
                for rank in range(first_rank, first_rank + cell_units[cell]):
                    unit = order[rank]
                    if state[unit] <= _WAITING:
                        unit_end_ms[unit], unit_overdue_ms[unit] = until_ms, until_ms
                        if waits_at[unit] != NONE:
                            _leave(unit, waits_at, waits_entry, waiting, waiting_levels)
                break
            if now == NEVER_MS:
                return open_count
            woken_count = 0
            lowest = np.int64(unit_count)  # rank to be tried
            # Ends, and gaps that have passed: both only open places, and nothing starts yet.
            while rested < resting_stop and resting_ms[rested] == now:
                set_ = resting[rested]
                rested += 1
                if at_work[set_] == 0 and release_ms[set_] == now:  # and was not joined in its gap
                    claimed[set_] = NONE
                    woken[woken_count] = set_
                    woken_count += 1
            while agenda_size and agenda_ms[0] == now:
                unit = _pop(agenda_ms, agenda_unit, agenda_size)
                agenda_size -= 1
                state[unit] = _DONE
                open_count -= 1
                zone_left[zone_of[unit]] -= 1
                if zone_end_ms != now or first_row[unit] < first_row[zone_end_unit]:
                    zone_end_ms, zone_end_unit = now, unit
                before = np.int64(NONE)
                for claim in range(claim_offsets[unit], claim_offsets[unit + 1]):
                    set_ = resource_of[claim_place[claim]]
                    if claim_left[claim] == 0 or set_ == before:
                        continue
                    before = set_
                    if last_end_ms[set_] != now or first_row[unit] < first_row[last_unit[set_]]:
                        last_unit[set_] = unit
                    last_end_ms[set_], last_place[set_] = now, claimed[set_]
                    at_work[set_] -= 1
                    if at_work[set_]:
                        continue
                    if gap_ms == 0:
                        claimed[set_] = NONE
                        woken[woken_count] = set_
                        woken_count += 1
                        continue
                    release_ms[set_] = resting_ms[resting_stop] = now + gap_ms
                    resting[resting_stop] = set_
                    resting_stop += 1
                for need in range(need_offsets[unit], need_offsets[unit + 1]):
                    group = need_group[need]
                    used[group] -= min(need_left[need], 1) if counts_one[group] else need_left[need]
                    if last_end_ms[group] != now or first_row[unit] < first_row[last_unit[group]]:
                        last_unit[group] = unit
                    last_end_ms[group] = now
                    if woken_ms[group] != now:
                        woken_ms[group] = now
                        woken[woken_count] = group
                        woken_count += 1
            # Who is deleted needs no claim and no room; who is created on a unit that waits is one of its own.
            while True:
                if deleted < deletions_stop and deleted_ms[deletions[deleted]] == now:
                    row, by = deletions[deleted], np.int64(-1)
                    deleted += 1
                elif created < creations_stop and created_ms[creations[created]] == now:
                    row, by = creations[created], np.int64(1)
                    created += 1
                else:
                    break
                unit = unit_of_row[row]
                if state[unit] >= _AT_WORK:
                    continue
                _change(
                    by, row, unit, set_count, vm_place, vm_group, claim_offsets, claim_place,
                    need_offsets, need_group, claim_left, need_left, left,
                )  # fmt: skip
                if state[unit] == _WAITING:
                    rank = rank_of[unit]
                    if waits_at[unit] != NONE:
                        _leave(unit, waits_at, waits_entry, waiting, waiting_levels)
                    bits.add(ready, ready_levels, rank)
                    lowest = min(lowest, rank)
            while opened < opening_stop and earliest_ms[order[opening[opened]]] == now:
                rank = opening[opened]
                opened += 1
                if state[order[rank]] == _DONE:
                    continue  # overdue before it might have started
                state[order[rank]] = _WAITING
                bits.add(ready, ready_levels, rank)
                lowest = min(lowest, rank)
            for i in range(woken_count):
                resource = woken[i]
                place, stop = place_offsets[resource], place_offsets[resource + 1]
                if resource >= set_count:
                    if used[resource]:
                        stop = min(stop, place + max(0, limit[resource] - used[resource]))
                elif front[resource] != NONE:
                    place = front[resource]
                    stop = min(stop, place + 1)
                # The first of each place; places follow one another.
                while place < stop:
                    entry = bits.first_from(waiting, waiting_levels, entry_offsets[place])
                    if entry == NONE or entry >= entry_offsets[stop]:
                        break
                    rank = rank_of_entry[entry]
                    bits.add(ready, ready_levels, rank)
                    lowest = min(lowest, rank)
                    place = waits_at[order[rank]] + 1
            if zone_left[zone] == 0:
                zone = _open_zone(zone, zone_left, zone_ranks, order, state, waits_at, ready, ready_levels)
                zone_open_ms = now
                opened_rank = bits.first_from(ready, ready_levels, zone_ranks[zone])
                lowest = lowest if opened_rank == NONE else min(lowest, opened_rank)
            # Starts. Whom a start lets try has a higher rank, so the smallest that is left is always next.
            rank = np.int64(NONE) if lowest == unit_count else lowest
            while rank != NONE:
                bits.remove(ready, ready_levels, rank)
                unit = order[rank]
                if state[unit] != _WAITING:  # overdue by now
                    rank = bits.first_from(ready, ready_levels, rank + 1)
                    continue
                place = waits_at[unit]
                if zone_of[unit] > zone:
                    # Looked at again when its zone's turn comes. All it can have waited for is its own turn: no other
                    # waits where it did.
                    if place != NONE:
                        _leave(unit, waits_at, waits_entry, waiting, waiting_levels)
                    rank = bits.first_from(ready, ready_levels, rank + 1)
                    continue
                resource = resource_of[place] if place != NONE else np.int64(NONE)
                if resource == NONE:
                    is_tried = True
                elif resource < set_count:
                    # Where VMs come and go it may wait for the turn only.
                    is_tried = is_changing or _is_open(place, resource, place_offsets, claimed)
                else:
                    needed = place - place_offsets[resource] + 1
                    is_tried = used[resource] == 0 or used[resource] + needed <= limit[resource]
                if not is_tried:
                    rank = bits.first_from(ready, ready_levels, rank + 1)
                    continue

                closed = closed_entry = np.int64(NONE)
                claim, claim_stop = claim_offsets[unit], claim_offsets[unit + 1]
                while claim < claim_stop and closed == NONE:
                    set_ = resource_of[claim_place[claim]]
                    first, wanted, entry = claim, np.int64(NONE), np.int64(NONE)
                    while claim < claim_stop and resource_of[claim_place[claim]] == set_:
                        if closed == NONE and front[set_] != NONE and front[set_] != claim_place[claim]:
                            # It waits for its turn in every set that it has, or had, or will have VMs of.
                            closed, closed_entry = claim_place[claim], claim_entry[claim]
                        if claim_left[claim]:
                            is_first = wanted == NONE
                            wanted = claim_place[claim] if is_first else place_offsets[set_]
                            entry = claim_entry[claim] if is_first else whole_entry[first]
                        claim += 1
                    if closed == NONE and wanted != NONE and not _is_open(wanted, set_, place_offsets, claimed):
                        closed, closed_entry = wanted, entry
                for need in range(need_offsets[unit], need_offsets[unit + 1]):
                    group = need_group[need]
                    needed = min(need_left[need], 1) if counts_one[group] else need_left[need]
                    if closed == NONE and needed and used[group] and used[group] + needed > limit[group]:
                        closed = place_offsets[group] + needed - 1
                        closed_entry = need_entry[slot_offsets[need] + (needed - 1 if is_changing else 0)]

                entry_before = waits_entry[unit]
                if place != NONE:
                    bits.remove(waiting, waiting_levels, entry_before)
                waits_at[unit], waits_entry[unit] = closed, closed_entry
                held_ms = np.int64(work_ms)
                if closed != NONE:
                    bits.add(waiting, waiting_levels, closed_entry)
                elif is_changing:
                    for row in range(vm_offsets[unit], vm_offsets[unit + 1]):
                        if created_ms[row] <= now < deleted_ms[row]:
                            held_ms = max(held_ms, np.int64(duration_ms[row]))
                else:
                    held_ms = max(held_ms, longest_ms[unit])
                is_overdue = closed == NONE and left[unit] > 0 and now + held_ms > until_ms
                if is_overdue:
                    for each in range(walker_offsets[walker[unit]], walker_offsets[walker[unit] + 1]):
                        if state[each] > _WAITING:
                            continue
                        state[each] = _DONE
                        open_count -= 1
                        zone_left[zone_of[each]] -= 1
                        unit_end_ms[each], unit_overdue_ms[each] = now, now
                        if waits_at[each] != NONE:
                            _leave(each, waits_at, waits_entry, waiting, waiting_levels)
                elif closed == NONE and left[unit]:
                    is_late = now > earliest_ms[unit]
                    if is_late and zone_open_ms == now and zone_end_ms == now:
                        waited_for[unit], waited_unit[unit] = _ZONE, zone_end_unit
                    elif is_late:
                        waited_unit[unit] = _released_by(
                            unit, now - gap_ms, first_row, claim_offsets, claim_place, claim_left, resource_of,
                            last_end_ms, last_unit, last_place,
                        )  # fmt: skip
                        waited_for[unit] = _CLAIM if gap_ms == 0 else _GAP
                        if waited_unit[unit] == NONE:
                            waited_for[unit] = NONE
                            for need in range(need_offsets[unit], need_offsets[unit + 1]):
                                group = need_group[need]
                                if need_left[need] and last_end_ms[group] == now:
                                    other = last_unit[group]
                                    if waited_for[unit] == NONE or first_row[other] < first_row[waited_unit[unit]]:
                                        waited_unit[unit] = other
                                    waited_for[unit] = _CAP
                    state[unit] = _AT_WORK
                    unit_start_ms[unit], unit_end_ms[unit] = now, now + held_ms
                    agenda_size = _push(now + held_ms, unit, agenda_ms, agenda_unit, agenda_size)
                    for need in range(need_offsets[unit], need_offsets[unit + 1]):
                        group = need_group[need]
                        used[group] += min(need_left[need], 1) if counts_one[group] else need_left[need]
                elif closed == NONE:
                    state[unit] = _DONE
                    open_count -= 1
                    zone_left[zone_of[unit]] -= 1
                    unit_end_ms[unit] = now
                if closed == NONE:
                    before = np.int64(NONE)
                    for claim in range(claim_offsets[unit], claim_offsets[unit + 1]):
                        wanted = claim_place[claim]
                        set_ = resource_of[wanted]
                        if claim_left[claim] and not is_overdue:
                            claimed[set_] = wanted if set_ != before else place_offsets[set_]
                            at_work[set_] += np.int64(set_ != before)
                            before = set_
                        unstarted[wanted] -= 1
                        if front[set_] != wanted or unstarted[wanted]:
                            continue
                        # Whose turn comes next is tried: nobody to hit needs no more than the turn.
                        stop = place_offsets[set_ + 1]
                        while wanted < stop and unstarted[wanted] == 0:
                            wanted += 1
                        front[set_] = wanted
                        if wanted == stop or (claimed[set_] != NONE and not is_changing):
                            continue
                        entry = bits.first_from(waiting, waiting_levels, entry_offsets[wanted])
                        while entry != NONE and entry < entry_offsets[wanted + 1]:
                            bits.add(ready, ready_levels, rank_of_entry[entry])
                            entry = bits.first_from(waiting, waiting_levels, entry + 1)
                if place != NONE:
                    # The next that waits where this one did.
                    entry = bits.first_from(waiting, waiting_levels, entry_before + 1)
                    if entry != NONE and entry < entry_offsets[place + 1]:
                        bits.add(ready, ready_levels, rank_of_entry[entry])
                if zone_left[zone] == 0 and zone_ranks[zone + 1] < unit_count:  # nobody was left of it, or no room
                    zone = _open_zone(zone, zone_left, zone_ranks, order, state, waits_at, ready, ready_levels)
                    zone_open_ms = now
                rank = bits.first_from(ready, ready_levels, rank + 1)
        first_rank += cell_units[cell]
    return np.int64(0)
