"""A test of sense, and a lesson: the same VMs on the same hosts, placed and ordered otherwise; answers are known."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim import figures
from fleetsim.errors import RunError
from fleetsim.figures import RunFiles
from fleetsim.figures.declared import HOUR_MS
from fleetsim.fleet.generating import generate
from fleetsim.fleet.hosting import hosts
from fleetsim.fleet.placing import place
from fleetsim.progress import Progress
from fleetsim.runfolder import check_absent
from fleetsim.runner import run
from fleetsim.verifier import verify

if TYPE_CHECKING:
    from rich.console import Console

HOST_COUNT = 5_000
VMS_PER_HOST = 20
CASES = (
    ("aligned", "auto"),
    ("aligned, hosts renamed", "auto"),
    ("aligned", "random"),
    ("random", "auto"),
)
"""How VMs are placed, and in which order hosts are tried."""
_SCENARIO = """
name = "placements"
start = 2026-12-01T00:00:00Z
[[campaign]]
name = "hosts"
kind = "freeze"
length = "30s"
update_domain_gap = "30min"
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One run. `unit_count`: hosts that had to go one after the other; `bound_ms`: what no order falls below."""

    placement: str
    host_order: str
    run: str
    length_ms: int
    bound_ms: int
    unit_count: int
    no_guarantee_count: int
    one_domain_count: int

    @property
    def ratio(self) -> float:
        return self.length_ms / self.bound_ms


@dataclass(frozen=True, slots=True)
class Placements:
    """What came out, a case a row; the runs are in the folder *out*."""

    out: Path
    vm_count: int
    host_count: int
    cases: tuple[Case, ...]

    def to_dict(self) -> dict[str, Any]:
        """The cases as plain values, for JSON."""
        cases = [asdict(case) | {"length_bound_ratio": case.ratio} for case in self.cases]
        return {"out": str(self.out), "vm_count": self.vm_count, "host_count": self.host_count, "cases": cases}

    def render(self, console: "Console") -> None:
        """Print a table, and what it says."""
        from rich.table import Table
        from rich.text import Text

        title = f"{self.vm_count:,} VMs in sets of 20 over 5 update domains, on {self.host_count:,} hosts of 20"
        console.print(Text(title, style="bold"))
        console.print(Text("30 s a host, 30 min between two update domains of a set, no caps\n", style="dim"))
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for name in ("placement", "host_order"):
            table.add_column(name)
        for name in ("length", "at least", "ratio", "in turn"):
            table.add_column(name, justify="right")
        for case in self.cases:
            spans = [_hours(case.length_ms), _hours(case.bound_ms), f"{case.ratio:.2f}"]
            table.add_row(case.placement, case.host_order, *spans, f"{case.unit_count:,} hosts")
        console.print(table)
        best, worst = (pick(self.cases, key=lambda case: case.length_ms) for pick in (min, max))
        told = (
            f"\nThe same VMs on the same hosts take {_hours(best.length_ms)} or {_hours(worst.length_ms)}. A host may"
            " start only when every set on it lets it. Where all VMs of a host are in one update domain number, hosts"
            " of a number go together, and in order of numbers each set waits once for each of its domains. Else hosts"
            " wait for one another in long chains: `fleetsim report` of a run shows who for whom."
        )
        console.print(Text(told))


def _hours(value_ms: int) -> str:
    return f"{value_ms / HOUR_MS:.2f} h"


def placements(
    out: str | Path, *, host_count: int = HOST_COUNT, seed: int = 0, progress: Progress | None = None
) -> Placements:
    """Make the fleets and run the cases into the new folder *out*; each run is verified.

    Raises `RunError` where a rule is broken.
    """
    out = Path(out)
    check_absent(out)
    out.mkdir(parents=True)
    fleet, inventory = out / "fleet.parquet", out / "hosts.parquet"
    vm_count = host_count * VMS_PER_HOST
    generate(fleet, vm_count, regions=["westeurope"], seed=seed)
    hosts(fleet, inventory, vms_per_host=VMS_PER_HOST, fill=1.0, seed=seed)
    fleets: dict[str, Path] = {}
    for policy in ("aligned", "random"):
        fleets[policy] = out / f"{policy}.parquet"
        place(fleet, inventory, fleets[policy], policy=policy, slots=True, seed=seed, progress=progress)
    fleets["aligned, hosts renamed"] = _renamed(fleets["aligned"], out / "renamed.parquet", seed)
    cases = []
    for number, (placement, host_order) in enumerate(CASES, start=1):
        folder = out / f"run-{number}"
        overrides = [f"campaign.hosts.host_order={host_order}"]
        run(fleets[placement], _SCENARIO, folder, overrides=overrides, progress=progress)
        if not verify(folder, progress=progress).ok:
            raise RunError(f"{folder}: a rule is broken; see `fleetsim verify {folder}`")
        cases.append(_case(folder, placement, host_order))
    return Placements(out, vm_count, host_count, tuple(cases))


def _renamed(fleet: Path, out: Path, seed: int) -> Path:
    """*fleet* with the ids of its hosts shuffled among them."""
    table = pq.read_table(fleet, partitioning=None)
    words = table["host"].combine_chunks().dictionary_encode()
    shuffled = np.random.default_rng(seed).permutation(len(words.dictionary))
    names = words.dictionary.take(pa.array(shuffled)).take(words.indices)
    pq.write_table(table.set_column(table.column_names.index("host"), "host", names), out)
    return out


def _case(folder: Path, placement: str, host_order: str) -> Case:
    files = RunFiles.open(folder)
    stage_rows = figures.stages(files)
    row: Mapping[str, Any] = figures.campaigns(files, stage_rows).row(0, named=True)
    bound = figures.bound(files, stage_rows, files.campaigns[0])
    links = figures.chain(files, stage_rows, "hosts")
    on_hosts = figures.hosts_of(files, ["westeurope"])
    assert bound is not None
    assert on_hosts is not None
    return Case(
        placement,
        host_order,
        folder.name,
        length_ms=int(row["length_ms"]),
        bound_ms=bound.bound_ms,
        unit_count=sum(len(link.units) for link in links),
        no_guarantee_count=int(row["no_guarantee_count"]),
        one_domain_count=on_hosts.one_domain_count,
    )
