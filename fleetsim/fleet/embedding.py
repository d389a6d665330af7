"""One's own VMs among strangers': two fleets as one, with a column that tells whose a VM is.

Maintenance is planned for whole regions; how it feels to the owner of a few VMs depends on who else is there. Both
fleets are read batch by batch: memory is bounded by a batch and the names of one's own.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetsim.errors import InputError
from fleetsim.fleet.facts import render_facts
from fleetsim.fleet.read import INVENTED_KEY, Findings, FleetSource, open_fleet
from fleetsim.progress import Progress
from fleetsim.regions import load_relation
from fleetsim.schema import FLEET
from fleetsim.tables import arrow_field, arrow_type, check_new, folder_above, provenance_of, write_parquet

if TYPE_CHECKING:
    from rich.console import Console

OWNER = "owner"
OWN, OTHERS = "own", "others"
"""The column that tells whose a VM is, and its words: `report --only owner=own` is about one's own."""

# What brings VMs together by its name: one name in both fleets must not make one thing of two.
_KEPT_APART = (
    *(column.name for column in FLEET.columns if column.dtype == "identity"),
    *("application", "subscription", "cluster", "rack"),
)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A united fleet on disk. `vm_count_by_region`: (own, others) by region."""

    path: Path
    vm_count_by_region: Mapping[str, tuple[int, int]]
    notes: tuple[str, ...]
    invented: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def own_count(self) -> int:
        return sum(own for own, _ in self.vm_count_by_region.values())

    @property
    def others_count(self) -> int:
        return sum(others for _, others in self.vm_count_by_region.values())

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values; `own_ratio` is one's own share of the VMs."""
        return {
            "fleet": str(self.path),
            "own_count": self.own_count,
            "others_count": self.others_count,
            "own_ratio": _ratio(self.own_count, self.others_count),
            "regions": {
                region: {"own_count": own, "others_count": others, "own_ratio": _ratio(own, others)}
                for region, (own, others) in self.vm_count_by_region.items()
            },
            **{name: list(getattr(self, name)) for name in ("notes", "invented", "warnings")},
        }

    def render(self, console: "Console") -> None:
        """Print the facts to *console*."""
        facts = [
            ("VMs", _told(self.own_count, self.others_count)),
            *(("regions", f"{region}: {_told(*counts)}") for region, counts in self.vm_count_by_region.items()),
            *(("note", sentence) for sentence in self.notes),
            *(("invented", sentence) for sentence in self.invented),
            *(("warning", sentence) for sentence in self.warnings),
        ]
        render_facts(console, f"fleet {self.path}", facts)


def embed(
    own: object,
    among: object,
    out: str | Path,
    pairs: str | Path | None = None,
    *,
    progress: Progress | None = None,
) -> Embedded:
    """Write the VMs of both fleets as the new fleet *out*, with a column `owner`: "own" or "others".

    own, among  a path or an Arrow table of any library, as for `prepare`
    out         a file, if it ends in .parquet, else a folder own-*.parquet, others-*.parquet
    pairs       CSV with the relation of regions, instead of the built-in one

    Names are kept apart: where a VM, set, host, application, subscription, cluster or rack of *among* is called like
    one of *own*, or ids are numbers in one fleet and text in the other, all such names of *among* get a prefix; ids
    of *own* stay, as text where need be. A column of one fleet is null in the other. Raises `InputError` with all
    that is wrong; nothing is written then.
    """
    out = Path(out)
    check_new(out)
    above = folder_above(out)
    relation = load_relation(pairs)
    fleets = {
        owner: fleet.read_all() if isinstance(fleet, pa.RecordBatchReader) else fleet  # may be read a second time
        for owner, fleet in ((OWN, own), (OTHERS, among))
    }

    def opened() -> dict[str, FleetSource]:
        sources, problems = {}, []
        for owner, fleet in fleets.items():
            try:
                sources[owner] = open_fleet(fleet, relation)
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(problems)
        return sources

    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=above) as scratch:
        union = _Union(opened())
        made = Path(scratch) / f"fleet{out.suffix}"
        if union.write(made, progress):
            made = Path(scratch) / f"fleet-renamed{out.suffix}"
            union.sources = opened()
            union.write(made, progress)
        out.parent.mkdir(parents=True, exist_ok=True)
        made.rename(out)
    return Embedded(
        out,
        {
            region: (union.counts[OWN][region], union.counts[OTHERS][region])
            for region in sorted(union.counts[OWN] | union.counts[OTHERS])
        },
        notes=tuple(union.notes()),
        invented=tuple(union.invented),
        warnings=tuple(warning for source in union.sources.values() for warning in source.warnings),
    )


class _Union:
    """Two fleets on their way into one. `renamed`: columns whose names in the others' fleet get `prefix`."""

    def __init__(self, sources: dict[str, FleetSource]) -> None:
        self.sources = sources
        self.invented = [f"{owner}: {sentence}" for owner, source in sources.items() for sentence in source.invented]
        self.counts: dict[str, Counter[str]] = {}
        self.renamed: set[str] = set()
        self.prefix = ""
        self._names: dict[str, pa.Array] = {}  # of one's own, by column
        self._types = self._united()

    def _united(self) -> dict[str, pa.DataType]:
        """The type of each column; ids that are numbers here and text there are renamed."""
        findings = Findings()
        schemas = {owner: source.schema for owner, source in self.sources.items()}
        for owner, schema in schemas.items():
            if OWNER in schema.names:
                told = f"{self.sources[owner].name}: column '{OWNER}' must not be there, since it is made; rename it"
                findings.add("owner", owner, told)
        names = list(dict.fromkeys([*schemas[OWN].names, *schemas[OTHERS].names]))
        types = {}
        for name in names:
            found = [schema.field(name).type for schema in schemas.values() if name in schema.names]
            distinct = [kind for kind in dict.fromkeys(found) if not pa.types.is_null(kind)] or found[:1]
            types[name] = distinct[0]
            if set(distinct) == {pa.int64(), pa.float64()}:
                types[name] = pa.float64()
            elif len(distinct) > 1 and name in _KEPT_APART:
                self.renamed.add(name)
            elif len(distinct) > 1:
                told = " and ".join(
                    f"{schema.field(name).type} in {self.sources[of].name}" for of, schema in schemas.items()
                )
                findings.add("type", name, f"column '{name}': must have one type in both fleets, got {told}")
        findings.raise_any()
        return types

    def _schema(self) -> pa.Schema:
        known = {column.name: column for column in FLEET.columns}
        fields = []
        for name in sorted(
            self._types, key=lambda name: (name not in known, [*known].index(name) if name in known else 0)
        ):
            kind = self._types[name]
            if kind == pa.large_string() or (name in self.renamed and not pa.types.is_dictionary(kind)):
                kind = pa.string()
            fields.append(arrow_field(known[name], kind) if name in known else pa.field(name, kind))
        fields.append(pa.field(OWNER, arrow_type(FLEET["region"]), nullable=False))
        metadata = {"fleetsim.table": FLEET.name, INVENTED_KEY.decode(): json.dumps(self.invented), **provenance_of()}
        return pa.schema(fields, metadata=metadata)

    def write(self, path: Path, progress: Progress | None) -> bool:
        """Write both fleets to *path*. Returns whether names were found in both: then it is to be written again."""
        self.counts = {OWN: Counter(), OTHERS: Counter()}
        findings, schema = Findings(), self._schema()
        met: set[str] = set()
        total_count = sum(source.row_count for source in self.sources.values())
        done_count = 0
        with ExitStack() as stack:
            writer = (
                stack.enter_context(pq.ParquetWriter(path, schema, compression="lz4"))
                if path.suffix == ".parquet"
                else None
            )
            for owner, source in self.sources.items():
                for number, batch in enumerate(source.batches(findings)):
                    for value in pc.value_counts(batch.column("region")):
                        self.counts[owner][value["values"].as_py()] += value["counts"].as_py()
                    if owner == OWN:
                        self._note(batch)
                    else:
                        met |= self._shared(batch)
                    if not met:  # else the rest is only looked through
                        table = pa.table(list(self._columns(batch, owner, schema)), schema=schema)
                        if writer is not None:
                            writer.write_table(table)
                        else:
                            write_parquet(path / f"{owner}-{number:05}.parquet", table)
                    done_count += batch.num_rows
                    if progress is not None:
                        progress("embed", done_count, max(done_count, total_count))
                if owner == OWN:
                    self.prefix = self._free_prefix()
        findings.raise_any()
        empty = [source.name for owner, source in self.sources.items() if not self.counts[owner]]
        if empty:
            raise InputError([f"{name}: must hold at least one VM, got none" for name in empty])
        self.renamed |= met
        return bool(met)

    def _note(self, batch: pa.RecordBatch) -> None:
        """Remember the names in *batch*, of one's own fleet."""
        for name in _KEPT_APART:
            if name in batch.schema.names:
                found = _words(batch.column(name))
                self._names[name] = pc.unique(pa.concat_arrays([self._names.get(name, found[:0]), found]))

    def _shared(self, batch: pa.RecordBatch) -> set[str]:
        """Columns not yet renamed in which a name of the others' *batch* is one of one's own too."""
        return {
            name
            for name, own in self._names.items()
            if name in batch.schema.names and name not in self.renamed
            if pc.any(pc.is_in(_words(batch.column(name)), value_set=own)).as_py()
        }

    def _free_prefix(self) -> str:
        """A prefix that no name of one's own has, so that what gets it is like none of them."""
        own = [names.cast(pa.string()) for names in self._names.values()]
        prefixes = ("other-" if number == 1 else f"other{number}-" for number in count(1))
        return next(
            prefix for prefix in prefixes if not any(pc.any(pc.starts_with(names, prefix)).as_py() for names in own)
        )

    def _columns(self, batch: pa.RecordBatch, owner: str, schema: pa.Schema) -> Iterator[pa.Array]:
        """The columns of *batch* as the united fleet has them."""
        for field in schema:
            if field.name == OWNER:
                yield pa.DictionaryArray.from_arrays(
                    pa.repeat(pa.scalar(0, pa.int32()), batch.num_rows), pa.array([owner])
                )
            elif field.name not in batch.schema.names:
                yield pa.nulls(batch.num_rows, field.type)
            elif owner == OTHERS and field.name in self.renamed:
                yield _prefixed(batch.column(field.name), self.prefix)
            else:
                yield batch.column(field.name).cast(field.type)

    def notes(self) -> Iterator[str]:
        """Which names were changed."""
        if self.renamed:
            named = ", ".join(f"'{name}'" for name in _KEPT_APART if name in self.renamed)
            yield f"names in {named} of the others begin with '{self.prefix}', to keep them apart from one's own"


def _words(array: pa.Array) -> pa.Array:
    """The distinct names in *array*, numbers as they are."""
    words = array.dictionary if pa.types.is_dictionary(array.type) else pc.unique(array)
    return words.drop_null()


def _prefixed(array: pa.Array, prefix: str) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        return pa.DictionaryArray.from_arrays(array.indices, _prefixed(array.dictionary, prefix))
    return pc.binary_join_element_wise(pa.scalar(prefix), array.cast(pa.string()), pa.scalar(""))


def _ratio(own_count: int, others_count: int) -> float:
    return own_count / (own_count + others_count)


def _told(own_count: int, others_count: int) -> str:
    return f"{own_count:,} own among {others_count:,}, a share of {_ratio(own_count, others_count):.3g}"
