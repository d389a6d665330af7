"""The engine: takes the cells of one block through a stage, and keeps the sums the summary is made of.

A block is one part of a prepared fleet: whole sets, then singles, of one region. Nothing in one cell can affect
another, so blocks run on any thread, in any order. Without caps every cell is one set or single, which `_walk` takes
in one pass; cells that a cap joins go through `_gate`, and their block is a whole region.
"""

import hashlib
import threading
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fleetsim.blocks import Block, Bools, Cut, Fates, Int64s, Limits, Scope, Vms, cut, frozen, hittable, judge, set_rows
from fleetsim.gating import Lives, Units, cap_bound_ms, pass_gate
from fleetsim.kernels import gate, impact, outage, rng, walk
from fleetsim.scenario import Campaign, Quorum
from fleetsim.schema import (
    NEVER_MS,
    UPDATE_DOMAIN_COUNT_MAX,
    DomainOrder,
    HostOrder,
    NoGuarantee,
    Outcome,
    Stream,
)

ITERATION = 1
"""Campaigns without windows have one iteration (semantics.md 25)."""

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(slots=True)
class Sums:
    """What a stage adds up over its blocks: the single figures of `summary`, and its bins."""

    first_start_ms: int = NEVER_MS
    end_ms: int = 0
    longest_ms: int = 0
    free_ms: int = 0
    vm_hit_count: int = 0
    pending_vm_ms: int = 0
    unavailable_ms: int = 0
    set_count: int = 0
    single_count: int = 0
    down_count: int = 0  # the fullest domain: down_count of down_of_count VMs of its set
    down_of_count: int = 1
    set_out_ms: int = 0
    quorum_lost_ms: int | None = None  # of sets, where a scenario asks for it
    outcome_counts: Int64s = field(default_factory=lambda: np.zeros(len(Outcome), np.int64))
    no_guarantee_counts: Int64s = field(default_factory=lambda: np.zeros(len(NoGuarantee), np.int64))
    last_vm_row: int = 0
    last_spread_ms: int = 0
    last_work_ms: int = 0
    last_gap_ms: int = 0
    last_cap_ms: int = 0
    last_domain_count: int = 0
    cap_bound_ms: int | None = None  # where there are caps
    hourly: dict[int, tuple[int, int]] = field(default_factory=dict)  # hour -> starts, VM-ms unavailable
    histogram: Int64s = field(default_factory=lambda: np.zeros(impact.HISTOGRAM_BIN_COUNT, np.int64))

    def add(self, other: "Sums") -> None:
        """Take in the sums of the next block in row order: of two that end last together, the first is kept."""
        if other.end_ms > self.end_ms:
            self.end_ms = other.end_ms
            self.last_vm_row = other.last_vm_row
            self.last_spread_ms = other.last_spread_ms
            self.last_work_ms = other.last_work_ms
            self.last_gap_ms = other.last_gap_ms
            self.last_cap_ms = other.last_cap_ms
            self.last_domain_count = other.last_domain_count
        if other.down_count * self.down_of_count > self.down_count * other.down_of_count:
            self.down_count, self.down_of_count = other.down_count, other.down_of_count
        self.first_start_ms = min(self.first_start_ms, other.first_start_ms)
        self.free_ms = max(self.free_ms, other.free_ms)
        self.longest_ms = max(self.longest_ms, other.longest_ms)
        self.vm_hit_count += other.vm_hit_count
        self.pending_vm_ms += other.pending_vm_ms
        self.unavailable_ms += other.unavailable_ms
        self.set_count += other.set_count
        self.single_count += other.single_count
        self.set_out_ms += other.set_out_ms
        if other.cap_bound_ms is not None:
            self.cap_bound_ms = max(self.cap_bound_ms or 0, other.cap_bound_ms)
        if other.quorum_lost_ms is not None:
            self.quorum_lost_ms = (self.quorum_lost_ms or 0) + other.quorum_lost_ms
        self.outcome_counts += other.outcome_counts
        self.no_guarantee_counts += other.no_guarantee_counts
        for hour, (start_count, unavailable_ms) in other.hourly.items():
            starts, sum_ms = self.hourly.get(hour, (0, 0))
            self.hourly[hour] = (starts + start_count, sum_ms + unavailable_ms)
        self.histogram += other.histogram


@dataclass(frozen=True, slots=True)
class Impacts:
    """What happens to the VMs of a block, in row order; H of them are hit. Some arrays are the thread's own.

    Where `rows` and `fates` are None every VM is hit, to the end of its impact.
    """

    start_at_ms: Int64s  # [H] since the origin, as files have it
    duration_ms: npt.NDArray[np.uint32]  # [H]
    sums: Sums
    rows: Int64s | None = None  # [H] of the parts, rising
    is_cut: Bools | None = None  # [H] the VM was deleted during its impact
    fates: Fates | None = None
    weak_sets: "WeakSets | None" = None
    host_row: npt.NDArray[np.uint32] | None = None  # [H] where the region has hosts

    def within(self, start: int, stop: int) -> "Impacts":
        """What happens to the rows from *start* to *stop*, counted from there; the sums stay those of the block."""
        if self.rows is None or self.fates is None:
            return self
        hits = slice(*np.searchsorted(self.rows, [start, stop]))
        return replace(
            self,
            start_at_ms=self.start_at_ms[hits],
            duration_ms=self.duration_ms[hits],
            rows=self.rows[hits] - start,
            is_cut=None if self.is_cut is None else self.is_cut[hits],
            host_row=None if self.host_row is None else self.host_row[hits],
            fates=Fates(self.fates.outcome[start:stop], self.fates.reason[start:stop]),
            weak_sets=self.weak_sets and self.weak_sets.within(start, stop),
        )


@dataclass(frozen=True, slots=True)
class WeakSets:
    """Sets that are not promised a VM that stays up: a row of each in the parts, and why (NoGuarantee)."""

    row: Int64s
    reason: npt.NDArray[np.int8]

    def within(self, start: int, stop: int) -> "WeakSets":
        """Those that stand at the rows from *start* to *stop*, counted from there."""
        sets = slice(*np.searchsorted(self.row, [start, stop]))
        return WeakSets(self.row[sets] - start, self.reason[sets])


class _Scratch(threading.local):
    """Arrays a thread keeps from block to block: mapping fresh memory makes the threads wait for one another."""

    def __init__(self) -> None:
        self._kept: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, count: int, dtype: type[_Scalar]) -> npt.NDArray[_Scalar]:
        """An array with anything in it, until the thread asks for *name* again."""
        kept = self._kept.get(name)
        if kept is None or len(kept) < count:
            kept = self._kept[name] = np.empty(count, dtype)
        return kept[:count]


_scratch = _Scratch()


def campaign_key(seed: int, name: str) -> int:
    """Key of a campaign's draws: the seed mixed with a digest of the name, so that other campaigns change nothing."""
    digest = hashlib.sha256(seed.to_bytes(8, "little") + name.encode())
    return int.from_bytes(digest.digest()[:8], "little")


def _address(stream: Stream, iteration: int) -> np.uint64:
    return np.uint64(int(stream) << 26 | iteration << 18)


@dataclass(frozen=True, slots=True)
class Course:
    """When and under which draws a stage runs. Instants in ms since scenario.start.

    key        the campaign's key for draws (`campaign_key`)
    origin_ms  scenario.start, from where instants in files are counted
    """

    start_ms: int
    key: int
    origin_ms: int
    iteration: int = ITERATION
    replica: int = 0

    def draws(self, stream: Stream) -> tuple[np.uint64, np.uint64, np.uint64]:
        """Key, address and replica as kernels take them."""
        assert 0 < self.iteration < 1 << 8
        return np.uint64(self.key), _address(stream, self.iteration), np.uint64(self.replica)


@dataclass(frozen=True, slots=True)
class _Walked:
    """Starts of units and singles of a block; U units, N singles. NEVER_MS where nobody was left to hit."""

    unit_start_ms: Int64s  # [U]
    single_start_ms: Int64s  # [N]
    totals: Int64s  # of the walk kernels
    cap_bound_ms: int | None = None
    unit_judged_ms: Int64s | None = None  # [U] when it was seen whom a host hits: its start, or that nobody was there


def advance(vms: Vms, scope: Scope, course: Course) -> Impacts:
    """Take *vms* through the stage of *scope* that runs as *course* says. Rows in the sums count from 0."""
    if not scope.is_plain:
        return _advance_cut(vms, scope, course)
    block = vms.block
    sums = Sums(
        vm_hit_count=len(block.vm_key),
        set_count=len(block.set_key),
        single_count=len(block.vm_key) - block.single_row,
    )
    sums.outcome_counts[Outcome.UPDATED] = sums.vm_hit_count
    set_vms, set_domains = np.diff(vms.vm_offsets), np.diff(block.set_offsets)
    sums.no_guarantee_counts[NoGuarantee.ONE_VM] = np.count_nonzero(set_vms == 1)
    sums.no_guarantee_counts[NoGuarantee.ONE_DOMAIN] = np.count_nonzero((set_domains == 1) & (set_vms > 1))

    duration_ms = _lengths(block, scope, course)
    unit_count = len(block.domain)
    unit_ms = _scratch.array("unit_ms", unit_count, np.int64)
    unit_unavailable_ms = _scratch.array("unit_unavailable_ms", unit_count, np.int64)
    impact.measure_units(block.unit_offsets, duration_ms, unit_ms, unit_unavailable_ms)
    walked = _walk(block, scope.campaign, course, duration_ms, unit_ms)
    start_at_ms = _start_vms(block, walked, course.origin_ms)

    _add_up(sums, walked.totals, course.start_ms)
    sums.last_vm_row = int(walked.totals[walk.LAST_ROW])
    sums.down_count, sums.down_of_count = int(walked.totals[walk.DOWN_COUNT]), int(walked.totals[walk.DOWN_OF_COUNT])
    sums.set_out_ms = int(walk.sets_out_ms(block.set_offsets, block.unit_offsets, duration_ms))

    hours = _Hours(course.start_ms, sums.end_ms)
    single_ms = duration_ms[block.single_row :]
    impact.tally_unit_hours(
        hours.first, walked.unit_start_ms, block.unit_offsets, unit_unavailable_ms, hours.starts, hours.unavailable_ms
    )
    impact.tally_single_hours(hours.first, walked.single_start_ms, single_ms, hours.starts, hours.unavailable_ms)
    _tally(sums, hours, duration_ms)
    started_ms = walked.unit_start_ms @ np.diff(block.unit_offsets) + walked.single_start_ms.sum()
    sums.pending_vm_ms = int(started_ms) + sums.unavailable_ms - sums.vm_hit_count * scope.campaign.start_ms
    return Impacts(start_at_ms, duration_ms, sums)


def _advance_cut(vms: Vms, scope: Scope, course: Course) -> Impacts:
    """`advance` where not all VMs are hit, or not in the order of their rows."""
    taken, fates = cut(vms, scope, course.start_ms), judge(vms, scope, course.start_ms)
    block = taken.block
    sums = Sums()
    duration_ms = _lengths(block, scope, course, taken.profile)
    lives = Lives.of(len(block.vm_key), taken.created_ms, taken.deleted_ms)
    if vms.host is not None:
        walked = _gate_hosts(vms, taken, scope.campaign, course, duration_ms, lives)
    elif taken.limits is not None:
        walked = _gate(block, scope.campaign, course, duration_ms, taken.limits, lives)
    else:
        unit_ms = _scratch.array("unit_ms", len(block.domain), np.int64)
        impact.measure_units(block.unit_offsets, duration_ms, unit_ms, np.empty_like(unit_ms))
        walked = _walk(block, scope.campaign, course, duration_ms, unit_ms, taken.deleted_ms)
    start_ms = _start_vms(block, walked, 0)

    _add_up(sums, walked.totals, course.start_ms)
    sums.cap_bound_ms = walked.cap_bound_ms
    if sums.end_ms:
        sums.last_vm_row = _first_row_of(taken, int(walked.totals[walk.LAST_ROW]))
    rows, is_cut = taken.rows, None
    if taken.deleted_ms is not None:
        is_left = (lives.created_ms <= start_ms) & (start_ms < lives.deleted_ms)
        fates.outcome[rows] = np.where(is_left, Outcome.UPDATED, Outcome.DELETED)
        if walked.unit_judged_ms is not None:
            judged_ms = np.repeat(walked.unit_judged_ms, np.diff(block.unit_offsets))
            fates.outcome[rows[lives.created_ms > judged_ms]] = Outcome.ALREADY_UPDATED
        rows, start_ms, duration_ms = rows[is_left], start_ms[is_left], duration_ms[is_left]
        deleted_ms = lives.deleted_ms[is_left]
        is_cut = deleted_ms < start_ms + duration_ms
        fates.outcome[rows[is_cut]] = Outcome.DELETED
        duration_ms[is_cut] = (deleted_ms - start_ms)[is_cut]
    if vms.fault_domain is not None or vms.cluster is not None or vms.host is not None:
        by_row = np.argsort(rows, kind="stable")
        rows, start_ms, duration_ms = rows[by_row], start_ms[by_row], duration_ms[by_row]
        is_cut = None if is_cut is None else is_cut[by_row]

    sums.vm_hit_count = len(rows)
    outcome_codes = fates.outcome[fates.rows]
    sums.outcome_counts += np.bincount(outcome_codes, minlength=len(Outcome))
    sums.single_count = int(np.count_nonzero(taken.is_hit[vms.block.single_row :]))
    weak_sets = _sweep(sums, vms, scope, taken, course.start_ms, rows, start_ms, duration_ms)

    hours = _Hours(course.start_ms, sums.end_ms)
    impact.tally_single_hours(hours.first, start_ms, duration_ms, hours.starts, hours.unavailable_ms)
    _tally(sums, hours, duration_ms)
    asked_ms = np.int64(scope.campaign.start_ms)
    pending_from_ms = asked_ms if vms.created_ms is None else np.maximum(vms.created_ms[rows], asked_ms)
    sums.pending_vm_ms = int((start_ms + duration_ms - pending_from_ms).sum())
    host_row = None if vms.host_row is None else vms.host_row[rows]
    return Impacts(start_ms + course.origin_ms, duration_ms, sums, rows, is_cut, fates, weak_sets, host_row)


def idle(vms: Vms, scope: Scope, at_ms: int, *, is_overdue: bool) -> Impacts:
    """What is said of *vms* where their stage never starts: decided at *at_ms*, overdue or with nobody to hit."""
    fates = judge(vms, scope, at_ms, is_overdue=is_overdue, never_starts=True)
    sums = Sums(quorum_lost_ms=0 if scope.quorum else None)
    sums.outcome_counts += np.bincount(fates.outcome[fates.rows], minlength=len(Outcome))
    nobody = np.empty(0, np.int64)
    no_host = None if vms.host_row is None else vms.host_row[:0]
    return Impacts(nobody, np.empty(0, np.uint32), sums, nobody, None, fates, host_row=no_host)


def is_anyone_hit(vms: Vms, scope: Scope, at_ms: int) -> bool:
    """Whether a unit that starts at *at_ms* could hit one of *vms*."""
    return bool(hittable(vms, scope, at_ms).any())


def length_ms_max(campaign: Campaign, *, has_hosts: bool = False) -> int:
    """What a stage of *campaign* takes at most, deletions included: they end no unit later.

    Under caps that is as long as all its units one after the other: what it takes must be tried.
    """
    if campaign.caps or has_hosts:
        return NEVER_MS // 2
    longest_ms = max(
        profile.length_ms_max for profile in (campaign.length, *(each for _, each in campaign.family_lengths))
    )
    held_ms = max(campaign.work_ms, longest_ms) + campaign.update_domain_gap_ms
    return campaign.spread_ms + UPDATE_DOMAIN_COUNT_MAX * held_ms


def _lengths(
    block: Block, scope: Scope, course: Course, profile: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint32]:
    duration_ms = _scratch.array("duration_ms", len(block.vm_key), np.uint32)
    length, draws = scope.campaign.length, course.draws(Stream.LENGTH)
    if profile is not None:
        impact.draw_profiled_lengths(*draws, scope.quantiles_ms, frozen(profile), block.vm_key, duration_ms)
    elif length.is_constant:
        duration_ms.fill(length.length_ms_min)
    else:
        impact.draw_lengths(*draws, scope.quantiles_ms[0], block.vm_key, duration_ms)
    return duration_ms


def _walk(
    block: Block,
    campaign: Campaign,
    course: Course,
    duration_ms: npt.NDArray[np.uint32],
    unit_ms: Int64s,
    deleted_ms: Int64s | None = None,
) -> _Walked:
    """Start the units of *block*: deleted_ms int64[V] where VMs may be gone before."""
    totals = np.zeros(walk.TOTAL_COUNT, np.int64)
    totals[walk.FIRST_START_MS], totals[walk.DOWN_OF_COUNT] = NEVER_MS, 1
    single_row, spans = block.single_row, (campaign.work_ms, campaign.update_domain_gap_ms)
    set_start_ms, single_start_ms = _first_instants(block, campaign, course)
    unit_start_ms = _scratch.array("unit_start_ms", len(block.domain), np.int64)
    walkers = (block.set_offsets, set_start_ms, block.unit_offsets, _priorities(block, campaign, course))
    turn = np.empty(UPDATE_DOMAIN_COUNT_MAX, np.int64)
    single_ms = duration_ms[single_row:]
    if deleted_ms is None:
        walk.walk_sets(course.start_ms, *spans, *walkers, unit_ms, turn, unit_start_ms, totals)
        walk.walk_singles(course.start_ms, campaign.work_ms, single_row, single_start_ms, single_ms, totals)
        totals[walk.FREE_MS] = totals[walk.END_MS]
        return _Walked(unit_start_ms, single_start_ms, totals)
    walk.walk_living_sets(
        course.start_ms, *spans, *walkers, turn, frozen(deleted_ms), duration_ms, unit_start_ms, totals
    )
    # A single is looked at when its wait is over: if it is gone by then, that takes no time.
    if len(single_start_ms):
        totals[walk.FREE_MS] = max(totals[walk.FREE_MS], single_start_ms.max())
    left = np.flatnonzero(single_start_ms < deleted_ms[single_row:])
    end_ms = totals[walk.END_MS]
    walk.walk_singles(course.start_ms, campaign.work_ms, 0, single_start_ms[left], single_ms[left], totals)
    if totals[walk.END_MS] > end_ms:
        totals[walk.LAST_ROW] = single_row + left[totals[walk.LAST_ROW]]
    totals[walk.FREE_MS] = max(totals[walk.FREE_MS], totals[walk.END_MS])
    return _Walked(unit_start_ms, single_start_ms, totals)


def _gate(
    block: Block,
    campaign: Campaign,
    course: Course,
    duration_ms: npt.NDArray[np.uint32],
    limits: Limits,
    lives: Lives,
) -> _Walked:
    """`_walk` under caps, which can keep any unit waiting for any other."""
    set_count, single_row, unit_count = len(block.set_key), block.single_row, len(block.domain)
    single_count = len(block.vm_key) - single_row
    walker_start_ms = np.concatenate(_first_instants(block, campaign, course))
    walker_key = np.concatenate([block.set_key, block.vm_key[single_row:]])
    draw = np.empty(len(walker_key), np.uint64)
    rng.fill_draws(*course.draws(Stream.START_PRIORITY), walker_key, draw)
    domain_counts = np.diff(block.set_offsets)
    walker_offsets = np.concatenate([block.set_offsets, np.arange(unit_count + 1, unit_count + single_count + 1)])
    walker = np.repeat(np.arange(len(draw)), np.diff(walker_offsets))
    turn = np.zeros(len(walker), np.int64)
    order = np.empty(UPDATE_DOMAIN_COUNT_MAX, np.int64)
    walk.number_turns(block.set_offsets, _priorities(block, campaign, course), order, turn)
    vm_offsets = np.concatenate([block.unit_offsets, np.arange(single_row + 1, len(block.vm_key) + 1)])
    unit_of_row = np.repeat(np.arange(len(walker)), np.diff(vm_offsets))
    units = Units(
        walker_offsets=walker_offsets,
        draw=draw,
        vm_offsets=vm_offsets,
        unit_of_row=unit_of_row,
        earliest_ms=walker_start_ms[walker],
        position=turn,
        waits_turn=turn > 0,
        set_row=np.where(unit_of_row < unit_count, walker[unit_of_row], -1),
        domain_place=turn[unit_of_row],
        domain_counts=domain_counts,
        is_ordered=np.ones(set_count, np.bool_),
    )
    gap_ms = campaign.update_domain_gap_ms
    start_ms, end_ms = pass_gate(units, limits, campaign.work_ms, gap_ms, duration_ms, lives)

    totals = np.zeros(walk.TOTAL_COUNT, np.int64)
    totals[walk.FIRST_START_MS], totals[walk.DOWN_OF_COUNT] = start_ms.min(initial=NEVER_MS), 1
    totals[walk.FREE_MS] = end_ms.max(initial=0)
    hit_count, work_ms, walk_end_ms = np.zeros((3, len(draw)), np.int64)
    gate.sum_walks(walker_offsets, start_ms, end_ms, hit_count, work_ms, walk_end_ms)
    walked_gap_ms = np.maximum(hit_count - 1, 0) * gap_ms
    totals[walk.LONGEST_MS] = (work_ms + walked_gap_ms).max(initial=0)
    if hit_count.any():
        last = int(np.argmax(walk_end_ms))  # in the order of rows the first of several
        spread_ms = walker_start_ms[last] - course.start_ms
        totals[walk.END_MS] = walk_end_ms[last]
        totals[walk.LAST_ROW] = vm_offsets[walker_offsets[last]]
        totals[walk.LAST_SPREAD_MS] = spread_ms
        totals[walk.LAST_WORK_MS] = work_ms[last]
        totals[walk.LAST_GAP_MS] = walked_gap_ms[last]
        totals[walk.LAST_CAP_MS] = walk_end_ms[last] - course.start_ms - spread_ms - work_ms[last] - walked_gap_ms[last]
        totals[walk.LAST_DOMAIN_COUNT] = hit_count[last]
    bound_ms = cap_bound_ms(units, limits, lives, start_ms, end_ms)
    return _Walked(start_ms[:unit_count], start_ms[unit_count:], totals, bound_ms)


def _gate_hosts(
    vms: Vms, taken: Cut, campaign: Campaign, course: Course, duration_ms: npt.NDArray[np.uint32], lives: Lives
) -> _Walked:
    """`_walk` where hosts are the units: one may start when all sets on it, and the caps, let it."""
    assert vms.host is not None
    assert taken.limits is not None
    block, host_count = taken.block, len(taken.block.set_key)
    earliest_ms, draw = np.empty(host_count, np.int64), np.empty(host_count, np.uint64)
    walk.draw_starts(course.start_ms, campaign.spread_ms, *course.draws(Stream.HOST_SPREAD), block.set_key, earliest_ms)
    rng.fill_draws(*course.draws(Stream.START_PRIORITY), block.set_key, draw)
    set_row = set_rows(vms)[taken.rows]
    in_set = np.flatnonzero(set_row >= 0)
    domain = np.zeros(len(set_row), np.int64)
    domain[in_set] = taken.domain[taken.rows[in_set]]
    unit = np.repeat(np.arange(host_count), np.diff(block.unit_offsets))
    turns = _Turns.random(host_count, len(vms.block.set_key))
    match campaign.host_order:
        case HostOrder.AUTO:
            turns = _aligned(vms, taken, campaign, course)
        case HostOrder.MOST_VMS_FIRST:
            vm_count = np.diff(block.unit_offsets)
            turns.position[:] = vm_count.max(initial=0) - vm_count
        case HostOrder.FEWEST_CLAIMS_FIRST:
            claims = np.unique(unit[in_set] * len(vms.block.set_key) + set_row[in_set])
            turns.position[:] = np.bincount(claims // max(1, len(vms.block.set_key)), minlength=host_count)
    place_of = turns.place_of_domain[set_row[in_set], domain[in_set]] if len(in_set) else domain[in_set]
    pairs, domain_place = np.unique(set_row[in_set] * 256 + place_of, return_inverse=True)
    domain_counts = np.bincount(pairs // 256, minlength=len(vms.block.set_key))
    first_pair = np.concatenate([[0], np.cumsum(domain_counts)])
    places = np.zeros(len(set_row), np.int64)
    places[in_set] = domain_place - first_pair[set_row[in_set]]
    units = Units(
        walker_offsets=np.arange(host_count + 1),
        draw=draw,
        vm_offsets=block.unit_offsets,
        unit_of_row=unit,
        earliest_ms=earliest_ms,
        position=turns.position,
        waits_turn=np.zeros(host_count, np.bool_),
        set_row=set_row,
        domain_place=places,
        domain_counts=domain_counts,
        is_ordered=turns.is_ordered,
    )
    gap_ms, limits = campaign.update_domain_gap_ms, taken.limits
    start_ms, end_ms = pass_gate(units, limits, campaign.work_ms, gap_ms, duration_ms, lives)
    totals = np.zeros(walk.TOTAL_COUNT, np.int64)
    totals[walk.FIRST_START_MS], totals[walk.DOWN_OF_COUNT] = start_ms.min(initial=NEVER_MS), 1
    totals[walk.FREE_MS] = end_ms.max(initial=0)
    is_hit = start_ms < NEVER_MS
    held_ms = np.where(is_hit, end_ms - start_ms, 0)
    if is_hit.any():
        ended_last = np.flatnonzero(is_hit & (end_ms == np.where(is_hit, end_ms, 0).max()))
        last = int(ended_last[np.argmin(np.minimum.reduceat(taken.rows, block.unit_offsets[:-1])[ended_last])])
        totals[walk.END_MS] = end_ms[last]
        totals[walk.LAST_ROW] = block.unit_offsets[last]
        totals[walk.LAST_SPREAD_MS] = earliest_ms[last] - course.start_ms
        totals[walk.LAST_WORK_MS] = held_ms[last]
        totals[walk.LAST_CAP_MS] = start_ms[last] - earliest_ms[last]
        totals[walk.LAST_DOMAIN_COUNT] = 1
    unit_start_ms = start_ms[unit[in_set]]
    hits = in_set[(lives.created_ms[in_set] <= unit_start_ms) & (unit_start_ms < lives.deleted_ms[in_set])]
    longest_ms = _longest_set_ms(unit[hits], set_row[hits], domain[hits], held_ms, gap_ms)
    totals[walk.LONGEST_MS] = max(int(held_ms.max(initial=0)), longest_ms)
    bound_ms = cap_bound_ms(units, limits, lives, start_ms, end_ms) if campaign.caps else None
    return _Walked(start_ms, np.empty(0, np.int64), totals, bound_ms, np.where(is_hit, start_ms, end_ms))


def _longest_set_ms(unit: Int64s, set_row: Int64s, domain: Int64s, held_ms: Int64s, gap_ms: int) -> int:
    """The least that any set takes in any order: each domain its longest host, hosts with several their own, and gaps.

    unit, set_row, domain  int64[N] each, of the VMs hit, by unit and set
    held_ms                int64[hosts]
    """
    if not len(unit):
        return 0
    starts = np.flatnonzero((np.diff(unit, prepend=-1) != 0) | (np.diff(set_row, prepend=-1) != 0))
    lowest, highest = np.minimum.reduceat(domain, starts), np.maximum.reduceat(domain, starts)
    of_set, of_unit = set_row[starts], unit[starts]
    what = np.where(lowest == highest, lowest, UPDATE_DOMAIN_COUNT_MAX + of_unit)
    blocks, block = np.unique(np.stack([of_set, what]), axis=1, return_inverse=True)
    longest_ms = np.zeros(blocks.shape[1], np.int64)
    np.maximum.at(longest_ms, block.ravel(), held_ms[of_unit])
    sets = np.flatnonzero(np.diff(blocks[0], prepend=-1))
    counts = np.diff(np.append(sets, blocks.shape[1]))
    return int((np.add.reduceat(longest_ms, sets) + (counts - 1) * gap_ms).max())


@dataclass(frozen=True, slots=True)
class _Turns:
    """Which hosts wait for which: H hosts, S sets, D numbers of domains."""

    position: Int64s  # [H]
    is_ordered: Bools  # [S] sets that are done domain by domain
    place_of_domain: Int64s  # [S, D] the place of each domain in that

    @staticmethod
    def random(host_count: int, set_count: int) -> "_Turns":
        """None waits."""
        places = np.broadcast_to(np.arange(UPDATE_DOMAIN_COUNT_MAX), (set_count, UPDATE_DOMAIN_COUNT_MAX))
        return _Turns(np.zeros(host_count, np.int64), np.zeros(set_count, np.bool_), places)


def _aligned(vms: Vms, taken: Cut, campaign: Campaign, course: Course) -> _Turns:
    """Turns by `auto`: where the hosts of a component carry one domain number each, domain by domain.

    That is judged by all VMs the fleet puts on hosts of this stage; the order is drawn for the component's first set.
    """
    assert vms.host is not None
    host_of, block = vms.host[0], vms.block
    hosts = host_of[taken.rows[taken.block.unit_offsets[:-1]]]  # rising, for units are in order of hosts
    set_count = len(block.set_key)
    turns = _Turns.random(len(hosts), set_count)
    unit_of = np.full(len(vms.host[1]), -1)
    unit_of[hosts] = np.arange(len(hosts))
    there = np.flatnonzero(unit_of[host_of[: block.single_row]] >= 0)
    if not len(there):
        return turns
    unit, set_row, domain = unit_of[host_of[there]], set_rows(vms)[there], taken.domain[there].astype(np.int64)
    component = np.empty(set_count, np.int64)
    gate.find_components(unit, set_row, np.full(len(hosts), gate.NONE), component)
    lowest, highest = np.full(len(hosts), UPDATE_DOMAIN_COUNT_MAX), np.full(len(hosts), -1)
    np.minimum.at(lowest, unit, domain)
    np.maximum.at(highest, unit, domain)
    is_aligned = np.ones(set_count, np.bool_)  # by the first set of a component
    is_aligned[component[set_row[lowest[unit] != highest[unit]]]] = False
    pairs = np.unique(component[set_row] * UPDATE_DOMAIN_COUNT_MAX + domain)
    first, number = pairs // UPDATE_DOMAIN_COUNT_MAX, pairs % UPDATE_DOMAIN_COUNT_MAX
    draws = np.empty(len(pairs), np.uint64)
    key = block.set_key[first]
    walk.draw_units(*course.draws(Stream.UPDATE_DOMAIN_ORDER), key, number.astype(np.uint8), draws)
    order = np.lexsort((number, draws, first))
    starts = np.flatnonzero(np.diff(first[order], prepend=-1))
    rank = np.arange(len(pairs)) - np.repeat(starts, np.diff(np.append(starts, len(pairs))))
    place_of = np.array(turns.place_of_domain)
    place_of[first[order], number[order]] = rank
    place_of = place_of[component]
    is_ordered = is_aligned[component]
    position = turns.position
    has_set = highest >= 0
    first_set = np.zeros(len(hosts), np.int64)
    first_set[unit] = set_row
    ordered = has_set & is_ordered[first_set]
    position[ordered] = place_of[first_set[ordered], lowest[ordered]]
    places = np.where(is_ordered[:, None], place_of, turns.place_of_domain)
    return _Turns(position, is_ordered, places)


def _first_instants(block: Block, campaign: Campaign, course: Course) -> tuple[Int64s, Int64s]:
    """When each set, and each single, may first start: int64[S] and int64[N]."""
    set_count, single_key = len(block.set_key), block.vm_key[block.single_row :]
    start_ms = _scratch.array("walker_start_ms", set_count + len(single_key), np.int64)
    set_start_ms, single_start_ms = start_ms[:set_count], start_ms[set_count:]
    spread = course.start_ms, campaign.spread_ms
    walk.draw_starts(*spread, *course.draws(Stream.SET_SPREAD), block.set_key, set_start_ms)
    walk.draw_starts(*spread, *course.draws(Stream.SINGLE_SPREAD), single_key, single_start_ms)
    return set_start_ms, single_start_ms


def _start_vms(block: Block, walked: _Walked, origin_ms: int) -> Int64s:
    """Start of each VM's unit, counted from *origin_ms*: int64[V]."""
    start_ms = _scratch.array("start_ms", len(block.vm_key), np.int64)
    walk.start_vms(origin_ms, block.unit_offsets, walked.unit_start_ms, start_ms)
    np.add(walked.single_start_ms, origin_ms, out=start_ms[block.single_row :])
    return start_ms


def _priorities(block: Block, campaign: Campaign, course: Course) -> npt.NDArray[np.uint64]:
    """What the domains of a set are ordered by, smallest first: uint64[U]."""
    match campaign.update_domain_order:
        case DomainOrder.SEQUENTIAL:
            return np.zeros(len(block.domain), np.uint64)
        case DomainOrder.LARGEST_FIRST:
            return np.iinfo(np.uint64).max - np.diff(block.unit_offsets).astype(np.uint64)
        case DomainOrder.RANDOM:
            priorities = _scratch.array("priorities", len(block.domain), np.uint64)
            draws = course.draws(Stream.UPDATE_DOMAIN_ORDER)
            walk.draw_units(*draws, block.unit_set_key, block.domain, priorities)
            return priorities


def _add_up(sums: Sums, totals: Int64s, start_ms: int) -> None:
    sums.first_start_ms = int(totals[walk.FIRST_START_MS])
    sums.end_ms = int(totals[walk.END_MS])
    sums.free_ms = max(start_ms, int(totals[walk.FREE_MS]))
    sums.longest_ms = int(totals[walk.LONGEST_MS])
    sums.last_spread_ms = int(totals[walk.LAST_SPREAD_MS])
    sums.last_work_ms = int(totals[walk.LAST_WORK_MS])
    sums.last_gap_ms = int(totals[walk.LAST_GAP_MS])
    sums.last_cap_ms = int(totals[walk.LAST_CAP_MS])
    sums.last_domain_count = int(totals[walk.LAST_DOMAIN_COUNT])


def _first_row_of(taken: Cut, row: int) -> int:
    """The first row, in the parts, of the set or single that stands at *row* of the block."""
    block = taken.block
    if row >= block.single_row:
        return int(taken.rows[row])
    offsets = block.unit_offsets[block.set_offsets]
    place = int(np.searchsorted(offsets, row, side="right"))
    return int(taken.rows[offsets[place - 1] : offsets[place]].min())


def _sweep(
    sums: Sums,
    vms: Vms,
    scope: Scope,
    taken: Cut,
    stage_start_ms: int,
    rows: Int64s,
    start_ms: Int64s,
    duration_ms: npt.NDArray[np.uint32],
) -> WeakSets:
    """Sum up how far sets are out, by all their living VMs; *rows* are those hit. Returns those without guarantee."""
    single_row, vm_offsets = vms.block.single_row, vms.vm_offsets
    reason = np.empty(len(vms.block.set_key), np.int8)
    lives = vms.lives_at(stage_start_ms)
    outage.weigh_sets(vm_offsets, taken.domain, lives[:single_row], taken.is_hit[:single_row], reason)
    if vms.host is not None:
        reason[_sets_that_share(vms, taken, lives) & (reason == outage.GUARANTEED)] = NoGuarantee.SHARED_HOST
    weak = np.flatnonzero(reason >= 0)
    sums.no_guarantee_counts += np.bincount(reason[weak], minlength=len(NoGuarantee))
    sums.set_count = int(np.count_nonzero(reason != outage.NOT_HIT))

    in_sets = rows[: np.searchsorted(rows, single_row)]
    if vms.host is not None:
        is_met = np.zeros(len(reason), np.bool_)
        is_met[set_rows(vms)[in_sets]] = True
        reason[is_met & (reason == outage.NOT_HIT)] = outage.LATE
    set_start_ms, set_end_ms = np.full(single_row, NEVER_MS), np.zeros(single_row, np.int64)
    set_start_ms[in_sets] = start_ms[: len(in_sets)]
    set_end_ms[in_sets] = start_ms[: len(in_sets)] + duration_ms[: len(in_sets)]
    if vms.created_ms is None or vms.deleted_ms is None:
        lifetimes = np.full(single_row, -NEVER_MS), np.full(single_row, NEVER_MS)
    else:
        lifetimes = vms.created_ms[:single_row].copy(), vms.deleted_ms[:single_row].copy()
    totals = np.zeros(outage.TOTAL_COUNT, np.int64)
    totals[outage.DOWN_OF_COUNT] = 1
    breakpoints = np.empty(outage.BREAKPOINTS_A_VM * int(np.diff(vm_offsets).max(initial=0)), np.int64)
    need = _need(scope.quorum)
    outage.sweep_sets(vm_offsets, reason, *lifetimes, set_start_ms, set_end_ms, need, breakpoints, totals)
    sums.set_out_ms = int(totals[outage.OUT_MS])
    sums.quorum_lost_ms = int(totals[outage.QUORUM_LOST_MS]) if scope.quorum else None
    sums.down_count, sums.down_of_count = int(totals[outage.DOWN_COUNT]), int(totals[outage.DOWN_OF_COUNT])
    return WeakSets(vm_offsets[weak], reason[weak])


def _sets_that_share(vms: Vms, taken: Cut, lives: Bools) -> Bools:
    """Sets that have living VMs of two domains on one host: bool[S]."""
    assert vms.host is not None
    rows = np.flatnonzero(lives[: vms.block.single_row])
    set_row, host, domain = set_rows(vms)[rows], vms.host[0][rows], taken.domain[rows]
    order = np.lexsort((domain, host, set_row))
    set_row, host, domain = set_row[order], host[order], domain[order]
    shares = np.zeros(len(vms.block.set_key), np.bool_)
    is_same = (set_row[1:] == set_row[:-1]) & (host[1:] == host[:-1])
    shares[set_row[1:][is_same & (domain[1:] != domain[:-1])]] = True
    return shares


def _need(quorum: Quorum | None) -> Int64s:
    """What `outage.sweep_sets` calls `need`."""
    match quorum.min_up if quorum else "majority":
        case int(count):
            return np.array([count, 0, 1])
        case "majority":
            return np.zeros(3, np.int64)
        case ratio:
            return np.array([0, ratio.numerator, ratio.denominator])


class _Hours:
    """Counts by the hour, from the stage's start to its end."""

    def __init__(self, start_ms: int, end_ms: int) -> None:
        self.first = start_ms // impact.HOUR_MS
        hour_count = max(0, end_ms // impact.HOUR_MS - self.first + 1)
        self.starts, self.unavailable_ms = np.zeros(hour_count, np.int64), np.zeros(hour_count, np.int64)


def _tally(sums: Sums, hours: _Hours, duration_ms: npt.NDArray[np.uint32]) -> None:
    """Fill the bins of *sums*, and with them the time lost in all."""
    impact.tally_lengths(duration_ms, sums.histogram)
    sums.unavailable_ms = int(hours.unavailable_ms.sum())
    sums.hourly = {
        hours.first + int(hour): (int(hours.starts[hour]), int(hours.unavailable_ms[hour]))
        for hour in np.flatnonzero(hours.starts)
    }


@cache
def histogram_bin_starts_ms() -> Int64s:
    """Lower bounds of the bins of `Sums.histogram`."""
    bounds = np.empty(impact.HISTOGRAM_BIN_COUNT, np.int64)
    impact.bin_starts_ms(bounds)
    return bounds
