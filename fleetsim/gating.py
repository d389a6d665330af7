"""Units that can hold one another back: what a stage with caps gives to the gate kernels, and gets back.

Sets and singles of a region become units, their domains and the caps become places to claim; see `kernels.gate`.
"""

import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fleetsim.blocks import Bools, Cut, Int64s, owners
from fleetsim.kernels import bits, gate
from fleetsim.schema import NEVER_MS, UPDATE_DOMAIN_COUNT_MAX


@dataclass(frozen=True, slots=True)
class Units:
    """U units of W walkers in the order of stable keys; V VMs, by unit, set and domain; S sets. Instants since start.

    The domains of a set stand in the order in which they have to start, where they have to.
    """

    walker_offsets: Int64s  # [W+1] units of each
    draw: npt.NDArray[np.uint64]  # [W]
    vm_offsets: Int64s  # [U+1]
    first_row: Int64s  # [U] of its VMs in the parts
    earliest_ms: Int64s  # [U]
    position: Int64s  # [U]
    waits_turn: Bools  # [U] it may start when its turn comes: that is not before its earliest start
    vm_place: Int64s  # [V] the place that its unit claims for it: -1 for singles
    set_places: Int64s  # [S+1] places of each set: the whole of it, then its domains
    is_ordered: Bools  # [S]
    zone: Int64s | None = None  # [U] where zones take turns: its place among them

    @property
    def unit_of_row(self) -> Int64s:
        """int64[V]."""
        return owners(self.vm_offsets)


class Passed(NamedTuple):
    """How U units went through the gate; int64[U] each."""

    start_ms: Int64s  # NEVER_MS of a unit that nobody was left in, or that had no room in its window
    end_ms: Int64s  # or when that was seen
    overdue_ms: Int64s  # when it was seen that there is no room; else NEVER_MS
    waited_for: npt.NDArray[np.int8]  # WaitedFor, or NONE
    waited_unit: Int64s  # the unit whose end, and the gap after it, let it start; NONE

    @property
    def is_hit(self) -> Bools:
        hit: Bools = self.start_ms < NEVER_MS
        return hit

    def numbered(self, unit_of: Int64s) -> "Passed":
        """The same by other numbers: that of each unit int64[U]."""
        numbered = Passed._make(map(np.empty_like, self))
        gate.put_by_unit(unit_of, *self, *numbered)
        return numbered

    @property
    def held_ms(self) -> Int64s:
        return np.where(self.is_hit, self.end_ms - self.start_ms, 0)


class Spans(NamedTuple):
    """What units of a campaign have in common."""

    work_ms: int
    gap_ms: int
    until_ms: int  # by which each must have ended


class Lives(NamedTuple):
    """When each of V VMs is there: int64[V] each, -NEVER_MS if from the start, NEVER_MS if to the end."""

    created_ms: Int64s
    deleted_ms: Int64s

    @staticmethod
    def of(vm_count: int, created_ms: Int64s | None, deleted_ms: Int64s | None) -> "Lives":
        """None: all are there from the start, or to the end."""
        return Lives(
            _always(-NEVER_MS, vm_count) if created_ms is None else created_ms,
            _always(NEVER_MS, vm_count) if deleted_ms is None else deleted_ms,
        )


class _Room(threading.local):
    """Memory a thread keeps from gate to gate, for what outlives none: to map it anew took a tenth of a gate's time.

    Unlike the few arrays that `engine` keeps by name, it is handed out piece by piece and taken back as a whole.
    """

    def __init__(self) -> None:
        self._words, self._taken_count = np.empty(0, np.int64), 0

    def cleared(self) -> "_Room":
        """This, when nothing of it is in use any more."""
        wanted_count, self._taken_count = min(self._taken_count, _WORDS_KEPT_MAX), 0
        if wanted_count > len(self._words):
            self._words = np.empty(wanted_count, np.int64)
        return self

    def zeros(self, count: int) -> Int64s:
        """int64[count] of zeros."""
        return self._filled(count, 0)

    def none(self, count: int) -> Int64s:
        """int64[count] of NONE."""
        return self._filled(count, gate.NONE)

    def _filled(self, count: int, value: int) -> Int64s:
        start, self._taken_count = self._taken_count, self._taken_count + count
        words = self._words[start : self._taken_count]
        if len(words) < count:
            words = np.empty(count, np.int64)
        words.fill(value)
        return words


_WORDS_KEPT_MAX = 1 << 25
"""What a `_Room` keeps at most, 256 MiB: as much as a gate of some millions of VMs takes."""
_room = _Room()
_kept: dict[int, Int64s] = {}


def _always(instant_ms: int, count: int) -> Int64s:
    """int64[count] of *instant_ms*, which nobody may write to: kept, since most regions need no other."""
    kept = _kept.get(instant_ms)
    if kept is None or len(kept) < count:
        kept = _kept[instant_ms] = np.full(count, instant_ms)
    return kept[:count]


def pass_gate(
    units: Units,
    taken: Cut,
    spans: Spans,
    duration_ms: npt.NDArray[np.uint32],
    lives: Lives,
) -> Passed:
    """Start and end of each unit under the limits of *taken*.

    duration_ms  uint32[V] length of each VM's impact
    """
    limits = taken.limits
    unit_count, set_count, group_count = len(units.earliest_ms), len(units.is_ordered), len(limits.most)
    resource_count = set_count + group_count
    room = _room.cleared()
    whose = units.vm_offsets, units.vm_place, limits.group
    set_of_place = owners(units.set_places)

    cell = room.zeros(unit_count)
    cell_count = gate.find_cells(
        set_count, *whose, set_of_place, room.zeros(resource_count), room.none(resource_count), cell
    )
    walker_order = np.argsort(units.draw, kind="stable")  # so ties are by key
    walker = owners(units.walker_offsets)
    position_count = int(units.position.max(initial=0)) + 1
    order = room.zeros(unit_count)
    zone_of = room.zeros(unit_count) if units.zone is None else units.zone
    zone_sizes = np.bincount(zone_of, minlength=1)
    if units.zone is not None:  # each waits for all of the one before: they are one cell
        cell[:], cell_count = 0, min(cell_count, 1)
        walker_rank = np.empty_like(walker_order)
        walker_rank[walker_order] = np.arange(len(walker_order))
        order[:] = np.lexsort((walker_rank[walker], units.position, zone_of))
    elif position_count <= UPDATE_DOMAIN_COUNT_MAX:
        gate.rank_units(
            walker_order, units.walker_offsets, units.position, cell, position_count,
            room.zeros(cell_count * position_count + 1), order,
        )  # fmt: skip
    else:  # of `host_order`, where each unit is its own walker
        order[:] = walker_order[np.lexsort((units.position[walker_order], cell[walker_order]))]
    opening = np.flatnonzero(~units.waits_turn[order])
    if (units.earliest_ms != units.earliest_ms[:1]).any():
        opening = opening[np.lexsort((units.earliest_ms[order[opening]], cell[order[opening]]))]
    deletions = np.flatnonzero(lives.deleted_ms < NEVER_MS)
    creations = np.flatnonzero(lives.created_ms > -NEVER_MS)
    is_changing = len(deletions) + len(creations) > 0
    unit_of_row = units.unit_of_row if is_changing else np.empty(0, np.int64)

    def offsets_of(cells: Int64s) -> Int64s:
        return np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=cell_count))])

    def by_cell(rows: Int64s, at_ms: Int64s) -> tuple[Int64s, Int64s]:
        """*rows* by cell and *at_ms*, and the offsets of cells in them."""
        rows = rows[np.lexsort((at_ms[rows], cell[unit_of_row[rows]]))]
        return rows, offsets_of(cell[unit_of_row[rows]])

    deletions, cell_deletions = by_cell(deletions, lives.deleted_ms)
    creations, cell_creations = by_cell(creations, lives.created_ms)

    cell_units, opening_offsets = np.bincount(cell, minlength=cell_count), offsets_of(cell[order[opening]])

    counts_one = np.concatenate([np.zeros(set_count, np.bool_), limits.counts_hosts])
    claim_offsets, need_offsets = room.zeros(unit_count + 1), room.zeros(unit_count + 1)
    gate.count_needs(set_count, *whose, room.none(resource_count), claim_offsets, need_offsets)
    claim_count, need_count = int(claim_offsets[-1]), int(need_offsets[-1])
    claim_place, claim_left = room.zeros(claim_count), room.zeros(claim_count)
    need_group, need_left = room.zeros(need_count), room.zeros(need_count)
    longest_ms, left, most_needed = room.zeros(unit_count), room.zeros(unit_count), room.zeros(resource_count)
    gate.fill_needs(
        set_count, *whose, duration_ms, claim_offsets, need_offsets, room.none(resource_count),
        counts_one, claim_place, claim_left, need_group, need_left, most_needed, longest_ms, left,
    )  # fmt: skip

    earliest_ms, first_row, waits_turn, by_rank = units.earliest_ms, units.first_row, units.waits_turn, None
    is_ordered, set_places = units.is_ordered, units.set_places
    if group_count and not is_changing and spans.until_ms == NEVER_MS and units.zone is None:
        # Units under caps wait by the thousand. Numbered by rank, and their sets by that of their first, those that
        # are tried one after the other stand next to each other in memory, and the gate takes half the time. Where
        # rows or walkers are asked for, they stay.
        claim_offsets, own_places, claim_left = _by_rank(order, claim_offsets, claim_place, claim_left)
        need_offsets, need_group, need_left = _by_rank(order, need_offsets, need_group, need_left)
        earliest_ms, first_row, waits_turn = earliest_ms[order], first_row[order], waits_turn[order]
        longest_ms, left = longest_ms[order], left[order]
        set_order = room.zeros(set_count)
        gate.number_sets(own_places, set_of_place, set_places, room.none(set_count), set_order, claim_place)
        is_ordered = is_ordered[set_order]
        set_places = np.append(0, np.cumsum(np.diff(set_places)[set_order]))
        by_rank, order = order, np.arange(unit_count)
    place_offsets = np.concatenate([set_places, set_places[-1] + np.cumsum(most_needed[set_count:])])
    place_count = int(place_offsets[-1])
    resource_of = owners(place_offsets)

    needs = claim_offsets, claim_place, need_offsets, need_group, need_left, counts_one, resource_of, place_offsets
    entry_offsets, slot_offsets = room.zeros(place_count + 1), room.zeros(need_count + 1)
    gate.count_entries(*needs, is_changing, entry_offsets, slot_offsets)
    entry_count = int(entry_offsets[-1])
    claim_entry, whole_entry = room.none(claim_count), room.none(claim_count)
    need_entry, rank_of_entry = room.zeros(int(slot_offsets[-1])), room.zeros(entry_count)
    gate.fill_entries(
        order, *needs, is_changing, entry_offsets, slot_offsets, room.zeros(place_count),
        claim_entry, whole_entry, need_entry, rank_of_entry,
    )  # fmt: skip

    ready_levels, waiting_levels = bits.level_offsets(unit_count), bits.level_offsets(entry_count)
    start_ms, end_ms = np.empty((2, unit_count), np.int64)
    overdue_ms, waited_unit = np.full(unit_count, NEVER_MS), np.full(unit_count, gate.NONE)
    waited_for = np.full(unit_count, gate.NONE, np.int8)
    rank_of = room.zeros(unit_count)
    rank_of[order] = np.arange(unit_count)
    undone = gate.run_gate(
        *spans, set_count,
        order, rank_of, cell_units, opening, opening_offsets,
        earliest_ms, first_row, waits_turn, units.walker_offsets, walker,
        np.concatenate([[0], np.cumsum(zone_sizes)]), zone_of,
        *whose, duration_ms, lives.created_ms, lives.deleted_ms,
        deletions, cell_deletions, creations, cell_creations, unit_of_row,
        claim_offsets, claim_place, claim_left, claim_entry, whole_entry,
        need_offsets, need_group, need_left, slot_offsets, need_entry, counts_one, is_changing,
        place_offsets, resource_of, entry_offsets, rank_of_entry, is_ordered,
        np.concatenate([room.zeros(set_count), limits.most]),
        room.zeros(unit_count), room.zeros(unit_count), room.zeros(claim_count), room.zeros(claim_count),
        np.zeros(ready_levels[-1], np.uint64), ready_levels, np.zeros(waiting_levels[-1], np.uint64), waiting_levels,
        np.zeros(unit_count, np.int8), room.none(unit_count), room.none(unit_count), longest_ms, left,
        room.zeros(place_count), room.zeros(set_count), room.none(set_count), room.zeros(set_count),
        room.zeros(set_count), room.zeros(resource_count), room.zeros(resource_count), room.none(resource_count),
        room.none(resource_count), room.none(resource_count), room.none(set_count),
        zone_sizes.copy(), start_ms, end_ms, overdue_ms, waited_for, waited_unit,
    )  # fmt: skip
    assert undone == 0, "units are finite and take what they need at once, so each of them starts"
    passed = Passed(start_ms, end_ms, overdue_ms, waited_for, waited_unit)
    return passed if by_rank is None else passed.numbered(by_rank)


def cap_bound_ms(units: Units, taken: Cut, lives: Lives, passed: Passed) -> int:
    """What the units that started take under the tightest cap in any order: the work there over what it allows."""
    limits = taken.limits
    load, asked = np.zeros((2, len(limits.most)), np.int64)
    capped = limits.group, limits.counts_hosts, limits.most
    gate.weigh_caps(units.vm_offsets, *capped, *lives, passed.start_ms, passed.end_ms, asked, load)
    return int((-(-load // limits.most)).max(initial=0))


def _by_rank(order: Int64s, offsets: Int64s, names: Int64s, counts: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Rows of units, which *offsets* int64[U+1] tells apart, with those of unit order[0] first, and so on."""
    by_rank = np.empty_like(offsets), np.empty_like(names), np.empty_like(counts)
    gate.put_by_rank(order, offsets, names, counts, *by_rank)
    return by_rank
