"""Inventories of hosts: read and judged for `place`, or made for a fleet that has none.

What a VM takes of a host is worked out here too, for both: room is counted in millionths of vCPUs and GiB, so that sums
are exact and 0.1 fits ten times into 1.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fleetsim.errors import InputError, nearest
from fleetsim.fleet.draws import draws_of, fleet_key, picked, thresholds
from fleetsim.fleet.facts import render_facts
from fleetsim.fleet.order import sorted_rows
from fleetsim.fleet.prepared import relation_over
from fleetsim.fleet.preparing import one_chunk
from fleetsim.fleet.read import INVENTED_KEY, Findings, FleetSource, open_fleet
from fleetsim.fleet.realistic import measured
from fleetsim.kernels.fit import MILLION, NO_LIMIT, millionths
from fleetsim.progress import Progress
from fleetsim.regions import Relation
from fleetsim.schema import HOSTS, RESOURCES, Stream
from fleetsim.sizes import shape_of
from fleetsim.tables import arrow_field, check_new, folder_above, provenance_of, write_parquet

if TYPE_CHECKING:
    from rich.console import Console

Ints = npt.NDArray[np.int64]

MEASURED = "measured"
"""Hosts of a cluster: as many as each of 36 clusters of Azure has, drawn."""
VCPUS_DEFAULT, MEMORY_GIB_DEFAULT = 64.0, 512.0
FILL_DEFAULT = 0.8
HOSTS_PER_CLUSTER_DEFAULT, HOSTS_PER_RACK_DEFAULT = 500, 20
PLACES = ("zone", "cluster")
"""Columns in which a VM and its host must agree, where both say something."""
AMOUNT_MAX = 1e9
"""vCPUs or GiB of one VM or host, at most: 10^15 millionths are far below NO_LIMIT."""

_COUNT_MAX = 1_000_000
_REGIONS_SHOWN = 10
_Place = tuple[str, str | None, str | None]
"""(region, zone, cluster) as a fleet names them."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Hosts in the order of their ids; positions in it are `host_row`.

    host      int64 or large_string
    region    region of each, a word
    places    int32 codes into `words`, -1 for none, by column: zone, cluster, rack; only columns that say something
    room      int64[H,2] vCPUs and memory in millionths, NO_LIMIT where nothing is said
    is_spare  bool[H]
    """

    name: str
    host: pa.Array
    region: npt.NDArray[Any]
    places: Mapping[str, npt.NDArray[np.int32]]
    words: Mapping[str, pa.Array]
    room: Ints
    is_spare: npt.NDArray[np.bool_]
    invented: tuple[str, ...]
    warnings: tuple[str, ...]

    def place(self, column: str) -> npt.NDArray[np.int32]:
        """Codes of *column*, all none where it says nothing."""
        return self.places.get(column, np.full(len(self.host), -1, np.int32))

    def offers(self, rows: Ints, has_vms: npt.NDArray[np.bool_]) -> dict[str, pa.Array]:
        """What the hosts at *rows* int64[N] offer, as a prepared fleet has it; only those without VMs can be spare."""
        room = self.room[rows]
        is_limited = room < NO_LIMIT
        amounts = {
            name: pa.array(room[:, resource] / MILLION, mask=~is_limited[:, resource])
            for resource, name in enumerate(RESOURCES)
        }
        return {**amounts, "is_spare": pa.array(self.is_spare[rows] & ~has_vms)}

    def spelt(self, column: str) -> npt.NDArray[Any]:
        """The words of *column*, one of `places`, None for none."""
        return np.array([*self.words[column].to_pylist(), None], object)[self.places[column]]


def read_inventory(
    hosts: object, relation: Relation, vcpus: float | None = None, memory_gib: float | None = None
) -> Inventory:
    """The inventory *hosts*; *vcpus* and *memory_gib* are of the hosts that do not say."""
    source = open_fleet(hosts, relation, HOSTS)
    findings = Findings()
    batches = []
    row_start = 0
    for batch in source.batches(findings):
        find_unusable(findings, source.name, batch, row_start)
        row_start += batch.num_rows
        batches.append(batch)
    findings.raise_any()
    table = pa.Table.from_batches(batches, source.schema).unify_dictionaries()
    if not len(table):
        raise InputError(f"{source.name}: must hold at least one host, got none")
    host = one_chunk(table["host"])
    order = sorted_rows([host])
    host, table = host.take(pa.array(order)), table.take(pa.array(order))
    _find_twice(source.name, host, table, order, findings)
    findings.raise_any()
    places, words = {}, {}
    for name in (*PLACES, "rack"):
        if name in table.column_names and table[name].null_count < len(table):
            # Encoded anew: codes in order of hosts do not depend on the order of rows.
            encoded = one_chunk(table[name]).cast(pa.string()).dictionary_encode()
            places[name] = encoded.indices.fill_null(-1).to_numpy().astype(np.int32)
            words[name] = encoded.dictionary
    given = {"vcpus": vcpus, "memory_gib": memory_gib}
    room = np.empty((len(table), 2), np.int64)
    for resource, name in enumerate(RESOURCES):
        column = one_chunk(table[name]) if name in table.column_names else pa.nulls(len(table), pa.float64())
        other = given[name]
        room[:, resource] = NO_LIMIT if other is None else round(other * MILLION)
        is_given = column.is_valid().to_numpy(zero_copy_only=False)
        room[is_given, resource] = millionths(column.drop_null().to_numpy())
    is_spare = one_chunk(table["is_spare"]) if "is_spare" in table.column_names else pa.repeat(False, len(table))
    return Inventory(
        source.name,
        host,
        np.array(one_chunk(table["region"]).cast(pa.string()).to_pylist(), object),
        places,
        words,
        room,
        is_spare.fill_null(False).to_numpy(zero_copy_only=False),
        tuple(source.invented),
        tuple(source.warnings),
    )


def find_unusable(
    findings: Findings, name: str, batch: pa.RecordBatch, row_start: int, *, may_be_zero: str = ""
) -> None:
    """Find amounts in *batch*, of the hosts or VMs called *name*, that are no numbers above 0, or too large."""
    for column in RESOURCES:
        if column not in batch.schema.names:
            continue
        values = batch.column(column).fill_null(1).to_numpy(zero_copy_only=False)
        is_usable = ((values > 0) | ((values == 0) & (column == may_be_zero))) & (values <= AMOUNT_MAX)
        if not is_usable.all():
            row = int(np.argmin(is_usable))
            least = "0 or more" if column == may_be_zero else "above 0"
            told = f"{name}: column '{column}', row {row_start + row + 1:,}: must be {least}, at most 10^9"
            findings.add("amount", (name, column), f"{told}, got {values[row]:g}", int((~is_usable).sum()))


def _find_twice(name: str, host: pa.Array, table: pa.Table, order: Ints, findings: Findings) -> None:
    """Find hosts that are there twice, and in what their rows differ."""
    is_again = pc.equal(host[1:], host[:-1]).to_numpy(zero_copy_only=False)
    for place in np.flatnonzero(is_again).tolist():
        rows = sorted((int(order[place]) + 1, int(order[place + 1]) + 1))
        one, other = table.slice(place, 2).to_pylist()
        differing = [
            f"{column} '{one[column]}' and '{other[column]}'"
            for column in ("region", *PLACES, "rack")
            if one.get(column) != other.get(column)
        ]
        told = f"{name}: column 'host': must be unique, got '{host[place]}' in row {rows[0]:,} and row {rows[1]:,}"
        findings.add("twice", host[place].as_py(), f"{told}{', with ' if differing else ''}{' and '.join(differing)}")


def needs_of(table: pa.Table | pa.RecordBatch, *, slots: bool) -> tuple[Ints, Ints]:
    """What each VM takes, int64[V,2] in millionths, and where that is from, int64[V]: 0 columns, 1 its size, 2 nowhere.

    A VM that does not say, in a size that is not listed, is one vCPU without memory; with *slots* each is.
    """
    vm_count = table.num_rows
    need, origin = np.empty((vm_count, 2), np.int64), np.zeros(vm_count, np.int64)
    need[:] = MILLION, 0
    if slots:
        return need, origin + 2
    by_size = np.full((vm_count, 2), -1, np.int64)
    if "size" in table.column_names:
        size = _one(table["size"])
        shapes = np.array([_shape(word) for word in size.dictionary.to_pylist()] + [(-1, -1)], np.int64)
        by_size = shapes[size.indices.fill_null(-1).to_numpy()]
    for resource, name in enumerate(RESOURCES):
        column = _one(table[name]) if name in table.column_names else pa.nulls(vm_count, pa.float64())
        is_given = column.is_valid().to_numpy(zero_copy_only=False)
        own = millionths(column.fill_null(0).to_numpy())
        known = np.where(by_size[:, 0] >= 0, by_size[:, resource], need[:, resource])
        need[:, resource] = np.where(is_given, own, known)
        if resource == 0:
            origin = np.where(is_given, 0, np.where(by_size[:, 0] >= 0, 1, 2))
    return need, origin


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return one_chunk(column) if isinstance(column, pa.ChunkedArray) else column


@cache
def _shape(size: str) -> tuple[int, int]:
    shape = shape_of(size)
    return (-1, -1) if shape is None else (round(shape[0] * MILLION), round(shape[1] * MILLION))


@dataclass(frozen=True, slots=True)
class Hosted:
    """An inventory made for a fleet. `counts_by_region`: (hosts that take VMs, spare hosts, VMs of the fleet)."""

    path: Path
    host_count: int
    spare_count: int
    rack_count: int
    cluster_count: int
    counts_by_region: Mapping[str, tuple[int, int, int]]
    invented: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        return {
            "hosts": str(self.path),
            **{name: getattr(self, name) for name in ("host_count", "spare_count", "rack_count", "cluster_count")},
            "regions": {
                region: {"host_count": hosts, "spare_count": spare, "vm_count": vms}
                for region, (hosts, spare, vms) in self.counts_by_region.items()
            },
            "invented": list(self.invented),
        }

    def render(self, console: "Console") -> None:
        """Print the facts to *console*."""
        most = sorted(self.counts_by_region.items(), key=lambda item: -item[1][0])
        shown, others = most[:_REGIONS_SHOWN], most[_REGIONS_SHOWN:]
        facts = [
            ("hosts", f"{self.host_count:,}, and {self.spare_count:,} spare"),
            ("racks", f"{self.rack_count:,} in {self.cluster_count:,} clusters"),
            *(("regions", f"{region}: {hosts:,} for {vms:,} VMs") for region, (hosts, _, vms) in shown),
            *([("regions", f"{len(others):,} more: {sum(counts[0] for _, counts in others):,}")] if others else []),
            *(("invented", sentence) for sentence in self.invented),
        ]
        render_facts(console, f"hosts {self.path}", facts)


def hosts(
    fleet: object,
    out: str | Path,
    *,
    vcpus: float | None = None,
    memory_gib: float | None = None,
    vms_per_host: int | None = None,
    fill: float = FILL_DEFAULT,
    hosts_per_cluster: int | str = HOSTS_PER_CLUSTER_DEFAULT,
    hosts_per_rack: int = HOSTS_PER_RACK_DEFAULT,
    spare_ratio: float = 0.0,
    seed: int = 0,
    pairs: str | Path | None = None,
    progress: Progress | None = None,
) -> Hosted:
    """Write an inventory that *fleet* fits on as the new Parquet file *out*: see `schema.HOSTS`.

    vcpus, memory_gib  of a host, 64 and 512 by default
    vms_per_host       instead: hosts of that many vCPUs and any memory, to be placed on with `slots`
    fill               share of a host that the VMs take, at most. A VM counts for as much as leaves no room beside it:
                       where three of its size fit on a host, a third
    hosts_per_cluster  about, of clusters for VMs that name none; "measured": as one of 36 clusters of Azure, drawn.
                       A cluster that the fleet names gets what its VMs take
    hosts_per_rack     runs of so many hosts of a cluster are a rack
    spare_ratio        spare hosts of each cluster, by its other hosts, rounded down
    seed               draws the sizes of clusters

    Each region, and in it each zone and cluster that the fleet names, gets hosts of its own. All VMs count, whatever
    their dates. Raises `InputError` with all that is wrong; nothing is written then.
    """
    out = Path(out)
    slots = vms_per_host is not None
    room = np.array(
        [float(vms_per_host or 0), np.inf] if slots else [vcpus or VCPUS_DEFAULT, memory_gib or MEMORY_GIB_DEFAULT]
    )
    _check_arguments(out, vcpus, memory_gib, vms_per_host, fill, hosts_per_cluster, hosts_per_rack, spare_ratio, seed)
    relation = relation_over(fleet, pairs)
    source = open_fleet(fleet, relation)
    takes = _host_shares(source, room * MILLION, slots=slots, progress=progress)
    made = _Made(takes, hosts_per_cluster, hosts_per_rack, spare_ratio, seed)
    for (region, zone, cluster), (_, share) in takes.items():
        made.add(region, zone, cluster, math.ceil(share / Fraction(str(fill))))
    size = f"{vms_per_host} VMs of any size" if slots else f"{room[0]:g} vCPUs and {room[1]:g} GiB"
    sizes = (
        "as many hosts as 36 clusters of Azure have, drawn"
        if hosts_per_cluster == MEASURED
        else f"about {hosts_per_cluster} hosts"
    )
    invented = (
        f"hosts: {size} each, as many as make the fleet fill them to {fill:g} at most; racks of {hosts_per_rack};"
        f" clusters as the fleet names them, else of {sizes}",
    )
    columns: dict[str, Any] = {name: pa.array(values, pa.string()) for name, values in made.columns.items()}
    host_count = len(made.is_spare)
    columns["vcpus"] = pa.array(np.full(host_count, room[0]))
    columns["memory_gib"] = pa.nulls(host_count, pa.float64()) if slots else pa.array(np.full(host_count, room[1]))
    columns["is_spare"] = pa.array(made.is_spare)
    metadata = {"fleetsim.table": HOSTS.name, INVENTED_KEY.decode(): json.dumps(invented), **provenance_of(seed=seed)}
    schema = pa.schema([arrow_field(column, pa.string()) for column in HOSTS.columns], metadata=metadata)
    arrays = [
        columns[field.name].dictionary_encode() if pa.types.is_dictionary(field.type) else columns[field.name]
        for field in schema
    ]
    write_parquet(out, pa.Table.from_arrays(arrays, schema=schema))
    counts = {region: [0, 0, 0] for region in sorted({region for region, _, _ in takes})}
    for word, is_spare in zip(made.columns["region"], made.is_spare, strict=True):
        counts[str(word)][is_spare] += 1
    for (region, _, _), (vm_count, _) in takes.items():
        counts[region][2] += vm_count
    return Hosted(
        out,
        host_count - sum(made.is_spare),
        sum(made.is_spare),
        len(set(zip(made.columns["region"], made.columns["cluster"], made.columns["rack"], strict=True))),
        len(set(zip(made.columns["region"], made.columns["cluster"], strict=True))),
        {region: (hosts, spare, vms) for region, (hosts, spare, vms) in counts.items()},
        invented,
    )


def _check_arguments(
    out: Path,
    vcpus: float | None,
    memory_gib: float | None,
    vms_per_host: int | None,
    fill: float,
    hosts_per_cluster: int | str,
    hosts_per_rack: int,
    spare_ratio: float,
    seed: int,
) -> None:
    problems = []
    judges: list[Callable[[], object]] = [lambda: check_new(out), lambda: folder_above(out), lambda: fleet_key(seed)]
    for judge in judges:
        try:
            judge()
        except InputError as error:
            problems += error.problems
    for name, number in (("vcpus", vcpus), ("memory_gib", memory_gib)):
        if number is not None and not 0 < number <= AMOUNT_MAX:
            problems.append(f"{name}: must be above 0 and at most 10^9, got {number:g}")
        if number is not None and vms_per_host is not None:
            problems.append(f"{name}: must be left out with vms_per_host, got {number:g}")
    if not 0 < fill <= 1:
        problems.append(f"fill: must be above 0 and at most 1, got {fill:g}")
    if not 0 <= spare_ratio <= 1:
        problems.append(f"spare_ratio: must be from 0 to 1, got {spare_ratio:g}")
    counts = {"vms_per_host": vms_per_host, "hosts_per_cluster": hosts_per_cluster, "hosts_per_rack": hosts_per_rack}
    for name, count in counts.items():
        also = f", or {MEASURED}" if name == "hosts_per_cluster" else ""
        is_count = isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= _COUNT_MAX
        if not (is_count or count is None or (also and count == MEASURED)):
            near = nearest(count, [MEASURED]) if also else ""
            problems.append(f"{name}: must be a whole number from 1 to {_COUNT_MAX:,}{also}, got '{count}'{near}")
    if problems:
        raise InputError(problems)


def _host_shares(
    source: FleetSource, room: npt.NDArray[np.float64], *, slots: bool, progress: Progress | None
) -> dict[_Place, tuple[int, Fraction]]:
    """For each (region, zone, cluster) of the fleet its VMs, and the hosts of *room* that they take if none is lost."""
    findings = Findings()
    counted: Counter[tuple[_Place, tuple[int, int]]] = Counter()
    done_count = 0
    for batch in source.batches(findings):
        words = {
            name: batch.column(name).cast(pa.string())
            if name in batch.schema.names
            else pa.nulls(batch.num_rows, pa.string())
            for name in ("region", *PLACES)
        }
        needs, _ = needs_of(batch, slots=slots)
        if not slots:
            find_unusable(findings, source.name, batch, done_count, may_be_zero="memory_gib")
        rows = pl.DataFrame({**words, "vcpus": needs[:, 0], "memory": needs[:, 1]})
        for region, zone, cluster, vcpus, memory, vm_count in rows.group_by(*rows.columns).agg(pl.len()).iter_rows():
            counted[(region, zone, cluster), (vcpus, memory)] += vm_count
        done_count += batch.num_rows
        if progress is not None:
            progress("read", done_count, max(done_count, source.row_count))
    findings.raise_any()
    if not done_count:
        raise InputError(f"{source.name}: must hold at least one VM, got none")
    vm_counts: Counter[_Place] = Counter()
    shares: dict[_Place, Fraction] = {}
    problems = []
    for resource, name in enumerate(RESOURCES):
        largest = max(need[resource] for _, need in counted)
        if largest > room[resource]:
            unit = "vms_per_host" if slots else name
            told = f"{unit}: must be at least {largest / MILLION:g}, what the largest VM takes"
            problems.append(f"{told}, got {room[resource] / MILLION:g}")
    if problems:
        raise InputError(problems)
    for (place, (vcpus, memory)), vm_count in counted.items():
        beside = min(room[0] // vcpus, room[1] // memory if memory else math.inf)
        vm_counts[place] += vm_count
        shares[place] = shares.get(place, Fraction(0)) + Fraction(vm_count, int(beside))
    in_order = sorted(shares, key=lambda place: tuple((word is not None, word or "") for word in place))
    return {place: (vm_counts[place], shares[place]) for place in in_order}


class _Made:
    """Rows of an inventory that is being made."""

    def __init__(
        self, named: Iterable[_Place], hosts_per_cluster: int | str, hosts_per_rack: int, spare_ratio: float, seed: int
    ) -> None:
        self.columns: dict[str, list[str | None]] = {name: [] for name in ("host", "region", *PLACES, "rack")}
        self.is_spare: list[bool] = []
        self._named = {(region, cluster) for region, _, cluster in named}
        self._hosts_per_cluster, self._hosts_per_rack = hosts_per_cluster, hosts_per_rack
        self._spare_ratio = Fraction(str(spare_ratio))
        self._seed = seed
        self._host_counts: Counter[str] = Counter()  # by cluster
        self._cluster_counts: Counter[str] = Counter()  # of those made, by region

    def add(self, region: str, zone: str | None, cluster: str | None, host_count: int) -> None:
        """Add *host_count* hosts, and spare ones, to *cluster*, or to clusters made for them."""
        if cluster is not None:
            self._add_hosts(region, zone, cluster, host_count)
            return
        while host_count:
            number = self._cluster_counts[region]
            self._cluster_counts[region] += 1
            if (region, name := f"{region}-c{number:03}") not in self._named:
                size = min(host_count, self._size(region, number, host_count))
                self._add_hosts(region, zone, name, size)
                host_count -= size

    def _size(self, region: str, number: int, host_count: int) -> int:
        """Hosts of a cluster where *host_count* are left to be put into some."""
        if isinstance(self._hosts_per_cluster, int):
            return -(-host_count // max(1, round(host_count / self._hosts_per_cluster)))
        sizes = measured().cluster_hosts
        draws = draws_of(fleet_key(self._seed, region), Stream.CLUSTER_HOSTS, np.array([number]))
        return sizes[int(picked(draws, thresholds([1] * len(sizes)))[0])]

    def _add_hosts(self, region: str, zone: str | None, cluster: str, host_count: int) -> None:
        stem = cluster if cluster.startswith(region) else f"{region}-{cluster}"
        spare_count = math.floor(host_count * self._spare_ratio)
        first = self._host_counts[stem]
        self._host_counts[stem] += host_count + spare_count
        for number in range(first, self._host_counts[stem]):
            rack = f"{stem}-r{number // self._hosts_per_rack:03}"
            row = (f"{stem}-h{number:04}", region, zone, cluster, rack)
            for values, value in zip(self.columns.values(), row, strict=True):
                values.append(value)
            self.is_spare.append(number >= first + host_count)
