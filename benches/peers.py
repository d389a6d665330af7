"""The same campaign as its users would write it in SimPy: one process a set, one a pair of regions."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simpy

from benches.campaigns import DOMAIN_COUNT, GAP_MS, P50_MS, P99_MS, REGIONS, SET_SIZE, SPREAD_MS

MU = float(np.log(P50_MS))
SIGMA = float(np.log(P99_MS / P50_MS) / 2.3263478740408408)
PER_DOMAIN = SET_SIZE // DOMAIN_COUNT


def _set(env, draws, first_vm, starts, lengths, vms):
    """One availability set: its domains one after the other, all VMs of a domain together."""
    yield env.timeout(draws.randrange(SPREAD_MS))
    order = list(range(DOMAIN_COUNT))
    draws.shuffle(order)
    for place, domain in enumerate(order):
        if place:
            yield env.timeout(GAP_MS)
        paused = [round(draws.lognormvariate(MU, SIGMA)) for _ in range(PER_DOMAIN)]
        for member, length_ms in enumerate(paused):
            starts.append(env.now)
            lengths.append(length_ms)
            vms.append(first_vm + member * DOMAIN_COUNT + domain)
        yield env.timeout(max(paused))


def _pair(env, draws, regions, starts, lengths, vms):
    """Two paired regions, never at work together."""
    for first_vm, set_count in regions:
        yield env.all_of(
            [
                env.process(_set(env, draws, first_vm + place * SET_SIZE, starts, lengths, vms))
                for place in range(set_count)
            ]
        )


def simpy_walk(vm_count: int) -> tuple[list[int], list[int], list[int]]:
    """Run the campaign in memory: start, length and VM of each event."""
    env, draws = simpy.Environment(), random.Random(7)
    starts: list[int] = []
    lengths: list[int] = []
    vms: list[int] = []
    sets_a_region = vm_count // SET_SIZE // REGIONS
    regions = [(place * sets_a_region * SET_SIZE, sets_a_region) for place in range(REGIONS)]
    for one, other in zip(regions[::2], regions[1::2], strict=True):
        env.process(_pair(env, draws, (one, other), starts, lengths, vms))
    env.run()
    return starts, lengths, vms


def simpy_to_parquet(vm_count: int, out: Path) -> None:
    """Run the campaign and write events and outcomes, with pyarrow as it comes."""
    starts, lengths, vms = simpy_walk(vm_count)
    out.mkdir()
    count = len(vms)

    def word(text: str) -> pa.Array:
        return pa.repeat(pa.scalar(text), count)

    def number(value: int, data_type: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, data_type), count)

    same = {"campaign": word("freeze"), "iteration": number(1, pa.uint8())}
    vm_row = pa.array(vms, pa.uint32())
    duration_ms = pa.array(lengths, pa.uint32())
    events = {
        **same,
        "phase": word("platform"),
        "kind": word("freeze"),
        "result": word("completed"),
        "vm_row": vm_row,
        "start_at": pa.array(starts, pa.timestamp("ms", "UTC")),
        "duration_ms": duration_ms,
        "effects": number(16, pa.uint8()),
    }
    outcomes = {
        **same,
        "vm_row": vm_row,
        "outcome": word("updated"),
        "reason": word("none"),
        "paused_ms": duration_ms,
        "down_ms": number(0, pa.uint32()),
        "event_count": number(1, pa.uint32()),
        "effects": number(16, pa.uint8()),
    }
    pq.write_table(pa.table(events), out / "events.parquet")
    pq.write_table(pa.table(outcomes), out / "outcomes.parquet")
