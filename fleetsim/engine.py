"""The engine: takes the cells of one block through a stage, and keeps the sums the summary is made of.

A block is one part of a prepared fleet: whole sets, then singles, of one region. Nothing in one cell can affect
another, so blocks run on any thread, in any order. Without caps every cell is one set or single, which `_walk` takes
in one pass; cells that a cap joins go through `_gate`, and their block is a whole region.
"""

import threading
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fleetsim.blocks import (
    NOT_SELECTED,
    Block,
    Bools,
    Cut,
    Fates,
    Int64s,
    Left,
    Scope,
    Settled,
    Vms,
    cut,
    frozen,
    hittable,
    judge,
    owners,
    profiles_of,
)
from fleetsim.course import Course
from fleetsim.customers import Asking, Bar, Known, Requests, moved_to_hosts, slots_taken, take_all, take_requests
from fleetsim.gating import Lives, Passed, Spans, Units, cap_bound_ms, pass_gate
from fleetsim.hosts import longest_set_ms, sets_that_share, units_of_hosts
from fleetsim.kernels import gate, impact, outage, rng, stretches, walk
from fleetsim.kinds import KINDS
from fleetsim.scenario import Campaign, Quorum
from fleetsim.schema import (
    COME_BACK,
    NEVER_MS,
    UPDATE_DOMAIN_COUNT_MAX,
    DomainOrder,
    Kind,
    NoGuarantee,
    Outcome,
    Reason,
    Result,
    Stream,
)
from fleetsim.tries import Tries, attempt

_Scalar = TypeVar("_Scalar", bound=np.generic)
_NO_QUANTILES = frozen(np.empty(0, np.uint32))


@dataclass(slots=True)
class Sums:
    """What a stage adds up over its blocks: the single figures of `summary`, and its bins."""

    first_start_ms: int = NEVER_MS
    end_ms: int = 0
    longest_ms: int = 0
    free_ms: int = 0
    vm_hit_count: int = 0
    event_count: int = 0
    request_count: int = 0  # of customers
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
    reboot_histogram: Int64s | None = None  # of those that a freeze reboots, where there are any

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
        self.event_count += other.event_count
        self.request_count += other.request_count
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
        if other.reboot_histogram is not None:
            self.reboot_histogram = other.reboot_histogram + (
                0 if self.reboot_histogram is None else self.reboot_histogram
            )


@dataclass(frozen=True, slots=True)
class Impacts:
    """What the platform does to the VMs of a block, in row order; H of them are hit. Some arrays are the thread's own.

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
    steps: "Steps | None" = None  # of the whole region
    requests: Requests | None = None  # of customers, where some act
    left: Left | None = None  # to the next iteration, if there may be one
    effects: npt.NDArray[np.uint8] | None = None  # [H] where they differ from VM to VM
    is_rebooted: Bools | None = None  # [H] where a freeze reboots some of them
    tries: Tries | None = None  # where some may fail
    known: Known | None = None  # where its region is shared with customers of other campaigns: what they must know

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
            requests=self.requests and self.requests.within(start, stop),
            effects=None if self.effects is None else self.effects[hits],
            is_rebooted=None if self.is_rebooted is None else self.is_rebooted[hits],
            tries=self.tries and self.tries.within(hits),
        )


@dataclass(frozen=True, slots=True)
class Steps:
    """Units of a stage that hit somebody, N of them; -1 for none. Rows are those of the VMs of the region, from 0."""

    unit_row: Int64s  # [N] first of its VMs; rising
    host_row: npt.NDArray[np.uint32] | None  # [N] in the table of hosts
    set_row: Int64s | None  # [N] first of its set, where units are not hosts
    domain: Int64s | None  # [N]
    start_ms: Int64s  # [N] since scenario.start
    duration_ms: Int64s  # [N]
    waited_for: npt.NDArray[np.int8]  # [N] WaitedFor
    waited_row: Int64s  # [N] unit_row of another
    waited_ms: Int64s  # [N]


@dataclass(frozen=True, slots=True)
class WeakSets:
    """Sets that are not promised a VM that stays up: a row of each in the parts, and why (NoGuarantee)."""

    row: Int64s
    reason: npt.NDArray[np.int8]

    def within(self, start: int, stop: int) -> "WeakSets":
        """Those that stand at the rows from *start* to *stop*, counted from there."""
        sets = slice(*np.searchsorted(self.row, [start, stop]))
        return WeakSets(self.row[sets] - start, self.reason[sets])


@dataclass(frozen=True, slots=True)
class Beside:
    """What other campaigns do in a region up to the start of a stage: what is known, and whose customers may ask."""

    asking: tuple[tuple[Vms, Scope, Course], ...]
    known: Known


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


@dataclass(frozen=True, slots=True)
class _Walked:
    """Starts of units and singles of a block; U units, N singles. NEVER_MS where nobody was left to hit."""

    unit_start_ms: Int64s  # [U]
    single_start_ms: Int64s  # [N]
    totals: Int64s  # of the walk kernels
    cap_bound_ms: int | None = None
    unit_judged_ms: Int64s | None = None  # [U] when it was seen whom a host hits: its start, or that nobody was there
    overdue_ms: Int64s | None = None  # [U + N] when it was seen that a unit would end after its window, else NEVER_MS
    steps: "Steps | None" = None


def advance(vms: Vms, scope: Scope, course: Course, beside: Beside | None = None) -> Impacts:
    """Take *vms* through the stage of *scope* that runs as *course* says. Rows in the sums count from 0.

    beside  given where customers of other campaigns may act in the region, which *vms* are all of then
    """
    if not scope.is_plain or beside is not None:
        return _advance_cut(vms, scope, course, beside)
    block = vms.block
    sums = Sums(
        vm_hit_count=len(block.vm_key),
        event_count=len(block.vm_key),
        set_count=len(block.set_key),
        single_count=len(block.vm_key) - block.single_row,
    )
    sums.outcome_counts[Outcome.UPDATED] = sums.vm_hit_count
    duration_ms, walked, start_at_ms = _walk_plain(sums, block, scope, course)
    _add_up(sums, walked.totals, course.start_ms)
    sums.last_vm_row = int(walked.totals[walk.LAST_ROW])
    sums.down_count, sums.down_of_count = int(walked.totals[walk.DOWN_COUNT]), int(walked.totals[walk.DOWN_OF_COUNT])
    sums.no_guarantee_counts[NoGuarantee.ONE_VM] = walked.totals[walk.ONE_VM_COUNT]
    sums.no_guarantee_counts[NoGuarantee.ONE_DOMAIN] = walked.totals[walk.ONE_DOMAIN_COUNT]

    hours = _Hours(course.start_ms, sums.end_ms)
    unit_unavailable_ms = _scratch.array("unit_unavailable_ms", len(block.domain), np.int64)
    started_ms = impact.tally_unit_hours(
        hours.first, walked.unit_start_ms, block.unit_offsets, unit_unavailable_ms, hours.starts, hours.unavailable_ms
    )
    single_ms = duration_ms[block.single_row :]
    impact.tally_single_hours(hours.first, walked.single_start_ms, single_ms, hours.starts, hours.unavailable_ms)
    hours.add_to(sums)
    started_ms = int(started_ms + walked.single_start_ms.sum())
    sums.pending_vm_ms = started_ms + sums.unavailable_ms - sums.vm_hit_count * scope.campaign.start_ms
    return Impacts(start_at_ms, duration_ms, sums)


def _advance_cut(vms: Vms, scope: Scope, course: Course, beside: Beside | None) -> Impacts:
    """`advance` where not all VMs are hit, or not in the order of their rows."""
    requests, settled, waits_ms = None, None, None
    if scope.campaign.self_service is not None:
        move_ms = _lengths(vms.block, scope, course, vms.profile).copy()
    if beside is not None:
        own = Asking(vms, scope, course, move_ms) if scope.campaign.self_service is not None else None
        requests, waits_ms = _met(own, beside, len(vms.block.vm_key), course.start_ms)
    elif scope.campaign.self_service is not None:
        requests = take_requests(vms, scope, course, move_ms)
    if scope.campaign.self_service is not None:
        assert requests is not None
        retries = scope.campaign.self_service.retries
        settled = _settled(requests, len(vms.block.vm_key), course.start_ms, retries=retries)
        if vms.host is not None:
            settled = _with_hosts_left_out(vms, settled, course.start_ms)
    taken = cut(vms, scope, course.start_ms, settled)
    block, fates = taken.block, judge(vms, scope, course.start_ms, never_starts=not taken.is_hit.any())
    sums = Sums()
    duration_ms = _lengths(block, scope, course, taken.profile)
    attempted = attempt(block, scope, course, taken.profile, duration_ms)
    lives = Lives.of(len(block.vm_key), taken.created_ms, taken.deleted_ms)
    # Whether some of them may not be hit in the end.
    is_partial = taken.deleted_ms is not None or scope.campaign.windows is not None or waits_ms is not None
    if waits_ms is not None:
        waits_ms = waits_ms[taken.rows]
    moved_until_ms = None if settled is None else settled.busy_until_ms[taken.rows]
    if vms.host is not None:
        units = units_of_hosts(vms, taken, scope.campaign, course, moved_until_ms)
        walked = _gate(vms, taken, units, scope.campaign, course, duration_ms, lives, moved_until_ms)
    elif scope.campaign.caps or vms.zone is not None:
        waits = [each for each in (moved_until_ms, waits_ms) if each is not None]
        busy_ms = np.maximum.reduce(waits) if waits else None
        units = _units_of_sets(vms, taken, scope.campaign, course, duration_ms, busy_ms)
        walked = _gate(vms, taken, units, scope.campaign, course, duration_ms, lives, moved_until_ms)
    else:
        unit_ms = _scratch.array("unit_ms", len(block.domain), np.int64)
        impact.measure_units(block.unit_offsets, duration_ms, unit_ms, np.empty_like(unit_ms))
        walked = _walk(
            block,
            scope.campaign,
            course,
            duration_ms,
            unit_ms,
            lives.deleted_ms if is_partial else None,
            moved_until_ms,
            waits_ms,
        )
    start_ms = _start_vms(block, walked, 0)

    _add_up(sums, walked.totals, course.start_ms)
    sums.cap_bound_ms = walked.cap_bound_ms
    if sums.end_ms:
        sums.last_vm_row = _first_row_of(taken, int(walked.totals[walk.LAST_ROW]))
    rows, is_cut = taken.rows, None
    if is_partial:
        is_left = (lives.created_ms <= start_ms) & (start_ms < lives.deleted_ms) & (start_ms < NEVER_MS)
        if settled is not None:
            is_left &= settled.busy_until_ms[rows] == 0
        updated = Outcome.UPDATED if scope.campaign.windows is None else Outcome.UPDATED_SCHEDULED
        fates.outcome[rows] = np.where(is_left, updated, Outcome.DELETED)
        is_failed = None if attempted is None else attempted.is_failed
        if attempted is not None:
            fates.outcome[rows[is_left & attempted.is_failed]] = Outcome.FAILED
            attempted = attempted.of(is_left)
        if walked.overdue_ms is not None:
            unit_sizes = np.append(np.diff(block.unit_offsets), np.ones(len(walked.single_start_ms), np.int64))
            is_overdue = np.repeat(walked.overdue_ms, unit_sizes) < lives.deleted_ms
            fates.outcome[rows[is_overdue]] = Outcome.OVERDUE
            fates.reason[rows[is_overdue]] = Reason.NO_ROOM_IN_WINDOW
        if walked.unit_judged_ms is not None:
            judged_ms = np.repeat(walked.unit_judged_ms, np.diff(block.unit_offsets))
            comes_late = lives.created_ms > judged_ms
            fates.outcome[rows[comes_late]] = Outcome.ALREADY_UPDATED
            if is_failed is not None:  # to a host that was not updated
                fates.outcome[rows[comes_late & is_failed & (start_ms < NEVER_MS)]] = Outcome.FAILED
        rows, start_ms, duration_ms = rows[is_left], start_ms[is_left], duration_ms[is_left]
        deleted_ms = lives.deleted_ms[is_left]
        is_cut = deleted_ms < start_ms + duration_ms
        fates.outcome[rows[is_cut]] = Outcome.DELETED
        duration_ms[is_cut] = (deleted_ms - start_ms)[is_cut]
    if settled is not None:
        is_settled = settled.outcome != NOT_SELECTED
        fates.outcome[is_settled], fates.reason[is_settled] = settled.outcome[is_settled], settled.reason[is_settled]
    if not np.all(rows[1:] > rows[:-1]):  # in the order they are walked
        place = np.full(len(fates.outcome), -1)
        place[rows] = np.arange(len(rows))  # no sort: each row is there once
        rows = np.flatnonzero(place >= 0)
        by_row = place if len(rows) == len(place) else place[rows]
        start_ms, duration_ms = start_ms[by_row], duration_ms[by_row]
        is_cut = None if is_cut is None else is_cut[by_row]
        attempted = None if attempted is None else attempted.of(by_row)
    known = None
    if beside is not None:
        unit_overdue_ms = walked.overdue_ms
        overdue_ms = None if unit_overdue_ms is None else np.repeat(unit_overdue_ms, unit_sizes)
        bar = _bar(taken, course, rows, start_ms + duration_ms, fates, overdue_ms)
        known = Known((bar,), () if requests is None else (requests.moves(scope.campaign.place),))

    tries = None if attempted is None else attempted.tries(scope, course, duration_ms)
    hits = rows, start_ms, duration_ms
    if requests is not None:
        hits = _merged(hits, requests)
    sums.vm_hit_count = len(hits[0])
    sums.request_count = 0 if requests is None else len(requests.rows)
    sums.event_count = (len(rows) if tries is None else len(tries.duration_ms)) + sums.request_count
    sums.outcome_counts += fates.counts()
    sums.single_count = int(np.count_nonzero(taken.is_hit[vms.block.single_row :]))
    weak_sets = _sweep(sums, vms, scope, taken, course.start_ms, *hits)
    if requests is not None:  # of what is down at once only the platform's part is promised (rules.md R23)
        alone = Sums()
        _sweep(alone, vms, scope, taken, course.start_ms, rows, start_ms, duration_ms)
        sums.down_count, sums.down_of_count = alone.down_count, alone.down_of_count

    hit_rows, hit_start_ms, hit_ms = hits
    hours = _Hours(int(hit_start_ms.min(initial=course.start_ms)), int(hit_start_ms.max(initial=course.start_ms)))
    impact.tally_single_hours(hours.first, hit_start_ms, hit_ms, hours.starts, hours.unavailable_ms)
    is_rebooted = scope.is_rebooted(None if vms.profile is None else vms.profile[rows])
    hours.add_to(sums)
    _tally_lengths(sums, hit_ms, is_rebooted)
    asked_ms = np.int64(scope.campaign.start_ms)
    pending_from_ms = asked_ms if vms.created_ms is None else np.maximum(vms.created_ms[hit_rows], asked_ms)
    pending_ms = hit_start_ms + hit_ms - pending_from_ms
    if tries is not None:  # who has failed was not updated: the next iteration says when it is
        is_updated = np.ones(len(vms.block.vm_key), np.bool_)
        is_updated[rows[tries.ends_aborted]] = False
        pending_ms = pending_ms[is_updated[hit_rows]]
    sums.pending_vm_ms = int(pending_ms.sum())
    # Rows rise, and each is there once: as many as there are VMs are all of them.
    host_row = vms.host_row if vms.host_row is None or len(rows) == len(vms.host_row) else vms.host_row[rows]
    windows, left = scope.campaign.windows, None
    if windows is not None and course.iteration < windows.iterations_max:
        left_rows = np.flatnonzero(np.isin(fates.outcome, COME_BACK))
        slots = moved = None
        if requests is not None and vms.customers is not None and vms.customers.hosts is not None:
            moved = moved_to_hosts(requests, vms.customers.hosts, move_ms)
        elif requests is not None:
            slots = slots_taken(requests, vms, scope, move_ms)
        left = Left(left_rows, slots, moved)
    return Impacts(
        start_ms + course.origin_ms,
        duration_ms,
        sums,
        rows,
        is_cut,
        fates,
        weak_sets,
        host_row,
        walked.steps,
        requests and requests.since_epoch(course.origin_ms),
        left,
        _effects(vms, scope, rows, is_rebooted),
        is_rebooted,
        tries,
        known,
    )


def _effects(vms: Vms, scope: Scope, rows: Int64s, is_rebooted: Bools | None) -> npt.NDArray[np.uint8] | None:
    """What the VMs at *rows* are left with, where that differs from VM to VM."""
    if is_rebooted is not None:
        return np.where(is_rebooted, KINDS["reboot"].effects, KINDS["freeze"].effects).astype(np.uint8)
    if vms.move_effects is not None and scope.campaign.kind == Kind.REDEPLOY:
        return vms.move_effects[rows]
    return None


def _met(own: Asking | None, beside: Beside, vm_count: int, start_ms: int) -> tuple[Requests | None, Int64s]:
    """What customers have done by *start_ms*: the *own* of a stage; and when moves of others end, int64[V], else 0.

    Only those under way are told of: from there on none is granted for a VM that the stage has not done with.
    """
    asking = [
        Asking(vms, scope, course, _lengths(vms.block, scope, course, vms.profile).copy())
        for vms, scope, course in beside.asking
    ]
    found = take_all([*([] if own is None else [own]), *asking], start_ms, beside.known) if own or asking else []
    requests, others = (None, found) if own is None else (found[0], found[1:])
    until_ms = np.zeros(vm_count, np.int64)
    moves = [each.moves(of.scope.campaign.place) for each, of in zip(others, asking, strict=True)]
    for each in (*moves, *beside.known.moves):
        under_way = each.after(start_ms)
        until_ms[under_way.rows] = under_way.until_ms
    return requests, until_ms


def _bar(
    taken: Cut, course: Course, hit_rows: Int64s, hit_end_ms: Int64s, fates: Fates, overdue_ms: Int64s | None
) -> Bar:
    """Until when a stage bars requests for each VM: until it has its outcome there (semantics.md 29).

    overdue_ms  int64[V] of *taken*: when it was seen that a VM is overdue; at that instant requests come before
    """
    rows, until_ms = hit_rows, hit_end_ms
    if overdue_ms is not None:
        late = np.flatnonzero(fates.outcome[taken.rows] == Outcome.OVERDUE)
        rows = np.concatenate([rows, taken.rows[late]])
        until_ms = np.concatenate([until_ms, np.minimum(overdue_ms[late] + 1, course.until_ms)])
    return Bar(course.start_ms, rows, until_ms)


def _settled(requests: Requests, vm_count: int, opens_ms: int, *, retries: bool) -> Settled:
    """What *requests* settle, seen when the scheduled window opens at *opens_ms*."""
    ends = requests.of(requests.is_move | ((requests.result == Result.ABORTED) & (not retries)))
    outcome = np.full(vm_count, NOT_SELECTED, np.int8)
    outcome[ends.rows] = ends.outcome
    until_ms = np.zeros(vm_count, np.int64)
    until_ms[ends.rows] = ends.at_ms + ends.duration_ms
    is_busy = until_ms > opens_ms
    reason = np.full(vm_count, Reason.NONE, np.int8)
    return Settled(outcome, reason, (outcome != NOT_SELECTED) & ~is_busy, np.where(is_busy, until_ms, 0))


def _with_hosts_left_out(vms: Vms, settled: Settled, opens_ms: int) -> Settled:
    """*settled*, and the VMs that share a host with a skipped one, who is not updated: nor are they (semantics.md 34).

    Whoever is created there later is in the same case (semantics.md 7); whoever moves, goes on moving.
    """
    assert vms.host is not None
    host, keys = vms.host
    is_left_out = np.zeros(len(keys), np.bool_)
    is_left_out[host[settled.outcome == Outcome.SKIPPED]] = True
    shares = is_left_out[host] & (settled.outcome == NOT_SELECTED)
    if vms.deleted_ms is not None:
        shares &= vms.deleted_ms > opens_ms
    if vms.is_selected is not None:
        shares &= vms.is_selected
    return replace(
        settled,
        outcome=np.where(shares, Outcome.SKIPPED, settled.outcome).astype(np.int8),
        reason=np.where(shares, Reason.HOST_LEFT_OUT, settled.reason).astype(np.int8),
        is_over=settled.is_over | shares,
    )


def _merged(
    hits: tuple[Int64s, Int64s, npt.NDArray[np.uint32]], requests: Requests
) -> tuple[Int64s, Int64s, npt.NDArray[np.uint32]]:
    """Rows, starts and lengths of *hits* by the platform, and of moves, by row: a VM has one of both."""
    moves = requests.of(requests.is_move)
    rows = np.concatenate([hits[0], moves.rows])
    by_row = np.argsort(rows)
    start_ms, duration_ms = np.concatenate([hits[1], moves.at_ms]), np.concatenate([hits[2], moves.duration_ms])
    return rows[by_row], start_ms[by_row], duration_ms[by_row]


def idle(vms: Vms, scope: Scope, at_ms: int, *, is_overdue: bool) -> Impacts:
    """What is said of *vms* where their stage never starts: decided at *at_ms*, overdue or with nobody to hit."""
    fates = judge(vms, scope, at_ms, is_overdue=is_overdue, never_starts=True)
    sums = Sums(quorum_lost_ms=0 if scope.quorum else None)
    sums.outcome_counts += fates.counts()
    nobody = np.empty(0, np.int64)
    no_host = None if vms.host_row is None else vms.host_row[:0]
    return Impacts(nobody, np.empty(0, np.uint32), sums, nobody, None, fates, host_row=no_host)


def is_anyone_hit(vms: Vms, scope: Scope, at_ms: int) -> bool:
    """Whether a unit that starts at *at_ms* could hit one of *vms*."""
    return bool(hittable(vms, scope, at_ms).any())


def length_ms_max(campaign: Campaign, *, has_hosts: bool = False) -> int:
    """What a stage of *campaign* takes at most, deletions included: they end no unit later. A window is what it is.

    Under caps that is as long as all its units one after the other: what it takes must be tried.
    """
    if campaign.windows is not None:
        return campaign.windows.scheduled_ms
    if campaign.caps or has_hosts:
        return NEVER_MS // 2
    longest_ms = max(profile.length_ms_max for profile in profiles_of(campaign))
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
    moved_until_ms: Int64s | None = None,
    waits_ms: Int64s | None = None,
) -> _Walked:
    """Start the units of *block*.

    deleted_ms      int64[V] where VMs may be gone before
    moved_until_ms  int64[V] where their customers may have started a move: its end, else 0
    waits_ms        int64[V] the same of moves under other campaigns, after which VMs are hit all the same
    """
    totals = _no_totals()
    single_row, spans = block.single_row, (campaign.work_ms, campaign.update_domain_gap_ms)
    single_ms = duration_ms[single_row:]
    held_ms = _held_in_window_ms(campaign, single_ms)
    set_start_ms, single_start_ms = _first_instants(block, campaign, course, held_ms)
    unit_start_ms = _scratch.array("unit_start_ms", len(block.domain), np.int64)
    walkers = (block.set_offsets, set_start_ms, block.unit_offsets, _priorities(block, campaign, course))
    turn = np.empty(UPDATE_DOMAIN_COUNT_MAX, np.uint64)
    if deleted_ms is None:
        walk.walk_sets(course.start_ms, *spans, *walkers, unit_ms, turn, unit_start_ms, totals)
        walk.walk_singles(course.start_ms, campaign.work_ms, single_row, single_start_ms, single_ms, totals)
        totals[walk.FREE_MS] = totals[walk.END_MS]
        return _Walked(unit_start_ms, single_start_ms, totals)
    overdue_ms = np.full(len(unit_start_ms) + len(single_ms), NEVER_MS)
    moved_ms = np.zeros(len(deleted_ms), np.int64) if moved_until_ms is None else moved_until_ms
    is_moved = moved_ms > 0
    busy_ms = moved_ms if waits_ms is None else np.maximum(moved_ms, waits_ms)
    walk.walk_living_sets(
        course.start_ms, course.until_ms, *spans, *walkers, turn,
        frozen(deleted_ms), frozen(busy_ms), frozen(is_moved), duration_ms,
        unit_start_ms, overdue_ms[: len(unit_start_ms)], totals,
    )  # fmt: skip
    if waits_ms is not None:
        single_start_ms = np.maximum(single_start_ms, waits_ms[single_row:])
    if held_ms is not None:
        is_too_long = single_start_ms + held_ms > course.until_ms
        overdue_ms[len(unit_start_ms) :][is_too_long] = np.minimum(single_start_ms, course.until_ms)[is_too_long]
        single_start_ms = np.where(is_too_long, NEVER_MS, single_start_ms)
    # A single is looked at when its wait is over: if it is gone by then, that takes no time.
    if len(single_start_ms) and held_ms is None:
        totals[walk.FREE_MS] = max(totals[walk.FREE_MS], single_start_ms.max())
    left = np.flatnonzero((single_start_ms < deleted_ms[single_row:]) & ~is_moved[single_row:])
    end_ms = totals[walk.END_MS]
    walk.walk_singles(course.start_ms, campaign.work_ms, 0, single_start_ms[left], single_ms[left], totals)
    if totals[walk.END_MS] > end_ms:
        totals[walk.LAST_ROW] = single_row + left[totals[walk.LAST_ROW]]
    totals[walk.FREE_MS] = max(totals[walk.FREE_MS], totals[walk.END_MS])
    if held_ms is not None:
        totals[walk.FREE_MS] = course.until_ms
    return _Walked(unit_start_ms, single_start_ms, totals, overdue_ms=None if held_ms is None else overdue_ms)


def _walk_plain(
    sums: Sums, block: Block, scope: Scope, course: Course
) -> tuple[npt.NDArray[np.uint32], _Walked, Int64s]:
    """`_walk` where every VM is hit: their lengths, and the start of each counted from the origin, are found with it.

    *sums* gets the histogram of lengths and what sets are out.
    """
    campaign, single_row, unit_count = scope.campaign, block.single_row, len(block.domain)
    key, length_address, replica = course.draws(Stream.LENGTH)
    _, spread_address, _ = course.draws(Stream.SET_SPREAD)
    duration_ms = _scratch.array("duration_ms", len(block.vm_key), np.uint32)
    single_ms = duration_ms[single_row:]
    if campaign.length.is_constant:
        quantile_ms = _NO_QUANTILES
        duration_ms.fill(campaign.length.length_ms_min)
        impact.tally_lengths(duration_ms[:1], sums.histogram)
        sums.histogram *= len(duration_ms)
    else:
        quantile_ms = scope.quantiles_ms[0]
        impact.draw_lengths(key, length_address, replica, quantile_ms, block.vm_key[single_row:], single_ms)
        impact.tally_lengths(single_ms, sums.histogram)
    unit_start_ms = _scratch.array("unit_start_ms", unit_count, np.int64)
    start_ms = _scratch.array("start_ms", len(block.vm_key), np.int64)
    set_start_ms, single_start_ms = _walker_starts(block)
    totals, spread = _no_totals(), (course.start_ms, campaign.spread_ms)
    sums.set_out_ms = int(
        stretches.walk_plain(
            *spread, campaign.work_ms, campaign.update_domain_gap_ms, course.origin_ms,
            key, length_address, spread_address, replica, quantile_ms,
            block.vm_key, block.set_offsets, block.set_key, block.unit_offsets, _priorities(block, campaign, course),
            np.empty(UPDATE_DOMAIN_COUNT_MAX, np.uint64), set_start_ms,
            _scratch.array("unit_ms", unit_count, np.int64),
            duration_ms, unit_start_ms, _scratch.array("unit_unavailable_ms", unit_count, np.int64), start_ms,
            sums.histogram, totals,
        )
    )  # fmt: skip
    walk.draw_starts(*spread, *course.draws(Stream.SINGLE_SPREAD), block.vm_key[single_row:], single_start_ms)
    walk.walk_singles(course.start_ms, campaign.work_ms, single_row, single_start_ms, single_ms, totals)
    np.add(single_start_ms, course.origin_ms, out=start_ms[single_row:])
    totals[walk.FREE_MS] = totals[walk.END_MS]
    return duration_ms, _Walked(unit_start_ms, single_start_ms, totals), start_ms


def _no_totals() -> Int64s:
    totals = np.zeros(walk.TOTAL_COUNT, np.int64)
    totals[walk.FIRST_START_MS], totals[walk.DOWN_OF_COUNT] = NEVER_MS, 1
    return totals


def _held_in_window_ms(campaign: Campaign, single_ms: npt.NDArray[np.uint32]) -> Int64s | None:
    """How long singles are held that are hit for *single_ms* uint32[N], where there is a window they start all over."""
    return None if campaign.windows is None else np.maximum(single_ms.astype(np.int64), campaign.work_ms)


def _units_of_sets(
    vms: Vms,
    taken: Cut,
    campaign: Campaign,
    course: Course,
    duration_ms: npt.NDArray[np.uint32],
    busy_ms: Int64s | None,
) -> Units:
    """Domains of sets, each after the one before, and singles: what can keep one another waiting.

    busy_ms  int64[V] when what customers have started with a VM is over, else 0: no unit starts before
    """
    block = taken.block
    single_row, unit_count = block.single_row, len(block.domain)
    single_count = len(block.vm_key) - single_row
    # Where zones take turns, none waits for a single that starts at the end of the window.
    held_ms = None if vms.zone is not None else _held_in_window_ms(campaign, duration_ms[single_row:])
    walker_start_ms = np.concatenate(_first_instants(block, campaign, course, held_ms))
    walker_key = frozen(np.concatenate([block.set_key, block.vm_key[single_row:]]))
    draw = np.empty(len(walker_key), np.uint64)
    rng.fill_draws(*course.draws(Stream.START_PRIORITY), walker_key, draw)
    walker_offsets = np.concatenate([block.set_offsets, np.arange(unit_count + 1, unit_count + single_count + 1)])
    walker = owners(walker_offsets)
    turn = np.zeros(len(walker), np.int64)
    order = np.empty(UPDATE_DOMAIN_COUNT_MAX, np.uint64)
    vm_offsets = frozen(np.concatenate([block.unit_offsets, np.arange(single_row + 1, len(block.vm_key) + 1)]))
    zone = None if vms.zone is None else vms.zone[taken.rows[vm_offsets[:-1]]]
    if zone is None:
        walk.number_turns(block.set_offsets, _priorities(block, campaign, course), order, turn)
    else:  # zone by zone
        priorities = _priorities(block, campaign, course)
        in_zone = (block.domain, priorities) if len(priorities) else (block.domain,)
        in_turn = np.lexsort((*in_zone, zone[:unit_count], walker[:unit_count]))
        turn[in_turn] = np.arange(unit_count) - np.repeat(block.set_offsets[:-1], np.diff(block.set_offsets))
    sizes = np.diff(vm_offsets)
    set_places = np.append(0, np.cumsum(np.diff(block.set_offsets) + 1))
    unit_place = np.full(len(walker), gate.NONE)
    unit_place[:unit_count] = set_places[walker[:unit_count]] + 1 + turn[:unit_count]
    earliest_ms, waits_turn = walker_start_ms[walker], turn > 0
    if busy_ms is not None and len(earliest_ms):
        unit_busy_ms = np.maximum.reduceat(busy_ms, vm_offsets[:-1])
        earliest_ms, waits_turn = np.maximum(earliest_ms, unit_busy_ms), waits_turn & (unit_busy_ms == 0)
    return Units(
        walker_offsets=walker_offsets,
        draw=draw,
        vm_offsets=vm_offsets,
        first_row=taken.rows[vm_offsets[:-1]],  # rows of a unit rise
        earliest_ms=earliest_ms,
        position=turn,
        waits_turn=waits_turn,
        vm_place=np.repeat(unit_place, sizes),
        set_places=set_places,
        is_ordered=np.ones(len(block.set_key), np.bool_),
        zone=zone,
    )


def _gate(
    vms: Vms,
    taken: Cut,
    units: Units,
    campaign: Campaign,
    course: Course,
    duration_ms: npt.NDArray[np.uint32],
    lives: Lives,
    moved_until_ms: Int64s | None = None,
) -> _Walked:
    """`_walk` where any unit may have to wait for any other."""
    gap_ms, unit_first_row = campaign.update_domain_gap_ms, units.first_row
    if moved_until_ms is not None:  # their units have them until their moves are over, and never hit them
        is_moved = moved_until_ms > 0
        lives = Lives(lives.created_ms, np.where(is_moved, moved_until_ms, lives.deleted_ms))
        first_row = np.minimum.reduceat(np.where(is_moved, NEVER_MS, taken.rows), units.vm_offsets[:-1])
        units = replace(units, first_row=first_row)
    spans = Spans(campaign.work_ms, gap_ms, course.until_ms)
    passed = pass_gate(units, taken, spans, duration_ms, lives)
    totals = np.zeros(walk.TOTAL_COUNT, np.int64)
    totals[walk.FIRST_START_MS], totals[walk.DOWN_OF_COUNT] = passed.start_ms.min(initial=NEVER_MS), 1
    totals[walk.FREE_MS] = passed.end_ms.max(initial=0) if campaign.windows is None else course.until_ms
    hit_count, work_ms, walk_end_ms = np.zeros((3, len(units.draw)), np.int64)
    gate.sum_walks(units.walker_offsets, passed.start_ms, passed.end_ms, hit_count, work_ms, walk_end_ms)
    walked_gap_ms = np.maximum(hit_count - 1, 0) * gap_ms
    totals[walk.LONGEST_MS] = (work_ms + walked_gap_ms).max(initial=0)
    if vms.host is not None:
        longest_ms = longest_set_ms(units, taken, lives, passed, gap_ms)
        totals[walk.LONGEST_MS] = max(int(totals[walk.LONGEST_MS]), longest_ms)
    if hit_count.any():
        ended_last = np.flatnonzero(walk_end_ms == walk_end_ms.max())
        first_row = np.minimum.reduceat(unit_first_row, units.walker_offsets[:-1])
        last = int(ended_last[np.argmin(first_row[ended_last])])
        of_last = range(*units.walker_offsets[last : last + 2].tolist())
        ended = max(of_last, key=lambda unit: passed.end_ms[unit] if passed.is_hit[unit] else -1)
        totals[walk.END_MS] = walk_end_ms[last]
        totals[walk.LAST_ROW] = units.vm_offsets[of_last[0]]
        when = passed.start_ms, passed.end_ms, units.earliest_ms
        count, spread_ms, chain_work_ms, chain_gap_ms, cap_ms = gate.sum_chain(
            ended, gap_ms, course.start_ms, *when, passed.waited_for, passed.waited_unit
        )
        totals[walk.LAST_DOMAIN_COUNT] = count
        totals[walk.LAST_SPREAD_MS], totals[walk.LAST_WORK_MS] = spread_ms, chain_work_ms
        totals[walk.LAST_GAP_MS], totals[walk.LAST_CAP_MS] = chain_gap_ms, cap_ms
    unit_count = len(taken.block.domain)  # those after are singles
    return _Walked(
        passed.start_ms[:unit_count],
        passed.start_ms[unit_count:],
        totals,
        cap_bound_ms(units, taken, lives, passed) if campaign.caps else None,
        # Who comes to a host that had no room shares its fate.
        np.where(passed.is_hit, passed.start_ms, np.where(passed.overdue_ms < NEVER_MS, NEVER_MS, passed.end_ms))
        if vms.host is not None
        else None,
        None if campaign.windows is None else passed.overdue_ms,
        steps=_steps(vms, taken, units, passed),
    )


def _steps(vms: Vms, taken: Cut, units: Units, passed: Passed) -> "Steps":
    """The units that hit somebody, in the order of their first rows."""
    hit, first_row = np.flatnonzero(passed.is_hit), units.first_row
    hit = hit[np.argsort(first_row[hit], kind="stable")]  # most often it is sorted
    starts = units.vm_offsets[:-1]
    set_row = domain = None
    if vms.host is None:
        lowest = highest = taken.set_row[starts[hit]]
        if vms.cluster is not None:  # of which there may be several in step
            lowest, highest = (fold.reduceat(taken.set_row, starts)[hit] for fold in (np.minimum, np.maximum))
        set_row = np.where((lowest == highest) & (lowest >= 0), vms.vm_offsets[lowest], -1)
        in_set = taken.set_row[starts[hit]] >= 0
        domain = np.append(taken.domain, 0)[np.where(in_set, taken.rows[starts[hit]], -1)]
        domain = np.where(in_set, domain % UPDATE_DOMAIN_COUNT_MAX, -1)
    waited_unit = passed.waited_unit[hit]
    return Steps(
        first_row[hit],
        None if vms.host_row is None else vms.host_row[first_row[hit]],
        set_row,
        domain,
        passed.start_ms[hit],
        passed.end_ms[hit] - passed.start_ms[hit],
        passed.waited_for[hit],
        np.where(waited_unit >= 0, first_row[waited_unit], -1),
        passed.start_ms[hit] - units.earliest_ms[hit],
    )


def _first_instants(
    block: Block, campaign: Campaign, course: Course, held_ms: Int64s | None = None
) -> tuple[Int64s, Int64s]:
    """When each set, and each single, may first start: int64[S] and int64[N].

    In a window singles, which take held_ms int64[N], start anywhere that lets them end in it (semantics.md 27).
    """
    single_key = block.vm_key[block.single_row :]
    set_start_ms, single_start_ms = _walker_starts(block)
    spread = course.start_ms, campaign.spread_ms
    walk.draw_starts(*spread, *course.draws(Stream.SET_SPREAD), block.set_key, set_start_ms)
    draws = course.draws(Stream.SINGLE_SPREAD)
    if held_ms is None:
        walk.draw_starts(*spread, *draws, single_key, single_start_ms)
    else:
        window = course.start_ms, course.until_ms - course.start_ms
        walk.draw_starts_within(*window, *draws, single_key, held_ms, single_start_ms)
    return set_start_ms, single_start_ms


def _walker_starts(block: Block) -> tuple[Int64s, Int64s]:
    """Room for the first instants of sets and singles: int64[S] and int64[N]."""
    set_count, single_count = len(block.set_key), len(block.vm_key) - block.single_row
    start_ms = _scratch.array("walker_start_ms", set_count + single_count, np.int64)
    return start_ms[:set_count], start_ms[set_count:]


def _start_vms(block: Block, walked: _Walked, origin_ms: int) -> Int64s:
    """Start of each VM's unit, counted from *origin_ms*: int64[V]."""
    start_ms = _scratch.array("start_ms", len(block.vm_key), np.int64)
    walk.start_vms(origin_ms, block.unit_offsets, walked.unit_start_ms, start_ms)
    np.add(walked.single_start_ms, origin_ms, out=start_ms[block.single_row :])
    return start_ms


def _priorities(block: Block, campaign: Campaign, course: Course) -> npt.NDArray[np.uint64]:
    """What the domains of a set are ordered by, smallest first: uint64[U], or [0] where they go as they stand."""
    match campaign.update_domain_order:
        case DomainOrder.SEQUENTIAL:
            return np.empty(0, np.uint64)
        case DomainOrder.LARGEST_FIRST:
            return np.iinfo(np.uint64).max - np.diff(block.unit_offsets).astype(np.uint64)
        case DomainOrder.RANDOM:
            priorities = _scratch.array("priorities", len(block.domain), np.uint64)
            draws = course.draws(Stream.UPDATE_DOMAIN_ORDER)
            number = block.domain
            if campaign.one_zone_at_a_time:  # the same in each zone
                number = frozen(number % UPDATE_DOMAIN_COUNT_MAX)
            walk.draw_units(*draws, block.unit_set_key, number, priorities)
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
        reason[sets_that_share(vms, taken.domain, lives) & (reason == outage.GUARANTEED)] = NoGuarantee.SHARED_HOST
    weak = np.flatnonzero(reason >= 0)
    sums.no_guarantee_counts += np.bincount(reason[weak], minlength=len(NoGuarantee))
    sums.set_count = int(np.count_nonzero(reason != outage.NOT_HIT))

    in_sets = rows[: np.searchsorted(rows, single_row)]
    if (vms.host is not None or vms.customers is not None) and (reason == outage.NOT_HIT).any():
        is_met = np.zeros(len(reason), np.bool_)
        is_met[vms.set_row[in_sets]] = True
        reason[is_met & (reason == outage.NOT_HIT)] = outage.LATE
    set_start_ms = start_ms[: len(in_sets)]
    set_end_ms = set_start_ms + duration_ms[: len(in_sets)]
    if len(in_sets) < single_row:  # else they are all of them, in their order
        hit_start_ms, hit_end_ms = set_start_ms, set_end_ms
        set_start_ms, set_end_ms = np.full(single_row, NEVER_MS), np.zeros(single_row, np.int64)
        set_start_ms[in_sets], set_end_ms[in_sets] = hit_start_ms, hit_end_ms
    if vms.created_ms is None or vms.deleted_ms is None:
        lifetimes = Lives.of(single_row, None, None)
    else:
        lifetimes = Lives(vms.created_ms[:single_row].copy(), vms.deleted_ms[:single_row].copy())
    totals = np.zeros(outage.TOTAL_COUNT, np.int64)
    totals[outage.DOWN_OF_COUNT] = 1
    set_size_max = int(np.diff(vm_offsets).max(initial=0))
    breakpoints = np.empty(outage.BREAKPOINTS_A_VM * set_size_max + outage.BREAKPOINTS_MIN, np.int64)
    need = _need(scope.quorum)
    outage.sweep_sets(vm_offsets, reason, *lifetimes, set_start_ms, set_end_ms, need, breakpoints, totals)
    sums.set_out_ms = int(totals[outage.OUT_MS])
    sums.quorum_lost_ms = int(totals[outage.QUORUM_LOST_MS]) if scope.quorum else None
    sums.down_count, sums.down_of_count = int(totals[outage.DOWN_COUNT]), int(totals[outage.DOWN_OF_COUNT])
    return WeakSets(vm_offsets[weak], reason[weak])


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
    """Counts by the hour, from one instant to another."""

    def __init__(self, start_ms: int, end_ms: int) -> None:
        self.first = start_ms // impact.HOUR_MS
        hour_count = max(0, end_ms // impact.HOUR_MS - self.first + 1)
        self.starts, self.unavailable_ms = np.zeros(hour_count, np.int64), np.zeros(hour_count, np.int64)

    def add_to(self, sums: Sums) -> None:
        """Fill the hours of *sums*, and with them the time lost in all."""
        sums.unavailable_ms = int(self.unavailable_ms.sum())
        sums.hourly = {
            self.first + int(hour): (int(self.starts[hour]), int(self.unavailable_ms[hour]))
            for hour in np.flatnonzero(self.starts)
        }


def _tally_lengths(sums: Sums, duration_ms: npt.NDArray[np.uint32], is_rebooted: Bools | None) -> None:
    if is_rebooted is not None and is_rebooted.any():
        sums.reboot_histogram = np.zeros_like(sums.histogram)
        impact.tally_lengths(duration_ms[is_rebooted], sums.reboot_histogram)
        duration_ms = duration_ms[~is_rebooted]
    impact.tally_lengths(duration_ms, sums.histogram)


@cache
def histogram_bin_starts_ms() -> Int64s:
    """Lower bounds of the bins of `Sums.histogram`."""
    bounds = np.empty(impact.HISTOGRAM_BIN_COUNT, np.int64)
    impact.bin_starts_ms(bounds)
    return bounds
