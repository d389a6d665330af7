"""The relation of regions: which regions are known, which are paired, and which must wait for one another.

A pair is listed by one region and binds both: edges are undirected (rules.md R49). The relation is a fact
beside the fleet, so it has a digest of its own. A user's list replaces the built-in one; the two are never
merged.
"""

import csv
import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fleetsim.errors import InputError, nearest, nearest_path, renaming, wrong_separator
from fleetsim.schema import PAIRS
from fleetsim.shipped import dataset_path
from fleetsim.storage import Place

REGION_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9_-]+")
HOW_TO_LIST = "list it, with its pair or without, in a file for --pairs (CSV region,paired_region)"
"""What to do about a region that is not known."""
_SOVEREIGN_GEOGRAPHIES = frozenset({"China", "US Department of Defense", "US Government"})
_DOCS = "region_pairs_docs.csv"
_API = "region_pairs_real.csv"


@dataclass(frozen=True)
class Relation:
    """Known regions with their listed pair and geography (`""` where there is none), in order of name."""

    paired: Mapping[str, str]
    geography: Mapping[str, str]

    @cached_property
    def regions(self) -> tuple[str, ...]:
        """Names of the known regions, sorted."""
        return tuple(self.paired)

    @cached_property
    def edges(self) -> frozenset[frozenset[str]]:
        """The pairs as sets of two regions, whichever of the two lists the other."""
        return frozenset(frozenset((region, other)) for region, other in self.paired.items() if other)

    @cached_property
    def _neighbours(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {region: set() for region in self.paired}
        for region, other in self.paired.items():
            if other:
                found[region].add(other)
                found[other].add(region)
        return {region: frozenset(others) for region, others in found.items()}

    @cached_property
    def _pair_groups(self) -> dict[str, str]:
        groups: dict[str, str] = {}
        for region in self.paired:  # in order of name: the first region met of a component is its smallest
            reached = [] if region in groups else [region]
            while reached:
                member = reached.pop()
                if member not in groups:
                    groups[member] = region
                    reached.extend(self._neighbours[member])
        return groups

    def neighbours(self, region: str) -> frozenset[str]:
        """Regions that share an edge with *region*."""
        return self._neighbours[region]

    def pair_group(self, region: str) -> str:
        """Name of the smallest region of the connected component of *region*."""
        return self._pair_groups[region]

    @cached_property
    def digest(self) -> str:
        """sha256 of the relation as CSV, in hex."""
        return hashlib.sha256(self.to_csv().encode()).hexdigest()

    def to_csv(self) -> str:
        """The relation as `load_relation` reads it: one line a region, sorted."""
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(PAIRS.names())
        lines.writerows((region, other, self.geography[region]) for region, other in self.paired.items())
        return text.getvalue()


def load_relation(path: str | Place | None = None) -> Relation:
    """The relation in the CSV file *path* (`region,paired_region[,geography]`), or the built-in one.

    Who is named as a pair must be listed too, with a pair or without: else a typo would make a region. Built in
    are the documented regions, and from the dump of the locations API those the documentation does not list.
    """
    if path is not None:
        return _relation(_rows(Path(path) if isinstance(path, str) else path, must_list_pairs=True))
    documented = _rows(dataset_path(_DOCS))
    return _relation({**_rows(dataset_path(_API)), **documented})


def public_regions() -> list[str]:
    """The documented regions of the public cloud, in the order of the list."""
    rows = _rows(dataset_path(_DOCS))
    return [region for region, (_, geography) in rows.items() if geography not in _SOVEREIGN_GEOGRAPHIES]


def zoned_regions() -> frozenset[str]:
    """The documented regions that have availability zones."""
    with dataset_path(_DOCS).open(encoding="utf-8", newline="") as file:
        return frozenset(row["region"] for row in csv.DictReader(file) if row["has_zones"] == "true")


def _relation(rows: Mapping[str, tuple[str, str]]) -> Relation:
    known = sorted(rows)
    return Relation(
        paired={region: rows[region][0] for region in known},
        geography={region: rows[region][1] for region in known},
    )


def _rows(path: Place, *, must_list_pairs: bool = False) -> dict[str, tuple[str, str]]:
    """(pair, geography) by region, in file order; `InputError` with every problem of the file."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        hint = nearest_path(path) if isinstance(error, FileNotFoundError) and isinstance(path, Path) else ""
        raise InputError(
            f"{path}: the list of region pairs must be a readable CSV file, got: {reason}{hint}"
        ) from error
    lines = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip() for name in next(lines, [])]
    if problem := wrong_separator(header):
        raise InputError(f"{path}: line 1: {problem}")
    unknown = [name for name in header if name not in PAIRS.names()]
    missing = [column.name for column in PAIRS.columns if column.is_required and column.name not in header]
    if missing:
        raise InputError(
            f"{path}: line 1: column '{name}' must be there, got {', '.join(header) or 'an empty file'}"
            f"{renaming(name, unknown, missing)}"
            for name in missing
        )
    problems: list[str] = []
    rows: dict[str, tuple[str, str]] = {}
    line_of: dict[str, int] = {}
    listed: set[str] = set()  # in faulty lines too
    for fields in lines:
        line = lines.line_num
        if not any(field.strip() for field in fields):
            continue
        values = dict(zip(header, (field.strip() for field in fields), strict=False))
        listed.add(values.get("region", ""))
        if len(fields) != len(header):
            problems.append(f"{path}: line {line}: must have {len(header)} fields, got {len(fields)}")
            continue
        region, paired, geography = values["region"], values["paired_region"], values.get("geography", "")
        row_problems = [
            f"{path}: line {line}: column '{column}': a region name must be letters, digits, '-' or '_'"
            f" with at least one letter, got '{values[column]}'"
            for column in ("region", "paired_region")
            if not (REGION_NAME.fullmatch(values[column]) or (column == "paired_region" and not paired))
        ]
        if region and region == paired:
            row_problems.append(f"{path}: line {line}: region '{region}' must not be paired with itself")
        if rows.get(region, (paired, geography)) != (paired, geography):
            row_problems.append(
                f"{path}: line {line}: region '{region}' must be listed once,"
                f" got another pair or geography than in line {line_of[region]}"
            )
        problems.extend(row_problems)
        if not row_problems:
            rows[region] = (paired, geography)
            line_of.setdefault(region, line)
    for region, (paired, _) in rows.items() if must_list_pairs else ():
        if paired and paired not in listed:
            problems.append(
                f"{path}: line {line_of[region]}: column 'paired_region': must be listed as a region too,"
                f" got '{paired}'{nearest(paired, listed - {region})}; it may be listed with an empty paired_region"
            )
    if not (rows or problems):
        problems.append(f"{path}: must list at least one region, got none")
    if problems:
        raise InputError(problems)
    return rows
