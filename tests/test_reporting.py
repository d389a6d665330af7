"""The report on runs written by hand, without the engine: every figure below is computed on paper.

Two paired regions. `north` goes first: set 7 waits 1,000 s of its spread, then holds domain 0 for 12 s (VMs a
10 s, b 12 s), rests 600 s, holds domain 1 for 30 s (c); single d is paused 9 s at 500 s. `south` follows 60 s
of pair lag later: single f is paused 5 s at 1,802 s, set 8 of one VM, e, 20 s at 8,702 s.
"""

import datetime
import io
import json
import math
import random
import re
import shutil
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tomli_w
from rich.console import Console

from fleetsim import figures, schema
from fleetsim import run as run_it
from fleetsim.errors import InputError
from fleetsim.figures import FIGURES, OUTCOME_COUNTS, RunFiles, duration, impact_by, outages, read_events
from fleetsim.reporting import OF_WHOLE, Bars, Grid, report

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
    "last_cap_ms": 0,
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
    "last_cap_ms": 0,
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
NO_OUTCOMES = dict.fromkeys([*OUTCOME_COUNTS, "remaining_count"], 0)
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
                "wave": stage.get("wave", 1),
                "updated_count": stage["vm_hit_count"],
                **{f"{word}_count": count for word, count in stage.get("ends", {}).items()},
            }
            | (
                {"first_start_at": at(stage["first_start_ms"]), "last_end_at": at(stage["end_ms"])}
                if "end_ms" in stage
                else {}
            )
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
        if name not in ("campaign", "region", "wave", "ends")
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
        "first_start_ms": 500_000,
        "last_end_ms": 8_722_000,
        "vm_count": 6,
        "vm_hit_count": 6,
        **NO_OUTCOMES,
        "updated_count": 6,
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
        "first_start_ms": 500_000,
        "last_end_ms": 1_642_000,
        "vm_count": 4,
        "vm_hit_count": 4,
        **NO_OUTCOMES,
        "updated_count": 4,
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
    last = max(place for place, line in enumerate(lines) if "▕" in line)
    bar, axis = lines[last : last + 2]
    assert axis.split() == ["0", "d", "41,666,697", "d"]  # 67 bars of 621,891 days
    assert bar.partition("▕")[2] == "█" + " " * 65 + "▃"  # one bar at each end of 67 columns


def test_frame_is_the_declared_table(run):
    frame = report(run, by=["size"]).frame

    assert frame.columns == [column.name for column in schema.REPORT.columns if column.is_required]
    assert frame.select("figure", "grain", "key").is_unique().all()
    assert all(FIGURES[name].unit == unit for name, unit in frame.select("figure", "unit").unique().rows())
    for name, grain in frame.select("figure", "grain").unique().rows():
        assert grain in FIGURES[name].grains or (grain == "size" and "by" in FIGURES[name].grains), (name, grain)


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
            "is_down": [False] * 4,
            "lost_ms": [None, 40, 10, 20],
            "lost_ms_max": [None, 40, 10, 20],
            "comes_back": [False] * 4,
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
    approximate = ["paused_ms_p50", "paused_ms_p99", "paused_ms_max", "paused_over_ratio"]
    assert [name for name in found.to_dict()["approximate"] if not name.startswith("down")] == approximate
    assert values(found.frame, "pause", "hypervisor/10s") == {"paused_over_ratio": 3 / 6}  # 9,984 ms is 10 s
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
        *("set_down_ratio_max", "first_start_ms", "last_end_ms"),
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
        assert link.spread_ms + link.work_ms + link.gap_ms + link.cap_ms == link.end_ms - link.start_ms


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
        **({} if kept.get("events") is False else {"first_start_ms": 1_000_000, "last_end_ms": 8_722_000}),
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
            "first_start_ms": 1_000_000,
            "last_end_ms": 1_012_000,
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


# Drawn worlds: every figure beside a second computation, in plain Python over the rows

DAY_MS = 86_400_000
MONTH_MS = 30 * DAY_MS
SIZES = ("small", "large", "fixed", None)
TOLERANCE_MS = {"streaming": 5_000, "database": 60_000, "unheard of": 1}


@dataclass
class World:
    """A run drawn at random, and what was written: VMs as rows, events and outcomes by campaign."""

    path: Path
    vms: list[dict[str, Any]]
    events: dict[str, dict[int, tuple[int, int]]]
    outcomes: dict[str, dict[int, str]]
    campaigns: list[dict[str, Any]]
    reboots: bool = False  # hypervisor reboots the size "fixed"

    def is_down(self, campaign: str, row: int) -> bool:
        """Whether an impact on the VM is no pause."""
        return self.reboots and campaign == "hypervisor" and self.vms[row]["size"] == "fixed"

    def alive(self, row: int, at_ms: int) -> bool:
        created, deleted = self.vms[row].get("created_ms"), self.vms[row].get("deleted_ms")
        return (created is None or created <= at_ms) and (deleted is None or at_ms < deleted)

    def stands_ms(self, row: int) -> int | None:
        vm = self.vms[row]
        return vm["pause_max_ms"] if vm["pause_max_ms"] is not None else TOLERANCE_MS.get(vm["workload"])

    def is_over(self, campaign: str, row: int) -> bool:
        event, stands_ms = self.events[campaign].get(row), self.stands_ms(row)
        is_paused = event is not None and not self.is_down(campaign, row)
        return is_paused and stands_ms is not None and event[1] > stands_ms

    def spans(self, campaigns: Sequence[str], rows: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
        """(start_ms, end_ms, living, out) between any two changes among *rows*."""
        hits = [
            (row, start_ms, start_ms + length_ms)
            for campaign in campaigns
            for row, (start_ms, length_ms) in self.events[campaign].items()
            if row in rows
        ]
        instants = {instant for _, *both in hits for instant in both}
        for row in rows:
            instants |= {
                self.vms[row][name] for name in ("created_ms", "deleted_ms") if self.vms[row].get(name) is not None
            }
        for start_ms, end_ms in pairwise(sorted(instants)):
            living = sum(self.alive(row, start_ms) for row in rows)
            yield start_ms, end_ms, living, sum(first <= start_ms < last for _, first, last in hits)

    def missed(self, campaigns: Sequence[str], rows: Sequence[int], line: int) -> bool:
        """Whether all living VMs of *rows* are out for too long in some month."""
        by_month: dict[int, int] = defaultdict(int)
        for start_ms, end_ms, living, out in self.spans(campaigns, rows):
            if out == living > 0:
                for month in range(start_ms // MONTH_MS, end_ms // MONTH_MS + 1):
                    by_month[month] += max(0, min(end_ms, (month + 1) * MONTH_MS) - max(start_ms, month * MONTH_MS))
        return max(by_month.values(), default=0) * 10_000 > (10_000 - line) * MONTH_MS

    def groups(self, column: str, rows: Iterable[int]) -> dict[Any, list[int]]:
        groups: dict[Any, list[int]] = defaultdict(list)
        for row in rows:
            groups[self.vms[row][column]].append(row)
        return dict(groups)


def needed(min_up: str | int | float, living: int) -> int:
    if min_up == "majority":
        return living // 2 + 1
    return math.ceil(min_up * living) if isinstance(min_up, float) else min_up


def drawn(
    path: Path,
    seed: int,
    *,
    lifetimes: bool = True,
    outputs: Sequence[str] = ("events", "outcomes"),
    reboots: bool = False,
    **resolved: Any,
) -> World:
    """A world of two campaigns in two regions, its fleet in parts of few VMs; lengths around the lines of SLAs.

    Where one *reboots* some, no other VM is out for as long as these.
    """
    draw = random.Random(seed)
    vms: list[dict[str, Any]] = []
    starts: dict[Any, int] = {}
    for row in range(60):
        region = ("north", "south")[row >= 32]
        its_set = draw.choice([None, row // 4, row // 4, row // 4])
        created_ms = draw.choice([None, None, -5, draw.randrange(40 * DAY_MS)]) if lifetimes else None
        deleted_ms = draw.choice([None, None, draw.randrange(41 * DAY_MS, 80 * DAY_MS)]) if lifetimes else None
        vms.append(
            {
                "vm": f"v{row}",
                "region": region,
                "set": its_set,
                "vm_row": row,
                "size": draw.choice(SIZES),
                "workload": draw.choice(["streaming", "database", "web", None]),
                "pause_max_ms": draw.choice([None, None, 4_000, 600_000]),
                "application": draw.choice(["shop", "bank", "game", f"a{row // 3}", f"b{row // 2}", None]),
                "created_ms": created_ms,
                "deleted_ms": deleted_ms,
            }
        )
    campaigns = [
        {"name": "hypervisor", "regions": ["north", "south"], "where": {}},
        {"name": "firmware", "regions": ["north"], "where": {"workload": ["streaming", "web"]}, "start_ms": 3 * DAY_MS},
    ]
    world = World(path, vms, {}, {}, campaigns, reboots)
    if reboots:
        campaigns[0] |= {"cannot_freeze": "reboot", "cannot_freeze_sizes": ["fixed"]}
    for place, campaign in enumerate(campaigns):
        campaign |= {"kind": "freeze", "pair_lag_ms": 0}
        events, outcomes = (
            world.events.setdefault(campaign["name"], {}),
            world.outcomes.setdefault(campaign["name"], {}),
        )
        for row, vm in enumerate(vms):
            words = campaign["where"].get("workload")
            if vm["region"] not in campaign["regions"] or (words and vm["workload"] not in words):
                continue
            # Sets and some applications at once, so that all of them are out; months end at 30 d and 60 d.
            key = (place, vm["set"] if vm["set"] is not None else draw.choice([vm["application"], row]))
            month_end_ms = draw.choice([30, 60]) * DAY_MS - draw.randrange(3_000_000)
            start_ms = starts.setdefault(key, month_end_ms + place * DAY_MS * draw.choice([1, 9]))
            length_ms = draw.choice([3_000, 5_000, 5_001, 60_000, 259_200, 259_201, 1_296_001, 2_592_000, 5_000_000])
            if reboots and not world.is_down(campaign["name"], row):
                length_ms = min(length_ms, 60_000)
            if not world.alive(row, start_ms) or draw.random() < 0.1:
                outcomes[row] = draw.choice(["deleted", "already_updated", "overdue", "unaffected"])
                continue
            deleted_ms = vm["deleted_ms"]
            is_cut = deleted_ms is not None and start_ms + length_ms > deleted_ms
            events[row] = (start_ms, deleted_ms - start_ms if is_cut else length_ms)
            outcomes[row] = "deleted" if is_cut else "updated"
    write_world(world, outputs=outputs, **resolved)
    return world


def write_world(world: World, *, outputs: Sequence[str], **resolved: Any) -> None:
    """Write *world* as the engine does: a part of each table for each stage and part of the fleet."""
    run, rows = world.path, []
    for vm in world.vms:
        lives = {name: None if vm[f"{name}_ms"] is None else at(vm[f"{name}_ms"]) for name in ("created", "deleted")}
        rows.append(
            vm
            | {
                name: value
                for name, value in lives.items()
                if any(each[f"{name}_ms"] is not None for each in world.vms)
            }
        )
    for region in ("north", "south"):
        own = [row for row in rows if row["region"] == region]
        for number, first in enumerate(range(0, len(own), 16)):  # sets are four VMs in a row: none is in two parts
            part = own[first : first + 16]
            write_table(
                run / f"fleet/region={region}/part-{number:05}.parquet",
                schema.FLEET,
                [dict.fromkeys(rows[0]) | row for row in part],
                vm=pa.string(),
                vm_row=pa.uint32(),
            )
            for place, campaign in enumerate(world.campaigns):
                name = campaign["name"]
                if region not in campaign["regions"]:
                    continue
                path = f"region={region}/part-c{place:03}-i001-{number:05}.parquet"
                base = {"campaign": name, "iteration": 1, "effects": 16, "phase": "platform", "kind": "freeze"}
                kinds = {row["vm_row"]: "reboot" for row in part if world.is_down(name, row["vm_row"])}
                hits = [
                    (row["vm_row"], *world.events[name][row["vm_row"]])
                    for row in part
                    if row["vm_row"] in world.events[name]
                ]
                write_table(
                    run / "events" / path,
                    schema.EVENTS,
                    [
                        base
                        | {"result": "completed", "vm_row": row, "start_at": at(start_ms), "duration_ms": length_ms}
                        | {"kind": kinds.get(row, "freeze")}
                        for row, start_ms, length_ms in hits
                    ],
                )
                write_table(
                    run / "outcomes" / path,
                    schema.OUTCOMES,
                    [
                        base
                        | {"vm_row": row["vm_row"], "outcome": world.outcomes[name][row["vm_row"]], "reason": "none"}
                        | {"paused_ms": 0, "down_ms": 0}
                        | {
                            "down_ms" if row["vm_row"] in kinds else "paused_ms": world.events[name].get(
                                row["vm_row"], (0, 0)
                            )[1]
                        }
                        | {"event_count": int(row["vm_row"] in world.events[name])}
                        for row in part
                        if row["vm_row"] in world.outcomes[name]
                    ],
                )
    for table in {"events", "outcomes"} - set(outputs):
        shutil.rmtree(run / table)
    stages, summary = [], []
    for campaign in world.campaigns:
        for region in campaign["regions"]:
            name = campaign["name"]
            base = {"campaign": name, "iteration": 1, "region": region}
            own = [row for row in world.outcomes[name] if world.vms[row]["region"] == region]
            hits = [world.events[name][row] for row in own if row in world.events[name]]
            ends = Counter(world.outcomes[name][row] for row in own)
            counts = {f"{word}_count": ends[word] for word in schema.words(schema.Outcome)}
            stages.append(base | {"wave": 1, "bottleneck": "work"} | counts)
            end_ms = max(start_ms + length_ms for start_ms, length_ms in hits)
            sets = world.groups("set", (row for row, vm in enumerate(world.vms) if vm["region"] == region))
            out_ms = sum(
                last_ms - first_ms
                for key, members in sets.items()
                if key is not None
                for first_ms, last_ms, living, out in world.spans([name], members)
                if out == living > 0
            )
            singles = {
                "asked_ms": campaign.get("start_ms", 0),
                "start_ms": campaign.get("start_ms", 0),
                "end_ms": end_ms,
                "free_ms": end_ms,
                "first_start_ms": min(start_ms for start_ms, _ in hits),
                "vm_hit_count": len(hits),
                "unavailable_ms": sum(length_ms for _, length_ms in hits),
                "set_down_ratio_max": 0.5,
                "set_out_ms": out_ms,
                "no_guarantee_count": 2,
                "pending_vm_ms": 1_000 * len(hits),
                "longest_ms": 1_000,
                "last_vm_row": own[0],
                **dict.fromkeys(
                    ("last_spread_ms", "last_work_ms", "last_gap_ms", "last_cap_ms", "last_domain_count"), 1
                ),
            }
            summary += [base | {"figure": figure, "value": value} for figure, value in singles.items()]
    write_table(run / "stages.parquet", schema.STAGES, stages)
    write_table(run / "summary.parquet", schema.SUMMARY, summary)
    write_table(run / "no_guarantee.parquet", schema.NO_GUARANTEE, [])
    (run / "pairs.csv").write_text("region,paired_region,geography\nnorth,south,\n")
    head = {"name": "drawn", "start": START, "seed": 7, "preset": "azure-2017", **resolved}
    head |= {"outputs": {name: name in outputs for name in ("events", "outcomes")}, "campaign": world.campaigns}
    (run / "resolved.toml").write_text(tomli_w.dumps(head))
    manifest = {
        "fleetsim_version": "0.1.0",
        "schema_version": schema.SCHEMA_VERSION,
        "seed": 7,
        "scenario_digest": "5c" * 32,
        "fleet_digest": "f1" * 32,
        "run_digest": "d1" * 32,
        "parts": [],
        "counts": {"vms": len(world.vms), "events": sum(map(len, world.events.values()))},
        "invented": [],
        "warnings": [],
    }
    (run / "manifest.json").write_text(json.dumps(manifest))


SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.deep) for seed in range(3, 6))]
EITHER = [("events", "outcomes"), ("events",), ("outcomes",)]


@pytest.mark.parametrize("outputs", EITHER, ids=["both", "events", "outcomes"])
@pytest.mark.parametrize("reboots", [False, True], ids=["pauses", "some reboot"])
@pytest.mark.parametrize("seed", SEEDS)
def test_vms_over_their_tolerance(tmp_path, seed, outputs, reboots):
    world = drawn(tmp_path / "run", seed, outputs=outputs, reboots=reboots, tolerance_ms=TOLERANCE_MS)

    frame = report(world.path, by=["size", "region,set"]).frame.filter(figure="over_tolerance_count")

    found = {(grain, key): value for grain, key, value in frame.select("grain", "key", "value").rows()}
    expected: dict[tuple[str, str], int] = defaultdict(int)
    for campaign, outcomes in world.outcomes.items():
        for row in outcomes:
            vm, is_over = world.vms[row], world.is_over(campaign, row)
            null = {name: "%00" if vm[name] is None else vm[name] for name in ("workload", "size", "set")}
            expected["campaign", campaign] += is_over
            expected["stage", f"{campaign}/1/{vm['region']}"] += is_over
            expected["workload", f"{campaign}/{null['workload']}"] += is_over
            expected["size", f"{campaign}/{null['size']}"] += is_over
            expected["region,set", f"{campaign}/{vm['region']}/{null['set']}"] += is_over
    assert found == expected
    assert sum(expected.values()) > 0


def test_a_vms_own_tolerance_goes_before_its_workloads(tmp_path):
    world = drawn(tmp_path / "run", 1)  # without [tolerance]
    own = {row for row in world.events["hypervisor"] if world.vms[row]["pause_max_ms"] is not None}

    found = values(report(world.path).frame, "campaign", "hypervisor")["over_tolerance_count"]

    assert found == sum(world.is_over("hypervisor", row) for row in own)


@pytest.mark.parametrize("kept", [{"events": False, "outcomes": False}, {}], ids=["histogram", "no tolerance"])
def test_a_tolerance_that_cannot_be_told_is_not_shown(tmp_path, kept):
    found = report(write_run(tmp_path / "run", **kept))

    assert "over_tolerance_count" not in found.frame["figure"]
    assert found.intolerances == []
    assert "over_tolerance" not in rendered(tmp_path / "run")


@pytest.mark.parametrize("reboots", [False, True], ids=["pauses", "some reboot"])
@pytest.mark.parametrize("seed", SEEDS)
def test_remedies_are_counted_over_the_vms_paused(tmp_path, seed, reboots):
    world = drawn(
        tmp_path / "run", seed, reboots=reboots, tolerance_ms=TOLERANCE_MS, cannot_migrate_sizes=["fixed", "large"]
    )

    found = {(each.campaign, each.workload): each for each in report(world.path).intolerances}

    expected_keys = {
        (campaign, world.vms[row]["workload"])
        for campaign, hit in world.events.items()
        for row in hit
        if world.is_over(campaign, row)
    }
    assert found.keys() == expected_keys
    for (campaign, workload), each in found.items():
        scope = [row for row in world.outcomes[campaign] if world.vms[row]["workload"] == workload]
        hit = [row for row in scope if row in world.events[campaign]]
        paused = [row for row in hit if not world.is_down(campaign, row)]
        stands = {row: stands_ms for row in paused if (stands_ms := world.stands_ms(row)) is not None}
        over = [row for row in hit if world.is_over(campaign, row)]
        assert (each.vm_count, each.vm_hit_count, each.over_tolerance_count) == (len(scope), len(hit), len(over))
        assert (each.tolerance_ms_min, each.tolerance_ms_max) == (min(stands.values()), max(stands.values()))
        still_over = {remedy.name: remedy.over_tolerance_count for remedy in each.remedies}
        assert all(remedy.saved_count == pytest.approx(len(over) - still_over[remedy.name]) for remedy in each.remedies)
        lognormal = NormalDist(math.log(6), math.log(9 / 6) / NormalDist().inv_cdf(0.99))
        assert still_over.pop("published_profile") == pytest.approx(
            sum(1 - lognormal.cdf(math.log(stands_ms / 1_000)) for stands_ms in stands.values())
        )
        assert still_over == {
            "published_maximum": sum(stands_ms < 10_000 for stands_ms in stands.values()),
            "longest_pause": 0,
            "live_migration": sum(
                row in over if world.vms[row]["size"] in ("fixed", "large") else stands_ms < 5_000
                for row, stands_ms in stands.items()
            ),
            "leaving_out": 0,
            "self_service": len(over),
        }
        # What `where` says, read back: of those hit, who is still selected is who is not counted as left out.
        toml = next(remedy.toml for remedy in each.remedies if remedy.name == "leaving_out")
        words = tomllib.loads(toml)["where"]["workload"]
        left_out = [row for row in world.events[campaign] if world.vms[row]["workload"] not in words]
        assert each.left_out_count == len(left_out)
        assert set(words) == {world.vms[row]["workload"] for row in world.outcomes[campaign]} - {workload, None}


def test_long_lists_of_workloads_are_toml_within_the_width(tmp_path):
    vms = [(f"v{row}", "north", None, None, "s", 0, 30_000) for row in range(80)]
    run = write_run(tmp_path / "run", vms=vms, stages=[NORTH], bins={}, no_guarantee=())
    (path,) = run.glob("fleet/*/*.parquet")
    words = [f'work "{row}"\x7f\\' for row in range(80)]
    pq.write_table(pq.read_table(path).append_column("workload", pa.array(words)), path)
    resolved = (run / "resolved.toml").read_text()
    (run / "resolved.toml").write_text(
        resolved.replace(
            "[outputs]", f"[tolerance_ms]\n{json.dumps(words[3])} = 1\n[outputs]".replace("\x7f", "\\u007f")
        )
    )

    (found,) = report(run).intolerances

    toml = next(remedy.toml for remedy in found.remedies if remedy.name == "leaving_out")
    assert tomllib.loads(toml)["where"]["workload"] == sorted(set(words) - {words[3]})
    assert max(map(len, toml.splitlines())) < 76
    assert max(map(len, rendered(run).splitlines())) <= 80


@pytest.mark.parametrize("outputs", EITHER, ids=["both", "events", "outcomes"])
@pytest.mark.parametrize("seed", SEEDS)
def test_shares_of_pauses_above_a_length(tmp_path, seed, outputs):
    world = drawn(tmp_path / "run", seed, outputs=outputs)

    frame = report(world.path, timeouts=["0.003s", "3s", "2999ms", "4.32min"]).frame.filter(grain="pause")

    bounds_ms = {"3ms": 3, "3s": 3_000, "2999ms": 2_999, "259200ms": 259_200}
    bounds_ms |= {f"{seconds}s": seconds * 1_000 for seconds in (1, 5, 10, 15, 30, 60)}
    expected = {
        f"{campaign}/{key}": sum(length_ms > bound_ms for _, length_ms in hit.values()) / len(hit)
        for campaign, hit in world.events.items()
        for key, bound_ms in bounds_ms.items()
    }
    assert dict(frame.select("key", "value").rows()) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["25", "s", "-1s", "1.0005s", "50d", "", "1 s s"])
def test_a_timeout_is_a_length(run, text):
    with pytest.raises(InputError, match=re.escape(f"got '{text}'")):
        report(run, timeouts=[text])


@pytest.mark.parametrize("outputs", EITHER, ids=["both", "events", "outcomes"])
@pytest.mark.parametrize("seed", SEEDS)
def test_pauses_and_down_times_of_one_campaign_are_told_apart(tmp_path, seed, outputs):
    world = drawn(tmp_path / "run", seed, outputs=outputs, reboots=True)

    frame = report(world.path, by=["region"]).frame

    for grain, key, rows in [("campaign", "hypervisor", range(60)), ("region", "hypervisor/north", range(32))]:
        told, hit = values(frame, grain, key), world.events["hypervisor"]
        assert told["vm_hit_count"] == sum(row in hit for row in rows)
        for word, is_down in (("paused", False), ("down", True)):
            lost_ms = sorted(hit[row][1] for row in rows if row in hit and world.is_down("hypervisor", row) is is_down)
            assert told[f"{word}_ms_max"] == lost_ms[-1]
            for percent in (50, 99):
                assert told[f"{word}_ms_p{percent}"] == lost_ms[math.ceil(len(lost_ms) * percent / 100) - 1]


@pytest.mark.parametrize("kept", ["both", "events", "outcomes", "neither"])
def test_who_reboots_in_a_freeze_is_down_and_not_paused(tmp_path, kept):
    # One set of three: domain 0 is out from 0 to 10 min, of which its VM without size for 10 s; then domain 1.
    fleet = pl.DataFrame({"vm": [1, 2, 3, 4], "set": [7, 7, 7, None], "update_domain": [0, 0, 1, None]})
    fleet = fleet.with_columns(region=pl.lit("eastus"), size=pl.Series(["Standard_M64s", None, None, "Standard_M64s"]))
    freeze = {"name": "freeze", "length": "10s", "cannot_freeze": "reboot", "reboot_length": "10min"}
    freeze |= {"update_domain_order": "sequential"}
    outputs = {table: kept in ("both", table) for table in ("events", "outcomes")}
    scenario = {"name": "some reboot", "start": START, "outputs": outputs, "campaign": [freeze]}
    run = run_it(fleet, scenario, tmp_path / "run").path

    told = values(report(run).frame, "campaign", "freeze")

    # Without events and outcomes, to the bin: of 2^7 and 2^13 ms.
    pause_ms, down_ms = (10_000, 600_000) if kept != "neither" else (10_000 >> 7 << 7, 600_000 >> 13 << 13)
    assert [told[f"{word}_ms_{each}"] for word in ("paused", "down") for each in ("p50", "p99", "max")] == [
        *[pause_ms] * 3,
        *[down_ms] * 3,
    ]
    assert (told["vm_hit_count"], told["updated_count"], told["length_ms"]) == (4, 4, 610_000)
    assert told["unavailable_ms"] == 2 * 600_000 + 2 * 10_000
    assert told["set_out_ms"] == 0
    page = rendered(run)
    assert re.search(r"paused_ms_max +~?(10.0|9.9|10) s", page)
    assert re.search(r"down_ms_max +~?(10 min|9 min 58 s)", page)


QUORUMS = ["majority", 2, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("min_up", [*QUORUMS, None])
@pytest.mark.parametrize("seed", SEEDS)
def test_outages_of_applications(tmp_path, monkeypatch, seed, min_up):
    quorum = {} if min_up is None else {"quorum": {"by": "application", "min_up": min_up}}
    world = drawn(tmp_path / "run", seed, **quorum)
    monkeypatch.setattr(outages, "INTERVALS_AT_ONCE", [2**24, 40, 7][seed % 3])

    found = figures.application_outages(world.path)

    expected = []
    for campaign, hit in world.events.items():
        for application, rows in world.groups("application", range(len(world.vms))).items():
            own = [hit[row] for row in rows if row in hit]
            if application is None or not own:
                continue
            out_ms = lost_ms = 0
            most = 0.0
            for start_ms, end_ms, living, out in world.spans([campaign], rows):
                if out:
                    most = max(most, out / living)
                    out_ms += (end_ms - start_ms) * (out == living)
                    if min_up is not None:
                        need = needed(min_up, living)
                        lost_ms += (end_ms - start_ms) * (living >= need and living - out < need)
            expected.append(
                {
                    "campaign": campaign,
                    "application": application,
                    "vm_count": len(rows),
                    "vm_hit_count": len(own),
                    "first_start_ms": min(start_ms for start_ms, _ in own),
                    "last_end_ms": max(start_ms + length_ms for start_ms, length_ms in own),
                    "application_out_ms": out_ms,
                    "quorum_lost_ms": None if min_up is None else lost_ms,
                    "application_down_ratio_max": most,
                }
            )
    worst = ["quorum_lost_ms", "application_out_ms", "application_down_ratio_max", "vm_count"]
    expected.sort(
        key=lambda row: (row["campaign"] == "firmware", *(-(row[name] or 0) for name in worst), row["application"])
    )
    assert found.drop("month_out_ms_max").to_dicts() == expected
    totals = {
        campaign: {
            name: sum(row[name] for row in expected if row["campaign"] == campaign)
            for name in ("application_out_ms", *(["quorum_lost_ms"] if min_up is not None else []))
        }
        for campaign in world.events
    }
    # As the runner asks, before there is a manifest.
    (world.path / "manifest.json").unlink()
    resolved = tomllib.loads((world.path / "resolved.toml").read_text())
    assert figures.application_totals(world.path, resolved) == totals


@pytest.mark.parametrize("seed", SEEDS)
def test_the_report_sums_applications_up(tmp_path, seed):
    world = drawn(tmp_path / "run", seed, quorum={"by": "application", "min_up": "majority"})
    outages = figures.application_outages(world.path)

    found = report(world.path)

    for campaign in world.events:
        own = outages.filter(campaign=campaign)
        summed = values(found.frame, "campaign", campaign)
        assert summed["application_out_ms"] == own["application_out_ms"].sum()
        assert summed["quorum_lost_ms"] == own["quorum_lost_ms"].sum()
        assert summed["application_down_ratio_max"] == own["application_down_ratio_max"].max()
        for row in own.iter_rows(named=True):
            of_one = values(found.frame, "application", f"{campaign}/{row['application']}")
            assert of_one == {name: row[name] for name in of_one}
            assert len(of_one) == 7


QUORUM_CASES = [
    # VMs, out at once, quorum -> is it lost
    (1, 1, "majority", True),
    (2, 1, "majority", True),
    (3, 1, "majority", False),
    (3, 2, "majority", True),
    (4, 1, "majority", False),
    (4, 2, "majority", True),
    (5, 2, "majority", False),
    (5, 3, "majority", True),
    (1, 1, 2, False),  # it never had two
    (2, 1, 2, True),
    (3, 1, 2, False),
    (1, 1, 0.5, True),
    (2, 1, 0.5, False),
    (3, 1, 0.5, False),
    (3, 2, 0.5, True),
    (5, 2, 0.5, False),
    (5, 3, 0.5, True),
    (5, 1, 1.0, True),
]


@pytest.mark.parametrize(("vm_count", "out", "min_up", "is_lost"), QUORUM_CASES)
def test_quorum_of_few_vms(tmp_path, vm_count, out, min_up, is_lost):
    vms = [(f"v{row}", "north", None, None, "s", 0 if row < out else 60_000 * row, 30_000) for row in range(vm_count)]
    run = write_run(tmp_path / "run", vms=vms, stages=[NORTH], bins={}, no_guarantee=())
    (path,) = run.glob("fleet/*/*.parquet")
    pq.write_table(pq.read_table(path).append_column("application", pa.array(["shop"] * vm_count)), path)
    alone_lost = needed(min_up, vm_count) <= vm_count and vm_count - 1 < needed(min_up, vm_count)
    resolved = tomllib.loads((run / "resolved.toml").read_text()) | {"quorum": {"by": "application", "min_up": min_up}}

    (row,) = figures.application_outages(run, resolved).to_dicts()

    assert row["quorum_lost_ms"] == 30_000 * is_lost + 30_000 * (vm_count - out) * alone_lost
    assert row["application_out_ms"] == 30_000 * (out == vm_count)
    assert row["application_down_ratio_max"] == out / vm_count


@pytest.mark.parametrize("reboots", [False, True], ids=["pauses", "some reboot"])
@pytest.mark.parametrize("lifetimes", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_service_levels_by_month(tmp_path, seed, lifetimes, reboots):
    world = drawn(tmp_path / "run", seed, lifetimes=lifetimes, reboots=reboots)

    frame = report(world.path).frame.filter(grain="sla")

    expected = {}
    every = range(len(world.vms))
    for view, names in {
        "hypervisor": ["hypervisor"],
        "firmware": ["firmware"],
        "*": ["hypervisor", "firmware"],
    }.items():
        for of, groups in {
            "vm": [[row] for row in every],
            "set": [rows for key, rows in world.groups("set", every).items() if key is not None],
            "application": [rows for key, rows in world.groups("application", every).items() if key is not None],
        }.items():
            for line in (9_990, 9_995, 9_999):
                name = f"sla_{line}_missed_count"
                expected[name, f"{view}/{of}"] = sum(world.missed(names, rows, line) for rows in groups)
    assert {(name, key): value for name, key, value in frame.select("figure", "key", "value").rows()} == expected
    assert sum(expected.values()) > 0


def test_an_impact_over_the_end_of_a_month_is_split(tmp_path):
    month_ms = 30 * DAY_MS
    vms = [
        ("a", "north", None, None, "s", month_ms - 259_200, 2 * 259_200),  # 4.32 min each side: within
        ("b", "north", None, None, "s", month_ms - 259_201, 2 * 259_200),
        ("c", "north", None, None, "s", month_ms, 259_201),
    ]
    run = write_run(tmp_path / "run", vms=vms, stages=[NORTH], bins={}, no_guarantee=())

    found = values(report(run).frame, "sla", "hypervisor/vm")

    assert found == {"sla_9990_missed_count": 0, "sla_9995_missed_count": 0, "sla_9999_missed_count": 2}


@pytest.mark.parametrize("outputs", EITHER, ids=["both", "events", "outcomes"])
@pytest.mark.parametrize("seed", SEEDS)
def test_ones_own_vms_among_strangers(tmp_path, seed, outputs):
    world = drawn(
        tmp_path / "run", seed, outputs=outputs, tolerance_ms=TOLERANCE_MS, quorum={"by": "application", "min_up": 1}
    )

    found = report(world.path, only=["workload=streaming", "size=small", "workload=web", "size=large"], by=["set"])

    ours = [
        row
        for row, vm in enumerate(world.vms)
        if vm["workload"] in ("streaming", "web") and vm["size"] in ("small", "large")
    ]
    assert found.to_dict()["only"] == {"workload": ["streaming", "web"], "size": ["small", "large"]}
    whole = report(world.path)
    for campaign in world.events:
        events = {row: world.events[campaign][row] for row in ours if row in world.events[campaign]}
        ends = Counter(world.outcomes[campaign][row] for row in ours if row in world.outcomes[campaign])
        lengths = sorted(length_ms for _, length_ms in events.values())
        figures_found = values(found.frame, "campaign", campaign)
        expected = {
            "vm_count": sum(ends.values()),
            "vm_hit_count": len(events),
            "paused_ms_max": lengths[-1],
            "paused_ms_p50": lengths[(len(lengths) + 1) // 2 - 1],
            "unavailable_ms": sum(lengths),
            "over_tolerance_count": sum(world.is_over(campaign, row) for row in events),
        }
        if "outcomes" in outputs:
            expected |= {f"{word}_count": ends[word] for word in schema.words(schema.Outcome)}
        if "events" in outputs:
            start_ms = 3 * DAY_MS if campaign == "firmware" else 0
            expected |= {
                "first_start_ms": min(start_ms for start_ms, _ in events.values()),
                "last_end_ms": max(map(sum, events.values())),
                "pending_vm_ms": sum(
                    sum(event) - max(start_ms, world.vms[row]["created_ms"] or 0) for row, event in events.items()
                ),
            }
            own_levels = values(found.frame, "sla", f"{campaign}/vm")
            assert own_levels["sla_9995_missed_count"] == sum(world.missed([campaign], [row], 9_995) for row in ours)
            hours = Counter(start_ms // 3_600_000 for start_ms, _ in events.values())
            curve = next(each["hours"] for each in found.to_dict()["campaigns"] if each["campaign"] == campaign)
            assert {each["hour"]: each["hourly_start_count"] for each in curve} == hours
            applications = world.groups("application", range(len(world.vms)))
            asked = {world.vms[row]["application"] for row in ours} - {None}
            shown = next(each for each in found.to_dict()["campaigns"] if each["campaign"] == campaign)["applications"]
            counted = {each["application"]: each["figures"]["vm_count"] for each in shown}
            assert counted == {
                key: len(rows)
                for key, rows in applications.items()
                if key in asked and set(rows) & world.events[campaign].keys()
            }
            # Whole, whoever is looked at.
            of_all = next(each for each in whole.to_dict()["campaigns"] if each["campaign"] == campaign)["applications"]
            assert shown == [each for each in of_all if each["application"] in asked]
        assert expected.items() <= figures_found.items()
        of_whole = values(whole.frame, "campaign", campaign)
        assert {name: figures_found[name] for name in figures_found.keys() & set(OF_WHOLE)} == {
            name: of_whole[name] for name in of_whole.keys() & set(OF_WHOLE)
        }
        assert found.chains[campaign] == whole.chains[campaign]
    grouped = found.frame.filter(grain="set", figure="vm_count")["value"].sum()
    assert grouped == sum(row in world.outcomes[campaign] for campaign in world.events for row in ours)
    sentences = " ".join(rendered(world.path, only={"workload": ["streaming"]}).split())
    assert "VMs with workload=streaming; of whole campaigns stay length_ms" in sentences


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["workload"], "only: must be COLUMN=VALUE, got 'workload'"),
        (["=web"], "only: must be COLUMN=VALUE, got '=web'"),
        (["worklaod=web"], "did you mean 'workload'"),
        (["workload=wbe"], "got none with workload=wbe; did you mean 'web'?"),
        ({"workload": ["web"], "size": "smal"}, "got none with workload=web and size=smal; did you mean 'small'?"),
    ],
)
def test_vms_that_are_not_there_are_told(tmp_path, only, expected):
    world = drawn(tmp_path / "run", 0)

    with pytest.raises(InputError, match=re.escape(expected)):
        report(world.path, only=only)


@pytest.mark.parametrize(
    ("type_", "values_", "asked"),
    [
        (pa.int64(), [1, 2, 2], "2"),
        (pa.float64(), [0.5, 4.0, 4.0], "4"),
        (pa.bool_(), [False, True, True], "true"),
        (pa.string(), ["a", "b=c", "b=c"], "b=c"),
    ],
)
def test_only_knows_columns_of_any_type(tmp_path, type_, values_, asked):
    vms = [(f"v{row}", "north", None, None, "s", 0, 1_000) for row in range(3)]
    run = write_run(tmp_path / "run", vms=vms, stages=[NORTH], bins={}, no_guarantee=())
    (path,) = run.glob("fleet/*/*.parquet")
    pq.write_table(pq.read_table(path).append_column("mine", pa.array(values_, type_)), path)

    assert values(report(run, only=[f"mine={asked}"]).frame, "campaign", "hypervisor")["vm_count"] == 2


def test_ones_own_vms_cannot_be_told_from_sums(tmp_path):
    run = write_run(tmp_path / "run", events=False, outcomes=False)

    with pytest.raises(InputError, match="groups by 'size' need the outcomes or the events"):
        report(run, only=["size=2x3.5"])


# Waves, stages that never started, causes of waiting


def test_waves_follow_one_another(tmp_path):
    late = SOUTH | {"asked_ms": 2_642_000, "start_ms": 2_642_000, "wave": 2}
    waved = HYPERVISOR | {"bake_ms": 1_000_000, "waves": [["north"], ["south"]]}
    run = write_run(tmp_path / "run", campaigns=[waved], stages=[NORTH | {"free_ms": 1_642_000}, late])

    found = report(run)

    first, second = found.chains["hypervisor"]
    assert (second.cause, second.after, second.bake_ms) == ("wave", ("hypervisor", "north"), 1_000_000)
    assert second.waited_ms == 2_642_000
    assert second.sentence("hypervisor").startswith(
        "south from 44 min 2 s, after the wave before it ended with north and 16 min 40 s of bake: "
    )
    assert first.cause is None
    bound = found.bounds["hypervisor"]
    assert bound.bound_ms == 642_000 + 1_000_000 + 20_000
    assert bound.sentence() == (
        "no order takes less than 27 min 42 s: wave 1, 10 min 42 s in north; then wave 2, 20.0 s in south,"
        " 16 min 40 s of bake before the next"
    )
    assert found.to_dict()["campaigns"][0]["waited_ms"] == {
        "wave": 2_642_000,
        "window": 0,
        "pair": 0,
        "campaign": 0,
        "spread": 8_000_000,
        "gap": 600_000,
        "cap": 0,
    }


def test_a_wave_of_nobody_passes_its_bake_on(tmp_path):
    late = SOUTH | {"asked_ms": 3_642_000, "start_ms": 3_642_000, "wave": 3}
    waved = HYPERVISOR | {"bake_ms": 1_000_000}
    run = write_run(tmp_path / "run", campaigns=[waved], stages=[NORTH, late])

    link = report(run).chains["hypervisor"][-1]

    assert (link.after, link.bake_ms) == (("hypervisor", "north"), 2_000_000)


def test_a_stage_released_when_nothing_ended_is_as_its_wave(tmp_path):
    late = SOUTH | {"asked_ms": 2_000_000, "start_ms": 2_000_000, "wave": 2}
    run = write_run(tmp_path / "run", stages=[NORTH, late])

    (link,) = report(run).chains["hypervisor"]

    assert (link.cause, link.after) == ("wave", None)
    assert "after the wave before it ended: " in link.sentence("hypervisor")


def test_a_pair_waits_until_the_region_is_free(tmp_path):
    # The last unit of north waited for VMs that were deleted: its region was free 30 s after its last end.
    run = write_run(tmp_path / "run", stages=[NORTH | {"free_ms": 1_672_000}, SOUTH | {"start_ms": 1_732_000}])

    first, second = report(run).chains["hypervisor"]

    assert (second.after, second.pair_lag_ms) == (("hypervisor", "north"), 60_000)
    told = "(2 domains), then 30.0 s until its last unit, left without VMs, was done"
    assert first.sentence("hypervisor").endswith(told)


def test_freezes_that_do_not_exclude_pairs_neither_wait_nor_bind(tmp_path):
    apart = HYPERVISOR | {"pair_exclusion": "reboots"}
    run = write_run(tmp_path / "run", campaigns=[apart])

    found = report(run)

    assert found.bounds["hypervisor"].bound_ms == 642_000
    assert [link.after for link in found.chains["hypervisor"]] == [None]


def test_waits_of_stages_by_cause(tmp_path):
    firmware = {"name": "firmware", "regions": ["north"], "pair_lag_ms": 0, "start_ms": 600_000}
    stage = NORTH | {"campaign": "firmware", "asked_ms": 600_000, "start_ms": 1_642_000, "first_start_ms": 1_650_000}
    run = write_run(
        tmp_path / "run", campaigns=[HYPERVISOR, firmware], stages=[NORTH, SOUTH, stage | {"end_ms": 2_000_000}]
    )

    frame = report(run).frame.filter(grain="cause")

    waited = {key: value for key, value in frame.select("key", "value").rows() if value}
    assert waited == {
        "hypervisor/pair": 1_702_000,
        "hypervisor/spread": 8_000_000,
        "hypervisor/gap": 600_000,
        "firmware/campaign": 1_042_000,
        "firmware/spread": 1_000_000,
        "firmware/gap": 600_000,
    }
    assert "+ its stages waited, summed up: 28 min 22 s for a pair, 2 h 13 min within" in " ".join(
        rendered(run).split()
    )


NEVER = {"campaign": "hypervisor", "region": "south", "asked_ms": 0, "vm_hit_count": 0, "unavailable_ms": 0}


def test_stages_that_never_started(tmp_path):
    never = NEVER | {"ends": {"overdue": 2}, "no_guarantee_count": 0}
    run = write_run(tmp_path / "run", stages=[NORTH | {"no_guarantee_count": 1}, never])
    for path in run.glob("events/region=south/*"):
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    for path in run.glob("outcomes/region=south/*"):
        for name in ("event_count", "paused_ms"):
            rewrite(path, pq.read_table(path), name, [0, 0])

    found = report(run)

    of_stage = values(found.frame, "stage", "hypervisor/1/south")
    assert (of_stage["vm_count"], of_stage["overdue_count"], of_stage["vm_hit_count"]) == (2, 2, 0)
    assert of_stage["length_ms"] is None and of_stage["paused_ms_max"] is None
    campaign = values(found.frame, "campaign", "hypervisor")
    assert (campaign["overdue_count"], campaign["updated_count"], campaign["no_guarantee_count"]) == (2, 4, 1)
    assert campaign["length_ms"] == 1_142_000
    assert [link.region for link in found.chains["hypervisor"]] == ["north"]
    assert re.search(r"overdue_count +2\n", rendered(run))


def test_a_campaign_that_hits_nobody_took_no_time(tmp_path):
    stages = [NEVER | {"region": region, "ends": {"unaffected": 2}} for region in ("north", "south")]
    run = write_run(tmp_path / "run", stages=stages, bins={}, no_guarantee=(), outcomes=False)
    for path in run.glob("events/*/*"):
        pq.write_table(pq.read_table(path).slice(0, 0), path)

    found = report(run)

    assert "The platform hit no VM: it took no time." in rendered(run)
    campaign = values(found.frame, "campaign", "hypervisor")
    assert (campaign["unaffected_count"], campaign["vm_hit_count"], campaign["length_ms"]) == (4, 0, None)
    assert found.frame.filter(grain="pause")["value"].is_null().all()


def test_figures_of_the_summary_as_the_engine_has_them(tmp_path):
    stages = [stage | {"pending_vm_ms": 7, "quorum_lost_ms": 5} for stage in (NORTH, SOUTH)]
    run = write_run(tmp_path / "run", stages=stages)
    extra = [
        {
            "campaign": "hypervisor",
            "iteration": 1,
            "region": "*",
            "figure": "application_out_ms",
            "value": 9,
            "bin_start_ms": None,
        }
    ]
    summary = pq.read_table(run / "summary.parquet")
    rows = summary.to_pylist() + extra
    write_table(run / "summary.parquet", schema.SUMMARY, rows)

    found = values(report(run).frame, "campaign", "hypervisor")

    assert (found["pending_vm_ms"], found["quorum_lost_ms"], found["application_out_ms"]) == (14, 10, 9)
    # A quorum of applications is of no stage: it stands for the whole campaign.
    write_table(run / "summary.parquet", schema.SUMMARY, [*rows, extra[0] | {"figure": "quorum_lost_ms", "value": 11}])
    assert values(report(run).frame, "campaign", "hypervisor")["quorum_lost_ms"] == 11
    earlier = report(write_run(tmp_path / "earlier"))
    assert not {"pending_vm_ms", "quorum_lost_ms", "application_out_ms"} & set(earlier.frame["figure"])


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


def test_csv_is_the_frame(run, tmp_path):
    found = report(run, by=["size"])
    found.write(tmp_path / "report.csv", "csv")

    again = pl.read_csv(tmp_path / "report.csv", schema=found.frame.schema)
    assert again.equals(found.frame)
    assert (tmp_path / "report.csv").read_text("utf-8") == found.text("csv")


def test_markdown_is_the_page_as_tables(run, tmp_path):
    found = report(run, by=["size"])
    found.write(tmp_path / "report.md", "markdown")

    text = (tmp_path / "report.md").read_text("utf-8")
    lines = text.splitlines()
    assert lines[0] == "# december in december-run"
    assert "| length_ms | 2 h 17 min |" in lines
    assert "| 2x3.5 | 3 | 12.0 s | 20.0 s | 20.0 s | 42.0 s | 16 min 40 s | 2 h 25 min |" in lines
    assert f"- {CHAIN[0]}" in lines
    assert "| 2 | 1 | 20.0 s |" in lines
    assert r"- invented: regions are drawn: \[bold\]the trace has none\[/bold\]" in lines
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for table in tables:  # one rule each, and as many cells in every row
        rows = table.splitlines()
        assert set(rows[1]) <= set("|-: ")
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    shown = re.findall(r"[0-9A-Za-z./]+", rendered(run, 200, by=["size"]))
    told = set(re.findall(r"[0-9A-Za-z./]+", text))
    assert {word for word in shown if word not in told} <= {"1.", "2."}  # of a numbered list


def test_markup_in_names_is_not_markup(tmp_path):
    run = of_pauses(tmp_path, [1_000])
    (path,) = run.glob("fleet/*/*.parquet")
    pq.write_table(pq.read_table(path).append_column("owner", pa.array(["a|b*c_d_ <x>\n_e"])), path)

    text = report(run, by=["owner"]).text("markdown")

    assert r"| a\|b\*c_d\_ \<x\>?\_e | 1 |" in text


@pytest.mark.parametrize("format_", ["json", "csv", "markdown"])
def test_what_is_printed_is_what_is_written(run, tmp_path, format_):
    found = report(run, by=["region,size"], only=["region=north"], timeouts=["25s"])
    found.write(tmp_path / "file", format_)

    assert (tmp_path / "file").read_text("utf-8") == found.text(format_)


def test_progress_is_told_in_vms(run):
    told = []

    report(run, by=["size"], progress=lambda *each: told.append(each))

    assert {total_count for _, _, total_count in told} == {6}
    assert {done_count for _, done_count, _ in told} <= set(range(7))


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

    assert "by 12 hours since scenario start" in text  # 694 hours on 67 columns: 11 of them do, 12 end where days do
    assert "0 h" in text and "29 d" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("hours", "count_max", "first", "width", "count", "step"),
    [
        ([0], 67, 0, 1, 1, "hour"),
        ([5, 71], 67, 5, 1, 67, "hour"),
        ([5, 72], 67, 4, 2, 35, "2 hours"),
        ([97, 1_539], 67, 96, 24, 61, "day"),
        ([23, 24 * 60], 24, 0, 72, 21, "3 days"),
        ([23, 48 * 24 - 1 + 23], 24, 0, 72, 17, "3 days"),  # by 2 days they would be 25, one too many
        ([10**9], 1, 10**9, 1, 1, "hour"),
        ([0, 10**9], 67, 0, 621_891 * 24, 67, "621,891 days"),
    ],
)
def test_bars_end_where_days_do(hours, count_max, first, width, count, step):
    bars = Bars.of([(hour,) for hour in hours], count_max)
    assert (bars.first, bars.hours, bars.count, bars.step) == (first, width, count, step)
    assert sum(bars.sums([(hour, 1) for hour in hours])) == len(hours)


def test_an_axis_has_days_where_hours_are_many():
    bars = Bars.of([(770,), (1_435,)], 67)
    assert (bars.step, bars.instant(0), bars.instant(bars.count)) == ("12 hours", "32 d", "60 d")
    assert [Bars.of([(0,), (90,)], 67).instant(place) for place in (0, 46)] == ["0 h", "92 h"]


def test_names_are_whole_where_columns_follow_below():
    sizes = ["Standard_D2s_v3", "Standard_D2s_v4"]
    values = ["28 h 20 min"] * 5
    grid = Grid(None, ["application", "size", *"abcde"], [["billing", size, *values] for size in sizes], key_count=2)
    console = Console(width=80, record=True, file=io.StringIO())
    grid.render(console)
    told = console.export_text()
    assert told.count(sizes[0]) == told.count(sizes[1]) == 2  # in either table
    assert max(map(len, told.splitlines())) <= 80


def test_what_no_group_has_takes_no_width_and_a_name_that_fits_is_not_cut(tmp_path):
    vms = pl.DataFrame({"vm": range(40)}).with_columns(region=pl.lit("westeurope"), workload=pl.lit("web"))
    start = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
    campaigns = [{"name": "freeze"}, {"name": "kernel-security-update-of-december", "kind": "reboot"}]
    scenario = {"name": "two", "start": start, "campaign": campaigns, "tolerance": {"web": "1s"}}
    made = run_it(vms, scenario, tmp_path / "run")

    text = rendered(made.path)
    of_freeze, of_reboot = text.split("freeze by workload")[1].split("kernel-security-update-of-december by workload")

    assert re.search(r"campaign +freeze +kernel-security-update-of-december\n", text)
    assert "paused p50" in of_freeze and "too long" in of_freeze and "down p50" not in of_freeze
    assert "down p50" in of_reboot and "paused p50" not in of_reboot and "too long" not in of_reboot


def test_bars_have_heights_in_ascii(tmp_path):
    bins = {("north", "hourly_start_count"): {0: 100, 3_600_000: 5, 7_200_000: 10}}
    buffer = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report(write_run(tmp_path / "run", bins=bins)).render(Console(width=80, file=buffer))
    buffer.flush()
    shown = buffer.buffer.getvalue().decode("ascii")

    lines = [line.rstrip() for line in shown.splitlines() if "|" in line]
    assert lines[0].endswith("|###")
    assert "|### ... :::" in shown


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


@pytest.fixture(scope="module", params=["all", "events", "outcomes", "neither"])
def come_back(request, tmp_path_factory):
    """A reboot of which many VMs come back, twice at most, with what its run keeps, and what became of each VM."""
    count = 400
    fleet = pl.DataFrame({"vm": range(count)}).with_columns(
        region=pl.lit("eastus"), set=pl.col("vm") // 10, tier=pl.when(pl.col("vm") % 3 > 0).then(pl.lit("web"))
    )
    asked = {"length": "2d", "uptake_ratio": 0.6, "by": "vm", "failure_ratio": 0.6, "spare_ratio": 0.2}
    boot = {"name": "boot", "kind": "reboot", "notice": "0s", "length": "10min", "self_service": asked}
    boot |= {"scheduled": {"gap": "0s", "length": "45min"}, "update_domain_gap": "5min"}
    scenario = {"name": "back", "start": START, "campaign": [boot]}
    folder = tmp_path_factory.mktemp("back")
    whole = run_it(fleet, scenario, folder / "whole")
    ended = read_parts(whole.path / "outcomes").join(read_parts(whole.path / "fleet"), on="vm_row")
    kept = {table: request.param in ("all", table) for table in ("events", "outcomes")}
    run = run_it(fleet, scenario | {"outputs": kept}, folder / "run").path
    return run, ended.with_columns(pl.col("outcome").cast(pl.String)).sort("vm", "iteration")


def read_parts(folder):
    return pl.concat([pl.read_parquet(path, hive_partitioning=False) for path in sorted(folder.rglob("*.parquet"))])


def test_whoever_comes_back_is_counted_once_as_it_ended_its_last_iteration(come_back):
    run, ended = come_back
    last = ended.group_by("vm").last()
    told = values(report(run).frame, "campaign", "boot")

    assert ended["iteration"].max() == 3
    assert told["vm_count"] == len(last) == 400
    for outcome, count in last["outcome"].value_counts().rows():
        assert told[f"{outcome}_count"] == count
    remaining = last.filter(pl.col("outcome").is_in(["skipped", "overdue"]))
    assert told["remaining_count"] == len(remaining) > 0
    assert told["vm_hit_count"] == 400 - len(remaining)
    assert told["unavailable_ms"] == 600_000 * (400 - len(remaining))


def test_groups_and_some_of_the_vms_count_whoever_comes_back_once(come_back):
    run, ended = come_back
    files = RunFiles.open(run)
    if not (files.has("events") or files.has("outcomes")):
        pytest.skip("nothing that groups are counted from was kept")
    last = ended.group_by("vm").last()
    is_hit = pl.col("outcome").str.starts_with("updated")
    expected = last.group_by("tier").agg(vms=pl.len(), hit=is_hit.sum())

    frame = report(run, by=["tier"]).frame
    for tier, vm_count, hit_count in expected.rows():
        told = values(frame, "tier", f"boot/{tier or '%00'}")
        assert (told["vm_count"], told["vm_hit_count"]) == (vm_count, hit_count)
    some = values(report(run, only=["tier=web"]).frame, "campaign", "boot")
    web = last.filter(pl.col("tier") == "web")
    assert (some["vm_count"], some["vm_hit_count"]) == (len(web), web.filter(is_hit).height)
    if files.has("outcomes"):
        assert some["remaining_count"] == web.filter(~is_hit).height


def test_iterations_are_told_phase_by_phase_and_who_remains_by_name(come_back):
    run, ended = come_back
    files = RunFiles.open(run)
    (campaign,) = report(run).to_dict()["campaigns"]

    counts = {
        (row["iteration"], row["outcome"]): row["len"]
        for row in ended.group_by("iteration", "outcome").len().to_dicts()
    }
    assert [row["iteration"] for row in campaign["iterations"]] == [1, 2, 3]
    for row in campaign["iterations"]:
        for outcome in ("updated_self_service", "updated_scheduled", "skipped", "overdue"):
            assert row[f"{outcome}_count"] == counts.get((row["iteration"], outcome), 0)
        if files.has("events"):
            assert row["requests_failed_count"] == row["skipped_count"]
    left = ended.group_by("vm").last().filter(pl.col("outcome").is_in(["skipped", "overdue"]))
    named = {vm["vm"] for vm in campaign["remaining"]}
    assert named == (set(left["vm"]) if files.has("outcomes") else set())
    page = rendered(run)
    assert "boot: its iterations" in page
    assert "announced anew for whoever was left" in page


def test_the_chain_of_a_reboot_leads_from_its_first_wave_to_who_came_back(tmp_path):
    fleet = pl.DataFrame({"vm": range(40)}).with_columns(
        region=pl.when(pl.col("vm") < 20).then(pl.lit("eastus")).otherwise(pl.lit("northeurope")),
        set=pl.col("vm") // 20,
    )
    boot = {"name": "boot", "kind": "reboot", "notice": "1h", "self_service": {"length": "0s"}, "length": "10min"}
    boot |= {"scheduled": {"gap": "0s", "length": "10min"}, "waves": [["eastus"], ["*"]], "reschedule_delay": "1d"}
    scenario = {"name": "chain", "start": START, "campaign": [boot | {"iterations_max": 2}]}
    run = run_it(fleet, scenario, tmp_path / "run").path

    (campaign,) = report(run).to_dict()["campaigns"]
    announced = "its notice and the window for customers"
    assert [link["sentence"].split(":")[0] for link in campaign["chain"]] == [
        f"eastus from 1 h, after {announced}",
        f"northeurope from 2 h 10 min, after the wave before it ended with eastus, {announced}",
        f"northeurope from 27 h 20 min, announced anew for whoever was left, after {announced}",
    ]
    # Of those who come back it is the window that was waited for, not the wave.
    assert campaign["waited_ms"]["wave"] == 70 * 60_000
    assert campaign["waited_ms"]["window"] == 4 * 3_600_000


@pytest.fixture(scope="module", params=["all", "events", "outcomes"])
def in_vain(request, tmp_path_factory):
    """A reboot of which most of the tries fail, with what its run keeps, and the events and outcomes of all of it."""
    fleet = pl.DataFrame({"vm": range(60)}).with_columns(
        region=pl.lit("eastus"), set=pl.col("vm") // 10, tier=pl.when(pl.col("vm") % 3 > 0).then(pl.lit("web"))
    )
    boot = {"name": "boot", "kind": "reboot", "notice": "0s", "length": "10min", "self_service": {"length": "0s"}}
    boot |= {"scheduled": {"gap": "0s", "length": "1d", "failure_ratio": 0.7, "retry_timeout": "15min"}}
    scenario = {"name": "vain", "start": START, "campaign": [boot]}
    folder = tmp_path_factory.mktemp("vain")
    whole = run_it(fleet, scenario, folder / "whole").path
    kept = {table: request.param in ("all", table) for table in ("events", "outcomes")}
    run = run_it(fleet, scenario | {"outputs": kept}, folder / "run").path
    words = cs.categorical().cast(pl.String)
    tables = [read_parts(whole / table).with_columns(words) for table in ("events", "outcomes")]
    fleet = read_parts(whole / "fleet").select("vm", "vm_row", "tier")
    return run, *(table.join(fleet, on="vm_row").sort("vm", "iteration") for table in tables)


def test_tries_of_a_vm_are_one_impact_in_all_that_is_reported(in_vain):
    run, events, ended = in_vain
    told = values(report(run).frame, "campaign", "boot")
    last = ended.group_by("vm").last()

    # Two tries of 10 min each, in up to three iterations; who fails in the last one remains.
    assert ended["iteration"].max() == 3
    assert set(ended["event_count"]) == {1, 2}
    assert told["failed_count"] == told["remaining_count"] == len(last.filter(outcome="failed")) > 0
    assert told["vm_hit_count"] == told["vm_count"] == 60
    assert told["unavailable_ms"] == 600_000 * len(events)
    assert told["down_ms_max"] == 1_200_000
    start_ms = pl.col("start_at").dt.epoch("ms") - events["start_at"].dt.epoch("ms").min()
    end_ms = (start_ms + pl.col("duration_ms")).filter(pl.col("result") == "completed")
    assert told["pending_vm_ms"] == events.select(end_ms.sum()).item()
    hours = report(run).frame.filter(figure="hourly_start_count")["value"]
    assert hours.sum() == len(ended)


def test_groups_and_some_of_the_vms_count_tries_as_the_whole_does(in_vain):
    run, events, ended = in_vain
    last = ended.group_by("vm").last()
    frame = report(run, by=["tier"]).frame
    for tier in ("web", None):
        told, own = values(frame, "tier", f"boot/{tier or '%00'}"), pl.col("tier").eq_missing(pl.lit(tier))
        assert told["vm_count"] == told["vm_hit_count"] == len(last.filter(own))
        assert told["unavailable_ms"] == 600_000 * len(events.filter(own))
        assert told["down_ms_max"] == last.filter(own)["down_ms"].max()
    if not RunFiles.open(run).has("events"):
        return
    some = report(run, only=["tier=web"]).frame
    start_ms = pl.col("start_at").dt.epoch("ms") - events["start_at"].dt.epoch("ms").min()
    end_ms = (start_ms + pl.col("duration_ms")).filter(pl.col("result") == "completed")
    web = events.filter(tier="web")
    assert values(some, "campaign", "boot")["pending_vm_ms"] == web.select(end_ms.sum()).item()
    assert some.filter(figure="hourly_start_count")["value"].sum() == len(ended.filter(tier="web"))


def test_who_has_failed_is_told_in_each_iteration_and_in_the_end(in_vain):
    run, _, ended = in_vain
    (campaign,) = report(run).to_dict()["campaigns"]
    failed = ended.filter(outcome="failed")

    for row in campaign["iterations"]:
        assert row["failed_count"] == len(failed.filter(iteration=row["iteration"])) > 0
    count = len(failed.filter(iteration=3))
    page = rendered(run)
    assert "failed, at every try" in page
    assert f"{count} VM{'s' if count > 1 else ''} failed: in eastus every try in the scheduled window failed" in page
    warning = f"scheduled.retry_timeout: {count} VMs of campaign 'boot' are not updated: every try"
    assert any(each.startswith(warning) for each in RunFiles.open(run).manifest["warnings"])


def test_where_there_are_windows_the_bound_is_said_to_leave_them_out(in_vain, tmp_path):
    write_run(tmp_path / "freeze")
    told = " ".join(rendered(in_vain[0]).split())
    assert "length_bound_ratio tells of windows, not of the order" in told
    assert (
        report(in_vain[0])
        .bounds["boot"]
        .sentence()
        .startswith("no order takes less than 3 h 40 min, windows left out:")
    )
    assert "windows" not in rendered(tmp_path / "freeze")


def test_of_which_campaigns_the_bound_leaves_windows_out(tmp_path):
    boot = {"name": "boot", "kind": "reboot", "self_service": {"length": "1d"}, "iterations_max": 1}
    scenario = {"name": "two", "start": START, "seed": 1, "campaign": [boot, {"name": "freeze"}]}
    run_it(pl.DataFrame({"vm": [1, 2], "region": ["eastus"] * 2}), scenario, tmp_path / "run")
    assert "length_bound_ratio of boot tells of windows" in " ".join(rendered(tmp_path / "run").split())
