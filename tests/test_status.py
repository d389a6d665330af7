"""What the owner of a VM is told: the status at the edges of windows and requests, and its story.

Runs are real; requests, which come with customers, are written into copies of them.
"""

import json
import shutil
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

import fleetsim
from fleetsim import cli
from fleetsim.errors import InputError

START = datetime(2026, 12, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)
FLEET = """\
vm,region,created,deleted
a,italynorth,,
b,italynorth,,
late,italynorth,2026-12-06T00:00:00Z,
gone,italynorth,,2026-12-07T00:00:00Z
new,italynorth,2026-12-12T00:00:00Z,
later,italynorth,2026-12-24T00:00:00Z,
frozen,polandcentral,,
"""
SCENARIO = """\
name = "windows"
start = 2026-12-01T00:00:00Z
[[campaign]]
name = "kernel"
kind = "reboot"
regions = ["italynorth"]
start = "1d"
notice = "9d"
self_service = { length = "5d" }
scheduled = { gap = "1d", length = "3d" }
[[campaign]]
name = "agent"
regions = ["polandcentral"]
length = "30s"
"""
NOTICE, OPENS, CLOSES, SCHEDULED, OVER = (START + timedelta(days=day) for day in (1, 4, 9, 10, 13))
LENGTH_MS = 1_500_000
ALLOWED, CODE, MESSAGE = "isCustomerInitiatedMaintenanceAllowed", "lastOperationResultCode", "lastOperationMessage"


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    (folder / "fleet.csv").write_text(FLEET)
    (folder / "windows.toml").write_text(SCENARIO)
    fleetsim.run(folder / "fleet.csv", folder / "windows.toml", folder / "run")
    return folder / "run"


@pytest.fixture
def told(real, tmp_path):
    """A copy of the real run in which *vm* asked: (result, at, ms) each, and ended *iteration* as *outcome*."""
    run = tmp_path / "run"
    shutil.copytree(real, run)

    def tell(vm, requests, outcome, iteration=1):
        (row,) = part(run, "fleet").filter(vm=vm)["vm_row"]
        rewrite(
            run,
            "events",
            iteration,
            lambda each: each["vm_row"] != row,
            [
                {"campaign": "kernel", "phase": phase, "kind": kind, "result": result, "iteration": iteration}
                | {"vm_row": row, "start_at": at, "duration_ms": ms, "effects": 14 if phase == "self_service" else 1}
                for result, at, ms, *more in requests
                for phase, kind in [more or ("self_service", "redeploy")]
            ],
        )
        ended = {"campaign": "kernel", "iteration": iteration, "vm_row": row, "outcome": outcome, "reason": "none"}
        sums = dict.fromkeys(("paused_ms", "down_ms", "event_count", "effects"), 0)
        rewrite(run, "outcomes", iteration, lambda each: each["vm_row"] != row, [ended | sums])
        return run

    return tell


def part(run, table, iteration=None):
    name = "part-00000" if iteration is None else f"part-c000-i{iteration:03}-00000"
    return pl.read_parquet(run / table / "region=italynorth" / f"{name}.parquet", hive_partitioning=False)


def rewrite(run, table, iteration, keeps, rows):
    """Only rows of the first iteration are in the real run."""
    first = part(run, table, 1)
    kept = [row for row in first.rows(named=True) if keeps(row)] if iteration == 1 else []
    rows = sorted(kept + rows, key=lambda row: row["vm_row"])
    path = run / table / "region=italynorth" / f"part-c000-i{iteration:03}-00000.parquet"
    pl.DataFrame(rows, schema=first.schema).write_parquet(path)


def again(run, after):
    """A second iteration with the windows of the first, *after* later."""
    stages = pl.read_parquet(run / "stages.parquet")
    moved = stages.filter(campaign="kernel").with_columns(
        pl.col(name) + after for name in stages.columns if name.endswith("_at")
    )
    second = moved.with_columns(iteration=pl.lit(2, pl.UInt8))
    pl.concat([stages, second]).write_parquet(run / "stages.parquet")


def fields(run, vm, at):
    return fleetsim.status(run, vm, at).maintenance_redeploy_status


def is_allowed(run, vm, at):
    return fields(run, vm, at)[ALLOWED]


def story(run, vm):
    return [(row.at - START, row.sentence()) for row in fleetsim.status(run, vm).rows]


# ---- At an instant -----------------------------------------------------------------------------------------


def test_the_fields_are_those_of_the_api(real):
    assert fields(real, "a", "4d") == {
        "isCustomerInitiatedMaintenanceAllowed": True,
        "preMaintenanceWindowStartTime": "2026-12-05T00:00:00Z",
        "preMaintenanceWindowEndTime": "2026-12-10T00:00:00Z",
        "maintenanceWindowStartTime": "2026-12-11T00:00:00Z",
        "maintenanceWindowEndTime": "2026-12-14T00:00:00Z",
        "lastOperationResultCode": "None",
        "lastOperationMessage": "Nobody has asked for the maintenance of this VM.",
    }


def test_the_status_lasts_from_the_notice_to_the_end_of_the_scheduled_window(real):
    assert fields(real, "a", NOTICE - MS) is None
    assert fields(real, "a", NOTICE) is not None
    assert fields(real, "a", OVER - MS) is not None
    assert fields(real, "a", OVER) is None


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (NOTICE, False),
        (OPENS - MS, False),
        (OPENS, True),
        (CLOSES - MS, True),
        (CLOSES, False),
        (SCHEDULED, False),
        (OVER - MS, False),
    ],
)
def test_maintenance_is_allowed_while_the_self_service_window_is_open(real, at, expected):
    assert is_allowed(real, "a", at) is expected


def test_after_a_move_nothing_more_is_allowed_and_it_is_completed_from_its_end_on(told):
    at = OPENS + timedelta(days=1)
    end = at + LENGTH_MS * MS
    run = told("a", [("completed", at, LENGTH_MS)], "updated_self_service")

    assert [is_allowed(run, "a", each) for each in (at - MS, at, end - MS, end)] == [True, False, False, False]
    codes = [fields(run, "a", each)[CODE] for each in (at, end - MS, end, OVER - MS)]
    assert codes == ["None", "None", "MaintenanceCompleted", "MaintenanceCompleted"]
    assert fields(run, "a", at)[MESSAGE] == "The VM is being moved, as asked for at 2026-12-06T00:00:00Z."
    assert fields(run, "a", end)[MESSAGE] == (
        "The VM was moved to an updated host by 2026-12-06T00:25:00Z, as asked for at 2026-12-06T00:00:00Z."
    )


def test_a_move_started_at_the_last_instant_ends_after_the_window(told):
    run = told("a", [("completed", CLOSES - MS, LENGTH_MS)], "updated_self_service")

    assert is_allowed(run, "a", CLOSES - 2 * MS)
    assert not is_allowed(run, "a", CLOSES - MS)
    assert fields(run, "a", CLOSES)[CODE] == "None"
    assert fields(run, "a", SCHEDULED)[CODE] == "MaintenanceCompleted"


def test_a_failure_that_is_skipped_ends_the_iteration_at_once(told):
    at = OPENS + timedelta(days=1)
    run = told("a", [("aborted", at, 0)], "skipped")

    assert [is_allowed(run, "a", each) for each in (at - MS, at, CLOSES - MS)] == [True, False, False]
    assert [fields(run, "a", each)[CODE] for each in (at - MS, at)] == ["None", "MaintenanceAborted"]
    assert fields(run, "a", at)[MESSAGE] == (
        "The move asked for at 2026-12-06T00:00:00Z failed: the VM stays where it was,"
        " and it is left out until the next notice."
    )


def test_what_the_platform_tries_in_vain_is_told_as_long_as_it_tries(told):
    tries = [("aborted", SCHEDULED + n * 5 * MS, 5, "scheduled", "reboot") for n in range(2)]
    run = told("a", tries, "failed")

    told_at = [fields(run, "a", SCHEDULED + n * MS)[MESSAGE] for n in (4, 5, 9, 10)]
    failed = "The platform's try to update this VM failed at 2026-12-11T00:00:00"
    assert told_at == [
        "Nobody has asked for the maintenance of this VM.",
        f"{failed}.005Z, and it is tried again.",
        f"{failed}.005Z, and it is tried again.",
        f"{failed}.010Z, and it is not tried again in this window.",
    ]
    assert fields(run, "a", SCHEDULED + 10 * MS)[CODE] == "None"


def test_a_vm_that_is_updated_at_a_later_try_is_told_so(told):
    tries = [(result, SCHEDULED + n * 5 * MS, 5) for n, result in enumerate(("aborted", "completed"))]
    run = told("a", [(*each, "scheduled", "reboot") for each in tries], "updated_scheduled")

    updated = "The platform had updated this VM by 2026-12-11T00:00:00.010Z."
    assert fields(run, "a", SCHEDULED + 10 * MS)[MESSAGE] == updated


def test_a_failure_may_be_tried_again_where_nobody_is_skipped(told):
    first, second = OPENS, OPENS + timedelta(days=1)
    run = told("a", [("aborted", first, 0), ("completed", second, 5)], "updated_self_service")

    assert is_allowed(run, "a", first)
    assert fields(run, "a", second + 4 * MS)[CODE] == "MaintenanceAborted"
    assert fields(run, "a", second + 5 * MS)[CODE] == "MaintenanceCompleted"


def test_a_refusal_leaves_the_vm_pending_and_the_last_request_counts(told):
    first, second = OPENS, OPENS + timedelta(days=1)
    run = told("a", [("retry_later", second, 0), ("aborted", first, 0)], "overdue")

    assert fields(run, "a", second - MS)[CODE] == "MaintenanceAborted"
    assert fields(run, "a", second)[CODE] == "RetryLater"
    assert is_allowed(run, "a", CLOSES - MS)


def test_of_two_requests_at_one_instant_the_later_row_counts(told):
    run = told("a", [("aborted", OPENS, 0), ("retry_later", OPENS, 0)], "overdue")

    assert fields(run, "a", OPENS)[CODE] == "RetryLater"


def test_requests_of_others_say_nothing(told):
    run = told("a", [("completed", OPENS, LENGTH_MS)], "updated_self_service")

    assert fields(run, "b", CLOSES)[CODE] == "None"
    assert is_allowed(run, "b", OPENS + MS)


def test_an_impact_of_another_campaign_forbids_it_while_it_lasts(told):
    run = told("a", [("aborted", OPENS, 5, "unplanned", "reboot")], "overdue")

    assert [is_allowed(run, "a", OPENS + n * MS) for n in (0, 4, 5)] == [False, False, True]
    assert fields(run, "a", CLOSES)[CODE] == "None"


def test_each_iteration_has_its_own_windows_and_results(told):
    run = told("a", [("aborted", OPENS, 0)], "skipped")
    again(run, timedelta(days=20))
    told("a", [("completed", OPENS + timedelta(days=20), 7)], "updated_self_service", iteration=2)
    second = NOTICE + timedelta(days=20)

    assert fleetsim.status(run, "a", OVER).sentence == (
        "no maintenance with windows concerns the VM now, the next notice is at 2026-12-22T00:00:00Z"
    )
    assert fields(run, "a", second)["preMaintenanceWindowStartTime"] == "2026-12-25T00:00:00Z"
    assert fields(run, "a", second)[CODE] == "None"
    assert fields(run, "a", OVER + timedelta(days=20) - MS)[CODE] == "MaintenanceCompleted"
    assert fields(run, "b", OVER - MS) is not None
    assert fields(run, "b", second) is None  # it did not come back


def test_of_two_stages_the_one_whose_window_opens_first_is_told(told):
    run = told("a", [], "overdue")
    again(run, timedelta(days=2))
    told("a", [], "overdue", iteration=2)

    assert fields(run, "a", OVER - MS)["maintenanceWindowStartTime"] == "2026-12-11T00:00:00Z"
    assert fields(run, "a", OVER)["maintenanceWindowStartTime"] == "2026-12-13T00:00:00Z"


def test_a_vm_has_a_status_only_while_it_exists(real):
    created, deleted = START + timedelta(days=5), START + timedelta(days=6)

    assert fleetsim.status(real, "late", created - MS).sentence == (
        "the VM does not exist yet, it is created at 2026-12-06T00:00:00Z"
    )
    assert is_allowed(real, "late", created)
    assert is_allowed(real, "gone", deleted - MS)
    assert (
        fleetsim.status(real, "gone", deleted).sentence == "the VM is no more, it was deleted at 2026-12-07T00:00:00Z"
    )
    assert not is_allowed(real, "new", "11d")


def test_a_vm_deleted_before_a_notice_is_promised_none(told):
    run = told("gone", [], "deleted")
    again(run, timedelta(days=20))
    told("gone", [], "deleted", iteration=2)

    assert fleetsim.status(run, "gone", START).sentence.endswith("the next notice is at 2026-12-02T00:00:00Z")
    assert fleetsim.status(run, "a", OVER).sentence.endswith("no notice follows")


@pytest.mark.parametrize("at", ["0s", "1h", "3d", "13d"])
def test_a_freeze_has_no_windows(real, at):
    assert fields(real, "frozen", at) is None


@pytest.mark.parametrize(
    "at", ["36h", "2026-12-02T12:00:00Z", "2026-12-02T13:00:00+01:00", START + timedelta(hours=36)]
)
def test_an_instant_is_said_in_four_ways(real, at):
    assert fleetsim.status(real, "a", at).to_dict()["at"] == "2026-12-02T12:00:00Z"


def test_instants_have_milliseconds_where_they_need_them(real):
    assert fleetsim.status(real, "a", START + MS).to_dict()["at"] == "2026-12-01T00:00:00.001Z"


# ---- Unusable input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [START - MS, OVER + MS, "13.1d", "0001-01-01T00:00:00+10:00"])
def test_an_instant_outside_the_run_is_refused_with_its_bounds(real, at):
    with pytest.raises(InputError, match="must be from 2026-12-01T00:00:00Z to 2026-12-14T00:00:00Z, which the run"):
        fleetsim.status(real, "a", at)
    assert fleetsim.status(real, "a", START).at == START
    assert fleetsim.status(real, "a", OVER).at == OVER


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("36", "which must be a number and a unit .*, got '36'; did you mean '36s'"),
        ("soon", "an instant with a zone, as 2026-12-01T00:00:00Z, or a span .*, got 'soon'"),
        ("2026-12-02", "must be an instant with a zone in whole milliseconds, .*, got '2026-12-02'"),
        ("2026-12-02T00:00:00.0005Z", "in whole milliseconds"),
        ("-1h", "must be from 0s to 3650d, got '-1h'"),
    ],
)
def test_what_is_no_instant_is_refused(real, at, expected):
    with pytest.raises(InputError, match=expected):
        fleetsim.status(real, "a", at)


@pytest.mark.parametrize(
    ("vm", "expected"),
    [
        ("lates", "^vm: must be a VM of the fleet, got 'lates'; did you mean 'late'"),
        ("FROZEN", "did you mean 'frozen'"),
        ("", "got ''$"),
        (7, "got '7'$"),
    ],
)
def test_an_unknown_vm_is_refused_with_the_nearest(real, vm, expected):
    with pytest.raises(InputError, match=expected):
        fleetsim.status(real, vm)


def test_ids_are_integers_where_the_fleet_has_integers(tmp_path):
    (tmp_path / "fleet.csv").write_text("vm,region\n7,italynorth\n1234567,italynorth\n")
    (tmp_path / "one.toml").write_text(SCENARIO.replace('"polandcentral"', '"italynorth"'))
    run = fleetsim.run(tmp_path / "fleet.csv", tmp_path / "one.toml", tmp_path / "run").path

    assert fleetsim.status(run, 7).vm == fleetsim.status(run, "7").vm == 7
    assert fleetsim.status(run, 7, "5d").to_dict()["vm"] == 7
    for wrong, hint in (("1234568", "; did you mean '1234567'?"), ("x", ""), (2**64, ""), ("9" * 5000, ""), ("-", "")):
        with pytest.raises(InputError) as caught:
            fleetsim.status(run, wrong)
        assert str(caught.value) == f"vm: must be a VM of the fleet, got '{wrong}'{hint}"


@pytest.mark.parametrize("table", ["events", "outcomes"])
def test_a_table_that_was_not_kept_is_missed_only_where_it_is_needed(real, tmp_path, table):
    run = tmp_path / "run"
    overrides = [f"outputs.{table}=false"]
    fleetsim.run(real.parent / "fleet.csv", real.parent / "windows.toml", run, overrides=overrides)

    for vm, at in (("a", None), ("frozen", None), ("a", "4d")):
        with pytest.raises(InputError, match=rf"must have kept its {table}, got \[outputs\] {table} = false"):
            fleetsim.status(run, vm, at)
    assert fields(run, "frozen", "1d") is None
    assert fields(run, "later", "1d") is None


def test_what_is_no_finished_run_is_refused_as_by_other_readers(real, tmp_path):
    with pytest.raises(InputError, match="must be the folder of a run"):
        fleetsim.status(tmp_path, "a")
    shutil.copytree(real, tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()
    with pytest.raises(InputError, match="must be a finished run"):
        fleetsim.status(tmp_path / "run", "a")


# ---- The story ---------------------------------------------------------------------------------------------


def test_a_story_of_a_vm_that_asked_three_times(told):
    first, second, third = (OPENS + timedelta(hours=hours) for hours in (1, 25, 49))
    asked = [("retry_later", first, 0), ("aborted", second, 0), ("completed", third, LENGTH_MS)]
    run = told("a", asked, "updated_self_service")
    moved = timedelta(days=6, hours=1, minutes=25)

    assert story(run, "a") == [
        (timedelta(days=1), "notice"),
        (timedelta(days=4), "self-service window opens"),
        (timedelta(days=4, hours=1), "request: retry_later"),
        (timedelta(days=5, hours=1), "request: aborted"),
        (timedelta(days=6, hours=1), "request: completed"),
        (timedelta(days=6, hours=1), "impact starts: redeploy, 25 min"),
        (
            timedelta(days=6, hours=1, minutes=25),
            "impact ends: redeploy, temp_disk_lost, address_changed, host_changed",
        ),
        (moved, "outcome: updated_self_service"),
        (timedelta(days=9), "self-service window ends"),
        (timedelta(days=10), "scheduled window opens"),
        (timedelta(days=13), "scheduled window ends"),
    ]


def test_a_story_of_two_iterations_that_follow_at_once(told):
    run = told("a", [("aborted", OPENS, 0)], "skipped")
    again(run, OVER - NOTICE)
    told("a", [], "overdue", iteration=2)

    assert story(run, "a") == [
        (timedelta(days=1), "notice"),
        (timedelta(days=4), "self-service window opens"),
        (timedelta(days=4), "request: aborted"),
        (timedelta(days=4), "outcome: skipped"),
        (timedelta(days=9), "self-service window ends"),
        (timedelta(days=10), "scheduled window opens"),
        (timedelta(days=13), "scheduled window ends"),
        (timedelta(days=13), "notice"),
        (timedelta(days=16), "self-service window opens"),
        (timedelta(days=21), "self-service window ends"),
        (timedelta(days=22), "scheduled window opens"),
        (timedelta(days=25), "scheduled window ends"),
        (timedelta(days=25), "outcome: overdue"),
    ]


def test_a_story_of_a_vm_that_failed_twice_in_the_window(told):
    tries = [("aborted", SCHEDULED + n * 5 * MS, 5, "scheduled", "reboot") for n in range(2)]
    run = told("a", tries, "failed")

    assert [row for row in story(run, "a") if "window" not in row[1]] == [
        (timedelta(days=1), "notice"),
        (timedelta(days=10), "impact starts: reboot, 5 ms"),
        (timedelta(days=10, milliseconds=5), "impact ends: reboot, aborted, memory_lost"),
        (timedelta(days=10, milliseconds=5), "impact starts: reboot, 5 ms"),
        (timedelta(days=10, milliseconds=10), "impact ends: reboot, aborted, memory_lost"),
        (timedelta(days=10, milliseconds=10), "outcome: failed"),
    ]


def test_stories_of_vms_that_come_and_go(real):
    assert story(real, "late")[:4] == [
        (timedelta(days=5), "created"),
        (timedelta(days=5), "notice: late"),
        (timedelta(days=5), "self-service window opens"),
        (timedelta(days=9), "self-service window ends"),
    ]
    assert story(real, "gone") == [
        (timedelta(days=1), "notice"),
        (timedelta(days=4), "self-service window opens"),
        (timedelta(days=6), "deleted"),
        (timedelta(days=6), "outcome: deleted"),
    ]
    assert story(real, "new") == [
        (timedelta(days=11), "created"),
        (timedelta(days=11), "notice: late"),
        (timedelta(days=11), "scheduled window opens"),
        (timedelta(days=13), "scheduled window ends"),
        (timedelta(days=13), "outcome: already_updated"),
    ]
    assert story(real, "later") == [(timedelta(days=23), "created"), (timedelta(days=23), "outcome: already_updated")]


def test_a_story_of_a_freeze(real):
    assert story(real, "frozen") == [
        (timedelta(0), "impact starts: freeze, 30.0 s"),
        (timedelta(seconds=30), "impact ends: freeze, clock_synchronised"),
        (timedelta(seconds=30), "outcome: updated"),
    ]


def test_a_stage_that_found_no_room_is_told_from_when_it_was_asked_for(real, tmp_path):
    run = tmp_path / "run"
    overrides = ["horizon=13d", "campaign.agent.length=14d", "campaign.agent.start=1h"]
    fleetsim.run(real.parent / "fleet.csv", real.parent / "windows.toml", run, overrides=overrides)

    assert story(run, "frozen") == [(timedelta(hours=1), "outcome: overdue, no_room_in_calendar")]


def test_stories_are_told_of_every_vm_of_a_fleet_in_parts(tmp_path):
    regions = ("italynorth", "polandcentral")
    pl.DataFrame([{"vm": number, "region": regions[number % 2]} for number in range(100)]).write_parquet(
        tmp_path / "fleet.parquet"
    )
    (tmp_path / "one.toml").write_text(SCENARIO)
    run = fleetsim.run(tmp_path / "fleet.parquet", tmp_path / "one.toml", tmp_path / "run").path
    events = {row["vm"]: row for row in fleetsim.read_events(run).collect().rows(named=True)}

    for vm in (0, 1, 50, 99):
        told = fleetsim.status(run, vm)
        (start,) = (row for row in told.rows if row.what == "impact_starts")
        assert (told.region, start.at, start.campaign) == (
            regions[vm % 2],
            events[vm]["start_at"],
            events[vm]["campaign"],
        )


# ---- The command -------------------------------------------------------------------------------------------


def say(capsys, *arguments):
    capsys.readouterr()
    code = cli.answer([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_the_command_prints_one_json_object(told, capsys):
    run = told("a", [("retry_later", OPENS, 0)], "overdue")

    code, out, err = say(capsys, "status", run, "--vm", "a", "--at", "4d", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert list(said) == ["vm", "at", "region", "maintenanceRedeployStatus"]
    assert said["maintenanceRedeployStatus"] == fields(run, "a", OPENS)
    code, out, err = say(capsys, "status", run, "--vm", "a", "--json")
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert list(said) == ["vm", "region", "story"]
    assert said["story"][2] == {
        "at": "2026-12-05T00:00:00Z",
        "campaign": "kernel",
        "iteration": 1,
        "what": "request",
        "result": "retry_later",
    }
    assert json.loads(say(capsys, "status", run, "--vm", "a", "--at", "0s", "--json")[1]) == {
        "vm": "a",
        "at": "2026-12-01T00:00:00Z",
        "region": "italynorth",
        "maintenanceRedeployStatus": None,
    }


def test_the_text_fits_a_terminal(told, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    at = OPENS + 123 * MS
    run = told("a", [("aborted", at, 0)], "skipped")

    for more in ([], ["--at", "4d"], ["--at", "8d"], ["--at", "0s"]):
        code, out, err = say(capsys, "status", run, "--vm", "a", *more)
        assert (code, err) == (0, "")
        assert max(map(len, out.splitlines())) <= 80
    assert (
        "lastOperationResultCode                MaintenanceAborted"
        in say(capsys, "status", run, "--vm", "a", "--at", "8d")[1]
    )


def test_the_command_refuses_what_it_cannot_use(real, capsys):
    assert say(capsys, "status", real, "--vm", "lat") == (
        2,
        "",
        "fleetsim: vm: must be a VM of the fleet, got 'lat'; did you mean 'late'?\n",
    )
    assert say(capsys, "status", real, "--vm", "a", "--at", "14d")[0] == 2
