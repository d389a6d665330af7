"""The verifier: a sound run keeps every rule, and each rule is seen to catch a fault planted for it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from fleetsim.errors import InputError
from fleetsim.schema import SCHEMA_VERSION, SUMMARY
from fleetsim.verifier import OFFENDERS_SHOWN, Verdict, verify
from tests.plant import CAMPAIGNS, HOUR_MS, Plant, Row, derive, sound, write, write_manifest, write_table

RULES = ["files", "fleet"] + [
    f"R{number}" for number in (4, 5, 6, 26, 27, 28, 29, 30, 31, 34, 35, 38, 40, 41, 42, 43, 48, 49, 54, 74, 77, 78)
]


def verdict_of(folder: Path, plant: Plant) -> Verdict:
    return verify(write(plant, folder))


def broken(verdict: Verdict) -> list[str]:
    return [rule.rule for rule in verdict.rules if rule.status == "broken"]


def offenders(verdict: Verdict, rule: str) -> tuple[dict[str, Any], ...]:
    return next(result.offenders for result in verdict.rules if result.rule == rule)


@pytest.fixture
def plant() -> Plant:
    return sound()


@pytest.mark.parametrize("ids", [int, str])
def test_sound_run_keeps_every_rule_and_every_rule_looks_at_rows(tmp_path: Path, ids: type) -> None:
    plant = sound(ids)
    derive(plant)

    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == []
    assert verdict.ok
    assert [rule.rule for rule in verdict.rules] == RULES
    assert {rule.rule: rule.row_count for rule in verdict.rules if rule.row_count == 0} == {}
    assert {rule.status for rule in verdict.rules} == {"kept"}


def shift(events: Iterable[Row], ms: int) -> None:
    for event in events:
        event["start_at"] += ms


def last_domain(plant: Plant, campaign: str, region: str, set_: int) -> list[Row]:
    """Events of the domain a set comes to last: moving them leaves no other domain late."""
    domains = {vm["update_domain"] for vm in plant.vms() if (vm["region"], vm["set"]) == (region, set_)}
    units = [plant.pick(campaign, region, set_, domain) for domain in domains]
    return max(units, key=lambda unit: unit[0]["start_at"])


def unit_before(plant: Plant, campaign: str, region: str, set_: int, unit: list[Row]) -> list[Row]:
    domains = {vm["update_domain"] for vm in plant.vms() if (vm["region"], vm["set"]) == (region, set_)}
    units = [plant.pick(campaign, region, set_, domain) for domain in domains]
    earlier = [other for other in units if other[0]["start_at"] < unit[0]["start_at"]]
    return max(earlier, key=lambda other: other[0]["start_at"])


@dataclass(frozen=True)
class Fault:
    """What is done to a sound run, the rule it breaks, others that follow, and what the offender shows."""

    rule: str
    offender: Row
    also: str = ""
    to_events: Callable[[Plant], object] = lambda plant: None
    to_tables: Callable[[Plant], object] = lambda plant: None


def event(campaign: str, region: str, set_: int | None, domain: int | None, **changes: Any) -> Callable[[Plant], None]:
    """Change the first event of a unit or of the singles of a region."""

    def change(plant: Plant) -> None:
        plant.pick(campaign, region, set_, domain)[0].update(changes)

    return change


def part_in_other_folder(plant: Plant) -> None:
    plant.fleet["east", 1] = plant.fleet.pop(("north", 1))


def divide_set(plant: Plant) -> None:
    """The last VM of set 2 of north moves on to the next part; nothing else changes."""
    plant.fleet["north", 1].insert(0, plant.fleet["north", 0].pop())
    for place in range(3):
        plant.events[place, "north", 1].insert(0, plant.events[place, "north", 0].pop())


def drop_vm(plant: Plant) -> None:
    """The first single of east is no longer in the fleet, though events are."""
    plant.fleet["east", 0] = [vm for vm in plant.fleet["east", 0] if vm["vm_row"] != 2]


def repeat_vm_row(plant: Plant) -> None:
    plant.fleet["east", 0].append(dict(plant.fleet["east", 0][-1], vm=999))


def early_single(plant: Plant) -> None:
    plant.pick("hypervisor", "east", None, None)[0]["start_at"] = -5


def late_single(plant: Plant) -> None:
    plant.stage_times["hypervisor", "east"][1] -= 1
    for row in plant.summary:
        if (row["campaign"], row["region"], row["figure"]) == ("hypervisor", "east", "end_ms"):
            row["value"] -= 1


def event_of(vm_row: int, **changes: Any) -> Callable[[Plant], None]:
    """One event more, beside the first of hypervisor in east."""

    def add(plant: Plant) -> None:
        rows = plant.events[0, "east", 0]
        rows.append(rows[0] | {"vm_row": vm_row} | changes)

    return add


def swap_folders(plant: Plant) -> None:
    plant.events[0, "north", 7] = plant.events.pop((0, "east", 0))


def drop_outcome(plant: Plant) -> None:
    plant.outcomes[0, "east", 0].pop()
    plant.stage("hypervisor", "east")["updated_count"] -= 1
    plant.counts["outcomes"] -= 1


def repeat_outcome(plant: Plant) -> None:
    plant.outcomes[0, "east", 0].append(plant.outcomes[0, "east", 0][-1])
    plant.stage("hypervisor", "east")["updated_count"] += 1
    plant.counts["outcomes"] += 1


def skip_outcome(plant: Plant) -> None:
    plant.outcomes[0, "east", 0][0]["outcome"] = "skipped"
    plant.stage("hypervisor", "east")["updated_count"] -= 1
    plant.stage("hypervisor", "east")["skipped_count"] += 1


def odd_reason(plant: Plant) -> None:
    plant.outcomes[0, "east", 0][0]["reason"] = "odd"


def outcome_out_of_scope(plant: Plant) -> None:
    """`cleanup` does not work in south."""
    plant.outcomes[2, "south", 0] = [dict(plant.outcomes[0, "south", 0][0], campaign="cleanup")]
    plant.counts["outcomes"] += 1


def stray_outcome(plant: Plant) -> None:
    plant.outcomes[0, "east", 0].append(plant.outcomes[0, "east", 0][0] | {"vm_row": 999})
    plant.counts["outcomes"] += 1


def hit_twice(plant: Plant) -> None:
    rows = plant.events[0, "south", 0]
    single = plant.pick("hypervisor", "south", None, None)[0]
    rows.append(single | {"start_at": single["start_at"] + 20_000})
    plant.stage_times["hypervisor", "south"][1] += 30_000


def work_overlaps(plant: Plant) -> None:
    """The next domain starts while the last is held by `work`, though its VMs are back."""
    shift(last_domain(plant, "agent", "north", 1), -70_000)


def impacts_overlap(plant: Plant) -> None:
    last = last_domain(plant, "hypervisor", "north", 1)
    before = unit_before(plant, "hypervisor", "north", 1, last)
    shift(last, before[0]["start_at"] + 500 - last[0]["start_at"])


def all_at_once(plant: Plant) -> None:
    """Both domains of a set of two start together."""
    last = last_domain(plant, "hypervisor", "south", 1)
    shift(last, unit_before(plant, "hypervisor", "south", 1, last)[0]["start_at"] - last[0]["start_at"])


def gap_too_short(plant: Plant) -> None:
    shift(last_domain(plant, "hypervisor", "north", 1), -1)


def gap_too_long(plant: Plant) -> None:
    """Set 2 is not the last of its region to end."""
    shift(last_domain(plant, "hypervisor", "north", 2), 1)


def miss_a_vm(plant: Plant) -> None:
    unit = plant.pick("hypervisor", "north", 1, 2)
    plant.events[0, "north", 0].remove(min(unit, key=lambda event: event["duration_ms"]))


def miss_a_single(plant: Plant) -> None:
    plant.events[1, "south", 0].remove(plant.pick("agent", "south", None, None)[0])


def split_a_domain(plant: Plant) -> None:
    """One VM of a domain starts a little after the others."""
    shift(plant.pick("hypervisor", "north", 3, 0)[:1], 100)


def swap_domains(campaign: str, region: str, set_: int) -> Callable[[Plant], None]:
    """The first two domains of a set in each other's place; all are held equally long."""

    def swap(plant: Plant) -> None:
        one, other = plant.pick(campaign, region, set_, 0), plant.pick(campaign, region, set_, 1)
        distance = other[0]["start_at"] - one[0]["start_at"]
        shift(one, distance)
        shift(other, -distance)

    return swap


def domain_number(number: int | None) -> Callable[[Plant], None]:
    """The domain 1 of east's set gets another number, the same for all its VMs."""

    def change(plant: Plant) -> None:
        for vm in plant.fleet["east", 0]:
            if vm["update_domain"] == 1:
                vm["update_domain"] = number

    return change


def no_guarantee(change: Callable[[list[Row]], object]) -> Callable[[Plant], object]:
    return lambda plant: change(plant.no_guarantee)


def impacts_of_one_vm(plant: Plant) -> None:
    """A single of east is frozen by `agent` while `hypervisor` still has it."""
    hypervisor, agent = (plant.pick(name, "east", None, None)[0] for name in ("hypervisor", "agent"))
    agent["start_at"] = hypervisor["start_at"] + 1


def overlap_within_campaign(plant: Plant) -> None:
    rows = plant.events[0, "south", 0]
    single = plant.pick("hypervisor", "south", None, None)[0]
    rows.append(single | {"start_at": single["start_at"] + 1})


def stage_taken_early(campaign: str, region: str, ms: int) -> Callable[[Plant], None]:
    def change(plant: Plant) -> None:
        plant.figure(campaign, region, "start_ms")["value"] -= ms
        plant.figure(campaign, region, "last_spread_ms")["value"] += ms

    return change


def single_late(plant: Plant) -> None:
    shift(plant.pick("agent", "south", None, None), 1)


def single_in_pairs_time(plant: Plant) -> None:
    """A single of south is frozen while north is at work."""
    plant.pick("hypervisor", "south", None, None)[0]["start_at"] = plant.all_events()[7]["start_at"]


def figure(campaign: str, region: str, name: str, **changes: Any) -> Callable[[Plant], None]:
    return lambda plant: plant.figure(campaign, region, name).update(changes)


def last(**changes: float) -> Callable[[Plant], None]:
    """Figures of the walk that ends last of `agent` in east: its set, of two domains."""

    def change(plant: Plant) -> None:
        for name, value in changes.items():
            plant.figure("agent", "east", f"last_{name}")["value"] = value

    return change


def repeat_figure(plant: Plant) -> None:
    plant.summary.append(plant.figure("agent", "east", "vm_hit_count"))


def drop_figure(name: str) -> Callable[[Plant], None]:
    return lambda plant: plant.summary.remove(plant.figure("agent", "east", name))


def drop_stage(plant: Plant) -> None:
    plant.stages.remove(plant.stage("cleanup", "east"))
    plant.counts["stages"] -= 1


def stage(**changes: Any) -> Callable[[Plant], None]:
    return lambda plant: plant.stage("agent", "south").update(changes)


def short_stages(plant: Plant) -> None:
    """Every stage of `hypervisor` claims to end as soon as it began."""
    for row in plant.summary:
        if row["campaign"] == "hypervisor" and row["figure"] in ("start_ms", "end_ms"):
            row["value"] = 0.0


HYPERVISOR = {"campaign": "hypervisor", "iteration": 1}
AGENT = {"campaign": "agent", "iteration": 1}
LAST = AGENT | {"region": "east"}
NO_LAST = "is no walk that ends last"
FAULTS = {
    "part in another folder": Fault("fleet", {"folder_region": "east"}, to_tables=part_in_other_folder),
    "set divided over parts": Fault("fleet", {"region": "north", "set": 2}, "R4 R30 R38 R74", to_events=divide_set),
    "gap in the fleet": Fault("fleet", {"rows": 3, "expected_rows": 4}, "R4", to_events=drop_vm),
    "vm_row twice": Fault("fleet", {"vm_row": 3, "region": "east"}, "R29 R74", to_tables=repeat_vm_row),
    "before its stage": Fault("R4", HYPERVISOR | {"vm": 27, "start_ms": -5}, to_events=early_single),
    "after its stage": Fault("R4", HYPERVISOR | {"region": "east"}, "R74", to_tables=late_single),
    "set after its spread": Fault(
        "R4",
        HYPERVISOR | {"set": 9, "spread_ms": 1},
        to_tables=lambda plant: plant.campaigns[0].update(spread_ms=1),
    ),
    "single without spread waits": Fault("R4", {"campaign": "agent", "region": "south"}, to_events=single_late),
    "stage before asked": Fault(
        "R4",
        {"problem": "starts before it was asked for", "start_ms": -1},
        to_tables=stage_taken_early("hypervisor", "east", 1),
    ),
    "stage after its first unit": Fault(
        "R4", AGENT | {"problem": "starts before its stage"}, to_tables=stage_taken_early("agent", "south", -1)
    ),
    "with a window": Fault("R4", AGENT | {"problem": "has a window"}, to_tables=stage(scheduled_start_at=7)),
    "of a second wave": Fault("R4", AGENT | {"wave": 2}, to_tables=stage(wave=2)),
    "of no campaign": Fault("R4", {"campaign": "typo", "vm": 27}, to_events=event_of(2, campaign="typo")),
    "of no VM": Fault("R4", {"vm_row": 99, "problem": "no such VM"}, to_events=event_of(99)),
    "of another kind": Fault("R4", {"vm": 27}, to_events=event("agent", "east", None, None, kind="reboot")),
    "of another phase": Fault("R4", {"vm": 27}, to_events=event("agent", "east", None, None, phase="scheduled")),
    "of no stage": Fault("R4", {"vm": 27}, "R29 R49 R74", to_events=event("agent", "east", None, None, iteration=2)),
    "in another folder": Fault("R4", {"region": "east", "folder_region": "north"}, to_tables=swap_folders),
    "out of scope": Fault(
        "R4",
        {"campaign": "cleanup", "region": "south"},
        "R74",
        to_events=event_of(23, campaign="cleanup", duration_ms=5_000, start_at=20 * HOUR_MS),
    ),
    "no outcome": Fault("R5", HYPERVISOR | {"vm": 37, "found": 0}, to_tables=drop_outcome),
    "two outcomes": Fault("R5", HYPERVISOR | {"vm": 37, "found": 2}, to_tables=repeat_outcome),
    "another outcome": Fault("R5", HYPERVISOR | {"vm": 7, "outcome": "skipped"}, to_tables=skip_outcome),
    "another reason": Fault("R5", HYPERVISOR | {"vm": 7, "reason": "odd"}, to_tables=odd_reason),
    "outcome out of scope": Fault("R5", {"expected": 0, "found": 1}, "R74", to_tables=outcome_out_of_scope),
    "outcome of no VM": Fault("R5", {"vm_row": 999}, to_tables=stray_outcome),
    "hit twice": Fault("R6", {"region": "south", "event_count": 2}, "R29", to_events=hit_twice),
    "work overlaps": Fault("R26", AGENT | {"region": "north", "set": 1}, "R28 R77", to_events=work_overlaps),
    "not all back": Fault("R27", HYPERVISOR | {"region": "north", "set": 1}, "R26 R28 R35", to_events=impacts_overlap),
    "gap too short": Fault("R28", HYPERVISOR | {"region": "north", "set": 1}, to_events=gap_too_short),
    "VM left out": Fault("R29", {"set": 1, "update_domain": 2, "vm_hit_count": 1}, to_events=miss_a_vm),
    "single left out": Fault("R29", AGENT | {"region": "south", "vm_hit_count": 0}, to_events=miss_a_single),
    "domain in two visits": Fault("R29", {"set": 3, "visit_count": 2}, "R30", to_events=split_a_domain),
    "visits no permutation": Fault("R30", {"set": 3, "visited": [0, 0]}, "R29", to_events=split_a_domain),
    "larger domain later": Fault("R30", AGENT | {"set": 2}, to_events=swap_domains("agent", "north", 2)),
    "not sequential": Fault("R30", {"visited": [1, 0]}, to_events=swap_domains("cleanup", "east", 9)),
    "domain 20": Fault("R31", {"set": 9, "update_domain": 20, "vm": 17}, to_events=domain_number(20)),
    "no domain": Fault("R31", {"set": 9, "update_domain": None, "vm": 17}, to_events=domain_number(None)),
    "all VMs down": Fault("R34", HYPERVISOR | {"set": 1, "down": 4}, "R26 R27 R28 R35", to_events=all_at_once),
    "two domains down": Fault("R35", {"set": 1, "down": 4}, "R26 R27 R28", to_events=impacts_overlap),
    "set not listed": Fault("R38", {"set": 3, "reason": None}, to_tables=no_guarantee(lambda rows: rows.pop(0))),
    "another reason for no guarantee": Fault(
        "R38",
        {"set": 4, "reason": "one_domain", "reason_expected": "one_vm"},
        to_tables=no_guarantee(lambda rows: rows[1].update(reason="one_domain")),
    ),
    "listed twice": Fault("R38", {"set": 4}, to_tables=no_guarantee(lambda rows: rows.append(rows[1]))),
    "listed in vain": Fault("R38", {"set": 2}, to_tables=no_guarantee(lambda rows: rows.append(rows[0] | {"set": 2}))),
    "no such set": Fault("R38", {"set": 88}, to_tables=no_guarantee(lambda rows: rows.append(rows[0] | {"set": 88}))),
    "gap too long": Fault("R40", HYPERVISOR | {"region": "north", "set": 2}, to_events=gap_too_long),
    "memory lost": Fault("R41", {"vm": 27}, to_events=event("agent", "east", None, None, effects=17)),
    "unknown effect": Fault("R41", {"vm": 27}, to_events=event("agent", "east", None, None, effects=48)),
    "too long": Fault("R42", {"duration_ms": 9001}, to_events=event("hypervisor", "north", 3, 0, duration_ms=9001)),
    "too short": Fault("R42", {"duration_ms": 999}, to_events=event("hypervisor", "north", 3, 0, duration_ms=999)),
    "clock not synchronised": Fault("R43", {"vm": 27}, to_events=event("agent", "east", None, None, effects=0)),
    "two campaigns at once": Fault("R48", AGENT | {"vm": 27}, "R4 R49", to_events=impacts_of_one_vm),
    "twice at once": Fault("R48", {"region": "south"}, "R6 R29", to_events=overlap_within_campaign),
    "stages of a pair overlap": Fault(
        "R49",
        {"region": "north", "region_other": "south", "seen": "stages"},
        to_tables=stage_taken_early("hypervisor", "south", 1),
    ),
    "stages of a region overlap": Fault(
        "R49",
        {"region": "east", "region_other": "east", "campaign_other": "agent"},
        "R4",
        to_tables=stage_taken_early("agent", "east", 1),
    ),
    "events of a pair overlap": Fault("R49", {"seen": "events"}, "R4", to_events=single_in_pairs_time),
    "lag too short": Fault(
        "R54",
        AGENT | {"region": "north", "lag_ms": HOUR_MS},
        "R4",  # without spread every walk is then late by as much
        to_tables=stage_taken_early("agent", "south", 1),
    ),
    "figure differs": Fault(
        "R74",
        {"figure": "unavailable_ms", "value": 1.0},
        to_tables=figure("agent", "east", "unavailable_ms", value=1),
    ),
    "bin differs": Fault(
        "R74",
        {"figure": "paused_ms_histogram", "bin_start_ms": 7},
        to_tables=figure("agent", "east", "paused_ms_histogram", bin_start_ms=7),
    ),
    "figure no number": Fault(
        "R74", {"figure": "unavailable_ms"}, to_tables=figure("agent", "east", "unavailable_ms", value=float("nan"))
    ),
    "time no number": Fault(
        "R74", {"figure": "end_ms"}, to_tables=figure("agent", "east", "end_ms", value=float("nan"))
    ),
    "last walk is another": Fault("R74", LAST | {"problem": NO_LAST}, to_tables=last(vm_row=2)),
    "last walk from its middle": Fault("R74", LAST | {"problem": NO_LAST}, to_tables=last(vm_row=1)),
    "last walk of no VM": Fault("R74", LAST | {"problem": NO_LAST}, to_tables=last(vm_row=999)),
    "last walk is none": Fault("R74", LAST | {"problem": NO_LAST}, to_tables=last(vm_row=float("nan"))),
    "last walk of more domains": Fault("R74", LAST | {"last_domain_count": 3}, to_tables=last(domain_count=3)),
    "last walk does not add up": Fault("R74", LAST | {"last_work_ms": 7}, to_tables=last(work_ms=7)),
    "last walk with less gap": Fault("R74", LAST | {"last_gap_ms": 0}, to_tables=last(gap_ms=0, work_ms=80_000)),
    "last walk by half a millisecond": Fault("R74", LAST | {"last_gap_ms": 60_000.5}, to_tables=last(gap_ms=60_000.5)),
    "last walk told twice": Fault(
        "R74",
        LAST | {"last_gap_ms": None},
        to_tables=lambda plant: plant.summary.append(plant.figure("agent", "east", "last_gap_ms")),
    ),
    "last walk with spread": Fault("R74", LAST | {"last_spread_ms": 1}, to_tables=last(spread_ms=1, work_ms=19_999)),
    "figure told twice": Fault("R74", {"figure": "vm_hit_count", "region": "east"}, to_tables=repeat_figure),
    "figure missing": Fault("R74", {"figure": "asked_ms", "value": None}, to_tables=drop_figure("asked_ms")),
    "stage missing": Fault("R74", {"figure": "stage_count", "region": "east"}, "R4", to_tables=drop_stage),
    "stage count differs": Fault("R74", {"figure": "failed_count"}, to_tables=stage(failed_count=1)),
    "stage end differs": Fault("R74", {"figure": "last_end_ms"}, to_tables=stage(last_end_at=7)),
    "stage without start": Fault("R74", {"figure": "first_start_ms"}, to_tables=stage(first_start_at=None)),
    "outcome differs": Fault(
        "R74",
        {"vm": 7, "paused_ms": 1, "campaign": "hypervisor"},
        to_tables=lambda plant: plant.outcomes[0, "east", 0][0].update(paused_ms=1),
    ),
    "down in a freeze": Fault(
        "R74",
        {"vm": 7, "down_ms": 1},
        to_tables=lambda plant: plant.outcomes[0, "east", 0][0].update(down_ms=1),
    ),
    "manifest counts differ": Fault(
        "R74", {"figure": "singles", "value": 1}, to_tables=lambda plant: plant.counts.update(singles=1)
    ),
    "closed form": Fault(
        "R77",
        AGENT | {"set": 2, "took_ms": 100_001},
        "R40",
        to_events=lambda plant: shift(last_domain(plant, "agent", "north", 2), 1),
    ),
    "shorter than a bound": Fault("R78", {"bound": "longest pair"}, "R4 R74", to_tables=short_stages),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_found_by_its_rule(tmp_path: Path, plant: Plant, name: str) -> None:
    fault = FAULTS[name]
    fault.to_events(plant)
    derive(plant)
    fault.to_tables(plant)

    verdict = verdict_of(tmp_path, plant)

    assert set(broken(verdict)) == {fault.rule, *fault.also.split()}
    assert not verdict.ok
    assert any(fault.offender.items() <= row.items() for row in offenders(verdict, fault.rule))


def test_every_rule_has_a_planted_fault() -> None:
    assert {fault.rule for fault in FAULTS.values()} | {"files"} == set(RULES)


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def tamper(folder: Path) -> None:
    with (folder / "scenario.toml").open("a") as stream:
        stream.write("# changed\n")


def unlisted(folder: Path) -> None:
    (folder / "events" / "region=east" / "extra.parquet").write_bytes(b"")


def not_parquet(folder: Path) -> None:
    (folder / "no_guarantee.parquet").write_text("no Parquet")


def relist(folder: Path, **changes: Any) -> None:
    """List the files as they are now, under the facts there were."""
    manifest = json.loads((folder / "manifest.json").read_text())
    facts = {name: manifest[name] for name in ("counts", "scenario_digest", "fleet_digest")}
    write_manifest(folder, **facts | changes)


def retype(folder: Path) -> None:
    """`start_at` without a zone is another instant to every reader."""
    path = next(folder.glob("events/region=east/part-c000*"))
    table = pq.read_table(path, partitioning=None)
    place = table.schema.get_field_index("start_at")
    naive = table["start_at"].cast("timestamp[ms]")
    pq.write_table(table.set_column(place, "start_at", naive), path)
    relist(folder)


def drop_column(folder: Path) -> None:
    write_table(folder / "summary.parquet", SUMMARY.columns[:-1], [])
    relist(folder)


def empty_cell(folder: Path) -> None:
    path = folder / "summary.parquet"
    table = pl.read_parquet(path)
    table.with_columns(value=pl.when(pl.col("value") > 0).then("value")).write_parquet(path)
    relist(folder)


def other_run(folder: Path) -> None:
    path = folder / "stages.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"fleetsim.scenario_digest": "other"}), path)
    relist(folder)


def edit_text(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))
    relist(path.parent)


def turn_round(folder: Path, path: str) -> None:
    table = pq.read_table(folder / path, partitioning=None)
    pq.write_table(table.take(list(range(len(table)))[::-1]), folder / path)
    relist(folder)


UNLIKE_THE_MANIFEST: dict[str, tuple[Callable[[Path], object], Row, int]] = {
    "tampered": (tamper, {"path": "scenario.toml", "problem": "has other bytes than the manifest says"}, 1),
    "unlisted": (unlisted, {"path": "events/region=east/extra.parquet"}, 1),
    "other rows": (
        lambda folder: edit_manifest(folder, lambda manifest: manifest["parts"][0].update(rows=1)),
        {"path": "events/region=east/part-c000-i001-00000.parquet", "expected": 1, "found": 4},
        1,
    ),
    "outside": (
        lambda folder: edit_manifest(folder, lambda manifest: manifest["parts"][-1].update(path="../summary.parquet")),
        {"path": "../summary.parquet", "problem": "lies outside the run"},
        3,  # and summary.parquet is there without being listed, and missing from the list
    ),
    "run digest": (
        lambda folder: relist(folder, run_digest="0" * 64),
        {"path": "manifest.json", "expected": "0" * 64},
        1,
    ),
    "not Parquet": (not_parquet, {"path": "no_guarantee.parquet"}, 2),
    "other type": (retype, {"path": "events/region=east/part-c000-i001-00000.parquet"}, 1),
    "no column": (drop_column, {"path": "summary.parquet", "problem": "lacks the column 'value'"}, 1),
    "empty cell": (empty_cell, {"path": "summary.parquet", "problem": "column 'value' may not be empty"}, 1),
    "other seed": (
        lambda folder: edit_manifest(folder, lambda manifest: manifest.update(seed=8)),
        {"path": "resolved.toml", "problem": "seed is not the manifest's", "expected": 8, "found": 7},
        1,
    ),
    "other scenario": (
        lambda folder: edit_text(folder / "resolved.toml", "spread_ms = 3600000", "spread_ms = 3600001"),
        {"path": "resolved.toml", "problem": "is not the scenario of the manifest's scenario_digest"},
        1,
    ),
    "other pairs": (
        lambda folder: edit_text(folder / "pairs.csv", "earth", "mars"),
        {"path": "resolved.toml", "problem": "provenance.pairs_digest is not that of pairs.csv"},
        1,
    ),
    "another fleet's scenario": (
        lambda folder: edit_text(folder / "resolved.toml", 'fleet_digest = "', 'fleet_digest = "0'),
        {"path": "resolved.toml", "problem": "provenance.fleet_digest is not the manifest's"},
        1,
    ),
    "events in no order": (
        lambda folder: turn_round(folder, "events/region=east/part-c000-i001-00000.parquet"),
        {"path": "events/region=east/part-c000-i001-00000.parquet", "problem": "vm_row does not rise"},
        1,
    ),
    "outcomes in no order": (
        lambda folder: turn_round(folder, "outcomes/region=north/part-c001-i001-00001.parquet"),
        {"path": "outcomes/region=north/part-c001-i001-00001.parquet", "problem": "vm_row does not rise"},
        1,
    ),
    "of another run": (other_run, {"path": "stages.parquet", "found": "other"}, 1),
}


@pytest.mark.parametrize("name", UNLIKE_THE_MANIFEST)
def test_files_unlike_the_manifest_are_found(tmp_path: Path, plant: Plant, name: str) -> None:
    change, offender, count = UNLIKE_THE_MANIFEST[name]
    derive(plant)
    write(plant, tmp_path)
    change(tmp_path)

    files = verify(tmp_path).rules[0]

    assert (files.rule, files.status, files.offender_count) == ("files", "broken", count)
    assert any(offender.items() <= row.items() for row in files.offenders)


@pytest.mark.parametrize(
    ("path", "unchecked"),
    [
        ("stages.parquet", "R4 R49 R54 R74 R78"),
        ("summary.parquet", "R4 R49 R54 R74 R78"),
        ("pairs.csv", "R49 R54 R78"),
        ("no_guarantee.parquet", "R38"),
        ("resolved.toml", " ".join(RULES[1:])),
    ],
)
def test_rules_about_a_missing_file_are_not_checked(tmp_path: Path, plant: Plant, path: str, unchecked: str) -> None:
    derive(plant)
    write(plant, tmp_path)
    (tmp_path / path).unlink()

    verdict = verify(tmp_path)

    assert broken(verdict) == ["files"]
    assert offenders(verdict, "files")[0] == {
        "path": path,
        "problem": "is missing",
        "expected": None,
        "found": None,
    }
    reasons = {rule.rule: rule.reason for rule in verdict.rules if rule.status == "not checked"}
    assert reasons == dict.fromkeys(unchecked.split(), f"{path} is missing or unusable")


def test_missing_event_part_is_named_and_its_vms_count_as_never_visited(tmp_path: Path, plant: Plant) -> None:
    derive(plant)
    write(plant, tmp_path)
    (tmp_path / "events/region=south/part-c001-i001-00000.parquet").unlink()

    verdict = verify(tmp_path)

    assert broken(verdict) == ["files", "R29", "R30", "R74"]
    assert {row["region"] for row in offenders(verdict, "R29")} == {"south"}


def test_fleet_of_other_rows_is_found(tmp_path: Path, plant: Plant) -> None:
    derive(plant)
    write(plant, tmp_path)
    path = tmp_path / "fleet/region=north/part-00001.parquet"
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata({"fleetsim.rows_digest": "5" * 64}), path)
    relist(tmp_path)

    verdict = verify(tmp_path)

    assert broken(verdict) == ["fleet"]
    assert offenders(verdict, "fleet")[0]["problem"] == "fleet_digest is not that of its parts"


@pytest.mark.parametrize("ids", [int, str])
@pytest.mark.parametrize(("region", "part"), [("north", 0), ("south", 0)], ids=["within a part", "over parts"])
def test_vm_twice_is_found(tmp_path: Path, ids: type, region: str, part: int) -> None:
    plant = sound(ids)
    derive(plant)
    first, second = plant.fleet["north", 0][0], plant.fleet[region, part][-1]
    second["vm"] = first["vm"]

    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == ["fleet"]
    shown = [{"vm": row["vm"], "vm_row": row["vm_row"]} for row in offenders(verdict, "fleet")]
    assert shown == [{"vm": str(first["vm"]), "vm_row": row["vm_row"]} for row in (first, second)]


def test_file_names_are_not_trusted(tmp_path: Path, plant: Plant) -> None:
    """Events are found by the rows in their files, whichever part and campaign the name says."""
    plant.events[9, "north", 99] = plant.events.pop((0, "north", 0)) + plant.events.pop((1, "north", 1))
    derive(plant)

    assert broken(verdict_of(tmp_path, plant)) == []


def test_rules_without_their_tables_are_not_checked(tmp_path: Path, plant: Plant) -> None:
    derive(plant)
    plant.outputs = {"events": False, "outcomes": False}
    plant.counts |= {"events": 0, "outcomes": 0}

    verdict = verdict_of(tmp_path, plant)

    assert verdict.ok
    assert [rule.rule for rule in verdict.rules if rule.status == "kept"] == ["files", "fleet", "R31", "R38"]
    reasons = {rule.rule: rule.reason for rule in verdict.rules if rule.status == "not checked"}
    assert reasons["R26"] == "outputs.events = false"
    assert reasons["R5"] == "outputs.outcomes = false"


def test_totals_are_checked_without_outcomes(tmp_path: Path, plant: Plant) -> None:
    derive(plant)
    plant.outputs["outcomes"] = False
    plant.counts["outcomes"] = 0
    plant.stage("agent", "south")["updated_count"] += 1

    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == ["R74"]
    assert [row["figure"] for row in offenders(verdict, "R74")] == ["updated_count"]


def test_offenders_are_shown_by_the_users_names_and_counted_in_all(tmp_path: Path) -> None:
    plant = sound(str)
    for row in plant.all_events():
        row["effects"] = 17
    derive(plant)

    verdict = verdict_of(tmp_path, plant)

    rule = next(rule for rule in verdict.rules if rule.rule == "R41")
    assert rule.sentence == "A freeze keeps memory, host, temporary disk and addresses"
    assert rule.offender_count == rule.row_count == len(plant.all_events())
    assert len(rule.offenders) == OFFENDERS_SHOWN
    assert rule.offenders[0].items() >= {"campaign": "hypervisor", "vm": "vm-00", "set": "set-9"}.items()
    assert json.loads(json.dumps(verdict.to_dict()))["rules"][RULES.index("R41")]["offenders"][0]["vm"] == "vm-00"


def test_sums_of_the_longest_lengths_are_exact(tmp_path: Path) -> None:
    """Two impacts of 40 d are more milliseconds than a u32 holds."""
    length = {"given": "40d", "length_ms_min": 40 * 24 * HOUR_MS, "length_ms_max": 40 * 24 * HOUR_MS}
    plant = sound(campaigns=[CAMPAIGNS[0] | {"length": length}])
    derive(plant)

    assert broken(verdict_of(tmp_path, plant)) == []
    assert plant.figure("hypervisor", "east", "unavailable_ms")["value"] > 2**32


def test_progress_counts_vms(tmp_path: Path, plant: Plant) -> None:
    derive(plant)
    seen: list[tuple[int, int]] = []

    verify(write(plant, tmp_path), progress=lambda _, done, count: seen.append((done, count)))

    assert seen == [(4, 24), (13, 24), (19, 24), (24, 24)]


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must be the folder of a run, got no manifest\.json and no resolved\.toml"):
        verify(tmp_path)


def test_unfinished_run_is_refused_and_resume_is_named(tmp_path: Path, plant: Plant) -> None:
    derive(plant)
    write(plant, tmp_path)
    (tmp_path / "manifest.json").unlink()

    with pytest.raises(InputError, match=r"must be a finished run.*unfinished; .*--resume"):
        verify(tmp_path)


def test_newer_schema_is_refused(tmp_path: Path, plant: Plant) -> None:
    derive(plant)
    write(plant, tmp_path)
    relist(tmp_path, schema_version=SCHEMA_VERSION + 1)

    with pytest.raises(InputError, match=rf"schema_version: must be at most {SCHEMA_VERSION}, got"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "must be JSON"), ("[]", "schema_version"), ("{}", "schema_version")]
)
def test_unreadable_manifest_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "manifest.json").write_text(text)

    with pytest.raises(InputError, match=problem):
        verify(tmp_path)


@pytest.mark.parametrize(("text", "problem"), [("x = [", "must be TOML"), ("x = 1", "resolved scenario.*'start'")])
def test_resolved_scenario_that_is_none_is_refused(tmp_path: Path, plant: Plant, text: str, problem: str) -> None:
    derive(plant)
    write(plant, tmp_path)
    (tmp_path / "resolved.toml").write_text(text)

    with pytest.raises(InputError, match=problem):
        verify(tmp_path)


def test_verifier_is_a_stranger() -> None:
    """It loads nothing of fleetsim but the vocabulary."""
    script = "import sys, fleetsim.verifier; print(*sorted(m for m in sys.modules if m.startswith('fleetsim')))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert found.stdout.split() == ["fleetsim", "fleetsim.errors", "fleetsim.schema", "fleetsim.verifier"]
