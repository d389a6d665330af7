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


def test_vms_are_where_only_the_inventory_says_that_their_hosts_are(tmp_path):
    clusters = ["a", *["a"] * 3, *["b"] * 3, "b"]
    prepare(fleet(cluster=[*[None] * 8, *["a"] * 4, *[None] * 14]), tmp_path / "p", hosts=inventory(cluster=clusters))

    vms = [pl.read_parquet(path, hive_partitioning=False) for path in sorted((tmp_path / "p/fleet").rglob("*.parquet"))]
    told = pl.concat(vms).select("vm", pl.col("cluster").cast(pl.String)).sort("vm")["cluster"].to_list()
    assert told == [*["a"] * 12, *["b"] * 12, None, None]
    asks = "regions = ['westeurope']\ncaps = [{ per = 'cluster', hosts_count = 1 }]\niterations_max"
    capped = REBOOT.replace("iterations_max", asks)
    steps_of = fleetsim.run(tmp_path / "p", capped.replace("uptake_ratio = 1", "uptake_ratio = 0"), tmp_path / "run")
    steps = pl.read_parquet(steps_of.path / "steps/region=westeurope/*.parquet", hive_partitioning=False)
    starts = steps.filter(pl.col("host_row") <= 3)["start_at"]
    assert starts.n_unique() == 3  # one host of a cluster at a time


def test_what_may_not_be_meant_is_warned_of(tmp_path):
    clusters = ["else", *["a"] * HOST_COUNT, "a"]
    told = inventory(cluster=clusters, memory_gib=[64.0, *[None] * 7], Vcpu=[1] * 8).rename({"is_spare": "isspare"})
    said = prepare(fleet(vcpus=[None] * 26), tmp_path / "said", hosts=told).warnings
    lonely = prepare(fleet(), tmp_path / "lonely", hosts=inventory(cluster=clusters)).warnings

    assert any("did you mean 'is_spare'?" in line for line in said)
    assert any("7 of 8 hosts do not tell their memory_gib: they take any amount" in line for line in said)
    assert any("26 VMs of the fleet tell neither vCPUs nor a size" in line for line in said)
    assert len(lonely) == 1
    assert "1 spare hosts are in no cluster of a host with VMs" in lonely[0]
    over_hosts = REBOOT.replace("uptake_ratio", "spare_ratio = 0.1, uptake_ratio").replace(
        "[[campaign]]", "[[campaign]]\nregions = ['westeurope']"
    )
    run = fleetsim.run(fleet(), over_hosts, tmp_path / "run", hosts=inventory())
    assert any("spare_ratio: says nothing where VMs are on hosts" in line for line in run.warnings)


def test_the_digest_knows_what_vms_take(tmp_path):
    whole = prepare(fleet(), tmp_path / "whole", hosts=inventory()).hosts_digest
    assert whole != prepare(fleet(), tmp_path / "slots", hosts=inventory(), slots=True).hosts_digest
    streamed = fleet().to_arrow().to_reader(), inventory().to_arrow().to_reader()
    assert whole == prepare(streamed[0], tmp_path / "streamed", hosts=streamed[1]).hosts_digest


def test_a_story_tells_where_a_vm_went(tmp_path):
    run = fleetsim.run(fleet(), REBOOT, tmp_path / "run", hosts=inventory())
    moved = events_of(run).filter(pl.col("host_from") != pl.col("host_to")).row(0, named=True)
    vm = pl.read_parquet(run.path / "fleet/region=westeurope/*.parquet", hive_partitioning=False).filter(
        vm_row=moved["vm_row"]
    )["vm"][0]

    rows = fleetsim.status(run.path, vm).rows

    (start,) = [row for row in rows if row.what == "impact_starts"]
    names = ["h-", *(f"h-{i}" for i in range(HOST_COUNT)), "i"]
    ends = names[moved["host_from"]], names[moved["host_to"]]
    assert (start.more["host_from"], start.more["host_to"]) == ends
    assert start.sentence() == f"impact starts: redeploy, 10 min, from {ends[0]} to {ends[1]}"


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


def test_events_are_read_with_the_names_of_hosts(tmp_path):
    run = fleetsim.run(fleet(), REBOOT, tmp_path / "run", hosts=inventory())
    names = dict(enumerate(["h-", *(f"h-{i}" for i in range(HOST_COUNT)), "i"]))
    rows = events_of(run).select("vm_row", "start_at", "host_from", "host_to").sort("vm_row", "start_at").rows()

    told = fleetsim.read_events(run.path).sort("vm_row", "start_at").collect()

    expected = [(names.get(from_row), names.get(to_row)) for _, _, from_row, to_row in rows]
    assert told.select("host_from", "host_to").rows() == expected
    assert sum(host_from != host_to for host_from, host_to in expected) == 4
