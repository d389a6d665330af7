"""VMs onto hosts: by room, so that a host carries one update domain, at random, or packed; fault domains on racks.

A region is placed at a time, and of a region the VMs that are bound to the same hosts, the most bound first. They go in
steps: each step parts VMs and hosts into classes, and who finds no room in its class has another try in the next step,
up to the last, which takes any host. Everything is in order of ids or of draws addressed by them, so neither the order
of rows nor the number of threads can matter. Memory: one region, and four bytes a VM.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetsim.errors import InputError, nearest
from fleetsim.fleet.draws import draws_of, fleet_key
from fleetsim.fleet.facts import render_facts
from fleetsim.fleet.generating import ASKED_KEY, part_writer
from fleetsim.fleet.hosting import (
    AMOUNT_MAX,
    PLACES,
    Inventory,
    find_unusable,
    needs_of,
    read_inventory,
)
from fleetsim.fleet.order import DOMAIN_COUNTS, Domains, keys_of, order_region, placement_groups, sorted_rows
from fleetsim.fleet.prepared import relation_over
from fleetsim.fleet.preparing import Spill, one_chunk
from fleetsim.fleet.read import INVENTED_KEY, TOLD_MAX, Findings, FleetSource, open_fleet, readable_again
from fleetsim.kernels import placement
from fleetsim.kernels.fit import MILLION, NO_LIMIT, NONE
from fleetsim.progress import Progress
from fleetsim.schema import FLEET, NO_ROW, RESOURCES, Stream
from fleetsim.tables import arrow_field, arrow_type, check_new, folder_above, provenance_of

if TYPE_CHECKING:
    from rich.console import Console

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

POLICIES = ("aligned", "random", "first-fit", "best-fit")
_ROW = "row"
_NEEDED = (
    *("vm", "region", "set", "set_kind", "update_domain", "fault_domain", *PLACES, "size", "vcpus", "memory_gib"),
    *(f"is_{name}_assigned" for name in DOMAIN_COUNTS),
)
"""Columns of a fleet that placing looks at."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A fleet with hosts on disk, and how well they are used.

    by                      of which domain claims and numbers are: update_domain or fault_domain
    host_count              hosts that may take VMs: not the spare ones
    used_count              those with a VM
    fill                    by resource: mean, p10 and p90 over hosts of the share that is used
    stranded                by resource: what is free on hosts with less of the other one than any VM needs, as a share
                            of all there is
    claims_mean, claims_max distinct (set, domain) on a used host
    one_number_count        used hosts whose VMs in sets are all of one domain number
    numbers_mixed_count     those with several
    sets_mixed_count        hosts with two domains of one set: such a host claims the set alone, and
    no_guarantee_count      sets on them, which are therefore no_guarantee, reason shared_host
    rack_shared_count       sets with VMs of two fault domains on one rack
    """

    path: Path
    policy: str
    by: str
    vm_count: int
    host_count: int
    spare_count: int
    used_count: int
    fill: Mapping[str, Mapping[str, float]]
    stranded: Mapping[str, float]
    claims_mean: float
    claims_max: int
    one_number_count: int
    numbers_mixed_count: int
    sets_mixed_count: int
    no_guarantee_count: int
    rack_shared_count: int | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "path"}
        return {"fleet": str(self.path), **plain, "notes": list(self.notes), "warnings": list(self.warnings)}

    def render(self, console: "Console") -> None:
        """Print the facts to *console*."""
        names = {"vcpus": "vCPUs", "memory_gib": "memory"}
        racks, domain = self.rack_shared_count, self.by.replace("_", " ")
        facts = [
            ("VMs", f"{self.vm_count:,}, placed {self.policy}"),
            ("hosts", f"{self.used_count:,} used of {self.host_count:,}, and {self.spare_count:,} spare"),
            *(
                ("fill", f"{names[name]}: mean {found['mean']:.3f}, p10 {found['p10']:.3f}, p90 {found['p90']:.3f}")
                for name, found in self.fill.items()
            ),
            *(
                ("stranded", f"{names[name]}: {ratio:.3f} of all is free where the other is full")
                for name, ratio in self.stranded.items()
            ),
            ("claims", f"{self.claims_mean:.2f} (set, {domain}) a used host, {self.claims_max:,} at most"),
            (
                "numbers",
                f"{self.one_number_count:,} hosts carry one {domain} number, {self.numbers_mixed_count:,} several",
            ),
            (
                "shared",
                f"{self.sets_mixed_count:,} hosts have two domains of one set: they wait for the whole set, and"
                f" {self.no_guarantee_count:,} sets are promised nothing (no_guarantee, shared_host)",
            ),
            *([("racks", f"{racks:,} sets have two fault domains on one rack")] if racks is not None else []),
            *(("note", sentence) for sentence in self.notes),
            *(("warning", sentence) for sentence in self.warnings),
        ]
        render_facts(console, f"fleet {self.path}", facts)


def place(
    fleet: object,
    hosts: object,
    out: str | Path,
    *,
    policy: str = "aligned",
    seed: int = 0,
    by: str = "update_domain",
    any_rack: bool = False,
    slots: bool = False,
    replace: bool = False,
    host_vcpus: float | None = None,
    host_memory_gib: float | None = None,
    pairs: str | Path | None = None,
    progress: Progress | None = None,
) -> Placed:
    """Write *fleet* as the new fleet *out*, with a host for each VM.

    fleet     a path or an Arrow table of any library, as for `prepare`
    hosts     an inventory, likewise: see `schema.HOSTS`. Spare hosts take nothing
    out       a file, if it ends in .parquet, else a folder region=R/part-*.parquet; must be new
    policy    aligned: a host carries one update domain number as far as there is room; hosts are shared out among the
              numbers by what they must hold, and a VM is on one of its number at random. VMs in no set are anywhere.
              random: any host with room. first-fit, best-fit: VMs and hosts in order of their ids, each VM on the
              first host with room, or on the one with the least left (vCPUs, then memory, then the first; where there
              is no limit, on the one that holds most)
    seed      draws of aligned and random, addressed by the VM's id
    by        which domain aligned hosts carry one number of, and claims are counted by: update_domain or fault_domain
    any_rack  else racks of a cluster get fault domain numbers in turn, where the fleet has the column `fault_domain`
              and the hosts have racks, and VMs in sets go on racks of their number as far as there is room
    slots     each VM takes one vCPU and no memory: where hosts count VMs
    replace   hosts and racks that the fleet has are dropped. Clusters and zones bind, as they always do
    host_vcpus, host_memory_gib  of hosts that do not say; a host that has no number takes any number of VMs

    A VM goes on a host of its cluster and zone; where one of the two says nothing, it binds nobody, and the VM gets the
    host's. All VMs count, whatever their dates. A VM takes its `vcpus` and `memory_gib`, else those of its `size`, else
    one vCPU and no memory. In aligned and random larger VMs go first, for they find room the least. Raises `InputError`
    with all that is wrong, VMs without room among it; nothing is written then.
    """
    out = Path(out)
    _check_arguments(out, policy, seed, by, {"host_vcpus": host_vcpus, "host_memory_gib": host_memory_gib})
    relation = relation_over(fleet, pairs)
    fleet = readable_again(fleet)
    opened: list[Any] = []
    problems: list[str] = []
    openers: list[Callable[[], object]] = [
        lambda: open_fleet(fleet, relation),
        lambda: read_inventory(hosts, relation, host_vcpus, host_memory_gib),
    ]
    for opener in openers:
        try:
            opened.append(opener())
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    source, inventory = opened
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=folder_above(out)) as scratch:
        placing = _Placing(source, inventory, Path(scratch) / "spill", policy, seed, by, any_rack, slots)
        placing.read(replace, progress)
        placing.place(progress)
        made = Path(scratch) / "fleet"
        placing.write(open_fleet(fleet, relation), made, is_file=out.suffix == ".parquet")
        out.parent.mkdir(parents=True, exist_ok=True)
        made.rename(out)
    return placing.placed(out)


def _check_arguments(out: Path, policy: str, seed: int, by: str, numbers: Mapping[str, float | None]) -> None:
    problems = []
    judges: list[Callable[[], object]] = [lambda: check_new(out), lambda: folder_above(out), lambda: fleet_key(seed)]
    for judge in judges:
        try:
            judge()
        except InputError as error:
            problems += error.problems
    for name, given, known in (("policy", policy, POLICIES), ("by", by, tuple(DOMAIN_COUNTS))):
        if given not in known:
            problems.append(f"{name}: must be {' or '.join(known)}, got '{given}'{nearest(given, known)}")
    for name, number in numbers.items():
        if number is not None and not 0 < number <= AMOUNT_MAX:
            problems.append(f"{name}: must be above 0 and at most 10^9, got {number:g}")
    if problems:
        raise InputError(problems)


class _Placing:
    """A fleet on its way onto hosts."""

    def __init__(
        self,
        source: FleetSource,
        inventory: Inventory,
        scratch: Path,
        policy: str,
        seed: int,
        by: str,
        any_rack: bool,
        slots: bool,
    ) -> None:
        self.source, self.inventory = source, inventory
        self.policy, self.by, self.slots = policy, by, slots
        self.key = fleet_key(seed, "placement")
        self.keeps_racks = not any_rack and "rack" in inventory.places and "fault_domain" in source.schema.names
        scratch.mkdir()
        columns = [field for field in source.schema if field.name in _NEEDED]
        self.schema = pa.schema([*columns, pa.field(_ROW, pa.int64())])
        self.spill = Spill(scratch, self.schema)
        self.hosts_of = {
            region: np.flatnonzero(inventory.region == region) for region in dict.fromkeys(inventory.region)
        }
        self.room = inventory.room.copy()
        self.tally = _Tally()
        self.origin_counts = np.zeros(3, np.int64)
        self.least = [NO_LIMIT, NO_LIMIT]  # what the smallest VM takes of each resource
        self.host_row = np.empty(0, np.uint32)

    def read(self, replace: bool, progress: Progress | None) -> None:
        """Sort VMs by region into the scratch folder, and judge each."""
        findings = Findings()
        name = self.source.name
        with self.spill as spill:
            for batch in self.source.batches(findings):
                row = np.arange(spill.vm_count, spill.vm_count + batch.num_rows)
                if not replace:
                    _find_placed(findings, name, batch, spill.vm_count)
                if not self.slots:
                    find_unusable(findings, name, batch, spill.vm_count, may_be_zero="memory_gib")
                columns = [*(batch.column(part.name) for part in self.schema if part.name != _ROW), pa.array(row)]
                spill.add(pa.RecordBatch.from_arrays(columns, schema=self.schema))
                if progress is not None:
                    progress("read", spill.vm_count, max(spill.vm_count, self.source.row_count))
        findings.raise_any()
        if not 0 < spill.vm_count < NO_ROW:
            raise InputError(f"{name}: must hold at least one VM and less than {NO_ROW:,}, got {spill.vm_count:,}")
        self.host_row = np.empty(spill.vm_count, np.uint32)

    def place(self, progress: Progress | None) -> None:
        """Find a host for each VM; those without are raised, all regions' at once."""
        name = self.inventory.name
        problems = [
            f"{name}: must have a host that takes VMs in each region, got none in '{region}' ({count:,} VMs)"
            for region, count in sorted(self.spill.vm_counts.items())
            if self.inventory.is_spare[self.hosts_of.get(region, np.empty(0, np.int64))].all()
        ]
        if problems:
            raise InputError(_told(problems))
        findings = Findings()
        done_count = 0
        for region in sorted(self.spill.vm_counts):
            problems += self._place_region(region, findings)
            done_count += self.spill.vm_counts[region]
            if progress is not None:
                progress("place", done_count, self.spill.vm_count)
        findings.raise_any()
        if problems:
            raise InputError(_told(problems))

    def _place_region(self, region: str, findings: Findings) -> Iterator[str]:
        vms = _Vms.of(region, self.spill, self.by, self.slots, findings)
        self.origin_counts += np.bincount(vms.origin, minlength=3)
        self.least = np.minimum(self.least, vms.need.min(axis=0)).tolist()
        hosts = self.hosts_of[region]
        hosts = hosts[~self.inventory.is_spare[hosts]]
        room = self.room[hosts]
        rooms = _Rooms(room, self._racks(hosts), self.keeps_racks)
        host_of = np.full(len(vms.row), NONE)
        yield from self._place_groups(region, vms, hosts, rooms, host_of)
        self.room[hosts] = room
        if (host_of != NONE).all():
            self.host_row[vms.row] = hosts[host_of]
            self.tally.add(vms, host_of, rooms.rack if "rack" in self.inventory.places else None)

    def _racks(self, hosts: Ints) -> Ints:
        """Number of each host's rack, -1 for none: a rack is of a zone and a cluster."""
        rack = self.inventory.place("rack")[hosts].astype(np.int64)
        of = np.stack([*(self.inventory.place(name)[hosts] for name in PLACES), rack])
        _, first, number = np.unique(of, axis=1, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))  # in order of the racks' first hosts
        return np.where(rack < 0, -1, rank[number.reshape(-1)])

    def _place_groups(self, region: str, vms: "_Vms", hosts: Ints, rooms: "_Rooms", host_of: Ints) -> Iterator[str]:
        """Place those first who may go on the fewest hosts. Yields what is wrong."""
        stride = len(self.inventory.host) + 2
        zone, cluster = (self._codes(name, vms) for name in PLACES)
        places, place_of = np.unique((zone + 2) * stride + cluster + 2, return_inverse=True)
        by_place = np.split(np.argsort(place_of, kind="stable"), np.cumsum(np.bincount(place_of))[:-1])
        there = [self.inventory.place(name)[hosts] for name in PLACES]
        groups = []
        for code, members in zip(places.tolist(), by_place, strict=True):
            suits = np.ones(len(hosts), np.bool_)
            for of_host, of_vm in zip(there, (code // stride - 2, code % stride - 2), strict=True):
                suits &= (of_host == of_vm) | (of_host == -1) | (of_vm == -1)
            groups.append((np.flatnonzero(suits), members))
        for suiting, members in sorted(groups, key=lambda group: len(group[0])):
            if not len(suiting):
                columns = " and ".join(f"'{name}'" for name in PLACES if name in vms.table.column_names)
                where = self._where(region, vms, int(members[0]))
                yield (
                    f"{self.inventory.name}: must have hosts for each zone and cluster of the fleet, got none for"
                    f" {len(members):,} VMs, the first of them {where}; add hosts, or drop {columns} from the fleet"
                )
                continue
            self._place_members(vms, members, suiting, rooms, host_of)
            if len(left := members[host_of[members] == NONE]):
                where = self._where(region, vms, int(left[0]))
                yield self._no_room(vms, members, left, suiting, rooms, where)

    def _codes(self, name: str, vms: "_Vms") -> Ints:
        """Each VM's zone or cluster as the hosts number it: -1 for none, -2 for one that no host has."""
        if name not in self.inventory.places or name not in vms.table.column_names:
            return np.full(len(vms.row), -1)
        column = one_chunk(vms.table[name])
        known = {word: code for code, word in enumerate(self.inventory.words[name].to_pylist())}
        of_word = np.array([*(known.get(word, -2) for word in column.dictionary.to_pylist()), -1])
        codes: Ints = of_word[column.indices.fill_null(-1).to_numpy()]
        return codes

    def _where(self, region: str, vms: "_Vms", vm: int) -> str:
        places = {name: vms.table[name][vm].as_py() for name in PLACES if name in vms.table.column_names}
        return "in " + ", ".join(
            [*(f"{name} '{place}'" for name, place in places.items() if place is not None), f"region '{region}'"]
        )

    def _place_members(self, vms: "_Vms", members: Ints, hosts: Ints, rooms: "_Rooms", host_of: Ints) -> None:
        """Place *members* on *hosts*, both in order of their ids, in steps of (class of VM, class of host)."""
        fault = np.where(vms.set_row[members] >= 0, vms.fault_domain[members], -1)
        number = np.where(vms.set_row[members] >= 0, vms.number[members], -1)
        steps = []
        if self.keeps_racks:
            rooms.deal_racks(hosts, fault, vms.need[members])
        if self.policy == "aligned":
            rooms.deal_hosts(hosts, number, fault, vms.need[members])
            if self.keeps_racks:
                stride = int(fault.max(initial=0)) + 1
                both = np.where(number >= 0, number * stride + fault, -1)
                of_host = np.where(
                    (rooms.number[hosts] >= 0) & (rooms.fault[hosts] >= 0),
                    rooms.number[hosts] * stride + rooms.fault[hosts],
                    -1,
                )
                steps.append((both, of_host))
            steps.append((number, rooms.number[hosts]))
        if self.keeps_racks:
            steps.append((fault, rooms.fault[hosts]))
        steps.append((np.zeros(len(members), np.int64), np.zeros(len(hosts), np.int64)))
        order = self._order(vms, members)
        for of_vm, of_host in steps:
            takes_part = order[(host_of[members[order]] == NONE) & (of_vm[order] >= 0)]
            vm_offsets, by_class = _by_class(of_vm, takes_part)
            host_offsets, hosts_by_class = _by_class(of_host, np.flatnonzero(of_host >= 0))
            count = max(len(vm_offsets), len(host_offsets))
            self._run(
                vms,
                np.append(vm_offsets, np.full(count - len(vm_offsets), vm_offsets[-1])),
                members[by_class],
                np.append(host_offsets, np.full(count - len(host_offsets), host_offsets[-1])),
                hosts[hosts_by_class],
                rooms.room,
                host_of,
            )

    def _order(self, vms: "_Vms", members: Ints) -> Ints:
        """In which order *members* are placed."""
        if self.policy not in ("aligned", "random"):
            return np.argsort(vms.id_rank[members], kind="stable")
        draws = draws_of(self.key, Stream.PLACEMENT, vms.key[members])
        need = vms.need[members]
        return np.lexsort((draws, -need[:, 1], -need[:, 0]))

    def _run(
        self, vms: "_Vms", vm_offsets: Ints, placed: Ints, host_offsets: Ints, hosts: Ints, room: Ints, host_of: Ints
    ) -> None:
        if self.policy == "best-fit":
            by_room = np.empty(len(hosts), np.int64)
            placement.best_fit(vm_offsets, placed, vms.need, host_offsets, hosts, room, by_room, host_of)
            return
        most = np.empty((4 * max(1, len(hosts)), 2), np.int64)
        if self.policy == "first-fit":
            placement.first_fit(vm_offsets, placed, vms.need, host_offsets, hosts, room, most, host_of)
            return
        address = np.uint64(Stream.PLACEMENT << 26)
        key = np.uint64(self.key)
        placement.scatter(key, address, vm_offsets, placed, vms.key, vms.need, host_offsets, hosts, room, most, host_of)

    def _no_room(self, vms: "_Vms", members: Ints, left: Ints, hosts: Ints, rooms: "_Rooms", where: str) -> str:
        first = vms.table["vm"][int(left[np.argmin(vms.id_rank[left])])]
        lacking = vms.need[left].sum(axis=0) / MILLION
        free = [_amount(rooms.room[hosts, resource]) for resource in range(len(RESOURCES))]
        return (
            f"{self.inventory.name}: must have room for all VMs, got none for {len(left):,} of {len(members):,} {where}"
            f", the first of them '{first}'; they need {lacking[0]:g} vCPUs and {lacking[1]:g} GiB, free there are"
            f" {free[0]} vCPUs and {free[1]} GiB, in pieces; add hosts or make them larger"
            + ("" if self.slots else "; where hosts count VMs, use --slots")
        )

    def write(self, source: FleetSource, made: Path, *, is_file: bool) -> None:
        """Write the rows of *source*, the fleet opened anew, with their hosts."""
        hosts, given = self.inventory, source.schema
        kinds = {part.name: part.type for part in given if part.name != "rack"}  # which goes with the host
        kinds |= {name: arrow_type(FLEET[name]) for name in hosts.places} | {"host": hosts.host.type}
        known = [column for column in FLEET.columns if column.name in kinds]
        plain = {name: pa.string() if kind == pa.large_string() else kind for name, kind in kinds.items()}
        fields = [arrow_field(column, plain[column.name]) for column in known]
        fields += [pa.field(name, plain[name]) for name in given.names if name not in FLEET.names()]
        told = f"hosts: each VM's is made up, {self.policy} by room, on those of {Path(hosts.name).name}"
        invented = list(dict.fromkeys([*source.invented, *hosts.invented, told]))
        metadata = {"fleetsim.table": FLEET.name, INVENTED_KEY.decode(): json.dumps(invented), **provenance_of()}
        if ASKED_KEY in source.metadata:
            metadata[ASKED_KEY.decode()] = source.metadata[ASKED_KEY].decode()
        schema = pa.schema(fields, metadata=metadata)
        start = 0
        with part_writer(made, schema, is_file=is_file) as write:
            for batch in source.batches(Findings()):
                host_row = self.host_row[start : start + batch.num_rows]
                start += batch.num_rows
                part = pa.table([self._column(field, batch, host_row) for field in schema], schema=schema)
                if is_file:
                    write("", part)
                    continue
                region = part["region"]
                for word in pc.unique(region.cast(pa.string())).to_pylist():
                    write(word, part.filter(pc.equal(region.cast(pa.string()), word)))

    def _column(self, field: pa.Field, batch: pa.RecordBatch, host_row: npt.NDArray[np.uint32]) -> pa.Array:
        hosts = self.inventory
        if field.name == "host":
            return hosts.host.take(pa.array(host_row)).cast(field.type)
        if field.name not in hosts.places:
            return batch.column(field.name).cast(field.type)
        codes = hosts.places[field.name][host_row]
        given = pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), hosts.words[field.name])
        if field.name == "rack" or field.name not in batch.schema.names or (codes >= 0).all():
            return given
        kept = pc.coalesce(given.cast(pa.string()), batch.column(field.name).cast(pa.string()))
        return kept.dictionary_encode()

    def placed(self, out: Path) -> Placed:
        """What came of it."""
        hosts = self.inventory
        may = ~hosts.is_spare
        total, free = hosts.room[may], self.room[may]
        is_limited = total < NO_LIMIT
        fill, stranded = {}, {}
        for resource, name in enumerate(RESOURCES):
            own = is_limited[:, resource]
            if not own.any():
                continue
            ratio = 1 - free[own, resource] / total[own, resource]
            p10, p90 = np.quantile(ratio, [0.1, 0.9], method="inverted_cdf").tolist()
            fill[name] = {"mean": float(ratio.mean()), "p10": p10, "p90": p90}
            other = 1 - resource
            is_stranded = own & is_limited[:, other] & (free[:, other] < self.least[other])
            if is_limited[:, other].any():
                stranded[name] = float(
                    free[is_stranded, resource].sum(dtype=float) / total[own, resource].sum(dtype=float)
                )
        tally = self.tally
        notes = []
        _, by_size, by_slot = self.origin_counts.tolist()
        if self.slots:
            notes.append("each VM takes one vCPU and no memory, as asked for")
        else:
            if by_size:
                notes.append(f"{by_size:,} VMs do not tell their vCPUs: they take what their size says")
            if by_slot:
                notes.append(
                    f"{by_slot:,} VMs tell neither vCPUs nor a size that is listed: each takes one vCPU and no memory"
                )
        return Placed(
            path=out,
            policy=self.policy,
            by=self.by,
            vm_count=self.spill.vm_count,
            host_count=int(may.sum()),
            spare_count=int((~may).sum()),
            used_count=tally.used_count,
            fill=fill,
            stranded=stranded,
            claims_mean=tally.claim_count / tally.used_count,
            claims_max=tally.claims_max,
            one_number_count=tally.one_number_count,
            numbers_mixed_count=tally.numbers_mixed_count,
            sets_mixed_count=tally.sets_mixed_count,
            no_guarantee_count=tally.no_guarantee_count,
            rack_shared_count=tally.rack_shared_count
            if "rack" in hosts.places and "fault_domain" in self.source.schema.names
            else None,
            notes=tuple(notes),
            warnings=(*self.source.warnings, *hosts.warnings),
        )


def _find_placed(findings: Findings, name: str, batch: pa.RecordBatch, row_start: int) -> None:
    """Find VMs that are on a host already."""
    for column in ("host", "rack"):
        if column in batch.schema.names and (count := batch.num_rows - batch.column(column).null_count):
            at = pc.index(batch.column(column).is_valid(), True).as_py()
            told = f"{name}: column '{column}', row {row_start + at + 1:,}: must be empty, since hosts are to be placed"
            got = f"got '{batch.column(column)[at].as_py()}'; drop the column, or use --replace"
            findings.add("placed", column, f"{told}, {got}", count)


def _by_class(class_of: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Cut points of *rows* by class, and *rows* in order of class, else as they are."""
    of_rows = class_of[rows].astype(np.uint16)  # which are sorted by radix
    by_class = rows[np.argsort(of_rows, kind="stable")]
    return np.concatenate([[0], np.cumsum(np.bincount(of_rows, minlength=1))]), by_class


def _amount(room: Ints) -> str:
    return "any number of" if (room > NO_LIMIT // 2).any() else f"{room.sum() / MILLION:g}"


def _told(problems: Sequence[str]) -> list[str]:
    more = (
        [f"{problems[TOLD_MAX]}, like {len(problems) - TOLD_MAX - 1:,} more not listed here"]
        if len(problems) > TOLD_MAX
        else []
    )
    return [*problems[:TOLD_MAX], *more]


@dataclass(frozen=True, slots=True)
class _Vms:
    """The VMs of a region, in the order a prepared fleet has them: an order of ids.

    table         rows of the scratch file, in this order
    row           int64[V] where each is in the fleet
    key           int64[V] what its draws are addressed by
    id_rank       int64[V] its place in the order of `vm`
    set_row       int64[V] its set, counted from 0; -1 for a single
    fault_domain  int64[V] -1 for a single
    number        int64[V] likewise: the domain that hosts are aligned by, and that claims are of
    need, origin  as `needs_of` tells
    """

    table: pa.Table
    row: Ints
    key: Ints
    id_rank: Ints
    set_row: Ints
    fault_domain: Ints
    number: Ints
    need: Ints
    origin: Ints

    @classmethod
    def of(cls, region: str, spill: Spill, by: str, slots: bool, findings: Findings) -> "_Vms":
        table = spill.read(region)
        vm = one_chunk(table["vm"])
        sets = one_chunk(table["set"]) if "set" in table.column_names else pa.nulls(len(vm), pa.int64())
        if "set_kind" in table.column_names:
            kind = one_chunk(table["set_kind"]).cast(pa.string())
            is_scale_set = pc.equal(kind, "scale_set").fill_null(False).to_numpy(zero_copy_only=False)
            sets = sets.cast(pa.large_string()) if spill.has_long_scale_set() else sets
            sets = placement_groups(region, vm, sets, is_scale_set, findings)
        held = {name: one_chunk(table[name]) for name in table.column_names if "domain" in name}
        update, fault = (Domains(held.get(name), held.get(f"is_{name}_assigned")) for name in DOMAIN_COUNTS)
        order = order_region(region, vm, sets, update, fault, findings)
        if order.rows is not None:
            table = table.take(pa.array(order.rows))
            vm = one_chunk(table["vm"])
        single_count = len(vm) - order.in_set_count
        singles = np.full(single_count, -1)
        found = {
            "set_row": np.repeat(np.arange(len(order.set_offsets) - 1), np.diff(order.set_offsets)),
            "update_domain": np.repeat(order.unit_domain.astype(np.int64), order.unit_vm_count),
            "fault_domain": order.fault_domain.astype(np.int64),
        }
        found = {name: np.concatenate([values, singles]) for name, values in found.items()}
        id_rank = np.empty(len(vm), np.int64)
        id_rank[sorted_rows([vm])] = np.arange(len(vm))
        need, origin = needs_of(table, slots=slots)
        return cls(
            table,
            row=table[_ROW].to_numpy(),
            key=keys_of(vm),
            id_rank=id_rank,
            set_row=found["set_row"],
            fault_domain=found["fault_domain"],
            number=found[by],
            need=need,
            origin=origin,
        )


class _Rooms:
    """What the hosts of a region have left, and which domain numbers they and their racks carry: -1 for none yet."""

    def __init__(self, room: Ints, rack: Ints, keeps_racks: bool) -> None:
        self.room, self.rack = room, rack
        self.number = np.full(len(room), -1)
        self.fault = np.full(len(room), -1)
        self._keeps_racks = keeps_racks

    def _shares(
        self, hosts: Ints, need: Ints, class_of: Ints
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """What each of *hosts* holds and what each class needs, as shares of all *hosts*: of the scarcer resource."""
        room = self.room[hosts]
        is_limited = (room < NO_LIMIT // 2).all(axis=0)
        class_count = int(class_of.max(initial=-1)) + 1
        members = class_of >= 0
        supply, demand = np.zeros(len(hosts)), np.full(class_count, 1e-12)
        if not is_limited.any():
            counts = np.bincount(class_of[members], minlength=class_count)
            return np.full(len(hosts), 1 / len(hosts)), np.maximum(demand, counts / max(1, counts.sum()))
        for resource in np.flatnonzero(is_limited).tolist():
            total = max(1.0, float(room[:, resource].sum(dtype=np.float64)))
            supply = np.maximum(supply, room[:, resource] / total)
            needed = np.bincount(class_of[members], need[members, resource], class_count)
            demand = np.maximum(demand, needed / total)
        return supply, demand

    def deal_racks(self, hosts: Ints, fault: Ints, need: Ints) -> None:
        """Give the racks of *hosts* that have none yet a fault domain number in turn, by what the numbers need."""
        numbers, class_of = _classes(fault)
        on_rack = hosts[self.rack[hosts] >= 0]
        if not len(numbers) or not len(on_rack):
            return
        supply, demand = self._shares(on_rack, need, class_of)
        racks, first, rack_of = np.unique(self.rack[on_rack], return_index=True, return_inverse=True)
        of_rack = np.bincount(rack_of, supply, len(racks)).astype(np.float64)
        dealt = self._dealt(self.fault[on_rack[first]], numbers, of_rack, demand)
        self.fault[on_rack] = dealt[rack_of]

    def deal_hosts(self, hosts: Ints, number: Ints, fault: Ints, need: Ints) -> None:
        """Give those of *hosts* that have none a number, by what the numbers need; on racks, of their fault domain."""
        for of_racks in np.unique(self.fault[hosts]).tolist():
            own = hosts[self.fault[hosts] == of_racks]
            numbers, class_of = _classes(np.where((fault == of_racks) | (of_racks < 0), number, -1))
            if len(numbers):
                supply, demand = self._shares(own, need, class_of)
                self.number[own] = self._dealt(self.number[own], numbers, supply, demand)

    @staticmethod
    def _dealt(now: Ints, numbers: Ints, supply: npt.NDArray[np.float64], demand: npt.NDArray[np.float64]) -> Ints:
        """*now*, with one of *numbers* wherever it has none."""
        given = np.array([supply[now == number].sum() for number in numbers])
        is_open = now < 0
        class_of = np.empty(int(is_open.sum()), np.int64)
        placement.deal(supply[is_open], demand, given, class_of)
        dealt = now.copy()
        dealt[is_open] = numbers[class_of]
        return dealt


def _classes(numbers: Ints) -> tuple[Ints, Ints]:
    """The distinct *numbers* that are none of -1, and for each of *numbers* its place among them, or -1."""
    distinct = np.unique(numbers[numbers >= 0])
    return distinct, np.where(numbers >= 0, np.searchsorted(distinct, numbers), -1)


@dataclass(slots=True)
class _Tally:
    """Counts over the hosts of all regions."""

    used_count: int = 0
    claim_count: int = 0
    claims_max: int = 0
    one_number_count: int = 0
    numbers_mixed_count: int = 0
    sets_mixed_count: int = 0
    no_guarantee_count: int = 0
    rack_shared_count: int = 0

    def add(self, vms: _Vms, host_of: Ints, rack: Ints | None) -> None:
        """Count a region; *rack* is that of each host."""
        self.used_count += int((np.bincount(host_of) > 0).sum())
        is_in_set = vms.set_row >= 0
        set_row, domain, host = vms.set_row[is_in_set], vms.number[is_in_set], host_of[is_in_set]
        if not len(host):
            return
        claim_host, claim_set, claim_domain = _distinct(host, set_row, domain)
        claims = np.bincount(claim_host)
        self.claim_count += len(claim_host)
        self.claims_max = max(self.claims_max, int(claims.max()))
        is_mixed = (claim_host[1:] == claim_host[:-1]) & (claim_set[1:] == claim_set[:-1])
        self.sets_mixed_count += len(np.unique(claim_host[1:][is_mixed]))
        self.no_guarantee_count += len(np.unique(claim_set[1:][is_mixed]))
        number_host, _ = _distinct(claim_host, claim_domain)
        numbers = np.bincount(number_host)
        self.one_number_count += int((numbers == 1).sum())
        self.numbers_mixed_count += int((numbers > 1).sum())
        if rack is not None:
            is_on_rack = rack[host] >= 0
            fault = vms.fault_domain[is_in_set]
            on_rack, of_set, _ = _distinct(rack[host][is_on_rack], set_row[is_on_rack], fault[is_on_rack])
            is_shared = (on_rack[1:] == on_rack[:-1]) & (of_set[1:] == of_set[:-1])
            self.rack_shared_count += len(np.unique(of_set[1:][is_shared]))


def _distinct(*columns: Ints) -> tuple[Ints, ...]:
    """The distinct rows of *columns*, sorted; none is negative."""
    key = columns[0]
    for column in columns[1:]:
        key = key * (int(column.max(initial=0)) + 1) + column
    key = np.sort(key)  # numpy's own `unique` hashes first, which takes five times as long
    key = key[np.diff(key, prepend=-1) > 0]
    found = []
    for column in reversed(columns[1:]):
        key, part = np.divmod(key, int(column.max(initial=0)) + 1)
        found.append(part)
    return (key, *reversed(found))
