"""The report on runs written by hand, without the engine: every figure below is computed on paper.

Two paired regions. `north` goes first: set 7 waits 1,000 s of its spread, holds domain 0 for 12 s (VMs a 10 s, b 12 s),
rests 600 s, holds domain 1 for 30 s (c); single d is paused 9 s at 500 s. `south` follows 60 s of pair lag later: single f
is paused 5 s at 1,802 s, set 8 of one VM, e, 20 s at 8,702 s.
"""

import datetime
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from fleetsim import schema
from fleetsim.errors import InputError
from fleetsim.figures import FIGURES, duration, read_events
from fleetsim.report import report

START = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)

#      vm, region, set, domain, size, start_ms, paused_ms
VMS = [
    ("a", "north", 7, 0, "2x3.5", 1_000_000, 10_000),
    ("b", "north", 7, 0, "2x3.5", 1_000_000, 12_000),
    ("c", "north", 7, 1, None, 1_612_000, 30_000),
    ("d", "north", None, None, "a/b%", 500_000, 9_000),
    ("e", "south", 8, 0, "2x3.5", 8_702_000, 20_000),
    ("f", "south", None, None, None, 1_802_000, 5_000),
]
NORTH = {
    "campaign": "hypervisor",
    "region": "north",
    "asked_ms": 0,
    "start_ms": 0,
    "end_ms": 1_642_000,
    "first_start_ms": 500_000,
    "vm_hit_count": 4,
    "unavailable_ms": 61_000,
    "set_count": 1,
    "single_count": 1,
    "set_down_ratio_max": 2 / 3,
    "set_out_ms": 0,
    "longest_ms": 642_000,
    "last_vm_row": 0,
    "last_spread_ms": 1_000_000,
    "last_work_ms": 42_000,
    "last_gap_ms": 600_000,
    "last_domain_count": 2,
}
SOUTH = {
    "campaign": "hypervisor",
    "region": "south",
    "asked_ms": 0,
    "start_ms": 1_702_000,
    "end_ms": 8_722_000,
    "first_start_ms": 1_802_000,
    "vm_hit_count": 2,
    "unavailable_ms": 25_000,
    "set_count": 1,
    "single_count": 1,
    "set_down_ratio_max": 0.0,
    "set_out_ms": 20_000,
    "longest_ms": 20_000,
    "last_vm_row": 4,
    "last_spread_ms": 7_000_000,
    "last_work_ms": 20_000,
    "last_gap_ms": 0,
    "last_domain_count": 1,
}
BINS = {  # (region, figure): bin -> value
    ("north", "hourly_start_count"): {0: 4},
    ("north", "hourly_unavailable_ms"): {0: 61_000},
    ("south", "hourly_start_count"): {0: 1, 7_200_000: 1},
    ("south", "hourly_unavailable_ms"): {0: 5_000, 7_200_000: 20_000},
    ("north", "paused_ms_histogram"): {8_960: 1, 9_984: 1, 11_904: 1, 29_952: 1},
    ("south", "paused_ms_histogram"): {4_992: 1, 19_968: 1},
}
HYPERVISOR = {"name": "hypervisor", "regions": ["north", "south"], "pair_lag_ms": 60_000}
CHAIN = [
    "north started when asked, then 16 min 40 s of spread, 42.0 s of work and 10 min of gap in set 7 (2 domains)",
    "south waited 28 min 22 s for north (pair) and 1 min of pair lag, then 1 h 57 min of spread and 20.0 s of work"
    " in set 8 (1 domain)",
]

TYPES = {
    "identity": pa.int64(),
    "text": pa.dictionary(pa.int32(), pa.string()),
    "code": pa.dictionary(pa.int8(), pa.string()),
    "u8": pa.uint8(),
    "u16": pa.uint16(),
    "u32": pa.uint32(),
    "i64": pa.int64(),
    "f64": pa.float64(),
    "instant": pa.timestamp("ms", "UTC"),
}


def write_table(path: Path, table: schema.Table, rows: list[dict[str, Any]], **types: pa.DataType) -> None:
    """Write *rows* of *table* as the schema declares it; columns that only *types* names come last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [
        pa.field(column.name, types.pop(column.name, None) or TYPES[column.dtype], nullable=column.is_nullable)
        for column in table.columns
        if column.is_required or any(column.name in row for row in rows)
    ]
    fields += [pa.field(name, type_) for name, type_ in types.items()]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), path)


def at(value_ms: int) -> datetime.datetime:
    return START + datetime.timedelta(milliseconds=value_ms)


def write_run(
    run: Path,
    *,
    vms=VMS,
    campaigns=(HYPERVISOR,),
    stages=(NORTH, SOUTH),
    bins=BINS,
    no_guarantee=(("south", 8, "one_vm"),),
    events=True,
    outcomes=True,
    pairs="region,paired_region,geography\nnorth,south,\nsouth,,\n",
    schema_version=schema.SCHEMA_VERSION,
) -> Path:
    """A finished run folder, written by hand; one campaign hits every VM of its *stages*."""
    rows = [
        dict(zip(("vm", "region", "set", "update_domain", "size", "start_ms", "paused_ms"), vm, strict=True))
        | {"vm_row": row, "rack/row": f"r{row % 2}"}
        for row, vm in enumerate(vms)
    ]
    for region in sorted({row["region"] for row in rows}):
        own = [row for row in rows if row["region"] == region]
        write_table(
            run / f"fleet/region={region}/part-00000.parquet",
            schema.FLEET,
            own,
            vm=pa.string(),
            **{"rack/row": pa.string(), "vm_row": pa.uint32()},
        )
        for place, campaign in enumerate(campaigns):
            if not any((stage["campaign"], stage["region"]) == (campaign["name"], region) for stage in stages):
                continue
            part = f"region={region}/part-c{place:03}-i001-00000.parquet"
            of_all = {"campaign": campaign["name"], "iteration": 1, "effects": 16}
            hit = of_all | {"phase": "platform", "kind": "freeze", "result": "completed"}
            ends = of_all | {"outcome": "updated", "reason": "none", "down_ms": 0, "event_count": 1}
            if events:
                write_table(
                    run / "events" / part,
                    schema.EVENTS,
                    [row | hit | {"start_at": at(row["start_ms"]), "duration_ms": row["paused_ms"]} for row in own],
                )
            if outcomes:
                write_table(run / "outcomes" / part, schema.OUTCOMES, [row | ends for row in own])
    write_table(
        run / "stages.parquet",
        schema.STAGES,
        [
            {"iteration": 1, "wave": 1, "bottleneck": "spread", **{f"{word}_count": 0 for word in schema.words(schema.Outcome)}}
            | {"campaign": stage["campaign"], "region": stage["region"], "updated_count": stage["vm_hit_count"]}
            | {"first_start_at": at(stage["first_start_ms"]), "last_end_at": at(stage["end_ms"])}
            for stage in stages
        ],
    )
    singles = [
        {"campaign": stage["campaign"], "iteration": 1, "region": stage["region"], "figure": name, "value": value}
        for stage in stages
        for name, value in stage.items()
        if name not in ("campaign", "region")
    ]
    binned = [
        {"campaign": "hypervisor", "iteration": 1, "region": region, "figure": name, "value": value, "bin_start_ms": start_ms}
        for (region, name), values in bins.items()
        for start_ms, value in values.items()
    ]
    write_table(run / "summary.parquet", schema.SUMMARY, singles + binned)
    write_table(
        run / "no_guarantee.parquet",
        schema.NO_GUARANTEE,
        [dict(zip(("region", "set", "reason"), row, strict=True)) for row in no_guarantee],
    )
    (run / "pairs.csv").write_text(pairs)
    lines = ['name = "december"', "start = 2026-12-01T00:00:00Z", "seed = 7", 'preset = "azure-2017"', "[outputs]"]
    lines += [f"events = {str(events).lower()}", f"outcomes = {str(outcomes).lower()}"]
    for campaign in campaigns:
        lines += ["[[campaign]]", 'kind = "freeze"', *(f"{key} = {json.dumps(each)}" for key, each in campaign.items())]
    (run / "resolved.toml").write_text("\n".join(lines))
    parts = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    manifest = {
        "fleetsim_version": "0.1.0",
        "schema_version": schema_version,
        "seed": 7,
        "scenario_digest": "5c" * 32,
        "fleet_digest": "f1" * 32,
        "run_digest": "d1" * 32,
        "parts": [{"path": path, "rows": None, "sha256": ""} for path in parts],
        "counts": {"vms": len(vms), "events": len(vms), "outcomes": len(vms), "stages": 2, "sets": 2, "singles": 2},
        "invented": ["regions are drawn: [bold]the trace has none[/bold]"],
        "warnings": ["2 VMs have no size"],
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("plain") / "december-run")


def values(frame: pl.DataFrame, grain: str, key: str) -> dict[str, float]:
    """Figure -> value of one grain and key."""
    return dict(frame.filter(grain=grain, key=key).select("figure", "value").rows())


def rendered(run: Path, width: int = 80, **options: Any) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    report(run, **options).render(console)
    return console.export_text()


def of_pauses(tmp_path: Path, pauses_ms: list[int]) -> Path:
    """A run of singles of one region, paused so long."""
    vms = [(f"v{row}", "north", None, None, "s", 0, each) for row, each in enumerate(pauses_ms)]
    stage = NORTH | {"vm_hit_count": len(vms), "unavailable_ms": sum(pauses_ms)}
    return write_run(tmp_path / "run", vms=vms, stages=[stage], bins={}, no_guarantee=())


# Figures


def test_every_figure_of_the_campaign(run):
    assert values(report(run).frame, "campaign", "hypervisor") == {
        "length_ms": 8_722_000 - 500_000,
        "length_bound_ratio": 8_222_000 / (642_000 + 60_000 + 20_000),
        "vm_count": 6,
        "vm_hit_count": 6,
        "paused_ms_p50": 10_000,  # third of 5, 9, 10, 12, 20, 30 s
        "paused_ms_p99": 30_000,
        "paused_ms_max": 30_000,
        "unavailable_ms": 86_000,
        "set_down_ratio_max": 2 / 3,
        "set_out_ms": 20_000,
        "no_guarantee_count": 1,
    }


def test_every_figure_of_a_stage(run):
    assert values(report(run).frame, "stage", "hypervisor/1/north") == {
        "length_ms": 1_142_000,
        "length_bound_ratio": 1_142_000 / 642_000,
        "vm_count": 4,
        "vm_hit_count": 4,
        "paused_ms_p50": 10_000,  # second of 9, 10, 12, 30 s
        "paused_ms_p99": 30_000,
        "paused_ms_max": 30_000,
        "unavailable_ms": 61_000,
        "set_down_ratio_max": 2 / 3,
        "set_out_ms": 0,
        "no_guarantee_count": 0,
    }


def test_hours_run_from_the_first_impact_to_the_last(run):
    frame = report(run).frame

    assert [values(frame, "hour", f"hypervisor/{hour}") for hour in range(4)] == [
        {"hourly_start_count": 5, "hourly_unavailable_ms": 66_000},
        {"hourly_start_count": 0, "hourly_unavailable_ms": 0},
        {"hourly_start_count": 1, "hourly_unavailable_ms": 20_000},
        {},
    ]


def test_frame_is_the_declared_table(run):
    frame = report(run, by=["size"]).frame

    assert frame.columns == schema.REPORT.names()
    assert frame.select("figure", "grain", "key").is_unique().all()
    units = dict(frame.select("figure", "unit").unique().rows())
    assert units == {name: figure.unit for name, figure in FIGURES.items()}


@pytest.mark.parametrize("kept", [{}, {"outcomes": False}], ids=["outcomes", "events"])
@pytest.mark.parametrize(
    ("vm_count", "p50", "p99"),
    [(1, 1, 1), (2, 1, 2), (3, 2, 3), (100, 50, 99), (101, 51, 100), (200, 100, 198), (201, 101, 199)],
)
def test_percentiles_are_by_nearest_rank(tmp_path, kept, vm_count, p50, p99):
    run = of_pauses(tmp_path, [(place * 7) % vm_count + 1 for place in range(vm_count)] if vm_count % 7 else [])

    found = values(report(run).frame, "campaign", "hypervisor")

    assert [found[f"paused_ms_{which}"] for which in ("p50", "p99", "max")] == [p50, p99, vm_count]
