"""The report on runs written by hand, without the engine: every figure below is computed on paper.

Two paired regions. `north` goes first: set 7 waits 1,000 s of its spread, then holds domain 0 for 12 s (VMs a
10 s, b 12 s), rests 600 s, holds domain 1 for 30 s (c); single d is paused 9 s at 500 s. `south` follows 60 s
of pair lag later: single f is paused 5 s at 1,802 s, set 8 of one VM, e, 20 s at 8,702 s.
"""

import datetime
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from fleetsim import schema
from fleetsim.errors import InputError
from fleetsim.figures import FIGURES, RunFiles, duration, impact_by, read_events
from fleetsim.reporting import report

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
    "north from 0 s, as asked: 16 min 40 s of spread, 42.0 s of work and 10 min of gap in set 7 (2 domains)",
    "south from 28 min 22 s, after north (pair) and 1 min of pair lag:"
    " 1 h 57 min of spread and 20.0 s of work in set 8 (1 domain)",
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
            {
                "iteration": 1,
                "wave": 1,
                "bottleneck": "spread",
                **{f"{word}_count": 0 for word in schema.words(schema.Outcome)},
            }
            | {
                "campaign": stage["campaign"],
                "region": stage["region"],
                "updated_count": stage["vm_hit_count"],
            }
            | {"first_start_at": at(stage["first_start_ms"]), "last_end_at": at(stage["end_ms"])}
            for stage in stages
        ],
    )
    singles = [
        {
            "campaign": stage["campaign"],
            "iteration": 1,
            "region": stage["region"],
            "figure": name,
            "value": value,
        }
        for stage in stages
        for name, value in stage.items()
        if name not in ("campaign", "region")
    ]
    binned = [
        {
            "campaign": "hypervisor",
            "iteration": 1,
            "region": region,
            "figure": name,
            "value": value,
            "bin_start_ms": start_ms,
        }
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
    lines = [
        'name = "december"',
        "start = 2026-12-01T00:00:00Z",
        "seed = 7",
        'preset = "azure-2017"',
        "[outputs]",
    ]
    lines += [f"events = {str(events).lower()}", f"outcomes = {str(outcomes).lower()}"]
    for campaign in campaigns:
        lines += [
            "[[campaign]]",
            'kind = "freeze"',
            *(f"{key} = {json.dumps(each)}" for key, each in campaign.items()),
        ]
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
        "counts": {
            "vms": len(vms),
            "events": len(vms),
            "outcomes": len(vms),
            "stages": 2,
            "sets": 2,
            "singles": 2,
        },
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
    console = Console(width=width, record=True, file=io.StringIO())
    report(run, **options).render(console)
    return console.export_text()


def of_pauses(tmp_path: Path, pauses_ms: list[int], **kept: bool) -> Path:
    """A run of singles of one region, paused so long."""
    vms = [(f"v{row}", "north", None, None, "s", 0, each) for row, each in enumerate(pauses_ms)]
    stage = NORTH | {"vm_hit_count": len(vms), "unavailable_ms": sum(pauses_ms)}
    return write_run(tmp_path / "run", vms=vms, stages=[stage], bins={}, no_guarantee=(), **kept)


def two_campaigns(tmp_path: Path, **kept: Any) -> Path:
    """A run of two campaigns, each in both regions."""
    campaigns = [HYPERVISOR, {"name": "firmware", "regions": ["north", "south"], "pair_lag_ms": 0}]
    stages = [stage | {"campaign": each["name"]} for each in campaigns for stage in (NORTH, SOUTH)]
    return write_run(tmp_path / "run", campaigns=campaigns, stages=stages, **kept)


def rewrite(path: Path, table: pa.Table, name: str, values: list[int]) -> None:
    """Write *table* to *path*, its column *name* now of *values*."""
    field = table.schema.field(name)
    place = table.schema.get_field_index(name)
    pq.write_table(table.set_column(place, field, pa.array(values, field.type)), path)


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


def test_hours_are_those_in_which_impacts_start(run):
    frame = report(run).frame

    assert [values(frame, "hour", f"hypervisor/{hour}") for hour in range(4)] == [
        {"hourly_start_count": 5, "hourly_unavailable_ms": 66_000},
        {},
        {"hourly_start_count": 1, "hourly_unavailable_ms": 20_000},
        {},
    ]


def test_quiet_hours_take_nothing(tmp_path):
    last_ms = 10**9 * 3_600_000  # filled in, the hours would take gigabytes
    bins = {
        ("north", "hourly_start_count"): {0: 3, 3_600_000: 0, last_ms: 1},
        ("north", "hourly_unavailable_ms"): {0: 30, 3_600_000: 0, last_ms: 10},
    }
    run = write_run(tmp_path / "run", bins=bins)

    assert report(run).to_dict()["campaigns"][0]["hours"] == [
        {"hour": 0, "hourly_start_count": 3, "hourly_unavailable_ms": 30},
        {"hour": 10**9, "hourly_start_count": 1, "hourly_unavailable_ms": 10},
    ]
    assert len(report(run).frame.filter(grain="hour")) == 4
    lines = rendered(run).splitlines()
    assert lines[-1].split() == ["0", "h", "1,000,000,001", "h"]
    assert lines[-2].partition("▕")[2] == "█" + " " * 65 + "▃"  # one bar at each end of 67 columns


def test_frame_is_the_declared_table(run):
    frame = report(run, by=["size"]).frame

    assert frame.columns == schema.REPORT.names()
    assert frame.select("figure", "grain", "key").is_unique().all()
    units = dict(frame.select("figure", "unit").unique().rows())
    assert units == {name: figure.unit for name, figure in FIGURES.items()}


@pytest.mark.parametrize("least_ms", [1, 1_000_000], ids=["a bin each", "one bin"])
@pytest.mark.parametrize("kept", [{}, {"outcomes": False}], ids=["outcomes", "events"])
@pytest.mark.parametrize(
    ("vm_count", "expected"),
    [
        (1, (1, 1)),
        (2, (1, 2)),
        (3, (2, 3)),
        (100, (50, 99)),
        (101, (51, 100)),
        (200, (100, 198)),
        (201, (101, 199)),
    ],
)
def test_percentiles_are_by_nearest_rank(tmp_path, kept, least_ms, vm_count, expected):
    shuffled_ms = [place * 7 % vm_count + least_ms for place in range(vm_count)]
    run = of_pauses(tmp_path, shuffled_ms, **kept)

    found = values(report(run).frame, "campaign", "hypervisor")

    positions = [round(found[f"paused_ms_{which}"]) - least_ms + 1 for which in ("p50", "p99", "max")]
    assert positions == [*expected, vm_count]


def test_percentiles_of_groups_are_exact_where_bins_are_wide(tmp_path):
    pauses_ms = [random.Random(7 + row).choice([30_000, 2**31 + row, 2**31 + row % 10]) for row in range(2_000)]
    run = of_pauses(tmp_path, pauses_ms)

    frame = report(run, by=["rack/row", "region,rack/row"]).frame

    for rack in (0, 1):
        own = sorted(pauses_ms[rack::2])
        for grain, key in (
            ("rack/row", f"hypervisor/r{rack}"),
            ("region,rack/row", f"hypervisor/north/r{rack}"),
        ):
            found = values(frame, grain, key)
            assert [found[f"paused_ms_{which}"] for which in ("p50", "p99", "max")] == [
                own[499],
                own[989],
                own[-1],
            ]


def test_vms_without_an_event_count_in_the_scope_alone():
    counted = pl.DataFrame(
        {
            "campaign": ["c"] * 4,
            "paused_ms": [None, 40, 10, 20],
            "paused_ms_max": [None, 40, 10, 20],
            "vm_count": [90, 1, 3, 2],
            "unavailable_ms": [0, 40, 30, 40],
        }
    )

    assert impact_by(counted, ["campaign"]).to_dicts() == [
        {
            "campaign": "c",
            "vm_count": 96,
            "unavailable_ms": 110,
            "paused_ms_p50": 10,
            "paused_ms_p99": 40,
            "paused_ms_max": 40,
            "vm_hit_count": 6,
        }
    ]


def test_without_events_and_outcomes_percentiles_come_from_the_histogram(tmp_path):
    found = report(write_run(tmp_path / "run", events=False, outcomes=False))

    figures = values(found.frame, "campaign", "hypervisor")
    assert [figures[f"paused_ms_{which}"] for which in ("p50", "p99", "max")] == [9_984, 29_952, 29_952]
    assert (figures["vm_hit_count"], figures["unavailable_ms"]) == (6, 86_000)
    assert found.to_dict()["approximate"] == ["paused_ms_p50", "paused_ms_p99", "paused_ms_max"]
    console = Console(width=80, record=True, file=io.StringIO())
    found.render(console)
    assert "~10.0 s" in console.export_text()


def test_exact_percentiles_are_not_marked(run):
    assert report(run).to_dict()["approximate"] == []
    assert "~" not in rendered(run)


def test_a_campaign_without_vms_has_no_lengths(tmp_path):
    nobody = {"name": "nobody", "regions": [], "pair_lag_ms": 0}
    run = write_run(tmp_path / "run", campaigns=[HYPERVISOR, nobody])

    found = values(report(run).frame, "campaign", "nobody")

    assert {name for name, value in found.items() if value is None} == {
        *("length_ms", "length_bound_ratio", "paused_ms_p50", "paused_ms_p99", "paused_ms_max"),
        "set_down_ratio_max",
    }
    assert {value for value in found.values() if value is not None} == {0}


def test_an_empty_run_renders(tmp_path):
    nobody = {"name": "nobody", "regions": [], "pair_lag_ms": 0}
    run = write_run(tmp_path / "run", campaigns=[nobody], stages=[], bins={}, no_guarantee=())

    assert "No VM is in scope" in rendered(run, by=["size"])
    assert report(run).to_dict()["campaigns"][0]["chain"] == []


# What bounds the length


def test_the_pair_chain_binds(run):
    bound = report(run).bounds["hypervisor"]

    assert (bound.bound_ms, bound.regions) == (722_000, ("north", "south"))
    assert (
        bound.sentence() == "no order takes less than 12 min 2 s: the longest set or single in north,"
        " then, 1 min later, in its pair south"
    )


@pytest.mark.parametrize("rows", ["north,\nsouth,\n", "south,elsewhere\n", "north,north\n"])
def test_without_the_pair_the_longest_set_binds(tmp_path, rows):
    bound = report(write_run(tmp_path / "run", pairs=f"region,paired_region\n{rows}")).bounds["hypervisor"]

    assert (bound.bound_ms, bound.regions) == (642_000, ("north",))


def test_a_pair_binds_whichever_side_lists_it(tmp_path):
    run = write_run(tmp_path / "run", pairs="region,paired_region\nnorth,\nsouth,north\n")

    assert report(run).bounds["hypervisor"].bound_ms == 722_000
    assert [link.region for link in report(run).chains["hypervisor"]] == ["north", "south"]


def test_the_chain_in_sentences(run):
    assert [link.sentence("hypervisor") for link in report(run).chains["hypervisor"]] == CHAIN


def test_links_add_up_to_their_stages(run):
    for link in report(run).chains["hypervisor"]:
        assert link.spread_ms + link.work_ms + link.gap_ms == link.end_ms - link.start_ms


def test_the_chain_crosses_campaigns_and_ends_in_singles(tmp_path):
    firmware = {"name": "firmware", "regions": ["north"], "pair_lag_ms": 0}
    stage = NORTH | {
        "campaign": "firmware",
        "asked_ms": 600_000,
        "start_ms": 1_642_000,
        "first_start_ms": 1_650_000,
        "end_ms": 1_651_000,
        "last_vm_row": 3,
        "last_spread_ms": 8_000,
        "last_work_ms": 1_000,
        "last_gap_ms": 0,
    }
    run = write_run(tmp_path / "run", campaigns=[HYPERVISOR, firmware], stages=[NORTH, SOUTH, stage])

    links = report(run).chains["firmware"]

    assert [link.sentence("firmware") for link in links] == [
        f"hypervisor in {CHAIN[0]}",
        "north from 27 min 22 s, after campaign hypervisor: 8.0 s of spread and 1.0 s of work in single d",
    ]
    assert [(link.set, link.vm) for link in links] == [(7, None), (None, "d")]


@pytest.mark.parametrize("own_end_ms", [1_702_000, 1_701_999], ids=["tie", "pair last"])
def test_on_a_tie_the_stages_own_region_released_it(tmp_path, own_end_ms):
    firmware = {"name": "firmware", "regions": ["south"], "pair_lag_ms": 0}
    # By start, north comes first: 60 s of pair lag after its end is when firmware in south ends too.
    before = SOUTH | {"campaign": "firmware", "start_ms": 1_000, "end_ms": own_end_ms}
    run = write_run(tmp_path / "run", campaigns=[HYPERVISOR, firmware], stages=[NORTH, SOUTH, before])

    link = report(run).chains["hypervisor"][-1]

    is_tie = own_end_ms == SOUTH["start_ms"]
    assert link.after == (("firmware", "south") if is_tie else ("hypervisor", "north"))
    assert link.pair_lag_ms == (0 if is_tie else 60_000)


def test_a_wait_that_no_stage_explains_is_not_explained_away(tmp_path):
    run = write_run(tmp_path / "run", stages=[NORTH, SOUTH | {"start_ms": 1_702_001}])

    assert (
        report(run)
        .chains["hypervisor"][0]
        .sentence("hypervisor")
        .startswith("south from 28 min 22 s, 28 min 22 s after it was asked for, for no stage of this run: ")
    )


# Groups


@pytest.mark.parametrize("kept", [{}, {"outcomes": False}, {"events": False}], ids=["both", "events", "outcomes"])
def test_groups_by_size(tmp_path, kept):
    frame = report(write_run(tmp_path / "run", **kept), by=["size"]).frame

    assert values(frame, "size", "hypervisor/2x3.5") == {
        "vm_count": 3,
        "vm_hit_count": 3,
        "paused_ms_p50": 12_000,  # a 10, b 12, e 20 s
        "paused_ms_p99": 20_000,
        "paused_ms_max": 20_000,
        "unavailable_ms": 42_000,
    }
    assert values(frame, "size", "hypervisor/a%2Fb%25")["unavailable_ms"] == 9_000
    assert values(frame, "size", "hypervisor/%00")["unavailable_ms"] == 35_000
    assert frame.filter(grain="size")["key"].n_unique() == 3


@pytest.mark.parametrize("by", [["region,size"], [("region", "size")]], ids=["words", "list"])
def test_groups_by_several_columns(run, by):
    found = report(run, by=by)

    assert values(found.frame, "region,size", "hypervisor/north/2x3.5")["paused_ms_max"] == 12_000
    assert values(found.frame, "region,size", "hypervisor/south/2x3.5")["paused_ms_max"] == 20_000
    table = found.to_dict()["campaigns"][0]["by"][0]
    assert table["columns"] == ["region", "size"]
    assert table["rows"][0] == {
        "key": ["north", "2x3.5"],
        "figures": {
            "vm_count": 2,
            "vm_hit_count": 2,
            "paused_ms_p50": 10_000,
            "paused_ms_p99": 12_000,
            "paused_ms_max": 12_000,
            "unavailable_ms": 22_000,
        },
    }


def test_a_column_of_any_name_and_type_can_be_grouped_by(run):
    frame = report(run, by=["rack/row", "update_domain"]).frame

    assert values(frame, "rack/row", "hypervisor/r1")["unavailable_ms"] == 12_000 + 9_000 + 5_000
    assert values(frame, "update_domain", "hypervisor/0")["vm_count"] == 3


@pytest.mark.parametrize("kept", [{}, {"outcomes": False, "events": False}], ids=["exact", "approximate"])
def test_regions_are_grouped_whatever_was_kept(tmp_path, kept):
    frame = report(write_run(tmp_path / "run", **kept), by="region").frame

    found = values(frame, "region", "hypervisor/south")
    assert (found["vm_count"], found["vm_hit_count"], found["unavailable_ms"]) == (2, 2, 25_000)
    assert found["paused_ms_max"] == (19_968 if kept else 20_000)


def test_groups_need_events_or_outcomes(tmp_path):
    run = write_run(tmp_path / "run", events=False, outcomes=False)

    with pytest.raises(InputError, match="groups by 'size' need the outcomes or the events"):
        report(run, by=["size"])


def test_a_grouping_asked_for_twice_is_given_once(run):
    twice = report(run, by=["region,size", ["region", "size", "region"]]).frame

    assert twice.equals(report(run, by=["region,size"]).frame)


def test_every_unknown_column_is_named_with_the_nearest(run):
    with pytest.raises(InputError) as caught:
        report(run, by=["sise", "region,updatedomain"])

    assert [problem.partition("got ")[2] for problem in caught.value.problems] == [
        "'sise'; did you mean 'size'?",
        "'updatedomain'; did you mean 'update_domain'?",
    ]


@pytest.mark.parametrize("kept", [{"outcomes": False}, {"events": False}], ids=["events", "outcomes"])
def test_misnamed_files_do_not_swap_campaigns(tmp_path, kept):
    run = two_campaigns(tmp_path, **kept)
    table, column = ("events", "duration_ms") if "outcomes" in kept else ("outcomes", "paused_ms")
    hypervisor, firmware = sorted(run.glob(f"{table}/region=south/*.parquet"))
    rewrite(firmware, pq.read_table(firmware), column, [1, 2])
    expected = report(run, by=["size"]).frame
    hypervisor.rename(run / "aside")
    firmware.rename(hypervisor)
    (run / "aside").rename(firmware)

    found = report(run, by=["size"]).frame

    assert found.equals(expected)
    assert values(found, "size", "firmware/%00")["paused_ms_p50"] == 2
    assert values(found, "size", "hypervisor/%00")["paused_ms_p50"] == 5_000
    rewrite(hypervisor, pq.read_table(hypervisor), "iteration", [2, 2])
    assert [(part.campaign, part.iteration, part.region) for part in RunFiles.open(run).parts(table)] == [
        ("hypervisor", 1, "north"),
        ("hypervisor", 1, "south"),
        ("firmware", 1, "north"),
        ("firmware", 2, "south"),
    ]


def test_a_file_without_rows_is_what_its_name_says(tmp_path):
    run = two_campaigns(tmp_path, outcomes=False)
    (path,) = run.glob("events/region=south/part-c001-*")
    pq.write_table(pq.read_table(path).slice(0, 0), path)

    found = values(report(run, by=["region"]).frame, "region", "firmware/south")

    assert (found["vm_count"], found["vm_hit_count"], found["paused_ms_max"]) == (2, 0, None)
    assert len(read_events(run).collect()) == 10


def test_a_file_of_no_campaign_of_the_run_is_an_input_error(tmp_path):
    run = write_run(tmp_path / "run", outcomes=False)
    resolved = (run / "resolved.toml").read_text()
    (run / "resolved.toml").write_text(resolved.replace('"hypervisor"', '"hypervisors"'))

    with pytest.raises(InputError, match="must be of a campaign of the run, got 'hypervisor'; did you mean"):
        read_events(run)


# Files and terminal


def test_json_holds_figures_chain_and_curve(run, tmp_path):
    report(run, by=["size"]).write(tmp_path / "report.json", "json")

    found = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert (found["scenario"], found["start"], found["vm_count"]) == ("december", "2026-12-01T00:00:00Z", 6)
    campaign = found["campaigns"][0]
    assert campaign["figures"]["length_ms"] == 8_222_000
    assert [link["sentence"] for link in campaign["chain"]] == CHAIN
    assert campaign["hours"][1] == {"hour": 2, "hourly_start_count": 1, "hourly_unavailable_ms": 20_000}
    assert campaign["no_guarantee"] == {"one_vm": 1}
    assert [stage["region"] for stage in campaign["stages"]] == ["north", "south"]
    assert [row["key"] for row in campaign["by"][0]["rows"]] == [["2x3.5"], [None], ["a/b%"]]


def test_parquet_is_the_frame_with_provenance(run, tmp_path):
    found = report(run, by=["size"])
    found.write(tmp_path / "report.parquet")

    assert (
        pl.read_parquet(tmp_path / "report.parquet")
        .select(pl.col(pl.Categorical).cast(pl.String), "value")
        .equals(found.frame)
    )
    written = pq.read_schema(tmp_path / "report.parquet")
    assert [field.nullable for field in written] == [False, False, False, False, True]
    assert written.metadata[b"fleetsim.table"] == b"report"
    assert written.metadata[b"fleetsim.fleet_digest"] == b"f1" * 32
    assert [path.name for path in tmp_path.iterdir()] == ["report.parquet"]


def test_an_unknown_format_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="got 'parket'; did you mean 'parquet'"):
        report(run).write(tmp_path / "report", "parket")
    with pytest.raises(InputError, match="must be in a folder that is there, got none"):
        report(run).write(tmp_path / "nowhere" / "report.json", "json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(run, width):
    text = rendered(run, width, by=["size", "region", "region,size"])

    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_the_terminal_says_what_the_files_say(run):
    text = rendered(run, by=["size"])
    words = " ".join(text.split())

    assert "6 VMs in 2 regions" in words
    assert "regions are drawn: [bold]the trace has none[/bold]" in words
    assert "length_ms 2 h 17 min" in words
    for sentence in CHAIN:
        assert sentence in words
    assert "1 set of one VM: 8 in south" in words
    assert "2x3.5 3 12.0 s 20.0 s 20.0 s 42.0 s" in words


def test_long_tables_are_cut_and_say_so(tmp_path):
    run = of_pauses(tmp_path, [1_000] * 20)

    text = rendered(run, by=["vm"])

    assert "... 5 more" in text
    assert len(re.findall(r"^ +v\d+ ", text, re.MULTILINE)) == 15


def test_long_curves_are_summed_until_they_fit(tmp_path):
    bins = {("north", "hourly_start_count"): {hour * 3_600_000: 2 for hour in range(0, 700, 7)}}
    run = write_run(tmp_path / "run", bins=bins)

    text = rendered(run)

    assert "by 11 hours since scenario start" in text  # 694 hours on 67 columns
    assert "0 h" in text and "694 h" in text
    assert max(map(len, text.splitlines())) <= 80


def test_an_ascii_terminal_gets_ascii(run):
    buffer = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report(run, by=["size"]).render(Console(width=80, file=buffer))

    buffer.flush()


@pytest.mark.parametrize(
    ("value_ms", "words"),
    [
        (0, "0 s"),
        (1, "1 ms"),
        (999, "999 ms"),
        (30_000, "30.0 s"),
        (59_949, "59.9 s"),
        (59_950, "1 min"),
        (90_000, "1 min 30 s"),
        (3_599_499, "59 min 59 s"),
        (3_599_500, "1 h"),
        (45_660_000, "12 h 41 min"),
        (86_369_999, "23 h 59 min"),
        (86_370_000, "24 h"),
        (359_969_999, "99 h 59 min"),
        (359_970_000, "4 d 4 h"),
        (161_579_000_000, "1,870 d 3 h"),
    ],
)
def test_durations_as_people_say_them(value_ms, words):
    assert duration(value_ms) == words


# Not a run


def test_only_a_finished_run_is_reported(run, tmp_path):
    with pytest.raises(InputError, match="must be the folder of a run, got nothing"):
        report(tmp_path / "nowhere")
    with pytest.raises(InputError, match="must be the folder of a run, got a file"):
        report(run / "manifest.json")
    with pytest.raises(InputError, match=r"got no manifest\.json and no resolved\.toml"):
        report(tmp_path)


def test_a_newer_schema_is_refused(tmp_path):
    newer = schema.SCHEMA_VERSION + 1
    run = write_run(tmp_path / "run", schema_version=newer)

    with pytest.raises(InputError, match=f"must be at most {schema.SCHEMA_VERSION}, got {newer}"):
        report(run)


def test_damaged_runs_are_input_errors(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "summary.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="its files must be as the run wrote them"):
        report(run)
    (run / "summary.parquet").unlink()
    with pytest.raises(InputError, match=r"got 1 missing, first 'summary.parquet'"):
        report(run)
    (run / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match="must be the manifest of a run"):
        report(run)


# Events for notebooks


def test_events_carry_the_users_columns_and_one_boolean_an_effect(run):
    events = read_events(run, ["size"]).collect()

    assert events.row(2, named=True) == {
        "campaign": "hypervisor",
        "phase": "platform",
        "kind": "freeze",
        "result": "completed",
        "iteration": 1,
        "vm_row": 2,
        "vm": "c",
        "region": "north",
        "size": None,
        "start_at": at(1_612_000),
        "end_at": at(1_642_000),
        "duration_ms": 30_000,
        "memory_lost": False,
        "temp_disk_lost": False,
        "address_changed": False,
        "host_changed": False,
        "clock_synchronised": True,
    }
    assert events["vm"].to_list() == list("abcdef")


def test_events_keep_the_order_of_their_files(tmp_path):
    events = read_events(of_pauses(tmp_path, [1_000] * 5_000)).collect()

    assert events["vm_row"].to_list() == list(range(5_000))


def test_events_are_by_campaign_as_in_the_scenario_iteration_and_vm_row(tmp_path):
    # By name the regions run against vm_row, and firmware before hypervisor.
    regions = {"north": "south", "south": "north"}
    run = two_campaigns(tmp_path, vms=[(vm, regions[region], *rest) for vm, region, *rest in VMS])
    for path in list(run.glob("events/region=*/part-c001-*")):
        again = pq.read_table(path)
        rewrite(path.with_name(path.name.replace("c001-i001", "c000-i002")), again, "iteration", [2] * len(again))

    events = read_events(run).collect()

    assert events.select(pl.col("campaign").cast(pl.String), "iteration", "vm_row").rows() == [
        (campaign, iteration, vm_row)
        for campaign, iteration in (("hypervisor", 1), ("firmware", 1), ("firmware", 2))
        for vm_row in range(6)
    ]


def test_no_events_are_an_empty_frame_of_the_same_columns(run, tmp_path):
    nobody = {"name": "nobody", "regions": [], "pair_lag_ms": 0}
    empty = write_run(tmp_path / "run", campaigns=[nobody], stages=[], bins={}, no_guarantee=())

    events = read_events(empty, ["size"]).collect()

    assert len(events) == 0
    assert events.schema == read_events(run, ["size"]).collect_schema()


def test_events_that_were_not_kept_are_not_shown_as_none(tmp_path):
    with pytest.raises(InputError, match="must have kept its events"):
        read_events(write_run(tmp_path / "run", events=False))


def test_unknown_columns_of_events_are_named(run):
    with pytest.raises(InputError, match="did you mean 'size'"):
        read_events(run, ["sizes"])
