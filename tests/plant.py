"""A small sound run made by hand, in plain Python and without the engine, for faults to be planted in.

Rows are dicts in the columns of `fleetsim.schema`, with times in ms since the scenario's start until they are
written. A fault changes events before the other tables are derived from them, or a table afterwards; the
manifest is written last, so digests always fit and only the planted rule and what follows from it is broken.
"""

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from fleetsim.schema import (
    EVENTS,
    FLEET,
    NO_GUARANTEE,
    OUTCOMES,
    PREPARED,
    SCHEMA_VERSION,
    STAGES,
    SUMMARY,
    Column,
    Outcome,
    effect_names,
    words,
)

Row = dict[str, Any]

START = datetime(2026, 12, 1, tzinfo=UTC)
HOUR_MS = 3_600_000
PAIRS = {"north": "south", "south": "north", "east": ""}
FLEET_PARTS: dict[
    tuple[str, int], dict[int | None, dict[int | None, int]]
] = {  # (region, part): set -> VMs by domain; the set None holds singles
    ("east", 0): {9: {0: 1, 1: 1}, None: {None: 2}},
    ("north", 0): {1: {0: 2, 1: 2, 2: 2}, 2: {0: 1, 1: 2}},
    ("north", 1): {3: {0: 2}, 4: {4: 1}, None: {None: 3}},
    ("south", 0): {1: {0: 2, 3: 2}, None: {None: 1}},
}
CAMPAIGNS: tuple[Row, ...] = (
    {
        "name": "hypervisor",
        "kind": "freeze",
        "regions": ["east", "north", "south"],
        "start_ms": 0,
        "work_ms": 0,
        "update_domain_gap_ms": 600_000,
        "update_domain_order": "random",
        "spread_ms": HOUR_MS,
        "pair_order": "fewest_vms_first",
        "pair_lag_ms": 0,
        "length": {"given": "{ min = '1s', max = '9s' }", "length_ms_min": 1_000, "length_ms_max": 9_000},
    },
    {
        "name": "agent",
        "kind": "freeze",
        "regions": ["east", "north", "south"],
        "start_ms": 500,
        "work_ms": 20_000,
        "update_domain_gap_ms": 60_000,
        "update_domain_order": "largest_first",
        "spread_ms": 0,
        "pair_order": "name",
        "pair_lag_ms": HOUR_MS,
        "length": {"given": "10s", "length_ms_min": 10_000, "length_ms_max": 10_000},
    },
    {
        "name": "cleanup",
        "kind": "freeze",
        "regions": ["east", "north"],
        "start_ms": 500,
        "work_ms": 0,
        "update_domain_gap_ms": 0,  # the next domain starts at the very end of the one before
        "update_domain_order": "sequential",
        "spread_ms": 0,
        "pair_order": "name",
        "pair_lag_ms": 0,
        "length": {"given": "5s", "length_ms_min": 5_000, "length_ms_max": 5_000},
    },
)


@dataclass
class Plant:
    """The tables of a run as rows, by file where a table has several."""

    fleet: dict[tuple[str, int], list[Row]]
    events: dict[tuple[int, str, int], list[Row]]
    stage_times: dict[tuple[str, str], list[int]]  # (campaign, region): start_ms, end_ms
    campaigns: list[Row]
    outcomes: dict[tuple[int, str, int], list[Row]] = field(default_factory=dict)
    stages: list[Row] = field(default_factory=list)
    summary: list[Row] = field(default_factory=list)
    no_guarantee: list[Row] = field(default_factory=list)
    counts: Row = field(default_factory=dict)
    outputs: Row = field(default_factory=lambda: {"events": True, "outcomes": True})

    def vms(self) -> list[Row]:
        return [vm for part in self.fleet.values() for vm in part]

    def all_events(self) -> list[Row]:
        return [event for part in self.events.values() for event in part]

    def pick(self, campaign: str, region: str, set_: Any, domain: int | None) -> list[Row]:
        """Events of one unit, or of the singles of a region, in vm_row order."""
        place = {vm["vm_row"]: (vm["region"], vm["set"], vm["update_domain"]) for vm in self.vms()}
        return [
            event
            for event in self.all_events()
            if event["campaign"] == campaign and place[event["vm_row"]] == (region, set_, domain)
        ]

    def figure(self, campaign: str, region: str, figure: str) -> Row:
        """The first row of one figure in the summary."""
        where = {"campaign": campaign, "region": region, "figure": figure}
        return next(row for row in self.summary if where.items() <= row.items())

    def stage(self, campaign: str, region: str) -> Row:
        return next(row for row in self.stages if (row["campaign"], row["region"]) == (campaign, region))


def sound(ids: type = int, campaigns: Sequence[Row] = CAMPAIGNS) -> Plant:
    """A fleet in four parts and *campaigns* over it, without the tables derived from the events."""
    fleet: dict[tuple[str, int], list[Row]] = {}
    vm_row = 0
    for (region, part), sets in FLEET_PARTS.items():
        fleet[region, part] = []
        for set_, domains in sets.items():
            for domain, vm_count in domains.items():
                for _ in range(vm_count):
                    vm = {"vm_row": vm_row, "region": region, "set": set_, "update_domain": domain}
                    vm["vm"] = vm_row * 10 + 7
                    if ids is str:
                        vm["vm"], vm["vm_key"] = f"vm-{vm_row:02}", vm_row
                        vm["set"] = None if set_ is None else f"set-{set_}"
                    fleet[region, part].append(vm)
                    vm_row += 1
    plant = Plant(fleet, {}, {}, [dict(campaign) for campaign in campaigns])
    dice = random.Random(7)
    for place, campaign in enumerate(plant.campaigns):
        for region in campaign["regions"]:
            _run_stage(plant, place, campaign, region, dice)
    return plant


def _run_stage(plant: Plant, place: int, campaign: Row, region: str, dice: random.Random) -> None:
    """Add the events of one stage, which starts as soon as those before it in `plant` let it."""
    start_ms = campaign["start_ms"]
    for (name, other), (_, end_ms) in plant.stage_times.items():
        lag_ms = max(campaign["pair_lag_ms"], *(c["pair_lag_ms"] for c in plant.campaigns if c["name"] == name))
        if other == region:
            start_ms = max(start_ms, end_ms)
        elif other == PAIRS[region]:
            start_ms = max(start_ms, end_ms + lag_ms)
    last_end_ms = start_ms
    for (part_region, part), vms in plant.fleet.items():
        if part_region != region:
            continue
        happened = plant.events[place, region, part] = []
        for units in _walks(vms):
            order = sorted(units)
            if campaign["update_domain_order"] == "random":
                dice.shuffle(order)
            elif campaign["update_domain_order"] == "largest_first":
                order.sort(key=lambda domain: -len(units[domain]))
            unit_ms = start_ms + dice.randrange(max(campaign["spread_ms"], 1))
            for domain in order:
                end_ms = unit_ms + campaign["work_ms"]
                for vm in units[domain]:
                    length = campaign["length"]
                    duration_ms = dice.randint(length["length_ms_min"], length["length_ms_max"])
                    end_ms = max(end_ms, unit_ms + duration_ms)
                    happened.append(
                        {
                            "campaign": campaign["name"],
                            "phase": "platform",
                            "kind": "freeze",
                            "result": "completed",
                            "iteration": 1,
                            "vm_row": vm["vm_row"],
                            "start_at": unit_ms,
                            "duration_ms": duration_ms,
                            "effects": 16,
                        }
                    )
                last_end_ms = max(last_end_ms, end_ms)
                unit_ms = end_ms + campaign["update_domain_gap_ms"]
        happened.sort(key=lambda event: event["vm_row"])
    plant.stage_times[campaign["name"], region] = [start_ms, last_end_ms]


def _walks(vms: list[Row]) -> Iterator[dict[int, list[Row]]]:
    """VMs by domain of each set, then each single."""
    sets: dict[Any, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for vm in vms:
        if vm["set"] is not None:
            sets[vm["set"]][-1 if vm["update_domain"] is None else vm["update_domain"]].append(vm)
    yield from sets.values()
    yield from ({0: [vm]} for vm in vms if vm["set"] is None)


def derive(plant: Plant) -> None:
    """Fill the tables that follow from fleet and events."""
    plant.outcomes, plant.stages, plant.summary = {}, [], []
    regions = {vm["vm_row"]: vm["region"] for vm in plant.vms()}
    for place, campaign in enumerate(plant.campaigns):
        hits = defaultdict(list)
        for event in plant.all_events():
            if event["campaign"] == campaign["name"] and regions.get(event["vm_row"]) in campaign["regions"]:
                hits[event["vm_row"]].append(event)
        for (region, part), vms in plant.fleet.items():
            if region in campaign["regions"]:
                plant.outcomes[place, region, part] = [_outcome(campaign["name"], vm, hits[vm["vm_row"]]) for vm in vms]
        for region in campaign["regions"]:
            vms = [vm for vm in plant.vms() if vm["region"] == region]
            figures = _figures(campaign, vms, hits)
            start_ms, _ = plant.stage_times[campaign["name"], region]
            figures |= {("asked_ms", None): campaign["start_ms"], ("start_ms", None): start_ms}
            figures["last_spread_ms", None] -= start_ms
            stage = {"campaign": campaign["name"], "iteration": 1, "region": region}
            plant.summary += [
                stage | {"figure": figure, "bin_start_ms": bin_start_ms, "value": float(value)}
                for (figure, bin_start_ms), value in figures.items()
            ]
            plant.stages.append(
                stage
                | dict.fromkeys(STAGES.names()[3:])
                | {f"{outcome}_count": 0 for outcome in words(Outcome)}
                | {
                    "wave": 1,
                    "first_start_at": figures["first_start_ms", None],
                    "last_end_at": figures["end_ms", None],
                    "updated_count": len(vms),
                    "bottleneck": "work",
                }
            )
    plant.no_guarantee = [
        {
            "region": vms[0]["region"],
            "set": vms[0]["set"],
            "reason": "one_vm" if len(vms) == 1 else "one_domain",
        }
        for part in plant.fleet.values()
        for units in _walks(part)
        if len(units) == 1 and (vms := next(iter(units.values())))[0]["set"] is not None
    ]
    plant.counts = {
        "vms": len(plant.vms()),
        "events": len(plant.all_events()),
        "outcomes": sum(len(part) for part in plant.outcomes.values()),
        "stages": len(plant.stages),
        "sets": len({(vm["region"], vm["set"]) for vm in plant.vms() if vm["set"] is not None}),
        "singles": sum(vm["set"] is None for vm in plant.vms()),
    }


def _outcome(campaign: str, vm: Row, events: list[Row]) -> Row:
    effects = 0
    for event in events:
        effects |= event["effects"]
    return {
        "campaign": campaign,
        "iteration": 1,
        "vm_row": vm["vm_row"],
        "outcome": "updated",
        "reason": "none",
        "paused_ms": sum(event["duration_ms"] for event in events),
        "down_ms": 0,
        "event_count": len(events),
        "effects": effects,
    }


def _figures(campaign: Row, vms: list[Row], hits: dict[int, list[Row]]) -> dict[tuple[str, int | None], float]:
    """Figures of one stage, second by second where it must be: nothing clever."""
    events = [event for vm in vms for event in hits[vm["vm_row"]]]
    figures: dict[tuple[str, int | None], float] = defaultdict(int)
    first_ms, end_ms, longest_ms, ratio_max, out_ms = [], [], 0, 0.0, 0
    for units in _walks(vms):
        members = [vm["vm_row"] for unit in units.values() for vm in unit]
        spans = [
            (event["start_at"], event["start_at"] + event["duration_ms"]) for row in members for event in hits[row]
        ]
        if not spans:
            continue
        first_ms.append(min(start for start, _ in spans))
        end_ms.append(max(max(start + campaign["work_ms"], end) for start, end in spans))
        longest_ms = max(longest_ms, end_ms[-1] - first_ms[-1])
        if end_ms[-1] == max(end_ms):
            gap_ms = (len(units) - 1) * campaign["update_domain_gap_ms"]
            figures["last_vm_row", None], figures["last_domain_count", None] = min(members), len(units)
            figures["last_spread_ms", None], figures["last_gap_ms", None] = first_ms[-1], gap_ms
            figures["last_work_ms", None] = end_ms[-1] - first_ms[-1] - gap_ms
        if next(iter(units.values()))[0]["set"] is None:
            figures["single_count", None] += 1
            continue
        figures["set_count", None] += 1
        instants = sorted({instant for span in spans for instant in span})
        for instant, next_instant in pairwise(instants):
            down = sum(start <= instant < end for start, end in spans)
            if len(units) > 1:
                ratio_max = max(ratio_max, down / len(members))
            if down >= len(members):
                out_ms += next_instant - instant
    for event in events:
        hour_ms = event["start_at"] // HOUR_MS * HOUR_MS
        figures["hourly_start_count", hour_ms] += 1
        figures["hourly_unavailable_ms", hour_ms] += event["duration_ms"]
        figures["unavailable_ms", None] += event["duration_ms"]
    for vm in vms:
        if happened := hits[vm["vm_row"]]:
            figures["vm_hit_count", None] += 1
            paused_ms = sum(event["duration_ms"] for event in happened)
            shift = max(paused_ms.bit_length() - 7, 0)
            figures["paused_ms_histogram", paused_ms >> shift << shift] += 1
    figures["first_start_ms", None], figures["end_ms", None] = min(first_ms), max(end_ms)
    figures["longest_ms", None], figures["set_out_ms", None] = longest_ms, out_ms
    figures["set_down_ratio_max", None] = ratio_max
    return dict(figures)


def write(plant: Plant, folder: Path) -> Path:
    """Write *plant* as a finished run. Returns *folder*."""
    tables: dict[str, tuple[tuple[Column, ...], list[Row]]] = {
        "stages.parquet": (STAGES.columns, plant.stages),
        "summary.parquet": (SUMMARY.columns, plant.summary),
        "no_guarantee.parquet": (NO_GUARANTEE.columns, plant.no_guarantee),
    }
    fleet_columns = [FLEET[name] for name in ("vm", "region", "set", "update_domain")]
    for (region, part), rows in plant.fleet.items():
        has_key = "vm_key" in rows[0]
        columns = (*fleet_columns, PREPARED["vm_row"], *([PREPARED["vm_key"]] if has_key else []))
        tables[f"fleet/region={region}/part-{part:05}.parquet"] = (columns, rows)
    for name in plant.outputs:
        declared, files = (EVENTS, plant.events) if name == "events" else (OUTCOMES, plant.outcomes)
        for (place, region, part), rows in files.items() if plant.outputs[name] else ():
            path = f"{name}/region={region}/part-c{place:03}-i001-{part:05}.parquet"
            tables[path] = (declared.columns, sorted(rows, key=lambda row: int(row["vm_row"])))
    is_text = isinstance(plant.vms()[0]["vm"], str)
    resolved = {"name": "plant", "start": START, "seed": 7, "preset": "azure-2017", "outputs": plant.outputs}
    resolved["campaign"] = plant.campaigns
    canonical = json.dumps(
        resolved, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=datetime.isoformat
    )
    rows_digests = {path: _sha256(path) for path in tables if path.startswith("fleet/")}
    in_order = sorted(rows_digests, key=lambda path: tables[path][1][0]["vm_row"])
    digests = {
        "scenario_digest": _sha256(canonical),
        "fleet_digest": hashlib.sha256(b"".join(bytes.fromhex(rows_digests[path]) for path in in_order)).hexdigest(),
    }
    for path, (columns, rows) in tables.items():
        stated = {"rows_digest": rows_digests[path]} if path in rows_digests else digests
        write_table(folder / path, columns, rows, is_text=is_text, **stated)
    lines = ["region,paired_region,geography", *(f"{region},{pair},earth" for region, pair in PAIRS.items())]
    pairs = "\n".join(lines) + "\n"
    (folder / "pairs.csv").write_text(pairs)
    (folder / "scenario.toml").write_text('name = "plant"\n')
    provenance = digests | {"pairs_digest": _sha256(pairs)}
    (folder / "resolved.toml").write_text(tomli_w.dumps(resolved | {"provenance": provenance}))
    write_manifest(folder, counts=plant.counts, **digests)
    return folder


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: Path, **facts: Any) -> None:
    """List the files of *folder* as they are now, under *facts*."""
    parts = []
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        path = file.relative_to(folder).as_posix()
        if path != "manifest.json":
            rows = pq.read_metadata(file).num_rows if path.endswith(".parquet") else None
            parts.append({"path": path, "rows": rows, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
    digest = hashlib.sha256()
    for part in parts:
        if part["path"] == "stages.parquet" or str(part["path"]).startswith(("events/", "outcomes/")):
            digest.update(f"{part['path']} {part['sha256']}\n".encode())
    manifest = {
        "fleetsim_version": "0.1.0",
        "schema_version": SCHEMA_VERSION,
        "seed": 7,
        "run_digest": digest.hexdigest(),
        "parts": parts,
        "invented": [],
        "warnings": [],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | facts))


def write_table(
    path: Path, columns: tuple[Column, ...], rows: list[Row], *, is_text: bool = False, **stated: str
) -> None:
    """Write *rows* as Parquet, typed as *columns* declare; `_at` values are ms since START. Metadata: *stated*."""
    text = pa.dictionary(pa.int32(), pa.string())
    types = {
        "identity": pa.string() if is_text else pa.int64(),
        "text": text,
        "code": text,
        "u8": pa.uint8(),
        "u16": pa.uint16(),
        "u32": pa.uint32(),
        "i64": pa.int64(),
        "f64": pa.float64(),
        "instant": pa.timestamp("ms", "UTC"),
    }
    metadata = {f"fleetsim.{name}": value for name, value in stated.items()}
    metadata["fleetsim.effects"] = json.dumps(effect_names())
    schema = pa.schema(
        [pa.field(column.name, types[column.dtype], nullable=column.is_nullable) for column in columns],
        metadata,
    )
    instants = {column.name for column in columns if column.dtype == "instant"}
    typed = [
        {
            name: START + timedelta(milliseconds=value) if name in instants and value is not None else value
            for name, value in row.items()
            if name in schema.names
        }
        for row in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(typed, schema), path)
