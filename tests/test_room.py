"""Inventories in prepared fleets: what hosts have room for, which are spare, and what runs make of it."""

import polars as pl
import pytest
from click.testing import CliRunner

import fleetsim
from fleetsim.cli import cli
from fleetsim.errors import InputError
from fleetsim.fleet import prepare
from fleetsim.loosening import looser

REBOOT = """
name = "december"
start = 2026-12-01T00:00:00Z

[[campaign]]
name = "kernel"
kind = "reboot"
length = "10min"
update_domain_gap = "30min"
self_service = { length = "10d", uptake_ratio = 1, by = "vm" }
scheduled = { gap = "1d", length = "2d" }
iterations_max = 1
"""
HOST_COUNT, VMS_A_HOST = 6, 4


def fleet(**columns) -> pl.DataFrame:
    """Sets of two VMs on hosts of one region, and two VMs without hosts in its pair."""
    count = HOST_COUNT * VMS_A_HOST
    rows = {
        "vm": [f"vm-{i:02}" for i in range(count + 2)],
        "region": ["westeurope"] * count + ["northeurope"] * 2,
        "set": [f"set-{i // 2:02}" for i in range(count)] + [None] * 2,
        "host": [f"h-{i // VMS_A_HOST}" for i in range(count)] + [None] * 2,
        "vcpus": [2.0] * (count + 2),
    }
    return pl.DataFrame(rows | columns)


def inventory(**columns) -> pl.DataFrame:
    """Their hosts, each full, and a spare one for two VMs before and after them by id."""
    rows = {
        "host": ["h-", *(f"h-{i}" for i in range(HOST_COUNT)), "i"],
        "region": ["westeurope"] * (HOST_COUNT + 2),
        "vcpus": [4.0, *[8.0] * HOST_COUNT, 4.0],
        "is_spare": [True, *[False] * HOST_COUNT, True],
    }
    return pl.DataFrame(rows | columns)


def events_of(run) -> pl.DataFrame:
    return pl.concat(
        [pl.read_parquet(path, hive_partitioning=False) for path in sorted((run.path / "events").rglob("*.parquet"))]
    )


def test_a_prepared_fleet_tells_what_hosts_have_and_what_vms_take(tmp_path):
    racks = [None, *["r1"] * HOST_COUNT, "r2"]
    prepared = prepare(fleet(), tmp_path / "prepared", hosts=inventory(rack=racks, memory_gib=[64.0, *[None] * 7]))

    hosts = pl.read_parquet(tmp_path / "prepared/hosts/region=westeurope/*.parquet", hive_partitioning=False)
    assert hosts["host"].to_list() == ["h-", *(f"h-{i}" for i in range(HOST_COUNT)), "i"]
    assert hosts["host_row"].to_list() == list(range(HOST_COUNT + 2))
    assert hosts["vm_count"].to_list() == [0, *[VMS_A_HOST] * HOST_COUNT, 0]
    assert hosts["is_spare"].to_list() == [True, *[False] * HOST_COUNT, True]
    assert hosts["vcpus"].to_list() == [4.0, *[8.0] * HOST_COUNT, 4.0]
    assert hosts["memory_gib"].to_list() == [64.0, *[None] * 7]
    assert hosts["rack"].cast(pl.String).to_list() == racks
    assert prepared.host_count == HOST_COUNT + 2
    for region in ("westeurope", "northeurope"):
        vms = pl.read_parquet(tmp_path / f"prepared/fleet/region={region}/*.parquet", hive_partitioning=False)
        assert vms["takes_vcpus"].unique().to_list() == [2.0]
        assert vms["takes_memory_gib"].unique().to_list() == [0.0]


def test_what_does_not_fit_is_told_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError) as caught:
        prepare(fleet(), tmp_path / "prepared", hosts=inventory(vcpus=[4.0, 7.5, *[8.0] * HOST_COUNT]))
    assert "got 4 that take 8 vCPUs on host 'h-0'" in caught.value.problems[0]
    assert list(tmp_path.iterdir()) == []


def test_slots_are_one_vcpu_a_vm(tmp_path):
    prepare(fleet(), tmp_path / "prepared", hosts=inventory(vcpus=[4.0] * (HOST_COUNT + 2)), slots=True)

    vms = pl.read_parquet(tmp_path / "prepared/fleet/region=westeurope/*.parquet", hive_partitioning=False)
    assert vms["takes_vcpus"].unique().to_list() == [1.0]


def test_moves_go_where_there_is_room_in_whatever_order_rows_come(tmp_path):
    run = fleetsim.run(fleet(), REBOOT, tmp_path / "run", hosts=inventory())
    events = events_of(run)
    moves = events.filter(pl.col("result").cast(pl.String) == "completed", pl.col("host_from") != pl.col("host_to"))
    first = moves.sort("start_at")["host_to"].to_list()[:4]
    assert first == [0, 0, 7, 7]  # two on each of the spare ones, the lower id first
    assert fleetsim.verify(run.path).ok
    prepared = prepare(fleet(), tmp_path / "prepared", hosts=inventory())
    assert fleetsim.run(prepared.path, REBOOT, tmp_path / "again").digest == run.digest
    shuffled = fleet().sample(fraction=1, shuffle=True, seed=1), inventory().sample(fraction=1, shuffle=True, seed=2)
    assert fleetsim.run(shuffled[0], REBOOT, tmp_path / "shuffled", hosts=shuffled[1]).digest == run.digest


def test_a_host_is_gone_to_once_it_is_emptied_and_updated(tmp_path):
    # Four leave the first host; the last of them is through at 10:10, and the host is room at 11:10.
    asks = {
        "vm-00": "07:00",
        "vm-01": "08:00",
        "vm-02": "09:00",
        "vm-03": "10:00",
        "vm-04": "11:09:59",
        "vm-05": "11:10",
    }
    rows = [f"{vm},2026-12-23T{at}{':00' if len(at) == 5 else ''}Z" for vm, at in asks.items()]
    (tmp_path / "plan.csv").write_text("\n".join(["vm,at", *rows]) + "\n")
    scenario = REBOOT.replace("uptake_ratio = 1", f'requests = "{tmp_path / "plan.csv"}"').replace(', by = "vm"', "")

    run = fleetsim.run(fleet(), scenario, tmp_path / "run", hosts=inventory())

    asked = events_of(run).filter(pl.col("phase").cast(pl.String) == "self_service").sort("start_at")
    told = asked.select(pl.col("result").cast(pl.String), "host_from", "host_to").rows()
    moved = [("completed", 1, 0), ("completed", 1, 0), ("completed", 1, 7), ("completed", 1, 7)]
    assert told == [*moved, ("retry_later", 2, 2), ("completed", 2, 1)]


def test_a_run_goes_on_with_the_same_inventory_only(tmp_path):
    run = fleetsim.run(fleet(), REBOOT, tmp_path / "run", hosts=inventory())
    (run.path / "manifest.json").unlink()

    with pytest.raises(InputError, match="hosts: another inventory"):
        fleetsim.run(fleet(), REBOOT, run.path, hosts=inventory(vcpus=[2.0, *[8.0] * HOST_COUNT, 4.0]), resume=True)
    assert fleetsim.run(fleet(), REBOOT, run.path, hosts=inventory(), resume=True).digest == run.digest


def test_a_prepared_fleet_has_its_own_inventory(tmp_path):
    prepared = prepare(fleet(), tmp_path / "prepared")

    with pytest.raises(InputError, match="must not be given with a prepared fleet"):
        fleetsim.run(prepared.path, REBOOT, tmp_path / "run", hosts=inventory())
    with pytest.raises(InputError, match="give one with --hosts"):
        fleetsim.run(prepared.path, REBOOT, tmp_path / "run")


def test_what_each_rule_costs_is_known_where_vms_move(tmp_path):
    run = fleetsim.run(fleet(), REBOOT, tmp_path / "run", hosts=inventory())

    found = looser(run.path)

    assert {saving.rule for saving in found.savings} >= {"gap", "pair"}
    assert found.updated_count == {"kernel": HOST_COUNT * VMS_A_HOST + 2}


def test_the_command_line_takes_inventories(tmp_path):
    fleet().write_csv(tmp_path / "fleet.csv")
    inventory().write_csv(tmp_path / "hosts.csv")
    (tmp_path / "reboot.toml").write_text(REBOOT)
    runner = CliRunner()
    words = ["fleet", "prepare", str(tmp_path / "fleet.csv"), "-o", str(tmp_path / "prepared")]

    alone = runner.invoke(cli, [*words, "--slots"])
    made = runner.invoke(cli, [*words, "--hosts", str(tmp_path / "hosts.csv")])
    ran = runner.invoke(
        cli, ["run", str(tmp_path / "prepared"), str(tmp_path / "reboot.toml"), "-o", str(tmp_path / "a")]
    )
    straight = ["run", str(tmp_path / "fleet.csv"), str(tmp_path / "reboot.toml"), "-o", str(tmp_path / "b")]
    also = runner.invoke(cli, [*straight, "--hosts", str(tmp_path / "hosts.csv")])

    assert (alone.exit_code, made.exit_code, ran.exit_code, also.exit_code) == (2, 0, 0, 0)
    assert "--slots goes with --hosts" in alone.output
    assert ran.output.splitlines()[-1] == also.output.splitlines()[-1]
