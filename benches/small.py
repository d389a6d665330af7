"""The small edition: has a kernel become slower? Ratios of speeds, compared with those that are kept.

Seconds of two machines, or of two hours on one, do not compare. So each kernel takes turns with a loop of known work in
the same process, and what counts is how fast it is in terms of that loop: the median over rounds of CPU seconds of the
loop around it / CPU seconds of the kernel. A ratio that has fallen by more than a third is measured once more, and is
told if the better of both is that low.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np

from benches.campaign import Given
from benches.opponents import OPPONENTS, RANDOM_GROUPS
from benches.worker import prepare

KEPT = Path(__file__).parent / "results" / "small.json"
TOLERANCE = 1 / 3
VMS = 200_000
ROUNDS = 9
LEAST_CPU_S = 0.04
"""A measurement shorter than this is one of several calls."""

ROWS = (
    ("kernel", "load"),
    ("kernel", "walk"),
    ("kernel", "walk-random"),
    ("kernel", "gate-caps"),
    ("kernel", "gate-hosts"),
    ("random", "fleetsim-1"),
    ("parquet-random", "run"),
)
"""Group and name of the opponents that are fleetsim's, all on one thread."""

_STEPS, _TABLE = 1 << 20, 1 << 16
_CALIBRATION_SUM = 46_686_733_849


@numba.njit
def _mix(table, out):  # type: ignore[no-untyped-def]
    """What kernels do: numbers are mixed, tables looked up by them, branches taken by what is there, arrays written."""
    total, longest = np.uint64(0), np.uint64(0)
    for step in range(out.shape[0]):
        word = np.uint64(step) * np.uint64(0x9E3779B97F4A7C15)
        for _ in range(3):
            word ^= word >> np.uint64(29)
            word *= np.uint64(0xBF58476D1CE4E5B9)
        value = np.uint64(table[word >> np.uint64(48)])
        longest = max(longest, value)
        if word & np.uint64(3) == np.uint64(0):
            total += longest
            longest = np.uint64(0)
        out[step] = value
        total += value
    return total


def calibration() -> Callable[[], None]:
    """The loop of known work; it raises if it comes to anything else."""
    table = (np.arange(_TABLE, dtype=np.uint64) * 40_503 % _TABLE).astype(np.uint32)
    out = np.zeros(_STEPS, np.uint64)

    def task() -> None:
        found = int(_mix(table, out))
        if found != _CALIBRATION_SUM:
            raise RuntimeError(f"the calibration came to {found:,}, not {_CALIBRATION_SUM:,}")

    task()
    return task


def ratios(rounds: int = ROUNDS, vms: int = VMS) -> dict[str, float]:
    """How fast each row is: calls of it in the CPU time of one calibration, the median of *rounds*."""
    with tempfile.TemporaryDirectory(prefix="fleetsim-bench-", dir=Path.cwd()) as folder:
        tasks = _tasks(Path(folder), vms)
        calibrate = calibration()
        found: dict[str, list[float]] = {name: [] for name in tasks}
        for _ in range(rounds):
            before_s = _cpu_s(calibrate)
            for name, task in tasks.items():
                row_s, after_s = _cpu_s(task), _cpu_s(calibrate)
                found[name].append((before_s + after_s) / 2 / row_s)
                before_s = after_s
        return {name: statistics.median(of_row) for name, of_row in found.items()}


def _tasks(folder: Path, vms: int) -> dict[str, Callable[[], Any]]:
    """The rows, compiled and called once."""
    prepared = prepare(folder / "prepared", vms)
    opponents = {(group, each.name): each for each in OPPONENTS for group in each.groups}
    tasks = {}
    for group, name in ROWS:
        given = Given(vms, prepared, folder, threads=1, is_random=group in RANDOM_GROUPS)
        tasks[name] = opponents[group, name].load()(given)
        tasks[name]()
    return tasks


def _cpu_s(task: Callable[[], Any]) -> float:
    """CPU seconds of a call, of all threads."""
    started_s, calls = time.process_time(), 0
    while (used_s := time.process_time() - started_s) < LEAST_CPU_S:
        task()
        calls += 1
    return used_s / calls


def fallen(kept: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    """The rows whose ratio in *found* is less than two thirds of the one in *kept*."""
    return [name for name, ratio in kept.items() if found[name] < ratio * (1 - TOLERANCE)]


def best(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The higher ratio of each row: what disturbs a measurement makes it lower."""
    return {name: max(ratio, other[name]) for name, ratio in one.items()}


def save(found: Mapping[str, float], facts: Mapping[str, Any], path: Path | None = None) -> None:
    """Keep *found*, with *facts* of where it was measured."""
    (path or KEPT).write_text(json.dumps({**facts, "vms": VMS, "ratios": found}, indent=1) + "\n")


def read(path: Path | None = None) -> dict[str, float]:
    """What is kept; `OSError` where nothing is, `ValueError` where that is of other rows."""
    path = path or KEPT
    kept: dict[str, float] = json.loads(path.read_text())["ratios"]
    names = [name for _, name in ROWS]
    if list(kept) != names:
        raise ValueError(f"{path} keeps {', '.join(kept)}, not {', '.join(names)}: --small --save keeps them anew")
    return kept


def kept_cpu(path: Path | None = None) -> str:
    """The processor that the kept ratios were measured on."""
    cpu: str = json.loads((path or KEPT).read_text())["machine"]["cpu"]
    return cpu


def judge(
    kept: Mapping[str, float], measure: Callable[[], Mapping[str, float]], tell: Callable[[str], object] = print
) -> list[str]:
    """The rows that have fallen, as sentences; one that has is measured once more before it is told."""
    found = dict(measure())
    if again := fallen(kept, found):
        tell(f"slower than kept: {', '.join(again)}; measured once more")
        found = best(found, measure())
    for name, ratio in kept.items():
        tell(f"{name:12} {found[name]:8.3f} of the calibration, kept {ratio:8.3f}: {found[name] / ratio:5.2f} times")
    return [
        f"{name} runs {found[name] / kept[name]:.2f} times as fast as kept, against the calibration"
        for name in fallen(kept, found)
    ]
