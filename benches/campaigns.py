"""The campaign all benchmarks share: sets of 20 over 5 domains in ten regions in five pairs, by fleetsim."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fleetsim
from fleetsim import engine
from fleetsim.fleet import PreparedFleet, generate, prepare
from fleetsim.scenario import Campaign, load_scenario

REGIONS = 10
SET_SIZE, DOMAIN_COUNT = 20, 5
GAP_MS, SPREAD_MS = 600_000, 12 * 3_600_000
P50_MS, P99_MS = 6_000, 9_000

SCENARIO = """
name = "bench"
start = 2026-12-01T00:00:00Z
seed = 7
[[campaign]]
name = "freeze"
length = { p50 = "6s", p99 = "9s" }
update_domain_gap = "10min"
spread = "12h"
"""
RANDOM = load_scenario(SCENARIO).campaigns[0]
CONSTANT = load_scenario(SCENARIO, ["campaign.freeze.length=30s"]).campaigns[0]

Blocks = list[tuple[int, engine.Block]]


def prepared_fleet(folder: Path, vms: int) -> PreparedFleet:
    """A prepared fleet of plain sets, made in *folder*."""
    generate(folder / "generated", vms, set_size=SET_SIZE, update_domains=DOMAIN_COUNT)
    prepared = prepare(folder / "generated", folder / "prepared")
    shutil.rmtree(folder / "generated")
    return prepared


def blocks(prepared: PreparedFleet) -> Blocks:
    """All blocks of *prepared*, each with its first vm_row."""
    return [(part.vm_row_start, engine.load_block(part)) for region in prepared.regions for part in region.parts]


def walk(loaded: Blocks, campaign: Campaign) -> None:
    """Take *loaded* blocks through a stage, on this thread, without files."""
    key = engine.campaign_key(7, campaign.name)
    for vm_row_start, block in loaded:
        engine.advance(block, campaign, key=key, start_ms=0, vm_row_start=vm_row_start, origin_ms=0)


def walk_on_threads(prepared: PreparedFleet, threads: int) -> None:
    """Read and walk all blocks, regions of a pair one after the other, without files."""
    parts = [part for region in prepared.regions for part in region.parts]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: walk([(part.vm_row_start, engine.load_block(part))], RANDOM), parts))


def run(prepared: Path, out: Path) -> Path:
    """A whole run in this process, events and outcomes to Parquet."""
    fleetsim.run(prepared, SCENARIO, out)
    return out
