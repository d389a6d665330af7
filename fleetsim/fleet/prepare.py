"""Prepared fleets: the fleet in the order of the engine, judged as a whole, with its units and its digest.

Two passes. The first spills what a `FleetSource` yields by region; the second sorts and writes one region at a time,
so memory follows the largest region. Everything is made in a scratch folder beside the destination and renamed at the
end: a prepared fleet is whole or not there. The same rows give the same bytes, in whatever order and form they come.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fleetsim import __version__
from fleetsim.errors import InputError
from fleetsim.fleet.read import FleetSource, Findings, Progress, open_fleet
from fleetsim.kernels.rng import digest_strings
from fleetsim.regions import Relation, load_relation
from fleetsim.schema import (
    FLEET,
    NO_GUARANTEE,
    NO_ROW,
    PREPARED,
    SCHEMA_VERSION,
    UNITS,
    UPDATE_DOMAIN_COUNT_DEFAULT,
    NoGuarantee,
)
from fleetsim.tables import (
    arrow_field,
    arrow_schema,
    coded,
    constant_text,
    provenance_of,
    write_atomic,
    write_parquet,
)

PART_ROWS = 1 << 20
"""VMs of a part, at most, unless a single set is larger."""
PLACEMENT_GROUP_VMS = 100
"""VMs of a placement group of a scale set, at most (rules.md R36)."""

_Ints = npt.NDArray[np.int64]
_TEXT = pa.dictionary(pa.int32(), pa.string())
_REGIONS_AT_ONCE = 2
_LOOKED_AT_ONCE = 1 << 24  # keys compared at once when duplicates across regions are looked for


@dataclass(frozen=True, slots=True)
class PreparedPart:
    """A slice of a prepared region: whole sets, then singles. `rows` is the digest of its rows, in hex."""

    number: int
    path: Path
    units_path: Path
    vm_row_start: int
    vm_count: int
    set_count: int
    unit_count: int
    single_count: int
    sha256: str
    rows: str


@dataclass(frozen=True, slots=True)
class PreparedRegion:
    """One region of a prepared fleet, in vm_row order."""

    region: str
    pair_group: str
    vm_count: int
    parts: tuple[PreparedPart, ...]


@dataclass(frozen=True, slots=True)
class PreparedFleet:
    """A prepared fleet on disk. `domains_assigned_count`: sets whose update domains the fleet left open."""

    path: Path
    fleet_digest: str
    pairs_digest: str
    vm_count: int
    set_count: int
    single_count: int
    regions: tuple[PreparedRegion, ...]
    invented: tuple[str, ...]
    warnings: tuple[str, ...]
    domains_assigned_count: int
    vm_is_string: bool


@dataclass(frozen=True, slots=True)
class Check:
    """What a fleet holds, from reading it whole. `notes`: what preparing it will settle."""

    vm_count: int
    set_count: int
    single_count: int
    unit_count: int
    no_guarantee_count: int
    domains_assigned_count: int
    vm_count_by_region: Mapping[str, int]
    columns: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    invented: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "vm_count": self.vm_count,
            "set_count": self.set_count,
            "single_count": self.single_count,
            "unit_count": self.unit_count,
            "no_guarantee_count": self.no_guarantee_count,
            "domains_assigned_count": self.domains_assigned_count,
            "vm_count_by_region": dict(self.vm_count_by_region),
            "columns": list(self.columns),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "invented": list(self.invented),
        }


def prepare(
    fleet: object, out: str | Path, pairs: str | Path | None = None, *, progress: Progress | None = None
) -> PreparedFleet:
    """Prepare *fleet* (a path or an Arrow object) into the new folder *out*, under the region pairs in *pairs*.

    Raises `InputError` with everything wrong about the fleet, and then writes nothing.
    """
    out = Path(out)
    _refuse_existing(out)
    relation = load_relation(pairs)
    source = open_fleet(fleet, relation)
    ancestor = next(folder for folder in out.absolute().parents if folder.exists())
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=ancestor) as scratch:
        made = Path(scratch) / "prepared"
        fleet_made = _arrange_fleet(source, relation, Path(scratch), made, progress)
        (made / "pairs.csv").write_text(relation.to_csv(), "utf-8")
        _write_manifest(made, fleet_made, relation, source)
        out.parent.mkdir(parents=True, exist_ok=True)
        made.rename(out)
    return open_prepared(out)


def check(fleet: object, pairs: str | Path | None = None) -> Check:
    """Read and judge *fleet* as `prepare` would. Nothing is written but scratch files, in the system's folder for them."""
    relation = load_relation(pairs)
    source = open_fleet(fleet, relation)
    with tempfile.TemporaryDirectory(prefix="fleetsim-check.") as scratch:
        arranged = _arrange_fleet(source, relation, Path(scratch), None, None)
    notes = []
    if arranged.domains_assigned_count:
        notes.append(
            f"{arranged.domains_assigned_count:,} sets give no update domains: their VMs are spread over"
            f" {UPDATE_DOMAIN_COUNT_DEFAULT} domains round robin, by id"
        )
    notes.extend(arranged.notes)
    return Check(
        vm_count=arranged.vm_count,
        set_count=arranged.set_count,
        single_count=arranged.vm_count - arranged.in_set_count,
        unit_count=arranged.unit_count,
        no_guarantee_count=arranged.no_guarantee_count,
        domains_assigned_count=arranged.domains_assigned_count,
        vm_count_by_region={region.region: region.vm_count for region in arranged.regions},
        columns=tuple(source.schema.names),
        warnings=(*source.warnings, *arranged.warnings),
        notes=tuple(notes),
        invented=tuple(source.invented),
    )


def open_prepared(path: str | Path) -> PreparedFleet:
    """The prepared fleet in the folder *path*. Looks at its manifest and that its parts are there, not into them."""
    path = Path(path)
    manifest = path / "prepared.json"
    if not manifest.is_file():
        raise InputError(f"{path}: must be a prepared fleet (`fleetsim fleet prepare`), got no prepared.json in it")
    try:
        stated = json.loads(manifest.read_text("utf-8"))
        regions = tuple(
            PreparedRegion(
                region["region"],
                region["pair_group"],
                region["vm_count"],
                tuple(
                    PreparedPart(**{**part, "path": path / part["path"], "units_path": path / part["units_path"]})
                    for part in region["parts"]
                ),
            )
            for region in stated["regions"]
        )
        prepared = PreparedFleet(
            path,
            regions=regions,
            invented=tuple(stated["invented"]),
            warnings=tuple(stated["warnings"]),
            **{name: stated[name] for name in _PLAIN_FACTS},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest}: must be the manifest of a prepared fleet, got: {error!r}") from error
    if stated.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{manifest}: schema_version must be {SCHEMA_VERSION}, got {stated.get('schema_version')}; prepare anew"
        )
    files = [file for region in regions for part in region.parts for file in (part.path, part.units_path)]
    lost = [file for file in (*files, path / "no_guarantee.parquet", path / "pairs.csv") if not file.is_file()]
    if lost:
        raise InputError([f"{file}: must be there, got no such file; prepare anew" for file in lost])
    return prepared


_PLAIN_FACTS = (
    "fleet_digest",
    "pairs_digest",
    "vm_count",
    "set_count",
    "single_count",
    "domains_assigned_count",
    "vm_is_string",
)


def _refuse_existing(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: must not be there yet, got an existing {'folder' if out.is_dir() else 'file'}")


@dataclass(frozen=True, slots=True)
class _RegionMade:
    """What arranging one region gave: counts, parts with paths relative to the folder, its no_guarantee rows."""

    region: str
    pair_group: str
    vm_count: int
    in_set_count: int
    set_count: int
    unit_count: int
    domains_assigned_count: int
    parts: list[dict[str, Any]]
    no_guarantee_set: pa.Array
    no_guarantee_reason: npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class _FleetMade:
    regions: list[_RegionMade]
    warnings: list[str]
    notes: list[str]

    @property
    def vm_count(self) -> int:
        return sum(region.vm_count for region in self.regions)

    @property
    def in_set_count(self) -> int:
        return sum(region.in_set_count for region in self.regions)

    @property
    def set_count(self) -> int:
        return sum(region.set_count for region in self.regions)

    @property
    def unit_count(self) -> int:
        return sum(region.unit_count for region in self.regions)

    @property
    def domains_assigned_count(self) -> int:
        return sum(region.domains_assigned_count for region in self.regions)

    @property
    def no_guarantee_count(self) -> int:
        return sum(len(region.no_guarantee_set) for region in self.regions)


def _arrange_fleet(
    source: FleetSource, relation: Relation, scratch: Path, out: Path | None, progress: Progress | None
) -> _FleetMade:
    """Both passes over *source*; parts are written into *out*, if given."""
    findings = Findings()
    schema = source.schema
    with _Spill(scratch / "spill", schema) as spill:
        for batch in source.batches(findings):
            spill.add(batch)
            if progress:
                progress("read", spill.vm_count, 0)
    findings.raise_any()
    if not spill.vm_count:
        raise InputError(f"{source.name}: must hold at least one VM, got none")

    notes = []
    identity_of_sets = schema.field("set").type if spill.in_set_count else pa.int64()
    if identity_of_sets == pa.int64() and _has_long_scale_set(spill):
        identity_of_sets = pa.large_string()
        notes.append(
            "scale sets are cut into placement groups named after them: set ids are text in the prepared fleet"
        )
    regions = sorted(spill.vm_counts, key=lambda region: (relation.pair_group(region), region))
    row_starts = np.cumsum([0, *(spill.vm_counts[region] for region in regions)])
    if row_starts[-1] >= NO_ROW:
        raise InputError(f"{source.name}: must hold less than {NO_ROW:,} VMs, got {row_starts[-1]:,}")
    arrange = partial(_arrange_region, relation, scratch, out, identity_of_sets, findings)
    made = []
    with ThreadPoolExecutor(_REGIONS_AT_ONCE) as threads:
        tables = ((region, row_start, spill) for region, row_start in zip(regions, row_starts.tolist(), strict=False))
        for region in threads.map(lambda task: arrange(*task), tables):
            made.append(region)
            if progress:
                progress("arrange", sum(done.vm_count for done in made), int(row_starts[-1]))
    for what in ("vm", "set"):
        _find_shared(what, regions, scratch, spill, findings)
    findings.raise_any()
    warnings = []
    if spill.domain_on_single_count:
        warnings.append(
            f"{source.name}: column 'update_domain' is ignored for the {spill.domain_on_single_count:,} VMs in no set"
        )
    fleet_made = _FleetMade(made, warnings, notes)
    if out is not None:
        _write_no_guarantee(out, fleet_made, identity_of_sets)
    return fleet_made


class _Spill(AbstractContextManager["_Spill"]):
    """Rows of a fleet, a file a region: batches come in any order, regions go out one at a time."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir()
        self._folder = folder
        self._schema = schema.remove(schema.get_field_index("region"))
        self._writers: dict[str, pa.RecordBatchStreamWriter] = {}
        self._open = ExitStack()
        self.vm_counts: dict[str, int] = {}
        self.in_set_count = 0
        self.domain_on_single_count = 0
        self.has_set = "set" in schema.names
        self.has_set_kind = "set_kind" in schema.names

    @property
    def vm_count(self) -> int:
        return sum(self.vm_counts.values())

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Append the rows of *batch* to the files of their regions, in their order."""
        self._count(batch)
        region = batch.column("region")
        codes = region.indices.to_numpy()
        batch = batch.select(self._schema.names)
        if not len(codes):
            return
        if codes.min() == codes.max():
            self._append(region.dictionary[int(codes[0])].as_py(), batch)
            return
        order = np.argsort(codes.astype(np.uint16) if len(region.dictionary) < 1 << 16 else codes, kind="stable")
        batch = batch.take(pa.array(order))
        offsets = np.searchsorted(codes[order], np.arange(len(region.dictionary) + 1))
        for word, start, stop in zip(region.dictionary.to_pylist(), offsets, offsets[1:], strict=False):
            if start < stop:
                self._append(word, _compact(batch.slice(start, stop - start)))

    def _count(self, batch: pa.RecordBatch) -> None:
        if not self.has_set:
            if "update_domain" in batch.schema.names:
                self.domain_on_single_count += batch.num_rows - batch.column("update_domain").null_count
            return
        sets = batch.column("set")
        self.in_set_count += len(sets) - sets.null_count
        if sets.null_count and "update_domain" in batch.schema.names:
            is_stray = pc.and_(sets.is_null(), batch.column("update_domain").is_valid())
            self.domain_on_single_count += pc.sum(is_stray).as_py()

    def _append(self, region: str, batch: pa.RecordBatch) -> None:
        if region not in self._writers:
            sink = self._open.enter_context(pa.OSFile(str(self._folder / region), "wb"))
            self._writers[region] = self._open.enter_context(pa.ipc.new_stream(sink, self._schema))
            self.vm_counts[region] = 0
        self._writers[region].write_batch(batch)
        self.vm_counts[region] += batch.num_rows

    def read(self, region: str) -> pa.Table:
        """All rows of *region*, a chunk a column; memory is the file's where it can be."""
        with pa.ipc.open_stream(pa.memory_map(str(self._folder / region))) as reader:
            table = reader.read_all()
        return table if table["vm"].num_chunks == 1 else table.unify_dictionaries().combine_chunks()


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """*batch* with dictionaries no longer than itself, so that a spill is never larger than its rows."""
    columns = [
        column.dictionary_decode().dictionary_encode()
        if pa.types.is_dictionary(column.type) and len(column.dictionary) > max(len(column), 1024)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _has_long_scale_set(spill: _Spill) -> bool:
    """Whether some scale set has more VMs than a placement group."""
    if not (spill.has_set and spill.has_set_kind):
        return False
    for region in spill.vm_counts:
        table = spill.read(region)
        in_scale_set = table.filter(pc.equal(table["set_kind"].cast(pa.string()), "scale_set"))
        sizes = pc.value_counts(in_scale_set["set"].drop_null())
        if len(sizes) and pc.max(sizes.field("counts")).as_py() > PLACEMENT_GROUP_VMS:
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Order:
    """A region in its final order. Axes: V = its VMs, S = its sets, U = its units.

    rows         int64[V] or None   position in the table of each VM, in final order; None: as it stands
    set_offsets  int64[S+1]         VM positions at which sets start
    unit_set     int64[U]           set of each unit
    unit_domain  uint8[U]
    unit_count   int64[U]           VMs of each unit
    """

    rows: _Ints | None
    set_offsets: _Ints
    unit_set: _Ints
    unit_domain: npt.NDArray[np.uint8]
    unit_count: _Ints
    domains_assigned_count: int


def _arrange_region(
    relation: Relation,
    scratch: Path,
    out: Path | None,
    identity_of_sets: pa.DataType,
    findings: Findings,
    region: str,
    vm_row_start: int,
    spill: _Spill,
) -> _RegionMade:
    """Judge, order and, with *out*, write one region; its sorted keys stay in *scratch* for `_find_shared`."""
    table = spill.read(region)
    vm = _one(table["vm"])
    _keep_keys(scratch, "vm", region, _keys(vm))
    if spill.has_set:
        sets = _one(table["set"]).cast(identity_of_sets)
    else:
        sets = pa.nulls(len(vm), identity_of_sets)
    domain = _one(table["update_domain"]) if "update_domain" in table.column_names else None
    _keep_keys(scratch, "set", region, np.unique(_keys(pc.unique(sets.drop_null()))))
    if spill.has_set_kind:
        sets = _placement_groups(region, vm, sets, _one(table["set_kind"]), findings)
    order = _ordered(region, vm, sets, domain, findings)
    set_first = order.set_offsets[:-1] if order.rows is None else order.rows[order.set_offsets[:-1]]
    set_name = sets.take(pa.array(set_first))
    set_size = np.diff(order.set_offsets)
    set_domain_count = np.bincount(order.unit_set, minlength=len(set_size))
    is_weak = set_domain_count == 1
    reason = np.where(set_size == 1, NoGuarantee.ONE_VM, NoGuarantee.ONE_DOMAIN)[is_weak].astype(np.int8)
    parts: list[dict[str, Any]] = []
    if out is not None:
        table = table.set_column(table.column_names.index("set"), "set", sets) if spill.has_set else (
            table.append_column("set", sets)
        )
        parts = list(_write_parts(out, region, table, order, _keys(set_name), vm_row_start))
    return _RegionMade(
        region,
        relation.pair_group(region),
        vm_count=len(vm),
        in_set_count=int(order.set_offsets[-1]),
        set_count=len(set_size),
        unit_count=len(order.unit_set),
        domains_assigned_count=order.domains_assigned_count,
        parts=parts,
        no_guarantee_set=set_name.filter(pa.array(is_weak)),
        no_guarantee_reason=reason,
    )


def _ordered(
    region: str, vm: pa.Array, sets: pa.Array, domain: pa.Array | None, findings: Findings
) -> _Order:
    """Sort a region by (set, update domain, vm), singles last, settling domains that are not given."""
    # Sorted by (set, vm) first: the i-th VM of a set by id is what a domain is assigned by.
    is_in_set = sets.is_valid().to_numpy(zero_copy_only=False)
    in_set_count = int(is_in_set.sum())
    if in_set_count == len(vm):
        rows = _sorted_rows([sets, vm])
    else:
        in_set, single = np.flatnonzero(is_in_set), np.flatnonzero(~is_in_set)
        in_set = in_set[_sorted_rows([sets.take(pa.array(in_set)), vm.take(pa.array(in_set))])]
        rows = np.concatenate([in_set, single[_sorted_rows([vm.take(pa.array(single))])]])
    if not in_set_count:
        nothing = np.empty(0, np.int64)
        return _Order(_unless_plain(rows), np.zeros(1, np.int64), nothing, np.empty(0, np.uint8), nothing, 0)

    sorted_set = sets.take(pa.array(rows[:in_set_count]))
    is_first = np.ones(in_set_count, np.bool_)
    is_first[1:] = pc.not_equal(sorted_set[1:], sorted_set[:-1]).to_numpy(zero_copy_only=False)
    set_start = np.flatnonzero(is_first)
    set_offsets = np.append(set_start, in_set_count)
    set_size = np.diff(set_offsets)
    set_row = np.repeat(np.arange(len(set_start)), set_size)

    assigned = ((np.arange(in_set_count) - np.repeat(set_start, set_size)) % UPDATE_DOMAIN_COUNT_DEFAULT).astype(
        np.uint8
    )
    if domain is None:
        settled, assigned_count = assigned, len(set_start)
    else:
        given = domain.take(pa.array(rows[:in_set_count]))
        is_open = given.is_null().to_numpy(zero_copy_only=False)
        open_count = np.add.reduceat(is_open, set_start, dtype=np.int64)
        for mixed in np.flatnonzero((open_count > 0) & (open_count < set_size)):
            first_open = set_start[mixed] + int(np.argmax(is_open[set_start[mixed] :]))
            findings.add(
                "domains",
                (region, int(mixed)),
                f"set '{sorted_set[set_start[mixed]]}' in region '{region}': column 'update_domain' must be given for"
                f" all of its {set_size[mixed]:,} VMs or for none, got {open_count[mixed]:,} without, the first of them"
                f" VM '{vm[int(rows[first_open])]}'",
            )
        settled = np.where(is_open, assigned, given.fill_null(0).to_numpy())
        assigned_count = int((open_count == set_size).sum())

    unit_key = set_row * 256 + settled
    by_unit = np.argsort(unit_key, kind="stable")  # keeps VMs of a unit by id
    unit_key = unit_key[by_unit]
    unit_start = np.flatnonzero(np.diff(unit_key, prepend=-1))
    rows[:in_set_count] = rows[by_unit]
    return _Order(
        _unless_plain(rows),
        set_offsets,
        unit_set=unit_key[unit_start] // 256,
        unit_domain=(unit_key[unit_start] % 256).astype(np.uint8),
        unit_count=np.diff(np.append(unit_start, in_set_count)),
        domains_assigned_count=assigned_count,
    )


def _placement_groups(
    region: str, vm: pa.Array, sets: pa.Array, kind: pa.Array, findings: Findings
) -> pa.Array:
    """*sets* with scale sets of more than a placement group cut, in order of VM id, and named after it."""
    is_scale = pc.equal(kind.cast(pa.string()), "scale_set").fill_null(False)
    by_set = pl.DataFrame({"set": pl.Series(sets), "is_scale": pl.Series(is_scale)}).drop_nulls("set")
    kinds = by_set.group_by("set").agg(
        pl.col("is_scale").any().alias("any"), pl.col("is_scale").all().alias("all"), pl.len()
    )
    for name in kinds.filter(pl.col("any") != pl.col("all")).sort("set")["set"]:
        findings.add(
            "set kinds",
            (region, name),
            f"set '{name}' in region '{region}': column 'set_kind' must be the same for all of its VMs,"
            " got a scale set and an availability set",
        )
    if not kinds.filter("all", pl.col("len") > PLACEMENT_GROUP_VMS).height:
        return sets
    frame = pl.DataFrame({"set": pl.Series(sets), "vm": pl.Series(vm), "is_scale": pl.Series(is_scale)})
    is_cut = pl.col("set").is_not_null() & pl.col("is_scale") & (pl.len().over("set") > PLACEMENT_GROUP_VMS)
    group = (pl.col("vm").rank("ordinal").over("set").cast(pl.Int64) - 1) // PLACEMENT_GROUP_VMS
    named = pl.concat_str("set", pl.lit("/pg-"), group.cast(pl.String))
    cut = frame.with_columns(is_cut=is_cut).with_columns(name=pl.when("is_cut").then(named).otherwise("set"))
    uncut_names = cut.filter(~pl.col("is_cut")).select(pl.col("name").unique())
    for name in cut.filter("is_cut").select(pl.col("name").unique()).join(uncut_names, on="name")["name"].sort():
        findings.add(
            "placement groups",
            (region, name),
            f"set '{name}' in region '{region}': must not have the name of a placement group of another set",
        )
    return _one(cut["name"].to_arrow()).cast(sets.type)


def _sorted_rows(keys: list[pa.Array]) -> _Ints:
    """Positions that sort by *keys*: integers by value, strings by their UTF-8 bytes."""
    if all(pa.types.is_integer(key.type) for key in keys):
        columns = [key.to_numpy() for key in keys]
        if _is_sorted(columns):
            return np.arange(len(columns[0]))
        return np.lexsort(columns[::-1])
    frame = pl.DataFrame([pl.Series(str(place), key) for place, key in enumerate(keys)])
    return frame.select(pl.arg_sort_by(frame.columns)).to_series().to_numpy().astype(np.int64)


def _is_sorted(columns: list[_Ints]) -> bool:
    rising = columns[-1][1:] > columns[-1][:-1]
    for column in columns[-2::-1]:
        rising = (column[1:] > column[:-1]) | ((column[1:] == column[:-1]) & rising)
    return bool(rising.all())


def _unless_plain(rows: _Ints) -> _Ints | None:
    return None if len(rows) == 0 or bool((np.diff(rows, prepend=-1) == 1).all()) else rows


def _part_offsets(set_offsets: _Ints, vm_count: int) -> list[int]:
    """VM positions at which parts start, and the end: whole sets up to PART_ROWS, singles filling on."""
    offsets = [0]
    while offsets[-1] < vm_count:
        limit = offsets[-1] + PART_ROWS
        in_sets = int(set_offsets[-1])
        if limit >= in_sets:
            stop = min(limit, vm_count)
        else:
            last = int(np.searchsorted(set_offsets, limit, side="right")) - 1
            stop = int(set_offsets[last])
        if stop == offsets[-1]:  # a single set larger than a part
            stop = int(set_offsets[np.searchsorted(set_offsets, offsets[-1], side="right")])
        offsets.append(stop)
    return offsets


def _write_parts(
    out: Path, region: str, table: pa.Table, order: _Order, set_key: _Ints, vm_row_start: int
) -> Iterator[dict[str, Any]]:
    """Write the parts of *region* with their units. Yields the facts of each, paths relative to *out*."""
    in_set_count = int(order.set_offsets[-1])
    unit_offsets = np.concatenate([[0], np.cumsum(order.unit_count)])
    vm_domain = np.repeat(order.unit_domain, order.unit_count)
    offsets = _part_offsets(order.set_offsets, table.num_rows)
    for number, (start, stop) in enumerate(zip(offsets, offsets[1:], strict=False)):
        single_count = stop - max(start, min(stop, in_set_count))
        domain = np.zeros(stop - start, np.uint8)
        domain[: len(domain) - single_count] = vm_domain[start:stop]
        is_single = np.arange(len(domain)) >= len(domain) - single_count
        rows = slice(start, stop) if order.rows is None else order.rows[start:stop]
        part = _part_table(table, rows, region, pa.array(domain, mask=is_single if single_count else None))
        rows_digest = _rows_digest(part)
        part = _with_rows(part, vm_row_start + start, rows_digest)

        set_start, set_stop = np.searchsorted(order.set_offsets[:-1], [start, stop])
        unit_start, unit_stop = np.searchsorted(unit_offsets[:-1], [start, stop])
        unit_set = order.unit_set[unit_start:unit_stop]
        units = pa.Table.from_arrays(
            [
                pa.array((unit_set - set_start).astype(np.uint32)),
                pa.array(set_key[unit_set]),
                pa.array(order.unit_domain[unit_start:unit_stop]),
                pa.array(order.unit_count[unit_start:unit_stop].astype(np.uint32)),
            ],
            schema=arrow_schema(UNITS, provenance_of()),
        )
        path, units_path = (f"{folder}/region={region}/part-{number:05}.parquet" for folder in ("fleet", "units"))
        sha256 = write_parquet(out / path, part)
        write_parquet(out / units_path, units)
        yield {
            "number": number,
            "path": path,
            "units_path": units_path,
            "vm_row_start": vm_row_start + start,
            "vm_count": stop - start,
            "set_count": int(set_stop - set_start),
            "unit_count": len(unit_set),
            "single_count": int(single_count),
            "sha256": sha256,
            "rows": rows_digest,
        }


def _part_table(table: pa.Table, rows: slice | _Ints, region: str, domain: pa.Array) -> pa.Table:
    """The fleet columns of *rows*, canonical: the same rows give the same arrays, however the source held them."""

    def picked(name: str) -> pa.Array:
        column = _one(table[name])
        part = column[rows] if isinstance(rows, slice) else column.take(pa.array(rows))
        if pa.types.is_dictionary(part.type):
            return _first_met(part)
        return part.cast(pa.string()) if part.type == pa.large_string() else part

    made = {
        "region": constant_text(region, np.zeros(len(domain), np.int32)),
        "update_domain": domain,
    }
    known = [column for column in FLEET.columns if column.name in made or column.name in table.column_names]
    unknown = [name for name in table.column_names if name not in FLEET.names()]
    fields, columns = [], []
    for column in known:
        array = made.get(column.name, None)
        array = picked(column.name) if array is None else array
        fields.append(arrow_field(column, array.type if column.dtype == "identity" else None))
        columns.append(array)
    for name in unknown:
        columns.append(picked(name))
        fields.append(pa.field(name, columns[-1].type))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _first_met(array: pa.DictionaryArray) -> pa.DictionaryArray:
    """*array* with its words in the order in which they are met, and no others."""
    codes = array.indices.dictionary_encode()
    return pa.DictionaryArray.from_arrays(codes.indices, array.dictionary.take(codes.dictionary))


def _with_rows(part: pa.Table, vm_row_start: int, rows_digest: str) -> pa.Table:
    """*part* with what only a prepared fleet has, and its metadata."""
    part = part.append_column(
        arrow_field(PREPARED["vm_row"]),
        pa.array(np.arange(vm_row_start, vm_row_start + part.num_rows, dtype=np.uint32)),
    )
    if part.schema.field("vm").type != pa.int64():
        part = part.append_column(arrow_field(PREPARED["vm_key"]), pa.array(_keys(_one(part["vm"]))))
    return part.replace_schema_metadata({"fleetsim.table": "fleet", **provenance_of(rows_digest=rows_digest)})


def _rows_digest(part: pa.Table) -> str:
    """sha256 over names, types and values of *part*, whatever its chunks, offsets and null slots hold."""
    digest = hashlib.sha256()
    for name, column in zip(part.column_names, part.columns, strict=True):
        digest.update(f"{name}\0{column.type}\0{len(column)}\0".encode())
        _digest_array(digest, _one(column))
    return digest.hexdigest()


def _digest_array(digest: "hashlib._Hash", array: pa.Array) -> None:
    if pa.types.is_dictionary(array.type):
        _digest_array(digest, array.indices)
        _digest_array(digest, array.dictionary)
        return
    if array.null_count:
        digest.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)))
        array = array.drop_null()
    digest.update(f"{len(array)}\0".encode())
    if pa.types.is_string(array.type):
        offsets, characters = _characters(array)
        digest.update(np.diff(offsets))
        digest.update(characters[offsets[0] : offsets[-1]])
    elif pa.types.is_boolean(array.type):
        digest.update(np.packbits(array.to_numpy(zero_copy_only=False)))
    else:
        width = array.type.bit_width // 8
        values = np.frombuffer(array.buffers()[1] or b"", np.uint8)
        digest.update(values[array.offset * width : (array.offset + len(array)) * width])


def _characters(array: pa.Array) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.uint8]]:
    """Cut points [N+1] and UTF-8 bytes of a string array."""
    _, offsets, characters = array.buffers()
    cuts = np.frombuffer(offsets or bytes(8), np.int64 if array.type == pa.large_string() else np.int32)
    return cuts[array.offset : array.offset + len(array) + 1], np.frombuffer(characters or b"", np.uint8)


def _keys(array: pa.Array) -> _Ints:
    """64-bit keys draws are addressed by: integers as they are, strings by digest. *array* has no nulls."""
    if pa.types.is_integer(array.type):
        values: _Ints = array.to_numpy()
        return values
    keys = np.empty(len(array), np.int64)
    digest_strings(*_characters(array), keys)
    return keys


def _keep_keys(scratch: Path, what: str, region: str, keys: _Ints) -> None:
    (scratch / what).mkdir(exist_ok=True)
    np.save(scratch / what / f"{region}.npy", np.sort(keys))


def _find_shared(
    what: str, regions: list[str], scratch: Path, spill: _Spill, findings: Findings
) -> None:
    """Find VMs that are in the fleet twice, or sets that are in two regions, by their sorted keys.

    Regions are compared over ranges of keys, so memory is bounded; equal keys of strings are looked at again.
    """
    keys = [np.load(scratch / what / f"{region}.npy", mmap_mode="r") for region in regions]
    suspects = np.unique(np.concatenate([_repeated(part) for part in _by_range(keys)]))
    if not len(suspects):
        return
    places: dict[object, list[str]] = {}
    for region in regions:
        column = _one(spill.read(region)[what]).drop_null()
        for value in column.filter(pa.array(np.isin(_keys(column), suspects))):
            met = places.setdefault(value.as_py(), [])
            if what == "vm" or region not in met:
                met.append(region)
    for value, met in sorted(places.items(), key=lambda item: str(item[0])):
        if len(met) > 1:
            where = " and ".join(f"'{region}'" for region in dict.fromkeys(met))
            if what == "vm":
                told = f"column 'vm': must be unique, got '{value}' {len(met)} times, in region {where}"
            else:
                told = f"column 'set': a set must be in one region, got '{value}' in {where}"
            findings.add(what, value, told)


def _repeated(keys: _Ints) -> _Ints:
    keys = np.sort(keys)
    return keys[1:][keys[1:] == keys[:-1]]


def _by_range(keys: list[_Ints]) -> Iterator[_Ints]:
    """All of the sorted *keys* together, range by range of at most about _LOOKED_AT_ONCE."""
    count = sum(len(part) for part in keys)
    step = max(1, count // _LOOKED_AT_ONCE)
    sample = np.sort(np.concatenate([part[:: max(1, len(part) // 4096)] for part in keys]))
    bounds = sample[np.linspace(0, len(sample) - 1, step + 1).astype(np.int64)[1:-1]] if len(sample) else sample
    cuts = [[0, *np.searchsorted(part, bounds).tolist(), len(part)] for part in keys]
    for place in range(len(bounds) + 1):
        yield np.concatenate([part[cut[place] : cut[place + 1]] for part, cut in zip(keys, cuts, strict=True)])


def _write_no_guarantee(out: Path, made: _FleetMade, identity_of_sets: pa.DataType) -> None:
    identity = pa.string() if identity_of_sets == pa.large_string() else identity_of_sets
    schema = arrow_schema(NO_GUARANTEE, provenance_of(), identity)
    tables = [
        pa.Table.from_arrays(
            [
                constant_text(region.region, np.zeros(len(region.no_guarantee_set), np.int32)),
                region.no_guarantee_set.cast(identity),
                coded(NO_GUARANTEE["reason"], region.no_guarantee_reason),
            ],
            schema=schema,
        )
        for region in made.regions
    ]
    write_parquet(out / "no_guarantee.parquet", pa.concat_tables(tables).unify_dictionaries().combine_chunks())


def _write_manifest(out: Path, made: _FleetMade, relation: Relation, source: FleetSource) -> None:
    digest = hashlib.sha256()
    for region in made.regions:
        for part in region.parts:
            digest.update(bytes.fromhex(part["rows"]))
    manifest = {
        "fleetsim_version": __version__,
        "schema_version": SCHEMA_VERSION,
        "fleet_digest": digest.hexdigest(),
        "pairs_digest": relation.digest,
        "vm_count": made.vm_count,
        "set_count": made.set_count,
        "single_count": made.vm_count - made.in_set_count,
        "domains_assigned_count": made.domains_assigned_count,
        "vm_is_string": source.schema.field("vm").type != pa.int64(),
        "regions": [
            {
                "region": region.region,
                "pair_group": region.pair_group,
                "vm_count": region.vm_count,
                "parts": region.parts,
            }
            for region in made.regions
        ],
        "invented": source.invented,
        "warnings": [*source.warnings, *made.warnings],
    }
    write_atomic(out / "prepared.json", (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """*column* in one chunk."""
    if isinstance(column, pa.Array):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
