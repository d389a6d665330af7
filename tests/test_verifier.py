"""The verifier: a sound run keeps every rule, and each rule is seen to catch a fault planted for it."""

import copy
import gc
import json
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from fleetsim import evidence, testimony, verifier
from fleetsim.errors import InputError
from fleetsim.evidence import Cell, Part
from fleetsim.schema import SCHEMA_VERSION, SUMMARY
from fleetsim.verifier import OFFENDERS_SHOWN, Verdict, verify
from tests.plant import (
    CAMPAIGNS,
    DAY_MS,
    HOUR_MS,
    MET_MS,
    MINUTE_MS,
    WINDOWS,
    Plant,
    Row,
    beside,
    derive,
    hosted,
    later,
    length,
    lodged,
    planned,
    requested,
    rescheduled,
    sound,
    tried,
    windowed,
    write,
    write_manifest,
    write_table,
    zoned,
)

RULES = ["files", "fleet"] + [
    f"R{number}"
    for number in (
        *(1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 15, 17, 21, 22, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 38, 39),
        *(40, 41, 42, 43, 44, 45, 48, 49, 50, 51, 53, 54, 55, 57, 70, 74, 76, 77, 78),
    )
]
HOST_RULES = ["R44", "R55", "R57"]
WINDOW_RULES = ["R1", "R3", "R12", "R51"]
REQUEST_RULES = ["R7", "R8", "R17", "R22", "R25"]
MOVE_RULES = ["R15", "R24"]  # of those that customers start over hosts
WITHOUT_WINDOWS = {*WINDOW_RULES, *REQUEST_RULES, *MOVE_RULES, "R21", "R53"}


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
    absent = {"R32", "R33", "R36", "R39", "R45", "R70", *HOST_RULES, *WITHOUT_WINDOWS}
    assert {rule.rule for rule in verdict.rules if rule.row_count == 0} == absent
    assert {(rule.status, rule.reason) for rule in verdict.rules} == {("kept", None)}


@pytest.mark.parametrize("quorum_by", ["set", "application"])
def test_sound_run_of_a_later_world_is_kept_and_every_rule_looks_at_rows(tmp_path: Path, quorum_by: str) -> None:
    verdict = verdict_of(tmp_path, later(quorum_by))

    assert broken(verdict) == []
    absent = {*HOST_RULES, *WITHOUT_WINDOWS}
    assert {rule.rule for rule in verdict.rules if rule.row_count == 0} == absent
    assert {(rule.status, rule.reason) for rule in verdict.rules} == {("kept", None)}


def test_sound_run_over_hosts_is_kept_and_every_rule_of_hosts_looks_at_rows(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, hosted())

    assert broken(verdict) == []
    assert {rule.rule for rule in verdict.rules if rule.row_count > 0} >= {*HOST_RULES, "R26", "R28", "R70"}
    assert {(rule.status, rule.reason) for rule in verdict.rules} == {("kept", None)}


@pytest.mark.parametrize("world", [later, hosted])
def test_sound_run_that_reboots_whom_it_cannot_freeze_is_kept(tmp_path: Path, world: Callable[..., Plant]) -> None:
    plant = world(reboots=True)
    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == []
    assert {event["kind"] for event in plant.all_events()} == {"freeze", "reboot"}
    assert {(rule.status, rule.reason) for rule in verdict.rules} == {("kept", None)}


def test_sound_run_of_reboots_is_kept_and_every_rule_of_windows_looks_at_rows(tmp_path: Path) -> None:
    verdict = verdict_of(tmp_path, windowed())

    assert broken(verdict) == []
    assert {rule.rule for rule in verdict.rules if rule.row_count > 0} >= {*WINDOW_RULES, "R2", "R49", "R50"}
    assert {(rule.status, rule.reason) for rule in verdict.rules} == {("kept", None)}


def test_sound_run_of_zones_that_take_turns_is_kept(tmp_path: Path) -> None:
    plant = zoned()
    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == []
    assert next(rule.row_count for rule in verdict.rules if rule.rule == "R53") == 3
    late = {row["vm"] for row in plant.vms() if row["region"] == "north" and row["host"] == 10}
    assert {plant.outcome_of("racks", vm)["outcome"] for vm in late} == {"overdue"}


def test_sound_run_with_requests_is_kept_and_every_rule_of_customers_looks_at_rows(tmp_path: Path) -> None:
    plant = requested()
    ends = {(row["result"], row["effects"]) for row in plant.all_events() if row["phase"] == "self_service"}
    asked = {row["vm"]: plant.outcome_of("boot", row["vm"]) for row in plant.vms()}
    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == []
    assert {rule.rule for rule in verdict.rules if rule.row_count > 0} >= {*REQUEST_RULES, "R2", "R4"}
    assert {(rule.status, rule.reason) for rule in verdict.rules} == {("kept", None)}
    # All that faults are planted in is there.
    assert ends == {("aborted", 0), ("retry_later", 0), *(("completed", effects) for effects in (0, 9, 11, 15))}
    assert asked[5]["outcome"] == "skipped"
    assert (asked[7]["outcome"], asked[7]["event_count"]) == ("updated_self_service", 2)
    assert (asked[10]["outcome"], asked[10]["event_count"]) == ("updated_scheduled", 5)
    assert (asked[14]["outcome"], asked[14]["down_ms"]) == ("deleted", 1_000)


def test_sound_run_of_customers_beside_a_freeze_is_kept_and_they_have_met(tmp_path: Path) -> None:
    plant = beside()
    verdict = verdict_of(tmp_path, plant)
    told = Counter((row["campaign"], row["result"]) for row in plant.all_events() if row["start_at"] < MET_MS + HOUR_MS)

    assert broken(verdict) == []
    assert {rule.rule for rule in verdict.rules if rule.row_count > 0} >= {*REQUEST_RULES, "R40", "R48", "R77"} - {
        "R17"
    }
    assert told == {("boot", "completed"): 4, ("boot", "retry_later"): 5, ("freeze", "completed"): 15}
    assert [plant.event_of("freeze", vm)["start_at"] - MET_MS for vm in (7, 8, 12)] == [0, 61_000, 0]
    assert plant.event_of("freeze", 13)["start_at"] > MET_MS


def test_sound_run_of_which_some_come_back_is_kept_and_its_iterations_are_looked_at(tmp_path: Path) -> None:
    plant = rescheduled()
    ends = {row["iteration"]: row for row in plant.stages if row["campaign"] == "boot"}
    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == []
    assert [rule.row_count for rule in verdict.rules if rule.rule == "R21"] == [2]
    assert {(rule.status, rule.reason) for rule in verdict.rules} == {("kept", None)}
    # Some of all kinds come back, and one of them remains.
    assert ends[1]["skipped_count"] > 0 < ends[1]["overdue_count"]
    assert ends[2]["updated_self_service_count"] > 0 < ends[2]["updated_scheduled_count"]
    assert ends[3]["skipped_count"] == 1


def test_sound_run_of_which_some_tries_fail_is_kept(tmp_path: Path) -> None:
    plant = tried()
    rows = {(vm, turn): tries_of(plant, vm, turn) for vm, turn in ((1, 1), (2, 1), (8, 1), (1, 2), (11, 2))}
    results = {of: [row["result"] for row in each] for of, each in rows.items()}
    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == []
    assert {(rule.status, rule.reason) for rule in verdict.rules} == {("kept", None)}
    assert [rule.row_count for rule in verdict.rules if rule.rule == "R6"] == [len(plant.all_events())]
    # All that faults are planted in is there.
    assert results == {
        (1, 1): ["aborted"] * 3,
        (2, 1): ["aborted", "completed"],
        (8, 1): ["aborted", "aborted", "completed"],
        (1, 2): ["aborted", "completed"],
        (11, 2): ["aborted", "aborted"],
    }
    assert [row["effects"] for row in rows[2, 1]] == [1, 0]
    assert plant.outcome_of("move", 2)["outcome"] == "deleted"
    assert {plant.outcome_of("move", 11, turn)["outcome"] for turn in (1, 2)} == {"failed"}


def test_the_number_of_tries_is_bounded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(verifier, "TRIES_MAX", 2)

    verdict = verdict_of(tmp_path, tried())

    assert broken(verdict) == ["R13"]
    problems = {(row["vm"], row["problem"]) for row in offenders(verdict, "R13")}
    assert problems == {(vm, "is one try too many") for vm in (1, 7, 8)}


def test_without_outcomes_tries_tell_who_comes_back(tmp_path: Path) -> None:
    plant = tried()
    plant.outputs["outcomes"] = False
    plant.outcomes.clear()
    plant.counts["outcomes"] = 0

    assert broken(verdict_of(tmp_path, plant)) == []


def test_without_events_a_vm_may_have_failed(tmp_path: Path) -> None:
    plant = tried()
    plant.outputs["events"] = False
    plant.events.clear()
    plant.counts["events"] = 0

    assert broken(verdict_of(tmp_path, plant)) == []


def test_sound_run_by_a_plan_of_customers_is_kept(tmp_path: Path) -> None:
    plant = planned()
    results = {vm: [row["result"] for row in requests_of(plant, vm)] for vm in (1, 2, 9)}
    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == []
    assert {(rule.status, rule.reason) for rule in verdict.rules} == {("kept", None)}
    assert results[1] == ["completed"]
    assert results[2] == ["retry_later", "completed"]
    assert results[9][:6] == ["retry_later"] * 6


def test_sound_run_over_hosts_is_kept_and_its_rules_look_at_every_request(tmp_path: Path) -> None:
    plant = lodged()
    went = [
        (row["result"], row["host_from"] != row["host_to"]) for row in plant.all_events() if row["kind"] == "redeploy"
    ]
    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == []
    assert {rule.rule: rule.row_count for rule in verdict.rules if rule.rule in MOVE_RULES} == dict.fromkeys(
        MOVE_RULES, 6
    )
    assert sorted(went) == [("aborted", False), *[("completed", True)] * 4, ("retry_later", False)]
    assert plant.outcome_of("boot", 8)["reason"] == "host_left_out"


def test_a_plan_is_the_one_that_the_scenario_was_asked_with(tmp_path: Path) -> None:
    write(planned(), tmp_path)
    with (tmp_path / "requests-c001.csv").open("a") as file:
        file.write("5,2026-12-09T00:00:00Z\n")

    files = verify(tmp_path).rules[0]

    assert {row["problem"] for row in files.offenders} == {
        "has other bytes than the manifest says",
        "is not the plan that the scenario was asked with",
    }


def grown() -> Plant:
    """The world with hosts, in which VM 17 comes to its host while that waits for `roll`."""
    plant = hosted()
    of_fleet(17, created=100_000)(plant)
    plant.figure("roll", "east", "pending_vm_ms")["value"] -= 100_000
    plant.figure("roll", "east", "single_count")["value"] -= 1
    return plant


def test_vm_that_comes_to_a_host_that_waits_is_updated_with_it(tmp_path: Path) -> None:
    assert broken(verdict_of(tmp_path, grown())) == []


def nothing(plant: Plant) -> None:
    pass


@pytest.mark.parametrize(
    "fault", ["nothing", "all_at_once", "impacts_overlap", "split_a_domain", "hit_twice", "gap_too_short", "miss_a_vm"]
)
def test_a_tidy_set_is_judged_as_if_it_were_swept(tmp_path: Path, plant: Plant, monkeypatch, fault: str) -> None:
    globals()[fault](plant)
    derive(plant)
    folder = write(plant, tmp_path)

    def figures() -> list[dict[tuple[str, int | None], tuple[float, float]]]:
        listing = testimony.Listing(folder, testimony.read_manifest(folder), {})
        told = testimony.Testimony.read(listing)
        parts = [Part(told, listing, [file]) for file in listing.tables["fleet"]]
        return [cell.figures() for part in parts for cell in part.cells()]

    judged, tidy_count = (figures(), broken(verify(folder))), 0

    def none(cell: Cell) -> pl.DataFrame:
        nonlocal tidy_count
        found = tidy_outages(cell)
        tidy_count += len(found)
        return found.head(0)

    tidy_outages = Cell.tidy_outages._compute
    monkeypatch.setattr(Cell, "tidy_outages", property(none))
    assert (figures(), broken(verify(folder))) == judged
    assert tidy_count


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
    plant: Callable[[], Plant] = sound


def event(campaign: str, region: str, set_: int | None, domain: int | None, **changes: Any) -> Callable[[Plant], None]:
    """Change the first event of a unit or of the singles of a region."""

    def change(plant: Plant) -> None:
        plant.pick(campaign, region, set_, domain)[0].update(changes)

    return change


def step(**changes: Any) -> Callable[[Plant], None]:
    """Change a step that is not the last of its stage; with an empty campaign it is left out."""

    def change(plant: Plant) -> None:
        plant.edit_steps = lambda rows: rows[0].update(changes)

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


def event_of(vm_row: int, file: tuple[int, str, int] = (0, "east", 0), **changes: Any) -> Callable[[Plant], None]:
    """One event more, like the first of hypervisor in east, in *file*."""

    def add(plant: Plant) -> None:
        row = plant.events[0, "east", 0][0] | {"vm_row": vm_row} | changes
        plant.events.setdefault(file, []).append(row)

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
    """A single of north is frozen while south is at work."""
    at_ms = plant.pick("hypervisor", "south", 1, 0)[0]["start_at"]
    plant.pick("hypervisor", "north", None, None)[0]["start_at"] = at_ms


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


def later_event(vm: int, campaign: str, file: tuple[int, str, int], start_ms: int = 0) -> Callable[[Plant], None]:
    """One event more in the later world: of *vm*, 5 s from *start_ms* on."""

    def add(plant: Plant) -> None:
        row = plant.all_events()[0] | {"campaign": campaign, "vm_row": plant.vm_row(vm), "start_at": start_ms}
        plant.events.setdefault(file, []).append(row | {"duration_ms": 5_000, "effects": 16})
        plant.counts["events"] += 1

    return add


def of_vm(campaign: str, vm: int, **changes: Any) -> Callable[[Plant], None]:
    """Change the event of one VM."""
    return lambda plant: plant.event_of(campaign, vm).update(changes)


def ends(campaign: str, vm: int, outcome: str, reason: str = "none") -> Callable[[Plant], None]:
    """One VM is said to end otherwise, and counted so."""

    def change(plant: Plant) -> None:
        row = plant.outcome_of(campaign, vm)
        region = next(each["region"] for each in plant.vms() if each["vm"] == vm)
        plant.stage(campaign, region)[f"{row['outcome']}_count"] -= 1
        plant.stage(campaign, region)[f"{outcome}_count"] += 1
        row.update(outcome=outcome, reason=reason)

    return change


def never_done(plant: Plant) -> None:
    """A region that was left out is told as updated, though its stage never started."""
    for vm in plant.vms():
        if vm["region"] == "north" and plant.outcome_of("late", vm["vm"])["outcome"] == "overdue":
            ends("late", vm["vm"], "updated")(plant)


def odd_fault_domain(plant: Plant) -> None:
    next(vm for vm in plant.vms() if vm["vm"] == 18)["fault_domain"] = 200


def asked(place: int | None = None, **changes: Any) -> Callable[[Plant], None]:
    """The scenario asked for something else: of one campaign, or of all."""
    return lambda plant: (plant.resolved if place is None else plant.campaigns[place]).update(changes)


def no_horizon(plant: Plant) -> None:
    del plant.resolved["horizon_ms"]


def move(campaign: str, vms: Iterable[int], ms: int) -> Callable[[Plant], None]:
    return lambda plant: shift([plant.event_of(campaign, vm) for vm in vms], ms)


def at_once(plant: Plant) -> None:
    """Two fault domains of set 5 are frozen together."""
    first, second = (plant.event_of("walk", vm) for vm in (18, 19))
    second["start_at"] = first["start_at"]


def leave_out(campaign: str, vm: int) -> Callable[[Plant], None]:
    def remove(plant: Plant) -> None:
        event = plant.event_of(campaign, vm)
        next(rows for rows in plant.events.values() if event in rows).remove(event)
        plant.counts["events"] -= 1

    return remove


def swap_in_cluster(plant: Plant) -> None:
    """The cluster c1 of east, in both parts of the fleet, begins with its second domain."""
    first = [plant.event_of("step", vm) for vm in (1, 2, 9)]
    second = [plant.event_of("step", vm) for vm in (4, 10)]
    distance = second[0]["start_at"] - first[0]["start_at"]
    shift(first, distance)
    shift(second, -distance)


def of_fleet(vm: int, **changes: Any) -> Callable[[Plant], None]:
    return lambda plant: next(row for row in plant.vms() if row["vm"] == vm).update(changes)


def assign_set_6(plant: Plant) -> None:
    """Its two fault domains are said to be assigned, which would have made three."""
    for vm in plant.vms():
        vm["is_fault_domain_assigned"] |= vm["set"] == 6


def late_stage(plant: Plant) -> None:
    """`walk` in south starts a second after it could have."""
    for row in plant.summary:
        if (row["campaign"], row["region"]) == ("walk", "south") and row["figure"] in TIMES:
            row["value"] += 1_000
    for name in ("first_start_at", "last_end_at"):
        plant.stage("walk", "south")[name] += 1_000
    rows = [vm["vm_row"] for vm in plant.vms() if vm["region"] == "south"]
    shift([event for event in plant.all_events() if event["campaign"] == "walk" and event["vm_row"] in rows], 1_000)
    plant.figure("walk", "south", "pending_vm_ms")["value"] += 6_000


def scale_set(vm_count: int) -> Plant:
    """East has one scale set of *vm_count* VMs, in five update domains."""
    domains = {domain: len(range(domain, vm_count, 5)) for domain in range(5)}
    plant = sound(parts={("east", 0): {9: domains}, ("north", 0): {None: {None: 2}}, ("south", 0): {None: {None: 1}}})
    for vm in plant.vms():
        vm["set_kind"] = None if vm["set"] is None else "scale_set"
    return plant


def on_host(plant: Plant, campaign: str, host: int) -> list[Row]:
    """The events of one host."""
    rows = {vm["vm_row"] for vm in plant.vms() if vm["host"] == host}
    return [event for event in plant.all_events() if event["campaign"] == campaign and event["vm_row"] in rows]


def move_host(campaign: str, host: int, ms: int) -> Callable[[Plant], None]:
    return lambda plant: shift(on_host(plant, campaign, host), ms)


def with_host(campaign: str, host: int, other: int, ms: int = 0) -> Callable[[Plant], None]:
    """A host starts when another does, or *ms* later."""

    def change(plant: Plant) -> None:
        one, start_ms = on_host(plant, campaign, host), on_host(plant, campaign, other)[0]["start_at"]
        shift(one, start_ms + ms - one[0]["start_at"])

    return change


def update_again(plant: Plant) -> None:
    """Host 17 is updated a second time, an hour later."""
    rows = plant.events[0, "east", 1]
    rows += [event | {"start_at": event["start_at"] + HOUR_MS} for event in on_host(plant, "roll", 17)]


def freeze_all_the_same(plant: Plant) -> None:
    """VM 19, which could keep its memory, is frozen though its host is left alone."""
    later_event(19, "roll", (0, "east", 1), HOUR_MS)(plant)


def waits_less(plant: Plant) -> None:
    """A unit is said to have waited from another instant than that of its stage's start."""

    def edit(rows: list[Row]) -> None:
        next(row for row in rows if row["waited_ms"] and row["domain"] is not None)["waited_ms"] -= 1

    plant.edit_steps = edit


def last_zone_first(plant: Plant) -> None:
    """What was done in each zone is told of another instant: the last of them comes before all others."""
    of = {row["vm_row"]: row["zone"] or "" for row in plant.vms() if row["region"] == "east"}
    events = [row for row in plant.all_events() if row["campaign"] == "turns"]
    spans = {
        zone: [row["start_at"] for row in events if of[row["vm_row"]] == zone]
        + [row["start_at"] + row["duration_ms"] for row in events if of[row["vm_row"]] == zone]
        for zone in ("", "a", "b")
    }
    took_ms = {zone: max(span) - min(span) for zone, span in spans.items()}
    begin_ms = min(min(span) for span in spans.values())
    for zone, since_ms in (("b", 0), ("", took_ms["b"] + HOUR_MS // 2), ("a", took_ms["b"] + took_ms[""] + HOUR_MS)):
        shift([row for row in events if of[row["vm_row"]] == zone], begin_ms + since_ms - min(spans[zone]))


def forget(campaign: str, vm: int) -> Callable[[Plant], None]:
    """One VM has no outcome, and is counted in none."""

    def change(plant: Plant) -> None:
        row = plant.outcome_of(campaign, vm)
        next(rows for rows in plant.outcomes.values() if row in rows).remove(row)
        region = next(each["region"] for each in plant.vms() if each["vm"] == vm)
        plant.stage(campaign, region)[f"{row['outcome']}_count"] -= 1
        plant.counts["outcomes"] -= 1

    return change


def last_of_roll(**changes: float) -> Callable[[Plant], None]:
    """Figures of the host that ends last of `roll` in east: host 12, which waits for others."""

    def change(plant: Plant) -> None:
        for name, value in changes.items():
            plant.figure("roll", "east", f"last_{name}")["value"] += value

    return change


def rebooting() -> Plant:
    """The later world, in which `walk` reboots the VMs 9 and 17."""
    return later(reboots=True)


def hosted_rebooting() -> Plant:
    """The world with hosts, in which `roll` reboots VM 18, and freezes VM 19 beside it."""
    return hosted(reboots=True)


def told_as(kind: str, vm: int, effects: int, *also: str) -> Callable[[Plant], None]:
    """One impact of `walk` in east is told as of another *kind*, and in *also* (outcomes, summary) counted so."""

    def change(plant: Plant) -> None:
        event, outcome = plant.event_of("walk", vm), plant.outcome_of("walk", vm)
        before, after = ("down", "paused") if kind == "freeze" else ("paused", "down")
        event.update(kind=kind, effects=effects)
        if "outcomes" in also:
            outcome.update({f"{before}_ms": 0, f"{after}_ms": event["duration_ms"], "effects": effects})
        if "summary" in also:
            shift = max(event["duration_ms"].bit_length() - 7, 0)
            of = {"campaign": "walk", "iteration": 1, "region": "east"}
            of |= {"bin_start_ms": event["duration_ms"] >> shift << shift}
            told = of | {"figure": f"{before}_ms_histogram"}
            next(row for row in plant.summary if told.items() <= row.items())["value"] -= 1
            plant.summary.append(of | {"figure": f"{after}_ms_histogram", "value": 1.0})

    return change


def paused_instead(plant: Plant) -> None:
    """The outcome of VM 9 tells the time in which it was down as a pause."""
    outcome = plant.outcome_of("walk", 9)
    outcome.update(paused_ms=outcome["down_ms"], down_ms=0)


def with_effects(vm: int, effects: int) -> Callable[[Plant], None]:
    """The impact of `walk` on one VM leaves other effects."""

    def change(plant: Plant) -> None:
        plant.event_of("walk", vm).update(effects=effects)
        plant.outcome_of("walk", vm).update(effects=effects)

    return change


def left_alone(campaign: str, vm: int) -> Callable[[Plant], None]:
    """One VM is not hit, and said to be one that cannot be frozen."""

    def change(plant: Plant) -> None:
        leave_out(campaign, vm)(plant)
        ends(campaign, vm, "unaffected", "cannot_freeze")(plant)
        plant.outcome_of(campaign, vm).update(paused_ms=0, down_ms=0, event_count=0, effects=0)

    return change


def told_as_pauses(plant: Plant) -> None:
    """The summary counts those down among those paused."""
    for row in plant.summary:
        if (row["campaign"], row["region"], row["figure"]) == ("walk", "east", "down_ms_histogram"):
            row["figure"] = "paused_ms_histogram"


TIMES = ("start_ms", "end_ms", "free_ms", "first_start_ms")
FIRST_STEP = {"campaign": "roll", "region": "east", "unit_row": 0}
ROLL = {"campaign": "roll", "iteration": 1, "region": "east"}
WALK = {"campaign": "walk", "iteration": 1}
STEP = {"campaign": "step", "iteration": 1}
CAP_OF_ONE = [{"per": "region", "vms_count": 1}]
HYPERVISOR = {"campaign": "hypervisor", "iteration": 1}
AGENT = {"campaign": "agent", "iteration": 1}
LAST = AGENT | {"region": "east"}
NO_LAST = "is no walk that ends last"
LATER_FAULTS = {
    "lives backwards": Fault(
        "fleet", {"vm": 24, "problem": "never lives"}, also="R4 R5 R74", to_tables=of_fleet(24, deleted=-2 * HOUR_MS)
    ),
    "of a VM not selected": Fault(
        "R4", STEP | {"vm": 15}, also="R42 R74", to_tables=later_event(15, "step", (1, "east", 1), 612_300)
    ),
    "of a VM created later": Fault(
        "R4", WALK | {"vm": 11}, also="R35 R39 R74 R76", to_tables=later_event(11, "walk", (0, "east", 1), 2_000)
    ),
    "of a VM that was gone": Fault(
        "R4", WALK | {"vm": 3}, also="R5 R42 R43 R74 R76", to_tables=of_vm("walk", 3, duration_ms=501)
    ),
    "of a kind without impact": Fault(
        "R4", {"vm": 18}, also="R41 R42 R74", to_tables=later_event(18, "note", (2, "north", 0), 4 * HOUR_MS)
    ),
    "of a stage that never started": Fault(
        "R4", {"vm": 18}, also="R42 R74", to_tables=later_event(18, "late", (3, "north", 0), 11 * HOUR_MS)
    ),
    "overdue but updated": Fault(
        "R5", {"vm": 18, "outcome_expected": "overdue"}, to_tables=ends("late", 18, "updated")
    ),
    "created later but updated": Fault("R5", WALK | {"vm": 11}, to_tables=ends("walk", 11, "updated")),
    "cut but updated": Fault("R5", WALK | {"vm": 3}, to_tables=ends("walk", 3, "updated")),
    "gone but updated": Fault("R5", WALK | {"vm": 5}, to_tables=ends("walk", 5, "updated")),
    "hit but deleted": Fault("R5", WALK | {"vm": 1}, to_tables=ends("walk", 1, "deleted")),
    "overdue without a horizon": Fault("R13", {"problem": "is overdue without a horizon"}, to_tables=no_horizon),
    "overdue though it fits": Fault(
        "R13", {"region": "north", "problem": "would have fitted"}, to_tables=asked(horizon_ms=24 * HOUR_MS)
    ),
    "overdue though it fits to the millisecond": Fault(
        "R13", {"region": "north", "problem": "would have fitted"}, to_tables=asked(horizon_ms=44_403_000)
    ),
    "never done, and told as updated": Fault(
        "R50", {"campaign": "late", "region": "north", "problem": "never started"}, to_tables=never_done
    ),
    "fault domain 200": Fault("R31", {"vm": 18, "fault_domain": 200}, also="R30 R33", to_tables=odd_fault_domain),
    "after the horizon": Fault("R13", {"campaign": "late", "region": "east"}, to_tables=asked(horizon_ms=42_001_999)),
    "fault domains too close": Fault(
        "R28", WALK | {"set": 5, "fault_domain": 2}, also="R74", to_tables=move("walk", [20], -1)
    ),
    "fault domains overlap": Fault(
        "R26", WALK | {"set": 5, "fault_domain": 1}, also="R27 R28 R35 R39 R40 R74 R76", to_tables=at_once
    ),
    "two fault domains at once": Fault(
        "R39", WALK | {"set": 5, "down": 2}, also="R26 R27 R28 R35 R40 R74 R76", to_tables=at_once
    ),
    "VM of a cluster left out": Fault(
        "R29", STEP | {"cluster": "c1", "update_domain": 1}, also="R74", to_tables=leave_out("step", 10)
    ),
    "VM of a shrunken domain left out": Fault(
        "R29", WALK | {"set": 1, "fault_domain": 1}, also="R30 R74", to_tables=leave_out("walk", 4)
    ),
    "cluster out of order": Fault(
        "R30", STEP | {"cluster": "c1", "visited": [1, 0]}, also="R74", to_tables=swap_in_cluster
    ),
    "no fault domain": Fault("R31", {"set": 3, "vm": 9}, to_tables=of_fleet(9, fault_domain=None)),
    "too few domains assigned": Fault("R32", {"set": 6, "expected": 3, "found": 2}, also="R33", to_tables=assign_set_6),
    "not round robin": Fault(
        "R33", {"set": 5, "vm": 20, "expected": 2, "found": 3}, to_tables=of_fleet(20, update_domain=3)
    ),
    "scale set of 101": Fault("R36", {"set": 9, "vm_count": 101}, plant=lambda: scale_set(101)),
    "weak set not listed": Fault(
        "R38", {"set": 4, "reason": "one_domain"}, to_tables=no_guarantee(lambda rows: rows.pop())
    ),
    "late after an empty domain": Fault(
        "R40", WALK | {"set": 2, "fault_domain": 1}, also="R74", to_tables=move("walk", [7], 1)
    ),
    "longer than its family": Fault(
        "R42", WALK | {"vm": 1, "length_ms_max": 5_000}, also="R74 R76", to_tables=of_vm("walk", 1, duration_ms=5_001)
    ),
    "cut with effects": Fault(
        "R42", WALK | {"vm": 3, "duration_ms": 500}, also="R5 R74", to_tables=of_vm("walk", 3, effects=16)
    ),
    "size that cannot be frozen": Fault(
        "R45", WALK | {"vm": 9}, also="R34 R35 R39 R74 R76", to_tables=later_event(9, "walk", (0, "east", 1))
    ),
    "unaffected for no reason": Fault(
        "R45", WALK | {"vm": 9, "reason": "none"}, also="R5", to_tables=ends("walk", 9, "unaffected")
    ),
    "pairs exclude after all": Fault("R49", STEP | {"region": "north"}, to_tables=asked(1, pair_exclusion="all")),
    "stage starts late": Fault("R50", WALK | {"region": "south", "problem": "starts late"}, to_tables=late_stage),
    "wave released early": Fault(
        "R50", WALK | {"wave": 2, "region": "south"}, to_tables=figure("walk", "south", "asked_ms", value=4_212_299)
    ),
    "baked too short": Fault("R50", WALK | {"wave": 2, "region": "north"}, to_tables=asked(0, bake_ms=HOUR_MS + 1)),
    "pending differs": Fault(
        "R74", {"figure": "pending_vm_ms"}, to_tables=figure("walk", "east", "pending_vm_ms", value=1)
    ),
    "free differs": Fault("R74", {"figure": "free_ms"}, to_tables=figure("walk", "south", "free_ms", value=6_039_376)),
    "weak sets miscounted": Fault(
        "R74", {"figure": "no_guarantee_count"}, to_tables=figure("walk", "east", "no_guarantee_count", value=0)
    ),
    "set outage differs": Fault(
        "R76", {"figure": "set_out_ms", "value": 1.0}, to_tables=figure("walk", "east", "set_out_ms", value=1)
    ),
    "share out differs": Fault(
        "R76", {"figure": "set_down_ratio_max"}, to_tables=figure("walk", "east", "set_down_ratio_max", value=0.61)
    ),
    "quorum differs": Fault(
        "R76",
        {"figure": "quorum_lost_ms", "region": "east"},
        to_tables=figure("walk", "east", "quorum_lost_ms", value=1),
    ),
    "application outage differs": Fault(
        "R76",
        {"figure": "application_out_ms", "region": "*"},
        to_tables=figure("step", "*", "application_out_ms", value=1),
    ),
    "quorum of applications differs": Fault(
        "R76",
        {"figure": "quorum_lost_ms", "region": "*"},
        to_tables=figure("late", "*", "quorum_lost_ms", value=1),
        plant=lambda: later("application"),
    ),
    "more than its cap": Fault(
        "R70", {"campaign": "capped", "per": "region", "limit": 1}, also="R74 R78", to_tables=asked(4, caps=CAP_OF_ONE)
    ),
    "cluster late": Fault("R77", STEP | {"cluster": "c1"}, also="R40 R74", to_tables=move("step", [4, 10], 1)),
}
REBOOT_FAULTS = {
    "frozen though it must reboot": Fault(
        "R45", WALK | {"vm": 9}, to_tables=told_as("freeze", 9, 16, "outcomes", "summary"), plant=rebooting
    ),
    "rebooted though it can be frozen": Fault(
        "R45", WALK | {"vm": 1}, to_tables=told_as("reboot", 1, 1, "outcomes", "summary"), plant=rebooting
    ),
    "rebooted though such are left alone": Fault(
        "R4",
        WALK | {"vm": 1, "problem": "is no completed freeze by the platform"},
        also="R41 R43 R74",
        to_tables=told_as("reboot", 1, 1),
        plant=later,
    ),
    "redeployed though it can be rebooted in place": Fault(
        "R4",
        WALK | {"vm": 9, "problem": "is no completed freeze or reboot by the platform"},
        also="R41 R43 R45 R74",
        to_tables=of_vm("walk", 9, kind="redeploy"),
        plant=rebooting,
    ),
    "a reboot counted as a pause": Fault(
        "R74", WALK | {"vm": 9, "down_ms": 0}, also="R45", to_tables=paused_instead, plant=rebooting
    ),
    "reboots among the pauses": Fault(
        "R74", WALK | {"figure": "down_ms_histogram"}, to_tables=told_as_pauses, plant=rebooting
    ),
    "a reboot that keeps the memory": Fault("R43", WALK | {"vm": 9}, to_tables=with_effects(9, 0), plant=rebooting),
    "a reboot that synchronises the clock": Fault(
        "R41", WALK | {"vm": 9, "effects": 17}, to_tables=with_effects(9, 17), plant=rebooting
    ),
    "a pause that loses the memory": Fault(
        "R41", WALK | {"vm": 1, "effects": 17}, to_tables=with_effects(1, 17), plant=rebooting
    ),
    "a reboot as short as a pause": Fault(
        "R42",
        WALK | {"vm": 17, "length_ms_min": 60_000, "length_ms_max": 90_000},
        also="R74",
        to_tables=of_vm("walk", 17, duration_ms=9_000),
        plant=rebooting,
    ),
    "a pause as long as a reboot": Fault(
        "R42",
        WALK | {"vm": 15, "length_ms_max": 9_000},
        also="R74",
        to_tables=of_vm("walk", 15, duration_ms=60_000),
        plant=rebooting,
    ),
    "left alone though it must reboot": Fault(
        "R45",
        WALK | {"vm": 17, "reason": "cannot_freeze"},
        also="R5 R29 R74",
        to_tables=left_alone("walk", 17),
        plant=rebooting,
    ),
    "the next domain does not wait for a reboot": Fault(
        "R27",
        WALK | {"set": 3},
        also="R26 R28 R35 R39 R74 R76",
        to_tables=move("walk", [10], -630_000),
        plant=rebooting,
    ),
    "left alone on a host though it must reboot": Fault(
        "R45", ROLL | {"vm": 18}, also="R5 R44 R74", to_tables=left_alone("roll", 18), plant=hosted_rebooting
    ),
    "left alone beside who must reboot": Fault(
        "R45", ROLL | {"vm": 19}, also="R5 R44 R74", to_tables=left_alone("roll", 19), plant=hosted_rebooting
    ),
    "a reboot on a host starts later": Fault(
        "R44",
        ROLL | {"host": 18, "visit_count": 2},
        also="R55 R74",
        to_tables=move("roll", [18], 1),
        plant=hosted_rebooting,
    ),
}
HOSTED_FAULTS = {
    "host without sets after its spread": Fault(
        "R4", ROLL | {"host": 17}, also="R74", to_tables=move_host("roll", 17, HOUR_MS)
    ),
    "VM on a host in scope without outcome": Fault(
        "R5", {"campaign": "mail", "vm": 15, "problem": "has no outcome"}, to_tables=forget("mail", 15)
    ),
    "VM on a host left alone updated": Fault("R5", {"vm": 19}, to_tables=ends("roll", 19, "updated")),
    "host is overdue though it fits": Fault(
        "R13", {"region": "north", "problem": "would have fitted"}, to_tables=asked(horizon_ms=24 * HOUR_MS)
    ),
    "two domains at once on two hosts": Fault(
        "R26", ROLL | {"set": 1, "host": 12}, also="R28 R34 R35 R57 R74 R76", to_tables=with_host("roll", 12, 10)
    ),
    "two domains of a set at once": Fault(
        "R57", ROLL | {"host": 12}, also="R26 R28 R34 R35 R74 R76", to_tables=with_host("roll", 12, 10)
    ),
    "host with several domains is not alone": Fault(
        "R26", ROLL | {"set": 3, "update_domain": None}, also="R28 R35 R57 R74", to_tables=with_host("roll", 14, 15, 1)
    ),
    "not alone when a host with several domains is there": Fault(
        "R57", ROLL | {"host": 15}, also="R26 R28 R35 R74", to_tables=with_host("roll", 15, 14, 1)
    ),
    "two hosts with several domains at once": Fault(
        "R57", ROLL | {"region": "north", "host": 24}, also="R26 R28 R35 R74", to_tables=with_host("roll", 24, 25, 1)
    ),
    "gap after a host too short": Fault(
        "R28", ROLL | {"set": 1, "host": 12}, also="R57 R74", to_tables=move_host("roll", 12, -600_000)
    ),
    "all of a set down on two hosts": Fault(
        "R34",
        {"campaign": "roll", "region": "north", "set": 9},
        also="R4 R26 R28 R35 R57 R74 R76",
        to_tables=with_host("roll", 21, 20),
    ),
    "two domains down on two hosts": Fault(
        "R35", ROLL | {"set": 1, "down": 2}, also="R26 R28 R34 R57 R74 R76", to_tables=with_host("roll", 12, 10)
    ),
    "set on a shared host not listed": Fault(
        "R38", {"set": 3, "reason": "shared_host"}, to_tables=no_guarantee(lambda rows: rows.pop(0))
    ),
    "set on a shared host listed for another reason": Fault(
        "R38",
        {"set": 4, "reason": "one_domain"},
        to_tables=no_guarantee(lambda rows: rows[1].update(reason="one_domain")),
    ),
    "VM of a host starts later": Fault(
        "R44", ROLL | {"host": 13, "visit_count": 2}, also="R55 R74", to_tables=move("roll", [15], 1)
    ),
    "VM of a host left out": Fault(
        "R44", ROLL | {"host": 10, "vm_hit_count": 2}, also="R74", to_tables=leave_out("roll", 14)
    ),
    "VM of a host left out that `where` did not select": Fault(
        "R44", {"campaign": "mail", "host": 13, "vm_hit_count": 1}, also="R74", to_tables=leave_out("mail", 15)
    ),
    "host updated twice": Fault(
        "R44", ROLL | {"host": 17, "visit_count": 2}, also="R4 R6 R55 R74", to_tables=update_again
    ),
    "VM of a host before the others": Fault(
        "R55", ROLL | {"host": 17}, also="R44 R74", to_tables=move("roll", [16], -1)
    ),
    "VM that came to a host that waits left out": Fault(
        "R44", ROLL | {"host": 17, "vm_hit_count": 1}, also="R74", to_tables=leave_out("roll", 17), plant=grown
    ),
    "VM that came to a host that waits told as spared": Fault(
        "R5", ROLL | {"vm": 17}, to_tables=ends("roll", 17, "already_updated"), plant=grown
    ),
    "VM that came after its host": Fault(
        "R4", ROLL | {"vm": 17}, also="R5 R44 R74", to_tables=of_fleet(17, created=644_530), plant=grown
    ),
    "VM of a host left alone": Fault("R45", ROLL | {"vm": 19}, also="R74", to_tables=freeze_all_the_same),
    "more hosts than the cap": Fault(
        "R70",
        {"campaign": "capped", "region": "east", "per": "region", "count": 3, "limit": 2},
        also="R74 R78",
        to_tables=asked(2, caps=[{"per": "region", "hosts_ratio": 0.33}]),
    ),
    "more VMs on hosts than the cap": Fault(
        "R70",
        {"campaign": "capped", "region": "east", "per": "cluster", "count": 3, "limit": 2},
        also="R74 R78",
        to_tables=asked(2, caps=[{"per": "cluster", "vms_count": 2}]),
    ),
    "last host is another": Fault("R74", ROLL | {"problem": NO_LAST}, to_tables=last_of_roll(vm_row=1)),
    "last host with a gap": Fault("R74", ROLL | {"last_gap_ms": 1}, to_tables=last_of_roll(gap_ms=1, cap_ms=-1)),
    "last host of two domains": Fault("R74", ROLL | {"last_domain_count": 2}, to_tables=last_of_roll(domain_count=1)),
    "last host at work for longer": Fault(
        "R74", ROLL | {"last_work_ms": 4_787}, to_tables=last_of_roll(work_ms=1, cap_ms=-1)
    ),
    "last host waits for spread beyond it": Fault(
        "R74", ROLL | {"last_gap_ms": 0}, to_tables=last_of_roll(spread_ms=2_600_000, cap_ms=-2_600_000)
    ),
    "least a set takes on hosts differs": Fault(
        "R74", ROLL | {"figure": "longest_ms"}, to_tables=figure("roll", "east", "longest_ms", value=9_000)
    ),
    "step at another instant": Fault(
        "R74", FIRST_STEP | {"problem": "no unit that events show"}, to_tables=step(start_at=1)
    ),
    "step left out": Fault("R74", FIRST_STEP | {"problem": "is left out of steps"}, to_tables=step(campaign="")),
    "step held too long": Fault(
        "R74", FIRST_STEP | {"problem": "is held for another time"}, to_tables=step(duration_ms=10_000_000)
    ),
    "step that did not wait long": Fault(
        "R74", FIRST_STEP | {"problem": "waited for less than nothing"}, to_tables=step(waited_ms=-1)
    ),
    "step that waited for nobody": Fault(
        "R74", FIRST_STEP | {"problem": "waited for what there is not"}, to_tables=step(waited_for="gap")
    ),
    "step that waited for a stranger": Fault(
        "R74",
        FIRST_STEP | {"problem": "waited for what there is not"},
        to_tables=step(waited_for="gap", waited_row=999),
    ),
    "step that waited for health": Fault(
        "R74",
        FIRST_STEP | {"problem": "waited for what there is not"},
        to_tables=step(waited_for="health", waited_row=0),
    ),
    "step that waited for one of another time": Fault(
        "R74",
        FIRST_STEP | {"problem": "did not start when what it waited for was over"},
        to_tables=step(waited_for="cap", waited_row=0),
    ),
    "gaps of a chain differ": Fault(
        "R74",
        ROLL | {"problem": "last_gap_ms is not that of the walk"},
        to_tables=figure("roll", "east", "last_gap_ms", value=60_000),
    ),
    "waits for caps of a chain differ": Fault(
        "R74",
        ROLL | {"problem": "last_cap_ms is not that of the walk"},
        to_tables=figure("roll", "east", "last_cap_ms", value=60_001),
    ),
    "share out of a set on a shared host": Fault(
        "R76", {"figure": "set_down_ratio_max"}, to_tables=figure("roll", "east", "set_down_ratio_max", value=1)
    ),
    "shorter than a set takes on hosts": Fault(
        "R78",
        {"campaign": "mail", "bound_ms": 100_000},
        also="R74",
        to_tables=figure("mail", "east", "end_ms", value=14_499_999),
    ),
}


def windows(campaign: str, region: str, ms: int, *names: str) -> Callable[[Plant], None]:
    """Windows of a stage lie *ms* later: all, or those that are named."""

    def change(plant: Plant) -> None:
        told = plant.stage(campaign, region)
        told.update({name: told[name] + ms for name in names or WINDOWS})

    return change


def also_taken(campaign: str, region: str, ms: int) -> Callable[[Plant], None]:
    """The same of all its windows, and the summary knows it."""

    def change(plant: Plant) -> None:
        windows(campaign, region, ms)(plant)
        for name in ("start_ms", "free_ms"):
            plant.figure(campaign, region, name)["value"] += ms

    return change


def overdue_though_it_fits(plant: Plant) -> None:
    """The last domain of a set is left out of an ample window."""
    leave_out("boot", 20)(plant)
    plant.outcome_of("boot", 20).update(event_count=0, down_ms=0, effects=0)
    ends("boot", 20, "overdue", "no_room_in_window")(plant)


def passes_one_without_room(plant: Plant) -> None:
    """The last domain of set 5, which has no room, is hit in the place of the one before it."""
    was_hit, was_not = (plant.outcome_of("brief", vm) for vm in (19, 20))
    plant.event_of("brief", 19)["vm_row"] = was_not["vm_row"]
    was_hit["vm_row"], was_not["vm_row"] = was_not["vm_row"], was_hit["vm_row"]


BOOT = {"campaign": "boot", "region": "north"}
WINDOW_FAULTS = {
    "window for customers cut short": Fault(
        "R1",
        BOOT | {"of": "self-service window", "found_ms": 2 * HOUR_MS - 1},
        to_tables=windows("boot", "north", 1, "self_service_start_at"),
    ),
    "notice too late": Fault("R1", BOOT | {"of": "notice"}, to_tables=windows("boot", "north", 1, "notice_at")),
    "no gap between windows": Fault(
        "R1", BOOT | {"of": "gap", "found_ms": 0}, to_tables=windows("boot", "north", HOUR_MS, *WINDOWS[1:3])
    ),
    "window of the platform too long": Fault(
        "R1", BOOT | {"of": "scheduled window"}, to_tables=windows("boot", "north", 1, "scheduled_end_at")
    ),
    "freeze with windows": Fault(
        "R2",
        {"campaign": "freeze", "region": "east"},
        to_tables=lambda plant: plant.stage("freeze", "east").update(
            notice_at=plant.stage("freeze", "east")["last_end_at"]
        ),
    ),
    "reboot without notice": Fault(
        "R2", BOOT, to_tables=lambda plant: plant.stage("boot", "north").update(notice_at=None)
    ),
    "reboot before its notice": Fault(
        "R3", BOOT | {"vm": 31}, also="R4 R12 R49 R74", to_tables=move("boot", [31], -21 * HOUR_MS // 3)
    ),
    "single before the window": Fault("R12", BOOT | {"vm": 31}, also="R4 R74", to_tables=move("boot", [31], -HOUR_MS)),
    "unit that ends after the window": Fault(
        "R12",
        {"campaign": "brief", "region": "north", "set": 5},
        also="R4 R40 R74",
        to_tables=move("brief", [19], 1),
    ),
    "window of another instant than the stage": Fault(
        "R4",
        BOOT | {"problem": "starts at another instant than its window"},
        also="R1 R12 R50 R74",
        to_tables=windows("boot", "north", 1, "scheduled_start_at"),
    ),
    "announced before it was asked for": Fault(
        "R4",
        BOOT | {"problem": "is announced before it was asked for"},
        also="R50 R74",
        to_tables=also_taken("boot", "north", -1),
    ),
    "windows of a pair meet": Fault(
        "R51",
        {"region": "north", "region_other": "south"},
        also="R4 R12 R49 R54 R74",
        to_tables=also_taken("boot", "south", -3 * HOUR_MS),
    ),
    "window later than it might be": Fault(
        "R50",
        {"campaign": "boot", "region": "south", "problem": "starts late"},
        also="R4 R12 R74",
        to_tables=also_taken("boot", "south", HOUR_MS),
    ),
    "freeze within a window": Fault(
        "R49",
        {"campaign": "boot", "region": "east"},
        also="R4",
        to_tables=stage_taken_early("freeze", "east", 10 * MINUTE_MS),
    ),
    "overdue though there is room": Fault("R29", BOOT | {"set": 5}, also="R30 R74", to_tables=overdue_though_it_fits),
    "passes one without room": Fault(
        "R29", {"campaign": "brief", "set": 5, "update_domain": 1}, also="R30 R77", to_tables=passes_one_without_room
    ),
    "overdue told as updated": Fault(
        "R5", {"campaign": "brief", "vm": 20}, to_tables=ends("brief", 20, "updated_scheduled")
    ),
    "updated told as overdue": Fault(
        "R5", BOOT | {"vm": 20}, to_tables=ends("boot", 20, "overdue", "no_room_in_window")
    ),
    "reboot that keeps the memory": Fault(
        "R43", BOOT | {"vm": 31}, also="R74", to_tables=lambda plant: plant.event_of("boot", 31).update(effects=0)
    ),
    "reboot that loses the temporary disk": Fault(
        "R41", BOOT | {"vm": 31}, also="R74", to_tables=lambda plant: plant.event_of("boot", 31).update(effects=3)
    ),
    "down told as paused": Fault(
        "R74",
        BOOT | {"vm": 31},
        to_tables=lambda plant: plant.outcome_of("boot", 31).update(paused_ms=61_976, down_ms=0),
    ),
    "reboot by the platform told as its own": Fault(
        "R4",
        BOOT | {"vm": 31, "problem": "is no completed reboot by the platform"},
        to_tables=lambda plant: plant.event_of("boot", 31).update(phase="platform"),
    ),
}


def requests_of(plant: Plant, vm: int) -> list[Row]:
    """What happened to one VM in the reboot whose customers act, in order of time."""
    where = {"campaign": "boot", "vm_row": plant.vm_row(vm)}
    return sorted((row for row in plant.all_events() if where.items() <= row.items()), key=lambda row: row["start_at"])


def request(vm: int, number: int = 0, ms: int = 0, **changes: Any) -> Callable[[Plant], None]:
    """Change one request of a VM, and start it so many *ms* later."""

    def change(plant: Plant) -> None:
        row = requests_of(plant, vm)[number]
        row.update(start_at=row["start_at"] + ms, **changes)

    return change


def effects_of_move(vm: int, effects: int) -> Callable[[Plant], None]:
    def change(plant: Plant) -> None:
        requests_of(plant, vm)[-1]["effects"] = effects
        plant.outcome_of("boot", vm)["effects"] = effects

    return change


def one_more(vm: int, start_ms: int, campaign: str = "boot", **changes: Any) -> Callable[[Plant], None]:
    """One request more, which is refused unless said otherwise, and counted as what its VM had."""

    def add(plant: Plant) -> None:
        row = requests_of(plant, 10)[0] | {"campaign": campaign, "vm_row": plant.vm_row(vm), "start_at": start_ms}
        part = next(part for (_, part), vms in plant.fleet.items() if any(each["vm"] == vm for each in vms))
        place = [each["name"] for each in plant.campaigns].index(campaign)
        plant.events[place, "east", part].append(row | changes)
        plant.outcome_of(campaign, vm)["event_count"] += 1
        plant.counts["events"] += 1

    return add


def one_request_less(vm: int) -> Callable[[Plant], None]:
    """The last request of a VM was never made."""

    def remove(plant: Plant) -> None:
        row = [row for row in requests_of(plant, vm) if row["phase"] == "self_service"][-1]
        next(rows for rows in plant.events.values() if row in rows).remove(row)
        plant.outcome_of("boot", vm)["event_count"] -= 1
        plant.counts["events"] -= 1

    return remove


def customers(**changes: Any) -> Callable[[Plant], None]:
    """The scenario asked for other customers."""
    return lambda plant: plant.campaigns[1]["self_service"].update(changes)


REQUESTED = {"campaign": "boot", "region": "east"}
OPENS_MS, CLOSES_MS = HOUR_MS, HOUR_MS + 6 * DAY_MS
REBOOT = {"phase": "scheduled", "kind": "reboot", "result": "completed", "duration_ms": 60_000, "effects": 1}
REQUEST_FAULTS = {
    "freeze with a request": Fault(
        "R2", {"campaign": "freeze", "vm": 13}, to_tables=one_more(13, HOUR_MS, campaign="freeze")
    ),
    "move that is no redeploy": Fault(
        "R4", REQUESTED | {"vm": 1, "problem": "is no redeploy"}, to_tables=request(1, kind="reboot")
    ),
    "refusal with effects": Fault(
        "R4",
        REQUESTED | {"vm": 10, "problem": "has effects though nothing was done"},
        to_tables=request(10, effects=1),
    ),
    "refusal that lasts": Fault(
        "R4",
        REQUESTED | {"vm": 10, "problem": "lasts though nothing was done"},
        also="R6 R17 R74",
        to_tables=request(10, duration_ms=60_000),
    ),
    "request that fails otherwise": Fault(
        "R4",
        REQUESTED | {"vm": 10, "problem": "ends as no request does"},
        to_tables=request(10, 3, result="failed"),
    ),
    "request of a VM that is gone": Fault(
        "R4",
        REQUESTED | {"vm": 12, "problem": "is of a VM that was not there"},
        to_tables=one_more(12, 417_200_000),
    ),
    "move that outlives its VM": Fault(
        "R4",
        REQUESTED | {"vm": 14, "problem": "goes on when its VM is gone"},
        also="R5 R17 R74",
        to_tables=request(14, duration_ms=61_000),
    ),
    "moved and told as updated in the window": Fault(
        "R5", REQUESTED | {"vm": 1}, to_tables=ends("boot", 1, "updated_scheduled")
    ),
    "skipped and told as updated": Fault("R5", REQUESTED | {"vm": 5}, to_tables=ends("boot", 5, "updated_scheduled")),
    "deleted in its move and told as updated": Fault(
        "R5", REQUESTED | {"vm": 14}, to_tables=ends("boot", 14, "updated_self_service")
    ),
    "moved and hit by the platform": Fault(
        "R7",
        REQUESTED | {"vm": 7, "problem": "was settled by its customer"},
        also="R6 R74",
        to_tables=one_more(7, CLOSES_MS + 3 * HOUR_MS, **REBOOT),
    ),
    "skipped and hit by the platform": Fault(
        "R7",
        REQUESTED | {"vm": 5, "problem": "was settled by its customer"},
        also="R74",
        to_tables=one_more(5, CLOSES_MS + 3 * HOUR_MS, **REBOOT),
    ),
    "refused after it was moved": Fault(
        "R7", REQUESTED | {"vm": 2}, also="R22", to_tables=one_more(2, 176_851_450 + DAY_MS)
    ),
    "request before the window": Fault(
        "R8",
        REQUESTED | {"vm": 1, "start_ms": OPENS_MS - 1, "self_service_start_ms": OPENS_MS},
        also="R74",
        to_tables=request(1, ms=OPENS_MS - 1 - 3_600_097),
    ),
    "request at the end of the window": Fault(
        "R8",
        REQUESTED | {"vm": 6, "start_ms": CLOSES_MS, "self_service_end_ms": CLOSES_MS},
        also="R74",
        to_tables=request(6, ms=CLOSES_MS - 464_462_406),
    ),
    "temporary disk that survives": Fault(
        "R17", REQUESTED | {"vm": 1, "effects": 9, "effects_expected": 11}, to_tables=effects_of_move(1, 9)
    ),
    "temporary disk that never was is lost": Fault(
        "R17", REQUESTED | {"vm": 6, "effects": 11, "effects_expected": 9}, to_tables=effects_of_move(6, 11)
    ),
    "static address that changes": Fault(
        "R17", REQUESTED | {"vm": 1, "effects": 15, "effects_expected": 11}, to_tables=effects_of_move(1, 15)
    ),
    "dynamic address that stays": Fault(
        "R17", REQUESTED | {"vm": 4, "effects": 11, "effects_expected": 15}, to_tables=effects_of_move(4, 11)
    ),
    "move that stays on its host": Fault("R17", REQUESTED | {"vm": 2, "effects": 7}, to_tables=effects_of_move(2, 7)),
    "tried again": Fault(
        "R22",
        REQUESTED | {"vm": 5, "problem": "is tried again"},
        to_tables=one_more(5, 391_044_920 + DAY_MS, result="aborted"),
    ),
    "failure where none fails": Fault(
        "R22", REQUESTED | {"vm": 5, "problem": "fails though none does"}, to_tables=customers(failure_ratio=0.0)
    ),
    "asked again too late": Fault(
        "R22",
        REQUESTED | {"vm": 10, "problem": "is asked for at another time than a day later"},
        to_tables=request(10, 3, ms=1),
    ),
    "refused five times": Fault(
        "R22",
        REQUESTED | {"vm": 10, "problem": "is asked for after too many refusals"},
        to_tables=one_more(10, 271_664_828 + DAY_MS),
    ),
    "asked for no more": Fault(
        "R22", REQUESTED | {"vm": 10, "problem": "is not asked for again"}, to_tables=one_request_less(10)
    ),
    "failure without room": Fault(
        "R25",
        REQUESTED | {"vm": "10", "is_move": False},
        also="R5 R7 R40",
        to_tables=request(10, 3, result="aborted"),
    ),
    "move without room": Fault(
        "R25",
        REQUESTED | {"vm_row": 5, "is_move": True, "slot_count": 1, "taken_count": 2},
        also="R74",
        to_tables=request(6, ms=417_200_000 - 464_462_406),
    ),
    "room that comes back too soon": Fault(
        "R25", REQUESTED | {"vm_row": 5, "is_move": True}, to_tables=customers(recycle_ms=DAY_MS)
    ),
    "refusal with room": Fault(
        "R25",
        REQUESTED | {"vm_row": 6, "is_move": False, "slot_count": 2, "taken_count": 1},
        to_tables=customers(spare_ratio=0.2),
    ),
    "refusal though room is back": Fault(
        "R25", REQUESTED | {"vm_row": 6, "is_move": False, "taken_count": 0}, to_tables=customers(recycle_ms=0)
    ),
}


def rows_of_boot(plant: Plant, iteration: int) -> Iterator[tuple[list[Row], Row]]:
    """All that tables tell of one iteration of the reboot, and where."""
    tables = [plant.stages, plant.summary, *plant.events.values(), *plant.outcomes.values()]
    for table in tables:
        for row in [row for row in table if (row["campaign"], row["iteration"]) == ("boot", iteration)]:
            yield table, row


def never_scheduled_anew(plant: Plant) -> None:
    """The third iteration is left out."""
    for table, row in rows_of_boot(plant, 3):
        table.remove(row)
    _recount(plant)


def scheduled_a_fourth_time(plant: Plant) -> None:
    for table, row in [(table, row) for table, row in rows_of_boot(plant, 3) if "wave" in row or "figure" in row]:
        counts = {name: 0 for name in row if name.endswith("_count")}
        table.append(row | {"iteration": 4, **counts})
    _recount(plant)


def _recount(plant: Plant) -> None:
    for table in ("events", "outcomes"):
        plant.counts[table] = sum(map(len, getattr(plant, table).values()))
    plant.counts["stages"] = len(plant.stages)


def back_for_nothing(plant: Plant) -> None:
    """A VM that the first iteration has updated is in the second as well."""
    part = next(rows for rows in plant.outcomes.values() if plant.outcome_of("boot", 1) in rows)
    part.append(plant.outcome_of("boot", 1) | {"iteration": 2})
    plant.stage("boot", "east", 2)["updated_scheduled_count"] += 1
    _recount(plant)


def not_back(plant: Plant) -> None:
    """A VM that is to come back has no outcome then."""
    row = plant.outcome_of("boot", 11, 2)
    next(rows for rows in plant.outcomes.values() if row in rows).remove(row)
    plant.stage("boot", "east", 2)["updated_scheduled_count"] -= 1
    _recount(plant)


def hit_again(plant: Plant) -> None:
    """The second iteration hits a VM that the first has updated."""
    row = requests_of(plant, 11)[-1]
    part = next(rows for rows in plant.events.values() if requests_of(plant, 1)[-1] in rows)
    part.append(row | {"vm_row": plant.vm_row(1)})
    _recount(plant)


AGAIN = {"campaign": "boot", "iteration": 2, "region": "east"}
RESCHEDULE_FAULTS = {
    "no new schedule": Fault(
        "R21",
        REQUESTED | {"iteration": 3, "problem": "has no schedule"},
        also="R5 R50 R74",
        to_tables=never_scheduled_anew,
    ),
    "one schedule too many": Fault(
        "R21",
        REQUESTED | {"iteration": 4, "problem": "is scheduled for nothing"},
        also="R49 R51 R74 R76",
        to_tables=scheduled_a_fourth_time,
    ),
    "announced anew too soon": Fault(
        "R21",
        AGAIN | {"asked_ms": 615_700_000 - HOUR_MS, "expected_ms": 615_700_000},
        also="R50",
        to_tables=lambda plant: plant.figure("boot", "east", "asked_ms", 2).update(value=615_700_000.0 - HOUR_MS),
    ),
    "notice of the second time too late": Fault(
        "R1",
        AGAIN | {"of": "notice"},
        to_tables=lambda plant: plant.stage("boot", "east", 2).update(notice_at=615_700_001),
    ),
    "comes back though it is updated": Fault(
        "R5", AGAIN | {"vm": 1, "problem": "is of no VM the campaign selects"}, also="R74", to_tables=back_for_nothing
    ),
    "left out of its new schedule": Fault("R5", AGAIN | {"vm": 11, "found": 0}, to_tables=not_back),
    "outcome of an iteration there is not": Fault(
        "R5",
        REQUESTED | {"vm": 11, "problem": "is of another iteration"},
        also="R74",
        to_tables=lambda plant: plant.outcome_of("boot", 11, 2).update(iteration=9),
    ),
    "hit in the second iteration though updated": Fault(
        "R4", AGAIN | {"vm": 1, "problem": "is of no VM the campaign selects"}, also="R35 R74", to_tables=hit_again
    ),
    "hit in the second iteration and told of the first": Fault(
        "R4",
        REQUESTED | {"iteration": 1, "vm": 11, "problem": "ends after its stage"},
        also="R5 R12 R29 R30 R40 R49 R74 R76",
        to_tables=lambda plant: requests_of(plant, 11)[-1].update(iteration=1),
    ),
    "request of an iteration there is not": Fault(
        "R4",
        REQUESTED | {"vm": 7, "problem": "is of another iteration"},
        also="R7 R8 R22 R74",
        to_tables=request(7, 1, iteration=9),
    ),
    "refusal though room of the first iteration is back": Fault(
        "R25", AGAIN | {"vm": "7", "is_move": False, "taken_count": 0}, to_tables=customers(recycle_ms=5 * DAY_MS)
    ),
    "failure though the first iteration has taken all room": Fault(
        "R25", AGAIN | {"vm": "3", "is_move": False, "taken_count": 1}, to_tables=customers(recycle_ms=8 * DAY_MS)
    ),
}


def asked_at(*requests: tuple[int, int]) -> Callable[[Plant], None]:
    """The plan has other *requests* as well, or has not those it had."""

    def change(plant: Plant) -> None:
        known = set(plant.plans[1])
        plant.plans[1] = [*(known - set(requests)), *(set(requests) - known)]

    return change


PLAN_FAULTS = {
    "request that is in no plan": Fault(
        "R8", REQUESTED | {"vm": 2, "problem": "is not in the plan"}, to_tables=asked_at((2, 3 * HOUR_MS))
    ),
    "planned request that is not made": Fault(
        "R8", REQUESTED | {"vm": 6, "problem": "is in the plan and was not made"}, to_tables=asked_at((6, 2 * DAY_MS))
    ),
    "request at another time than planned": Fault(
        "R8", REQUESTED | {"vm": 9, "problem": "is not in the plan"}, to_tables=request(9, 3, ms=1)
    ),
}


def tries_of(plant: Plant, vm: int, iteration: int = 1) -> list[Row]:
    """How one VM was tried, in order of time."""
    where = {"iteration": iteration, "vm_row": plant.vm_row(vm)}
    return sorted((row for row in plant.all_events() if where.items() <= row.items()), key=lambda row: row["start_at"])


def a_try(vm: int, number: int, iteration: int = 1, ms: int = 0, **changes: Any) -> Callable[[Plant], None]:
    """Change one try of a VM, and start it so many *ms* later."""

    def change(plant: Plant) -> None:
        row = tries_of(plant, vm, iteration)[number]
        row.update(start_at=row["start_at"] + ms, **changes)

    return change


def given_up(plant: Plant) -> None:
    """The third try of a VM that has failed was not made, though there was time."""
    row = tries_of(plant, 7)[-1]
    next(rows for rows in plant.events.values() if row in rows).remove(row)
    _recount(plant)


def tried_too_late(plant: Plant) -> None:
    """A single that has failed is tried once more."""
    row = tries_of(plant, 11)[-1]
    again = row | {"start_at": row["start_at"] + row["duration_ms"]}
    next(rows for rows in plant.events.values() if row in rows).append(again)
    _recount(plant)


def scheduled(**changes: Any) -> Callable[[Plant], None]:
    """The scenario asked for other tries."""
    return lambda plant: plant.campaigns[0]["scheduled"].update(changes)


def ends_again(vm: int, outcome: str) -> Callable[[Plant], None]:
    """In the second iteration one VM is said to end otherwise, and counted so."""

    def change(plant: Plant) -> None:
        row, stage = plant.outcome_of("move", vm, 2), plant.stage("move", "east", 2)
        stage[f"{row['outcome']}_count"] -= 1
        stage[f"{outcome}_count"] += 1
        row.update(outcome=outcome)

    return change


TRIED = {"campaign": "move", "iteration": 1, "region": "east"}
TRY_FAULTS = {
    "not tried again though there was time": Fault(
        "R13", TRIED | {"vm": 7, "problem": "is not tried again"}, also="R74 R76", to_tables=given_up
    ),
    "tried after the time-out": Fault(
        "R13", TRIED | {"vm": 11, "problem": "begins after the time-out"}, also="R4 R74", to_tables=tried_too_late
    ),
    "pause between tries": Fault(
        "R13", TRIED | {"vm": 11, "problem": "begins after a pause"}, also="R4 R74", to_tables=a_try(11, 1, ms=1)
    ),
    "time-out shorter than the tries took": Fault(
        "R13",
        TRIED | {"vm": 1, "problem": "begins after the time-out"},
        also="R40",  # whoever is deleted would have been through sooner
        to_tables=scheduled(retry_timeout_ms=120_000),
    ),
    "time-out longer than VMs were tried": Fault(
        "R13", TRIED | {"vm": 11, "problem": "is not tried again"}, to_tables=scheduled(retry_timeout_ms=300_000)
    ),
    "failures though none was asked for": Fault(
        "R13",
        TRIED | {"vm": 1, "problem": "fails though none does"},
        also="R40",
        to_tables=scheduled(failure_ratio=0.0),
    ),
    "failed told as updated": Fault(
        "R5",
        TRIED | {"iteration": 2, "vm": 11, "outcome": "updated_scheduled", "outcome_expected": "failed"},
        to_tables=ends_again(11, "updated_scheduled"),
    ),
    "failed told as overdue": Fault(
        "R5",
        TRIED | {"iteration": 2, "vm": 11, "outcome": "overdue", "outcome_expected": "failed"},
        to_tables=ends_again(11, "overdue"),
    ),
    "updated after a failure told as failed": Fault(
        "R5",
        TRIED | {"iteration": 2, "vm": 1, "outcome": "failed", "outcome_expected": "updated_scheduled"},
        to_tables=ends_again(1, "failed"),
    ),
    "tried again though it was done": Fault(
        "R6",
        TRIED | {"vm": 8, "event_count": 2},
        also="R29 R30 R74",
        to_tables=a_try(8, 1, result="completed", effects=15),
    ),
    "tries that overlap": Fault(
        "R48", {"campaign": "move", "vm": 8}, also="R5 R6 R13 R29 R30 R74", to_tables=a_try(8, 1, ms=-1)
    ),
    "moved in vain to another host": Fault("R41", TRIED | {"vm": 8, "effects": 9}, to_tables=a_try(8, 0, effects=9)),
    "failure that keeps the memory": Fault("R43", TRIED | {"vm": 8, "effects": 0}, to_tables=a_try(8, 0, effects=0)),
    "try that is too long": Fault(
        "R42", TRIED | {"vm": 11, "duration_ms": 90_001}, also="R4 R74", to_tables=a_try(11, 1, duration_ms=90_001)
    ),
    "failure that takes no time": Fault(
        "R42", TRIED | {"vm": 11, "duration_ms": 0}, also="R13 R74", to_tables=a_try(11, 1, duration_ms=0)
    ),
    "tries told as one": Fault(
        "R74",
        TRIED | {"vm": 8, "event_count": 1, "event_count_expected": 3},
        to_tables=lambda plant: plant.outcome_of("move", 8).update(event_count=1),
    ),
    "failures told without their time": Fault(
        "R74", TRIED | {"vm": 1, "down_ms": 1}, to_tables=lambda plant: plant.outcome_of("move", 1).update(down_ms=1)
    ),
}


FROZEN = {"campaign": "freeze", "region": "east"}


def frozen_at(ms: int, *vms: int) -> Callable[[Plant], None]:
    """The freeze of some VMs starts so many *ms* after its stage."""

    def change(plant: Plant) -> None:
        for vm in vms:
            plant.event_of("freeze", vm)["start_at"] = MET_MS + ms

    return change


BESIDE_FAULTS = {
    "moved while it waits for a freeze": Fault(
        "R25",
        REQUESTED | {"vm": "4", "is_move": True, "is_barred": True},
        also="R5 R6 R7 R40 R74",
        to_tables=request(4, result="completed", duration_ms=60_000, effects=15),
    ),
    "fails while it waits for a freeze": Fault(
        "R25",
        REQUESTED | {"vm": "8", "is_move": False, "is_barred": True},
        also="R5 R7 R22",
        to_tables=request(8, result="aborted"),
    ),
    "moved in the instant in which a freeze starts": Fault(
        "R25",
        REQUESTED | {"vm": "15", "is_move": True, "is_barred": True},
        also="R6 R8 R22 R48 R74",
        to_tables=request(15, result="completed", duration_ms=60_000, effects=13),
    ),
    "refused though the freeze is through with it": Fault(
        "R25", REQUESTED | {"vm": "15", "is_move": False, "is_barred": False}, also="R8", to_tables=request(15, 1, ms=1)
    ),
    "frozen on the move": Fault("R48", {"campaign": "freeze", "vm": 13}, also="R74", to_tables=frozen_at(0, 13)),
    "waits though nobody of its set moves": Fault(
        "R40", FROZEN | {"set": 2}, also="R74 R77", to_tables=frozen_at(62_000, 8)
    ),
    "in no time though its set has waited": Fault(
        "R77", FROZEN | {"set": 1}, also="R28 R74", to_tables=frozen_at(160_000, 5, 6)
    ),
}
TURNS = {"campaign": "turns", "iteration": 1, "region": "east"}
RACKS = {"campaign": "racks", "iteration": 1, "region": "north"}
ZONE_FAULTS = {
    "zones at once": Fault("R53", TURNS | {"zone_place": 2}, also="R74", to_tables=move("turns", [10], -HOUR_MS // 60)),
    "the last zone first": Fault("R53", TURNS, also="R4 R30 R74", to_tables=last_zone_first),
    "domain of a zone left out": Fault(
        "R29", TURNS | {"set": 2, "update_domain": 0}, also="R5 R30 R74", to_tables=leave_out("turns", 7)
    ),
    "who comes to a host without room told updated": Fault(
        "R5",
        RACKS | {"vm": 16, "outcome": "already_updated", "outcome_expected": "overdue"},
        also="R74",
        to_tables=lambda plant: plant.outcome_of("racks", 16).update(outcome="already_updated", reason="none"),
    ),
    "waits for nothing": Fault("R74", TURNS | {"problem": "could not start when it is said to"}, to_tables=waits_less),
    "host beyond its window": Fault(
        "R12", RACKS | {"host": 12}, also="R4 R74", to_tables=move_host("racks", 12, 12 * MINUTE_MS)
    ),
}


def offers(host: int, **changes: Any) -> Callable[[Plant], None]:
    """The inventory said something else of a host."""
    return lambda plant: next(row for row in plant.hosts["east"] if row["host"] == host).update(changes)


def goes_to(vm: int, host: int, number: int = -1, ms: int = 0) -> Callable[[Plant], None]:
    """A request of a VM leads to another host, so many *ms* later."""

    def change(plant: Plant) -> None:
        row = requests_of(plant, vm)[number]
        there = next(each["host_row"] for each in plant.hosts["east"] if each["host"] == host)
        row.update(host_to=there, start_at=row["start_at"] + ms)

    return change


def hit_on_host_left_out(plant: Plant) -> None:
    """VM 8 is rebooted like any other, though the one beside it was skipped."""
    row = plant.event_of("boot", 9) | {"vm_row": plant.vm_row(8), "host_from": 4, "host_to": 4}
    plant.events[0, "east", 0].append(row)
    outcome = plant.outcome_of("boot", 8)
    outcome.update(event_count=1, effects=1, down_ms=row["duration_ms"])
    plant.counts["events"] += 1


LODGED_FAULTS = {
    "move from a host that it is not on": Fault(
        "R15",
        REQUESTED | {"vm": 1, "problem": "comes from another host than its VM is on"},
        also="R25",
        to_tables=request(1, host_from=6),
    ),
    "move to no host": Fault(
        "R15",
        REQUESTED | {"vm": 1, "problem": "goes to no host of the region"},
        also="R25",
        to_tables=request(1, host_to=99),
    ),
    "refused, and on another host": Fault(
        "R15", REQUESTED | {"vm": 3, "problem": "is no move, but to another host"}, to_tables=goes_to(3, 14, 0)
    ),
    "move to the same host": Fault(
        "R15", REQUESTED | {"vm": 1, "problem": "stays on its host"}, also="R25", to_tables=goes_to(1, 10)
    ),
    "move to another cluster": Fault(
        "R15", REQUESTED | {"vm": 1, "problem": "goes to another cluster"}, also="R25", to_tables=goes_to(1, 16)
    ),
    "move to a host that was not updated": Fault(
        "R15", REQUESTED | {"vm": 5, "problem": "goes to a host that was not updated yet"}, to_tables=goes_to(5, 11)
    ),
    "move to a host before it is updated": Fault(
        "R15",
        REQUESTED | {"vm": 5, "problem": "goes to a host that was not updated yet"},
        also="R8 R74",
        to_tables=goes_to(5, 10, ms=-8 * HOUR_MS),
    ),
    "move to a host that is full": Fault(
        "R24", REQUESTED | {"vm": 5, "problem": "goes to a host that had no room"}, to_tables=goes_to(5, 14)
    ),
    "move to a host that has less": Fault(
        "R24", REQUESTED | {"vm": 2, "problem": "finds room, though no host had any"}, to_tables=offers(14, vcpus=1.0)
    ),
    "move where memory is full": Fault(
        "R24",
        REQUESTED | {"vm": 6, "problem": "finds room, though no host had any"},
        also="R25",
        to_tables=lambda plant: (
            [row.update(takes_memory_gib=1.0) for row in plant.vms()]
            + [offers(host, memory_gib=1.0 if host == 10 else 2.0)(plant) for host in (9, 10, 14, 16)]
        ),
    ),
    "move past a host with room": Fault(
        "R25", REQUESTED | {"vm": 1, "problem": "passes a host that had room"}, to_tables=offers(9, vcpus=1.0)
    ),
    "refusal though a host has room": Fault(
        "R25", REQUESTED | {"vm": 3, "problem": "is refused, though a host had room"}, to_tables=offers(14, vcpus=3.0)
    ),
    "failure though no host had room": Fault(
        "R25",
        REQUESTED | {"vm": 7, "problem": "finds room, though no host had any"},
        to_tables=offers(10, vcpus=1.0),
        also="R24",
    ),
    "reboot on another host": Fault(
        "R41",
        REQUESTED | {"vm": 9, "host_from": 6, "host_to": 7},
        to_tables=lambda plant: plant.event_of("boot", 9).update(host_to=7),
    ),
    "reboot from another host": Fault(
        "R41",
        REQUESTED | {"vm": 9, "host_from": 7},
        to_tables=lambda plant: plant.event_of("boot", 9).update(host_from=7),
    ),
    "host of a skipped VM is updated": Fault("R44", REQUESTED | {"vm": 8}, also="R74", to_tables=hit_on_host_left_out),
    "left out, and nobody says why": Fault("R5", REQUESTED | {"vm": 8}, to_tables=ends("boot", 8, "skipped")),
    "left out with nobody": Fault("R5", REQUESTED | {"vm": 9}, to_tables=ends("boot", 9, "skipped", "host_left_out")),
}
WORLDS = (
    (LODGED_FAULTS, lodged),
    (ZONE_FAULTS, zoned),
    (BESIDE_FAULTS, beside),
    (LATER_FAULTS, later),
    (HOSTED_FAULTS, hosted),
    (WINDOW_FAULTS, windowed),
    (REQUEST_FAULTS, requested),
    (RESCHEDULE_FAULTS, rescheduled),
    (PLAN_FAULTS, planned),
    (TRY_FAULTS, tried),
)
for faults, world in WORLDS:
    for name, fault in faults.items():
        if fault.plant is sound:
            faults[name] = replace(fault, plant=world)
FAULTS = {
    "part in another folder": Fault("fleet", {"folder_region": "east"}, to_tables=part_in_other_folder),
    "set divided over parts": Fault("fleet", {"region": "north", "set": 2}, "R4 R30 R38 R74 R76", to_events=divide_set),
    "gap in the fleet": Fault("fleet", {"rows": 3, "expected_rows": 4}, "R4", to_events=drop_vm),
    "vm_row twice": Fault("fleet", {"vm_row": 3, "region": "east"}, "R74", to_tables=repeat_vm_row),
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
        "R4", AGENT | {"problem": "starts before its stage"}, "R50", to_tables=stage_taken_early("agent", "south", -1)
    ),
    "with a window": Fault("R2", AGENT, also="R4", to_tables=stage(scheduled_start_at=7)),
    "of a second wave": Fault("R4", AGENT | {"wave": 2}, to_tables=stage(wave=2)),
    "of no campaign": Fault(
        "R4",
        {"campaign": "typo", "vm_row": 2},
        to_events=event_of(2, (9, "east", 0), campaign="typo", start_at=20 * HOUR_MS),
    ),
    "of no VM": Fault("R4", {"vm_row": 99, "problem": "no such VM"}, to_events=event_of(99)),
    "of another kind": Fault("R4", {"vm": 27}, to_events=event("agent", "east", None, None, kind="reboot")),
    "of another phase": Fault("R4", {"vm": 27}, to_events=event("agent", "east", None, None, phase="scheduled")),
    "of no stage": Fault("R4", {"vm": 27}, to_events=event("agent", "east", None, None, iteration=2)),
    "in another folder": Fault("R4", {"region": "east", "folder_region": "north"}, to_tables=swap_folders),
    "out of scope": Fault(
        "R4",
        {"campaign": "cleanup", "region": "south"},
        "R74",
        to_events=event_of(23, (2, "south", 0), campaign="cleanup", duration_ms=5_000, start_at=20 * HOUR_MS),
    ),
    "no outcome": Fault("R5", HYPERVISOR | {"vm": 37, "found": 0}, to_tables=drop_outcome),
    "two outcomes": Fault("R5", HYPERVISOR | {"vm": 37, "found": 2}, to_tables=repeat_outcome),
    "another outcome": Fault("R5", HYPERVISOR | {"vm": 7, "outcome": "skipped"}, to_tables=skip_outcome),
    "another reason": Fault("R5", HYPERVISOR | {"vm": 7, "reason": "odd"}, to_tables=odd_reason),
    "outcome out of scope": Fault("R5", {"region": "south", "found": 1}, "R74", to_tables=outcome_out_of_scope),
    "outcome of no VM": Fault("R5", {"vm_row": 999}, to_tables=stray_outcome),
    "hit twice": Fault("R6", {"region": "south", "event_count": 2}, "R29", to_events=hit_twice),
    "work overlaps": Fault("R26", AGENT | {"region": "north", "set": 1}, "R28 R50 R77", to_events=work_overlaps),
    "not all back": Fault(
        "R27", HYPERVISOR | {"region": "north", "set": 1}, "R26 R28 R35 R50", to_events=impacts_overlap
    ),
    "gap too short": Fault("R28", HYPERVISOR | {"region": "north", "set": 1}, "R50", to_events=gap_too_short),
    "VM left out": Fault("R29", {"set": 1, "update_domain": 2, "vm_hit_count": 1}, to_events=miss_a_vm),
    "single left out": Fault("R29", AGENT | {"region": "south", "vm_hit_count": 0}, "R74", to_events=miss_a_single),
    "domain in two visits": Fault("R29", {"set": 3, "visit_count": 2}, "R30", to_events=split_a_domain),
    "visits no permutation": Fault("R30", {"set": 3, "visited": [0, 0]}, "R29", to_events=split_a_domain),
    "larger domain later": Fault("R30", AGENT | {"set": 2}, to_events=swap_domains("agent", "north", 2)),
    "not sequential": Fault("R30", {"visited": [1, 0]}, to_events=swap_domains("cleanup", "east", 9)),
    "domain 20": Fault("R31", {"set": 9, "update_domain": 20, "vm": 17}, to_events=domain_number(20)),
    "no domain": Fault("R31", {"set": 9, "update_domain": None, "vm": 17}, to_events=domain_number(None)),
    "all VMs down": Fault("R34", HYPERVISOR | {"set": 1, "down": 4}, "R26 R27 R28 R35 R50", to_events=all_at_once),
    "two domains down": Fault("R35", {"set": 1, "down": 4}, "R26 R27 R28 R50", to_events=impacts_overlap),
    "set not listed": Fault(
        "R38", {"set": 3, "problem": "is not listed"}, to_tables=no_guarantee(lambda rows: rows.pop(0))
    ),
    "another reason for no guarantee": Fault(
        "R38",
        {"set": 4, "reason": "one_domain", "problem": "is listed in vain"},
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
    "two campaigns at once": Fault("R48", {"campaign": "agent", "vm": 27}, "R4 R49", to_events=impacts_of_one_vm),
    "twice at once": Fault("R48", {"region": "south"}, "R6 R29", to_events=overlap_within_campaign),
    "stages of a pair overlap": Fault(
        "R49",
        {"region": "south", "region_other": "north", "seen": "stages"},
        to_tables=stage_taken_early("hypervisor", "north", 1),
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
    "stage missing": Fault("R74", {"figure": "stage_count", "region": "east"}, to_tables=drop_stage),
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
    **LATER_FAULTS,
    **REBOOT_FAULTS,
    **HOSTED_FAULTS,
    **WINDOW_FAULTS,
    **REQUEST_FAULTS,
    **LODGED_FAULTS,
    **RESCHEDULE_FAULTS,
    **PLAN_FAULTS,
    **TRY_FAULTS,
    **ZONE_FAULTS,
    **BESIDE_FAULTS,
    "shorter than a bound": Fault("R78", {"bound": "longest pair"}, "R4 R49 R74", to_tables=short_stages),
}


@cache
def built(world: Callable[[], Plant]) -> Plant:
    """The sound run that *world* makes, once for all faults that are planted in copies of it."""
    return world()


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_found_by_its_rule(tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    plant = copy.deepcopy(built(fault.plant))
    if not plant.stages:
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
    ("path", "unchecked", "in_part"),
    [
        ("stages.parquet", "R1 R3 R7 R8 R12 R13 R15 R21 R22 R24 R25 R50 R51 R74 R76 R78", "R2 R4 R49 R54"),
        ("summary.parquet", "R21 R38 R50 R74 R76 R78", "R2 R4 R13 R49 R54"),
        ("pairs.csv", "R49 R50 R51 R54 R78", ""),
        ("no_guarantee.parquet", "R38", ""),
        ("resolved.toml", " ".join(RULES[1:]), ""),
    ],
)
def test_rules_about_a_missing_file_are_not_checked(
    tmp_path: Path, plant: Plant, path: str, unchecked: str, in_part: str
) -> None:
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
    partly = {rule.rule: rule.reason for rule in verdict.rules if rule.status == "kept" and rule.reason}
    assert partly == dict.fromkeys(in_part.split(), f"in part: {path} is missing or unusable")


def test_missing_event_part_is_named_and_its_vms_count_as_never_visited(tmp_path: Path, plant: Plant) -> None:
    derive(plant)
    write(plant, tmp_path)
    (tmp_path / "events/region=south/part-c001-i001-00000.parquet").unlink()

    verdict = verify(tmp_path)

    assert broken(verdict) == ["files", "R29", "R30", "R74", "R76"]
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


@pytest.mark.parametrize("at_once", [3, 1 << 26], ids=["few at once", "all at once"])
@pytest.mark.parametrize("ids", [int, str])
@pytest.mark.parametrize(("region", "part"), [("north", 0), ("south", 0)], ids=["within a part", "over parts"])
def test_vm_twice_is_found(
    tmp_path: Path, ids: type, region: str, part: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_PRINTS_AT_ONCE", at_once)
    plant = sound(ids)
    derive(plant)
    first, second = plant.fleet["north", 0][0], plant.fleet[region, part][-1]
    second["vm"] = first["vm"]

    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == ["fleet"]
    shown = [{"vm": row["vm"], "vm_row": row["vm_row"]} for row in offenders(verdict, "fleet")]
    assert shown == [{"vm": str(first["vm"]), "vm_row": row["vm_row"]} for row in (first, second)]


@pytest.mark.parametrize("ids", [int, str])
@pytest.mark.parametrize("seed", range(20))
def test_vms_of_sets_are_ordered_by_id(seed: int, ids: type) -> None:
    """Whether round robin dealt their domains, as with an even *seed*, or one is another."""
    draw = np.random.default_rng(seed)
    rows = []
    for set_row, size in enumerate(draw.integers(1, 10, 6).tolist()):
        vms = sorted(map(ids, draw.choice(1000, size, replace=False).tolist()))
        rows += [(set_row, place % 3, vm) for place, vm in enumerate(vms)]
    if seed % 2:
        at = int(draw.integers(len(rows)))
        rows[at] = rows[at][0], 4, rows[at][2]
    rows.sort()
    part = Part.__new__(Part)
    part.set_row, part.set_count = np.array([row[0] for row in rows]), 6
    part.vms = pl.DataFrame({"update_domain": [row[1] for row in rows], "vm": [row[2] for row in rows]})

    assert part._by_id.tolist() == sorted(range(len(rows)), key=lambda place: (rows[place][0], rows[place][2]))


@pytest.mark.parametrize("made", [sound, windowed, requested, hosted], ids=lambda made: made.__name__)
def test_what_is_known_of_a_part_is_freed_when_it_has_gone_by(
    tmp_path: Path, made: Callable[[], Plant], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a collection of garbage, which a command hardly ever makes: else memory would grow with the fleet."""
    parts: list[weakref.ref[Part]] = []

    class Watched(Part):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            parts.append(weakref.ref(self))

    monkeypatch.setattr(verifier, "Part", Watched)
    plant = made()
    if made is sound:
        derive(plant)
    gc.disable()
    try:
        assert broken(verdict_of(tmp_path, plant)) == []
        assert parts
        assert [part() for part in parts] == [None] * len(parts)
    finally:
        gc.enable()


def test_file_names_are_not_trusted(tmp_path: Path, plant: Plant) -> None:
    """Events are found by the rows in their files, whichever part and campaign the name says."""
    plant.events[9, "north", 99] = plant.events.pop((0, "north", 0)) + plant.events.pop((0, "north", 1))
    derive(plant)

    assert broken(verdict_of(tmp_path, plant)) == []


def test_file_of_several_campaigns_is_found_and_read(tmp_path: Path, plant: Plant) -> None:
    plant.events[9, "north", 99] = plant.events.pop((0, "north", 0)) + plant.events.pop((1, "north", 1))
    derive(plant)

    verdict = verdict_of(tmp_path, plant)

    assert broken(verdict) == ["files"]
    path = "events/region=north/part-c009-i001-00099.parquet"
    problem = {"path": path, "problem": "has rows of several campaigns", "expected": 1, "found": "agent, hypervisor"}
    assert offenders(verdict, "files") == (problem,)


def test_rules_without_their_tables_are_not_checked(tmp_path: Path, plant: Plant) -> None:
    derive(plant)
    plant.outputs = {"events": False, "outcomes": False}
    plant.counts |= {"events": 0, "outcomes": 0}

    verdict = verdict_of(tmp_path, plant)

    assert verdict.ok
    kept = ["files", "fleet", "R1", "R2", "R13", "R21", "R31", "R32", "R33", "R36", "R38", "R49", "R50", "R51", "R54"]
    assert [rule.rule for rule in verdict.rules if rule.status == "kept"] == kept
    reasons = {rule.rule: rule.reason for rule in verdict.rules}
    assert reasons["R26"] == "outputs.events = false"
    assert reasons["R5"] == "outputs.outcomes = false"
    assert reasons["R49"] == "in part: outputs.events = false"


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("R49", stage_taken_early("hypervisor", "north", 1)),
        ("R50", stage_taken_early("hypervisor", "north", -1)),
        ("R54", stage_taken_early("agent", "south", 1)),
    ],
)
def test_stages_are_judged_without_events(
    tmp_path: Path, plant: Plant, rule: str, change: Callable[[Plant], None]
) -> None:
    derive(plant)
    plant.outputs = {"events": False, "outcomes": False}
    plant.counts |= {"events": 0, "outcomes": 0}
    change(plant)

    assert broken(verdict_of(tmp_path, plant)) == [rule]


def test_scale_set_of_100_is_one_placement_group(tmp_path: Path) -> None:
    plant = scale_set(100)
    derive(plant)

    assert broken(verdict_of(tmp_path, plant)) == []


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
    assert rule.sentence.endswith("a freeze keeps memory, host, temporary disk and addresses")
    assert rule.offender_count == rule.row_count == len(plant.all_events())
    assert len(rule.offenders) == OFFENDERS_SHOWN
    assert rule.offenders[0].items() >= {"campaign": "hypervisor", "vm": "vm-00", "set": "set-9"}.items()
    assert json.loads(json.dumps(verdict.to_dict()))["rules"][RULES.index("R41")]["offenders"][0]["vm"] == "vm-00"


def test_sums_of_the_longest_lengths_are_exact(tmp_path: Path) -> None:
    """Two impacts of 40 d are more milliseconds than a u32 holds."""
    plant = sound(campaigns=[CAMPAIGNS[0] | {"length": length(40 * 24 * HOUR_MS, 40 * 24 * HOUR_MS)}])
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
    """It loads nothing of fleetsim but the vocabulary, and what finds files at a path or a URL."""
    script = "import sys, fleetsim.verifier; print(*sorted(m for m in sys.modules if m.startswith('fleetsim')))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    modules = ["errors", "evidence", "hosting", "room", "schema", "storage", "testimony", "vacancies", "verifier"]
    assert found.stdout.split() == ["fleetsim", *(f"fleetsim.{name}" for name in modules)]
