"""Event loops in plain Python: a heap of events, and SimPy with a process a set or a process a VM.

The collector of cyclic garbage is off meanwhile, as one has it who knows SimPy: looking at a million waiting processes
again and again takes more than twice as long as the simulation, and frees nothing.
"""

import gc
import heapq
import random
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from benches.campaign import (
    DOMAIN_COUNT,
    DOMAIN_SIZE,
    FREEZE_MS,
    GAP_MS,
    MU,
    REGION_COUNT,
    SEED,
    SET_SIZE,
    SIGMA,
    Given,
)

Impacts = tuple[list[int], list[int]]
Draw = Callable[[], int]
Process = Generator[Any, Any, None]


def draw_of(given: Given) -> Draw:
    """The length of the next freeze, in ms."""
    if not given.is_random:
        return lambda: FREEZE_MS
    draws = random.Random(SEED)
    return lambda: round(draws.lognormvariate(MU, SIGMA))


@contextmanager
def no_collector() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def pairs(vms: int) -> Iterator[tuple[range, range]]:
    """The first VMs of the sets of each region, pair by pair."""
    region_vms = vms // REGION_COUNT
    for first in range(0, vms, 2 * region_vms):
        middle = first + region_vms
        yield range(first, middle, SET_SIZE), range(middle, middle + region_vms, SET_SIZE)


def heap(given: Given) -> Callable[[], Impacts]:
    """One loop over a heap of (instant, first VM of a set, its next domain)."""
    return partial(_heap, given)


@no_collector()
def _heap(given: Given) -> Impacts:
    vms, draw = given.vms, draw_of(given)
    starts, lengths = [0] * vms, [0] * vms
    region_vms = vms // REGION_COUNT
    sets_at_work = [region_vms // SET_SIZE] * REGION_COUNT
    events: list[tuple[int, int, int]] = [(0, first, 0) for region, _ in pairs(vms) for first in region]
    heapq.heapify(events)
    while events:
        now, first, domain = heapq.heappop(events)
        if domain == DOMAIN_COUNT:  # the set is through; the last of its region lets the second one start
            region = first // region_vms
            sets_at_work[region] -= 1
            if not sets_at_work[region] and region % 2 == 0:
                for other in range((region + 1) * region_vms, (region + 2) * region_vms, SET_SIZE):
                    heapq.heappush(events, (now, other, 0))
            continue
        longest = 0
        for vm in range(first + domain, first + SET_SIZE, DOMAIN_COUNT):
            length = draw()
            starts[vm], lengths[vm] = now, length
            longest = max(longest, length)
        gap = GAP_MS if domain < DOMAIN_COUNT - 1 else 0
        heapq.heappush(events, (now + longest + gap, first, domain + 1))
    return starts, lengths


def simpy_sets(given: Given) -> Callable[[], Impacts]:
    """A process a set, which takes its domains one after the other, and one a pair of regions."""
    return partial(simpy_walk, given)


@no_collector()
def simpy_walk(given: Given) -> Impacts:
    """Start and length of each VM's freeze."""
    import simpy

    env, draw = simpy.Environment(), draw_of(given)
    starts, lengths = [0] * given.vms, [0] * given.vms
    for regions in pairs(given.vms):
        env.process(_pair(env, regions, partial(_set, env, starts, lengths, draw)))
    env.run()
    return starts, lengths


def _pair(env: Any, regions: tuple[range, range], work_set: Callable[[int], Process]) -> Process:
    for region in regions:
        yield env.all_of([env.process(work_set(first)) for first in region])


def _set(env: Any, starts: list[int], lengths: list[int], draw: Draw, first: int) -> Process:
    for domain in range(DOMAIN_COUNT):
        if domain:
            yield env.timeout(GAP_MS)
        longest = 0
        for vm in range(first + domain, first + SET_SIZE, DOMAIN_COUNT):
            length = draw()
            starts[vm], lengths[vm] = env.now, length
            longest = max(longest, length)
        yield env.timeout(longest)


def simpy_vms(given: Given) -> Callable[[], Impacts]:
    """A process a VM; the set starts those of a domain together and waits for all of them."""
    return partial(_simpy_vms, given)


@no_collector()
def _simpy_vms(given: Given) -> Impacts:
    import simpy

    env: Any = simpy.Environment()
    draw = draw_of(given)
    starts, lengths = [0] * given.vms, [0] * given.vms

    def freeze(vm: int) -> Process:
        starts[vm], lengths[vm] = env.now, draw()
        yield env.timeout(lengths[vm])

    def work_set(first: int) -> Process:
        for domain in range(DOMAIN_COUNT):
            if domain:
                yield env.timeout(GAP_MS)
            hit = [env.process(freeze(first + domain + DOMAIN_COUNT * place)) for place in range(DOMAIN_SIZE)]
            yield env.all_of(hit)

    for regions in pairs(given.vms):
        env.process(_pair(env, regions, work_set))
    env.run()
    return starts, lengths
