"""Planted bugs: each is one edit of the engine, and some test must fail under it.

    python -m tests.mutants --all        every one of them
    python -m tests.mutants --third 2    those whose place in the list is 2 modulo 3

The edited package is a copy, run without compilation on the nets' tiny fleets. A bug that survives is a hole in the
nets: find the test that should have seen it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
NETS = ("tests/test_kernels.py", "tests/test_engine.py")


@dataclass(frozen=True)
class Mutant:
    """*old*, which stands once in *file*, becomes *new*."""

    bug: str
    file: str
    old: str
    new: str


WALK, IMPACT, RNG = "kernels/walk.py", "kernels/impact.py", "kernels/rng.py"
MUTANTS = (
    Mutant("no gap", WALK, "clock_ms += held_ms + gap_ms", "clock_ms += held_ms"),
    Mutant("work ignored", WALK, "held_ms = max(unit_ms[unit], work_ms)", "held_ms = unit_ms[unit]"),
    Mutant("order reversed", WALK, "_priority[other] < unit_priority[unit]", "_priority[other] > unit_priority[unit]"),
    Mutant("ties by the later domain", WALK, "is_tie & (other < unit)", "is_tie & (other > unit)"),
    Mutant("smallest domain first", "engine.py", "np.iinfo(np.uint64).max - np.diff", "np.diff"),
    Mutant("domain drawn by row", WALK, "address + np.uint64(update_domain[unit])", "address + np.uint64(unit)"),
    Mutant("gap after the last domain", WALK, "end_ms = clock_ms - gap_ms", "end_ms = clock_ms"),
    Mutant("one gap too many", WALK, "(domain_count - 1) * gap_ms", "domain_count * gap_ms"),
    Mutant("down ratio of one domain", WALK, "if domain_count > 1 and", "if domain_count > 0 and"),
    Mutant("later of equal ends", WALK, "if clock_ms - gap_ms > end_ms:", "if clock_ms - gap_ms >= end_ms:"),
    Mutant("out until the last is back", WALK, "shortest_ms = min(shortest_ms, d", "shortest_ms = max(shortest_ms, d"),
    Mutant("two domains are out as well", WALK, "[set_row + 1] - unit == 1", "[set_row + 1] - unit <= 2"),
    Mutant(
        "single held by its length alone",
        WALK,
        "held_ms = max(np.int64(duration_ms[row]), work_ms)",
        "held_ms = np.int64(duration_ms[row])",
    ),
    Mutant(
        "last VM of a unit left out",
        WALK,
        "unit_offsets[unit + 1]):\n            start_ms[row] = at_ms",
        "unit_offsets[unit + 1] - 1):\n            start_ms[row] = at_ms",
    ),
    Mutant(
        "sum for longest",
        IMPACT,
        "longest_ms = max(longest_ms, duration_ms[row])",
        "longest_ms = longest_ms + duration_ms[row]",
    ),
    Mutant("interpolation rounds down", IMPACT, "+ 32768) >> 16", ") >> 16"),
    Mutant(
        "entry off by one",
        IMPACT,
        "entry = np.int64(duration_ms[row] >> _16)",
        "entry = np.int64(duration_ms[row] >> _16) + (duration_ms[row] > 7)",
    ),
    Mutant(
        "bins off by one", IMPACT, "_FLOAT_BIAS = (1023 + 7 - 2) * _HALF", "_FLOAT_BIAS = (1023 + 7 - 2) * _HALF + 1"
    ),
    Mutant(
        "hours drift", IMPACT, "hour = unit_start_ms[unit] // HOUR_MS", "hour = (unit_start_ms[unit] + 1) // HOUR_MS"
    ),
    Mutant("nine rounds", RNG, "range(10)", "range(9)"),
    Mutant("high word of the key lost", RNG, "entity_key >> _32, address", "entity_key >> _32 >> _32, address"),
    Mutant("carry lost", RNG, "carry = (draw_low * bound_low) >> _32", "carry = _32 ^ _32"),
    Mutant(
        "strings by their first byte",
        RNG,
        "range(offsets[row], offsets[row + 1])",
        "range(offsets[row], min(offsets[row] + 1, offsets[row + 1]))",
    ),
    Mutant(
        "one stream for sets and singles", "engine.py", "_address(Stream.SINGLE_SPREAD", "_address(Stream.SET_SPREAD"
    ),
    Mutant("name without seed", "engine.py", 'seed.to_bytes(8, "little") + name', '(0).to_bytes(8, "little") + name'),
    Mutant(
        "own lag alone",
        "stages.py",
        "max(ended_ms[other] + stage.pair_lag_ms, lagged_ms[other])",
        "ended_ms[other] + stage.pair_lag_ms",
    ),
    Mutant(
        "lag of the last alone",
        "stages.py",
        "max(lagged_ms.get(stage.region, 0), now_ms + stage.pair_lag_ms)",
        "now_ms + stage.pair_lag_ms",
    ),
    Mutant(
        "lag within a region",
        "stages.py",
        "own_ms = ended_ms.get(stage.region, 0)",
        "own_ms = lagged_ms.get(stage.region, 0)",
    ),
    Mutant(
        "no exclusion in a region",
        "stages.py",
        "other.region == stage.region or other.region in near for",
        "other.region in near for",
    ),
    Mutant("pairs one way", "regions.py", "found[other].add(region)", "found[other].add(other)"),
    Mutant("rank forgotten", "stages.py", "self.iteration, self.rank, self.region)", "self.iteration, 0, self.region)"),
    Mutant("campaigns out of order", "stages.py", "(self.asked_ms, self.place,", "(self.asked_ms, -self.place,"),
    Mutant("most first for fewest", "stages.py", "(-vm_counts[region], region)", "(vm_counts[region], region)"),
)


def survives(mutant: Mutant) -> bool:
    """Whether all nets pass under *mutant*."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("fleetsim", "tests", "datasets"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.parquet"))
        shutil.copy(ROOT / "pyproject.toml", root)
        plant(mutant, root)
        # Uncompiled integers of numpy warn where they wrap around; compiled ones just do.
        options = ("-x", "-q", "-W", "ignore::RuntimeWarning", "-p", "no:cacheprovider", "--hypothesis-profile=mutants")
        environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(root)}
        command = (sys.executable, "-m", "pytest", *options, *NETS)
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 0


def plant(mutant: Mutant, root: Path) -> None:
    """Edit the copy of the package in *root*."""
    path = root / "fleetsim" / mutant.file
    text = path.read_text("utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.bug}: {mutant.old!r} stands {text.count(mutant.old)} times"
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--all", action="store_true")
    chosen.add_argument("--third", type=int, choices=range(3))
    arguments = parser.parse_args()
    sound = Mutant("none at all", "engine.py", "ITERATION = 1\n", "ITERATION = 1\n")
    mutants = MUTANTS if arguments.all else MUTANTS[arguments.third :: 3]
    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutant, is_alive in zip((sound, *mutants), pool.map(survives, (sound, *mutants)), strict=True):
            is_right = is_alive == (mutant is sound)
            failed += not is_right
            print(f"{'passes' if is_alive else 'caught'}  {'' if is_right else 'WRONG  '}{mutant.bug}", flush=True)
    print(f"{len(mutants) + 1 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
