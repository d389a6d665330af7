"""What a run writes: the engine's arrays and sums as rows of the declared tables.

Columns that say the same in every row share their buffers among blocks, and are dictionary-encoded: a few bytes.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetsim.engine import Impacts, Sums, histogram_bin_starts_ms
from fleetsim.kernels.impact import HOUR_MS
from fleetsim.kinds import KINDS, MaintenanceKind
from fleetsim.scenario import Campaign
from fleetsim.schema import (
    EVENTS,
    NO_GUARANTEE,
    OUTCOMES,
    STAGES,
    SUMMARY,
    Bottleneck,
    Outcome,
    Reason,
    Result,
    Table,
    words,
)
from fleetsim.stages import Started
from fleetsim.tables import arrow_schema, instants

Provenance = Mapping[str, str]


def vm_rows(start: int, count: int) -> pa.Array:
    """The column `vm_row` of a part: uint32[count] from *start* on."""
    return pa.array(np.arange(start, start + count, dtype=np.uint32))


def events(impacts: Impacts, campaign: Campaign, iteration: int, vm_row: pa.Array, provenance: Provenance) -> pa.Table:
    """Rows of `events`, one a VM."""
    count, kind = len(vm_row), _kind(campaign)
    columns = {
        "campaign": _same_text(campaign.name, count),
        "phase": _same_code(EVENTS, "phase", kind.phases[0], count),
        "kind": _same_code(EVENTS, "kind", campaign.kind, count),
        "result": _same_code(EVENTS, "result", Result.COMPLETED, count),
        "iteration": _same(pa.uint8(), iteration, count),
        "vm_row": vm_row,
        "start_at": instants(impacts.start_at_ms),
        "duration_ms": pa.array(impacts.duration_ms),
        "effects": _same(pa.uint8(), int(kind.effects), count),
    }
    return _table(EVENTS, columns, provenance)


def outcomes(
    impacts: Impacts, campaign: Campaign, iteration: int, vm_row: pa.Array, provenance: Provenance
) -> pa.Table:
    """Rows of `outcomes`, one a VM: without windows everybody in scope is updated."""
    count, kind = len(vm_row), _kind(campaign)
    lost_ms, none_ms = pa.array(impacts.duration_ms), _same(pa.uint32(), 0, count)
    columns = {
        "campaign": _same_text(campaign.name, count),
        "iteration": _same(pa.uint8(), iteration, count),
        "vm_row": vm_row,
        "outcome": _same_code(OUTCOMES, "outcome", Outcome.UPDATED, count),
        "reason": _same_code(OUTCOMES, "reason", Reason.NONE, count),
        "paused_ms": lost_ms if kind.is_paused else none_ms,
        "down_ms": none_ms if kind.is_paused else lost_ms,
        "event_count": _same(pa.uint32(), 1, count),
        "effects": _same(pa.uint8(), int(kind.effects), count),
    }
    return _table(OUTCOMES, columns, provenance)


def _kind(campaign: Campaign) -> MaintenanceKind:
    return KINDS[campaign.kind.name.lower()]


_longest: dict[tuple[str, int | str], pa.Array] = {}


def _same(data_type: pa.DataType, value: int | str, count: int) -> pa.Array:
    """A column that says *value* in every row: a slice of the longest one asked for so far, which all blocks share."""
    key = (str(data_type), value)
    longest = _longest.get(key)
    if longest is None or len(longest) < count:
        longest = _longest[key] = pa.repeat(pa.scalar(value, data_type), count)
    return longest.slice(0, count)


def _same_text(word: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(_same(pa.int32(), 0, count), pa.array([word]), safe=False)


def _same_code(table: Table, name: str, code: IntEnum, count: int) -> pa.DictionaryArray:
    codes = table[name].codes
    assert codes is not None
    # Checking that a constant is within bounds, row by row, would take longer than writing it.
    return pa.DictionaryArray.from_arrays(_same(pa.int8(), int(code), count), pa.array(words(codes)), safe=False)


def stages(
    sums: Mapping[Started, Sums], campaigns: Sequence[Campaign], start_ms_epoch: int, provenance: Provenance
) -> pa.Table:
    """Rows of `stages`, in the order of *sums*."""
    rows = []
    for started, total in sums.items():
        row: dict[str, Any] = dict.fromkeys(STAGES.names())
        row.update({f"{word}_count": 0 for word in words(Outcome)})
        row.update(
            campaign=campaigns[started.stage.place].name,
            iteration=started.stage.iteration,
            region=started.stage.region,
            wave=1,
            first_start_at=start_ms_epoch + total.first_start_ms,
            last_end_at=start_ms_epoch + total.end_ms,
            updated_count=total.vm_hit_count,
            bottleneck=_bottleneck(started, total).name.lower(),
        )
        rows.append(row)
    return _from_rows(STAGES, rows, provenance)


def _bottleneck(started: Started, total: Sums) -> Bottleneck:
    waited_for = Bottleneck.PAIR if started.waited_for_pair else Bottleneck.CAMPAIGN
    parts_ms = {
        Bottleneck.WORK: total.last_work_ms,
        Bottleneck.GAP: total.last_gap_ms,
        Bottleneck.SPREAD: total.last_spread_ms,
        waited_for: started.start_ms - started.stage.asked_ms,
    }
    return max(parts_ms, key=lambda part: parts_ms[part])


def summary(sums: Mapping[Started, Sums], campaigns: Sequence[Campaign], provenance: Provenance) -> pa.Table:
    """Rows of `summary`: single figures of each stage, then its bins."""
    rows = []
    for started, total in sums.items():
        for figure, bin_start_ms, value in _figures(started, total):
            rows.append(
                {
                    "campaign": campaigns[started.stage.place].name,
                    "iteration": started.stage.iteration,
                    "region": started.stage.region,
                    "figure": figure,
                    "bin_start_ms": bin_start_ms,
                    "value": float(value),
                }
            )
    return _from_rows(SUMMARY, rows, provenance)


def _figures(started: Started, total: Sums) -> list[tuple[str, int | None, float]]:
    singles: dict[str, float] = {
        "asked_ms": started.stage.asked_ms,
        "start_ms": started.start_ms,
        "end_ms": total.end_ms,
        "first_start_ms": total.first_start_ms,
        "vm_hit_count": total.vm_hit_count,
        "unavailable_ms": total.unavailable_ms,
        "set_count": total.set_count,
        "single_count": total.single_count,
        "set_down_ratio_max": total.down_count / total.down_of_count,
        "set_out_ms": total.set_out_ms,
        "longest_ms": total.longest_ms,
        "last_vm_row": total.last_vm_row,
        "last_spread_ms": total.last_spread_ms,
        "last_work_ms": total.last_work_ms,
        "last_gap_ms": total.last_gap_ms,
        "last_domain_count": total.last_domain_count,
    }
    figures: list[tuple[str, int | None, float]] = [(figure, None, value) for figure, value in singles.items()]
    hours = sorted(total.hourly.items())
    figures += [("hourly_start_count", hour * HOUR_MS, counts[0]) for hour, counts in hours]
    figures += [("hourly_unavailable_ms", hour * HOUR_MS, counts[1]) for hour, counts in hours]
    bounds_ms = histogram_bin_starts_ms()
    figures += [
        ("paused_ms_histogram", int(bounds_ms[position]), int(total.histogram[position]))
        for position in np.flatnonzero(total.histogram)
    ]
    return figures


def no_guarantee(path: Path, regions: Collection[str], provenance: Provenance) -> pa.Table:
    """Rows of `no_guarantee` of the prepared fleet at *path* that are in *regions*."""
    table = pq.ParquetFile(path).read()
    in_scope = table.filter(pc.is_in(table["region"].cast(pa.string()), pa.array(sorted(regions), pa.string())))
    return in_scope.cast(arrow_schema(NO_GUARANTEE, provenance, table.schema.field("set").type))


def _table(table: Table, columns: Mapping[str, pa.Array], provenance: Provenance) -> pa.Table:
    schema = arrow_schema(table, provenance)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _from_rows(table: Table, rows: list[dict[str, Any]], provenance: Provenance) -> pa.Table:
    schema = arrow_schema(table, provenance)
    plain = pa.schema(
        [field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in schema]
    )
    arrays = [pa.array([row[field.name] for row in rows], field.type) for field in plain]
    encoded = [
        array.dictionary_encode().cast(field.type) if pa.types.is_dictionary(field.type) else array
        for array, field in zip(arrays, schema, strict=True)
    ]
    return pa.Table.from_arrays(encoded, schema=schema)
