"""Benchmarks: kernel, stage and run beside the machine's limits and a peer, as one table.

    python -m benches [--vms 10000000] [--peer-vms 1000000] [--rounds 5] [--json FILE]

What is compared runs in turn, round after round, so that a noisy machine hits all alike; medians are shown, and the
ratio is the median of the rounds' ratios. Read the ratios: seconds are those of one machine on one day.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benches import campaigns, limits, peers

Task = Callable[[], object]


@dataclass(frozen=True)
class Row:
    group: str
    what: str
    vms: int
    seconds: float
    ns_per_vm: float
    ratio: float | None = None
    against: str = ""


def in_turn(tasks: dict[str, Task], rounds: int, cleared: tuple[Path, ...] = ()) -> dict[str, list[float]]:
    """Seconds of each task, round by round, after one round that is not counted; before each, *cleared* are removed."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for counted in range(-1, rounds):
        for name, task in tasks.items():
            for folder in cleared:
                shutil.rmtree(folder, ignore_errors=True)
            started_s = time.perf_counter()
            task()
            if counted >= 0:
                seconds[name].append(time.perf_counter() - started_s)
    return seconds


def rows(group: str, vms: int, seconds: dict[str, list[float]], against: str, *, is_slower_better: bool = False):
    """A row a task; the ratio is to the task named *against*: how much longer, or (for peers) how much shorter."""
    for name, own in seconds.items():
        median_s = statistics.median(own)
        if name == against:
            yield Row(group, name, vms, median_s, median_s / vms * 1e9)
            continue
        pairs = zip(seconds[against], own, strict=True) if is_slower_better else zip(own, seconds[against], strict=True)
        ratio = statistics.median(one / other for one, other in pairs)
        yield Row(group, name, vms, median_s, median_s / vms * 1e9, ratio, against)


def whole_process(prepared: Path, folder: Path, rounds: int) -> tuple[list[float], float]:
    """Seconds and peak GiB of `fleetsim run` as a process of its own, on *prepared*."""
    scenario = folder / "scenario.toml"
    scenario.write_text(campaigns.SCENARIO)
    seconds, peak_gib = [], 0.0
    # Not ru_maxrss: what starts as a copy of a large process keeps the peak of that one.
    code = (
        "import sys; from pathlib import Path; from fleetsim.cli import cli;"
        "cli.main(prog_name='fleetsim', standalone_mode=False);"
        "peak = [line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM')];"
        "print(peak[0].split()[1], file=sys.stderr)"
    )
    for place in range(rounds + 1):
        command = [sys.executable, "-c", code, "run", str(prepared), str(scenario), "-o", str(folder / f"run-{place}")]
        started_s = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        if place:
            seconds.append(time.perf_counter() - started_s)
        peak_gib = max(peak_gib, int(done.stderr.split()[-1]) / 2**20)
    return seconds, peak_gib


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=int, default=10_000_000)
    parser.add_argument("--peer-vms", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    threads = os.cpu_count() or 1
    console = Console()
    table: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="fleetsim-bench-", dir=Path.cwd()) as name:
        folder = Path(name)
        prepared = campaigns.prepared_fleet(folder / "fleet", arguments.vms)
        vms = prepared.vm_count

        console.print(f"kernel: {vms:,} VMs, one thread")
        blocks = campaigns.blocks(prepared)
        copied = limits.copied_arrays(sum(len(block.vm_key) for _, block in blocks[:1]))
        kernel = in_turn(
            {
                "memory copy of starts and lengths": copied,
                "walk, constant lengths": lambda: campaigns.walk(blocks[:1], campaigns.CONSTANT),
                "walk, random lengths": lambda: campaigns.walk(blocks[:1], campaigns.RANDOM),
            },
            arguments.rounds * 4,
        )
        table += rows("kernel", len(blocks[0][1].vm_key), kernel, "memory copy of starts and lengths")

        console.print("stage: all blocks of the fleet in memory, no files")
        stage = in_turn(
            {"read the prepared fleet": lambda: campaigns.blocks(prepared),
             "walk all blocks": lambda: campaigns.walk_on_threads(prepared, threads)},
            arguments.rounds,
        )  # fmt: skip
        table += rows("stage", vms, stage, "read the prepared fleet")

        console.print("run: events and outcomes to Parquet, beside a bare pyarrow write of the same tables")
        ready = limits.ready_tables(campaigns.run(prepared.path, folder / "ready"))
        run = in_turn(
            {
                "bare pyarrow write": lambda: limits.bare_write(ready, folder / "bare", threads, is_durable=False),
                "bare pyarrow write, fsync": lambda: limits.bare_write(
                    ready, folder / "bare", threads, is_durable=True
                ),
                "fleetsim.run": lambda: campaigns.run(prepared.path, folder / "run"),
            },
            arguments.rounds,
            (folder / "bare", folder / "run"),
        )
        table += rows("run", vms, run, "bare pyarrow write")
        ready.clear()
        seconds, peak_gib = whole_process(prepared.path, folder, arguments.rounds)
        table.append(Row("run", f"whole process, peak {peak_gib:.2f} GiB", vms, statistics.median(seconds),
                         statistics.median(seconds) / vms * 1e9))  # fmt: skip

        console.print(f"peer: SimPy, one process a set, {arguments.peer_vms:,} VMs")
        small = campaigns.prepared_fleet(folder / "small", arguments.peer_vms)
        memory = in_turn(
            {
                "fleetsim, in memory": lambda: campaigns.walk_on_threads(small, threads),
                "SimPy, in memory": lambda: peers.simpy_walk(small.vm_count),
            },
            min(arguments.rounds, 3),
        )
        table += rows("peer", small.vm_count, memory, "fleetsim, in memory")
        files = in_turn(
            {
                "fleetsim.run, to Parquet": lambda: campaigns.run(small.path, folder / "run"),
                "SimPy, to Parquet": lambda: peers.simpy_to_parquet(small.vm_count, folder / "simpy"),
            },
            min(arguments.rounds, 3),
            (folder / "run", folder / "simpy"),
        )
        table += rows("peer", small.vm_count, files, "fleetsim.run, to Parquet")
    show(console, table)
    if arguments.json:
        machine = {"python": platform.python_version(), "cores": threads, "machine": platform.machine()}
        content = {"machine": machine, "rows": [asdict(row) for row in table]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


def show(console: Console, table: list[Row]) -> None:
    grid = Table("group", "what", header_style="bold")
    for header in ("VMs", "seconds", "ns a VM", "ratio"):
        grid.add_column(header, justify="right")
    for row in table:
        ratio = "" if row.ratio is None else f"{row.ratio:,.2f}"
        cells = (f"{row.vms:,}", f"{row.seconds:.4f}", f"{row.ns_per_vm:,.2f}", ratio)
        grid.add_row(row.group, row.what, *cells, end_section=row.group != table[-1].group and row is table[-1])
    console.print(grid)
    console.print("ratio: seconds of the row over those of the first row of its comparison")


if __name__ == "__main__":
    main()
