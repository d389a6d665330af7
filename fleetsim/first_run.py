"""The first things a user runs: the demo, and compiling the kernels ahead of time."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fleetsim.fleet.generating import Generated, generate
from fleetsim.fleet.hosting import hosts
from fleetsim.fleet.placing import POLICIES, Placed, place
from fleetsim.progress import Progress
from fleetsim.reporting import Report, report
from fleetsim.runfolder import check_absent
from fleetsim.runner import Run, run
from fleetsim.shipped import dataset_path
from fleetsim.verifier import Verdict, verify

DEMO_SCENARIO = "demo.toml"
DEMO_VM_COUNT = 1_000_000
DEMO_FILL = 0.85
"""Share of its host that VMs take, at most (facts: Azure's clusters are 85 to 90 % used)."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo made."""

    fleet: Generated
    placed: Placed
    run: Run
    verdict: Verdict
    report: Report


def demo(out: str | Path = "fleetsim-demo", *, progress: Progress | None = None) -> Demo:
    """Place a fleet as measured at Azure on hosts, freeze it into the new folder *out*, verify it and report on it."""
    out = Path(out)
    check_absent(out)
    with tempfile.TemporaryDirectory(prefix="fleetsim-demo-") as folder:
        unplaced, inventory, fleet = (Path(folder) / f"{name}.parquet" for name in ("azure", "hosts", "placed"))
        made = generate(unplaced, DEMO_VM_COUNT, mix="azure-2017", progress=progress)
        hosts(unplaced, inventory, hosts_per_cluster="measured", fill=DEMO_FILL, progress=progress)
        placed = place(unplaced, inventory, fleet, progress=progress)
        finished = run(fleet, dataset_path(DEMO_SCENARIO), out, progress=progress)
    return Demo(made, placed, finished, verify(out, progress=progress), report(out))


_WARMUP = """
name = "warmup"
start = 2026-01-01T00:00:00Z
[[campaign]]
name = "warmup"
length = { min = "1s", max = "2s" }
"""
_WARMUP_OF_ALL = f"""{_WARMUP}
update_domain_order = "sequential"
[[campaign]]
name = "profiles"
length = {{ min = "1s", max = "2s", by_family = {{ Dsv3 = "1s" }} }}
[[campaign]]
name = "caps"
caps = [{{ per = "cluster", vms_ratio = 0.5 }}]
"""


def warmup() -> Path | None:
    """Compile every kernel into the cache. Returns the cache folder, None where none can be written."""
    import pyarrow as pa

    from fleetsim.kernels.jit import cache_dir

    fleet = pa.table({"vm": ["a", "b", "c"], "region": ["westeurope"] * 3, "set": ["s", "s", None]})
    gone = pa.array([None, 4_000_000_000_000, None], pa.timestamp("ms", "UTC"))
    more = {"size": ["Standard_D2s_v3"] * 3, "cluster": ["c"] * 3, "deleted": gone}
    whole = pa.table({**{name: fleet[name] for name in fleet.column_names}, **more})
    with tempfile.TemporaryDirectory(prefix="fleetsim-warmup-") as folder:
        run(fleet, _WARMUP, Path(folder) / "plain")
        run(whole, _WARMUP_OF_ALL, Path(folder) / "all")
        for policy in POLICIES:
            place(fleet, pa.table({"host": [1], "region": ["westeurope"]}), Path(folder) / policy, policy=policy)
    return cache_dir()
