"""Plain fleets: equal sets over a few regions, any number of VMs, in memory bounded by a part.

They are for first steps and for measuring: vm and set are numbers in order, so a run over them can be told by
head.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim.errors import InputError
from fleetsim.fleet.draws import drawn_codes, fleet_key
from fleetsim.fleet.facts import render_facts
from fleetsim.progress import Progress
from fleetsim.regions import REGION_NAME
from fleetsim.schema import FLEET, NO_ROW, UPDATE_DOMAIN_COUNT_DEFAULT, UPDATE_DOMAIN_COUNT_MAX, Stream
from fleetsim.tables import arrow_field, check_new, constant_text, folder_above, provenance_of, write_parquet

if TYPE_CHECKING:
    from rich.console import Console

REGIONS_DEFAULT = (
    *("eastus", "westus", "northeurope", "westeurope", "eastus2"),
    *("centralus", "southeastasia", "eastasia", "uksouth", "ukwest"),
)
"""Ten regions in five pairs."""
SIZE_WEIGHTS = {"1x1.75": 4770, "2x3.5": 2485, "4x7": 1088, "8x14": 1056, "8x56": 385, "1x0.75": 206}
"""Creations of the Azure 2017 public trace by size (vcpus x GiB), of 10,000; the rest is below 10 each."""

_PART_ROWS = 1 << 20
_COLUMNS = ("vm", "region", "set", "update_domain", "size")


@dataclass(frozen=True, slots=True)
class Generated:
    """A generated fleet on disk."""

    path: Path
    vm_count: int
    set_count: int
    vm_count_by_region: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        return {
            "fleet": str(self.path),
            "vm_count": self.vm_count,
            "set_count": self.set_count,
            "vm_count_by_region": self.vm_count_by_region,
        }

    def render(self, console: "Console") -> None:
        """Print the facts to *console*."""
        facts = [
            ("VMs", f"{self.vm_count:,}"),
            ("sets", f"{self.set_count:,}" if self.set_count else "none"),
            *(("regions", f"{region}: {count:,}") for region, count in self.vm_count_by_region.items()),
        ]
        render_facts(console, f"fleet {self.path}", facts)


def generate(
    out: str | Path,
    vms: int,
    regions: Sequence[str] | None = None,
    set_size: int = 20,
    *,
    update_domains: int = UPDATE_DOMAIN_COUNT_DEFAULT,
    seed: int = 0,
    progress: Progress | None = None,
) -> Generated:
    """Write a fleet of *vms* VMs, 0 .. vms - 1, in sets of *set_size* in turn; a size of 1 makes singles.

    out             a file, if it ends in .parquet, else a folder region=R/part-*.parquet; must be new
    regions         each gets an equal run of sets, in this order; the first ones get what is left over
    update_domains  the i-th VM of a set is in domain i mod update_domains
    seed            draws the size of each set (of each single) from the mix of the Azure 2017 public trace
    """
    out = Path(out)
    regions = REGIONS_DEFAULT if regions is None else tuple(regions)
    _check_arguments(out, vms, regions, set_size, update_domains, seed)
    key = fleet_key(seed)
    set_count = -(-vms // set_size)
    share, larger_count = divmod(set_count, len(regions))
    region_sets = [share + (place < larger_count) for place in range(len(regions))]
    bounds = [min(vms, int(count) * set_size) for count in np.cumsum([0, *region_sets])]
    fields = [arrow_field(FLEET[name], pa.int64()) for name in _COLUMNS]
    schema = pa.schema(fields, metadata={"fleetsim.table": FLEET.name, **provenance_of(seed=seed)})

    def parts(start: int, stop: int) -> Iterator[tuple[int, int]]:
        rows = max(1, _PART_ROWS // set_size) * set_size  # whole sets
        return ((first, min(first + rows, stop)) for first in range(start, stop, rows))

    def part(region: str, start: int, stop: int) -> pa.Table:
        vm = np.arange(start, stop)
        sets, place = np.divmod(vm, set_size)
        first_set = int(sets[0])
        size = drawn_codes(key, Stream.SIZE, np.arange(first_set, int(sets[-1]) + 1), tuple(SIZE_WEIGHTS.values()))
        is_single = np.ones(len(vm), np.bool_) if set_size == 1 else None
        columns = [
            pa.array(vm),
            constant_text(region, np.zeros(len(vm), np.int32)),
            pa.array(sets, mask=is_single),
            pa.array((place % update_domains).astype(np.uint8), mask=is_single),
            pa.DictionaryArray.from_arrays(
                pa.array(size[sets - first_set].astype(np.int32)), pa.array(list(SIZE_WEIGHTS))
            ),
        ]
        if progress is not None:
            progress("generate", stop, vms)
        return pa.Table.from_arrays(columns, schema=schema)

    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=folder_above(out)) as scratch:
        made = Path(scratch) / "fleet"
        spans = [(region, *span) for region, span in zip(regions, pairwise(bounds), strict=True)]
        if out.suffix == ".parquet":
            _write_one(made, schema, (part(region, *rows) for region, *span in spans for rows in parts(*span)))
        else:
            for region, *span in spans:
                for number, rows in enumerate(parts(*span)):
                    write_parquet(made / f"region={region}" / f"part-{number:05}.parquet", part(region, *rows))
        out.parent.mkdir(parents=True, exist_ok=True)
        made.rename(out)
    return Generated(
        out,
        vm_count=vms,
        set_count=0 if set_size == 1 else set_count,
        vm_count_by_region={region: stop - start for region, start, stop in spans},
    )


def _check_arguments(
    out: Path, vms: int, regions: Sequence[str], set_size: int, update_domains: int, seed: int
) -> None:
    problems = []
    for judge in (lambda: check_new(out), lambda: folder_above(out), lambda: fleet_key(seed)):
        try:
            judge()
        except InputError as error:
            problems += error.problems
    for name, value, largest in (
        ("vms", vms, NO_ROW - 1),
        ("set_size", set_size, NO_ROW - 1),
        ("update_domains", update_domains, UPDATE_DOMAIN_COUNT_MAX),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
            problems.append(f"{name}: must be a whole number from 1 to {largest:,}, got '{value}'")
    if not regions:
        problems.append("regions: must name at least one region, got none")
    for place, region in enumerate(regions):
        if not re.fullmatch(REGION_NAME, region):
            problems.append(
                f"regions: a name must be letters, digits, '-' or '_' with at least one letter, got '{region}'"
            )
        if region in regions[:place]:
            problems.append(f"regions: each must be named once, got '{region}' twice")
    if problems:
        raise InputError(problems)


def _write_one(path: Path, schema: pa.Schema, parts: Iterator[pa.Table]) -> None:
    """One Parquet file, a row group a part, encoded as `tables.write_parquet` does; never whole in memory."""
    with path.open("wb") as file:
        with pq.ParquetWriter(
            file,
            schema,
            compression="lz4",
            use_dictionary=["region", "size"],
            column_encoding=dict.fromkeys(("vm", "set", "update_domain"), "BYTE_STREAM_SPLIT"),
        ) as writer:
            for part in parts:
                writer.write_table(part, row_group_size=part.num_rows)
        file.flush()
        os.fsync(file.fileno())
