"""Customers: who starts the maintenance of which VM in the window for it, and what becomes of that.

Between the notice and the scheduled window customers ask for their VMs to be moved to hosts that are updated already
(semantics.md 29-32). All VMs of a region are looked at together, since they share the room there.
"""

import csv
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache

import numpy as np
import numpy.typing as npt

from fleetsim.blocks import Bools, Int64s, Scope, Vms
from fleetsim.course import Course
from fleetsim.kernels import rng, self_service, walk
from fleetsim.kernels.impact import HOUR_MS
from fleetsim.profiles import PROFILE_STEPS
from fleetsim.scenario import SelfService
from fleetsim.schema import NEVER_MS, Decider, Outcome, Result, Stream
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

    @property
    def is_move(self) -> Bools:
        moved: Bools = self.result == Result.COMPLETED
        return moved

    @property
    def outcome(self) -> npt.NDArray[np.int8]:
        """[R] how a request ends the iteration for its VM, as far as it does: for moves and failures."""
        moved = np.where(self.is_cut, Outcome.DELETED, Outcome.UPDATED_SELF_SERVICE)
        return np.where(self.result == Result.ABORTED, Outcome.SKIPPED, moved).astype(np.int8)

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
        )

    def within(self, start: int, stop: int) -> "Requests":
        """Those of the rows from *start* to *stop*, counted from there."""
        found = self.of(slice(*np.searchsorted(self.rows, [start, stop])))
        return replace(found, rows=found.rows - start)


def take_requests(vms: Vms, scope: Scope, course: Course, duration_ms: npt.NDArray[np.uint32]) -> Requests:
    """What customers do before the scheduled window opens with the course; *duration_ms* uint32[V] is of moves.

    Whoever is deleted, or not there yet, when it is time does not ask.
    """
    asked, windows = scope.campaign.self_service, scope.campaign.windows
    assert asked is not None
    assert windows is not None
    assert vms.customers is not None
    assert vms.move_effects is not None
    closes_ms = course.start_ms - windows.gap_ms
    opens_ms = closes_ms - windows.self_service_ms
    if vms.customers.planned is None:
        rows, at_ms = _first_requests(vms, asked, course, opens_ms, closes_ms)
    else:
        rows, at_ms = vms.customers.planned
        is_open = (opens_ms <= at_ms) & (at_ms < closes_ms)
        rows, at_ms = rows[is_open], at_ms[is_open]
    if vms.is_selected is not None:
        rows, at_ms = (each[vms.is_selected[rows]] for each in (rows, at_ms))
    order = np.lexsort((vms.customers.rank[rows], at_ms))
    rows, at_ms = rows[order], at_ms[order]
    vm_count = len(vms.block.vm_key)
    always = np.full(vm_count, -NEVER_MS), np.full(vm_count, NEVER_MS)
    created_ms, deleted_ms = (
        always
        if vms.created_ms is None or vms.deleted_ms is None
        else (np.array(vms.created_ms), np.array(vms.deleted_ms))
    )
    slots = np.array(
        [count * asked.spare.numerator // asked.spare.denominator for count in vms.customers.pool_sizes.tolist()],
        np.int64,
    )
    heap = np.empty((2, int(slots.sum()) + 1), np.int64)
    taken_ms, taken_pool = vms.customers.taken[:, vms.customers.taken[0] > opens_ms]
    heap[:, : len(taken_ms)] = taken_ms, taken_pool
    free = slots - np.bincount(taken_pool, minlength=len(slots))
    room = len(rows) + len(rows) // 2 + 16
    while True:
        log = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int8)
        count = self_service.take_requests(
            closes_ms,
            asked.recycle_ms,
            asked.retries,
            asked.plan is None,
            *course.draws(Stream.FAILURE),
            _below(asked.failure),
            at_ms,
            rows,
            vms.block.vm_key,
            vms.customers.rank,
            created_ms,
            deleted_ms,
            duration_ms,
            vms.customers.pool,
            free.copy(),
            *heap.copy(),
            len(taken_ms),
            np.zeros(vm_count, np.bool_),
            np.zeros(vm_count, np.int64),
            np.zeros(vm_count, np.int64),
            *log,
            np.empty(room, np.int64),
            np.empty(room, np.int64),
        )
        if count != self_service.FULL:
            break
        room *= 2
    log_row, log_ms, log_result = log[0][:count], log[1][:count], log[2][:count]
    by_row = np.lexsort((log_ms, log_row))
    rows, at_ms, result = log_row[by_row], log_ms[by_row], log_result[by_row]
    is_move = result == Result.COMPLETED
    took_ms = np.where(is_move, duration_ms[rows], 0).astype(np.int64)
    is_cut = is_move & (at_ms + took_ms > deleted_ms[rows])
    took_ms[is_cut] = (deleted_ms[rows] - at_ms)[is_cut]
    effects = np.where(is_move & ~is_cut, vms.move_effects[rows], 0).astype(np.uint8)
    return Requests(rows, at_ms, result, took_ms.astype(np.uint32), effects, is_cut)


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
