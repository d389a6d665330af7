"""Fleets and scenarios that hunt edges: few values, so that ties, exact fits and shared keys are common.

A `Scene` is one drawn question in the three forms the tests need: a fleet table in the drawn row order, the
scenario as a user writes it, and the oracle's input. Length profiles are compiled here a second time, from
their definitions alone.
"""

import datetime as dt
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from statistics import NormalDist

import pyarrow as pa
from hypothesis import strategies as st

from tests import oracle
from tests.oracle import Campaign, Identity, Vm

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
    return [ms_min + max(math.ceil(Fraction(count * i, 65_536)) - 1, 0) for i in range(ENTRY_COUNT)]


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
    names_preset: bool = False
    has_set_column: bool = True
    has_update_domain_column: bool = True

    def _repr_pretty_(self, printer, cycle: bool) -> None:
        """A failing example as a reader wants it: the rows, then the scenario."""
        pairs = "own pairs" if self.has_own_pairs else "shipped pairs"
        printer.text("\n".join([f"{len(self.vms)} VMs, {pairs}", *map(str, self.vms), self.toml()]))

    def table(self) -> pa.Table:
        """The fleet as a user would hand it over."""
        columns = {
            "region": pa.array([vm.region for vm in self.vms], pa.string()),
            "vm": _identities([vm.vm for vm in self.vms]),
        }
        if self.has_set_column:
            columns["set"] = _identities([vm.set for vm in self.vms])
        if self.has_update_domain_column:
            columns["update_domain"] = pa.array([vm.update_domain for vm in self.vms], pa.int64())
        return pa.table(columns)

    def toml(self) -> str:
        """The scenario as a user would write it."""
        lines = ['name = "drawn"', f"start = {self.start.isoformat()}", f"seed = {self.seed}"]
        if self.names_preset:
            lines.append('preset = "azure-2017"')
        for request in self.requests:
            lines += ["", "[[campaign]]", *(f"{key} = {value}" for key, value in request.keys.items())]
        return "\n".join(lines) + "\n"

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
        return oracle.simulate(self.vms, [request.meant for request in self.requests], self.edges(), self.seed)


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
def requests(draw: st.DrawFn, name: str, regions: Sequence[str], scopes: Sequence[str] = SCOPES) -> Request:
    """One campaign over a fleet in *regions*; keys are left out at random, for the preset to fill in."""
    keys = {"name": json.dumps(name, ensure_ascii=False), "kind": '"freeze"'}
    meant = Campaign(name, LENGTHS[DEFAULT_LENGTH]())

    scope = draw(st.sampled_from(scopes))
    if scope == "all":
        keys["regions"] = '["*"]'
    elif scope == "names":
        named = draw(st.lists(st.sampled_from(regions), min_size=1, unique=True))
        keys["regions"], meant = json.dumps(named), replace(meant, regions=tuple(named))
    geographies = [word for word, members in GEOGRAPHIES.items() if set(members) & set(regions)]
    if scope == "geography" and geographies:
        geography = draw(st.sampled_from(geographies))
        keys["regions"], meant = json.dumps([geography]), replace(meant, regions=GEOGRAPHIES[geography])

    if length := draw(st.sampled_from([None, *LENGTHS])):
        keys["length"], meant = length, replace(meant, lengths=LENGTHS[length]())
    for key, spans in SPANS.items():
        if span := draw(st.sampled_from([None, *spans])):
            keys[key], meant = json.dumps(span), replace(meant, **{f"{key}_ms": spans[span]})
    if order := draw(st.sampled_from([None, "random", "sequential", "largest_first"])):
        keys["update_domain_order"], meant = json.dumps(order), replace(meant, update_domain_order=order)
    order = draw(st.sampled_from([None, "fewest_vms_first", "most_vms_first", "name", "list"]))
    if order == "list":
        listed = draw(st.lists(st.sampled_from(regions), min_size=1, unique=True))
        keys["pair_order"], meant = json.dumps(listed), replace(meant, pair_order=tuple(listed))
    elif order:
        keys["pair_order"], meant = json.dumps(order), replace(meant, pair_order=order)
    return Request(keys, meant)


@st.composite
def scenes(draw: st.DrawFn, regions: tuple[str, ...] | None = None, campaign_count_max: int = 3) -> Scene:
    """A fleet and one to three campaigns over it, under the shipped relation of pairs or one of our own."""
    has_own_pairs = regions is None and draw(st.sampled_from([False, False, True]))
    neighbourhoods = [
        ("eastus", "westus", "westus3"),
        ("southcentralus", "northcentralus", "brazilsouth"),
        ("northeurope", "westeurope", "italynorth"),
        SHIPPED_REGIONS,
    ]
    vms = draw(fleets(regions or (OWN_REGIONS if has_own_pairs else draw(st.sampled_from(neighbourhoods)))))
    populated = sorted({vm.region for vm in vms})
    names = draw(st.permutations(CAMPAIGN_NAMES))[: draw(st.sampled_from(range(1, campaign_count_max + 1)))]
    has_set_column = any(vm.set is not None for vm in vms) or draw(st.booleans())
    return Scene(
        vms=tuple(vms),
        requests=tuple(draw(requests(name, populated)) for name in names),
        seed=draw(st.sampled_from(SEEDS)),
        start=draw(st.sampled_from(STARTS)),
        has_own_pairs=has_own_pairs,
        names_preset=draw(st.booleans()),
        has_set_column=has_set_column,
        has_update_domain_column=any(vm.update_domain is not None for vm in vms) or draw(st.booleans()),
    )
