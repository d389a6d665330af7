"""Whether VMs that have hosts fit on them: an inventory, asked about a fleet."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fleetsim.errors import InputError, nearest
from fleetsim.fleet.hosting import Inventory, find_unusable, needs_of, read_inventory
from fleetsim.fleet.order import Ints
from fleetsim.fleet.prepared import relation_over
from fleetsim.fleet.preparing import one_chunk
from fleetsim.fleet.read import Findings, open_fleet
from fleetsim.kernels.fit import MILLION
from fleetsim.progress import Progress
from fleetsim.regions import Relation
from fleetsim.schema import NO_ROW, RESOURCES


@dataclass(frozen=True, slots=True)
class Fitting:
    """VMs that have a host, and the hosts of the inventory that have VMs."""

    vm_count: int
    host_count: int
    inventory_count: int

    def __str__(self) -> str:
        return f"{self.vm_count:,} VMs fit on their {self.host_count:,} of {self.inventory_count:,} hosts"


_UNITS = {"vcpus": "vCPUs", "memory_gib": "GiB"}


def fits(
    fleet: object,
    hosts: object,
    *,
    slots: bool = False,
    host_vcpus: float | None = None,
    host_memory_gib: float | None = None,
    pairs: str | Path | None = None,
    progress: Progress | None = None,
) -> Fitting:
    """Raise `InputError` unless each VM of *fleet* that has a host is on one of *hosts* that has room for all of its.

    fleet  a path or an Arrow table of any library, as for `prepare`; hosts: an inventory, see `schema.HOSTS`
    slots  each VM takes one vCPU and no memory; host_vcpus, host_memory_gib: of hosts that do not say

    What VMs take is as for `place`. All of them count, whatever their dates; on a spare host there must be none.
    """
    relation = relation_over(fleet, pairs)
    inventory = read_inventory(hosts, relation, host_vcpus, host_memory_gib)
    return fit(fleet, inventory, relation, slots=slots, progress=progress)


def fit(
    fleet: object, inventory: Inventory, relation: Relation, *, slots: bool, progress: Progress | None = None
) -> Fitting:
    """`fits` on an *inventory* that was read."""
    source = open_fleet(fleet, relation)
    if "host" not in source.schema.names:
        raise InputError(f"{source.name}: column 'host' must be there to be compared with {inventory.name}, got none")
    findings = Findings()
    taken, vm_count = np.zeros((len(inventory.host), 2), np.int64), np.zeros(len(inventory.host), np.int64)
    row_start = 0
    for batch in source.batches(findings):
        if not slots:
            find_unusable(findings, source.name, batch, row_start, may_be_zero="memory_gib")
        host = _places(findings, source.name, inventory, batch)
        on_host = np.flatnonzero(host >= 0)
        need, _ = needs_of(batch, slots=slots)
        np.add.at(taken, host[on_host], need[on_host])
        np.add.at(vm_count, host[on_host], 1)
        row_start += batch.num_rows
        if progress is not None:
            progress("read", row_start, max(row_start, source.row_count))
    for resource, column in enumerate(RESOURCES):
        room = inventory.room[:, resource]
        hint = "; where hosts count VMs of any size, use --slots" if resource == 0 and not slots else ""
        for of_host in np.flatnonzero(taken[:, resource] > room).tolist():
            findings.add(
                f"too little {column}",
                of_host,
                f"{source.name}: the VMs of a host must fit on it, got {vm_count[of_host]:,} that take"
                f" {taken[of_host, resource] / MILLION:g} {_UNITS[column]} on host '{inventory.host[of_host]}', which"
                f" {inventory.name} gives {room[of_host] / MILLION:g}{hint}",
            )
    for of_host in np.flatnonzero(inventory.is_spare & (vm_count > 0)).tolist():
        host, count = inventory.host[of_host], vm_count[of_host]
        told = f"{source.name}: a spare host must have no VM, got {count:,} on host '{host}', spare in {inventory.name}"
        findings.add("spare", of_host, told)
    if not vm_count.any():
        findings.add("host", None, f"{source.name}: column 'host' must name hosts of {inventory.name}, got none")
    findings.raise_any()
    return Fitting(int(vm_count.sum()), int(np.count_nonzero(vm_count)), len(vm_count))


def _places(findings: Findings, name: str, inventory: Inventory, batch: pa.RecordBatch) -> Ints:
    """The host of each VM of *batch* in the *inventory*, -1 for none; those that are elsewhere are found."""
    hosts = one_chunk(pa.chunked_array([batch.column("host")]))
    if hosts.null_count == len(hosts):
        return np.full(len(hosts), -1)
    if hosts.type != inventory.host.type:
        wanted, given = (
            "whole numbers" if pa.types.is_integer(each.type) else "text" for each in (inventory.host, hosts)
        )
        raise InputError(f"{name}: column 'host' must be as in {inventory.name}, {wanted}, got {given}")
    place: Ints = pc.index_in(hosts, inventory.host).cast(pa.int64()).fill_null(NO_ROW).to_numpy().copy()
    is_unknown = (place == NO_ROW) & hosts.is_valid().to_numpy(zero_copy_only=False)
    for word in pc.unique(hosts.filter(pa.array(is_unknown))).to_pylist():
        near = nearest(word, inventory.host.to_pylist()) if isinstance(word, str) else ""
        told = f"{name}: column 'host' must be of the hosts in {inventory.name}, got '{word}'{near}"
        findings.add("no such host", word, told)
    place[place == NO_ROW] = -1
    for column, words in (("region", inventory.region), *((name, inventory.spelt(name)) for name in inventory.places)):
        if column not in batch.schema.names:
            continue
        own, others = batch.column(column).cast(pa.string()), pa.array(words[place], pa.string())
        # Where one of the two says nothing of a zone, cluster or rack, nothing is wrong.
        is_elsewhere = pc.not_equal(own, others).fill_null(False).to_numpy(zero_copy_only=False) & (place >= 0)
        for row in np.flatnonzero(is_elsewhere).tolist():
            findings.add(
                f"two {column}s",
                int(place[row]),
                f"{name}: a host must be in one {column}, got '{hosts[row]}' in '{own[row]}', and in '{others[row]}' in"
                f" {inventory.name}",
            )
    return place
