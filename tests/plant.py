"""Small sound runs made without the engine, in plain Python, for faults to be planted in.

`sound` is made by hand: freezes of everybody, whose tables are derived from the events. `later` is what the oracle
says of a world with all that came later: lives, waves, a horizon, fault domains, sets in step, outages; `hosted` what
it says of one with hosts, `windowed` of one with reboots, `requested` of one whose
customers act. Rows are dicts in the columns of `fleetsim.schema`, with
times in ms since the scenario's start until they are written. A fault changes events before the other tables are
derived from them, or a table afterwards; the manifest is written last, so digests always fit and only the planted
rule and what follows from it is broken.
"""

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    PREPARED_HOSTS,
    SCHEMA_VERSION,
    STAGES,
    STEPS,
    SUMMARY,
    Column,
    Outcome,
    effect_names,
    words,
)
from tests import oracle
from tests.strategies import constant, uniform

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
PLAIN: Row = {
    "kind": "freeze",
    "regions": ["east", "north", "south"],
    "waves": [["east", "north", "south"]],
    "bake_ms": 0,
    "where": {},
    "start_ms": 0,
    "work_ms": 0,
    "update_domain_gap_ms": 0,
    "update_domain_order": "sequential",
    "walk_by": "update_domain",
    "sets_in_step": False,
    "cannot_freeze": "unaffected",
    "cannot_freeze_sizes": [],
    "spread_ms": 0,
    "pair_order": "name",
    "pair_lag_ms": 0,
    "pair_exclusion": "all",
    "caps": [],
}
"""A campaign that asks for nothing."""


def length(ms_min: int, ms_max: int, **by_family: tuple[list[str], int, int]) -> Row:
    """A length as `resolved.toml` tells it; of families: their sizes and bounds."""
    families = [
        {"family": family, "sizes": sizes, "given": f"{{ min = '{low}ms', max = '{high}ms' }}"}
        | {"length_ms_min": low, "length_ms_max": high}
        for family, (sizes, low, high) in by_family.items()
    ]
    given = f"{{ min = '{ms_min}ms', max = '{ms_max}ms' }}"
    return {"given": given, "length_ms_min": ms_min, "length_ms_max": ms_max, "by_family": families}


CAMPAIGNS: tuple[Row, ...] = (
    PLAIN
    | {
        "name": "hypervisor",
        "update_domain_gap_ms": 600_000,
        "update_domain_order": "random",
        "spread_ms": HOUR_MS,
        "pair_order": "fewest_vms_first",
        "length": length(1_000, 9_000),
    },
    PLAIN
    | {
        "name": "agent",
        "start_ms": 500,
        "work_ms": 20_000,
        "update_domain_gap_ms": 60_000,
        "update_domain_order": "largest_first",
        "pair_lag_ms": HOUR_MS,
        "length": length(10_000, 10_000),
    },
    PLAIN
    | {
        "name": "cleanup",
        "regions": ["east", "north"],
        "waves": [["east", "north"]],
        "start_ms": 500,  # the next domain starts at the very end of the one before
        "length": length(5_000, 5_000),
    },
)


@dataclass(frozen=True)
class Unit:
    """A unit that may have to wait for others: its VMs, when its stage starts, and as it went how long it was held."""

    place: int
    region: str
    vm_rows: tuple[int, ...]
    stage_start_ms: int
    work_ms: int
    events: frozenset[tuple[int, int, int]]  # vm_row, start_ms, duration_ms
    held_ms: int


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
    resolved: Row = field(default_factory=dict)  # what the scenario says besides its campaigns
    outputs: Row = field(default_factory=lambda: {"events": True, "outcomes": True})
    plans: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # of customers, by campaign: VM and instant
    units: list["Unit"] = field(default_factory=list)  # of stages that have steps
    hosts: dict[str, list[Row]] = field(default_factory=dict)  # of an inventory, by region
    edit_steps: Callable[[list[Row]], object] = lambda rows: None  # all of them, by campaign, region and unit_row

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

    def vm_row(self, vm: Any) -> int:
        return next(int(row["vm_row"]) for row in self.vms() if row["vm"] == vm)

    def event_of(self, campaign: str, vm: Any) -> Row:
        where = {"campaign": campaign, "vm_row": self.vm_row(vm)}
        return next(event for event in self.all_events() if where.items() <= event.items())

    def outcome_of(self, campaign: str, vm: Any, iteration: int = 1) -> Row:
        where = {"campaign": campaign, "iteration": iteration, "vm_row": self.vm_row(vm)}
        return next(row for part in self.outcomes.values() for row in part if where.items() <= row.items())

    def figure(self, campaign: str, region: str, figure: str, iteration: int = 1) -> Row:
        """The first row of one figure in the summary."""
        where = {"campaign": campaign, "iteration": iteration, "region": region, "figure": figure}
        return next(row for row in self.summary if where.items() <= row.items())

    def stage(self, campaign: str, region: str, iteration: int = 1) -> Row:
        wanted = campaign, iteration, region
        return next(row for row in self.stages if (row["campaign"], row["iteration"], row["region"]) == wanted)


def sound(ids: type = int, campaigns: Sequence[Row] = CAMPAIGNS, parts: Mapping[Any, Any] = FLEET_PARTS) -> Plant:
    """A fleet in *parts* and *campaigns* over it, without the tables derived from the events."""
    fleet: dict[tuple[str, int], list[Row]] = {}
    vm_row = 0
    for (region, part), sets in parts.items():
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
    waiting = [(place, region) for place, campaign in enumerate(campaigns) for region in campaign["regions"]]
    while waiting:  # whichever can start first does, ties as semantics.md 24 says
        start_ms, _, place, region = min((_first_ms(plant, *stage), _turn(plant, *stage), *stage) for stage in waiting)
        waiting.remove((place, region))
        _run_stage(plant, place, plant.campaigns[place], region, start_ms, dice)
    return plant


def _first_ms(plant: Plant, place: int, region: str) -> int:
    """When those that ran so far let a stage start."""
    campaign = plant.campaigns[place]
    start_ms: int = campaign["start_ms"]
    for (name, other), (_, end_ms) in plant.stage_times.items():
        lag_ms = max(campaign["pair_lag_ms"], *(c["pair_lag_ms"] for c in plant.campaigns if c["name"] == name))
        if other == region:
            start_ms = max(start_ms, end_ms)
        elif other == PAIRS[region]:
            start_ms = max(start_ms, end_ms + lag_ms)
    return start_ms


def _turn(plant: Plant, place: int, region: str) -> tuple[int, int, int, str]:
    campaign = plant.campaigns[place]
    vm_count = sum(len(vms) for (name, _), vms in plant.fleet.items() if name == region)
    rank = vm_count if campaign["pair_order"] == "fewest_vms_first" else 0
    return campaign["start_ms"], place, rank, region


def _run_stage(plant: Plant, place: int, campaign: Row, region: str, start_ms: int, dice: random.Random) -> None:
    """Add the events of one stage."""
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
            figures["free_ms", None] = figures["end_ms", None]
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
    _count(plant)


def _count(plant: Plant) -> None:
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
            figures["last_cap_ms", None] = 0
        if next(iter(units.values()))[0]["set"] is None:
            figures["single_count", None] += 1
            continue
        figures["set_count", None] += 1
        figures["no_guarantee_count", None] += len(units) == 1
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
        figures["pending_vm_ms", None] += event["start_at"] + event["duration_ms"] - campaign["start_ms"]
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
    for (region, part), rows in plant.fleet.items():
        columns = tuple(column for column in (*FLEET.columns, *PREPARED.columns) if column.name in rows[0])
        tables[f"fleet/region={region}/part-{part:05}.parquet"] = (columns, rows)
    for region, rows in plant.hosts.items():
        columns = tuple(column for column in PREPARED_HOSTS.columns if column.name in rows[0])
        tables[f"hosts/region={region}/part-00000.parquet"] = (columns, rows)
    for name in plant.outputs:
        declared, files = (EVENTS, plant.events) if name == "events" else (OUTCOMES, plant.outcomes)
        for (place, region, part), rows in files.items() if plant.outputs[name] else ():
            path = f"{name}/region={region}/part-c{place:03}-i001-{part:05}.parquet"
            columns = tuple(column for column in declared.columns if column.is_required or column.name in rows[0])
            tables[path] = (columns, sorted(rows, key=lambda row: int(row["vm_row"])))
    for (place, region), rows in _steps(plant).items():
        tables[f"steps/region={region}/part-c{place:03}-i001-00000.parquet"] = (STEPS.columns, rows)
    is_text = isinstance(plant.vms()[0]["vm"], str)
    for place, plan in plant.plans.items():
        rows = [f"{vm},{(START + timedelta(milliseconds=ms)).isoformat()}" for vm, ms in plan]
        text = "\n".join(["vm,at", *rows]) + "\n"
        (folder / f"requests-c{place:03}.csv").write_text(text)
        plant.campaigns[place]["self_service"]["requests"] = {"count": len(rows), "sha256": _sha256(text)}
    resolved = {"name": "plant", "start": START, "seed": 7, "preset": "azure-2017", "outputs": plant.outputs}
    resolved |= plant.resolved | {"campaign": plant.campaigns}
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


def _steps(plant: Plant) -> dict[tuple[int, str], list[Row]]:
    """Steps as the events tell them, by campaign and region; none says what it waited for, which none has to."""
    found: dict[tuple[int, str], list[Row]] = {}
    events: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for (place, _, _), rows in plant.events.items():
        for row in rows:
            if row["phase"] != "self_service":
                events[place, row["vm_row"]].append(row)
    vm_of = {row["vm_row"]: row for row in plant.vms()}
    for unit in plant.units:
        first = vm_of.get(min(unit.vm_rows), {})
        on_host, in_set = first.get("host") is not None, first.get("set") is not None
        steps = found.setdefault((unit.place, unit.region), [])
        happened = [
            (row["vm_row"], row["start_at"], row["duration_ms"])
            for vm_row in unit.vm_rows
            for row in events[unit.place, vm_row]
        ]
        for start_ms in sorted({start for _, start, _ in happened}):
            longest_ms = max(length for _, start, length in happened if start == start_ms)
            as_it_went = frozenset(happened) == unit.events
            steps.append(
                {
                    "campaign": plant.campaigns[unit.place]["name"],
                    "iteration": 1,
                    "unit_row": min(unit.vm_rows),
                    "host_row": 0 if on_host else None,
                    "domain": first["update_domain"] if in_set and not on_host else None,
                    "state": "work",
                    "start_at": start_ms,
                    "duration_ms": unit.held_ms if as_it_went else max(unit.work_ms, longest_ms),
                    "waited_ms": start_ms - unit.stage_start_ms,
                }
            )
    found = {key: sorted(steps, key=lambda row: (row["unit_row"], row["start_at"])) for key, steps in found.items()}
    plant.edit_steps([row for key in sorted(found) for row in found[key]])
    return {key: [row for row in steps if row["campaign"]] for key, steps in found.items()}


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
        "bool": pa.bool_(),
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


# ---- A later world, as the oracle tells it

MINUTE_MS = 60_000
LATER_HORIZON_MS = 12 * HOUR_MS
LIVES = {  # vm: created and deleted, ms
    3: (None, 500),  # during its impact by `walk`
    5: (None, 5 * MINUTE_MS),  # before its domain's turn
    8: (None, 8 * MINUTE_MS),  # and with it all of its domain
    11: (1_000, None),  # after `walk` had started in its region
    23: (None, 100),  # a single, during its impact
    24: (-HOUR_MS, None),  # has not been there always
    12: (None, -1_000),  # was gone before
    43: (13 * HOUR_MS, None),  # comes after all
}
LATER_SETS = {  # (region, part, set): cluster and the (update domain, fault domain) of each VM
    ("east", 0, 1): ("c1", [(0, 0), (0, 0), (1, 0), (1, 1), (1, 1)]),
    ("east", 0, 2): ("c2", [(0, 0), (1, 1), (2, 2)]),
    ("east", 1, 3): ("c1", [(0, 0), (1, 1), (1, 2), (2, 2)]),
    ("east", 1, 4): (None, [(0, 1), (0, 1)]),
    ("north", 0, 5): (None, [(0, 0), (1, 1), (2, 2)]),
    ("south", 0, 6): ("c1", [(0, 0), (1, 0), (2, 0), (3, 1)]),
}
"""VMs are numbered as they come, but for the singles. The domains of set 5 are assigned; set 6 is a scale set."""
LATER_SINGLES = {("east", 1): [15, 16, 17, 23, 24], ("north", 0): [31], ("south", 0): [41, 42, 43]}


REBOOTS = {"cannot_freeze": "reboot", "reboot_length": {"given": "uniform"}}
REBOOTS["reboot_length"] |= {"length_ms_min": 60_000, "length_ms_max": 90_000}
"""What a campaign says that reboots whom it cannot freeze."""


def later(quorum_by: str = "set", *, reboots: bool = False) -> Plant:
    """A world with all that a plain campaign has not, under a quorum of sets or applications.

    `walk` leaves alone whom it cannot freeze or, where asked for, *reboots* them.
    """
    vms, places = _later_vms()
    lengths, families = uniform(1_000, 9_000), {"Standard_M64s": constant(5_000)}
    walk = (
        PLAIN
        | {
            "name": "walk",
            "waves": [["east"], ["north", "south"]],
            "bake_ms": HOUR_MS,
            "update_domain_gap_ms": 10 * MINUTE_MS,
            "walk_by": "fault_domain",
            "cannot_freeze_sizes": ["Standard_L8s_v2"],
            "length": length(1_000, 9_000, M=(["Standard_M64s"], 5_000, 5_000)),
        }
        | (REBOOTS if reboots else {})
    )
    step = PLAIN | {
        "name": "step",
        "where": {"application": ["shop", "mail"]},
        "start_ms": 500,
        "work_ms": 20_000,
        "update_domain_gap_ms": MINUTE_MS,
        "update_domain_order": "largest_first",
        "sets_in_step": True,
        "pair_exclusion": "reboots",
        "length": length(10_000, 10_000),
    }
    note = PLAIN | {"name": "note", "kind": "no_impact", "start_ms": 4 * HOUR_MS, "length": length(1_000, 1_000)}
    late = PLAIN | {
        "name": "late",
        "start_ms": LATER_HORIZON_MS - HOUR_MS,
        "update_domain_gap_ms": 40 * MINUTE_MS,
        "length": length(1_000, 1_000),
    }
    capped = PLAIN | {
        "name": "capped",
        "start_ms": 6 * HOUR_MS,
        "caps": [{"per": "region", "vms_ratio": 0.34}, {"per": "cluster", "vms_count": 2}],
        "length": length(1_000, 1_000),
    }
    meant = [
        _meant(walk, lengths, family_lengths=families, **_unfrozen(reboots=reboots)),
        _meant(step, constant(10_000), waves=None, where={"application": ("shop", "mail")}),
        _meant(note, constant(1_000), waves=None),
        _meant(late, constant(1_000), waves=None),
        _meant(capped, constant(1_000), waves=None, caps=(oracle.Cap("region", "0.34"), oracle.Cap("cluster", 2))),
    ]
    quorum = oracle.Quorum(quorum_by, "majority")
    edges = [(region, pair) for region, pair in PAIRS.items() if pair]
    log = oracle.simulate(vms, meant, edges, 7, horizon_ms=LATER_HORIZON_MS, quorum=quorum)
    resolved = {"horizon_ms": LATER_HORIZON_MS, "quorum": {"by": quorum_by, "min_up": "majority"}}
    return _told(log, vms, places, [walk, step, note, late, capped], resolved)


def _unfrozen(*, reboots: bool) -> dict[str, Any]:
    """What becomes of the size that cannot be frozen, for the oracle."""
    lengths = {"reboot_lengths": uniform(60_000, 90_000)} if reboots else {}
    return {"cannot_freeze": frozenset(["Standard_L8s_v2"]), **lengths}


def _later_vms() -> tuple[list[oracle.Vm], dict[int, tuple[str, int]]]:
    """The VMs in row order, and the part of each."""
    vms, places = [], {}
    ids = iter(range(1, 100))
    for (region, part, set_), (cluster, domains) in LATER_SETS.items():
        for update_domain, fault_domain in domains:
            vm = next(number for number in ids if all(number not in singles for singles in LATER_SINGLES.values()))
            places[vm] = region, part
            vms.append(oracle.Vm(vm, region, set_, update_domain, fault_domain, cluster=cluster))
        if (singles := LATER_SINGLES.get((region, part))) and (region, part, set_) == max(
            key for key in LATER_SETS if key[:2] == (region, part)
        ):
            places |= dict.fromkeys(singles, (region, part))
            vms += [oracle.Vm(single, region) for single in singles]
    sizes = {1: "Standard_M64s", 4: "Standard_M64s", 9: "Standard_L8s_v2", 17: "Standard_L8s_v2"}
    filled = [
        replace(
            vm,
            created_ms=LIVES.get(vm.vm, (None, None))[0],
            deleted_ms=LIVES.get(vm.vm, (None, None))[1],
            size=sizes.get(vm.vm, "Standard_D2s_v3"),
            application=("shop", "mail", "shop", None)[vm.vm % 4] if vm.set not in (2, 4) else "shop",
        )
        for vm in vms
    ]
    return filled, places


# ---- A world with hosts, as the oracle tells it

HOSTED_HORIZON_MS = 12 * HOUR_MS
HOSTED = {  # (region, part, set): (domain, host) of each VM; hosts carry VMs of several sets, from several parts
    ("east", 0, 1): [(0, 10), (0, 11), (1, 12), (2, 13)],
    ("east", 0, 2): [(0, 10), (1, 12), (1, 12)],
    ("east", 0, 3): [(0, 14), (1, 14), (0, 15), (2, 16)],  # one host has two of its domains
    ("east", 1, 4): [(0, 16), (1, 16)],  # one host has all of it
    ("east", 1, None): [(None, 10), (None, 13), (None, 17), (None, 17), (None, 18), (None, 18)],
    ("north", 0, 8): [(0, 20), (0, 20)],
    ("north", 0, 9): [(0, 20), (1, 21)],
    ("north", 0, 10): [(0, 23), (1, 23), (0, 24), (1, 24), (0, 25), (1, 25)],  # each of its hosts has all domains
    ("north", 0, None): [(None, 21), (None, 22)],
    ("south", 0, 7): [(0, None), (1, None)],  # a region without hosts
    ("south", 0, None): [(None, None)],
}
"""VMs are numbered as they come, from 1 on."""
HOSTED_MAIL = (4, 11, 14)  # on hosts 13, 16 and 10
HOSTED_SIZES = {18: "Standard_L8s_v2", 21: "Standard_M64s"}


def hosted(*, reboots: bool = False) -> Plant:
    """A world with hosts in two of three regions, and sets on them in aligned and in other ways.

    `roll` leaves hosts alone with whom it cannot freeze or, where asked for, *reboots* the latter.
    """
    vms, places = [], {}
    for (region, part, set_), of in HOSTED.items():
        for domain, host in of:
            vm = len(vms) + 1
            places[vm] = region, part
            size = HOSTED_SIZES.get(vm, "Standard_D2s_v3")
            application = "mail" if vm in HOSTED_MAIL else "shop"
            cluster = "c1" if vm % 3 else None
            more = {"host": host, "size": size, "application": application, "cluster": cluster}
            vms.append(oracle.Vm(vm, region, set_, domain, **more))
    spread = PLAIN | {"cannot_freeze_sizes": ["Standard_L8s_v2"], "spread_ms": HOUR_MS}
    roll = spread | {"name": "roll", "update_domain_gap_ms": 10 * MINUTE_MS, "length": length(1_000, 9_000)}
    roll |= REBOOTS if reboots else {}
    mail = PLAIN | {
        "name": "mail",
        "regions": ["east"],
        "waves": [["east"]],
        "start_ms": 4 * HOUR_MS,
        "where": {"application": ["mail"]},
        "work_ms": 20_000,
        "update_domain_gap_ms": MINUTE_MS,
        "length": length(10_000, 10_000),
    }
    capped = PLAIN | {
        "name": "capped",
        "regions": ["east", "north"],
        "waves": [["east", "north"]],
        "start_ms": 6 * HOUR_MS,
        "caps": [{"per": "region", "hosts_ratio": 0.34}, {"per": "cluster", "vms_count": 3}],
        "length": length(1_000, 9_000, M=(["Standard_M64s"], 20_000, 20_000)),  # on a VM without cluster
    }
    late = PLAIN | {
        "name": "late",
        "start_ms": HOSTED_HORIZON_MS - HOUR_MS,
        "update_domain_gap_ms": 25 * MINUTE_MS,
        "pair_order": ["south", "north"],
        "pair_lag_ms": 15 * MINUTE_MS,
        "length": length(1_000, 1_000),
    }
    caps = oracle.Cap("region", "0.34", counts_hosts=True), oracle.Cap("cluster", 3)
    meant = [
        _meant(roll, uniform(1_000, 9_000), waves=None, **_unfrozen(reboots=reboots)),
        _meant(mail, constant(10_000), waves=None, where={"application": ("mail",)}),
        _meant(
            capped,
            uniform(1_000, 9_000),
            regions=("east", "north"),
            caps=caps,
            family_lengths={"Standard_M64s": constant(20_000)},
        ),
        _meant(late, constant(1_000), waves=None, pair_order=("south", "north")),
    ]
    edges = [(region, pair) for region, pair in PAIRS.items() if pair]
    log = oracle.simulate(vms, meant, edges, 7, horizon_ms=HOSTED_HORIZON_MS)
    return _told(log, vms, places, [roll, mail, capped, late], {"horizon_ms": HOSTED_HORIZON_MS})


# ---- A world with reboots, as the oracle tells it

WINDOWS = STAGES.names()[4:9]
NOBODY_ACTS: Row = {
    "uptake_ratio": 0.0,
    "by": "subscription",
    "timing": "uniform",
    "failure_ratio": 0.0,
    "retries": False,
    "spare_ratio": 0.05,
    "recycle_ms": HOUR_MS,
}
"""What `self_service` says besides its length, in a resolved scenario."""
ONCE: Row = {"iterations_max": 1, "reschedule_delay_ms": 0}


def windowed() -> Plant:
    """The VMs of `later` under reboots: with ample windows and with narrow ones, and under a freeze between them."""
    vms, places = _later_vms()
    boot = PLAIN | {
        "name": "boot",
        "kind": "reboot",
        "start_ms": HOUR_MS,
        "update_domain_gap_ms": 10 * MINUTE_MS,
        "pair_lag_ms": HOUR_MS,
        "length": length(60_000, 90_000),
        "notice_ms": 5 * HOUR_MS,
        "self_service": NOBODY_ACTS | {"length_ms": 2 * HOUR_MS},
        "scheduled": {"gap_ms": HOUR_MS, "length_ms": 2 * HOUR_MS},
        **ONCE,
    }
    brief = PLAIN | {
        "name": "brief",
        "kind": "reboot",
        "regions": ["east", "north"],
        "waves": [["east"], ["north"]],
        "work_ms": 20_000,
        "update_domain_gap_ms": MINUTE_MS,
        "length": length(30_000, 30_000),
        "notice_ms": 0,
        "self_service": NOBODY_ACTS | {"length_ms": 0},
        "scheduled": {"gap_ms": 0, "length_ms": 2 * MINUTE_MS},
        **ONCE,
    }
    # It would meet the window of `boot` in east, and waits for its end.
    freeze = PLAIN | {
        "name": "freeze",
        "regions": ["east"],
        "waves": [["east"]],
        "start_ms": 6 * HOUR_MS - MINUTE_MS,
        "update_domain_gap_ms": MINUTE_MS,
        "length": length(1_000, 1_000),
    }
    campaigns = [boot, brief, freeze]
    meant = [
        _meant(boot, uniform(60_000, 90_000), waves=None, **_windows(boot)),
        _meant(brief, constant(30_000), regions=("east", "north"), **_windows(brief)),
        _meant(freeze, constant(1_000), waves=None, regions=("east",)),
    ]
    edges = [(region, pair) for region, pair in PAIRS.items() if pair]
    return _told(oracle.simulate(vms, meant, edges, 7), vms, places, campaigns, {})


# ---- A world of zones that take turns, and of hosts that have no room, as the oracle tells it

ZONED = {  # (region, part, set): (update domain, zone, host) of each VM
    ("east", 0, 1): [(domain, zone, None) for zone in "ba" for domain in (0, 0, 1)],
    ("east", 1, 2): [(0, "b", None), (1, None, None)],
    ("east", 1, None): [(None, "a", None), (None, "b", None), (None, "a", None)],
    ("north", 0, 3): [(domain, None, 10 + domain) for domain in (0, 0, 1, 1)],
    ("north", 0, None): [(None, None, 10), (None, None, 12)],
}
"""VMs are numbered as they come, from 1 on."""
ZONED_CREATED_MS = {16: 11 * MINUTE_MS}  # on the host that has no room, before that is seen


def zoned() -> Plant:
    """A reboot zone by zone, with ample windows, and one over hosts of which one has no room after another."""
    vms, places = [], {}
    for (region, part, set_), of in ZONED.items():
        for domain, zone, host in of:
            vm = len(vms) + 1
            places[vm] = region, part
            more = {"zone": zone, "host": host, "created_ms": ZONED_CREATED_MS.get(vm)}
            vms.append(oracle.Vm(vm, region, set_, domain, **more))
    turns = PLAIN | {
        "name": "turns",
        "kind": "reboot",
        "regions": ["east"],
        "waves": [["east"]],
        "update_domain_gap_ms": 2 * MINUTE_MS,
        "update_domain_order": "largest_first",
        "length": length(60_000, 90_000),
        "notice_ms": HOUR_MS,
        "self_service": NOBODY_ACTS | {"length_ms": 0},
        "scheduled": {"gap_ms": 0, "length_ms": 2 * HOUR_MS},
        "one_zone_at_a_time": True,
        **ONCE,
    }
    racks = turns | {
        "name": "racks",
        "regions": ["north"],
        "waves": [["north"]],
        "update_domain_gap_ms": 10 * MINUTE_MS,
        "update_domain_order": "random",
        "length": length(60_000, 60_000),
        "notice_ms": 0,
        "scheduled": {"gap_ms": 0, "length_ms": 12 * MINUTE_MS - 1},
        "one_zone_at_a_time": False,
    }
    meant = [
        _meant(turns, uniform(60_000, 90_000), regions=("east",), one_zone_at_a_time=True, **_windows(turns)),
        _meant(racks, constant(60_000), regions=("north",), **_windows(racks)),
    ]
    return _told(oracle.simulate(vms, meant, [], 7), vms, places, [turns, racks], {})


# ---- A world whose customers act, as the oracle tells it

DAY_MS = 24 * HOUR_MS
REQUESTED = {  # (part, set): cluster and the update domain of each VM
    (0, 1): ("c1", [0, 0, 1, 1, 2, 2]),
    (0, 2): ("c1", [0, 1]),
    (1, 3): (None, [0, 0, 1]),
    (1, None): ("c1", [None] * 4),
}
"""VMs are numbered as they come, from 1 on: there is room for one move at a time, and none outside c1."""
REQUESTED_DELETED_MS = {
    12: 400_000_000,  # before the platform comes to it
    14: 261_031_726,  # 1 s after it began to move
}
REQUESTED_SEED = 2
RESCHEDULED_SEED = 122


def requested(
    seed: int = REQUESTED_SEED,
    customers_too: Row | None = None,
    plan: Sequence[tuple[int, int]] | None = None,
    freeze_too: Row | None = None,
    **changes: Any,
) -> Plant:
    """A reboot that customers start themselves: moves, a failure, refusals that end in a move and others in none."""
    vms, places = [], {}
    for (part, set_), (cluster, domains) in REQUESTED.items():
        for domain in domains:
            vm = len(vms) + 1
            places[vm] = "east", part
            has = {"temp_disk_gib": (0.0, 64.0, None)[vm % 3], "dynamic_ip": (True, False, None, False, True)[vm % 5]}
            more = {"subscription": "me" if vm % 2 else None, "deleted_ms": REQUESTED_DELETED_MS.get(vm)}
            vms.append(oracle.Vm(vm, "east", set_, domain, cluster=cluster, **has, **more))
    only = PLAIN | {"regions": ["east"], "waves": [["east"]], "update_domain_gap_ms": MINUTE_MS}
    freeze = only | {"name": "freeze", "length": length(1_000, 1_000)} | (freeze_too or {})
    boot = (
        only
        | {
            "name": "boot",
            "kind": "reboot",
            "start_ms": HOUR_MS,
            "length": length(60_000, 90_000),
            "notice_ms": 0,
            "self_service": {
                "length_ms": 6 * DAY_MS,
                "uptake_ratio": 0.7,
                "by": "vm",
                "timing": "early",
                "failure_ratio": 0.2,
                "retries": False,
                "spare_ratio": 0.1,
                "recycle_ms": 3 * HOUR_MS,
                **(customers_too or {}),
            },
            "scheduled": {"gap_ms": 2 * HOUR_MS, "length_ms": DAY_MS},
            **ONCE,
        }
        | changes
    )
    asked = boot["self_service"]
    ratios = {name: str(asked[f"{name}_ratio"]) for name in ("uptake", "failure", "spare")}
    customers = oracle.SelfService(by="vm", timing="early", recycle_ms=asked["recycle_ms"], start=START, **ratios)
    if plan is not None:
        customers = replace(customers, requests=tuple(plan))
    meant = [
        _meant(freeze, constant(1_000), regions=("east",)),
        _meant(boot, uniform(60_000, 90_000), regions=("east",), **_windows(boot), self_service=customers),
    ]
    plant = _told(oracle.simulate(vms, meant, [], seed), vms, places, [freeze, boot], {})
    plant.plans = {} if plan is None else {1: list(plan)}
    return plant


PLANNED = (
    *((1, HOUR_MS + ms) for ms in (HOUR_MS, 3 * DAY_MS)),  # it moves, and would once more
    *((2, HOUR_MS + ms) for ms in (2 * HOUR_MS, 6 * HOUR_MS)),  # refused, then there is room again
    *((9, HOUR_MS + ms * HOUR_MS) for ms in range(6)),  # no room in no cluster, however often
    *((13, ms) for ms in (HOUR_MS - 1, HOUR_MS + 6 * DAY_MS)),  # the window is not open
    (14, 3 * DAY_MS + 12 * HOUR_MS),  # it is gone by then
)


def planned() -> Plant:
    """The same with customers who follow a plan of their own."""
    return requested(customers_too={"uptake_ratio": 0.0}, plan=PLANNED)


MET_MS = 4 * HOUR_MS
MET = (
    (1, MET_MS - 30_000),  # its set waits for it
    *((5, MET_MS + ms) for ms in (50_000, 10 * MINUTE_MS)),  # one after it in its set: refused until that is through
    (4, MET_MS + 20_000),  # likewise
    (8, MET_MS + 30_000),  # one after it in its own
    *((13, MET_MS + ms) for ms in (-20_000, 1_000)),  # on the move
    *((15, MET_MS + ms) for ms in (0, 999, 1_000)),  # in the freeze, and right after it
)
"""Who asks while the freeze is at work, and right before."""


def beside() -> Plant:
    """The same plan, and room for all, but a freeze comes into the window for customers."""
    return requested(
        customers_too={"uptake_ratio": 0.0, "spare_ratio": 1.0, "failure_ratio": 0.0},
        plan=MET,
        freeze_too={"start_ms": MET_MS},
    )


def rescheduled() -> Plant:
    """The same with little room in all windows, for moves far into the next: VMs come back twice, and some remain."""
    scheduled = {"gap_ms": 2 * HOUR_MS, "length_ms": 100_000}
    customers = {"failure_ratio": 0.5, "recycle_ms": 7 * DAY_MS}
    more = {"scheduled": scheduled, "iterations_max": 3, "reschedule_delay_ms": DAY_MS}
    return requested(RESCHEDULED_SEED, customers, **more)


TRIED = [(0, 1, [0, 0, 1, 1]), (0, 2, [0, 1]), (1, 3, [0, 0]), (1, None, [None] * 3)]
"""Of each set, and of the singles: the part, and the update domain of each VM; these are numbered from 1 on."""
TRIED_DELETED_MS = {2: 2 * HOUR_MS + 100_000}  # while it is tried for the second time
TRIED_SEED = 78


def tried(seed: int = TRIED_SEED) -> Plant:
    """A redeploy of which half of the tries fail: some VMs are updated late, some fail once, one in both iterations."""
    vms, places = [], {}
    for part, set_, domains in TRIED:
        for domain in domains:
            vm = len(vms) + 1
            places[vm] = "east", part
            vms.append(oracle.Vm(vm, "east", set_, domain, deleted_ms=TRIED_DELETED_MS.get(vm)))
    move = PLAIN | {
        "name": "move",
        "kind": "redeploy",
        "regions": ["east"],
        "waves": [["east"]],
        "start_ms": HOUR_MS,
        "update_domain_gap_ms": MINUTE_MS,
        "length": length(60_000, 90_000),
        "notice_ms": HOUR_MS,
        "self_service": NOBODY_ACTS | {"length_ms": 0},
        "scheduled": {
            "gap_ms": 0,
            "length_ms": HOUR_MS,
            "failure_ratio": 0.5,
            "retry_timeout_ms": 150_000,
        },
        "iterations_max": 2,
        "reschedule_delay_ms": HOUR_MS,
    }
    meant = [_meant(move, uniform(60_000, 90_000), regions=("east",), **_windows(move))]
    return _told(oracle.simulate(vms, meant, [], seed), vms, places, [move], {})


# ---- A world whose customers act over hosts, as the oracle tells it

LODGED = {  # host: the VMs on it, of which the first four are a set
    10: (1, 2),
    11: (3, 4),
    12: (5, 6),
    13: (7, 8),
    15: (9,),
}
LODGED_SPARE = {9: 0.5, 14: 2.0, 16: 1.0}  # vCPUs; a VM takes one
LODGED_CLUSTERS = {15: "c2", 16: "c2"}  # all others are of c1
LODGED_DELETED_MS = {6: 50 * HOUR_MS + 10_000}  # while it moves
LODGED_PLAN = (
    (1, 2 * HOUR_MS),  # to 14
    (2, 10 * HOUR_MS),  # likewise: that is full, and 10 is emptied
    (3, 11 * HOUR_MS),  # refused: 10 is not updated yet
    (5, 20 * HOUR_MS),  # to 10
    (7, 30 * HOUR_MS),  # fails, and with it 8 is left out
    (6, 50 * HOUR_MS),  # to 10
)
LODGED_SEED = 0


def lodged() -> Plant:
    """A reboot over hosts that customers start by a plan: on spare hosts, and on one that they have emptied."""
    on_host = {vm: host for host, vms in LODGED.items() for vm in vms}
    vms, places = [], {}
    for vm, host in on_host.items():
        places[vm] = "east", 0
        more = {"cluster": LODGED_CLUSTERS.get(host, "c1"), "deleted_ms": LODGED_DELETED_MS.get(vm)}
        vms.append(oracle.Vm(vm, "east", 1 if vm <= 4 else None, vm % 2 if vm <= 4 else None, host=host, **more))
    boot = PLAIN | {
        "name": "boot",
        "kind": "reboot",
        "regions": ["east"],
        "waves": [["east"]],
        "start_ms": HOUR_MS,
        "update_domain_gap_ms": MINUTE_MS,
        "length": length(60_000, 90_000),
        "notice_ms": 0,
        "self_service": NOBODY_ACTS | {"length_ms": 6 * DAY_MS, "failure_ratio": 0.2, "recycle_ms": 3 * HOUR_MS},
        "scheduled": {"gap_ms": 2 * HOUR_MS, "length_ms": DAY_MS},
        **ONCE,
    }
    hosts = [oracle.Host(host, "east", LODGED_CLUSTERS.get(host, "c1"), float(len(LODGED[host]))) for host in LODGED]
    hosts += [
        oracle.Host(host, "east", LODGED_CLUSTERS.get(host, "c1"), vcpus, is_spare=True)
        for host, vcpus in LODGED_SPARE.items()
    ]
    customers = oracle.SelfService(failure="0.2", recycle_ms=3 * HOUR_MS, start=START, requests=LODGED_PLAN)
    meant = [_meant(boot, uniform(60_000, 90_000), regions=("east",), **_windows(boot), self_service=customers)]
    log = oracle.simulate(vms, meant, [], LODGED_SEED, hosts=hosts)
    plant = _told(log, vms, places, [boot], {})
    plant.plans = {0: list(LODGED_PLAN)}
    hosts.sort(key=lambda host: host.host)
    row_of = {host.host: row for row, host in enumerate(hosts)}
    plant.hosts["east"] = [
        {
            "host_row": row_of[host.host],
            "host": host.host,
            "host_key": host.host,
            "region": "east",
            "cluster": host.cluster,
            "vm_count": len(LODGED.get(host.host, ())),
            "vcpus": host.vcpus,
            "memory_gib": None,
            "is_spare": host.is_spare,
        }
        for host in hosts
    ]
    for row in plant.vms():
        row |= {"takes_vcpus": 1.0, "takes_memory_gib": 0.0, "host_row": row_of[row["host"]]}
    went = {(event.vm, event.start_ms): event.host_to for event in log.events}
    for event in plant.all_events():
        vm = next(row["vm"] for row in plant.vms() if row["vm_row"] == event["vm_row"])
        host_to = went[vm, event["start_at"]]
        event["host_from"] = row_of[on_host[vm]]
        event["host_to"] = event["host_from"] if host_to is None else row_of[host_to]
    return plant


def _windows(campaign: Row) -> dict[str, Any]:
    """What *campaign* says of windows and iterations, for the oracle."""
    scheduled = campaign["scheduled"]
    windows = oracle.Windows(
        campaign["notice_ms"], campaign["self_service"]["length_ms"], scheduled["gap_ms"], scheduled["length_ms"]
    )
    tries = {}
    if "failure_ratio" in scheduled:
        tries = {"try_failure": str(scheduled["failure_ratio"]), "retry_timeout_ms": scheduled["retry_timeout_ms"]}
    return {"windows": windows} | tries | {name: campaign[name] for name in ONCE}


def _meant(campaign: Row, lengths: Sequence[int], **more: Any) -> oracle.Campaign:
    """What *campaign* says, for the oracle."""
    names = ("name", "kind", "start_ms", "work_ms", "update_domain_gap_ms", "update_domain_order", "spread_ms")
    names += ("pair_order", "pair_lag_ms", "bake_ms", "walk_by", "sets_in_step", "pair_exclusion")
    waves = tuple(map(tuple, campaign["waves"]))
    return oracle.Campaign(lengths=lengths, **({"waves": waves} | {name: campaign[name] for name in names} | more))


def _told(
    log: oracle.Log, vms: list[oracle.Vm], places: dict[int, tuple[str, int]], campaigns: list[Row], resolved: Row
) -> Plant:
    """The tables of a run that went as *log* tells."""
    rows, regions = {vm.vm: row for row, vm in enumerate(vms)}, {vm.vm: vm.region for vm in vms}
    plant = Plant({}, {}, {}, [dict(campaign) for campaign in campaigns], resolved=resolved)
    for vm in vms:
        plant.fleet.setdefault(places[vm.vm], []).append(
            {
                "vm_row": rows[vm.vm],
                "vm": vm.vm,
                "region": vm.region,
                "set": vm.set,
                "update_domain": vm.update_domain,
                "set_kind": None if vm.set is None else "scale_set" if vm.set == 6 else "availability_set",
                "fault_domain": vm.fault_domain,
                "is_update_domain_assigned": vm.set == 5,
                "is_fault_domain_assigned": vm.set == 5,
                "cluster": vm.cluster,
                "zone": vm.zone,
                "host": vm.host,
                "size": vm.size,
                "application": vm.application,
                "subscription": vm.subscription,
                "temp_disk_gib": vm.temp_disk_gib,
                "dynamic_ip": vm.dynamic_ip,
                "created": vm.created_ms,
                "deleted": vm.deleted_ms,
            }
        )
    place_of = {campaign["name"]: place for place, campaign in enumerate(campaigns)}
    for event in log.events:
        row = {"campaign": event.campaign, "phase": event.phase, "kind": event.kind, "result": event.result}
        row |= {"iteration": event.iteration, "vm_row": rows[event.vm], "start_at": event.start_ms}
        row |= {"duration_ms": event.duration_ms, "effects": event.effects}
        plant.events.setdefault((place_of[event.campaign], *places[event.vm]), []).append(row)
    for outcome in log.outcomes:
        row = {name: getattr(outcome, name) for name in OUTCOMES.names() if name != "vm_row"}
        row["vm_row"] = rows[outcome.vm]
        plant.outcomes.setdefault((place_of[outcome.campaign], *places[outcome.vm]), []).append(row)
    may_wait = {each["name"] for each in campaigns if each["caps"] or each.get("one_zone_at_a_time")}
    on_hosts = {vm.region for vm in vms if vm.host is not None}
    spans = {(span.campaign, span.region): span for span in log.stages}
    events = {(event.campaign, event.vm): event for event in log.events if event.phase != "self_service"}
    for step in log.steps:
        if step.campaign not in may_wait and step.region not in on_hosts:
            continue
        hits = [events[step.campaign, vm.vm] for vm in step.vms if (step.campaign, vm.vm) in events]
        plant.units.append(
            Unit(
                place_of[step.campaign],
                step.region,
                tuple(rows[vm.vm] for vm in step.vms),
                spans[step.campaign, step.region].start_ms or 0,
                campaigns[place_of[step.campaign]]["work_ms"],
                frozenset((rows[hit.vm], hit.start_ms, hit.duration_ms) for hit in hits),
                step.end_ms - step.start_ms,
            )
        )
    for span in log.stages:
        stage = {"campaign": span.campaign, "iteration": span.iteration, "region": span.region}
        counts = {f"{word}_count": span.counts.get(word, 0) for word in words(Outcome)}
        times = {"first_start_at": span.first_start_ms, "last_end_at": span.last_end_ms, "bottleneck": "none"}
        times |= dict(zip(WINDOWS, span.windows or (), strict=False))
        plant.stages.append(stage | dict.fromkeys(STAGES.names()[3:]) | counts | times | {"wave": span.wave})
        plant.summary += [
            stage | {"figure": figure, "bin_start_ms": bin_start_ms, "value": float(value)}
            for (figure, bin_start_ms), value in _told_figures(
                log, span, rows, regions, may_wait=span.campaign in may_wait or span.region in on_hosts
            ).items()
        ]
    plant.summary += [
        {"campaign": campaign, "iteration": 1, "region": "*", "figure": figure, "bin_start_ms": None}
        | {"value": float(value)}
        for (campaign, figure), value in log.campaign_figures.items()
    ]
    plant.no_guarantee = [
        {"region": region, "set": set_, "reason": reason} for region, set_, reason in sorted(log.no_guarantee)
    ]
    _count(plant)
    return plant


def _told_figures(
    log: oracle.Log, span: oracle.StageSpan, rows: dict[int, int], regions: dict[int, str], *, may_wait: bool
) -> dict[tuple[str, int | None], float]:
    figures: dict[tuple[str, int | None], float] = defaultdict(int)
    figures |= {
        (name, None): float(value) for name, value in log.figures[span.campaign, span.iteration, span.region].items()
    }
    times = {
        "asked_ms": span.asked_ms,
        "start_ms": span.start_ms,
        "end_ms": span.last_end_ms,
        "free_ms": span.free_ms,
        "first_start_ms": span.first_start_ms,
    }
    figures |= {(name, None): float(value) for name, value in times.items() if value is not None}
    walks = [walk for walk in log.walks if walk.stage == (span.campaign, span.iteration, span.region)]
    if walks:
        last = max(walks, key=lambda walk: (walk.end_ms, -min(rows[vm.vm] for vm in walk.vms)))
        figures["last_vm_row", None] = min(rows[vm.vm] for vm in last.vms)
        figures["last_spread_ms", None], figures["last_work_ms", None] = last.wait_ms, last.held_ms
        figures["last_gap_ms", None], figures["last_domain_count", None] = last.gap_ms, last.unit_count
        figures["last_cap_ms", None] = 0
        if may_wait:  # as steps have it: the last unit alone, which waited for we do not say whom
            of = [step for step in log.steps if (step.campaign, step.region) == (span.campaign, span.region)]
            unit = max(of, key=lambda step: (step.end_ms, -min(rows[vm.vm] for vm in step.vms)))
            figures["last_work_ms", None] = unit.end_ms - unit.start_ms
            figures["last_cap_ms", None] = unit.start_ms - span.start_ms
            figures["last_domain_count", None] = 1
            figures["last_spread_ms", None] = figures["last_gap_ms", None] = 0
    felt = defaultdict(list)
    for event in log.events:
        is_here = (event.campaign, event.iteration, regions[event.vm]) == (span.campaign, span.iteration, span.region)
        if is_here and event.duration_ms:
            felt[event.vm].append(event)
    for tries in felt.values():  # of one VM they are one impact
        hour_ms = min(event.start_ms for event in tries) // HOUR_MS * HOUR_MS
        lost_ms = sum(event.duration_ms for event in tries)
        figures["hourly_start_count", hour_ms] += 1
        figures["hourly_unavailable_ms", hour_ms] += lost_ms
        shift = max(lost_ms.bit_length() - 7, 0)
        lost = "paused" if tries[0].kind == "freeze" else "down"
        figures[f"{lost}_ms_histogram", lost_ms >> shift << shift] += 1
    return figures
