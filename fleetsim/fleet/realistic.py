"""Realistic fleets: sizes, deployments and lifetimes as measured in the Azure 2017 public trace, the rest made up.

A region holds subscriptions 0, 1, 2 ... until it has its share of the VMs; a subscription holds applications, an
application deployments, a deployment VMs. Each is numbered within the one above, and what it is like is drawn by that
number under a key of its region: it depends on no neighbour, so parts can be cut anywhere. A deployment is what one
subscription created at once: one VM is a single, more are a set. What is measured is counted from the data sets that
ship, or cited here; every other number stands under "invented" and is told in the file (`Realistic.invented`).
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim.fleet.azure_trace import TRACE
from fleetsim.fleet.draws import Draws, below, draws_of, fleet_key, picked, thresholds
from fleetsim.regions import load_relation, zoned_regions
from fleetsim.schema import FLEET, UPDATE_DOMAIN_COUNT_DEFAULT, Stream
from fleetsim.shipped import dataset_path
from fleetsim.tables import arrow_field, constant_text

Ints = npt.NDArray[np.int64]

SIZE_NAMES = {
    **{(1, 0.75): "Standard_A0", (1, 1.75): "Standard_A1", (2, 3.5): "Standard_A2", (4, 7.0): "Standard_A3"},
    **{(8, 14.0): "Standard_A4", (2, 14.0): "Standard_A5", (4, 28.0): "Standard_A6", (8, 56.0): "Standard_A7"},
    **{(1, 2.0): "Standard_A1_v2", (2, 4.0): "Standard_A2_v2", (4, 8.0): "Standard_A4_v2", (8, 16.0): "Standard_A8_v2"},
    **{(2, 16.0): "Standard_A2m_v2", (4, 32.0): "Standard_A4m_v2", (8, 64.0): "Standard_A8m_v2"},
    (16, 112.0): "Standard_D14",
}
"""Sizes on sale in 2017 by (vCPUs, GiB) of the trace (Azure: "Previous generations of VM sizes", "Av2-series")."""

SCALE_SET_VMS_MAX = 1000
"""VMs of a scale set, at most (Azure: "Virtual Machine Scale Sets and placement groups")."""
ONE_SIZE_RATIO = Fraction(82, 100)
"""Of deployments of two VMs and more in the trace, those whose VMs all have one size (counted: 0.822)."""
APPLICATION_COUNT_MEAN = Fraction(35_941, 5_958)
"""Deployment ids by subscription ids, whole trace (AzurePublicDataset V1 notebook); one id is an application here."""
APPLICATION_VMS_MEAN = Fraction(2_013_767, 35_941)
"""VMs by deployment ids, whole trace (the same notebook)."""
LIFETIME_MEAN_MS = 104_400_000 * 3_600_000 // 2_013_767
"""VM-hours by VMs within 30 days, whole trace (the same notebook): 51.8 h."""

# --- invented, each told by `invented` ----------------------------------------------------------------------
APPLICATION_COUNT_MAX = 61  # with weights k^-1.5 the mean is APPLICATION_COUNT_MEAN
DEPLOYMENT_COUNT_MAX = 313  # and so are VMs of an application APPLICATION_VMS_MEAN
SCALE_SET_VMS_MIN = 20
PAIRED_SUBSCRIPTION_RATIO = Fraction(1, 10)
UPDATE_DOMAIN_RATIOS = {UPDATE_DOMAIN_COUNT_DEFAULT: Fraction(85, 100), 20: Fraction(10, 100), 2: Fraction(5, 100)}
FAULT_DOMAIN_COUNT, SCALE_SET_DOMAIN_COUNT = 3, 5
HOST_VMS_MIN, HOST_VMS_MAX = 15, 35  # derived: hosts of 48 to 96 cores, 85-90 % used, 2.3-2.9 cores a VM
ZONE_COUNT = 3
APPLICATION_KINDS = {
    ("web", "api", "database"): Fraction(45, 100),
    ("batch",): Fraction(20, 100),
    ("test",): Fraction(11, 100),
    ("database",): Fraction(9, 100),
    ("streaming", "web"): Fraction(6, 100),
    ("realtime",): Fraction(5, 100),
    ("gaming", "database"): Fraction(4, 100),
}
"""Tiers, which are the workloads of an application's deployments in turn, and the share of such applications."""

_PART_SUBSCRIPTIONS = 2048  # about 700,000 VMs
_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
# A number within the one above takes as many bits; 2^33 subscriptions of a region are left.
_APPLICATION_BITS, _DEPLOYMENT_BITS, _VM_BITS = 6, 10, 10
_COLUMNS = (
    *("vm", "region", "set", "set_kind", "update_domain", "fault_domain", "zone", "cluster", "size", "vcpus"),
    *("memory_gib", "workload", "application", "subscription"),
)
_NULLABLE = ("set", "set_kind", "update_domain", "fault_domain", "zone", "created", "deleted")


class Quantiles:
    """A distribution of whole numbers as straight pieces: *weights* of the spans between *values*."""

    def __init__(self, values: Sequence[int], weights: Sequence[int]) -> None:
        self._first = np.concatenate([np.zeros(1, np.uint64), thresholds(weights)])
        # Draws within a piece are told apart by 24 bits, so that products stay below 2^63.
        last = np.array([(1 << 64) - 1], np.uint64)
        self._step = np.maximum(np.diff(np.concatenate([self._first, last])) >> np.uint64(24), np.uint64(1))
        self._value = np.array(values, np.int64)

    def at(self, draws: Draws) -> Ints:
        """The number that belongs to each draw."""
        piece = np.searchsorted(self._first, draws, side="right") - 1
        ratio = np.minimum((draws - self._first[piece]) // self._step[piece], np.uint64((1 << 24) - 1)).astype(np.int64)
        low = self._value[piece]
        number: Ints = low + (ratio * (self._value[piece + 1] - low) >> 24)
        return number


@dataclass(frozen=True)
class Measured:
    """What the data sets that ship say."""

    deployment_counts: Mapping[int, int]
    """Deployments of the trace by VMs: those created by one subscription within five minutes."""
    size_counts: Mapping[tuple[int, float], int]
    """VMs of the trace by (vCPUs, GiB), most first."""
    hour_counts: tuple[int, ...]
    """VMs of the trace by the hour of the trace's day in which they were created."""
    cluster_hosts: tuple[int, ...]
    """Servers of 36 clusters."""
    lifetime_edges_ms: tuple[int, ...]
    survivals: tuple[int, ...]
    """Of 2^60 VMs, those that live at least as long as each edge: Kaplan-Meier over the last 5.7 days."""


@cache
def measured() -> Measured:
    """Counts of the trace as shipped, and of the clusters of Azure's GreenSKU data."""
    trace = pq.read_table(dataset_path(TRACE), columns=["batch_id", "vcpus", "memory_gib", "created_s"])
    deployment_vms = np.bincount(np.bincount(trace["batch_id"].to_numpy()))
    deployment_vms[0] = 0  # numbers that no batch has
    quarters_max = 1 << 16  # of GiB: what the trace's memories are multiples of
    shape_codes = trace["vcpus"].to_numpy() * np.int64(quarters_max) + (trace["memory_gib"].to_numpy() * 4).astype(int)
    shape_counts = np.bincount(shape_codes)
    shapes = np.flatnonzero(shape_counts)
    shapes = shapes[np.argsort(-shape_counts[shapes], kind="stable")].tolist()
    hour_counts = np.bincount(trace["created_s"].to_numpy() // 3600 % 24, minlength=24)
    # The last days of the trace: of the others' lifetimes not all, or none, are in the file.
    columns = ["lifetime_hi_s", "censored"]
    last_days = pq.read_table(dataset_path(TRACE), columns=columns, filters=[("split", "=", "test")])
    edges_ms, survivals = _survival(last_days["lifetime_hi_s"].to_numpy(), last_days["censored"].to_numpy())
    with dataset_path("azure_greensku_cluster_sizes.csv").open(encoding="utf-8", newline="") as file:
        cluster_hosts = tuple(int(row["OriginalClusterSize"]) for row in csv.DictReader(file))
    return Measured(
        deployment_counts={size: int(deployment_vms[size]) for size in np.flatnonzero(deployment_vms).tolist()},
        size_counts={(code // quarters_max, code % quarters_max / 4): int(shape_counts[code]) for code in shapes},
        hour_counts=tuple(hour_counts.tolist()),
        cluster_hosts=cluster_hosts,
        lifetime_edges_ms=edges_ms,
        survivals=survivals,
    )


def _survival(high_s: Ints, is_censored: npt.NDArray[np.bool_]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Edges of the bins of lifetimes, ms, and who of 2^60 outlives each; not of the last bin, which the trace cuts."""
    edges_ms, survivals = [0], [1 << 60]
    for high in np.unique(high_s)[:-1].tolist():
        at_risk = int((high_s >= high).sum())
        ended = int(((high_s == high) & ~is_censored).sum())
        edges_ms.append(high * 1000)
        survivals.append(survivals[-1] * (at_risk - ended) // at_risk)
    return tuple(edges_ms), tuple(survivals)


def _heavy(largest: int) -> list[int]:
    """Weights of 1 .. *largest*, by the power -1.5."""
    return [(1 << 60) // (count * isqrt(count << 40)) for count in range(1, largest + 1)]


@dataclass(frozen=True)
class Churn:
    """VMs come and go for *days* from *start_ms* on, ms since 1970."""

    start_ms: int
    days: int

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.days * _DAY_MS


class _Mix:
    """The distributions of a mix, ready to be drawn from."""

    def __init__(self) -> None:
        facts = measured()
        self.deployment_counts: dict[int, int] = {}
        for size, count in facts.deployment_counts.items():
            cut = min(size, SCALE_SET_VMS_MAX)
            self.deployment_counts[cut] = self.deployment_counts.get(cut, 0) + count
        self.deployment_sizes = np.array(list(self.deployment_counts))
        self.deployment_first = thresholds(list(self.deployment_counts.values()))
        self.size_words = [SIZE_NAMES.get(shape, f"{shape[0]}x{shape[1]:g}") for shape in facts.size_counts]
        self.size_first = thresholds(list(facts.size_counts.values()))
        self.vcpus, self.memory_gib = (np.array(column, np.float64) for column in zip(*facts.size_counts, strict=True))
        self.application_first = thresholds(_heavy(APPLICATION_COUNT_MAX))
        self.per_application_first = thresholds(_heavy(DEPLOYMENT_COUNT_MAX))
        self.paired_first = thresholds([PAIRED_SUBSCRIPTION_RATIO, 1 - PAIRED_SUBSCRIPTION_RATIO])
        self.mixed_first = thresholds([self.mixed_ratio(), 1 - self.mixed_ratio()])
        self.domain_counts = np.array(list(UPDATE_DOMAIN_RATIOS))
        self.domain_first = thresholds(list(UPDATE_DOMAIN_RATIOS.values()))
        self.kind_first = thresholds(list(APPLICATION_KINDS.values()))
        self.workload_words = list(dict.fromkeys(word for tiers in APPLICATION_KINDS for word in tiers))
        self.tier_counts = np.array([len(tiers) for tiers in APPLICATION_KINDS])
        self.tier_starts = np.cumsum(self.tier_counts) - self.tier_counts
        self.tier_workloads = np.array(
            [self.workload_words.index(word) for tiers in APPLICATION_KINDS for word in tiers], np.int32
        )

    def mixed_ratio(self) -> Fraction:
        """Of sets, those whose VMs draw a size each, so that ONE_SIZE_RATIO of all come out with one size."""
        counts = measured().size_counts
        total = sum(counts.values())
        in_sets = {size: count for size, count in self.deployment_counts.items() if size > 1}
        alike = sum(count * sum((each / total) ** size for each in counts.values()) for size, count in in_sets.items())
        # Rounded: powers may differ in their last bit from one machine to another.
        return (1 - ONE_SIZE_RATIO) / (1 - Fraction(round(1e6 * alike / sum(in_sets.values())), 10**6))


class _Lifetimes:
    """Who is there at the start, and how long VMs live: as measured up to five days.

    Of longer lives their share and the mean of all are known: they end evenly over as many days as the mean asks for.
    """

    def __init__(self, churn: Churn) -> None:
        facts = measured()
        edges, survivals = list(facts.lifetime_edges_ms), list(facts.survivals)
        lived = _areas(edges, survivals)  # twice what 2^60 VMs live between the edges
        longest = edges[-1] + (2 * (LIFETIME_MEAN_MS << 60) - sum(lived)) // survivals[-1]
        pieces = 64  # of the tail, so that what is left of a life is nearly straight in each
        tail = [edges[-1] + (longest - edges[-1]) * piece // pieces for piece in range(1, pieces + 1)]
        survivals += [survivals[-1] * (pieces - piece) // pieces for piece in range(1, pieces + 1)]
        edges += tail
        self.longest_ms = longest
        self.lifetimes = Quantiles(edges, [high - low for high, low in pairwise(survivals)])
        self.residuals = Quantiles(edges, _areas(edges, survivals))
        horizon_ms = churn.days * _DAY_MS
        self.present_ratio = Fraction(LIFETIME_MEAN_MS, LIFETIME_MEAN_MS + horizon_ms)
        self.present_first = thresholds([self.present_ratio, 1 - self.present_ratio])
        self.times = Quantiles(range(0, _DAY_MS + 1, _HOUR_MS), facts.hour_counts)


def _areas(edges: Sequence[int], survivals: Sequence[int]) -> list[int]:
    return [
        (survivals[piece] + survivals[piece + 1]) * (edges[piece + 1] - edges[piece]) for piece in range(len(edges) - 1)
    ]


class Realistic:
    """A fleet of *vm_count* VMs over *regions*, by Zipf(1) in their order, to be made part by part.

    `vm` is counted on from region to region; a set is called as its first VM. With *churn* VMs are created and
    deleted, else all are there throughout. `set_count` grows as parts are made.
    """

    def __init__(self, vm_count: int, regions: Sequence[str], seed: int, churn: Churn | None = None) -> None:
        self.vm_count_by_region = dict(zip(regions, _zipf_shares(vm_count, len(regions)), strict=True))
        self.churn = churn
        self.set_count = 0
        self._seed = seed
        self._mix = _Mix()
        self._lifetimes = _Lifetimes(churn) if churn is not None else None
        self._zoned = zoned_regions()
        paired = load_relation().paired
        # A pair that only one side lists is none to be deployed to.
        self._pair_of = {
            region: other
            for region in regions
            if (other := paired.get(region)) in self.vm_count_by_region and paired[other] == region
        }
        names = (*_COLUMNS, *(("created", "deleted") if churn is not None else ()))
        self.fields = [arrow_field(FLEET[name], pa.int64()).with_nullable(name in _NULLABLE) for name in names]

    def parts(self, schema: pa.Schema) -> Iterator[tuple[str, pa.Table]]:
        """(region, rows) in order of `vm`; *schema*: of `fields`, with the file's metadata."""
        vm_start = 0
        for region, vm_count in self.vm_count_by_region.items():
            maker = _Region(self, region, vm_count)
            subscription, made_count = 0, 0
            while made_count < vm_count:
                left_count = vm_count - made_count
                # What a few VMs need, where few are left: all in all a subscription has 338.
                count = min(_PART_SUBSCRIPTIONS, max(16, left_count // 256))
                rows = maker.rows(subscription, count, vm_start + made_count, left_count)
                table = pa.Table.from_arrays([rows[field.name] for field in schema], schema=schema)
                subscription, made_count = subscription + count, made_count + table.num_rows
                yield region, table
            vm_start += vm_count

    def asked(self) -> dict[str, Any]:
        """Expected shares and means, as `fleetsim fleet describe` counts them: over VMs, unless it says otherwise."""
        counts = self._mix.deployment_counts
        vm_total = sum(size * count for size, count in counts.items())
        facts = measured()
        size_total = sum(facts.size_counts.values())
        total = sum(self.vm_count_by_region.values())
        shares = {
            "regions": {region: count / total for region, count in self.vm_count_by_region.items()},
            "sizes": {
                word: count / size_total
                for word, count in zip(self._mix.size_words, facts.size_counts.values(), strict=True)
            },
            "workloads": self._workload_shares(),
            "kinds": {
                "none": counts[1] / vm_total,
                "availability_set": sum(s * n for s, n in counts.items() if 1 < s < SCALE_SET_VMS_MIN) / vm_total,
                "scale_set": sum(s * n for s, n in counts.items() if s >= SCALE_SET_VMS_MIN) / vm_total,
            },
            "deployments_by_vms": {str(size): count / sum(counts.values()) for size, count in counts.items()},
        }
        # A subscription is in both regions of a pair where both have as many; it is one, and so are its applications.
        spanning = PAIRED_SUBSCRIPTION_RATIO * sum(
            min(self.vm_count_by_region[region], self.vm_count_by_region[other])
            for region, other in self._pair_of.items()
            if region < other
        )
        per_application = _mean(_heavy(DEPLOYMENT_COUNT_MAX)) * Fraction(vm_total, sum(counts.values()))
        per_application *= Fraction(total) / (total - spanning)
        means = {
            "application_vms_mean": float(per_application),
            "subscription_vms_mean": float(per_application * _mean(_heavy(APPLICATION_COUNT_MAX))),
            "spanning_application_ratio": float(spanning / (total - spanning)),
        }
        present = {} if self._lifetimes is None else {"present_ratio": float(self._lifetimes.present_ratio)}
        return shares | means | present

    def _workload_shares(self) -> dict[str, float]:
        """Tiers take turns over an application's deployments, so earlier ones have a little more."""
        weights = _heavy(DEPLOYMENT_COUNT_MAX)
        shares = dict.fromkeys(self._mix.workload_words, Fraction(0))
        for tiers, ratio in APPLICATION_KINDS.items():
            for place, word in enumerate(tiers):
                held = sum(
                    weight * max(0, (count - place + len(tiers) - 1) // len(tiers))
                    for count, weight in enumerate(weights, 1)
                )
                shares[word] += ratio * Fraction(held, sum(weights)) / _mean(weights)
        return {word: float(share) for word, share in shares.items()}

    def invented(self) -> tuple[str, ...]:
        """What no source says, a sentence each."""
        domains = ", ".join(f"{count} in {float(100 * ratio):g} %" for count, ratio in UPDATE_DOMAIN_RATIOS.items())
        kinds = ", ".join(f"{'/'.join(tiers)} {float(100 * ratio):g} %" for tiers, ratio in APPLICATION_KINDS.items())
        sentences = [
            "deployments: sizes are those of the trace's batches, which it does not call sets: one VM is a single,"
            f" {SCALE_SET_VMS_MIN} and more a scale set (cut to {SCALE_SET_VMS_MAX:,}), the others availability sets",
            "regions: the trace has one; shares are Zipf(1) by place in the list of regions",
            f"update domains: {domains} of availability sets, {SCALE_SET_DOMAIN_COUNT} in scale sets; fault domains:"
            f" {FAULT_DOMAIN_COUNT}, and {SCALE_SET_DOMAIN_COUNT} in scale sets; both round robin",
            "sizes: shares of vCPUs and GiB are the trace's, names those of 2017 with as many; independent of the"
            " deployment's size; none that cannot be frozen, as the trace shows none",
            f"applications: mean VMs ({float(APPLICATION_VMS_MEAN):.0f}, of the trace's deployment ids) and"
            f" applications a subscription ({float(APPLICATION_COUNT_MEAN):.1f}) are measured; that counts of"
            " deployments and applications fall by the power 1.5 is not",
            f"two regions: {float(100 * PAIRED_SUBSCRIPTION_RATIO):g} % of subscriptions have all their applications"
            " in both regions of a pair, as far as both have that many",
            f"workloads: {kinds} of applications; tiers take turns over the deployments of one",
            f"clusters: hosts drawn from 36 measured clusters, {HOST_VMS_MIN} to {HOST_VMS_MAX} VMs a host evenly; a"
            " deployment is in one cluster, drawn by room",
            f"zones: {ZONE_COUNT} in regions that have them; clusters, at least as many, take turns over them",
        ]
        if self._lifetimes is not None and self.churn is not None:
            longest_days = self._lifetimes.longest_ms / _DAY_MS
            present = float(100 * self._lifetimes.present_ratio)
            sentences.append(
                f"lifetimes: as measured up to 5 days; who lives longer ends evenly within {longest_days:.0f} days, so"
                f" that the mean is the trace's {LIFETIME_MEAN_MS / _HOUR_MS:.0f} h; {present:.1f} %"
                f" are there at the start, the others are created within {self.churn.days} days, by the trace's hours"
                " of the day taken for UTC; a deployment comes at once, its VMs go one by one"
            )
        return tuple(sentences)


class _Region:
    """One region of a `Realistic` fleet."""

    def __init__(self, fleet: Realistic, region: str, vm_count: int) -> None:
        self._fleet = fleet
        self._mix = fleet._mix
        self._region = region
        self._key = fleet_key(fleet._seed, region)
        pair = sorted((region, fleet._pair_of[region])) if region in fleet._pair_of else None
        self._pair_key = fleet_key(fleet._seed, "/".join(pair)) if pair else None
        self._home = pair[0] if pair else region
        self._cluster_ends = self._clusters(vm_count)

    def _clusters(self, vm_count: int) -> Ints:
        """VMs that clusters 0 .. i have room for: as many clusters as the region needs."""
        hosts = np.array(measured().cluster_hosts)
        number = np.arange(ZONE_COUNT + vm_count // (int(hosts.min()) * HOST_VMS_MIN))
        drawn_hosts = hosts[picked(draws_of(self._key, Stream.CLUSTER_HOSTS, number), thresholds([1] * len(hosts)))]
        density_count = HOST_VMS_MAX - HOST_VMS_MIN + 1
        density = picked(draws_of(self._key, Stream.CLUSTER_DENSITY, number), thresholds([1] * density_count))
        ends = np.cumsum(drawn_hosts * (HOST_VMS_MIN + density))
        least = ZONE_COUNT if self._region in self._fleet._zoned else 1
        return ends[: max(least, 1 + int(np.searchsorted(ends, vm_count)))]

    def rows(self, first: int, count: int, vm_start: int, vm_count_max: int) -> dict[str, pa.Array]:
        """Columns of the VMs of *count* subscriptions from number *first* on, cut to *vm_count_max*."""
        mix = self._mix
        key = self._key

        subscription = np.arange(first, first + count)
        is_paired = np.zeros(count, np.bool_)
        if self._pair_key is not None:
            is_paired = draws_of(self._pair_key, Stream.PAIRED_SUBSCRIPTION, subscription) < mix.paired_first[0]

        def shared(stream: Stream, number: Ints, of_subscription: Ints) -> Draws:
            """Draws that both regions of a paired subscription make alike."""
            draws = draws_of(key, stream, number)
            if self._pair_key is not None:
                both = is_paired[of_subscription]
                draws[both] = draws_of(self._pair_key, stream, number[both])
            return draws

        drawn = shared(Stream.APPLICATION_COUNT, subscription, np.arange(count))
        of_subscription, place = _counted(1 + picked(drawn, mix.application_first))
        application = subscription[of_subscription] << _APPLICATION_BITS | place
        kind = picked(shared(Stream.APPLICATION_KIND, application, of_subscription), mix.kind_first)
        drawn = shared(Stream.DEPLOYMENT_COUNT, application, of_subscription)
        of_application, place = _counted(1 + picked(drawn, mix.per_application_first))
        deployment = application[of_application] << _DEPLOYMENT_BITS | place
        sizes = mix.deployment_sizes[picked(draws_of(key, Stream.DEPLOYMENT_SIZE, deployment), mix.deployment_first)]

        ends = np.cumsum(sizes)
        if ends[-1] > vm_count_max:
            kept = int(np.searchsorted(ends, vm_count_max)) + 1
            of_application, place, deployment, sizes = (
                each[:kept] for each in (of_application, place, deployment, sizes)
            )
            sizes[-1] -= ends[kept - 1] - vm_count_max
        of_deployment, vm_place = _counted(sizes)
        vm_number = deployment[of_deployment] << _VM_BITS | vm_place
        vm = np.arange(vm_start, vm_start + len(vm_place))

        is_single = sizes == 1
        is_scale_set = sizes >= SCALE_SET_VMS_MIN
        self._fleet.set_count += int((~is_single).sum())
        drawn_domains = picked(draws_of(key, Stream.UPDATE_DOMAIN_COUNT, deployment), mix.domain_first)
        domain_count = np.where(is_scale_set, SCALE_SET_DOMAIN_COUNT, mix.domain_counts[drawn_domains])
        fault_domain_count = np.where(is_scale_set, SCALE_SET_DOMAIN_COUNT, FAULT_DOMAIN_COUNT)
        cluster = self._cluster_of(deployment)
        tier = mix.tier_starts[kind[of_application]] + place % mix.tier_counts[kind[of_application]]
        size = self._sizes(deployment, is_single, of_deployment, vm_number)
        homes = np.where(is_paired, self._home, self._region).tolist()

        def each(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.repeat(values, sizes)

        def text(codes: Ints, words: Sequence[str], mask: npt.NDArray[np.bool_] | None = None) -> pa.DictionaryArray:
            return pa.DictionaryArray.from_arrays(pa.array(each(codes.astype(np.int32)), mask=mask), pa.array(words))

        no_set = each(is_single)
        used_applications = int(of_application[-1]) + 1
        used_subscriptions = int(of_subscription[used_applications - 1]) + 1
        subscriptions = [f"{home}-{first + row}" for row, home in enumerate(homes[:used_subscriptions])]
        application_words = [
            f"{subscriptions[row]}-{number}"
            for row, number in zip(
                of_subscription[:used_applications].tolist(),
                (application[:used_applications] & ((1 << _APPLICATION_BITS) - 1)).tolist(),
                strict=True,
            )
        ]
        return {
            "vm": pa.array(vm),
            "region": constant_text(self._region, np.zeros(len(vm), np.int32)),
            "set": pa.array(vm - vm_place, mask=no_set),
            "set_kind": text(is_scale_set.astype(np.int64), ["availability_set", "scale_set"], no_set),
            "update_domain": pa.array((vm_place % each(domain_count)).astype(np.uint8), mask=no_set),
            "fault_domain": pa.array((vm_place % each(fault_domain_count)).astype(np.uint8), mask=no_set),
            "zone": text(cluster % ZONE_COUNT, [str(zone + 1) for zone in range(ZONE_COUNT)])
            if self._region in self._fleet._zoned
            else pa.nulls(len(vm), pa.dictionary(pa.int32(), pa.string())),
            "cluster": text(*self._cluster_words(cluster)),
            "size": pa.DictionaryArray.from_arrays(pa.array(size.astype(np.int32)), pa.array(mix.size_words)),
            "vcpus": pa.array(mix.vcpus[size]),
            "memory_gib": pa.array(mix.memory_gib[size]),
            "workload": text(mix.tier_workloads[tier], mix.workload_words),
            "application": text(of_application, application_words),
            "subscription": text(of_subscription[of_application], subscriptions),
            **self._dates(deployment, of_deployment, vm_number),
        }

    def _cluster_of(self, deployment: Ints) -> Ints:
        """A cluster each, by the room they have."""
        # 31 bits: the room of a region, at most 2^32 and a cluster, times them is below 2^64.
        drawn = draws_of(self._key, Stream.CLUSTER, deployment) >> np.uint64(33)
        position = drawn * np.uint64(self._cluster_ends[-1]) >> np.uint64(31)
        return np.searchsorted(self._cluster_ends, position.astype(np.int64), side="right")

    def _cluster_words(self, cluster: Ints) -> tuple[Ints, list[str]]:
        """Codes and names of the clusters that occur: a region may have tens of thousands."""
        is_used = np.bincount(cluster) > 0
        return (np.cumsum(is_used) - 1)[cluster], [f"{self._region}-c{number}" for number in np.flatnonzero(is_used)]

    def _sizes(self, deployment: Ints, is_single: npt.NDArray[np.bool_], of_deployment: Ints, vm_number: Ints) -> Ints:
        """Size codes of VMs: one for the deployment, or one each."""
        mix = self._mix
        sizes = picked(draws_of(self._key, Stream.SIZE, deployment), mix.size_first)[of_deployment]
        is_mixed = draws_of(self._key, Stream.MIXED_SIZES, deployment) < mix.mixed_first[0]
        own = np.flatnonzero((is_mixed & ~is_single)[of_deployment])
        sizes[own] = picked(draws_of(self._key, Stream.VM_SIZE, vm_number[own]), mix.size_first)
        return sizes

    def _dates(self, deployment: Ints, of_deployment: Ints, vm_number: Ints) -> dict[str, pa.Array]:
        churn, lifetimes = self._fleet.churn, self._fleet._lifetimes
        if churn is None or lifetimes is None:
            return {}
        is_present = draws_of(self._key, Stream.PRESENT, deployment) < lifetimes.present_first[0]
        day = below(draws_of(self._key, Stream.CREATED_DAY, deployment), np.array([churn.days]))
        time_ms = lifetimes.times.at(draws_of(self._key, Stream.CREATED_TIME, deployment))
        created_ms = churn.start_ms + day * _DAY_MS + time_ms
        was_there = is_present[of_deployment]
        born_ms = np.where(is_present, churn.start_ms, created_ms)[of_deployment]
        drawn = draws_of(self._key, Stream.LIFETIME, vm_number)
        deleted_ms = born_ms + 1 + np.where(was_there, lifetimes.residuals.at(drawn), lifetimes.lifetimes.at(drawn))
        instant = pa.timestamp("ms", tz="UTC")
        return {
            "created": pa.array(born_ms, mask=was_there).cast(instant),
            "deleted": pa.array(deleted_ms, mask=deleted_ms >= churn.end_ms).cast(instant),
        }


def _counted(counts: Ints) -> tuple[Ints, Ints]:
    """For *counts* of children: each child's parent, and its place among its siblings."""
    parent = np.repeat(np.arange(len(counts)), counts)
    return parent, np.arange(len(parent)) - (np.cumsum(counts) - counts)[parent]


def _mean(weights: Sequence[int]) -> Fraction:
    return Fraction(sum(count * weight for count, weight in enumerate(weights, 1)), sum(weights))


def _zipf_shares(total: int, count: int) -> list[int]:
    """*total* parted by 1, 1/2, 1/3 ...; what rounding leaves goes to the largest remainders."""
    whole = sum(Fraction(1, rank) for rank in range(1, count + 1))
    exact = [total / (rank * whole) for rank in range(1, count + 1)]
    shares = [int(share) for share in exact]
    remainders = sorted(range(count), key=lambda place: (shares[place] - exact[place], place))
    for place in remainders[: total - sum(shares)]:
        shares[place] += 1
    return shares
