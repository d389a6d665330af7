"""The largest runs: each step a whole process, as a user would start it, so that its seconds and its peak are its own.

A fleet is generated, prepared, sent through a campaign of random lengths to Parquet, verified and reported; then the
same with a fleet of START_VMS, whose CPU time, the start of Python and its libraries, is taken off before slopes are
told. Rows are kept in benches/results/large.json after each size, for the largest takes long.
"""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from resource import struct_rusage
from typing import Any

from fleetsim.room import check_disk

KEPT = Path(__file__).parent / "results" / "large.json"
START_VMS = 2_000
BYTES_PER_VM = 40
"""Of disk at most at any time: what preparing spills, beside the fleet."""
PLAN = """name = "plan"
start = 2026-12-01T00:00:00Z
[[campaign]]
name = "update"
length = { p50 = "6s", p99 = "9s" }
"""
STEPS = {
    "generate": "fleetsim fleet generate -o fleet --vms {vms}",
    "prepare": "fleetsim fleet prepare fleet -o prepared",
    "run": "fleetsim run prepared plan.toml -o run",
    "verify": "fleetsim verify run",
    "report": "fleetsim report run",
}
"""What is done, in this order; each leaves what is called as the word after -o."""
_LEAVES = {"generate": "fleet", "prepare": "prepared", "run": "run"}
_START = "import sys; from fleetsim.cli import main; sys.exit(main())"

Content = dict[str, Any]
Run = Callable[..., tuple[str, struct_rusage, float]]


def measure(vms: int, folder: Path, run: Run, tell: Callable[[str], None]) -> list[Content]:
    """The steps over a fleet of *vms* in *folder*, where only the prepared fleet and the run are kept at a time.

    Raises `InputError` where the disk is too small.
    """
    check_disk(folder, vms * BYTES_PER_VM, "fewer VMs take less")
    (folder / "plan.toml").write_text(PLAN)
    rows = []
    for step, command in STEPS.items():
        words = command.format(vms=vms).split()[1:]
        _, used, seconds = run("-c", _START, *words, folder=folder)
        left = folder / _LEAVES.get(step, "")
        row = {
            "step": step,
            "vms": vms,
            "seconds": seconds,
            "cpu_seconds": used.ru_utime + used.ru_stime,
            "peak_mib": used.ru_maxrss / 1024,
            # The fleet of a run is that it was made over: links, which take no disk.
            "bytes": _bytes(left, besides=("fleet",) if step == "run" else ()) if step in _LEAVES else None,
        }
        rows.append(row)
        tell(f"{vms:,} VMs, {step}: {seconds:.1f} s, {row['cpu_seconds']:.1f} CPU s, {row['peak_mib']:,.0f} MiB")
        if step == "prepare":
            shutil.rmtree(folder / "fleet")
    return rows


def _bytes(folder: Path, besides: Sequence[str]) -> int:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in paths if path.relative_to(folder).parts[0] not in besides)


def measure_all(sizes: Sequence[int], content: Content, run: Run, tell: Callable[[str], None], *, kept: bool) -> None:
    """Measure START_VMS and *sizes* in the folder of the call; keep them, with what *content* says, if *kept*."""
    # Kernels are compiled once a machine: that is no start of a process.
    run("-c", _START, "warmup", folder=Path.cwd())
    for vms in sorted({START_VMS, *sizes}):
        with tempfile.TemporaryDirectory(prefix="fleetsim-large-", dir=Path.cwd()) as name:
            rows = measure(vms, Path(name), run, tell)
        if kept:
            keep({**content, "rows": rows})


def keep(content: Content) -> None:
    """Keep rows in place of those of the same size, or of another machine or other versions."""
    rows = content["rows"]
    if KEPT.exists() and origin(old := json.loads(KEPT.read_text())) == origin(content):
        sizes = {row["vms"] for row in rows}
        rows = sorted([*rows, *(row for row in old["rows"] if row["vms"] not in sizes)], key=lambda row: row["vms"])
    KEPT.write_text(json.dumps({**content, "rows": rows}, indent=1) + "\n")


def origin(content: Content) -> list[Any]:
    """What rows must have in common to stand in one table."""
    return [content["versions"], content["machine"]["cpu"], content["machine"]["cores"]]


def slope(rows: Sequence[Content], step: str) -> float | None:
    """By how much CPU time grows with VMs, log over log, start taken off, from the smallest to the largest of *rows*.

    None of fewer than two sizes.
    """
    at = {row["vms"]: row["cpu_seconds"] for row in rows if row["step"] == step}
    start_s = at.pop(START_VMS, 0.0)
    if len(at) < 2:
        return None
    low, high = min(at), max(at)
    return math.log((at[high] - start_s) / (at[low] - start_s)) / math.log(high / low)


def table(content: Content) -> str:
    """The commands and what they took, size by size."""
    rows = content["rows"]
    lines = [
        "| step | VMs | seconds | CPU seconds | CPU ns a VM | peak MiB | MB left |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for step in STEPS:
        for row in (row for row in rows if row["step"] == step):
            left = "" if row["bytes"] is None else f"{row['bytes'] / 1e6:,.0f}"
            ns = row["cpu_seconds"] / row["vms"] * 1e9
            cells = [f"{row['vms']:,}", f"{row['seconds']:,.1f}", f"{row['cpu_seconds']:,.1f}", f"{ns:,.0f}"]
            lines.append(f"| {step} | {' | '.join(cells)} | {row['peak_mib']:,.0f} | {left} |")
    sizes = sorted({row["vms"] for row in rows} - {START_VMS})
    told = [f"{step} {found:.2f}" for step in STEPS if (found := slope(rows, step)) is not None]
    machine = content["machine"]
    said = f"fleetsim {content['versions']['fleetsim']} on {machine['cores']} cores of {machine['cpu']}"
    said += f", shared with others (load at the start {machine['load_at_start']})."
    if told:
        said += (
            f" CPU time from {sizes[0]:,} to {sizes[-1]:,} VMs, the start taken off, log over log: {', '.join(told)}."
        )
    commands = "\n".join(["```console", *(command.format(vms=sizes[-1]) for command in STEPS.values()), "```"])
    return f"{commands}\n\n" + "\n".join(lines) + f"\n\n{said}\n"
