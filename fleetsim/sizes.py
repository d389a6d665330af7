"""The catalogue of VM sizes: to which family a size belongs, and what its hosts can do to it.

Made of two lists that ship: the sizes of 13 series from the public documentation, which go first, and a sample
of the resource API, which adds sizes those lack. Sizes in neither list are judged by their names.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from fleetsim.shipped import dataset_path

_DOCS = "vm_sizes_docs.csv"
_API = "vm_sizes_api_sample.csv"
# Azure, "VM sizes naming conventions": letters, vCPUs, constrained vCPUs, additive letters, accelerator, version.
_NAME = re.compile(
    r"standard_(?P<letters>[a-z]+)[0-9]+(?:-[0-9]+)?(?P<additive>[a-z]*)"
    r"(?:_(?P<accelerator>[a-z]+[0-9]+[a-z]*))??(?:_(?P<version>v[0-9]+))?(?:_promo)?",
    re.IGNORECASE,
)
_SHAPE = re.compile(r"(?P<vcpus>[0-9]+)x(?P<memory_gib>[0-9]+(?:\.[0-9]+)?)", re.ASCII)

_EXCEPTED_SERIES = ("G", "M", "N", "H")
"""First letters of the series whose hosts are not updated under running VMs."""


@dataclass(frozen=True, slots=True)
class Size:
    """One size of the catalogue. `family` is its series as the documentation spells it, such as `Dsv3`."""

    name: str
    family: str
    vcpus: int
    memory_gib: float
    temp_disk_gib: float
    preserves_memory: bool
    """Whether it can be paused with its memory kept while its host is updated."""
    migrates_live: bool
    """Whether it can be moved running to another host."""


@cache
def catalogue() -> Mapping[str, Size]:
    """All listed sizes by name, those of the documentation first.

    The documentation says of each series whether its sizes keep their memory through an update and whether they
    can be moved running (the pages of the series, 2019-2024: not Lsv2, M, NCv3 and HBv3). The sample of the API
    has `MemoryPreservingMaintenanceSupported` alone. Live migration is taken to be the same, since the
    documentation never tells the two apart.
    """
    sizes = {
        row["size"]: Size(
            name=row["size"],
            family=row["family"],
            vcpus=int(row["vcpus"]),
            memory_gib=float(row["memory_gib"]),
            temp_disk_gib=float(row["temp_disk_gib"]),
            preserves_memory=row["memory_preserving"] == "true",
            migrates_live=row["live_migration"] == "true",
        )
        for row in _rows(_DOCS)
    }
    series = _series(sizes)
    for row in _rows(_API):
        name, is_memory_kept = row["size"], row["memory_preserving_maintenance"] == "True"
        # The API calls the family of Standard_D2s_v3 standardDSv3Family and that of Standard_NC16as_T4_v3
        # "Standard NCASv3_T4 Family": the name of the size tells the series more plainly.
        family = _named_family(name)
        assert family is not None, name
        added = Size(
            name=name,
            family=series.get(family.lower(), family),
            vcpus=int(row["vcpus"]),
            memory_gib=float(row["memory_gib"]),
            temp_disk_gib=float(row["temp_disk_gib"]),
            preserves_memory=is_memory_kept,
            migrates_live=is_memory_kept,
        )
        sizes.setdefault(name, added)
    return MappingProxyType(sizes)


def family_of(size: str) -> str | None:
    """The family of *size*: as listed, else by the published rule of names; None for a name that breaks it.

    `Standard_[letters][vcpus][-constrained][additive letters]_[accelerator]_[vN]` is of the family of letters,
    additive letters, accelerator and version: `Standard_D8-4s_v5` is of `Dsv5`. Case does not matter in names.
    """
    if (listed := _by_name().get(size.lower())) is not None:
        return listed.family
    named = _named_family(size)
    return named and _series(catalogue()).get(named.lower(), named)


def shape_of(size: str) -> tuple[float, float] | None:
    """(vCPUs, GiB) of *size*: as listed, or as a name like `4x7` of a generated fleet says; None for any other."""
    if (listed := _by_name().get(size.lower())) is not None:
        return listed.vcpus, listed.memory_gib
    match = _SHAPE.fullmatch(size)
    return (float(match["vcpus"]), float(match["memory_gib"])) if match else None


def preserves_memory(size: str) -> bool:
    """Whether *size* keeps its memory while its host is updated in place, so that it can be frozen.

    An unlisted size cannot if a listed size of its family cannot, nor if it is of the G, M, N or H series; all others
    can: memory-preserving updates cover more than 90 % of VMs (Azure, "Maintenance for virtual machines", 2019-2024).
    """
    return _is_able(size, "preserves_memory")


def migrates_live(size: str) -> bool:
    """Whether *size* can be moved running to another host; unlisted sizes as in `preserves_memory`."""
    return _is_able(size, "migrates_live")


def _is_able(size: str, ability: str) -> bool:
    if (listed := _by_name().get(size.lower())) is not None:
        able: bool = getattr(listed, ability)
        return able
    family = family_of(size)
    return family is None or not (family in _families_without(ability) or family[0].upper() in _EXCEPTED_SERIES)


def families() -> tuple[str, ...]:
    """Families of the catalogue, sorted."""
    return tuple(sorted({size.family for size in catalogue().values()}))


def _rows(name: str) -> Iterator[dict[str, str]]:
    with dataset_path(name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _named_family(size: str) -> str | None:
    if (match := _NAME.fullmatch(size)) is None:
        return None
    letters, additive, accelerator, version = (part or "" for part in match.groups())
    return f"{letters}{additive.replace('i', '')}{accelerator}{version}"  # i: alone on its host, of the same series


def _series(sizes: Mapping[str, Size]) -> dict[str, str]:
    """The listed family by what names of its sizes come to, in lower case: `mms` and `ms` are both of `M`."""
    named = ((_named_family(name), size.family) for name, size in sizes.items())
    return {name.lower(): family for name, family in named if name}


@cache
def _by_name() -> dict[str, Size]:
    return {name.lower(): size for name, size in catalogue().items()}


@cache
def _families_without(ability: str) -> frozenset[str]:
    return frozenset(size.family for size in catalogue().values() if not getattr(size, ability))
