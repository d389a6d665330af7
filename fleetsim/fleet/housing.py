"""Hosts as a fleet gives them: judged, numbered in the order of their ids, and with the facts of where they stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetsim.fleet.order import Ints, keys_of
from fleetsim.fleet.read import Findings
from fleetsim.kernels.gate import NONE, find_components
from fleetsim.schema import PREPARED_HOSTS
from fleetsim.tables import arrow_field, constant_text

if TYPE_CHECKING:
    from fleetsim.fleet.hosting import Inventory

WHERE = ("zone", "cluster", "rack")
"""Columns in which the VMs of a host must agree: where it stands."""


@dataclass(frozen=True, slots=True)
class Housing:
    """The hosts of a region, by id: H of them, for its V VMs.

    number  int64[V]  the host of each VM, from 0 in the order of ids
    ids     [H] int64 or string
    where   [H] each of the columns of WHERE that the fleet or the inventory has: text, null where nothing is said
    offers  [H] columns of an inventory: what each has room for, and whether it is spare
    """

    number: Ints
    ids: pa.Array
    where: Mapping[str, pa.Array]
    offers: Mapping[str, pa.Array]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lonely_spare_count(self) -> int:
        """Spare hosts in no cluster of a host with VMs."""
        if "is_spare" not in self.offers or "cluster" not in self.where:
            return 0
        has_vms = pa.array(np.bincount(self.number, minlength=len(self)) > 0)
        cluster = self.where["cluster"].fill_null("")
        met = pc.is_in(cluster, pc.unique(cluster.filter(has_vms)))
        return int(pc.sum(pc.and_not(self.offers["is_spare"], met)).as_py() or 0)

    def table(self, region: str, row_start: int) -> pa.Table:
        """The hosts as they are written, numbered from *row_start*."""
        count = len(self)
        columns = {
            "host_row": pa.array(np.arange(row_start, row_start + count, dtype=np.uint32)),
            "host": self.ids.cast(pa.string()) if self.ids.type == pa.large_string() else self.ids,
            "host_key": pa.array(keys_of(self.ids)),
            "region": constant_text(region, np.zeros(count, np.int32)),
            "vm_count": pa.array(np.bincount(self.number, minlength=count).astype(np.uint32)),
            **{name: column.dictionary_encode() for name, column in self.where.items()},
            **self.offers,
        }
        fields = [
            arrow_field(column, columns["host"].type) for column in PREPARED_HOSTS.columns if column.name in columns
        ]
        return pa.Table.from_arrays([columns[field.name] for field in fields], schema=pa.schema(fields))

    def without(self) -> dict[str, dict[str, Any]]:
        """Of each column of WHERE in which some host with VMs has nothing: how many, and the first of them."""
        counts: dict[str, dict[str, Any]] = {}
        has_vms = np.bincount(self.number, minlength=len(self)) > 0
        for name in WHERE:
            column = self.where.get(name, pa.nulls(len(self)))
            lacking = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False) & has_vms)
            if len(lacking):
                counts[name] = {"host_count": len(lacking), "first": self.ids[int(lacking[0])].as_py()}
        return counts

    def components(self, rows: Ints, set_of_row: Ints, set_count: int) -> Ints:
        """The first set of the component of each set, int64[S]: sets are joined by the hosts of VMs at *rows*."""
        component = np.empty(set_count, np.int64)
        find_components(self.number[rows], set_of_row, np.full(len(self), NONE), component)
        return component


def house(
    source: str,
    region: str,
    vm: pa.Array,
    host: pa.Array,
    where: Mapping[str, pa.Array],
    findings: Findings,
    inventory: "Inventory | None" = None,
) -> Housing | None:
    """The hosts of the VMs of *region*; None where it has none, or where some VMs only have one, which is found.

    vm, host   int64 or string, a row a VM
    where      text columns, a row a VM: those of WHERE that the fleet has
    inventory  that the VMs fit on: its spare hosts of the region are among them
    """
    if host.null_count == len(host):
        return None
    if host.null_count:
        is_null = host.is_null().to_numpy(zero_copy_only=False)
        findings.add(
            "hosts in part",
            region,
            f"{source}: column 'host' must be given for all VMs of a region or for none, got"
            f" {host.null_count:,} of {len(host):,} VMs of region '{region}' without, the first of them VM"
            f" '{vm[int(np.argmax(is_null))]}'",
        )
        return None
    ids = pc.unique(host)
    if inventory is not None:
        is_spare_here = inventory.is_spare & (inventory.region == region)
        ids = pc.unique(pa.concat_arrays([ids, inventory.host.filter(pa.array(is_spare_here)).cast(ids.type)]))
    ids = ids.take(pc.sort_indices(ids))  # strings by their bytes
    number = pc.index_in(host, ids).to_numpy().astype(np.int64)
    first = np.full(len(ids), len(number))
    np.minimum.at(first, number, np.arange(len(number)))
    has_vms = first < len(number)
    stands: dict[str, pa.Array] = {}
    for name, column in where.items():
        words = column.cast(pa.string()).dictionary_encode()
        codes: npt.NDArray[Any] = np.append(words.indices.fill_null(-1).to_numpy(), -1)
        stands[name] = words.dictionary.take(pa.array(codes[first], mask=codes[first] < 0))
        for row in np.flatnonzero(codes[:-1] != codes[first][number]):
            of_host = int(number[row])
            met, other = (_shown(column[int(place)].as_py()) for place in (first[of_host], row))
            findings.add(
                f"two {name}s",
                (region, of_host),
                f"{source}: column '{name}' must be the same for all VMs of a host, got {met} and {other} for host"
                f" '{ids[of_host]}' in region '{region}' (VMs '{vm[int(first[of_host])]}' and '{vm[int(row)]}')",
            )
    if inventory is None:
        return Housing(number, ids, stands, {})
    row = pc.index_in(ids.cast(inventory.host.type), inventory.host).to_numpy().astype(np.int64)
    for name in inventory.places:
        told = pa.array(inventory.spelt(name)[row], pa.string())
        stands[name] = pc.coalesce(stands[name], told) if name in stands else told
    return Housing(number, ids, stands, inventory.offers(row, has_vms))


def _shown(word: str | None) -> str:
    return "none" if word is None else f"'{word}'"
