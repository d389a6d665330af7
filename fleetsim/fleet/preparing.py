"""Preparing a fleet: judged as a whole, put in the order of the engine, written with units and digests.

Two passes. The first spills what a `FleetSource` yields by region; the second orders and writes one region at
a time, so memory follows the largest region. All is made in a scratch folder near the destination and renamed
at the end: a prepared fleet is whole or not there. The same rows give the same bytes, in whatever order and
form they come.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetsim.errors import InputError
from fleetsim.fleet.facts import render_facts
from fleetsim.fleet.housing import WHERE, Housing, house
from fleetsim.fleet.order import (
    DOMAIN_COUNTS,
    Domains,
    Ints,
    Order,
    characters_of,
    keys_of,
    order_region,
    part_offsets,
    placement_groups,
)
from fleetsim.fleet.prepared import MANIFEST, PAIRS, PreparedFleet, open_prepared, relation_over, write_manifest
from fleetsim.fleet.read import TOLD_MAX, Findings, FleetSource, open_fleet, readable_again
from fleetsim.kernels.fit import MILLION, NO_LIMIT
from fleetsim.progress import Progress
from fleetsim.regions import Relation
from fleetsim.schema import (
    FLEET,
    NO_GUARANTEE,
    NO_ROW,
    PLACEMENT_GROUP_VMS,
    PREPARED,
    RESOURCES,
    TAKES,
    UNITS,
    NoGuarantee,
)
from fleetsim.storage import Url, as_input, check_writable, located, put_all, remove
from fleetsim.tables import (
    arrow_field,
    arrow_schema,
    check_new,
    coded,
    constant_text,
    folder_above,
    provenance_of,
    write_parquet,
)

if TYPE_CHECKING:
    from rich.console import Console

    from fleetsim.fleet.hosting import Inventory

_REGIONS_AT_ONCE = 2
_VMS_BESIDE = 1 << 23  # a region of more VMs is alone, and its parts on all threads: arrays of two cost more
_PARTS_AT_ONCE = 2
_COUNTED_BY = ("size", "workload")
_SHARED = ("vm", "set", "host")  # ids that must not be in two regions
_KEYS_AT_ONCE = 1 << 24  # compared at once when duplicates across regions are looked for


@dataclass(frozen=True, slots=True)
class Check:
    """What a fleet holds, from reading it whole. `notes`: what preparing it will settle.

    `domains_assigned_count` and `fault_domains_assigned_count` count sets whose update and fault domains are open,
    `created_count` and `deleted_count` VMs that have such an instant.
    """

    fleet: str
    vm_count: int
    set_count: int
    single_count: int
    unit_count: int
    no_guarantee_count: int
    domains_assigned_count: int
    fault_domains_assigned_count: int
    created_count: int
    deleted_count: int
    vm_count_by_region: Mapping[str, int]
    columns: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    invented: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    def render(self, console: "Console") -> None:
        """Print the facts to *console*."""
        facts = [
            ("VMs", f"{self.vm_count:,} in {len(self.vm_count_by_region):,} regions"),
            ("sets", f"{self.set_count:,}, and {self.single_count:,} VMs in none"),
            ("units", f"{self.unit_count:,} update domains with VMs"),
            *(
                [("lives", _lives(self.created_count, self.deleted_count))]
                * bool(self.created_count + self.deleted_count)
            ),
            ("columns", ", ".join(self.columns)),
            *(("note", sentence) for sentence in self.notes),
            *(("invented", sentence) for sentence in self.invented),
            *(("warning", sentence) for sentence in self.warnings),
        ]
        render_facts(console, f"fleet {self.fleet}: usable", facts)


def prepare(
    fleet: object,
    out: str | Path | Url,
    pairs: str | Path | None = None,
    *,
    hosts: object = None,
    slots: bool = False,
    host_vcpus: float | None = None,
    host_memory_gib: float | None = None,
    progress: Progress | None = None,
) -> PreparedFleet:
    """Prepare *fleet* into the new folder *out*: a path, or a URL, to which the files are put when all are made.

    fleet     a path (Parquet, a folder of it, CSV, Arrow, a prepared fleet) or an Arrow table of any library
    pairs     CSV with the relation of regions, instead of the built-in one
    hosts     an inventory of the hosts that the fleet is on, likewise: what they have room for, and which are spare.
              Without it nobody knows where a VM could move to
    slots, host_vcpus, host_memory_gib  as for `fits`: with *hosts*
    progress  called now and then, from this thread

    Raises `InputError` with everything that is wrong about the fleet; nothing is written then.
    """
    out = located(out)
    with as_input():
        check_new(out)
    if isinstance(out, Url):
        check_writable(out)
    # In a folder that is there already: unusable input must not leave even an empty one.
    above = folder_above(out) if isinstance(out, Path) else None
    relation = relation_over(fleet, pairs)
    needs = None
    if hosts is not None:
        from fleetsim.fleet.fitting import fit
        from fleetsim.fleet.hosting import read_inventory

        fleet, inventory = readable_again(fleet), read_inventory(hosts, relation, host_vcpus, host_memory_gib)
        fit(fleet, inventory, relation, slots=slots)
        needs = _Needs(inventory, slots)
    source = open_fleet(fleet, relation)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=above) as scratch:
        made = Path(scratch) / "prepared"
        _Preparation(source, relation, Path(scratch), made, needs).arrange(progress).write_facts(made)
        if isinstance(out, Path):
            out.parent.mkdir(parents=True, exist_ok=True)
            made.rename(out)
        else:
            _put(made, out)
    return open_prepared(out)


def _put(made: Path, out: Url) -> None:
    """Put what is *made* to *out*: all of it, or nothing."""
    try:
        put_all(made, out, MANIFEST)
    except BaseException:
        remove(out)
        raise


def check(fleet: object, pairs: str | Path | None = None, *, progress: Progress | None = None) -> Check:
    """Read and judge *fleet* as `prepare` would; only scratch files are written, in the system's folder."""
    relation = relation_over(fleet, pairs)
    source = open_fleet(fleet, relation)
    with tempfile.TemporaryDirectory(prefix="fleetsim-check.") as scratch:
        return _Preparation(source, relation, Path(scratch), None).arrange(progress).check()


@dataclass(frozen=True, slots=True)
class _Needs:
    """What hosts have room for, and how what a VM takes of one is counted."""

    inventory: "Inventory"
    slots: bool

    def spare_count(self, region: str) -> int:
        return int(np.count_nonzero(self.inventory.is_spare & (self.inventory.region == region)))

    def columns_of(self, table: pa.Table) -> tuple[dict[str, pa.Array], int]:
        """What each VM of *table* takes, as a prepared fleet has it; and how many do not say, nor does their size."""
        from fleetsim.fleet.hosting import needs_of

        need, origin = needs_of(table, slots=self.slots)
        takes = {name: pa.array(need[:, resource] / MILLION) for resource, name in enumerate(TAKES)}
        return takes, 0 if self.slots else int(np.count_nonzero(origin == 2))

    def placed(self, table: pa.Table, housing: Housing | None) -> pa.Table:
        """*table*, in which VMs are where their hosts are, as far as only the inventory says so."""
        for name in self.inventory.places:
            of_vm = pa.nulls(len(table), pa.string())
            if housing is not None:
                of_vm = housing.where[name].take(pa.array(housing.number))
            if name in table.column_names:
                own = one_chunk(table[name]).cast(pa.string())
                of_vm = pc.coalesce(own, of_vm)
                table = table.drop_columns([name])
            table = table.append_column(name, of_vm.dictionary_encode())
        return table

    def warnings(self, untold_vm_count: int, lonely_spare_count: int) -> Iterator[str]:
        """What about the inventory, and what VMs take of it, may not be as it is meant."""
        name, inventory = self.inventory.name, self.inventory
        yield from inventory.warnings
        for resource, column in enumerate(RESOURCES):
            is_limited = inventory.room[:, resource] < NO_LIMIT
            if 0 < np.count_nonzero(is_limited) < len(is_limited):
                count = int(np.count_nonzero(~is_limited))
                yield f"{name}: {count:,} of {len(is_limited):,} hosts do not tell their {column}: they take any amount"
        if untold_vm_count:
            yield (
                f"{name}: {untold_vm_count:,} VMs of the fleet tell neither vCPUs nor a size that is listed: each takes"
                " one vCPU and no memory"
            )
        if lonely_spare_count:
            yield (
                f"{name}: {lonely_spare_count:,} spare hosts are in no cluster of a host with VMs, so nobody can move"
                " there: name the cluster they stand in for"
            )


@dataclass(frozen=True, slots=True)
class _RegionMade:
    """What arranging one region gave. Paths of its parts are relative to the folder."""

    region: str
    vm_count: int
    set_count: int
    single_count: int
    unit_count: int
    domains_assigned_count: int
    fault_domains_assigned_count: int
    vm_counts_by_word: Mapping[str, Counter[str]]  # of the columns of _COUNTED_BY
    no_guarantee_set: pa.Array
    no_guarantee_reason: npt.NDArray[np.int8]
    hosts: Mapping[str, Any] | None  # facts of them
    takes_digest: str  # of what its VMs take, where an inventory says what hosts have
    untold_vm_count: int  # VMs that say nothing of that
    lonely_spare_count: int  # spare hosts that no VM could go to
    parts: list[dict[str, Any]]
    findings: Findings


class _Preparation:
    """One fleet on its way from a source to a folder, or with `out` None, to being known."""

    def __init__(
        self, source: FleetSource, relation: Relation, scratch: Path, out: Path | None, needs: _Needs | None = None
    ) -> None:
        self.source = source
        self.needs = needs
        self.relation = relation
        self.scratch = scratch
        self.out = out
        self.regions: list[_RegionMade] = []
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.host_count = 0
        for what in ("spill", *_SHARED):
            (scratch / what).mkdir()
        self.spill = Spill(scratch / "spill", source.schema)
        self.set_type = pa.int64()
        # Not those of regions, which wait for their parts.
        self.part_threads = ThreadPoolExecutor(_PARTS_AT_ONCE)

    def arrange(self, progress: Progress | None) -> "_Preparation":
        """Both passes. Faults of fields are raised after the first, those between rows after the second."""
        findings = Findings()
        with self.spill as spill:
            for batch in self.source.batches(findings):
                spill.add(batch)
                if progress is not None:
                    progress("read", spill.vm_count, max(spill.vm_count, self.source.row_count))
        findings.raise_any()
        if not 0 < spill.vm_count < NO_ROW:
            raise InputError(
                f"{self.source.name}: must hold at least one VM and less than {NO_ROW:,}, got {spill.vm_count:,}"
            )
        self._settle_set_type()
        regions = sorted(spill.vm_counts, key=lambda region: (self.relation.pair_group(region), region))
        row_starts = np.cumsum([0, *(spill.vm_counts[region] for region in regions)]).tolist()
        host_counts = {region: spill.host_count(region) for region in regions}
        if self.needs is not None:
            for name in [name for name, count in host_counts.items() if count]:
                host_counts[name] += self.needs.spare_count(name)
        self.host_count = sum(host_counts.values())
        host_starts = np.cumsum([0, *host_counts.values()]).tolist()
        at_once = _REGIONS_AT_ONCE if max(spill.vm_counts.values()) <= _VMS_BESIDE else 1
        with self.part_threads, ThreadPoolExecutor(at_once) as threads:
            for region in threads.map(self._arrange_region, regions, row_starts, host_starts):
                self.regions.append(region)
                findings.merge(region.findings)
                if progress is not None:
                    progress("prepare", row_starts[len(self.regions)], row_starts[-1])
        for what in _SHARED:
            self._find_shared(what, findings)
        findings.raise_any()
        self.warnings += [
            f"{self.source.name}: column '{name}' is ignored for VMs in no set ({stray_count:,} rows)"
            for name, stray_count in spill.on_single_counts.items()
            if stray_count
        ]
        if self.needs is not None:
            names = ("untold_vm_count", "lonely_spare_count")
            self.warnings += self.needs.warnings(*(sum(getattr(each, name) for each in self.regions) for name in names))
        return self

    def _settle_set_type(self) -> None:
        if self.spill.in_set_count:
            self.set_type = self.source.schema.field("set").type
        if self.set_type == pa.int64() and self.spill.has_long_scale_set():
            self.set_type = pa.large_string()
            self.notes.append(
                f"scale sets of more than {PLACEMENT_GROUP_VMS} VMs are cut into placement groups named"
                " after them:"
                " set ids become text"
            )

    def _arrange_region(self, region: str, vm_row_start: int, host_row_start: int) -> _RegionMade:
        """Judge, order and write one region; its sorted keys stay in the scratch folder."""
        findings = Findings()
        table = self.spill.stored(region)
        vm = one_chunk(table["vm"])
        table = table.set_column(table.column_names.index("vm"), "vm", vm)
        if "set" in table.column_names:
            sets = one_chunk(table["set"]).cast(self.set_type)
        else:
            sets = pa.nulls(len(vm), self.set_type)
            table = table.append_column("set", sets)
        np.save(self.scratch / "vm" / f"{region}.npy", np.sort(keys_of(vm)))
        if sets.null_count < len(sets):
            np.save(self.scratch / "set" / f"{region}.npy", np.sort(keys_of(pc.unique(sets.drop_null()))))
        if "set_kind" in table.column_names:
            kind = one_chunk(table["set_kind"]).cast(pa.string())
            is_scale_set = pc.equal(kind, "scale_set").fill_null(False).to_numpy(zero_copy_only=False)
            sets = placement_groups(region, vm, sets, is_scale_set, findings)
        table = table.set_column(table.column_names.index("set"), "set", sets)
        housing = self._house(region, table, vm, findings)
        held = {name: one_chunk(table[name]) for name in table.column_names if "domain" in name}
        update, fault = (Domains(held.get(name), held.get(f"is_{name}_assigned")) for name in DOMAIN_COUNTS)
        components = None if housing is None else housing.components
        order = order_region(region, vm, sets, update, fault, findings, components)
        if order.rows is not None:
            table = table.combine_chunks()  # taking rows of chunks would join them for each part

        set_first = order.set_offsets[:-1]
        set_name = sets.take(pa.array(set_first if order.rows is None else order.rows[set_first]))
        set_size = np.diff(order.set_offsets)
        is_weak = np.bincount(order.unit_set, minlength=len(set_size)) == 1
        reason = np.where(set_size == 1, NoGuarantee.ONE_VM, NoGuarantee.ONE_DOMAIN)
        hosts_path = None
        if housing is not None and self.out is not None:
            hosts_path = f"hosts/region={region}/part-00000.parquet"
            hosts = housing.table(region, host_row_start)
            hosts_sha256, hosts_digest = write_parquet(self.out / hosts_path, hosts), _rows_digest(hosts)
        made_columns: dict[str, pa.Array] = {}
        untold_vm_count, takes_digest = 0, ""
        if self.needs is not None:
            made_columns, untold_vm_count = self.needs.columns_of(table)
            takes = pa.table(made_columns)
            takes_digest = _rows_digest(takes if order.rows is None else takes.take(pa.array(order.rows)))
            table = self.needs.placed(table, housing)
        if self.host_count:
            host_row = pa.nulls(len(vm), pa.uint32())
            if housing is not None:
                host_row = pa.array((housing.number + host_row_start).astype(np.uint32))
            made_columns["host_row"] = host_row
        return _RegionMade(
            region,
            vm_count=len(vm),
            set_count=len(set_size),
            single_count=len(vm) - order.in_set_count,
            unit_count=len(order.unit_set),
            domains_assigned_count=int(order.is_update_domain_assigned.sum()),
            fault_domains_assigned_count=int(order.is_fault_domain_assigned.sum()),
            vm_counts_by_word={
                name: _vm_counts(one_chunk(table[name])) for name in _COUNTED_BY if name in table.column_names
            },
            no_guarantee_set=set_name.filter(pa.array(is_weak)),
            no_guarantee_reason=reason[is_weak].astype(np.int8),
            hosts=None
            if housing is None or hosts_path is None
            else {
                "path": hosts_path,
                "host_count": len(housing),
                "sha256": hosts_sha256,
                "rows": hosts_digest,
                "without": housing.without(),
            },
            takes_digest=takes_digest,
            untold_vm_count=untold_vm_count,
            lonely_spare_count=0 if housing is None else housing.lonely_spare_count,
            parts=[]
            if self.out is None
            else _write_parts(
                self.out,
                region,
                table,
                order,
                set_key=keys_of(set_name),
                row_start=vm_row_start,
                flagged=self.spill.dealt_domains(),
                made_columns=made_columns,
                threads=self.part_threads,
            ),
            findings=findings,
        )

    def _house(self, region: str, table: pa.Table, vm: pa.Array, findings: Findings) -> Housing | None:
        """The hosts of *region*, if it has some; their sorted keys stay in the scratch folder."""
        if "host" not in table.column_names:
            return None
        where = {name: one_chunk(table[name]) for name in WHERE if name in table.column_names}
        inventory = None if self.needs is None else self.needs.inventory
        housing = house(self.source.name, region, vm, one_chunk(table["host"]), where, findings, inventory)
        if housing is not None:
            np.save(self.scratch / "host" / f"{region}.npy", np.sort(keys_of(housing.ids)))
        return housing

    def _find_shared(self, what: str, findings: Findings) -> None:
        """Find VMs that are there twice, or sets or hosts that are in two regions, by sorted keys.

        Keys of all regions are compared range by range, so memory is bounded; equal keys are looked up by
        value, as two strings may share one.
        """
        files = {region.region: self.scratch / what / f"{region.region}.npy" for region in self.regions}
        files = {region: file for region, file in files.items() if file.exists()}
        suspects = np.concatenate([merged[1:][merged[1:] == merged[:-1]] for merged in _merged(list(files.values()))])
        if not len(suspects):
            return
        places: dict[Any, list[str]] = {}
        for region in files:
            column = self.spill.stored(region)[what]
            values = one_chunk(column.cast(self.set_type) if what == "set" else column).drop_null()
            for value in values.filter(pa.array(np.isin(keys_of(values), suspects))).to_pylist():
                places.setdefault(value, []).append(region)
        regions_met = {value: list(dict.fromkeys(met)) for value, met in places.items()}
        if what != "vm":
            for value, met in sorted(regions_met.items()):
                if len(met) > 1:
                    where = " and ".join(f"'{region}'" for region in met)
                    told = f"a {what} must be in one region, got '{value}' in {where}"
                    findings.add(what, value, f"{self.source.name}: column '{what}': {told}")
            return
        twice = sorted(value for value, met in places.items() if len(met) > 1)
        rows = self.source.rows_with("vm", twice[:TOLD_MAX])
        for value in twice:
            met = rows.get(value) or [f"region '{region}'" for region in regions_met[value]]
            where = " and ".join(met[:3]) + f" and {len(met) - 3} more" * (len(met) > 3)
            told = f"must be unique, got '{value}' {len(places[value])} times, in {where}"
            findings.add(what, value, f"{self.source.name}: column 'vm': {told}")

    def check(self) -> Check:
        """What the fleet holds."""
        counts = self._counts()
        assigned = {
            "update_domain": counts["domains_assigned_count"],
            "fault_domain": counts["fault_domains_assigned_count"],
        }
        told = [
            f"over {DOMAIN_COUNTS[name]} {name.replace('_', ' ')}s in {set_count:,} sets"
            for name, set_count in assigned.items()
            if set_count
        ]
        notes = (
            [f"VMs of sets that give no domains are spread round robin, by id: {' and '.join(told)}"] if told else []
        )
        return Check(
            fleet=self.source.name,
            **counts,
            created_count=self.spill.created_count,
            deleted_count=self.spill.deleted_count,
            unit_count=sum(region.unit_count for region in self.regions),
            no_guarantee_count=sum(len(region.no_guarantee_set) for region in self.regions),
            vm_count_by_region={region.region: region.vm_count for region in self.regions},
            columns=tuple(name for name in self.source.schema.names if name not in PREPARED.names()),
            warnings=(*self.source.warnings, *self.warnings),
            notes=(*notes, *self.notes),
            invented=tuple(self.source.invented),
        )

    def write_facts(self, out: Path) -> None:
        """Write what lies beside the parts; the manifest last."""
        identity = pa.int64() if self.set_type == pa.int64() else pa.string()
        schema = arrow_schema(NO_GUARANTEE, provenance_of(), identity)
        no_guarantee = [
            pa.Table.from_arrays(
                [
                    constant_text(region.region, np.zeros(len(region.no_guarantee_set), np.int32)),
                    region.no_guarantee_set.cast(identity),
                    coded(NO_GUARANTEE["reason"], region.no_guarantee_reason),
                ],
                schema=schema,
            )
            for region in self.regions
        ]
        joined = pa.concat_tables(no_guarantee).unify_dictionaries().combine_chunks()
        write_parquet(out / "no_guarantee.parquet", joined)
        (out / PAIRS).write_text(self.relation.to_csv(), "utf-8")
        write_manifest(
            out,
            [
                {
                    "region": region.region,
                    "pair_group": self.relation.pair_group(region.region),
                    "vm_count": region.vm_count,
                    "hosts": region.hosts,
                    "parts": region.parts,
                }
                for region in self.regions
            ],
            pairs_digest=self.relation.digest,
            hosts_digest=self._hosts_digest(),
            host_count=self.host_count,
            **self._counts(),
            vm_is_string=self.source.schema.field("vm").type != pa.int64(),
            has_lifetimes=self.spill.created_count + self.spill.deleted_count > 0,
            sizes=self._vm_counts_of("size"),
            workloads=self._vm_counts_of("workload"),
            invented=self.source.invented,
            warnings=[*self.source.warnings, *self.warnings],
        )

    def _hosts_digest(self) -> str | None:
        """sha256 of what the inventory says of the hosts, and VMs take of them, in hex; None without one."""
        if self.needs is None:
            return None
        digests = [region.hosts["rows"] for region in self.regions if region.hosts is not None]
        digests += [region.takes_digest for region in self.regions]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def _counts(self) -> dict[str, int]:
        names = ("vm_count", "set_count", "single_count", "domains_assigned_count", "fault_domains_assigned_count")
        return {name: sum(getattr(region, name) for region in self.regions) for name in names}

    def _vm_counts_of(self, name: str) -> dict[str, int]:
        """VMs by word of the text column *name*, in order of words; those without are in none."""
        counts = sum((region.vm_counts_by_word.get(name, Counter()) for region in self.regions), Counter[str]())
        return dict(sorted(counts.items()))


class Spill(AbstractContextManager["Spill"]):
    """Rows of a fleet, a file a region: batches come in any order, regions go out one at a time."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder = folder
        self._schema = schema.remove(schema.get_field_index("region"))
        self._writers: dict[str, pa.RecordBatchStreamWriter] = {}
        self._open = ExitStack()
        self.vm_counts: dict[str, int] = {}
        self.vm_count = 0
        self.in_set_count = 0
        self.created_count = 0
        self.deleted_count = 0
        self.on_single_counts = dict.fromkeys(DOMAIN_COUNTS, 0)
        self._dealt_counts = dict.fromkeys(DOMAIN_COUNTS, 0)

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Append the rows of *batch* to the files of their regions, in their order."""
        if not batch.num_rows:
            return
        self._count(batch)
        words, codes = (
            batch.column("region").dictionary.to_pylist(),
            batch.column("region").indices.to_numpy(),
        )
        batch = batch.select(self._schema.names)
        if codes.min() == codes.max():
            self._append(words[codes[0]], batch)
            return
        # Codes of 16 bits are sorted by radix.
        order = np.argsort(codes.astype(np.uint16) if len(words) <= 1 << 16 else codes, kind="stable")
        batch = batch.take(pa.array(order))
        offsets = np.searchsorted(codes[order], np.arange(len(words) + 1)).tolist()
        for word, (start, stop) in zip(words, pairwise(offsets), strict=True):
            if start < stop:
                self._append(word, _compact(batch.slice(start, stop - start)))

    def _count(self, batch: pa.RecordBatch) -> None:
        self.vm_count += batch.num_rows
        filled = {name: batch.num_rows - batch.column(name).null_count for name in batch.schema.names}
        self.created_count += filled.get("created", 0)
        self.deleted_count += filled.get("deleted", 0)
        in_set_count = filled.get("set", 0)
        self.in_set_count += in_set_count
        for name in DOMAIN_COUNTS:
            given_count = filled.get(name, 0)
            if given_count and in_set_count < batch.num_rows:
                is_single = batch.column("set").is_null() if in_set_count else pa.repeat(True, batch.num_rows)
                on_single_count = pc.and_(is_single, batch.column(name).is_valid()).true_count
                self.on_single_counts[name] += on_single_count
                given_count -= on_single_count
            was_dealt = f"is_{name}_assigned"
            self._dealt_counts[name] += in_set_count - given_count
            self._dealt_counts[name] += batch.column(was_dealt).true_count if was_dealt in filled else 0

    def host_count(self, region: str) -> int:
        """Hosts of *region*."""
        if "host" not in self._schema.names:
            return 0
        hosts = self.stored(region)["host"]
        return 0 if hosts.null_count else len(pc.unique(hosts))

    def dealt_domains(self) -> list[str]:
        """Columns of domains that some VM in a set does not give, or has as a prepared fleet dealt it."""
        return [name for name, count in self._dealt_counts.items() if count]

    def _append(self, region: str, batch: pa.RecordBatch) -> None:
        if region not in self._writers:
            sink = self._open.enter_context(pa.OSFile(str(self._folder / region), "wb"))
            self._writers[region] = self._open.enter_context(pa.ipc.new_stream(sink, self._schema))
            self.vm_counts[region] = 0
        self._writers[region].write_batch(batch)
        self.vm_counts[region] += batch.num_rows

    def stored(self, region: str) -> pa.Table:
        """All rows of *region*, in chunks as they came; the memory is the file's."""
        with pa.ipc.open_stream(pa.memory_map(str(self._folder / region))) as reader:
            return reader.read_all().unify_dictionaries()

    def read(self, region: str) -> pa.Table:
        """All rows of *region*, a chunk a column; the memory is the file's where it can be."""
        table = self.stored(region)
        return table if table["vm"].num_chunks == 1 else table.combine_chunks()

    def has_long_scale_set(self) -> bool:
        """Whether a scale set has more VMs than a placement group."""
        if not {"set", "set_kind"} <= set(self._schema.names):
            return False
        for region in self.vm_counts:
            table = self.stored(region)
            in_scale_set = table.filter(pc.equal(table["set_kind"].cast(pa.string()), "scale_set"))
            counts = pc.value_counts(in_scale_set["set"].drop_null()).field("counts")
            if len(counts) and pc.max(counts).as_py() > PLACEMENT_GROUP_VMS:
                return True
        return False


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """*batch* with dictionaries hardly longer than itself: a spill must not grow with its regions."""
    columns = [
        column.dictionary_decode().dictionary_encode()
        if pa.types.is_dictionary(column.type) and len(column.dictionary) > max(len(column), 1024)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _merged(files: list[Path]) -> Iterator[Ints]:
    """The sorted arrays in *files* as one, in ranges of about _KEYS_AT_ONCE; equal keys share a range."""

    def keys() -> list[Ints]:
        # Opened anew for each range: what was read of a file stays in memory while it is mapped.
        return [np.load(file, mmap_mode="r") for file in files] or [np.empty(0, np.int64)]

    sample = np.sort(np.concatenate([part[:: max(1, len(part) // 4096)] for part in keys()]))
    range_count = 1 + sum(len(part) for part in keys()) // _KEYS_AT_ONCE
    bounds = np.unique(sample[(np.arange(1, range_count) * len(sample)) // range_count])
    cuts = [[0, *np.searchsorted(part, bounds).tolist(), len(part)] for part in keys()]
    for place in range(len(bounds) + 1):
        ranges = [part[cut[place] : cut[place + 1]] for part, cut in zip(keys(), cuts, strict=True)]
        yield np.sort(np.concatenate(ranges))


def _write_parts(
    out: Path,
    region: str,
    table: pa.Table,
    order: Order,
    *,
    set_key: Ints,
    row_start: int,
    flagged: list[str],
    made_columns: Mapping[str, pa.Array],
    threads: ThreadPoolExecutor,
) -> list[dict[str, Any]]:
    """Write the parts of *region*, and their units, on *threads*. The facts of each, paths relative to *out*.

    Which sets were dealt their domains is written for the columns *flagged*; *made_columns* are of the rows as read.
    """
    unit_offsets = np.concatenate([[0], np.cumsum(order.unit_vm_count)])
    domains = {"update_domain": np.repeat(order.unit_domain, order.unit_vm_count), "fault_domain": order.fault_domain}
    set_flags = {
        "update_domain": order.is_update_domain_assigned,
        "fault_domain": order.is_fault_domain_assigned,
    }
    set_size = np.diff(order.set_offsets)
    units_schema = arrow_schema(UNITS, provenance_of())

    def write(number: int, start: int, stop: int) -> dict[str, Any]:
        is_single = np.arange(start, stop) >= order.in_set_count
        made = {
            name: pa.array(_filled(domain[start:stop], stop - start), mask=is_single)
            for name, domain in domains.items()
        }
        rows = slice(start, stop) if order.rows is None else order.rows[start:stop]
        part = _canonical(table, rows, region, made)
        rows_digest = _rows_digest(part)
        set_start, set_stop = np.searchsorted(order.set_offsets[:-1], [start, stop]).tolist()
        units = slice(*np.searchsorted(unit_offsets[:-1], [start, stop]))
        unit_set = order.unit_set[units]
        unit_columns = {
            "set_row": (unit_set - set_start).astype(np.uint32),
            "set_key": set_key[unit_set],
            "update_domain": order.unit_domain[units],
            "vm_count": order.unit_vm_count[units].astype(np.uint32),
        }
        path, units_path = (f"{folder}/region={region}/part-{number:05}.parquet" for folder in ("fleet", "units"))
        own_sets = slice(set_start, set_stop)
        flags = {
            f"is_{name}_assigned": _filled(np.repeat(set_flags[name][own_sets], set_size[own_sets]), stop - start)
            for name in flagged
        }
        made_after = {name: pa.array(flag) for name, flag in flags.items()}
        for name, column in made_columns.items():
            made_after[name] = column[rows] if isinstance(rows, slice) else column.take(pa.array(rows))
        sha256 = write_parquet(out / path, _with_rows(part, row_start + start, made_after, rows_digest))
        write_parquet(out / units_path, pa.table(unit_columns, schema=units_schema))
        return {
            "number": number,
            "path": path,
            "units_path": units_path,
            "vm_row_start": row_start + start,
            "vm_count": stop - start,
            "set_count": set_stop - set_start,
            "unit_count": len(unit_set),
            "single_count": int(is_single.sum()),
            "sha256": sha256,
            "rows": rows_digest,
        }

    bounds = part_offsets(order.set_offsets, table.num_rows)
    return list(threads.map(write, range(len(bounds) - 1), bounds[:-1], bounds[1:]))


def _filled(values: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
    """*values*, and zeros after them up to *length*."""
    return np.concatenate([values, np.zeros(length - len(values), values.dtype)])


def _vm_counts(column: pa.DictionaryArray) -> Counter[str]:
    """VMs by word of *column*."""
    counts = np.bincount(column.indices.drop_null(), minlength=len(column.dictionary))
    return Counter(
        {word: count for word, count in zip(column.dictionary.to_pylist(), counts.tolist(), strict=True) if count}
    )


def _lives(created_count: int, deleted_count: int) -> str:
    return f"{created_count:,} VMs with a `created`, {deleted_count:,} with a `deleted`"


def _canonical(table: pa.Table, rows: slice | Ints, region: str, domains: Mapping[str, pa.Array]) -> pa.Table:
    """The fleet columns of *rows*: the same rows give the same arrays, however the source held them."""
    row_count = len(domains["update_domain"])

    def picked(name: str) -> pa.Array:
        column = table[name]
        part = one_chunk(column[rows]) if isinstance(rows, slice) else one_chunk(column).take(pa.array(rows))
        if pa.types.is_dictionary(part.type):
            # Words in the order in which they are met, and no others.
            codes = part.indices.dictionary_encode()
            return pa.DictionaryArray.from_arrays(codes.indices, part.dictionary.take(codes.dictionary))
        return part.cast(pa.string()) if part.type == pa.large_string() else part

    made = {"region": constant_text(region, np.zeros(row_count, np.int32)), **domains}
    columns, fields = [], []
    for column in FLEET.columns:
        if column.name in made or column.name in table.column_names:
            columns.append(made[column.name] if column.name in made else picked(column.name))
            fields.append(arrow_field(column, columns[-1].type))
    for name in table.column_names:
        if name not in (*FLEET.names(), *PREPARED.names()):
            columns.append(picked(name))
            fields.append(pa.field(name, columns[-1].type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _with_rows(part: pa.Table, vm_row_start: int, made: Mapping[str, pa.Array], rows_digest: str) -> pa.Table:
    """*part* with what only a prepared fleet has, and its metadata."""
    vm_row = np.arange(vm_row_start, vm_row_start + part.num_rows, dtype=np.uint32)
    part = part.append_column(arrow_field(PREPARED["vm_row"]), pa.array(vm_row))
    if part.schema.field("vm").type != pa.int64():
        part = part.append_column(arrow_field(PREPARED["vm_key"]), pa.array(keys_of(one_chunk(part["vm"]))))
    for name, column in made.items():
        part = part.append_column(arrow_field(PREPARED[name]), column)
    return part.replace_schema_metadata({"fleetsim.table": FLEET.name, **provenance_of(rows_digest=rows_digest)})


def _rows_digest(part: pa.Table) -> str:
    """sha256 over names, types and values of *part*, whatever its chunks, offsets and null slots hold."""
    digest = hashlib.sha256()
    for name, column in zip(part.column_names, part.columns, strict=True):
        digest.update(f"{name}\0{column.type}\0{len(column)}\0".encode())
        for content in _contents(one_chunk(column)):
            digest.update(content.tobytes())
    return digest.hexdigest()


def _contents(array: pa.Array) -> Iterator[npt.NDArray[Any]]:
    """What *array* holds, as arrays of plain numbers; two equal arrays hold equal ones."""
    if pa.types.is_dictionary(array.type):
        yield from _contents(array.indices)
        yield from _contents(array.dictionary)
        return
    if array.null_count:
        yield np.packbits(array.is_valid().to_numpy(zero_copy_only=False))
        array = array.drop_null()
    yield np.array([len(array)])
    if pa.types.is_string(array.type):
        cuts, characters = characters_of(array)
        yield np.diff(cuts)
        yield characters[cuts[0] : cuts[-1]]
    elif pa.types.is_boolean(array.type):
        yield np.packbits(array.to_numpy(zero_copy_only=False))
    elif len(array):
        width = array.type.bit_width // 8
        yield np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width :][: len(array) * width]


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """*column* as one array, copied only where it comes in chunks."""
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    if isinstance(joined, pa.ChunkedArray):
        joined = joined.chunk(0) if joined.num_chunks else pa.array([], joined.type)
    return joined
