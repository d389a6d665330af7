"""The first things a user runs: the demo over the shipped trace, and compiling the kernels ahead of time."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fleetsim.fleet.azure_trace import Imported, import_trace
from fleetsim.fleet.placing import POLICIES, place
from fleetsim.progress import Progress
from fleetsim.reporting import Report, report
from fleetsim.runfolder import check_absent
from fleetsim.runner import Run, run
from fleetsim.shipped import dataset_path
from fleetsim.verifier import Verdict, verify

DEMO_SCENARIO = "demo.toml"


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demo made."""

    imported: Imported
    run: Run
    verdict: Verdict
    report: Report


def demo(out: str | Path = "fleetsim-demo", *, progress: Progress | None = None) -> Demo:
    """Import the shipped trace, run its freeze campaign into the new folder *out*, verify it and report on it."""
    out = Path(out)
    check_absent(out)
    with tempfile.TemporaryDirectory(prefix="fleetsim-demo-") as folder:
        fleet = Path(folder) / "azure.parquet"
        imported = import_trace(fleet, progress=progress)
        finished = run(fleet, dataset_path(DEMO_SCENARIO), out, progress=progress)
    return Demo(imported, finished, verify(out, progress=progress), report(out))


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
