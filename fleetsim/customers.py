"""Customers: who starts the maintenance of which VM in the window for it, and what becomes of that.

Between the notice and the scheduled window customers ask for their VMs to be moved to hosts that are updated already
(semantics.md 29-32). All VMs of a region are looked at together, since they share the room there.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt

from fleetsim.blocks import Bools, HostRoom, Int64s, Scope, Vms
from fleetsim.course import Course
from fleetsim.kernels import rng, self_service, walk
from fleetsim.kernels.fit import NONE, leaf_count_of
from fleetsim.kernels.impact import HOUR_MS
from fleetsim.profiles import PROFILE_STEPS
from fleetsim.scenario import SelfService
from fleetsim.schema import NEVER_MS, NO_ROW, Decider, Kind, Outcome, Result, Stream
from fleetsim.shipped import dataset_path

_DAY_MS = 24 * HOUR_MS
_WORKING_HOURS = (9, 17)
_WORKING_DAYS = range(5)  # from Monday on
_RATIO_BITS = 63


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests of a region's customers, by row and instant; R of them. Rows count from 0.

    Instants are since scenario.start until they are told `since_epoch`.
    """

    rows: Int64s  # [R]
    at_ms: Int64s  # [R]
    result: npt.NDArray[np.int8]  # [R] Result
    duration_ms: npt.NDArray[np.uint32]  # [R] 0 but for moves
    effects: npt.NDArray[np.uint8]  # [R]
    is_cut: Bools  # [R] the VM was deleted during its move
    hosts: npt.NDArray[np.uint32] | None = None  # [2, R] rows of its own, and of that a move goes to; NO_ROW: none

    @property
    def is_move(self) -> Bools:
        moved: Bools = self.result == Result.COMPLETED
        return moved

    @property
    def outcome(self) -> npt.NDArray[np.int8]:
        """[R] how a request ends the iteration for its VM, as far as it does: for moves and failures."""
        moved = np.where(self.is_cut, Outcome.DELETED, Outcome.UPDATED_SELF_SERVICE)
        return np.where(self.result == Result.ABORTED, Outcome.SKIPPED, moved).astype(np.int8)

    def moves(self, place: int) -> "Moves":
        """The moves among them, as those of the campaign at *place*."""
        of = self.of(self.is_move)
        return Moves(place, of.rows, of.at_ms, of.at_ms + of.duration_ms)

    def since_epoch(self, origin_ms: int) -> "Requests":
        return replace(self, at_ms=self.at_ms + origin_ms)

    def of(self, chosen: Bools | slice) -> "Requests":
        """Those *chosen*."""
        return Requests(
            self.rows[chosen],
            self.at_ms[chosen],
            self.result[chosen],
            self.duration_ms[chosen],
            self.effects[chosen],
            self.is_cut[chosen],
            None if self.hosts is None else self.hosts[:, chosen],
        )

    def within(self, start: int, stop: int) -> "Requests":
        """Those of the rows from *start* to *stop*, counted from there."""
        found = self.of(slice(*np.searchsorted(self.rows, [start, stop])))
        return replace(found, rows=found.rows - start)


@dataclass(frozen=True, slots=True)
class Asking:
    """Customers of the VMs of a region who may ask, until the scheduled window of their campaign opens."""

    vms: Vms
    scope: Scope
    course: Course
    duration_ms: npt.NDArray[np.uint32]  # [V] of moves

    @property
    def closes_ms(self) -> int:
        assert self.scope.campaign.windows is not None
        return self.course.start_ms - self.scope.campaign.windows.gap_ms

    @property
    def opens_ms(self) -> int:
        assert self.scope.campaign.windows is not None
        return self.closes_ms - self.scope.campaign.windows.self_service_ms


@dataclass(frozen=True, slots=True)
class Bar:
    """VMs that no request is granted for: a stage takes their region at `from_ms`, and each has its outcome later."""

    from_ms: int
    rows: Int64s  # [N]
    until_ms: Int64s  # [N]

    def after(self, instant_ms: int) -> "Bar":
        """What is left of it at *instant_ms*."""
        is_left = self.until_ms > instant_ms
        return self if is_left.all() else Bar(self.from_ms, self.rows[is_left], self.until_ms[is_left])


@dataclass(frozen=True, slots=True)
class Moves:
    """Moves that customers of the campaign at `place` have made, N of them. Instants since scenario.start."""

    place: int
    rows: Int64s  # [N]
    at_ms: Int64s  # [N]
    until_ms: Int64s  # [N]

    def after(self, instant_ms: int) -> "Moves":
        """Those that go on after *instant_ms*."""
        is_left = self.until_ms > instant_ms
        return Moves(self.place, self.rows[is_left], self.at_ms[is_left], self.until_ms[is_left])


@dataclass(frozen=True, slots=True)
class Known:
    """What is settled in a region, in the order of instants: it decides about requests that are not."""

    bars: tuple[Bar, ...] = ()
    moves: tuple[Moves, ...] = ()

    def after(self, instant_ms: int) -> "Known":
        """What of it may still matter after *instant_ms*."""
        bars = (bar.after(instant_ms) for bar in self.bars)
        moves = (each.after(instant_ms) for each in self.moves)
        return Known(tuple(bar for bar in bars if len(bar.rows)), tuple(each for each in moves if len(each.rows)))


def take_requests(vms: Vms, scope: Scope, course: Course, duration_ms: npt.NDArray[np.uint32]) -> Requests:
    """What customers do before the scheduled window opens with the course; *duration_ms* uint32[V] is of moves.

    Whoever is deleted, or not there yet, when it is time does not ask.
    """
    return take_all([Asking(vms, scope, course, duration_ms)], course.start_ms)[0]


def take_all(asking: Sequence[Asking], until_ms: int, known: Known = Known()) -> list[Requests]:
    """What the customers of several campaigns do before *until_ms* in a region, each as `take_requests` says.

    *known* is what the platform, and customers of further campaigns, do until then.
    """
    places = [each.scope.campaign.place for each in asking]
    order = sorted(range(len(asking)), key=places.__getitem__)
    in_order = [asking[i] for i in order]
    vms, customers = asking[0].vms, asking[0].vms.customers
    assert customers is not None
    campaigns = [each.scope.campaign.self_service for each in in_order]
    asked = [each for each in campaigns if each is not None]
    asks = _requests_of(in_order, known)
    bars = known.bars
    vm_count = len(vms.block.vm_key)
    always = np.full(vm_count, -NEVER_MS), np.full(vm_count, NEVER_MS)
    created_ms, deleted_ms = (
        always
        if vms.created_ms is None or vms.deleted_ms is None
        else (np.array(vms.created_ms), np.array(vms.deleted_ms))
    )
    free, taken = _slots(in_order) if customers.hosts is None else (np.zeros(1, np.int64), np.empty((2, 0), np.int64))
    heap = np.empty((2, (int(free.sum()) if customers.hosts is None else vm_count) + taken.shape[1] + 1), np.int64)
    heap[:, : taken.shape[1]] = taken
    draws = [each.course.draws(Stream.FAILURE) for each in in_order]
    room = len(asks[0]) + len(asks[0]) // 2 + 16
    while True:
        log = *np.empty((4, room), np.int64), np.empty(room, np.int8)
        count = self_service.take_requests(
            np.array([each.scope.campaign.place for each in in_order], np.int64),
            np.array([min(each.closes_ms, until_ms) for each in in_order], np.int64),
            np.array([_recycle_ms(each) for each in in_order], np.int64),
            np.array([each.retries for each in asked], np.bool_),
            np.array([each.plan is None for each in asked], np.bool_),
            *np.array(draws, np.uint64).T.copy(),
            np.array([_below(each.failure) for each in asked], np.uint64),
            *asks,
            _joined([np.full(len(bar.rows), bar.from_ms) for bar in bars]),
            _joined([bar.rows for bar in bars]),
            _joined([bar.until_ms for bar in bars]),
            vms.block.vm_key,
            customers.rank,
            created_ms,
            deleted_ms,
            np.stack([each.duration_ms for each in in_order]),
            customers.pool,
            free.copy(),
            *heap.copy(),
            taken.shape[1],
            self_service.Housed.nowhere() if customers.hosts is None else _housed(customers.hosts, deleted_ms),
            np.zeros((len(asking), vm_count), np.bool_),
            *np.zeros((2, len(asking), vm_count), np.int64),
            np.zeros(vm_count, np.int64),
            *log,
            *np.empty((3, room), np.int64),
        )
        if count != self_service.FULL:
            break
        room *= 2
    log_of, *of_log = (each[:count] for each in log)
    found = [_requests([each[log_of == i] for each in of_log], of, deleted_ms) for i, of in enumerate(in_order)]
    return [found[order.index(i)] for i in range(len(asking))]


def _requests_of(asking: Sequence[Asking], known: Known) -> list[Int64s]:
    """What `self_service.take_requests` reads of requests: those made first, and the moves that are known."""
    found = []
    for i, each in enumerate(asking):
        asked, customers, selected = each.scope.campaign.self_service, each.vms.customers, each.vms.is_selected
        assert asked is not None
        assert customers is not None
        if customers.planned is None:
            rows, at_ms = _first_requests(each.vms, asked, each.course, each.opens_ms, each.closes_ms)
        else:
            rows, at_ms = customers.planned
            is_open = (each.opens_ms <= at_ms) & (at_ms < each.closes_ms)
            rows, at_ms = rows[is_open], at_ms[is_open]
        if selected is not None:
            rows, at_ms = (column[selected[rows]] for column in (rows, at_ms))
        found.append([at_ms, rows, *(np.full(len(rows), value) for value in (i, each.scope.campaign.place, 0, NONE))])
    for moves in known.moves:
        of, place, nowhere = (np.full(len(moves.rows), value) for value in (0, moves.place, NONE))
        found.append([moves.at_ms, moves.rows, of, place, moves.until_ms, nowhere])
    customers = asking[0].vms.customers
    assert customers is not None
    if customers.hosts is not None:  # of iterations before, whose hosts are taken
        moved_rows, moved_ms, until_ms, host = customers.hosts.moved
        of, place = (np.full(len(moved_rows), value) for value in (0, asking[0].scope.campaign.place))
        found.append([moved_ms, moved_rows, of, place, until_ms, host])
    columns = [np.concatenate(columns) for columns in zip(*found, strict=True)]
    at_ms, rows, _, place, *_ = columns
    order = np.lexsort((place, customers.rank[rows], at_ms))
    return [column[order] for column in columns]


def _slots(asking: Sequence[Asking]) -> tuple[Int64s, Int64s]:
    """Free slots by campaign and pool, int64[C * P], and as `Left` has them those that iterations before have taken."""
    free, taken = [], []
    for i, each in enumerate(asking):
        asked, customers = each.scope.campaign.self_service, each.vms.customers
        assert asked is not None
        assert customers is not None
        spare = asked.spare
        slots = [count * spare.numerator // spare.denominator for count in customers.pool_sizes.tolist()]
        taken_ms, taken_pool = customers.taken[:, customers.taken[0] > each.opens_ms]
        free.append(np.array(slots, np.int64) - np.bincount(taken_pool, minlength=len(slots)))
        taken.append(np.stack([taken_ms, taken_pool + i * len(slots)]))
    of_all = np.concatenate(taken, axis=1)
    by_instant: Int64s = of_all[:, np.argsort(of_all[0])]
    return np.concatenate(free), by_instant


def _recycle_ms(asking: Asking) -> int:
    """How long after its last move what a VM has left is room again: hosts that are given up never are."""
    asked = asking.scope.campaign.self_service
    assert asked is not None
    is_given_up = asking.scope.campaign.kind == Kind.REDEPLOY and asking.vms.host is not None
    return NEVER_MS // 2 if is_given_up else asked.recycle_ms


def _housed(hosts: HostRoom, deleted_ms: Int64s) -> self_service.Housed:
    """What the kernel asks about *hosts*, as all VMs are where the fleet puts them; *deleted_ms* int64[V]."""
    host_count = len(hosts.pool_of)
    by_pool = np.argsort(hosts.pool_of, kind="stable")
    pool_sizes = np.bincount(hosts.pool_of)
    starts = np.concatenate([[0], np.cumsum(pool_sizes)])
    place_of = np.empty(host_count, np.int64)
    place_of[by_pool] = np.arange(host_count) - np.repeat(starts[:-1], pool_sizes)
    leaf_counts = [leaf_count_of(size) for size in pool_sizes.tolist()]
    trees = np.concatenate([[0], np.cumsum(2 * np.array(leaf_counts))])
    deleted = np.flatnonzero(deleted_ms < NEVER_MS)
    housed = self_service.Housed(
        deletion_row=deleted[np.argsort(deleted_ms[deleted], kind="stable")],
        need=hosts.need,
        room=hosts.room,
        host_of=np.array(hosts.host_of),
        pool_of=np.array(hosts.pool_of),
        place_of=place_of,
        hosts=by_pool,
        starts=starts,
        trees=trees,
        most=np.empty((trees[-1], 2), np.int64),
        target=np.full(len(hosts.host_of), NONE),
        vms_left=np.bincount(hosts.host_of, minlength=host_count),
        is_moved_from=np.zeros(host_count, np.bool_),
        emptied=np.empty(host_count, np.int64),
        emptied_ms=np.empty(host_count, np.int64),
        cursors=np.zeros(self_service.CURSOR_COUNT, np.int64),
    )
    self_service.open_spare(housed, np.array(hosts.is_spare))
    return housed


def _requests(log: Sequence[Int64s], asking: Asking, deleted_ms: Int64s) -> Requests:
    """The rows of a *log* of the kernel, instants and results, as they are told."""
    log_row, log_ms, log_target, log_result = log
    assert asking.vms.move_effects is not None
    assert asking.vms.customers is not None
    by_row = np.lexsort((log_ms, log_row))
    rows, at_ms, result = log_row[by_row], log_ms[by_row], log_result[by_row].astype(np.int8)
    is_move = result == Result.COMPLETED
    took_ms = np.where(is_move, asking.duration_ms[rows], 0).astype(np.int64)
    is_cut = is_move & (at_ms + took_ms > deleted_ms[rows])
    took_ms[is_cut] = (deleted_ms[rows] - at_ms)[is_cut]
    effects = np.where(is_move & ~is_cut, asking.vms.move_effects[rows], 0).astype(np.uint8)
    told = None
    if (hosts := asking.vms.customers.hosts) is not None:
        target = log_target[by_row]
        goes_to = np.where(target == NONE, NO_ROW, hosts.first_row + target)
        told = np.stack([hosts.first_row + hosts.host_of[rows], goes_to]).astype(np.uint32)
    return Requests(rows, at_ms, result, took_ms.astype(np.uint32), effects, is_cut, told)


def _joined(arrays: Sequence[Int64s]) -> Int64s:
    return np.concatenate([np.empty(0, np.int64), *arrays])


def slots_taken(requests: Requests, vms: Vms, scope: Scope, duration_ms: npt.NDArray[np.uint32]) -> Int64s:
    """int64[2, N]: when slots come back that customers have taken so far, by that, and the pool of each.

    *requests* are those that `take_requests` has returned for moves of *duration_ms* uint32[V]; instants are since
    scenario.start.
    """
    asked = scope.campaign.self_service
    assert asked is not None
    assert vms.customers is not None
    rows = requests.rows[requests.is_move]
    back_ms = requests.at_ms[requests.is_move] + duration_ms[rows] + asked.recycle_ms
    taken = np.concatenate([vms.customers.taken, [back_ms, vms.customers.pool[rows]]], axis=1)
    by_instant: Int64s = taken[:, np.argsort(taken[0])]
    return by_instant


def moved_to_hosts(requests: Requests, hosts: HostRoom, duration_ms: npt.NDArray[np.uint32]) -> Int64s:
    """int64[4, N]: the moves so far, as `Left` has them; arguments as of `slots_taken`."""
    moves = requests.of(requests.is_move)
    until_ms = moves.at_ms + duration_ms[moves.rows]
    assert moves.hosts is not None
    target = moves.hosts[1].astype(np.int64) - hosts.first_row
    return np.concatenate([hosts.moved, [moves.rows, moves.at_ms, until_ms, target]], axis=1)


def _first_requests(
    vms: Vms, asked: SelfService, course: Course, opens_ms: int, closes_ms: int
) -> tuple[Int64s, Int64s]:
    """Rows of those who act, and when each asks first."""
    assert vms.customers is not None
    own_key = np.array(vms.block.vm_key)
    if asked.by != Decider.VM:
        own_key[: vms.block.single_row] = vms.block.set_key[vms.set_row]
    deciding_key = own_key
    if vms.customers.subscription is not None:
        has_one, keys = vms.customers.subscription
        deciding_key = np.where(has_one, keys, own_key)
    draws = np.empty(len(own_key), np.uint64)
    rng.fill_draws(*course.draws(Stream.UPTAKE), deciding_key, draws)
    rows = np.flatnonzero(draws >> np.uint64(1) < _below(asked.uptake))
    keys = own_key[rows]
    return rows, opens_ms + moments_ms(asked, course, opens_ms, closes_ms, keys)


def moments_ms(asked: SelfService, course: Course, opens_ms: int, closes_ms: int, keys: Int64s) -> Int64s:
    """When those with *keys* int64[N] ask, after *opens_ms*: int64[N] in [0, closes_ms - opens_ms)."""
    draw = course.draws(Stream.TIMING)
    last_ms = closes_ms - opens_ms - 1
    if asked.timing in ("uniform", "working_hours"):
        spans = np.array(
            working_spans_ms(course.origin_ms + opens_ms, course.origin_ms + closes_ms, course.region)
            if asked.timing == "working_hours"
            else [(0, last_ms + 1)]
        )
        lengths_ms = spans[:, 1] - spans[:, 0]
        place = np.empty(len(keys), np.int64)
        walk.draw_starts(0, int(lengths_ms.sum()), *draw, keys, place)
        ends = np.cumsum(lengths_ms)
        span = np.searchsorted(ends, place, side="right")
        within: Int64s = spans[span, 0] + place - (ends - lengths_ms)[span]
        return within
    draws = np.empty(len(keys), np.uint64)
    rng.fill_draws(*draw, keys, draws)
    table = _quantiles_ms(asked, last_ms)
    entry = (draws >> np.uint64(48)).astype(np.int64)
    fraction = (draws >> np.uint64(32) & np.uint64(0xFFFF)).astype(np.int64)
    interpolated: Int64s = table[entry] + ((table[entry + 1] - table[entry]) * fraction + 2**15 >> 16)
    return interpolated


def _quantiles_ms(asked: SelfService, last_ms: int) -> Int64s:
    """int64[PROFILE_STEPS + 1]: when the share of entry / PROFILE_STEPS has asked, after the window's opening."""
    if not isinstance(asked.timing, str):
        return np.minimum(asked.timing.table.astype(np.int64), last_ms)
    # Half of them within the first eighth of the window, or the last.
    early = [last_ms * i**3 // PROFILE_STEPS**3 for i in range(PROFILE_STEPS + 1)]
    return np.array(early if asked.timing == "early" else [last_ms - ms for ms in reversed(early)])


def working_spans_ms(opens_ms: int, closes_ms: int, region: str) -> list[tuple[int, int]]:
    """Spans since *opens_ms* in which people in *region* are at work; the whole window where there is no such span.

    Instants are since the epoch. From 9 to 17 on Mondays to Fridays, by local mean time: a whole number of hours from
    UTC, by the region's longitude, without daylight saving (semantics.md 32).
    """
    offset_ms = round_half_up(longitudes().get(region, Fraction(0)) / 15) * HOUR_MS
    first_day, last_day = ((ms + offset_ms) // _DAY_MS for ms in (opens_ms, closes_ms))
    spans = []
    for day in range(first_day, last_day + 1):
        if (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)).weekday() in _WORKING_DAYS:
            from_ms, to_ms = (day * _DAY_MS + hour * HOUR_MS - offset_ms for hour in _WORKING_HOURS)
            span = max(from_ms, opens_ms) - opens_ms, min(to_ms, closes_ms) - opens_ms
            if span[0] < span[1]:
                spans.append(span)
    return spans or [(0, closes_ms - opens_ms)]


def round_half_up(value: Fraction) -> int:
    return math.floor(value + Fraction(1, 2))


@cache
def longitudes() -> dict[str, Fraction]:
    """Degrees east of the regions whose place is published; work in others is by UTC."""
    with dataset_path("region_pairs_real.csv").open(encoding="utf-8", newline="") as file:
        return {row["region"]: Fraction(row["longitude"]) for row in csv.DictReader(file) if row["longitude"]}


def _below(ratio: Fraction) -> np.uint64:
    """What the half of a draw is below for a share *ratio* of all draws."""
    return np.uint64((ratio.numerator << _RATIO_BITS) // ratio.denominator)
