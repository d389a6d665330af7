"""Fleets of any number of VMs, written part by part, in memory bounded by a few parts.

Plain ones are equal sets over a few regions, for first steps and for measuring: vm and set are numbers in order, so
a run over them can be told by head. Realistic ones are made in `realistic`.
"""

import json
import os
import re
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim.errors import InputError, nearest
from fleetsim.fleet.draws import drawn_codes, fleet_key
from fleetsim.fleet.facts import render_facts
from fleetsim.fleet.read import INVENTED_KEY
from fleetsim.fleet.realistic import Churn, Realistic
from fleetsim.progress import Progress
from fleetsim.regions import REGION_NAME, public_regions
from fleetsim.schema import FLEET, NO_ROW, UPDATE_DOMAIN_COUNT_DEFAULT, UPDATE_DOMAIN_COUNT_MAX, Stream
from fleetsim.tables import (
    arrow_field,
    check_new,
    constant_text,
    folder_above,
    instant_ms,
    provenance_of,
    splits,
    write_parquet,
)

if TYPE_CHECKING:
    from rich.console import Console

REGIONS_DEFAULT = (
    *("eastus", "westus", "northeurope", "westeurope", "eastus2"),
    *("centralus", "southeastasia", "eastasia", "uksouth", "ukwest"),
)
"""Ten regions in five pairs."""
SIZE_WEIGHTS = {"1x1.75": 4770, "2x3.5": 2485, "4x7": 1088, "8x14": 1056, "8x56": 385, "1x0.75": 206}
"""Creations of the Azure 2017 public trace by size (vcpus x GiB), of 10,000; the rest is below 10 each."""

MIXES = ("plain", "azure-2017")
SET_SIZE_DEFAULT = 20
DAYS_DEFAULT = 30
"""As many as the trace lifetimes are taken from."""
DAYS_MAX = 3650
START_DEFAULT = "2026-12-01T00:00:00Z"
ASKED_KEY = b"fleetsim.asked"
"""Metadata of a generated fleet: JSON object of the shares and means that were asked for."""

_REGIONS_SHOWN = 10
_PART_ROWS = 1 << 20
_COLUMNS = ("vm", "region", "set", "update_domain", "size")


@dataclass(frozen=True, slots=True)
class Generated:
    """A generated fleet on disk; `invented`: what no source says of it, a sentence each."""

    path: Path
    vm_count: int
    set_count: int
    vm_count_by_region: dict[str, int]
    invented: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON values."""
        return {
            "fleet": str(self.path),
            "vm_count": self.vm_count,
            "set_count": self.set_count,
            "vm_count_by_region": self.vm_count_by_region,
            "invented": list(self.invented),
        }

    def render(self, console: "Console") -> None:
        """Print the facts to *console*."""
        counts = list(self.vm_count_by_region.items())
        others = counts[_REGIONS_SHOWN:]
        facts = [
            ("VMs", f"{self.vm_count:,}"),
            ("sets", f"{self.set_count:,}" if self.set_count else "none"),
            *(("regions", f"{region}: {count:,}") for region, count in counts[:_REGIONS_SHOWN]),
            *([("regions", f"{len(others):,} more: {sum(count for _, count in others):,}")] if others else []),
            *(("invented", sentence) for sentence in self.invented),
        ]
        render_facts(console, f"fleet {self.path}", facts)


def generate(
    out: str | Path,
    vms: int,
    regions: Sequence[str] | None = None,
    set_size: int | None = None,
    *,
    update_domains: int | None = None,
    mix: str = "plain",
    lifetimes: bool = False,
    days: int | None = None,
    start: str | datetime | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Generated:
    """Write a fleet of *vms* VMs, 0 .. vms - 1.

    out             a file, if it ends in .parquet, else a folder region=R/part-*.parquet; must be new
    regions         of a plain fleet: each gets an equal run of sets, in this order; the first ones get what is left
                    over; by default ten. Of a realistic one: shares are 1, 1/2, 1/3 ...; by default all public ones
    mix             `plain`: all in sets of one size. `azure-2017`: as measured in the Azure 2017 public trace, see
                    `fleetsim.fleet.realistic`; what is made up is in the file
    set_size        of a plain fleet: VMs of a set, 20 by default; 1 makes singles
    update_domains  of a plain fleet: the i-th VM of a set is in domain i mod update_domains, 5 by default
    lifetimes       of a realistic fleet: VMs are created and deleted within *days* (30) from *start* (2026-12-01 UTC)
                    on, so that *vms* is the number of all that ever are; else all are there throughout
    seed            draws the size of each set (of each single), or all of a realistic fleet

    Raises `InputError` with everything that is wrong about the arguments; nothing is written then.
    """
    out = Path(out)
    of_plain = {"set_size": (set_size, NO_ROW - 1), "update_domains": (update_domains, UPDATE_DOMAIN_COUNT_MAX)}
    _check_arguments(out, vms, regions, seed, mix, of_plain, lifetimes, days, start)
    if mix == "plain":
        fleet: _Plain | Realistic = _Plain(
            vms,
            REGIONS_DEFAULT if regions is None else tuple(regions),
            SET_SIZE_DEFAULT if set_size is None else set_size,
            UPDATE_DOMAIN_COUNT_DEFAULT if update_domains is None else update_domains,
            seed,
        )
        told = {}
    else:
        churn = Churn(instant_ms("start", start or START_DEFAULT), days or DAYS_DEFAULT) if lifetimes else None
        fleet = Realistic(vms, _all_regions() if regions is None else tuple(regions), seed, churn)
        asked = json.dumps({"mix": mix, **fleet.asked()})
        told = {ASKED_KEY.decode(): asked, INVENTED_KEY.decode(): json.dumps(fleet.invented())}
    schema = pa.schema(fleet.fields, metadata={"fleetsim.table": FLEET.name, **told, **provenance_of(seed=seed)})
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=folder_above(out)) as scratch:
        made = Path(scratch) / "fleet"
        with part_writer(made, schema, is_file=out.suffix == ".parquet") as write, ThreadPoolExecutor(1) as thread:
            made_count, writing = 0, deque[Future[None]]()
            for region, part in fleet.parts(schema):
                # One part is written while the next is made; no third is waiting.
                if writing:
                    writing.popleft().result()
                writing.append(thread.submit(write, region, part))
                made_count += part.num_rows
                if progress is not None:
                    progress("generate", made_count, vms)
            writing.popleft().result()
        out.parent.mkdir(parents=True, exist_ok=True)
        made.rename(out)
    return Generated(out, vms, fleet.set_count, dict(fleet.vm_count_by_region), tuple(fleet.invented()))


class _Plain:
    """Sets of *set_size* in turn, as many in each region: the arguments of `generate`."""

    fields = tuple(arrow_field(FLEET[name], pa.int64()) for name in _COLUMNS)

    def __init__(self, vms: int, regions: Sequence[str], set_size: int, update_domains: int, seed: int) -> None:
        set_count = -(-vms // set_size)
        share, larger_count = divmod(set_count, len(regions))
        region_sets = [share + (place < larger_count) for place in range(len(regions))]
        bounds = [min(vms, int(count) * set_size) for count in np.cumsum([0, *region_sets])]
        self.set_count = 0 if set_size == 1 else set_count
        self._spans = dict(zip(regions, pairwise(bounds), strict=True))
        self.vm_count_by_region = {region: stop - start for region, (start, stop) in self._spans.items()}
        self._set_size = set_size
        self._update_domains = update_domains
        self._key = fleet_key(seed)

    def invented(self) -> tuple[str, ...]:
        return ()

    def parts(self, schema: pa.Schema) -> Iterator[tuple[str, pa.Table]]:
        """(region, rows) in order of `vm`, in whole sets."""
        rows = max(1, _PART_ROWS // self._set_size) * self._set_size
        for region, (start, stop) in self._spans.items():
            for first in range(start, stop, rows):
                columns = self._columns(region, first, min(first + rows, stop))
                yield region, pa.Table.from_arrays(columns, schema=schema)

    def _columns(self, region: str, start: int, stop: int) -> list[pa.Array]:
        vm = np.arange(start, stop)
        sets, place = np.divmod(vm, self._set_size)
        first_set = int(sets[0])
        weights = tuple(SIZE_WEIGHTS.values())
        size = drawn_codes(self._key, Stream.SIZE, np.arange(first_set, int(sets[-1]) + 1), weights)
        is_single = np.ones(len(vm), np.bool_) if self._set_size == 1 else None
        return [
            pa.array(vm),
            constant_text(region, np.zeros(len(vm), np.int32)),
            pa.array(sets, mask=is_single),
            pa.array((place % self._update_domains).astype(np.uint8), mask=is_single),
            pa.DictionaryArray.from_arrays(
                pa.array(size[sets - first_set].astype(np.int32)), pa.array(list(SIZE_WEIGHTS))
            ),
        ]


def _all_regions() -> tuple[str, ...]:
    """The public regions, the ten of plain fleets first: those are among the older ones."""
    return tuple(dict.fromkeys((*REGIONS_DEFAULT, *public_regions())))


def _check_arguments(
    out: Path,
    vms: int,
    regions: Sequence[str] | None,
    seed: int,
    mix: str,
    of_plain: Mapping[str, tuple[int | None, int]],
    lifetimes: bool,
    days: int | None,
    start: str | datetime | None,
) -> None:
    """Raise `InputError` for all that is wrong; *of_plain*: (given, largest) of what only plain fleets take."""
    problems = []
    judges: list[Callable[[], object]] = [lambda: check_new(out), lambda: folder_above(out), lambda: fleet_key(seed)]
    if start is not None:
        judges.append(lambda: instant_ms("start", start))
    for judge in judges:
        try:
            judge()
        except InputError as error:
            problems += error.problems
    if mix not in MIXES:
        problems.append(f"mix: must be {' or '.join(MIXES)}, got '{mix}'{nearest(mix, MIXES)}")
    counts = {"vms": (vms, NO_ROW - 1), **of_plain, "days": (days, DAYS_MAX)}
    for name, (value, largest) in counts.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
            problems.append(f"{name}: must be a whole number from 1 to {largest:,}, got '{value}'")
        if name in of_plain and mix == MIXES[1]:
            problems.append(f"{name}: must be left out with mix '{mix}', which has sets as measured, got '{value}'")
    if lifetimes and mix == MIXES[0]:
        problems.append(
            f"lifetimes: must be left out with mix 'plain', whose VMs are there throughout; use '{MIXES[1]}'"
        )
    for name, given in (("days", days), ("start", start)):
        if given is not None and not lifetimes:
            problems.append(f"{name}: must be left out without lifetimes, got '{given}'")
    if regions is not None and not regions:
        problems.append("regions: must name at least one region, got none")
    regions = regions or ()
    for place, region in enumerate(regions):
        if not re.fullmatch(REGION_NAME, region):
            problems.append(
                f"regions: a name must be letters, digits, '-' or '_' with at least one letter, got '{region}'"
            )
        if region in regions[:place]:
            problems.append(f"regions: each must be named once, got '{region}' twice")
    if problems:
        raise InputError(problems)


@contextmanager
def part_writer(made: Path, schema: pa.Schema, *, is_file: bool) -> Iterator[Callable[[str, pa.Table], None]]:
    """What writes (region, part): into the one Parquet file *made*, a row group a part, or into a folder."""
    if not is_file:
        part_counts: dict[str, int] = {}

        def write(region: str, part: pa.Table) -> None:
            number = part_counts.get(region, 0)
            write_parquet(made / f"region={region}" / f"part-{number:05}.parquet", part)
            part_counts[region] = number + 1

        yield write
        return
    numbers = [field.name for field in schema if splits(field.type)]
    words = [name for name in schema.names if name not in numbers]
    with made.open("wb") as file:
        # Encoded as `tables.write_parquet` does, but never whole in memory.
        with pq.ParquetWriter(
            file,
            schema,
            compression="lz4",
            use_dictionary=words,
            column_encoding=dict.fromkeys(numbers, "BYTE_STREAM_SPLIT"),
        ) as writer:
            yield lambda _, part: writer.write_table(part, row_group_size=part.num_rows)
        file.flush()
        os.fsync(file.fileno())
