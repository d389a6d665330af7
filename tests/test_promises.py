"""The promises of the guide (docs/promises.md), each seen in the files of a run from outside; `G` is their number."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

import fleetsim

START = datetime(2026, 12, 1, 22, tzinfo=UTC)


@pytest.fixture
def hit(tmp_path):
    """Run a campaign over VMs; every rule is kept. Returns its events with the columns of the fleet, in time."""

    def run(vms: pl.DataFrame, name: str = "run", scenario: dict | None = None, **campaign) -> pl.DataFrame:
        given = {"name": name, "start": START, "campaign": [{"name": "update", **campaign}], **(scenario or {})}
        finished = fleetsim.run(vms, given, tmp_path / name)
        assert fleetsim.verify(finished.path).ok
        events = fleetsim.read_events(finished.path, columns=["set", "update_domain"] if "set" in vms.columns else [])
        return events.sort("start_at", "vm").collect()

    return run


def vms_of(count: int, **columns) -> pl.DataFrame:
    told = {name: pl.lit(value) if isinstance(value, str) else pl.Series(value) for name, value in columns.items()}
    return pl.DataFrame({"vm": range(count)}).with_columns(**{"region": pl.lit("eastus"), **told})


def spans(events: pl.DataFrame, *by: str) -> pl.DataFrame:
    """First start and last end of the events of each group, in time."""
    return events.group_by(by).agg(pl.min("start_at"), pl.max("end_at"), pl.len()).sort("start_at")


def test_g1_an_update_without_impact_hits_no_vm(hit, tmp_path):
    events = hit(vms_of(3, set="web"), kind="no_impact")
    outcomes = pl.read_parquet(tmp_path / "run" / "outcomes/**/*.parquet")

    assert events.is_empty()
    assert outcomes.select("outcome", "reason").rows() == [("unaffected", "no_impact")] * 3
    assert outcomes.select(pl.sum("event_count", "paused_ms", "down_ms")).row(0) == (0, 0, 0)


def test_g2_a_vm_is_paused_for_30_s_and_keeps_its_memory(hit):
    events = hit(vms_of(3))

    assert set(events["kind"]) == {"freeze"}
    assert set(events["end_at"] - events["start_at"]) == {timedelta(seconds=30)}
    effects = ("memory_lost", "temp_disk_lost", "address_changed", "host_changed", "clock_synchronised")
    assert set(events.select(effects).rows()) == {(False, False, False, False, True)}


@pytest.mark.parametrize("gap", ["0s", "30min"])
def test_g5_a_domain_is_back_before_the_next_one_goes(hit, gap):
    length = {"min": "5s", "max": "60s"}
    events = hit(
        vms_of(60, set="web", update_domain=[vm % 7 for vm in range(60)]), length=length, update_domain_gap=gap
    )
    walk = spans(events, "update_domain")

    assert len(walk) == 7
    assert set(events.group_by("update_domain").agg(pl.col("start_at").n_unique())["start_at"]) == {1}
    rests = (walk["start_at"].shift(-1) - walk["end_at"]).drop_nulls()
    assert set(rests) == {timedelta(minutes=30 if gap == "30min" else 0)}


def test_g6_who_cannot_stand_the_pause_is_told_with_what_helps(hit, tmp_path):
    tolerance = {"tolerance": {"streaming": "5s"}}
    hit(vms_of(4, workload=["streaming", "batch", "streaming", "batch"]), scenario=tolerance)
    (campaign,) = fleetsim.report(tmp_path / "run").to_dict()["campaigns"]

    assert campaign["figures"]["over_tolerance_count"] == 2
    hit(vms_of(4, workload=["streaming", "batch", "streaming", "batch"]), "short", tolerance, length="5s")
    (campaign,) = fleetsim.report(tmp_path / "short").to_dict()["campaigns"]
    assert campaign["figures"]["over_tolerance_count"] == 0


REBOOT = {
    "kind": "reboot",
    "self_service": {"length": "20d", "uptake_ratio": 0.5, "failure_ratio": 0.2, "by": "vm", "spare_ratio": 0.5},
    "scheduled": {"gap": "2d", "length": "7d"},
}


def windows_of(run, iteration=1) -> dict[str, datetime]:
    stages = pl.read_parquet(run / "stages.parquet")
    return stages.row(by_predicate=pl.col("iteration") == iteration, named=True)


def outcomes_of(run) -> pl.DataFrame:
    fleet = pl.read_parquet(run / "fleet/**/*.parquet")
    return pl.read_parquet(run / "outcomes/**/*.parquet").join(fleet, on="vm_row")


def test_g3_every_reboot_by_the_platform_was_announced(hit, tmp_path):
    events = hit(vms_of(40), **REBOOT)

    by_platform = events.filter(pl.col("phase") == "scheduled")
    assert len(by_platform) > 10
    for (iteration,), of_one in by_platform.group_by("iteration"):
        notice_at = windows_of(tmp_path / "run", iteration)["notice_at"]
        assert (of_one["start_at"] >= notice_at + timedelta(days=30)).all()


def test_g7_customers_come_first_then_the_platform(hit, tmp_path):
    events = hit(vms_of(40), **REBOOT).filter(pl.col("iteration") == 1)
    told = windows_of(tmp_path / "run")

    for phase in ("self_service", "scheduled"):
        starts_at = events.filter(pl.col("phase") == phase)["start_at"]
        assert len(starts_at) > 5
        assert starts_at.is_between(told[f"{phase}_start_at"], told[f"{phase}_end_at"]).all()
    assert told["self_service_end_at"] + timedelta(days=2) == told["scheduled_start_at"]


def test_g8_a_customer_may_start_while_the_window_is_open_and_nothing_has_come_of_it(hit, tmp_path):
    events = hit(vms_of(40), **REBOOT)
    told = windows_of(tmp_path / "run")
    last_ms = timedelta(milliseconds=1)

    def allowed(vm, at):
        found = fleetsim.status(tmp_path / "run", vm, at).to_dict()["maintenanceRedeployStatus"]
        return found["isCustomerInitiatedMaintenanceAllowed"], found["lastOperationResultCode"]

    opens_at, closes_at = told["self_service_start_at"], told["self_service_end_at"]
    moved = events.filter(pl.col("phase") == "self_service", pl.col("result") == "completed").row(0, named=True)
    assert allowed(moved["vm"], opens_at - last_ms) == (False, "None")
    assert allowed(moved["vm"], opens_at) == (True, "None")
    assert allowed(moved["vm"], moved["end_at"]) == (False, "MaintenanceCompleted")
    left = events.filter(pl.col("phase") == "scheduled").row(0, named=True)
    assert allowed(left["vm"], closes_at - last_ms) == (True, "None")
    assert allowed(left["vm"], closes_at) == (False, "None")


def test_g9_a_start_by_the_customer_loses_the_temporary_disk_and_changes_dynamic_addresses(hit):
    vms = vms_of(40, temp_disk_gib=[float(vm % 2) for vm in range(40)], dynamic_ip=[vm < 20 for vm in range(40)])
    moves = hit(vms, **REBOOT).filter(pl.col("phase") == "self_service", pl.col("result") == "completed")

    assert len(moves) > 5
    assert moves["memory_lost"].all()
    assert moves["host_changed"].all()
    assert (moves["temp_disk_lost"] == (moves["vm"] % 2 == 1)).all()
    assert (moves["address_changed"] == (moves["vm"] < 20)).all()


def test_g10_after_an_error_a_vm_is_not_updated_and_out_of_the_iteration(hit, tmp_path):
    events = hit(vms_of(60), **REBOOT).filter(pl.col("iteration") == 1)
    failed = events.filter(pl.col("result") == "aborted")["vm"]
    outcomes = outcomes_of(tmp_path / "run").filter(pl.col("iteration") == 1)

    assert 0 < len(failed) < 20
    assert set(events.filter(pl.col("vm").is_in(failed.implode()))["result"]) == {"aborted"}
    skipped = outcomes.filter(pl.col("outcome").cast(pl.String) == "skipped")
    assert sorted(skipped["vm"]) == sorted(failed)
    assert skipped.select("down_ms", "effects").unique().rows() == [(0, 0)]


def test_g10_it_is_contacted_later_with_a_new_schedule_and_can_start_the_maintenance_again(hit, tmp_path):
    events = hit(vms_of(200), **REBOOT)
    failed = events.filter(pl.col("iteration") == 1, pl.col("result") == "aborted")["vm"]
    again = events.filter(pl.col("iteration") == 2)
    before, after = (windows_of(tmp_path / "run", iteration) for iteration in (1, 2))

    assert after["notice_at"] == before["scheduled_end_at"] + timedelta(days=14)
    assert after["self_service_start_at"] >= after["notice_at"]
    back = outcomes_of(tmp_path / "run").filter(pl.col("iteration") == 2)
    assert sorted(back["vm"]) == sorted(failed)
    moved = again.filter(pl.col("phase") == "self_service", pl.col("result") == "completed")
    assert len(moved) > 5
    assert moved["start_at"].is_between(after["self_service_start_at"], after["self_service_end_at"]).all()


def test_g11_once_the_scheduled_window_is_open_a_customer_may_ask_but_not_start(hit, tmp_path):
    hit(vms_of(3), **REBOOT | {"self_service": {"length": "20d"}})
    opens_at = windows_of(tmp_path / "run")["scheduled_start_at"]
    told = fleetsim.status(tmp_path / "run", 0, opens_at).to_dict()["maintenanceRedeployStatus"]

    assert told["isCustomerInitiatedMaintenanceAllowed"] is False
    assert told["maintenanceWindowStartTime"] == f"{opens_at:%Y-%m-%dT%H:%M:%SZ}"


def test_g12_paired_regions_take_turns_and_others_do_not_wait(hit):
    regions = ["northcentralus", "southcentralus", "eastus", "northeurope"]
    events = hit(vms_of(80, region=[regions[vm % 4] for vm in range(80)]), spread="1h")
    time_of = {region: (start_at, end_at) for region, start_at, end_at, _ in spans(events, "region").rows()}
    first, second = sorted((time_of["northcentralus"], time_of["southcentralus"]))

    assert first[1] <= second[0]
    for elsewhere in ("eastus", "northeurope"):
        start_at, end_at = time_of[elsewhere]
        assert start_at < first[1]
        assert first[0] < end_at


def test_g13_a_vm_of_each_set_stays_up_and_domains_go_in_no_fixed_order(hit):
    domains = [vm // 8 for vm in range(160)]
    events = hit(vms_of(160, set=[f"s{vm % 4}" for vm in range(160)], update_domain=domains), spread="10min")
    orders = set()
    for (name,), walk in events.group_by("set"):
        turns = spans(walk, "update_domain")
        assert len(turns) == 20
        assert (turns["start_at"].shift(-1) >= turns["end_at"]).drop_nulls().all(), name
        orders.add(tuple(turns["update_domain"]))
    assert len(orders) == 4
    assert tuple(range(20)) not in orders


def test_g13_a_set_in_one_domain_is_listed_as_promised_nothing(hit, tmp_path):
    hit(vms_of(4, set=["lonely", "flat", "flat", None], update_domain=[0, 3, 3, None]))
    listed = pl.read_parquet(tmp_path / "run" / "no_guarantee.parquet").select("set", "reason").sort("set")

    assert listed.rows() == [("flat", "one_domain"), ("lonely", "one_vm")]


def test_g14_a_scale_set_goes_one_domain_at_a_time(hit):
    events = hit(vms_of(230, set="workers", set_kind="scale_set"))
    groups = spans(events, "set")

    assert sorted(groups.select("set", "len").rows()) == [
        ("workers/pg-0", 100),
        ("workers/pg-1", 100),
        ("workers/pg-2", 30),
    ]
    for _, walk in events.group_by("set"):
        turns = spans(walk, "update_domain")
        assert sorted(turns["update_domain"]) == [0, 1, 2, 3, 4]
        assert (turns["start_at"].shift(-1) >= turns["end_at"]).drop_nulls().all()


def test_g6_a_quorum_nobody_can_have_is_told(hit, tmp_path):
    quorum = {"quorum": {"by": "application", "min_up": 90}}
    hit(vms_of(4, application="shop"), scenario=quorum)

    told = fleetsim.report(tmp_path / "run").text("markdown")
    assert "no application hit has the 90 VMs" in told


def test_g12_who_is_left_without_the_update_is_told(hit, tmp_path):
    hit(vms_of(4, set="web"), scenario={"horizon": "1min"})

    told = fleetsim.report(tmp_path / "run").text("markdown")
    assert "4 VMs overdue: in eastus the campaign would have ended after the horizon" in told
