"""fleetsim itself, called: its kernels, its engine without files, and a run."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import fleetsim
from benches.campaign import REGIONS, SEED, START_MS_EPOCH, Given, scenario
from fleetsim import blocks, course, engine
from fleetsim.fleet import open_prepared
from fleetsim.fleet.prepared import PreparedPart
from fleetsim.scenario import load_scenario

Impacts = tuple[np.ndarray, np.ndarray]


class _Stage:
    """A campaign over parts of a fleet. The one place here that knows how the engine is called."""

    def __init__(self, *, is_random: bool) -> None:
        campaign = load_scenario(scenario(is_random=is_random)).campaigns[0]
        self.scope = blocks.Scope(campaign)
        self.key = course.campaign_key(SEED, campaign.name)

    def load(self, part: PreparedPart) -> blocks.Vms:
        return blocks.load([part], self.scope, START_MS_EPOCH)

    def advance(self, vms: blocks.Vms, start_ms: int) -> engine.Impacts:
        """Instants are since scenario.start."""
        return engine.advance(vms, self.scope, course.Course(start_ms, self.key, origin_ms=0))


def _parts(given: Given) -> list[PreparedPart]:
    return [part for region in open_prepared(given.prepared).regions for part in region.parts]


def load(given: Given) -> Callable[[], None]:
    """What the kernels read, from the prepared fleet."""
    stage, parts = _Stage(is_random=False), _parts(given)

    def task() -> None:
        for part in parts:
            stage.load(part)

    return task


def walk_constant(given: Given) -> Callable[[], None]:
    """The kernels alone, over all blocks, sums of the summary included."""
    return _walk(given, _Stage(is_random=False))


def walk_random(given: Given) -> Callable[[], None]:
    """The same with drawn lengths."""
    return _walk(given, _Stage(is_random=True))


def _walk(given: Given, stage: _Stage) -> Callable[[], None]:
    loaded = [stage.load(part) for part in _parts(given)]

    def task() -> None:
        for vms in loaded:
            stage.advance(vms, 0)

    return task


def in_memory(given: Given) -> Callable[[], Impacts]:
    """Reads the prepared fleet, takes it through the campaign on all threads, and keeps start and length of each VM."""
    stage = _Stage(is_random=given.is_random)

    def task() -> Impacts:
        regions = {region.region: region.parts for region in open_prepared(given.prepared).regions}
        start_ms, duration_ms = np.empty(given.vms, np.int64), np.empty(given.vms, np.uint32)

        def work(part: PreparedPart, begin_ms: int) -> int:
            impacts = stage.advance(stage.load(part), begin_ms)
            rows = slice(part.vm_row_start, part.vm_row_start + part.vm_count)
            start_ms[rows], duration_ms[rows] = impacts.start_at_ms, impacts.duration_ms
            return impacts.sums.free_ms

        with ThreadPoolExecutor(given.threads) as pool:

            def work_regions(names: Iterable[str], begin_ms: Iterable[int]) -> list[int]:
                """All parts of the regions *names*, each from its instant on. Returns when each region is through."""
                ends = [
                    [pool.submit(work, part, begin) for part in regions[name]]
                    for name, begin in zip(names, begin_ms, strict=True)
                ]
                return [max(end.result() for end in of_region) for of_region in ends]

            first_ms = work_regions(REGIONS[::2], [0] * len(REGIONS[::2]))
            work_regions(REGIONS[1::2], first_ms)
        return start_ms, duration_ms

    return task


def in_memory_on_one_thread(given: Given) -> Callable[[], Impacts]:
    """The same on one thread, as most opponents run."""
    return in_memory(replace(given, threads=1))


def run(given: Given) -> Callable[[], Path]:
    """`fleetsim.run` on the prepared fleet: the whole run folder, with digests and fsync."""
    return partial(run_into_new_folder, given)


def run_into_new_folder(given: Given) -> Path:
    out = given.new_folder()
    fleetsim.run(given.prepared, scenario(is_random=given.is_random), out, threads=given.threads)
    return out
