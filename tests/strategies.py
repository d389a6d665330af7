"""Fleets and scenarios that hunt edges: few values, so that ties, exact fits and shared keys are common.

A `Scene` is one drawn question in the three forms the tests need: a fleet table in the drawn row order, the
scenario as a user writes it, and the oracle's input. Length profiles are compiled here a second time, from
their definitions alone. Instants at which VMs come and go, and the horizon, are drawn around those at which
the oracle says something happens: that is where ties and exact fits are.
"""

import atexit
import csv
import datetime as dt
import hashlib
import io
import itertools
import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from statistics import NormalDist

import pyarrow as pa
from hypothesis import strategies as st

from tests import oracle
from tests.oracle import Campaign, Cap, Host, Identity, Quorum, SelfService, Vm, Windows

SHIPPED_PAIRS = (
    ("eastus", "westus"),
    ("westus3", "eastus"),  # one-sided: eastus has two partners, who are strangers to each other
    ("southcentralus", "northcentralus"),
    ("brazilsouth", "southcentralus"),
    ("northeurope", "westeurope"),
)
"""The edges of the shipped relation among the regions drawn here."""
SHIPPED_REGIONS = (
    *dict.fromkeys(region for pair in SHIPPED_PAIRS for region in pair),
    "italynorth",
    "polandcentral",
)
GEOGRAPHIES = {
    "United States": ("eastus", "westus", "westus3", "southcentralus", "northcentralus"),
    "Brazil": ("brazilsouth",),
}
SCOPES = ("unsaid", "all", "names", "geography")

OWN_PAIRS = (("zone-b", "A_1"), ("A_1", "x2"), ("x2", "zone-b"), ("y", "x2"))
"""A relation no public cloud has: a ring of three with a fourth at one corner; names that sort by bytes."""
OWN_REGIONS = ("zone-b", "A_1", "x2", "y", "alone")

UNRELATED_REGION = "austriaeast"
"""Known to both relations, paired in neither, never drawn."""

ENTRY_COUNT = 65_537


@cache
def constant(length_ms: int) -> list[int]:
    return [length_ms] * ENTRY_COUNT


@cache
def uniform(ms_min: int, ms_max: int) -> list[int]:
    """Every whole millisecond from bound to bound alike: the first a share of i / 65,536 reaches."""
    count = ms_max - ms_min + 1
    return [ms_min + max((count * i + 65_535) // 65_536 - 1, 0) for i in range(ENTRY_COUNT)]


@cache
def lognormal(p50_ms: int, p99_ms: int, floor_ms: int = 1, ceiling_ms: int | None = None) -> list[int]:
    """Quantiles clipped to [floor, ceiling]; the ceiling is quantile 0.9999 unless said."""
    normal = NormalDist()
    sigma = math.log(p99_ms / p50_ms) / normal.inv_cdf(0.99)
    ceiling = p50_ms * math.exp(sigma * normal.inv_cdf(0.9999)) if ceiling_ms is None else ceiling_ms
    inner = [p50_ms * math.exp(sigma * normal.inv_cdf(i / 65_536)) for i in range(1, 65_536)]
    return [round(min(max(quantile, floor_ms), ceiling)) for quantile in (0.0, *inner, math.inf)]


@cache
def quantiles(*points: tuple[float, int]) -> list[int]:
    """Straight lines between the points, flat before the first and after the last."""
    points = ((0.0, points[0][1]), *points, (1.0, points[-1][1]))
    lengths = []
    for i in range(ENTRY_COUNT):
        share = i / 65_536
        left = max(point for point in points if point[0] <= share)
        right = min(point for point in points if point[0] >= share)
        run = right[0] - left[0]
        lengths.append(round(left[1] + (right[1] - left[1]) * ((share - left[0]) / run if run else 0.0)))
    return lengths


LENGTHS = {
    '"30s"': lambda: constant(30_000),
    '"10s"': lambda: constant(10_000),
    '"1ms"': lambda: constant(1),
    '{ min = "1ms", max = "2ms" }': lambda: uniform(1, 2),
    '{ min = "9s", max = "10s" }': lambda: uniform(9_000, 10_000),
    '{ p50 = "6s", p99 = "9s" }': lambda: lognormal(6_000, 9_000),
    '{ p50 = "6s", p99 = "9s", floor = "5s", ceiling = "10s" }': lambda: lognormal(6_000, 9_000, 5_000, 10_000),
    '{ quantiles = [[0.5, "6s"], [1.0, "30s"]] }': lambda: quantiles((0.5, 6_000), (1.0, 30_000)),
    '{ quantiles = [[0, "1s"], [0.25, "6s"], [0.75, "7s"]] }': lambda: quantiles(
        (0, 1_000), (0.25, 6_000), (0.75, 7_000)
    ),
}
"""Length as the user writes it -> its table, compiled when first asked for."""
DEFAULT_LENGTH = '"30s"'

# Few values around the lengths above; 9,999 ms and 10,001 ms sit on either side of the constant 10 s,
# 3,599,999 ms on the near side of an hour, and 3,650 d, the longest span, has more than 32 bits.
SPANS = {
    "start": {"0s": 0, "1ms": 1, "10s": 10_000, "20s": 20_000, "30s": 30_000, "3599999ms": 3_599_999, "1h": 3_600_000},
    "work": {"0s": 0, "9999ms": 9_999, "10s": 10_000, "10001ms": 10_001, "40s": 40_000},
    "update_domain_gap": {"0s": 0, "1ms": 1, "10s": 10_000, "30min": 1_800_000},
    "spread": {"0s": 0, "1ms": 1, "2ms": 2, "10s": 10_000, "12h": 43_200_000, "3650d": 3650 * 86_400_000},
    "pair_lag": {"0s": 0, "1ms": 1, "10s": 10_000, "1d": 86_400_000},
}
WINDOWS = {
    "notice": {"0s": 0, "1ms": 1, "20s": 20_000, "30d": 30 * 86_400_000},
    "self_service": {"0s": 0, "1ms": 1, "10s": 10_000, "5d": 5 * 86_400_000},
    "gap": {"0s": 0, "1ms": 1, "10s": 10_000, "2d": 2 * 86_400_000},
    "scheduled": {"1ms": 1, "10s": 10_000, "30s": 30_000, "60001ms": 60_001, "1h": 3_600_000, "14d": 14 * 86_400_000},
}
"""Windows in which nothing fits, one unit just does, or everything."""
PLAN = "<plan>"
"""Stands for the file of a plan until there is one."""
PLANS = Path(tempfile.mkdtemp(prefix="fleetsim-plans-"))
atexit.register(shutil.rmtree, PLANS, ignore_errors=True)
DAYS_MS = 86_400_000
DELAYS = {"0s": 0, "1ms": 1, "20s": 20_000, "1d": 86_400_000}
"""Between the end of a scheduled window and the next notice."""
TIMINGS = {
    **{f'"{word}"': (lambda word=word: word) for word in ("uniform", "early", "last_minute", "working_hours")},
    '{ quantiles = [[0.5, "1ms"], [1.0, "10d"]] }': lambda: quantiles((0.5, 1), (1.0, 864_000_000)),
    '{ min = "1ms", max = "10s" }': lambda: uniform(1, 10_000),
}
RETRIES = {"0s": 0, "1ms": 1, "9999ms": 9_999, "10s": 10_000, "60s": 60_000, "2h": 7_200_000}
"""How long after its start a VM may be tried again: often just as long as one try."""
TRIES_DRAWN = 4
"""No VM of a scene where every try fails has more of them: the oracle looks at each."""
BAKES = {"0s": 0, "1ms": 1, "10s": 10_000, "1d": 86_400_000}
CAPS = {
    "vms_count = 1": 1,
    "vms_count = 2": 2,
    "vms_count = 3": 3,
    "vms_count = 5": 5,
    "vms_ratio = 0.05": "0.05",
    "vms_ratio = 0.34": "0.34",
    "vms_ratio = 0.5": "0.5",
    "vms_ratio = 1": "1",
}
QUORUMS = ('"majority"', "1", "2", "3", "0.5", "0.34", "1.0")
SIZES = {
    "Standard_D2s_v3": "Dsv3",
    "Standard_D4s_v3": "Dsv3",
    "Standard_D2_v2": "Dv2",
    "Standard_M64s": "M",
    "Standard_L8s_v2": "Lsv2",
}
"""Sizes of the shipped catalogue, each with its family."""
CANNOT_FREEZE = frozenset({"Standard_M64s", "Standard_L8s_v2"})
"""Those the documentation says keep no memory through an update."""
TYPES = {"tier": pa.string(), "weight": pa.int64(), "is_spot": pa.bool_(), "load": pa.float64()}
"""Columns fleetsim does not know: what `where` may ask for beside its own."""
KNOWN_TYPES = {"fault_domain": pa.int64(), "temp_disk_gib": pa.float64(), "dynamic_ip": pa.bool_()}
KNOWN_TYPES |= {"vcpus": pa.float64(), "memory_gib": pa.float64()}
VALUES = {
    "tier": ("web", "db", "é", None),
    "weight": (-1, 0, 2**53 + 1, None),
    "is_spot": (True, False, None),
    "load": (0.5, 1.0, None),
}
FEATURES = (
    "lifetimes", "where", "sizes", "families", "no_impact", "waves", "horizon", "fault_domains", "clusters",
    "applications", "quorum", "azure_2024", "reboots", "windows", "tries", "customers", "beside", "caps", "zones",
    "hosts", "room", "scale_set", "cannot_freeze",
)  # fmt: skip
"""What a scene may have beyond a plain freeze of everybody at once.

With "room" there is an inventory of the hosts, and a single campaign, whose customers may go to them.
With "beside" the first of several campaigns has windows and customers, if there are such, and all meet in its regions.
"""
with (Path(__file__).parent.parent / "datasets/region_pairs_real.csv").open(encoding="utf-8") as file:
    HOURS_EAST = {
        row["region"]: math.floor(float(row["longitude"]) / 15 + 0.5)
        for row in csv.DictReader(file)
        if row["longitude"]
    }
"""Of the regions whose place is published."""
SEEDS = (0, 1, 7, 2**63 - 1)
STARTS = (
    dt.datetime(2026, 12, 1, tzinfo=dt.UTC),
    dt.datetime(2017, 6, 30, 23, 59, 59, 999_000, tzinfo=dt.UTC),
    dt.datetime(2026, 12, 1, 5, 30, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
)
CAMPAIGN_NAMES = ("hypervisor", "b", "a", "Z_9-z")

# Shared by VMs and sets: where a VM and a set have one key, only the stream keeps their draws apart.
INTEGERS = (*range(-3, 130), 2**31, 2**32, 2**32 + 1, -(2**63), 2**63 - 1)
WORDS = (
    "Ａ",  # U+FF21 sorts before U+1F600 by UTF-8 bytes and after it by UTF-16 units  # noqa: RUF001
    "\U0001f600",
    "é",
    "e\u0301",  # the same letter to the eye, other bytes
    "Z",
    "a",
    "a ",
    "1",
    "10",
    "-1",
    "vm with a name of more than twelve bytes 1",
    "vm with a name of more than twelve bytes 2",
    *(f"vm-{i}" for i in range(125)),
)


@dataclass(frozen=True)
class Request:
    """A campaign as the user writes it (key -> TOML), and what is meant by it."""

    keys: dict[str, str]
    meant: Campaign


@dataclass(frozen=True)
class Scene:
    """One drawn question. `vms` are in row order; `has_*_column` False leaves out a column of nulls."""

    vms: tuple[Vm, ...]
    requests: tuple[Request, ...]
    seed: int
    start: dt.datetime
    has_own_pairs: bool = False
    preset: str | None = None
    has_set_column: bool = True
    has_update_domain_column: bool = True
    horizon_ms: int | None = None
    quorum: Quorum | None = None
    columns: tuple[str, ...] = ()
    """Columns of `Vm` and of its attributes that the fleet has beyond those above."""
    hosts: tuple[Host, ...] = ()
    """An inventory of the hosts it is on; none: nobody knows what room they have."""
    says_clusters: bool = True
    """Whether the inventory tells the clusters of hosts that have VMs, which the fleet tells as well."""

    def _repr_pretty_(self, printer, cycle: bool) -> None:
        """A failing example as a reader wants it: the rows, then the scenario."""
        pairs = "own pairs" if self.has_own_pairs else "shipped pairs"
        printer.text(
            "\n".join([f"{len(self.vms)} VMs, {pairs}", *map(str, self.vms), *map(str, self.hosts), self.toml()])
        )

    def table(self) -> pa.Table:
        """The fleet as a user would hand it over."""
        columns = {
            "region": pa.array([vm.region for vm in self.vms], pa.string()),
            **({"host": _identities([vm.host for vm in self.vms])} if "host" in self.columns else {}),
            "vm": _identities([vm.vm for vm in self.vms]),
        }
        if self.has_set_column:
            columns["set"] = _identities([vm.set for vm in self.vms])
        if self.has_update_domain_column:
            columns["update_domain"] = pa.array([vm.update_domain for vm in self.vms], pa.int64())
        for name in self.columns:
            if name in ("created", "deleted"):
                columns[name] = self._instants([getattr(vm, f"{name}_ms") for vm in self.vms])
            elif name != "host":
                dtype = KNOWN_TYPES.get(name) or TYPES.get(name, pa.string())
                columns[name] = pa.array([vm.column(name) for vm in self.vms], dtype)
        return pa.table(columns)

    def inventory(self) -> pa.Table | None:
        """The hosts as a user would hand them over."""
        if not self.hosts:
            return None
        told = [host.cluster if host.is_spare or self.says_clusters else None for host in self.hosts]
        columns = {
            "host": _identities([host.host for host in self.hosts]),
            "region": pa.array([host.region for host in self.hosts]),
            "cluster": pa.array(told, pa.string()),
            "is_spare": pa.array([host.is_spare for host in self.hosts]),
            "vcpus": pa.array([host.vcpus for host in self.hosts], pa.float64()),
            "memory_gib": pa.array([host.memory_gib for host in self.hosts], pa.float64()),
        }
        return pa.table(columns)

    def _instants(self, values_ms: Sequence[int | None]) -> pa.Array:
        start_ms = round(self.start.timestamp() * 1_000)
        since = [None if ms is None else start_ms + ms for ms in values_ms]
        return pa.array(since, pa.timestamp("ms", "UTC"))

    def toml(self) -> str:
        """The scenario as a user would write it."""
        lines = ['name = "drawn"', f"start = {self.start.isoformat()}", f"seed = {self.seed}"]
        if self.preset is not None:
            lines.append(f'preset = "{self.preset}"')
        if self.horizon_ms is not None:
            lines.append(f'horizon = "{self.horizon_ms}ms"')
        for request in self.requests:
            plan = self._plan_file(request.meant.self_service.requests)
            told = (f"{key} = {value}" for key, value in request.keys.items())
            lines += ["", "[[campaign]]", *(line.replace(PLAN, plan) for line in told)]
        if self.quorum is not None:
            lines += ["", "[quorum]", f'by = "{self.quorum.by}"', f"min_up = {json.dumps(self.quorum.min_up)}"]
        return "\n".join(lines) + "\n"

    def _plan_file(self, plan: Sequence[tuple[Identity, int]] | None) -> str:
        """The customers' *plan* as a file, each in one of its own."""
        if plan is None:
            return ""
        rows = [[str(vm), (self.start + dt.timedelta(milliseconds=ms)).isoformat()] for vm, ms in plan]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([["vm", "at"], *rows])
        path = PLANS / f"{hashlib.sha256(text.getvalue().encode()).hexdigest()}.csv"
        path.write_text(text.getvalue(), "utf-8")
        return str(path)

    def edges(self) -> tuple[tuple[str, str], ...]:
        return OWN_PAIRS if self.has_own_pairs else SHIPPED_PAIRS

    def write_pairs(self, folder: Path) -> Path | None:
        """The relation as a file, where it is not the shipped one."""
        if not self.has_own_pairs:
            return None
        paired = dict(OWN_PAIRS)
        rows = [f"{region},{paired.get(region, '')}" for region in (*OWN_REGIONS, UNRELATED_REGION)]
        path = folder / "own-pairs.csv"
        path.write_text("\n".join(["region,paired_region", *rows]) + "\n", "utf-8")
        return path

    def log(self) -> oracle.Log:
        """What the oracle says."""
        clock = {"start": self.start, "hours_east": HOURS_EAST}
        campaigns = [
            replace(request.meant, self_service=replace(request.meant.self_service, **clock))
            for request in self.requests
        ]
        beyond = {"horizon_ms": self.horizon_ms, "quorum": self.quorum, "hosts": self.hosts}
        return oracle.simulate(self.vms, campaigns, self.edges(), self.seed, **beyond)


def _identities(values: list[Identity | None]) -> pa.Array:
    has_words = any(isinstance(value, str) for value in values)
    return pa.array(values, pa.string() if has_words else pa.int64())


@st.composite
def fleets(draw: st.DrawFn, regions: tuple[str, ...]) -> list[Vm]:
    """1 to about 90 VMs of some of *regions*, in any row order; a set has its domains given or defaulted."""
    places = draw(st.permutations(regions))[: draw(st.sampled_from([1, 2, 3, 4]))]
    vm_ids = iter(draw(st.permutations(draw(st.sampled_from([INTEGERS, WORDS])))))
    # No id in two regions: fleets refuse that, though to the oracle a set is (region, set id).
    set_ids = iter(draw(st.permutations(draw(st.sampled_from([INTEGERS[:12], INTEGERS[-12:], WORDS[:12]])))))
    vms: list[Vm] = []
    for region in places:
        set_count = draw(st.sampled_from([0, 1, 2, 3])) if len(vms) <= 40 else 0
        for set_id in itertools.islice(set_ids, set_count):
            domains = draw(_domains_of_a_set())
            vms += [Vm(next(vm_ids), region, set_id, domain) for domain in domains]
        single_count = draw(st.sampled_from([0, 1, 3] if set_count else [1, 2]))
        vms += [Vm(next(vm_ids), region) for _ in range(single_count)]
    return draw(st.permutations(vms))


@st.composite
def _domains_of_a_set(draw: st.DrawFn) -> list[int | None]:
    """The domain of each VM of one set; all None where they are left to the default."""
    populated = draw(st.sampled_from([(0,), (3,), (0, 1), (0, 7, 19), (0, 1, 2, 3, 4), (4, 2), tuple(range(20)), None]))
    if populated is None:
        return [None] * draw(st.sampled_from([1, 2, 5, 6, 12]))
    if len(populated) == 20:
        return [*populated, draw(st.sampled_from(populated))]
    return [domain for domain in populated for _ in range(draw(st.sampled_from([1, 2, 3])))]


@st.composite
def _scale_sets(draw: st.DrawFn, region: str) -> list[Vm]:
    """One scale set just above or below the size at which it is cut into placement groups."""
    # Ids that no other VM has; an order by value that is none by bytes.
    vms = [Vm(f"instance-{i}", region, "scale", set_kind="scale_set") for i in range(draw(st.sampled_from([100, 103])))]
    return draw(st.randoms(use_true_random=False)).sample(vms, len(vms))


@st.composite
def _with_columns(draw: st.DrawFn, vms: Sequence[Vm], features: Sequence[str]) -> list[Vm]:
    """*vms* with what the columns say that *features* bring."""
    vms = list(vms)
    if "fault_domains" in features:
        of_set = {}
        for place, vm in enumerate(vms):
            if vm.set is None:
                continue
            if vm.set not in of_set:
                of_set[vm.set] = draw(st.sampled_from([None, (0,), (0, 1), (2, 19), (0, 1, 2)]))
            if (domains := of_set[vm.set]) is not None:
                vms[place] = replace(vm, fault_domain=draw(st.sampled_from(domains)))
    if "clusters" in features:
        of_set = {}
        for place, vm in enumerate(vms):
            if vm.set not in of_set:
                of_set[vm.set] = draw(st.sampled_from([("a",), ("b",), (None,), ("a", "b"), ("a", None)]))
            vms[place] = replace(vm, cluster=draw(st.sampled_from(of_set[vm.set])))
    if "customers" in features:
        owners = draw(st.sampled_from([("me",), ("me", "you", None), ("é", "Ａ", "me")]))  # noqa: RUF001
        for place, vm in enumerate(vms):
            has = {"temp_disk_gib": (0.0, 0.5, None), "dynamic_ip": (True, False, None)}
            whose = {"subscription": draw(st.sampled_from(owners))}
            vms[place] = replace(vm, **whose, **{name: draw(st.sampled_from(of)) for name, of in has.items()})
    if {"caps", "zones"} & set(features):
        places = {"zone": draw(st.sampled_from([("1",), ("1", "2", None), ("10", "2", "é"), (None,)]))}
        if "caps" in features and "clusters" not in features:
            places["cluster"] = draw(st.sampled_from([("a",), ("a", "b", None)]))
        vms = [replace(vm, **{name: draw(st.sampled_from(of)) for name, of in places.items()}) for vm in vms]
    if "hosts" in features:
        vms = draw(_on_hosts(vms, has_hosts_everywhere="caps" in features))
    if "room" in features:
        takes = draw(st.sampled_from([(1.0,), (None,), (0.1, 0.2, 1.0), (1.0, 2.0, None)]))
        memory = [0.5, 1.0, None]
        if {"sizes", "families"} & set(features):  # who does not say takes what its size does
            takes, memory = [each or 1.0 for each in takes], [0.5, 1.0]
        vms = [replace(vm, vcpus=draw(st.sampled_from(takes)), memory_gib=draw(st.sampled_from(memory))) for vm in vms]
    if {"sizes", "families"} & set(features):
        sizes = draw(st.sampled_from([(*SIZES, None), ("Standard_D2s_v3", "Standard_M64s"), ("Standard_L8s_v2",)]))
        vms = [replace(vm, size=draw(st.sampled_from(sizes))) for vm in vms]
    if {"applications", "quorum"} & set(features):
        vms = [replace(vm, application=draw(st.sampled_from(["shop", "mail", None]))) for vm in vms]
    if "where" in features:
        vms = [
            replace(vm, attributes={name: draw(st.sampled_from(values)) for name, values in VALUES.items()})
            for vm in vms
        ]
    return vms


@st.composite
def _on_hosts(draw: st.DrawFn, vms: Sequence[Vm], *, has_hosts_everywhere: bool) -> list[Vm]:
    """*vms* on hosts, all of a region or none: aligned by domain, at random, on one host, or each on its own."""
    how = ["aligned", "aligned", "random", "random", "one", "each", *["none"] * (not has_hosts_everywhere)]
    of_region = {region: draw(st.sampled_from(how)) for region in sorted({vm.region for vm in vms})}
    has_numbers, placed = draw(st.booleans()), []
    for place, vm in enumerate(vms):
        mode, region = of_region[vm.region], sorted(of_region).index(vm.region)
        host = draw(st.sampled_from(range(3))) if mode in ("aligned", "random") else 0
        if mode == "aligned" and vm.set is not None:
            domain = 0 if vm.update_domain is None else vm.update_domain
            host += 3 * domain
        elif mode == "each":
            host = place
        number = 1000 * region + host
        placed.append(vm if mode == "none" else replace(vm, host=number if has_numbers else f"host-{number}"))
    # All VMs of a host are where the first of them is.
    first = {vm.host: vm for vm in reversed(placed) if vm.host is not None}
    racks = draw(st.sampled_from([("r",), ("r2", "r10", "é"), ("r", None)]))
    stands = {
        host: {"zone": vm.zone, "cluster": vm.cluster, "rack": draw(st.sampled_from(racks))}
        | ({"zone": vm.zone or "1", "cluster": vm.cluster or "a"} if has_hosts_everywhere else {})  # caps need them
        for host, vm in first.items()
    }
    return [vm if vm.host is None else replace(vm, **stands[vm.host]) for vm in placed]


@st.composite
def _inventories(draw: st.DrawFn, vms: Sequence[Vm]) -> tuple[Host, ...]:
    """The hosts of *vms*, which fit on them, and spare ones among these by their ids: with room for one VM, or more."""
    on_host: dict[Identity, list[Vm]] = {}
    for vm in vms:
        if vm.host is not None:
            on_host.setdefault(vm.host, []).append(vm)
    if not on_host:
        return ()
    has_clusters = any(vm.cluster is not None for vm in vms)
    own_clusters = draw(st.sampled_from([(None,), ("a",), ("a", "b", None)]))
    hosts = []
    for host, members in on_host.items():
        cluster = members[0].cluster if has_clusters else draw(st.sampled_from(own_clusters))
        room = {
            "vcpus": float(sum(Fraction(1 if vm.vcpus is None else str(vm.vcpus)) for vm in members)),
            "memory_gib": float(sum(Fraction(0 if vm.memory_gib is None else str(vm.memory_gib)) for vm in members)),
        }
        more = draw(st.sampled_from([0.0, 0.0, 1.0, None]))
        room = {name: None if more is None or not amount + more else amount + more for name, amount in room.items()}
        hosts.append(Host(host, members[0].region, cluster, **room))
    regions, clusters = sorted({vm.region for vm in vms}), [host.cluster for host in hosts]
    for _ in range(draw(st.sampled_from([0, 1, 2, 4, 4]))):
        region = draw(st.sampled_from([draw(st.sampled_from(hosts)).region, *regions]))
        number = 1000 * regions.index(region) + draw(st.sampled_from(range(500)))
        spare = number if isinstance(hosts[0].host, int) else f"host-{number}"
        if spare not in {host.host for host in hosts}:
            room = {name: draw(st.sampled_from([0.1, 1.0, 2.0, None])) for name in ("vcpus", "memory_gib")}
            hosts.append(Host(spare, region, draw(st.sampled_from(clusters)), **room, is_spare=True))
    return tuple(draw(st.permutations(hosts)))


def _columns_of(features: Sequence[str]) -> tuple[str, ...]:
    columns = {
        "scale_set": ("set_kind",),
        "fault_domains": ("fault_domain",),
        "clusters": ("cluster",),
        "caps": ("zone", "cluster"),
        "zones": ("zone",),
        "hosts": ("host", "rack"),
        "sizes": ("size",),
        "families": ("size",),
        "applications": ("application",),
        "quorum": ("application",),
        "where": tuple(TYPES),
        "lifetimes": ("created", "deleted"),
        "customers": ("subscription", "temp_disk_gib", "dynamic_ip"),
        "room": ("vcpus", "memory_gib"),
    }
    return tuple(dict.fromkeys(name for feature in features for name in columns.get(feature, ())))


@st.composite
def requests(
    draw: st.DrawFn,
    name: str,
    regions: Sequence[str],
    scopes: Sequence[str] = SCOPES,
    features: Sequence[str] = (),
    preset: str | None = None,
    vms: Sequence[Vm] = (),
    sure: Sequence[str] = (),
) -> Request:
    """One campaign over a fleet of *vms* in *regions*; keys are left out at random, for the preset to fill in.

    Of *features* it has those that are *sure*, and maybe others.
    """
    keys = {"name": json.dumps(name, ensure_ascii=False), "kind": '"freeze"'}
    meant = Campaign(name, LENGTHS[DEFAULT_LENGTH](), cannot_freeze=CANNOT_FREEZE)
    if preset == "azure-2024":
        lengths = lognormal(6_000, 9_000, 1, 30_000)
        meant = replace(meant, lengths=lengths, walk_by="fault_domain", pair_exclusion="reboots")
        meant = replace(meant, reboot_lengths=constant(1_500_000))

    def may_have(feature: str) -> bool:
        return feature in features and (feature in sure or draw(st.sampled_from([True, True, False])))

    scope = draw(st.sampled_from(scopes))
    geographies = [word for word, members in GEOGRAPHIES.items() if set(members) & set(regions)]
    if may_have("waves"):
        more, waves, within = draw(_waves(regions, geographies))
        keys, meant = keys | more, replace(meant, waves=waves, regions=within)
        if bake := draw(st.sampled_from([None, *BAKES])):
            keys["bake"], meant = json.dumps(bake), replace(meant, bake_ms=BAKES[bake])
    elif scope == "all":
        keys["regions"] = '["*"]'
    elif scope == "names":
        named = draw(st.lists(st.sampled_from(regions), min_size=1, unique=True))
        keys["regions"], meant = json.dumps(named), replace(meant, regions=tuple(named))
    elif scope == "geography" and geographies:
        geography = draw(st.sampled_from(geographies))
        keys["regions"], meant = json.dumps([geography]), replace(meant, regions=GEOGRAPHIES[geography])

    if "windows" not in sure and may_have("no_impact") and draw(st.booleans()):
        keys["kind"], meant = '"no_impact"', replace(meant, kind="no_impact")
    if may_have("where"):
        keys["where"], where = draw(_wheres(vms))
        meant = replace(meant, where=where)
    if may_have("fault_domains"):
        walk_by = draw(st.sampled_from(["fault_domain", "fault_domain", "update_domain"]))
        keys["walk_by"], meant = json.dumps(walk_by), replace(meant, walk_by=walk_by)
    has_hosts = any(vm.host is not None for vm in vms)  # somewhere: then nothing may be said about walks
    if not has_hosts and may_have("clusters"):
        in_step = draw(st.sampled_from([True, True, False]))
        keys["sets_in_step"], meant = json.dumps(in_step), replace(meant, sets_in_step=in_step)
    if "windows" not in sure and may_have("caps"):
        scopes_ = draw(st.lists(st.sampled_from(["region", "zone", "cluster"]), min_size=1, max_size=2, unique=True))
        caps = [(scope, draw(st.sampled_from(list(CAPS)))) for scope in scopes_]
        has_hosts = "hosts" in features and all(vm.host is not None for vm in vms)
        of = draw(st.sampled_from(["vms", "hosts"])) if has_hosts else "vms"
        spelt_caps = [f"{{ per = {json.dumps(per)}, {spelt.replace('vms', of)} }}" for per, spelt in caps]
        keys["caps"] = f"[{', '.join(spelt_caps)}]"
        meant = replace(meant, caps=tuple(Cap(per, CAPS[spelt], of == "hosts") for per, spelt in caps))
    if may_have("hosts"):
        orders = ["auto", "auto", "random", "most_vms_first", "fewest_claims_first", "rack", "column:region"]
        orders += [f"column:{name}" for name in TYPES if "where" in features]
        order = draw(st.sampled_from(orders))
        keys["host_order"], meant = json.dumps(order), replace(meant, host_order=order)
    if may_have("reboots"):
        exclusion = draw(st.sampled_from(["all", "reboots", "reboots"]))
        keys["pair_exclusion"], meant = json.dumps(exclusion), replace(meant, pair_exclusion=exclusion)

    if may_have("families"):
        general, other = draw(st.sampled_from([("10s", "9s"), ("10s", "30s"), ("6s", "10s")]))
        family = draw(st.sampled_from(["Dsv3", "Dv2", "M"]))
        drawn = draw(st.sampled_from([f'"{other}"', '{ min = "9s", max = "10s" }', '{ p50 = "6s", p99 = "9s" }']))
        keys["length"] = f'{{ min = "{general}", max = "{general}", by_family = {{ {family} = {drawn} }} }}'
        lengths = constant(int(other[:-1]) * 1_000) if drawn[0] == '"' else LENGTHS[drawn]()
        by_size = {size: lengths for size, of in SIZES.items() if of == family}
        meant = replace(meant, lengths=constant(int(general[:-1]) * 1_000), family_lengths=by_size)
    elif length := draw(st.sampled_from([None, *LENGTHS])):
        keys["length"], meant = length, replace(meant, lengths=LENGTHS[length]())
    if meant.kind == "freeze" and may_have("windows"):
        of_one_length = not (has_hosts and meant.family_lengths)
        also = {
            "has_customers": (not has_hosts or "room" in features) and may_have("customers"),
            "has_tries": of_one_length and may_have("tries"),
        }
        may_move = not has_hosts or "room" in features
        keys, meant = draw(_with_windows(keys, meant, **also, may_move=may_move, preset=preset))
        in_turn = draw(st.sampled_from([None, "true", "true", "false"])) if "zones" in features else None
        if in_turn:
            keys["one_zone_at_a_time"] = in_turn
        meant = replace(meant, one_zone_at_a_time=preset == "azure-2024" if in_turn is None else in_turn == "true")
    if meant.kind != "freeze":
        meant = replace(meant, reboot_lengths=None)
    elif may_have("cannot_freeze"):
        word = draw(st.sampled_from(["reboot", "reboot", "unaffected"]))
        lengths = constant(1_500_000) if word == "reboot" else None
        keys["cannot_freeze"], meant = json.dumps(word), replace(meant, reboot_lengths=lengths)
    if meant.reboot_lengths is not None and (length := draw(st.sampled_from([None, *LENGTHS]))):
        keys["reboot_length"], meant = length, replace(meant, reboot_lengths=LENGTHS[length]())
    for key, spans in SPANS.items():
        if span := draw(st.sampled_from([None, *spans])):
            keys[key], meant = json.dumps(span), replace(meant, **{f"{key}_ms": spans[span]})
    if not has_hosts and (order := draw(st.sampled_from([None, "random", "sequential", "largest_first"]))):
        keys["update_domain_order"], meant = json.dumps(order), replace(meant, update_domain_order=order)
    order = draw(st.sampled_from([None, "fewest_vms_first", "most_vms_first", "name", "list"]))
    if order == "list":
        listed = draw(st.lists(st.sampled_from(regions), min_size=1, unique=True))
        keys["pair_order"], meant = json.dumps(listed), replace(meant, pair_order=tuple(listed))
    elif order:
        keys["pair_order"], meant = json.dumps(order), replace(meant, pair_order=order)
    if meant.self_service.requests is not None:
        plan = draw(_plans(meant, vms))
        meant = replace(meant, self_service=replace(meant.self_service, requests=plan))
    return Request(keys, meant)


@st.composite
def _plans(draw: st.DrawFn, meant: Campaign, vms: Sequence[Vm]) -> tuple[tuple[Identity, int], ...]:
    """Who asks, and when: around the window for customers, as it is if nothing is in the way, and around later ones."""
    windows = meant.windows
    opens_ms = meant.start_ms + windows.lead_ms - windows.gap_ms - windows.self_service_ms
    again_ms = windows.lead_ms + windows.scheduled_ms + meant.reschedule_delay_ms
    length_ms = windows.self_service_ms
    moments_ms = sorted({-1, 0, 1, length_ms // 2, length_ms - 1, length_ms, min(DAYS_MS, length_ms // 3)})
    asked = st.tuples(
        st.sampled_from([vm.vm for vm in vms]),
        st.builds(
            lambda iteration, ms: max(0, opens_ms + iteration * again_ms + ms),
            st.sampled_from([0, 0, 1, 2]),
            st.sampled_from(moments_ms),
        ),
    )
    return tuple(draw(st.lists(asked, max_size=12, unique=True)))


@st.composite
def _with_windows(
    draw: st.DrawFn,
    keys: dict[str, str],
    meant: Campaign,
    *,
    has_customers: bool,
    has_tries: bool,
    may_move: bool,
    preset: str | None,
) -> tuple[dict[str, str], Campaign]:
    """The same campaign as a reboot, with windows, and customers who act in theirs."""
    said = {key: draw(st.sampled_from([None, *spans, *spans])) for key, spans in WINDOWS.items()}
    ms = {key: WINDOWS[key][span] for key, span in said.items() if span}
    days = 86_400_000
    windows = Windows(
        ms.get("notice", 30 * days),
        ms.get("self_service", (35 if preset == "azure-2024" else 30) * days),
        ms.get("gap", 2 * days),
        ms.get("scheduled", 14 * days),
    )
    asked = {"length": json.dumps(said["self_service"])} if said["self_service"] else {}
    if has_customers:
        more, customers = draw(_customers(preset))
        asked, meant = asked | more, replace(meant, self_service=customers)
    tables = {
        "notice": said["notice"] and json.dumps(said["notice"]),
        "self_service": asked and f"{{ {', '.join(f'{key} = {spelt}' for key, spelt in asked.items())} }}",
    }
    lengths = meant.lengths if "length" in keys else constant(1_500_000)
    inner = {"gap": said["gap"], "length": said["scheduled"]}
    inner = {key: json.dumps(span) for key, span in inner.items() if span}
    if has_tries:
        shortest_ms = min(table[0] for table in (lengths, *meant.family_lengths.values()))
        more, meant = draw(_tries(meant, shortest_ms))
        inner |= more
    tables["scheduled"] = inner and f"{{ {', '.join(f'{key} = {spelt}' for key, spelt in inner.items())} }}"
    if iterations_max := draw(st.sampled_from([None, 1, 1, 2, 4])):
        tables["iterations_max"], meant = str(iterations_max), replace(meant, iterations_max=iterations_max)
    if delay := draw(st.sampled_from([None, *DELAYS])):
        tables["reschedule_delay"], meant = json.dumps(delay), replace(meant, reschedule_delay_ms=DELAYS[delay])
    kind = draw(st.sampled_from(["reboot", "reboot", "redeploy" if may_move else "reboot"]))
    keys = keys | {"kind": json.dumps(kind)} | {key: spelt for key, spelt in tables.items() if spelt}
    walked = {} if "walk_by" in keys else {"walk_by": "update_domain"}  # whatever freezes walk by default
    return keys, replace(meant, kind=kind, windows=windows, lengths=lengths, update_domain_gap_ms=1_800_000, **walked)


@st.composite
def _tries(draw: st.DrawFn, meant: Campaign, shortest_ms: int) -> tuple[dict[str, str], Campaign]:
    """The platform's tries that fail: half of them, or all, and then not too many."""
    failure = draw(st.sampled_from(["0.5", "0.5", "0.5", "1.0"]))
    spans = [span for span, ms in RETRIES.items() if failure != "1.0" or ms < TRIES_DRAWN * shortest_ms]
    span = draw(st.sampled_from([*spans, *[None] * (failure != "1.0")]))
    keys = {"failure_ratio": failure, "retry_timeout": span and json.dumps(span)}
    meant = replace(meant, try_failure=failure, retry_timeout_ms=RETRIES[span or "2h"])
    return {key: spelt for key, spelt in keys.items() if spelt}, meant


@st.composite
def _customers(draw: st.DrawFn, preset: str | None) -> tuple[dict[str, str], SelfService]:
    """What customers do, as the user writes it and as the oracle wants it."""
    uptake, failure = draw(st.sampled_from(["0.5", "1.0", "1"])), draw(st.sampled_from([None, "0", "0.5", "1.0"]))
    spare = draw(st.sampled_from([None, "0.0", "0.1", "0.3", "1.0"]))
    timing, by = draw(st.sampled_from([None, *TIMINGS])), draw(st.sampled_from([None, "subscription", "set", "vm"]))
    recycle = draw(st.sampled_from([None, "0s", "1ms", "2d"]))
    retries = draw(st.sampled_from([None, "true", "false"]))
    has_plan = draw(st.sampled_from([False, False, True]))
    if has_plan:
        uptake = timing = by = None
    keys = {
        "requests": f'"{PLAN}"' if has_plan else None,
        "uptake_ratio": uptake,
        "failure_ratio": failure,
        "spare_ratio": spare,
        "timing": timing,
        "by": by and json.dumps(by),
        "recycle": recycle and json.dumps(recycle),
        "retries": retries,
    }
    return {key: spelt for key, spelt in keys.items() if spelt}, SelfService(
        uptake=uptake or "0",
        requests=() if has_plan else None,
        by=by or "subscription",
        timing=TIMINGS[timing]() if timing else "uniform",
        failure=failure or "0",
        spare=spare or "0.05",
        recycle_ms={"0s": 0, "1ms": 1, "2d": 172_800_000, None: 3_600_000}[recycle],
        retries=preset == "azure-2024" if retries is None else retries == "true",
    )


@st.composite
def _waves(
    draw: st.DrawFn, regions: Sequence[str], geographies: Sequence[str]
) -> tuple[dict[str, str], tuple[tuple[str, ...], ...], tuple[str, ...] | None]:
    """(keys, waves as the oracle wants them, their scope): some regions in turn, maybe the others, maybe nobody's."""
    turns = draw(st.permutations(regions))
    named = [list(turns[:1]), list(turns[1:2])][: draw(st.sampled_from([1, 2]))]
    spelt, meant = [list(wave) for wave in named if wave], [list(wave) for wave in named if wave]
    if geographies and draw(st.sampled_from([True, False, False])):
        spelt, meant = [[geographies[0]]], [list(GEOGRAPHIES[geographies[0]])]
    if draw(st.sampled_from([True, True, False])):
        # The others, in a wave of their own or together with the last one.
        for waves in (spelt, meant):
            if len(waves) > 1 and len(regions) % 2:
                waves[-1].append("*")
            else:
                waves.append(["*"])
    if draw(st.sampled_from([True, False])):
        place = draw(st.sampled_from(range(len(spelt) + 1)))
        for waves in (spelt, meant):
            waves.insert(place, [UNRELATED_REGION])
    has_others = any("*" in wave for wave in meant)
    keys = {"waves": json.dumps(spelt)}
    if has_others and draw(st.booleans()) and [UNRELATED_REGION] not in meant:
        keys["regions"] = '["*"]'
    scope = None if has_others else tuple(region for wave in meant for region in wave)
    return keys, tuple(map(tuple, meant)), scope


@st.composite
def _wheres(draw: st.DrawFn, vms: Sequence[Vm]) -> tuple[str, dict[str, tuple[object, ...]]]:
    """A selection as the user writes it, and as the oracle wants it: one or two columns, values there or not."""
    known = {name: [value for value in values if value is not None] for name, values in VALUES.items()}
    known["tier"].append("nobody's")
    known["vm"] = [vm.vm for vm in vms][:8]
    known["region"] = sorted({vm.region for vm in vms})
    names = draw(st.lists(st.sampled_from([*VALUES, *VALUES, "vm", "region"]), min_size=1, max_size=2, unique=True))
    where = {}
    for name in names:
        values = draw(st.lists(st.sampled_from(known[name]), min_size=1, max_size=6, unique=True))
        where[name] = tuple(values)
    spelt = [
        f"{name} = {_toml(values[0] if len(values) == 1 and draw(st.booleans()) else list(values))}"
        for name, values in where.items()
    ]
    return f"{{ {', '.join(spelt)} }}", where


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


@st.composite
def scenes(
    draw: st.DrawFn,
    regions: tuple[str, ...] | None = None,
    campaign_count_max: int = 3,
    features: Sequence[str] | None = None,
    without: Sequence[str] = (),
) -> Scene:
    """A fleet and one to three campaigns over it, under the shipped relation of pairs or one of our own.

    *features* are those of FEATURES it has; None: drawn, and often none at all. *without*: never those.
    """
    if features is None:
        features = draw(st.sampled_from([(), (), ("lifetimes",), FEATURES, FEATURES]))
        features = [feature for feature in features if draw(st.sampled_from([True, False, False]))]
    features = [feature for feature in features if feature not in without]
    has_own_pairs = regions is None and draw(st.sampled_from([False, False, True]))
    neighbourhoods = [
        ("eastus", "westus", "westus3"),
        ("southcentralus", "northcentralus", "brazilsouth"),
        ("northeurope", "westeurope", "italynorth"),
        SHIPPED_REGIONS,
    ]
    vms = draw(fleets(regions or (OWN_REGIONS if has_own_pairs else draw(st.sampled_from(neighbourhoods)))))
    if "scale_set" in features:
        vms = [*[vm for vm in vms if isinstance(vm.vm, str) and not isinstance(vm.set, int)][:20]]
        region = vms[0].region if vms else (regions or SHIPPED_REGIONS)[0]
        vms += draw(_scale_sets(OWN_REGIONS[0] if has_own_pairs and not vms else region))
    vms = draw(_with_columns(vms, features))
    populated = sorted({vm.region for vm in vms})
    preset = draw(st.sampled_from([None, "azure-2017"]))
    if "azure_2024" in features:
        preset = "azure-2024"
    hosts = draw(_inventories(vms)) if "room" in features else ()
    stands = {host.host: host.cluster for host in hosts}  # and so do its VMs, whether the fleet says so or not
    vms = [vm if vm.host is None else replace(vm, cluster=stands.get(vm.host, vm.cluster)) for vm in vms]
    if hosts:
        campaign_count_max = 1
    elif "room" in features:  # nobody is on a host
        features = [feature for feature in features if feature != "room"]
        vms = [replace(vm, vcpus=None, memory_gib=None) for vm in vms]
    is_beside = "beside" in features and campaign_count_max > 1
    counts = range(2 if is_beside else 1, campaign_count_max + 1)
    names = draw(st.permutations(CAMPAIGN_NAMES))[: draw(st.sampled_from(counts))]
    asked = {"features": features, "preset": preset, "vms": vms}
    if is_beside:
        asked["scopes"] = ("unsaid", "all")
    sure = [("windows", "customers") if (is_beside or hosts) and place == 0 else () for place in range(len(names))]
    scene = Scene(
        vms=tuple(vms),
        requests=tuple(
            draw(requests(name, populated, **asked, sure=own)) for name, own in zip(names, sure, strict=True)
        ),
        seed=draw(st.sampled_from(SEEDS)),
        start=draw(st.sampled_from(STARTS)),
        has_own_pairs=has_own_pairs,
        preset=preset,
        has_set_column=any(vm.set is not None for vm in vms) or draw(st.booleans()),
        has_update_domain_column=any(vm.update_domain is not None for vm in vms) or draw(st.booleans()),
        columns=_columns_of(features),
        hosts=hosts,
        says_clusters=any(vm.cluster is None for vm in vms) or draw(st.booleans()),
    )
    if "quorum" in features:
        min_up = json.loads(draw(st.sampled_from(QUORUMS)))
        scene = replace(scene, quorum=Quorum(draw(st.sampled_from(["set", "set", "application"])), min_up))
    if "customers" in features and len(names) > 1:
        scene = draw(_with_meetings(scene))
    if "lifetimes" in features:
        scene = draw(_with_lifetimes(scene))
    if "horizon" in features:
        scene = draw(_with_horizon(scene))
    return scene


@st.composite
def _with_meetings(draw: st.DrawFn, scene: Scene) -> Scene:
    """*scene* in which a campaign is at work, or its customers ask, just as those of another do."""
    for place in draw(st.permutations(range(len(scene.requests))))[: draw(st.sampled_from([0, 1, 2, 3]))]:
        request = scene.requests[place]
        asked = [
            event
            for event in scene.log().events
            if event.phase == "self_service" and event.campaign != request.meant.name
        ]
        if not asked:
            continue
        met, windows = draw(st.sampled_from(asked)), request.meant.windows
        half_ms = met.start_ms + met.duration_ms // 2
        at_ms = draw(st.sampled_from([met.start_ms, half_ms, half_ms, half_ms, met.end_ms]))
        leads_ms = [0] if windows is None else [0, windows.lead_ms, windows.lead_ms - windows.gap_ms]
        start_ms = at_ms + draw(st.sampled_from([0, 0, 1, -1])) - draw(st.sampled_from(leads_ms))
        if 0 <= start_ms <= 3650 * DAYS_MS:
            meant = replace(request.meant, start_ms=start_ms)
            moved = Request(request.keys | {"start": f'"{start_ms}ms"'}, meant)
            scene = replace(scene, requests=(*scene.requests[:place], moved, *scene.requests[place + 1 :]))
    return scene


@st.composite
def _with_lifetimes(draw: st.DrawFn, scene: Scene) -> Scene:
    """*scene* in which some VMs come and go, alone or a domain, a set or a region at once, at instants that matter."""
    log, vms = scene.log(), list(scene.vms)
    gaps_ms = {request.meant.name: request.meant.update_domain_gap_ms for request in scene.requests}
    works_ms = {request.meant.name: request.meant.work_ms for request in scene.requests}
    starts = {request.meant.start_ms for request in scene.requests}
    for stage in log.stages:
        starts |= {stage.asked_ms, stage.start_ms, *(stage.windows or ())} - {None}
    instants = set()
    for event in log.events:
        held_ms = max(event.duration_ms, works_ms[event.campaign])
        turn_ms = event.start_ms + held_ms + gaps_ms[event.campaign]
        instants |= {event.start_ms, event.end_ms, event.start_ms + held_ms, turn_ms}
        instants.add(turn_ms - gaps_ms[event.campaign] // 2)
    known = [sorted(starts), sorted(instants or starts)]
    groups = {
        "vm": lambda vm: vm.vm,
        "domain": lambda vm: (vm.set, vm.update_domain, vm.vm if vm.set is None else None),
        "set": lambda vm: (vm.region, vm.set),
        "region": lambda vm: vm.region,
    }
    for _ in range(draw(st.sampled_from([1, 2, 4, 8]))):
        group = groups[draw(st.sampled_from(["vm", "vm", "domain", "domain", "set", "region"]))]
        fate = draw(st.sampled_from(["created_ms", "deleted_ms", "deleted_ms"]))
        of, instant_ms = draw(st.sampled_from(vms)), draw(st.sampled_from(draw(st.sampled_from(known))))
        instant_ms += draw(st.sampled_from([0, 0, -1, 1]))
        for place, vm in enumerate(vms):
            if group(vm) == group(of):
                fated = replace(vm, **{fate: instant_ms})
                is_sound = None in (fated.created_ms, fated.deleted_ms) or fated.created_ms < fated.deleted_ms
                vms[place] = fated if is_sound else vm
    # A column of nulls may be there or not.
    empty = {fate for fate in ("created", "deleted") if all(getattr(vm, f"{fate}_ms") is None for vm in vms)}
    left_out = empty if draw(st.booleans()) else ()
    return replace(scene, vms=tuple(vms), columns=tuple(name for name in scene.columns if name not in left_out))


@st.composite
def _with_horizon(draw: st.DrawFn, scene: Scene) -> Scene:
    """*scene* with a horizon that some stage just fits, or just does not."""
    ends_ms = sorted({stage.free_ms for stage in scene.log().stages if stage.free_ms is not None})
    earliest_ms = max(1, *(_over_ms(request.meant) for request in scene.requests))
    horizon_ms = draw(st.sampled_from(ends_ms or [1])) - draw(st.sampled_from([0, 0, 1]))
    # The longest span there is is 3,650 days.
    longest_ms = 3650 * 86_400_000
    return (
        scene if earliest_ms > longest_ms else replace(scene, horizon_ms=min(max(earliest_ms, horizon_ms), longest_ms))
    )


def _over_ms(meant: Campaign) -> int:
    """Before which no horizon may be: the start of a campaign or, at the earliest, the end of its windows."""
    return meant.start_ms + (meant.windows.lead_ms + meant.windows.scheduled_ms if meant.windows else 0)
