"""Prepared fleets as they lie on disk: their manifest, and the facts of their regions and parts."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim import __version__
from fleetsim.errors import InputError
from fleetsim.fleet.facts import render_facts
from fleetsim.regions import Relation, load_relation
from fleetsim.schema import SCHEMA_VERSION
from fleetsim.storage import Place, Url, as_input, located, readable
from fleetsim.tables import write_atomic

if TYPE_CHECKING:
    from rich.console import Console

MANIFEST = "prepared.json"
PAIRS = "pairs.csv"
_PLAIN_FACTS = (
    "fleet_digest",
    "pairs_digest",
    "vm_count",
    "set_count",
    "single_count",
    "host_count",
    "domains_assigned_count",
    "fault_domains_assigned_count",
    "vm_is_string",
    "has_lifetimes",
    "sizes",
    "workloads",
)


@dataclass(frozen=True, slots=True)
class PreparedPart:
    """A slice of a prepared region: whole sets, then singles.

    `sha256` is the digest of the file, `rows` that of its fleet rows, whatever file they are in; both in hex.
    """

    number: int
    path: Place
    units_path: Place
    vm_row_start: int
    vm_count: int
    set_count: int
    unit_count: int
    single_count: int
    sha256: str
    rows: str
    hosts_path: Place | None = None  # of its region, where that has hosts


@dataclass(frozen=True, slots=True)
class PreparedHosts:
    """The hosts of a region; `without`: by column of where they stand how many say nothing there, and the first.

    `sha256` is the digest of the file, `rows` that of its rows; both in hex.
    """

    path: Place
    host_count: int
    sha256: str
    without: Mapping[str, Mapping[str, Any]]
    rows: str = ""


@dataclass(frozen=True, slots=True)
class PreparedRegion:
    """One region of a prepared fleet, its parts in vm_row order; `hosts` None: it has none."""

    region: str
    pair_group: str
    vm_count: int
    parts: tuple[PreparedPart, ...]
    hosts: PreparedHosts | None


@dataclass(frozen=True, slots=True)
class PreparedFleet:
    """A prepared fleet, its regions in vm_row order.

    hosts_digest                  of the inventory that says what room its hosts have; None: nobody has said
    domains_assigned_count        sets whose update domains the fleet left open
    fault_domains_assigned_count  sets whose fault domains it left open
    vm_is_string                  `vm` is text, and draws are addressed by `vm_key`
    has_lifetimes                 some `created` or `deleted` is given
    sizes, workloads              VMs by word of these columns, in order of words; VMs without are in none
    columns                       names and types of the columns of its parts
    """

    path: Place
    fleet_digest: str
    pairs_digest: str
    hosts_digest: str | None
    vm_count: int
    set_count: int
    single_count: int
    host_count: int
    regions: tuple[PreparedRegion, ...]
    invented: tuple[str, ...]
    warnings: tuple[str, ...]
    domains_assigned_count: int
    fault_domains_assigned_count: int
    vm_is_string: bool
    has_lifetimes: bool
    sizes: Mapping[str, int]
    workloads: Mapping[str, int]
    columns: Mapping[str, pa.DataType]

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        return {
            "prepared": str(self.path),
            **{name: getattr(self, name) for name in (*_PLAIN_FACTS, "hosts_digest")},
            "columns": list(self.columns),
            "regions": {region.region: region.vm_count for region in self.regions},
            "invented": list(self.invented),
            "warnings": list(self.warnings),
        }

    def render(self, console: "Console") -> None:
        """Print the facts to *console*."""
        facts = [
            ("VMs", f"{self.vm_count:,} in {len(self.regions):,} region{'s' if len(self.regions) > 1 else ''}"),
            ("sets", f"{self.set_count:,}, and {self.single_count:,} VMs in none"),
            *([("hosts", f"{self.host_count:,}")] * bool(self.host_count)),
            ("digest", self.fleet_digest),
            *(("invented", sentence) for sentence in self.invented),
            *(("warning", sentence) for sentence in self.warnings),
        ]
        render_facts(console, f"prepared fleet {self.path}", facts)


def write_manifest(
    folder: Path,
    regions: Sequence[dict[str, Any]],
    *,
    invented: Sequence[str],
    warnings: Sequence[str],
    **facts: Any,
) -> None:
    """Write the manifest of the fleet in *folder*: *regions* with their parts, paths relative to the folder.

    The digest of a fleet is that of its parts' rows, in order.
    """
    digest = hashlib.sha256()
    for region in regions:
        for part in region["parts"]:
            digest.update(bytes.fromhex(part["rows"]))
    stated = {
        "fleetsim_version": __version__,
        "schema_version": SCHEMA_VERSION,
        "fleet_digest": digest.hexdigest(),
        **facts,
        "regions": regions,
        "invented": invented,
        "warnings": warnings,
    }
    write_atomic(folder / MANIFEST, (json.dumps(stated, indent=1, ensure_ascii=False) + "\n").encode())


def relation_over(fleet: Any, pairs: str | Path | None) -> Relation:
    """The relation in the CSV file *pairs*; without, that which *fleet* was prepared with, or else the built-in one."""
    if pairs is None and isinstance(fleet, str | Path | Url):
        with as_input():
            path = located(fleet)
            if (path / MANIFEST).is_file() and (path / PAIRS).is_file():
                return load_relation(path / PAIRS)
    return load_relation(pairs)


def as_prepared(fleet: Any, relation: Relation) -> PreparedFleet | None:
    """*fleet* itself, if it is a prepared one that was paired by *relation*.

    Raises `InputError` where it is at a URL and is not: nothing but a prepared fleet is read there.
    """
    if not isinstance(fleet, str | Path | Url):
        return None
    path = located(fleet)
    if isinstance(path, Path) and not (path / MANIFEST).is_file():
        return None
    prepared = open_prepared(path)
    if prepared.pairs_digest == relation.digest:
        return prepared
    if isinstance(path, Url):
        raise InputError(f"{path}: must be prepared with the same pairs as it is run with; prepare the fleet anew")
    return None


def open_prepared(path: str | Path | Url) -> PreparedFleet:
    """The prepared fleet in the folder *path*. Sees that all parts are there, but reads none."""
    with as_input():
        return _open(located(path))


def _open(path: Place) -> PreparedFleet:
    manifest = path / MANIFEST
    if not manifest.is_file():
        raise InputError(f"{path}: must be a prepared fleet, got no {MANIFEST} in it; run `fleetsim fleet prepare`")
    try:
        stated = json.loads(manifest.read_text("utf-8"))
        if stated["schema_version"] != SCHEMA_VERSION:
            raise InputError(
                f"{manifest}: schema_version must be {SCHEMA_VERSION}, got {stated['schema_version']};"
                " prepare the fleet anew"
            )
        regions = tuple(_region(path, region) for region in stated["regions"])
        facts: dict[str, Any] = {name: stated[name] for name in _PLAIN_FACTS}
        facts["hosts_digest"] = stated.get("hosts_digest")
        invented, warnings = tuple(stated["invented"]), tuple(stated["warnings"])
        first = regions[0].parts[0].path
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{manifest}: must be the manifest of a prepared fleet, got: {error!r}") from error
    parts = [part for region in regions for part in region.parts]
    files = [file for part in parts for file in (part.path, part.units_path)]
    files += [region.hosts.path for region in regions if region.hosts is not None]
    files += [path / "no_guarantee.parquet", path / PAIRS]
    # A URL is asked once, and not for each.
    there = None if isinstance(path, Path) else {path / name for name in path.files()}
    if lost := [file for file in files if not (file.is_file() if there is None else file in there)]:
        raise InputError([f"{file}: must be there, got no such file; prepare the fleet anew" for file in lost])
    try:
        columns = {field.name: field.type for field in pq.read_schema(readable(first))}
    except (pa.ArrowException, OSError) as error:
        told_first = str(error).partition("\n")[0]
        raise InputError(f"{first}: must be readable, got: {told_first}; prepare the fleet anew") from error
    return PreparedFleet(path, regions=regions, columns=columns, invented=invented, warnings=warnings, **facts)


def _region(path: Place, stated: dict[str, Any]) -> PreparedRegion:
    hosts = None
    if (facts := stated["hosts"]) is not None:
        hosts = PreparedHosts(**{**facts, "path": path / facts["path"]})
    parts = tuple(_part(path, part, None if hosts is None else hosts.path) for part in stated["parts"])
    return PreparedRegion(**{**stated, "hosts": hosts, "parts": parts})


def _part(path: Place, stated: dict[str, Any], hosts_path: Place | None) -> PreparedPart:
    places = {name: path / stated[name] for name in ("path", "units_path")}
    return PreparedPart(**{**stated, **places}, hosts_path=hosts_path)
