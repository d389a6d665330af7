"""Customers in their window: any sequence of requests, refusals, failures and deletions keeps the rules."""

import heapq
from collections import Counter

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fleetsim.kernels import self_service
from fleetsim.kernels.fit import NONE
from tests import oracle

DAY_MS = 86_400_000
SEED, NAME = 7, "boot"
ALWAYS_MS = 2**62
COMPLETED, ABORTED, RETRY_LATER = 0, 1, 2


class Window(RuleBasedStateMachine):
    """VMs of up to two clusters, whose customers ask at any time; after each step the kernel takes all so far."""

    @initialize(
        vms=st.lists(st.sampled_from([0, 1]), min_size=1, max_size=6),
        slots=st.lists(st.sampled_from([0, 1, 2]), min_size=2, max_size=2),
        lengths_ms=st.lists(st.sampled_from([1, 10, DAY_MS - 1, DAY_MS, 3 * DAY_MS]), min_size=6, max_size=6),
        recycle_ms=st.sampled_from([0, 1, DAY_MS]),
        failure=st.sampled_from(["0", "0.5", "1"]),
        closes_ms=st.sampled_from([1, DAY_MS, DAY_MS + 1, 5 * DAY_MS, 40 * DAY_MS]),
        retries=st.booleans(),
        asks_again=st.booleans(),
        names=st.permutations(range(6)),
    )
    def open(self, vms, slots, lengths_ms, recycle_ms, failure, closes_ms, retries, asks_again, names):
        self.pool, self.slots, self.lengths_ms = vms, slots, lengths_ms[: len(vms)]
        self.recycle_ms, self.failure, self.closes_ms = recycle_ms, failure, closes_ms
        self.retries, self.asks_again, self.names = retries, asks_again, names[: len(vms)]
        self.deleted_ms = [ALWAYS_MS] * len(vms)
        self.now_ms, self.requests, self.bars, self.known = 0, [], [], []

    @rule(place=st.integers(0, 5), later_ms=st.sampled_from([0, 0, 1, 10, DAY_MS - 1, DAY_MS, 3 * DAY_MS]))
    def ask(self, place, later_ms):
        self.now_ms += later_ms
        row = place % len(self.pool)
        if self.asks_again and any(of == row for _, of in self.requests):
            return  # whoever asks again by itself is not asked for besides
        self.requests.append((self.now_ms, row))

    @rule(place=st.integers(0, 5), later_ms=st.sampled_from([0, 1, DAY_MS]))
    def delete(self, place, later_ms):
        row = place % len(self.pool)
        self.deleted_ms[row] = min(self.deleted_ms[row], self.now_ms + later_ms)

    @rule(place=st.integers(0, 5), later_ms=st.sampled_from([0, 1, DAY_MS]), length_ms=st.sampled_from([1, DAY_MS]))
    def bar(self, place, later_ms, length_ms):
        """A stage takes the region, and is done with a VM a while later."""
        from_ms = self.now_ms + later_ms
        self.bars.append((from_ms, place % len(self.pool), from_ms + length_ms))

    @rule(place=st.integers(0, 5), length_ms=st.sampled_from([1, DAY_MS]), is_first=st.booleans())
    def move(self, place, length_ms, is_first):
        """A customer of another campaign, before this one in the file or after it, moves a VM."""
        self.known.append((self.now_ms, place % len(self.pool), self.now_ms + length_ms, is_first))

    @invariant()
    def keeps_the_rules(self):
        if not hasattr(self, "pool"):
            return
        log = self.taken()
        assert log == self.expected()
        assert all(at_ms < self.closes_ms and at_ms < self.deleted_ms[row] for at_ms, row, _ in log)
        results = Counter((row, result) for _, row, result in log)
        for row in range(len(self.pool)):
            tries = results[row, COMPLETED] + results[row, ABORTED]
            assert results[row, COMPLETED] <= 1
            assert tries <= 1 or self.retries
            assert results[row, RETRY_LATER] <= 1 + oracle.REFUSALS_MAX or not self.asks_again
        for pool, slot_count in enumerate(self.slots):
            moves = [(at_ms, row) for at_ms, row, result in log if result == COMPLETED and self.pool[row] == pool]
            for now_ms, _ in moves:
                held = [at <= now_ms < at + self.lengths_ms[row] + self.recycle_ms for at, row in moves]
                assert sum(held) <= slot_count

    def taken(self) -> list[tuple[int, int, int]]:
        """What the kernel makes of all requests: (instant, VM, result)."""
        asks = [(at_ms, row, 1, 0) for at_ms, row in self.requests]
        asks += [(at_ms, row, 0 if is_first else 2, until_ms) for at_ms, row, until_ms, is_first in self.known]
        asks.sort(key=lambda ask: (ask[0], self.names[ask[1]], ask[2]))
        at_ms, rows, places, until_ms = (np.array([ask[i] for ask in asks], np.int64) for i in range(4))
        nowhere = np.full(len(rows), NONE)
        bars = [np.array(values, np.int64) for values in zip(*sorted(self.bars), strict=True)]
        count, slot_count, room = len(self.pool), sum(self.slots), 400
        log = *np.empty((4, room), np.int64), np.empty(room, np.int8)
        taken_count = self_service.take_requests(
            np.array([1]),
            np.array([self.closes_ms]),
            np.array([self.recycle_ms]),
            np.array([self.retries]),
            np.array([self.asks_again]),
            np.array([oracle.campaign_key(SEED, NAME)], np.uint64),
            np.array([oracle.FAILURE << 26 | 1 << 18], np.uint64),
            np.array([0], np.uint64),
            np.array([int(float(self.failure) * 2**63)], np.uint64),
            at_ms,
            rows,
            np.zeros(len(rows), np.int64),
            places,
            until_ms,
            nowhere,
            *(bars or np.empty((3, 0), np.int64)),
            np.array(self.names, np.int64),
            np.array(self.names, np.int64),
            np.full(count, -ALWAYS_MS),
            np.array(self.deleted_ms, np.int64),
            np.array([self.lengths_ms], np.uint32),
            np.array(self.pool, np.int64),
            np.array(self.slots, np.int64),
            np.empty(slot_count + 1, np.int64),
            np.empty(slot_count + 1, np.int64),
            0,
            self_service.Housed.nowhere(),
            np.zeros((1, count), np.bool_),
            *np.zeros((2, 1, count), np.int64),
            np.zeros(count, np.int64),
            *log,
            *np.empty((3, room), np.int64),
        )
        assert taken_count >= 0
        rows, instants_ms, _, results = (each[:taken_count].tolist() for each in log[1:])
        return list(zip(instants_ms, rows, results, strict=True))

    def is_barred(self, row: int, now_ms: int) -> bool:
        """Whether a stage is not done with a VM, or another campaign moves it."""
        is_known = any(
            of == row and from_ms <= now_ms - (not is_first) and now_ms < until_ms
            for from_ms, of, until_ms, is_first in self.known
        )
        return is_known or any(of == row and from_ms <= now_ms < until_ms for from_ms, of, until_ms in self.bars)

    def expected(self) -> list[tuple[int, int, int]]:
        """The same, request by request."""
        waiting = [(at_ms, self.names[row], row) for at_ms, row in self.requests]
        heapq.heapify(waiting)
        settled, refusals, failures, back_ms, log = set(), Counter(), Counter(), ([], []), []
        while waiting:
            now_ms, name, row = heapq.heappop(waiting)
            if now_ms >= self.closes_ms or row in settled or now_ms >= self.deleted_ms[row]:
                continue
            taken = back_ms[self.pool[row]]
            taken[:] = [until_ms for until_ms in taken if until_ms > now_ms]
            draw = oracle.draw64(SEED, NAME, name, oracle.FAILURE, failures[row])
            asks = False
            if len(taken) >= self.slots[self.pool[row]] or self.is_barred(row, now_ms):
                log.append((now_ms, row, RETRY_LATER))
                refusals[row] += 1
                asks = refusals[row] <= oracle.REFUSALS_MAX
            elif oracle.is_below(draw, self.failure):
                log.append((now_ms, row, ABORTED))
                failures[row] += 1
                asks = self.retries
                if not self.retries:
                    settled.add(row)
            else:
                log.append((now_ms, row, COMPLETED))
                settled.add(row)
                taken.append(now_ms + self.lengths_ms[row] + self.recycle_ms)
            if asks and self.asks_again:
                heapq.heappush(waiting, (now_ms + DAY_MS, name, row))
        return log


TestWindow = Window.TestCase
TestWindow.settings = settings(max_examples=max(20, settings.default.max_examples), stateful_step_count=20)
