"""Who works out the campaign, group by group; the opponents of a group are compared with one another.

To add an opponent: write a function in a module here, and a line in OPPONENTS. It is imported in a process of its own,
so modules import what they like at their top; what may be missing is named in `needs`, and the opponent is then left
out with a line. tests/test_benches.py takes in every line of OPPONENTS by itself. Write it as a good user of that
library would, with its best settings, and say which.

The function of a call gets a `Given`, does what is not timed (loading, compiling), and returns the task that is: a
function without arguments, called more than once, that returns one of

    (start_ms, duration_ms)  an entry a VM, in VM order (of one that reads the prepared fleet: in vm_row order), ms
                             since the campaign's start: anything NumPy can make an array of
    a folder                 with the tables `events` and `outcomes` as Parquet: events*.parquet or events/**.parquet;
                             where `is_verified`, a finished run, which the verifier judges
    None                     nothing to check: a limit of the machine

The function of a whole process gets a `Given`, and writes such tables into `given.folder / "out"`: the columns that
fleetsim writes, of the same widths. What comes out is checked (`benches.checks`); a wrong answer fails the command.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from subprocess import check_output
from typing import Any, Literal

Role = Literal["fleetsim", "limit", "opponent"]


@dataclass(frozen=True)
class Opponent:
    """A way to work out the campaign.

    name       as --only takes it
    what       as the table says it
    groups     what it takes part in; lengths are random in RANDOM_GROUPS
    home       module (in this package) and function
    how        called in a process of its own after a round that is not timed, or a whole process
    role       whether others of the group are compared with it: `fleetsim` and `limit` are, one each a group
    needs      modules that must be importable, or names of TOOLS
    threads    how many it is given; 0: all cores
    vms_max    largest fleet it is sent over: beyond, minutes or too much memory
    is_reader  reads the prepared fleet, so that its vm_row is the fleet's; others know the fleet by heart
    bytes_per_vm  moved in memory, for a limit
    is_verified   its answer is a finished run, which `fleetsim verify` judges
    has_answer    whether a whole process of it leaves anything to check
    """

    name: str
    what: str
    groups: tuple[str, ...]
    home: str
    how: Literal["call", "process"] = "call"
    role: Role = "opponent"
    needs: tuple[str, ...] = ()
    threads: int = 1
    vms_max: int = 100_000_000
    is_reader: bool = False
    bytes_per_vm: int = 0
    is_verified: bool = False
    has_answer: bool = True

    @property
    def missing(self) -> tuple[str, ...]:
        """What to install for it here; nothing if it can be measured."""
        lacking = [need for need in self.needs if not (TOOLS[need].is_here() if need in TOOLS else find_spec(need))]
        return tuple(TOOLS[need].install if need in TOOLS else f"pip install {need}" for need in lacking)

    @property
    def module(self) -> str:
        return f"{__name__}.{self.home.partition(':')[0]}"

    @property
    def function(self) -> str:
        return self.home.partition(":")[2]

    @property
    def process_code(self) -> str:
        """What a whole process of it runs; the words of a `Given` follow."""
        return (
            f"import sys; from benches.campaign import Given; from {self.module} import {self.function};"
            f" {self.function}(Given.parse(sys.argv[1:]))"
        )

    def load(self) -> Callable[..., Any]:
        """Its function."""
        function: Callable[..., Any] = getattr(import_module(self.module), self.function)
        return function


def compiler() -> str | None:
    """The C compiler of this machine."""
    return which("cc") or which("gcc")


@dataclass(frozen=True)
class Tool:
    """What an opponent may need that is no module: whether it is here, how it comes here, which it is."""

    is_here: Callable[[], bool]
    install: str
    version: Callable[[], str]


def _compiler_version() -> str:
    return check_output([str(compiler()), "-dumpfullversion"], text=True).strip()


def _simgrid_version() -> str:
    found = re.search(r'"SimGrid version (.+)"', (_SIMGRID / "version.h").read_text())
    return found[1] if found else "unknown"


_SIMGRID = Path("/usr/include/simgrid")


TOOLS = {
    "cc": Tool(lambda: compiler() is not None, "apt-get install gcc libc6-dev", _compiler_version),
    "simgrid": Tool(
        lambda: which("g++") is not None and (_SIMGRID / "s4u.hpp").exists(),
        "apt-get install g++ libsimgrid-dev",
        _simgrid_version,
    ),
}

GROUPS = {
    "kernel": "kernels of fleetsim on one thread, the fleet loaded, nothing kept; the limit copies what they write",
    "memory": "the campaign in memory: start and length of each VM's freeze, 30 s each",
    "random": "the same with random lengths",
    "parquet": "30 s each, its tables `events` and `outcomes` as Parquet: the opponents know when a domain starts",
    "parquet-random": "the same with random lengths: when a domain starts must be worked out",
    "more": "what opponents do not do: whole runs to Parquet, lengths random, judged by the verifier",
    "use": "starting, threads and replicas: fleetsim alone, lengths random, runs judged by the verifier",
}
"""What the groups compare."""
RANDOM_GROUPS = ("random", "parquet-random", "more", "use")

_MEMORY = ("memory", "random")
_FILES = ("parquet", "parquet-random")
_MORE: tuple[tuple[str, str, Role], ...] = (
    ("nothing", "random lengths alone", "fleetsim"),
    ("caps", "and a cap of 5 % of a region", "opponent"),
    ("hosts", "and hosts of 20 VMs, 5 % of them at once", "opponent"),
    ("customers", "reboots, a third of them by customers", "opponent"),
    ("campaigns", "freezes, then reboots, then freezes", "opponent"),
)

OPPONENTS = (
    Opponent("copy", "limit: memory copy of starts and lengths", ("kernel", *_MEMORY), "limits:copy",
             role="limit", bytes_per_vm=24),
    Opponent("triad", "limit: memory triad of doubles, two passes", ("kernel",), "limits:triad", bytes_per_vm=40),
    Opponent("load", "read the prepared fleet", ("kernel",), "ours:load", is_reader=True),
    Opponent("walk", "walk, constant lengths", ("kernel",), "ours:walk_constant", role="fleetsim", is_reader=True),
    Opponent("walk-random", "walk, random lengths", ("kernel",), "ours:walk_random", is_reader=True),
    Opponent("gate-caps", "gate, a cap of 5 % of a region", ("kernel",), "ours:gate_caps", is_reader=True),
    Opponent("gate-hosts", "gate, hosts of 20 VMs", ("kernel",), "ours:gate_hosts", is_reader=True),

    Opponent("fleetsim-reads", "fleetsim, reads the prepared fleet", _MEMORY, "ours:in_memory", threads=0,
             is_reader=True),
    Opponent("fleetsim", "fleetsim", _MEMORY, "ours:in_memory_loaded", role="fleetsim", threads=0, is_reader=True),
    Opponent("fleetsim-1", "fleetsim, one thread", _MEMORY, "ours:in_memory_loaded", is_reader=True),
    Opponent("c", "C, calendar queue", _MEMORY, "compiled:calendar_queue", needs=("cc", "numpy")),
    Opponent("c-heap", "C, binary heap", _MEMORY, "compiled:binary_heap", needs=("cc", "numpy")),
    Opponent("numba", "numba, ad hoc", _MEMORY, "ad_hoc_numba:sets", needs=("numba",)),
    Opponent("numpy", "NumPy, vectorised", _MEMORY, "columns:vectorised", needs=("numpy",)),
    Opponent("polars", "Polars", _MEMORY, "columns:query", needs=("polars",), threads=0),
    Opponent("heapq", "Python, heapq event loop", _MEMORY, "event_loops:heap"),
    Opponent("simpy-sets", "SimPy, a process a set", _MEMORY, "event_loops:simpy_sets", needs=("simpy",),
             vms_max=1_000_000),
    Opponent("simpy-vms", "SimPy, a process a VM", _MEMORY, "event_loops:simpy_vms", needs=("simpy",),
             vms_max=100_000),
    Opponent("salabim", "salabim, a component a set", _MEMORY, "salabim_sets:sets", needs=("salabim",),
             vms_max=100_000),
    Opponent("simgrid", "SimGrid in C++, an actor a set", _MEMORY, "compiled:simgrid", needs=("simgrid", "numpy"),
             vms_max=1_000_000),
    Opponent("mesa", "Mesa, an agent a set", _MEMORY, "mesa_sets:sets", needs=("mesa",), vms_max=1_000_000),

    Opponent("write", "limit: bare pyarrow write from memory", _FILES, "limits:write", role="limit", threads=0,
             is_reader=True),
    Opponent("write-fsync", "the same with fsync", _FILES, "limits:write_fsync", threads=0, is_reader=True),
    Opponent("run", "fleetsim.run, called", _FILES, "ours:run", threads=0, is_reader=True),
    Opponent("run-process", "fleetsim run, whole process", _FILES, "ours_process:run", "process", role="fleetsim",
             threads=0, is_reader=True),
    Opponent("polars-reads", "Polars over the fleet, whole process", ("parquet",), "parquet_polars:reading", "process",
             needs=("polars",), threads=0, is_reader=True),
    Opponent("polars-knows", "Polars from row numbers, whole process", _FILES, "parquet_polars:knowing", "process",
             needs=("polars", "numpy"), threads=0),
    Opponent("duckdb-reads", "DuckDB over the fleet, whole process", ("parquet",), "parquet_duckdb:reading", "process",
             needs=("duckdb",), threads=0, is_reader=True),
    Opponent("duckdb-knows", "DuckDB from row numbers, whole process", _FILES, "parquet_duckdb:knowing", "process",
             needs=("duckdb",), threads=0),
    Opponent("simpy-process", "SimPy, a process a set, whole process", _FILES, "parquet_simpy:run", "process",
             needs=("simpy", "pyarrow"), vms_max=1_000_000),

    *(
        Opponent(f"more-{name}", what, ("more",), f"ours:more_{name}", role=role, threads=0, vms_max=1_000_000,
                 is_reader=True, is_verified=True)
        for name, what, role in _MORE
    ),

    Opponent("help", "fleetsim --help, whole process", ("use",), "ours_process:show_help", "process", has_answer=False),
    Opponent("figures-1", "fleetsim.run for figures alone, one thread", ("use",), "ours:figures",
             role="fleetsim", is_reader=True, is_verified=True),
    Opponent("figures", "the same, all threads", ("use",), "ours:figures", threads=0, is_reader=True, is_verified=True),
    Opponent("figures-caps-1", "and a cap of 5 % of a region, one thread", ("use",), "ours:figures_caps",
             is_reader=True, is_verified=True),
    Opponent("figures-caps", "the same, all threads", ("use",), "ours:figures_caps", threads=0, is_reader=True,
             is_verified=True),
    Opponent("replicas", "a replica for each 1,000 VMs, whole process", ("use",), "ours_process:replicas", "process",
             threads=0, vms_max=1_000_000, is_reader=True, is_verified=True),
)  # fmt: skip
"""All of them, in the order of the table and of a round."""
