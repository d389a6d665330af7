"""Benchmarks: fleetsim, its opponents and the machine's limits on one campaign, as one table.

    python -m benches [--vms 1e4,1e7] [--only NAME]... [--rounds 3] [--keep | --json FILE]
    python -m benches --small [--save]
    python -m benches --large 1e7,1e8 [--keep]

What is compared runs in turn, round after round (A B C A B C), each time in a process of its own, so that a noisy
machine hits all alike and peaks are their own. Medians are shown; a ratio is the median of the rounds' ratios. Read the
ratios: seconds are those of one machine on one day. A call is timed without its imports, its compilation and a first
call on a small fleet; a whole process from the start of Python to its exit. Exit code 1: somebody's answer was wrong.

--keep writes benches/results/VERSION.json, of which `python -m benches.tables` makes the tables of the documents; rows
of other sizes and groups stay, if they are of the same machine and versions.
--small compares the kernels with a loop of known work (benches/small.py), in a minute; exit code 1: one has become
slower by more than a third. --save keeps what it found instead, in benches/results/small.json.
--large generates, prepares, runs, verifies and reports fleets of these sizes, each step a whole process
(benches/large.py); --keep keeps what each size took in benches/results/large.json. 1e9 needs 40 GB of disk.

Opponents are listed, and may be added, in benches/opponents/__init__.py.
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benches import tables
from benches.campaign import VMS_STEP, Given
from benches.opponents import GROUPS, OPPONENTS, RANDOM_GROUPS, TOOLS, Opponent

ROOT = Path(__file__).parent.parent
VMS_DEFAULT = "1e4,1e5,1e6,1e7"
WARM_VMS = 2_000
WIDTH = 165  # of the table, also where it goes to a file
LIBRARIES = ("fleetsim", "numpy", "numba", "pyarrow", "polars", "duckdb", "simpy", "salabim", "mesa")
LAYERS_OF = ("parquet-random", "run")
"""Group and name of the opponent whose time is told layer by layer."""
PROFILES_OF = ("gate-caps", "gate-hosts")
"""Those of the group `kernel` whose time is told kernel by kernel."""


@dataclass
class Row:
    """What is told of an opponent in a group and at a size; seconds and peaks are medians over the rounds."""

    group: str
    name: str
    what: str
    vms: int
    events: int | None  # VM-events worked out and checked
    threads: int
    seconds: float = math.nan
    cpu_seconds: float = math.nan  # of all threads
    seconds_by_round: list[float] = field(default_factory=list)
    cpu_seconds_by_round: list[float] = field(default_factory=list)
    events_per_s: float | None = None
    ns_each: float = math.nan  # a VM-event; of a limit, a VM
    gb_per_s: float | None = None
    peak_mib: float = math.nan
    ratio_to_fleetsim: float | None = None  # of seconds, as the other
    cpu_ratio_to_fleetsim: float | None = None
    ratio_to_limit: float | None = None
    length_s: float | None = None
    checksum: int | None = None
    problems: list[str] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vms", type=_sizes, default=_sizes(VMS_DEFAULT), help="sizes of the fleet, by commas")
    parser.add_argument("--only", action="append", metavar="NAME", help="an opponent or a group; may be repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to keep the rows, each round of them")
    parser.add_argument("--keep", action="store_true", help="keep the rows for the tables of the documents")
    parser.add_argument("--small", action="store_true", help="only whether a kernel has become slower")
    parser.add_argument("--save", action="store_true", help="with --small: keep what is found")
    parser.add_argument("--large", type=_sizes, metavar="VMS", help="only the steps of large runs, by hand")
    parser.add_argument("--list", action="store_true", help="print the names of groups and opponents")
    told = parser.parse_args(arguments)
    console = Console()
    console.width = max(console.width, WIDTH)
    if told.list:
        for group, meaning in GROUPS.items():
            console.print(f"[bold]{group}[/]: {meaning}", highlight=False)
            for each in (each for each in OPPONENTS if group in each.groups):
                console.print(f"  {each.name:15} {each.what}", highlight=False)
        return 0
    known = {*GROUPS, *(each.name for each in OPPONENTS)}
    if unknown := set(told.only or ()) - known:
        parser.error(f"--only: must be one of {', '.join(sorted(known))}, got '{min(unknown)}'")
    if told.rounds < 1:
        parser.error(f"--rounds: must be at least 1, got {told.rounds}")
    if told.keep and (single := set(told.only or ()) - set(GROUPS)):
        parser.error(f"--keep: must be of whole groups, got --only {min(single)}")
    if told.large:
        return _large(console, told.large, is_kept=told.keep)
    if told.small:
        return _small(console, is_saved=told.save)

    machine, versions = _machine(), _versions()
    rows, left_out, layers, profiles = [], [], None, {}
    for each in OPPONENTS:
        if each.missing and _is_asked(told.only, each, each.groups):
            left_out.append(f"left out: {each.what}, which needs: {'; '.join(each.missing)}")
            console.print(left_out[-1])
    with tempfile.TemporaryDirectory(prefix="fleetsim-bench-", dir=Path.cwd()) as name:
        bench = _Bench(Path(name), told.rounds, console)
        for group in GROUPS:
            for vms in told.vms:
                chosen = []
                for each in OPPONENTS:
                    if group not in each.groups or each.missing or not _is_asked(told.only, each, (group,)):
                        continue
                    if vms > each.vms_max:
                        left_out.append(f"left out: {each.what} at {vms:,} VMs, which would take too long")
                        console.print(left_out[-1])
                        continue
                    chosen.append(each)
                if chosen:
                    rows += bench.measure(group, chosen, vms)
        if any((row.group, row.name) == LAYERS_OF for row in rows):
            layers = bench.layers(max(told.vms))
        for gate in PROFILES_OF:
            if any((row.group, row.name) == ("kernel", gate) for row in rows):
                profiles[gate] = bench.profile(gate, max(told.vms))
    _show(console, rows, machine, versions)
    content = {
        "machine": machine,
        "versions": versions,
        "rows": [asdict(row) for row in rows],
        "layers": layers,
        "profiles": profiles,
        "left_out": left_out,
    }
    if told.json:
        told.json.write_text(json.dumps(content, indent=1) + "\n")
    if told.keep:
        tables.keep(content)
    wrong = [row for row in rows if row.problems]
    for row in wrong:
        console.print(f"[red]WRONG[/]: {row.group}, {row.what}, {row.vms:,} VMs: {'; '.join(row.problems)}")
    return 1 if wrong else 0


def _small(console: Console, *, is_saved: bool) -> int:
    """The small edition; returns the exit code."""
    from benches import small

    if is_saved:
        small.save(small.ratios(rounds=3 * small.ROUNDS), {"machine": _machine(), "versions": _versions()})
        console.print(f"kept in {small.KEPT}")
        return 0
    try:
        kept = small.read()
    except (OSError, ValueError) as error:
        console.print(f"[red]NOT COMPARED[/]: {error}", highlight=False)
        return 2
    problems = small.judge(kept, small.ratios, lambda line: console.print(line, highlight=False))
    if problems and (cpu := small.kept_cpu()) != _machine()["cpu"]:
        # How two loops compare differs from one make of processor to another.
        console.print(f"measured on another processor than what is kept ({cpu}): told, not judged", highlight=False)
        console.print("\n".join(problems), highlight=False)
        return 0
    for problem in problems:
        console.print(f"[red]SLOWER[/]: {problem}")
    return 1 if problems else 0


def _large(console: Console, sizes: list[int], *, is_kept: bool) -> int:
    """The largest runs, here; returns the exit code."""
    from benches import large
    from fleetsim.errors import InputError

    content = {"machine": _machine(), "versions": _versions()}

    def run(*words: str, folder: Path) -> tuple[str, resource.struct_rusage, float]:
        started_s = time.perf_counter()
        output, used = _Bench(folder, 1, console).run(*words, within=folder)
        return output, used, time.perf_counter() - started_s

    try:
        large.measure_all(sizes, content, run, lambda line: console.print(line, highlight=False), kept=is_kept)
    except InputError as error:
        console.print(f"[red]NOT MEASURED[/]: {error}", highlight=False)
        return 2
    except subprocess.CalledProcessError as error:
        console.print(f"[red]FAILED[/]: {error.output}{error.stderr}", highlight=False)
        return 1
    return 0


def _sizes(text: str) -> list[int]:
    """Fleet sizes such as `1e4,2000`."""
    sizes = [int(float(word)) for word in text.split(",")]
    if wrong := [size for size in sizes if size < VMS_STEP or size % VMS_STEP]:
        raise argparse.ArgumentTypeError(
            f"must be multiples of {VMS_STEP}, so that regions are equal, got {wrong[0]:,}"
        )
    return sizes


def _is_asked(only: list[str] | None, opponent: Opponent, groups: tuple[str, ...]) -> bool:
    return only is None or opponent.name in only or any(group in only for group in groups)


class _Bench:
    """Measures in *folder*. This process only starts others, so that what it weighs does not show in their peaks."""

    def __init__(self, folder: Path, rounds: int, console: Console) -> None:
        self.folder = folder
        self.rounds = rounds
        self.console = console
        self.threads = os.cpu_count() or 1
        # Without compiled files imports take three times as long, and each process would pay.
        self.environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def measure(self, group: str, opponents: list[Opponent], vms: int) -> list[Row]:
        """The rows of *opponents*, after the rounds."""
        self.console.print(f"[bold]{group}[/], {vms:,} VMs: {', '.join(each.name for each in opponents)}")
        found: dict[str, list[dict[str, Any]]] = {each.name: [] for each in opponents}
        for _ in range(self.rounds):
            for each in opponents:
                with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                    found[each.name].append(self._round(each, self._given(each, group, vms, scratch)))
        rows = [self._row(group, each, vms, found[each.name]) for each in opponents]
        for role in ("fleetsim", "limit"):
            against = [row for row, each in zip(rows, opponents, strict=True) if each.role == role]
            for row in rows:
                if against and row is not against[0]:
                    setattr(row, f"ratio_to_{role}", _ratio(row.seconds_by_round, against[0].seconds_by_round))
                    if role == "fleetsim":
                        ratio = _ratio(row.cpu_seconds_by_round, against[0].cpu_seconds_by_round)
                        row.cpu_ratio_to_fleetsim = ratio
        return rows

    def layers(self, vms: int) -> dict[str, Any]:
        """Where the time of the opponent LAYERS_OF goes."""
        group, name = LAYERS_OF
        (opponent,) = (each for each in OPPONENTS if each.name == name)
        found = self._looked_at("layers", opponent, group, vms)
        return {"group": group, "name": name, "vms": vms, "threads": self._threads(opponent), **found}

    def profile(self, name: str, vms: int) -> dict[str, Any]:
        """Where the time of an opponent of the group `kernel` goes."""
        (opponent,) = (each for each in OPPONENTS if each.name == name)
        return {"what": opponent.what, "vms": vms, **self._looked_at("profile", opponent, "kernel", vms)}

    def _looked_at(self, step: str, opponent: Opponent, group: str, vms: int) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            return self._warmed(step, opponent, self._given(opponent, group, vms, scratch))

    def _given(self, opponent: Opponent, group: str, vms: int, folder: str) -> Given:
        threads, is_random = self._threads(opponent), group in RANDOM_GROUPS
        return Given(vms, self._prepared(vms), Path(folder), threads, is_random)

    def _threads(self, opponent: Opponent) -> int:
        return opponent.threads or self.threads

    def _prepared(self, vms: int) -> Path:
        prepared = self.folder / f"prepared-{vms}"
        if not prepared.exists():
            self._worker("prepare", str(prepared), str(vms))
        return prepared

    def _round(self, opponent: Opponent, given: Given) -> dict[str, Any]:
        """Seconds, peak and verdict; one that fails takes no time and says why, and the others go on."""
        try:
            if opponent.how == "process":
                return self._process(opponent, given)
            return self._warmed("call", opponent, given)
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip().splitlines() or ["nothing"])[-1]
            problem = f"failed with exit code {error.returncode}, saying: {said}"
            nothing = dict.fromkeys(("seconds", "cpu_seconds", "peak_mib"), math.nan)
            return {**nothing, "length_s": None, "checksum": None, "problems": [problem]}

    def _warmed(self, step: str, opponent: Opponent, given: Given) -> dict[str, Any]:
        warm = replace(given, vms=WARM_VMS, prepared=self._prepared(WARM_VMS))
        return self._worker(step, opponent.name, *warm.words(), *given.words())

    def _process(self, opponent: Opponent, given: Given) -> dict[str, Any]:
        started_s = time.perf_counter()
        _, used = self.run("-c", opponent.process_code, *given.words())
        seconds = time.perf_counter() - started_s
        verdict = self._worker("check", opponent.name, *given.words())
        cpu_seconds, peak_mib = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak_mib, **verdict}

    def _worker(self, *words: str) -> dict[str, Any]:
        output, _ = self.run("-m", "benches.worker", *words)
        answer: dict[str, Any] = json.loads(output.splitlines()[-1])
        return answer

    def run(self, *words: str, within: Path = ROOT) -> tuple[str, resource.struct_rusage]:
        """Run Python in the folder *within*; what it printed, and what it used."""
        with tempfile.TemporaryFile(dir=self.folder) as out, tempfile.TemporaryFile(dir=self.folder) as errors:
            command = [sys.executable, *words]
            process = subprocess.Popen(command, cwd=within, env=self.environment, stdout=out, stderr=errors)
            try:
                _, status, used = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
            texts = []
            for file in (out, errors):
                file.seek(0)
                texts.append(file.read().decode())
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, *texts)
        return texts[0], used

    def _row(self, group: str, opponent: Opponent, vms: int, rounds: list[dict[str, Any]]) -> Row:
        seconds = [each["seconds"] for each in rounds]
        median_s = statistics.median(seconds)
        checked = [each for each in rounds if "problems" in each]
        problems = list(dict.fromkeys(problem for each in checked for problem in each["problems"]))
        events = None if problems or not checked else checked[-1].get("events") or vms
        return Row(
            group=group,
            name=opponent.name,
            what=opponent.what,
            vms=vms,
            events=events,
            threads=self._threads(opponent),
            seconds=median_s,
            cpu_seconds=statistics.median(each["cpu_seconds"] for each in rounds),
            seconds_by_round=seconds,
            cpu_seconds_by_round=[each["cpu_seconds"] for each in rounds],
            events_per_s=None if events is None else events / median_s,
            ns_each=median_s / (events or vms) * 1e9,
            gb_per_s=opponent.bytes_per_vm * vms / median_s / 1e9 or None,
            peak_mib=statistics.median(each["peak_mib"] for each in rounds),
            length_s=checked[-1]["length_s"] if checked else None,
            checksum=checked[-1]["checksum"] if checked else None,
            problems=problems,
        )


def _ratio(own: list[float], others: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(own, others, strict=True))


def _machine() -> dict[str, Any]:
    """What the seconds depend on."""
    cpu = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = [int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "cpu": cpu[0] if cpu else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory[0] / 2**20, 1) if memory else None,
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _lines(path: str) -> Iterator[str]:
    if Path(path).exists():
        yield from Path(path).read_text().splitlines()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return {**found, **{tool: TOOLS[tool].version() for tool in TOOLS if TOOLS[tool].is_here()}}


def _show(console: Console, rows: list[Row], machine: dict[str, Any], versions: dict[str, str]) -> None:
    grid = Table("group", "opponent", header_style="bold")
    for header in (
        "VMs",
        "events",
        "threads",
        "seconds",
        "CPU s",
        "M events/s",
        "ns each",
        "peak MiB",
        "x fleetsim",
        "x its CPU",
        "x limit",
    ):
        grid.add_column(header, justify="right", no_wrap=True)
    for place, row in enumerate(rows):
        ratios = (row.ratio_to_fleetsim, row.cpu_ratio_to_fleetsim, row.ratio_to_limit)
        what = f"{row.what}, {row.gb_per_s:.1f} GB/s" if row.gb_per_s else row.what
        cells = (
            f"{row.vms:,}",
            "[red]WRONG[/]" if row.problems else "" if row.events is None else f"{row.events:,}",
            str(row.threads),
            f"{row.seconds:.4g}",
            f"{row.cpu_seconds:.4g}",
            "" if row.events_per_s is None else f"{row.events_per_s / 1e6:,.2f}",
            f"{row.ns_each:,.2f}",
            f"{row.peak_mib:,.0f}",
            *("" if ratio is None else f"{ratio:,.2f}" for ratio in ratios),
        )
        after = rows[place + 1] if place + 1 < len(rows) else row
        grid.add_row(row.group, what, *cells, end_section=(after.group, after.vms) != (row.group, row.vms))
    console.print(grid)
    console.print(
        "x: how many times as long as the row of fleetsim (in seconds, in CPU seconds), and as the limit, of the same"
        " group and size"
    )
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in versions.items()), highlight=False)


if __name__ == "__main__":
    sys.exit(main())
