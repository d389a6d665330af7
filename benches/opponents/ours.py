"""fleetsim itself, called: its kernels, its engine without files, and a run."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

import fleetsim
from benches.campaign import DOMAIN_COUNT, REGIONS, SEED, SET_SIZE, START_MS_EPOCH, Given, scenario
from fleetsim import blocks, course, engine
from fleetsim.fleet import open_prepared, prepare
from fleetsim.fleet.prepared import PreparedPart
from fleetsim.scenario import load_scenario
from fleetsim.schema import DomainOrder

Impacts = tuple[np.ndarray, np.ndarray]


class _Stage:
    """A campaign over parts of a fleet. The one place here that knows how the engine is called."""

    def __init__(self, *, is_random: bool, keys: str = "", has_hosts: bool = False) -> None:
        campaign = load_scenario(scenario(is_random=is_random) + keys).campaigns[0]
        if has_hosts:  # which a scenario over a fleet with hosts must not say
            campaign = replace(campaign, update_domain_order=DomainOrder.RANDOM)
        self.scope = blocks.Scope(campaign, has_hosts=has_hosts)
        self.key = course.campaign_key(SEED, campaign.name)

    def load(self, *parts: PreparedPart) -> blocks.Vms:
        return blocks.load(parts, self.scope, START_MS_EPOCH)

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


_CAPS = 'caps = [{ per = "region", vms_ratio = 0.05 }]\n'


def gate_caps(given: Given) -> Callable[[], None]:
    """Units of four VMs under a cap of a twentieth of each region, which is one cell."""
    return _gate(_Stage(is_random=False, keys=_CAPS), given.prepared)


def gate_hosts(given: Given) -> Callable[[], None]:
    """Hosts of twenty VMs, one domain number each; twenty sets share twenty of them."""
    return _gate(_Stage(is_random=False, has_hosts=True), _placed(given))


def _placed(given: Given) -> Path:
    """The fleet on hosts, prepared."""
    vms, region_vms = np.arange(given.vms), given.vms // len(REGIONS)
    set_, domain = vms // SET_SIZE, vms % SET_SIZE % DOMAIN_COUNT
    group = vms // region_vms * -(-region_vms // (SET_SIZE * 20)) + vms % region_vms // (SET_SIZE * 20)
    table = {
        "vm": vms,
        "region": np.repeat(REGIONS, region_vms),
        "set": set_,
        "update_domain": domain,
        "host": (group * DOMAIN_COUNT + domain) * 4 + set_ % 4,
    }
    return prepare(pa.table(table), given.new_folder()).path


def _gate(stage: _Stage, prepared: Path) -> Callable[[], None]:
    loaded = [stage.load(*region.parts) for region in open_prepared(prepared).regions]

    def task() -> None:
        for vms in loaded:
            stage.advance(vms, 0)

    return task


def in_memory(given: Given) -> Callable[[], Impacts]:
    """Reads the prepared fleet, takes it through the campaign on all threads, and keeps start and length of each VM."""
    stage = _Stage(is_random=given.is_random)
    return partial(_campaign, given, stage, stage.load)


def in_memory_loaded(given: Given) -> Callable[[], Impacts]:
    """The same over a fleet that was read before: most opponents know it by heart."""
    stage = _Stage(is_random=given.is_random)
    loaded = {part.path: stage.load(part) for part in _parts(given)}
    return partial(_campaign, given, stage, lambda part: loaded[part.path])


def _campaign(given: Given, stage: _Stage, load_part: Callable[[PreparedPart], blocks.Vms]) -> Impacts:
    """Start and length of each VM's freeze, by vm_row."""
    regions = {region.region: region.parts for region in open_prepared(given.prepared).regions}
    start_ms, duration_ms = np.empty(given.vms, np.int64), np.empty(given.vms, np.uint32)

    def work(part: PreparedPart, begin_ms: int) -> int:
        impacts = stage.advance(load_part(part), begin_ms)
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


def run(given: Given) -> Callable[[], Path]:
    """`fleetsim.run` on the prepared fleet: the whole run folder, with digests and fsync."""
    return partial(run_into_new_folder, given)


def run_into_new_folder(given: Given) -> Path:
    return _run(given, given.prepared, scenario(is_random=given.is_random))


def _run(given: Given, prepared: Path, text: str, overrides: Sequence[str] = ()) -> Path:
    out = given.new_folder()
    fleetsim.run(prepared, text, out, threads=given.threads, overrides=overrides)
    return out


_FIGURES_ALONE = ("outputs.events=false", "outputs.outcomes=false")


def figures(given: Given) -> Callable[[], Path]:
    """A run that keeps neither events nor outcomes: kernels, and the start of a run."""
    return partial(_run, given, given.prepared, scenario(is_random=True), _FIGURES_ALONE)


def figures_caps(given: Given) -> Callable[[], Path]:
    """The same as `figures` under a cap."""
    return partial(_run, given, given.prepared, scenario(is_random=True) + _CAPS, _FIGURES_ALONE)


_REBOOTS = f"""
[[campaign]]
name = "reboots"
kind = "reboot"
length = {{ p50 = "10min", p99 = "25min" }}
notice = "30d"
self_service = {{ length = "25d", uptake_ratio = 0.33 }}
scheduled = {{ gap = "1d", length = "4d" }}
pair_order = {list(REGIONS)}
"""


def more_nothing(given: Given) -> Callable[[], Path]:
    """Random lengths, as in `run`."""
    return run(given)


def more_caps(given: Given) -> Callable[[], Path]:
    """Units of four VMs, at most a twentieth of a region's VMs at once."""
    return partial(_run, given, given.prepared, scenario(is_random=True) + _CAPS)


def more_hosts(given: Given) -> Callable[[], Path]:
    """Hosts of twenty VMs, at most a twentieth of a region's hosts at once. They go in their own order."""
    lines = scenario(is_random=True).splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("update_domain_order"))
    return partial(_run, given, _placed(given), text + 'caps = [{ per = "region", hosts_ratio = 0.05 }]\n')


def more_customers(given: Given) -> Callable[[], Path]:
    """Reboots with a window for customers, of whom a third act, and iterations for those whom it leaves."""
    head = scenario(is_random=True).partition("[[campaign]]")[0]
    return partial(_run, given, given.prepared, head + _REBOOTS)


def more_campaigns(given: Given) -> Callable[[], Path]:
    """Freezes, the reboots of `more_customers` at the same time, and freezes again a week later."""
    freezes = scenario(is_random=True)
    later = freezes.partition("[[campaign]]")[2].replace('"freeze"', '"later"', 1)
    return partial(_run, given, given.prepared, f'{freezes}{_REBOOTS}[[campaign]]{later}start = "7d"\n')
