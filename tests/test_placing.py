"""Placing: no host is too full, each policy is what it says, and the report counts what is in the file."""

import io
import json
import os
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fleetsim import fleet
from fleetsim.cli import answer, cli
from fleetsim.errors import InputError
from fleetsim.fleet.draws import fleet_key
from fleetsim.fleet.fitting import fits
from fleetsim.fleet.hosting import NO_LIMIT
from fleetsim.fleet.placing import POLICIES
from fleetsim.fleet.realistic import measured
from fleetsim.kernels import placement
from fleetsim.kernels.rng import fill_draws
from fleetsim.schema import Stream

IS_COMPILED = os.environ.get("NUMBA_DISABLE_JIT") != "1"
SET_SIZE, DOMAIN_COUNT, HOST_VMS = 20, 5, 20
SHAPES = ((1.0, 1.75), (1.0, 0.75), (2.0, 3.5), (4.0, 7.0), (2.0, 14.0))
ANYWHERE = (None, None)
PLACES = (ANYWHERE, ("1", "a"), ("2", "b"), ("1", None), (None, "b"))


def uniform(vm_count, **columns):
    """A fleet of equal sets in one region."""
    vm = np.arange(vm_count)
    sets = {"set": vm // SET_SIZE, "update_domain": vm % DOMAIN_COUNT}
    return pl.DataFrame({"vm": vm, "region": "eastus", **sets, **columns})


def equal_hosts(host_count, vcpus=HOST_VMS, **columns):
    return pl.DataFrame({"host": np.arange(host_count), "region": "eastus", "vcpus": float(vcpus), **columns})


def place(vms, hosts, **how):
    """The placed rows, in the order of *vms*, and the report."""
    with tempfile.TemporaryDirectory() as folder:
        made = fleet.place(vms, hosts, Path(folder) / "placed.parquet", **how)
        return pl.read_parquet(made.path).cast({pl.Categorical: pl.String}), made


@st.composite
def scenes(draw):
    """(fleet, hosts): VMs of some shapes, in sets or none, bound to places or not; hosts with little room."""
    places = draw(st.sampled_from([(ANYWHERE,), PLACES[1:3], PLACES]))
    vms, sets = [], draw(st.integers(0, 6))
    shapes = draw(st.sampled_from([SHAPES, SHAPES[:1]]))
    for number in range(sets):
        zone, cluster = draw(st.sampled_from(places))
        region = draw(st.sampled_from(["eastus", "westus"]))
        for _ in range(draw(st.sampled_from([1, 2, 5, 7]))):
            shape, fault = draw(st.sampled_from(shapes)), draw(st.integers(0, 2))
            vms.append((region, number, draw(st.integers(0, 3)), fault, zone, cluster, *shape))
    for _ in range(draw(st.integers(1, 6))):
        zone, cluster = draw(st.sampled_from(places))
        region = draw(st.sampled_from(["eastus", "westus"]))
        vms.append((region, None, None, None, zone, cluster, *draw(st.sampled_from(shapes))))
    hosts = []
    for region in ("eastus", "westus"):
        for zone, cluster in places if draw(st.booleans()) else places[:1]:
            for number in range(draw(st.integers(1, 5))):
                vcpus = draw(st.sampled_from([None, 4.0, 8.0, 30.0]))
                memory_gib = draw(st.sampled_from([None, 14.0, 60.0]))
                is_spare = draw(st.sampled_from([False, False, False, True]))
                hosts.append((region, zone, cluster, f"r{number // 2}", vcpus, memory_gib, is_spare))
    names = ("region", "set", "update_domain", "fault_domain", "zone", "cluster", "vcpus", "memory_gib")
    numbers = dict.fromkeys(("set", "update_domain", "fault_domain"), pl.Int64)
    kinds = dict.fromkeys(("vcpus", "memory_gib"), pl.Float64) | numbers
    ids = draw(st.permutations(range(len(vms))))
    fleet_ = pl.DataFrame(vms, schema={name: kinds.get(name, pl.String) for name in names}, orient="row")
    kinds["is_spare"] = pl.Boolean
    names = ("region", "zone", "cluster", "rack", "vcpus", "memory_gib", "is_spare")
    inventory = pl.DataFrame(hosts, schema={name: kinds.get(name, pl.String) for name in names}, orient="row")
    hosts_ids = draw(st.permutations(range(len(hosts))))
    if draw(st.booleans()):
        ids, hosts_ids = [f"vm-{number}" for number in ids], [f"host-{number}" for number in hosts_ids]
    return (
        fleet_.with_columns(vm=pl.Series(ids)),
        inventory.with_columns(host=pl.Series(hosts_ids)),
    )


def placed_or_problems(vms, hosts, **how):
    try:
        return place(vms, hosts, **how)
    except InputError as error:
        return None, error.problems


# --- what holds of every placement --------------------------------------------------------------------------


@given(scenes(), st.sampled_from(POLICIES), st.booleans())
def test_no_host_is_too_full_and_nobody_leaves_their_cluster(scene, policy, any_rack):
    vms, hosts = scene
    rows, _ = placed_or_problems(vms, hosts, policy=policy, any_rack=any_rack)
    if rows is None:
        return
    assert rows.select("vm", "set", "vcpus").equals(vms.select("vm", "set", "vcpus"))
    both = rows.join(hosts, on="host", suffix="_of_host", maintain_order="left")
    assert len(both) == len(vms)
    assert not both["is_spare"].any()
    assert (both["region"] == both["region_of_host"]).all()
    for name in ("zone", "cluster"):
        given_, of_host = vms[name], both[f"{name}_of_host"]
        assert ((given_ == of_host) | given_.is_null() | of_host.is_null()).all()
        assert rows[name].equals(pl.select(pl.coalesce(given_, of_host)).to_series().rename(name), null_equal=True)
    assert (both["rack"] == both["rack_of_host"]).all()
    used = rows.group_by("host").agg(pl.col("vcpus", "memory_gib").sum()).join(hosts, on="host", suffix="_max")
    for name in ("vcpus", "memory_gib"):
        assert used.filter(pl.col(name) > pl.col(f"{name}_max")).is_empty()


@given(scenes(), st.sampled_from(POLICIES), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(scene, policy, random):
    vms, hosts = scene
    shuffled = [frame[random.sample(range(len(frame)), len(frame))] for frame in scene]
    rows, found = placed_or_problems(vms, hosts, policy=policy)
    again, found_again = placed_or_problems(*shuffled, policy=policy)
    if rows is None:
        assert again is None
        assert found == found_again
    else:
        assert again.sort("vm").equals(rows.sort("vm").select(again.columns), null_equal=True)
        assert again["vm"].equals(shuffled[0]["vm"])


@given(st.integers(1, 60), st.integers(1, 8), st.integers(1, 8), st.sampled_from(POLICIES))
def test_equal_vms_fit_wherever_there_are_as_many_slots(vm_count, host_count, vcpus, policy):
    rows, _ = placed_or_problems(uniform(vm_count), equal_hosts(host_count, vcpus), policy=policy)

    assert (rows is not None) == (vm_count <= host_count * vcpus)


# --- policies -----------------------------------------------------------------------------------------------


def slow(vms, hosts, policy, seed=0):
    """The policies but aligned in plain Python: (vm, host) of VMs that bind to no place and no rack."""
    order = sorted(vms.iter_rows(named=True), key=lambda vm: vm["vm"])
    rooms = {
        host["host"]: [
            NO_LIMIT if host[name] is None else int(host[name] * 1_000_000) for name in ("vcpus", "memory_gib")
        ]
        for host in sorted(hosts.iter_rows(named=True), key=lambda host: host["host"])
        if not host["is_spare"]
    }
    names = list(rooms)
    tries = {}
    if policy == "random":
        vm = np.array([row["vm"] for row in order], np.int64)
        draws = np.empty((placement.TRIES + 1, len(vm)), np.uint64)
        for number in range(placement.TRIES + 1):
            address = np.uint64(Stream.PLACEMENT << 26 | number)
            fill_draws(np.uint64(fleet_key(seed, "placement")), address, np.uint64(0), vm, draws[number])
        tries = {int(key): [int(draw) for draw in draws[:, place]] for place, key in enumerate(vm)}
        order.sort(key=lambda row: (-row["vcpus"], -row["memory_gib"], tries[row["vm"]][0]))
    found = {}
    for row in order:
        need = [int(row[name] * 1_000_000) for name in ("vcpus", "memory_gib")]
        fits = [host for host in names if all(n <= room for n, room in zip(need, rooms[host], strict=True))]
        if not fits:
            return None
        if policy == "first-fit":
            host = fits[0]
        elif policy == "best-fit":
            host = min(fits, key=lambda host: (*rooms[host], names.index(host)))
        else:
            drawn = [draw * len(names) >> 64 for draw in tries[row["vm"]][1:]]
            first = next((place for place in drawn if names[place] in fits), None)
            turned = names[drawn[-1] :] + names[: drawn[-1]]
            host = names[first] if first is not None else next(host for host in turned if host in fits)
        found[row["vm"]] = host
        for resource in range(2):
            rooms[host][resource] -= need[resource]
    return found


ROOMS = st.tuples(st.sampled_from([1.0, 2.0, 3.0, 5.0, 9.0, None]), st.sampled_from([2.0, 5.0, 9.0, 16.0, 60.0, None]))


@given(
    st.lists(st.sampled_from(SHAPES), min_size=1, max_size=20),
    st.lists(ROOMS, min_size=6, max_size=15),
    st.sampled_from(["random", "first-fit", "best-fit", "best-fit"]),
    st.sampled_from([0, 7, 2**64 - 1]),
)
def test_policies_are_what_slow_ones_are(shapes, rooms, policy, seed):
    vms = pl.DataFrame(shapes, schema=["vcpus", "memory_gib"], orient="row")
    vms = vms.with_columns(vm=np.arange(len(vms)) * 3 - 5, region=pl.lit("eastus"))
    hosts = pl.DataFrame(rooms, schema={"vcpus": pl.Float64, "memory_gib": pl.Float64}, orient="row")
    hosts = hosts.with_columns(host=np.arange(len(hosts)), region=pl.lit("eastus"), is_spare=np.arange(len(hosts)) == 3)
    expected = slow(vms, hosts, policy, seed)
    rows, _ = placed_or_problems(vms, hosts, policy=policy, seed=seed)

    assert (rows is None) == (expected is None)
    if rows is not None:
        assert dict(zip(rows["vm"], rows["host"], strict=True)) == expected


@pytest.mark.parametrize("policy", ["aligned", "random"])
def test_larger_vms_go_first_for_they_find_room_the_least(policy):
    vms = pl.DataFrame({"vm": np.arange(9), "region": "eastus", "vcpus": [1.0] * 4 + [4.0] + [1.0] * 4})
    for seed in range(5):
        rows, _ = place(vms, equal_hosts(3, vcpus=4), policy=policy, seed=seed)
        assert rows.group_by("host").agg(pl.col("vcpus").sum())["vcpus"].to_list() == [4.0] * 3


@pytest.mark.parametrize("seed", range(5))
def test_who_draws_full_hosts_only_takes_the_next_with_room(seed):
    vms = pl.DataFrame({"vm": np.arange(14), "region": "eastus", "vcpus": 4.0, "memory_gib": 1.0})
    host = np.arange(60)
    hosts = pl.DataFrame({"host": host, "region": "eastus", "vcpus": np.where(host % 15 == 7, 16.0, 1.0)})
    hosts = hosts.with_columns(memory_gib=64.0, is_spare=False)
    rows, _ = place(vms, hosts, policy="random", seed=seed)

    assert dict(zip(rows["vm"], rows["host"], strict=True)) == slow(vms, hosts, "random", seed)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_tight_inventory_is_filled_to_the_last_slot(policy):
    vm_count = 100_000 if IS_COMPILED else 10_000
    rows, made = place(uniform(vm_count), equal_hosts(vm_count // HOST_VMS), policy=policy)
    of_hosts = rows.group_by("host").agg(pl.len(), pl.col("update_domain").n_unique(), pl.col("set").n_unique())

    assert of_hosts["len"].unique().to_list() == [HOST_VMS]
    assert made.fill["vcpus"] == {"mean": 1.0, "p10": 1.0, "p90": 1.0}
    assert made.used_count == vm_count // HOST_VMS
    if policy == "aligned":
        assert of_hosts["update_domain"].max() == 1
        assert (made.one_number_count, made.numbers_mixed_count) == (made.used_count, 0)
    if policy in ("aligned", "random"):  # sets are mixed, which is what makes the order of hosts matter
        assert of_hosts["set"].mean() > 19


@pytest.mark.parametrize("counts", [{0: 7, 1: 1, 2: 1}, {0: 1, 3: 5, 7: 2}, {4: 30}])
def test_hosts_are_shared_out_by_what_the_numbers_need(counts):
    """Tight again, with as many hosts' worth of VMs of each number as *counts* says, and twice as many hosts."""
    domain = np.repeat(list(counts), np.array(list(counts.values())) * HOST_VMS)
    vms = pl.DataFrame({"vm": np.arange(len(domain)), "region": "eastus", "set": 1, "update_domain": domain})
    for factor in (1, 2):
        rows, made = place(vms, equal_hosts(factor * sum(counts.values())))
        of_hosts = rows.group_by("host").agg(pl.col("update_domain").unique())
        used = of_hosts.explode("update_domain")["update_domain"].value_counts()

        assert made.numbers_mixed_count == made.sets_mixed_count == 0
        if factor == 1 or min(counts.values()) > 3:
            assert dict(used.iter_rows()) == {number: factor * count for number, count in counts.items()}


def test_hosts_to_spare_go_where_they_are_needed_most():
    supply, given_, class_of = np.full(12, 1 / 12), np.zeros(3), np.empty(12, np.int64)
    placement.deal(supply, np.array([0.5, 1 / 12, 0.001]), given_, class_of)

    # Six, one and one do; of the other four hosts the first has the least to spare.
    assert np.bincount(class_of).tolist() == [9, 2, 1]


def test_while_there_is_room_where_a_vm_goes_depends_on_no_other():
    vms, hosts = uniform(400), equal_hosts(30).drop("vcpus")
    for policy in ("random", "aligned"):
        rows, _ = place(vms, hosts, policy=policy, seed=3)
        fewer, _ = place(vms.filter(pl.col("vm") % 20 > 4), hosts, policy=policy, seed=3)

        assert fewer.equals(rows.filter(pl.col("vm") % 20 > 4))
        assert rows["host"].n_unique() == 30
        other, _ = place(vms, hosts, policy=policy, seed=4)
        assert (other["host"] == rows["host"]).mean() < 0.3


def test_singles_are_on_any_host_and_change_no_number():
    vms = uniform(100).with_columns(set=pl.when(pl.col("vm") % 2 == 0).then("set"))
    vms = vms.with_columns(update_domain=pl.when(pl.col("set").is_not_null()).then("update_domain"))
    _, made = place(vms, equal_hosts(5))

    assert (made.used_count, made.one_number_count, made.numbers_mixed_count) == (5, 5, 0)


def test_domains_that_the_fleet_leaves_open_are_those_preparing_deals(tmp_path):
    given_, _ = place(uniform(200), equal_hosts(10))
    rows, made = place(uniform(200).drop("update_domain"), equal_hosts(10))

    assert rows["host"].equals(given_["host"])
    assert made.numbers_mixed_count == 0
    rows.write_parquet(tmp_path / "placed.parquet")
    fleet.prepare(tmp_path / "placed.parquet", tmp_path / "prepared")
    prepared = pl.concat(pl.read_parquet(path) for path in (tmp_path / "prepared" / "fleet").rglob("*.parquet"))
    assert prepared.group_by("host").agg(pl.col("update_domain").n_unique())["update_domain"].max() == 1


def test_where_hosts_of_a_number_are_full_others_are_taken_and_counted():
    _, made = place(uniform(20), equal_hosts(3, vcpus=8))

    assert made.numbers_mixed_count > 0
    assert made.sets_mixed_count > 0
    assert made.no_guarantee_count == 1


# --- racks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_fault_domains_of_a_set_are_on_racks_of_their_own(policy):
    vm = np.arange(600)
    vms = uniform(600, fault_domain=vm % 3)
    hosts = equal_hosts(60, vcpus=12, rack=[f"r{number // 5}" for number in range(60)])
    rows, made = place(vms, hosts, policy=policy)
    racks = rows.group_by("rack").agg(pl.col("fault_domain").unique()).sort(pl.col("rack").str.tail(-1).cast(int))

    assert racks["fault_domain"].to_list() == [[number % 3] for number in range(12)]
    assert made.rack_shared_count == 0
    _, anyhow = place(vms, hosts, policy=policy, any_rack=True)
    assert anyhow.rack_shared_count > 0
    assert policy != "aligned" or made.numbers_mixed_count == 0


def test_hosts_are_aligned_by_fault_domain_where_asked():
    rows, made = place(uniform(300, fault_domain=np.arange(300) % 3), equal_hosts(15), by="fault_domain")

    of_hosts = rows.group_by("host").agg(pl.col("fault_domain").n_unique(), pl.col("update_domain").n_unique())
    assert of_hosts["fault_domain"].max() == 1
    assert of_hosts["update_domain"].min() > 1
    assert (made.one_number_count, made.numbers_mixed_count, made.sets_mixed_count) == (15, 0, 0)


def test_racks_are_of_a_cluster():
    """One that has VMs of one fault domain alone gives its racks no other; others of their names do."""
    hosts = equal_hosts(6, cluster=["a", "a", "a", "b", "b", "b"], rack=["1", "2", "3"] * 2)
    vm = np.arange(60)
    rows, made = place(
        uniform(60, fault_domain=vm % 2 * (vm // 2 % 3), cluster=["a", "b"] * 30), hosts, policy="random"
    )
    racks = rows.group_by("cluster", "rack").agg(pl.col("fault_domain").unique()).sort("cluster", "rack")

    assert racks["fault_domain"].to_list() == [[0], [0], [0], [0], [1], [2]]
    assert made.rack_shared_count == 0


def test_best_fit_looks_for_the_least_room_again_after_each_vm():
    vms = pl.DataFrame({"vm": [1, 2, 3, 4], "region": "eastus", "vcpus": [4.0, 2, 1, 3]})
    hosts = pl.DataFrame({"host": [1, 2, 3], "region": "eastus", "vcpus": [3.0, 5, 4]})
    rows, _ = place(vms, hosts, policy="best-fit")

    # 3 is full; 1 has 3 left, then 1, then none; 2 has 5.
    assert rows["host"].to_list() == [3, 1, 1, 2]


# --- the report ---------------------------------------------------------------------------------------------


@given(scenes(), st.sampled_from(POLICIES))
def test_the_report_counts_what_is_in_the_file(scene, policy):
    vms, hosts = scene
    rows, made = placed_or_problems(vms, hosts, policy=policy)
    if rows is None:
        return
    units, numbers, faults = defaultdict(set), defaultdict(set), defaultdict(set)
    for row in rows.filter(pl.col("set").is_not_null()).iter_rows(named=True):
        units[row["host"]].add((row["region"], row["set"], row["update_domain"]))
        numbers[row["host"]].add(row["update_domain"])
        rack = row["region"], row["zone"], row["cluster"], row["rack"]
        faults[(*rack, row["set"])].add(row["fault_domain"])
    mixed = {
        (host, region, set_) for host, found in units.items() for region, set_, _ in found
        if len({unit for unit in found if unit[:2] == (region, set_)}) > 1
    }  # fmt: skip
    used = set(rows["host"])

    assert (made.vm_count, made.used_count) == (len(vms), len(used))
    assert made.host_count == int((~hosts["is_spare"]).sum())
    assert made.spare_count == int(hosts["is_spare"].sum())
    assert made.claims_mean == pytest.approx(sum(map(len, units.values())) / len(used))
    assert made.claims_max == max(map(len, units.values()), default=0)
    assert made.one_number_count == sum(len(found) == 1 for found in numbers.values())
    assert made.numbers_mixed_count == sum(len(found) > 1 for found in numbers.values())
    assert made.sets_mixed_count == len({host for host, *_ in mixed})
    assert made.no_guarantee_count == len({tuple(of) for _, *of in mixed})
    if all(place == ANYWHERE for place in vms.select("zone", "cluster").unique().iter_rows()):
        assert made.rack_shared_count == len({key[0::4] for key, found in faults.items() if len(found) > 1})


def test_what_is_free_beside_a_full_resource_is_stranded():
    vms = pl.DataFrame({"vm": [1, 2, 3], "region": "eastus", "vcpus": [2.0, 2, 8], "memory_gib": [7.5, 7.5, 2]})
    hosts = pl.DataFrame({"host": ["a", "b"], "region": "eastus", "vcpus": [8.0, 9], "memory_gib": [16.0, 16]})
    _, made = place(vms, hosts, policy="first-fit")

    # a: 4 vCPUs and 1 GiB are left, and no VM has less than 2 GiB; b: 1 vCPU and 14 GiB, none has less than 2 vCPUs.
    assert made.stranded == {"vcpus": pytest.approx(4 / 17), "memory_gib": pytest.approx(14 / 32)}
    assert made.fill["vcpus"] == {"mean": pytest.approx((4 / 8 + 8 / 9) / 2), "p10": 0.5, "p90": pytest.approx(8 / 9)}


def test_the_report_fits_a_terminal_and_says_where_sizes_are_from():
    vms = pl.DataFrame({"vm": [1, 2, 3, 4], "region": "eastus", "size": ["4x7", "Standard_D2s_v3", "unheard of", None]})
    _, made = place(vms, equal_hosts(1, vcpus=8))
    console = Console(width=80, record=True, file=io.StringIO())
    made.render(console)
    told = console.export_text()

    assert made.fill["vcpus"]["mean"] == 1.0  # 4 + 2 + 1 + 1
    assert max(map(len, told.splitlines())) <= 80
    assert made.notes == (
        "2 VMs do not tell their vCPUs: they take what their size says",
        "2 VMs tell neither vCPUs nor a size that is listed: each takes one vCPU and no memory",
    )
    assert json.loads(json.dumps(made.to_dict()))["used_count"] == 1


# --- files --------------------------------------------------------------------------------------------------


def test_other_columns_and_the_order_of_rows_stay(tmp_path):
    vms = uniform(60, tier=["web", "data", "web"] * 20, load=np.arange(60) / 7, rack=pl.Series([None] * 60, dtype=str))
    vms = vms.sample(fraction=1, shuffle=True, seed=1).with_columns(region=pl.Series(["eastus", "westus"] * 30))
    vms = vms.with_columns(set=pl.col("set") * 2 + (pl.col("region") == "westus"))
    hosts = pl.concat([equal_hosts(3), equal_hosts(3).with_columns(host=pl.col("host") + 3, region=pl.lit("westus"))])
    rows, _ = place(vms, hosts)
    made = fleet.place(vms, hosts, tmp_path / "folder")
    parts = {path.parent.name: pl.read_parquet(path, hive_partitioning=False) for path in made.path.rglob("*.parquet")}

    assert rows.drop("host").equals(vms.select(column for column in rows.columns if column != "host"))
    assert set(rows.columns) == {*vms.columns, "host"} - {"rack"}
    assert set(parts) == {"region=eastus", "region=westus"}
    for name, part in parts.items():
        own = rows.filter(pl.col("region") == name.removeprefix("region="))
        assert part.cast({pl.Categorical: pl.String}).equals(own)


def test_a_placed_fleet_is_usable_and_says_that_hosts_are_made_up(tmp_path):
    fleet.generate(tmp_path / "f.parquet", 3_000, ["eastus", "westus"], mix="azure-2017")
    made = fleet.hosts(tmp_path / "f.parquet", tmp_path / "hosts.parquet")
    fleet.place(tmp_path / "f.parquet", made.path, tmp_path / "placed.parquet")
    found = fleet.check(tmp_path / "placed.parquet")

    assert found.vm_count == 3_000
    assert "hosts: each VM's is made up, aligned by room, on those of hosts.parquet" in found.invented
    assert made.invented[0] in found.invented
    assert found.warnings == ()
    assert (
        pl.read_parquet(tmp_path / "placed.parquet").select("host", "rack", "cluster").null_count().sum_horizontal()[0]
        == 0
    )
    assert fleet.describe(tmp_path / "placed.parquet").to_dict()["asked"]


def test_a_fleet_is_the_same_in_any_form(tmp_path):
    vms, hosts = uniform(60), equal_hosts(4)
    rows, _ = place(vms, hosts)
    vms.write_csv(tmp_path / "f.csv")
    fleet.prepare(tmp_path / "f.csv", tmp_path / "prepared")
    forms = [tmp_path / "f.csv", tmp_path / "prepared", vms.to_arrow().to_reader(max_chunksize=7)]

    for form in forms:
        again, _ = place(form, hosts)
        assert again.select("vm", "host").sort("vm").equals(rows.select("vm", "host"))


def test_a_placed_fleet_is_placed_anew_where_asked(tmp_path):
    rows, _ = place(uniform(40), equal_hosts(2, rack=["r1", "r2"]))
    again, _ = place(rows, equal_hosts(4, vcpus=10), replace=True)

    assert again["host"].n_unique() == 4
    assert "rack" not in again.columns


def test_the_topology_data_are_placed_on_their_own_hosts(tmp_path):
    fleet.import_topology(tmp_path / "f.parquet", sequence="C1")
    made = fleet.place(
        *(tmp_path / "f.parquet", tmp_path / "f.hosts.parquet", tmp_path / "placed.parquet"),
        policy="best-fit", host_vcpus=128, host_memory_gib=512,
    )  # fmt: skip

    assert (made.vm_count, made.host_count) == (4_998, 17_387)
    assert made.rack_shared_count == 0
    used = pl.read_parquet(made.path).group_by("host").agg(pl.col("vcpus", "memory_gib").sum())
    assert used["vcpus"].max() <= 128
    assert used["memory_gib"].max() <= 512
    assert len(used) == made.used_count < 1_000


def test_an_inventory_may_be_csv_with_names_that_are_numbers(tmp_path):
    (tmp_path / "hosts.csv").write_text("host,region,vcpus,is_spare\n7,eastus,20,true\n8,eastus,20,false\n", "utf-8")
    rows, made = place(uniform(20), tmp_path / "hosts.csv")

    assert rows["host"].unique().to_list() == [8]
    assert (made.host_count, made.spare_count) == (1, 1)


def test_columns_of_hosts_that_may_be_ours_are_warned_of():
    _, made = place(uniform(20), equal_hosts(1, rack_name="r"))

    assert "column 'rack_name' is not one of fleetsim's" in made.warnings[0]


# --- inventories that are made ------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_a_fleet_fits_on_the_inventory_made_for_it(tmp_path, policy):
    fleet.generate(tmp_path / "f.parquet", 4_000, ["eastus", "westindia"], mix="azure-2017", seed=1)
    made = fleet.hosts(tmp_path / "f.parquet", tmp_path / "hosts.parquet", vcpus=48, memory_gib=256, spare_ratio=0.1)
    placed = fleet.place(tmp_path / "f.parquet", made.path, tmp_path / "placed.parquet", policy=policy)
    hosts, rows = pl.read_parquet(made.path), pl.read_parquet(tmp_path / "placed.parquet")
    clusters = pl.read_parquet(tmp_path / "f.parquet")["cluster"]

    assert rows["cluster"].cast(str).equals(clusters.cast(str))
    assert hosts["host"].n_unique() == len(hosts) == made.host_count + made.spare_count
    assert hosts["is_spare"].sum() == made.spare_count == placed.spare_count > 0
    assert max(placed.fill["vcpus"]["mean"], placed.fill["memory_gib"]["mean"]) < 0.8
    assert hosts.group_by("cluster", "rack").len()["len"].max() == 20


def test_hosts_are_as_many_as_fill_asks_for(tmp_path):
    for fill, host_count in ((1.0, 5), (0.8, 7), (0.5, 10)):
        made = fleet.hosts(uniform(100), tmp_path / f"{fill}.parquet", vms_per_host=20, fill=fill)
        assert made.host_count == host_count
    # Of 40 vCPUs only one fits on a host of 64, of 30 two do.
    for vcpus, host_count in ((40.0, 100), (30.0, 50), (1.0, 2)):
        made = fleet.hosts(uniform(100, vcpus=vcpus), tmp_path / f"of-{vcpus}.parquet", fill=1.0)
        assert made.host_count == host_count


def test_clusters_are_of_the_size_asked_for(tmp_path):
    vms = uniform(9_000)
    made = fleet.hosts(vms, tmp_path / "even.parquet", vms_per_host=1, fill=1.0, hosts_per_cluster=400)
    sizes = pl.read_parquet(made.path).group_by("cluster").len()["len"]
    assert (len(sizes), sizes.min(), sizes.max(), made.cluster_count) == (22, 409, 410, 22)

    made = fleet.hosts(vms, tmp_path / "drawn.parquet", vms_per_host=1, fill=1.0, hosts_per_cluster="measured", seed=2)
    sizes = pl.read_parquet(made.path).group_by("cluster", maintain_order=True).len()["len"].to_list()
    assert sum(sizes) == 9_000
    assert set(sizes[:-1]) <= set(measured().cluster_hosts)
    assert len(set(sizes)) > 5


def test_clusters_that_are_made_are_not_called_like_the_fleets(tmp_path):
    vms = uniform(40, cluster=["eastus-c000", None] * 20)
    made = fleet.hosts(vms, tmp_path / "hosts.parquet", vms_per_host=20)

    assert sorted(pl.read_parquet(made.path)["cluster"].unique()) == ["eastus-c000", "eastus-c001"]
    rows, _ = place(vms, made.path, slots=True)
    assert rows.filter(vms["cluster"].is_not_null())["cluster"].unique().to_list() == ["eastus-c000"]


# --- what is wrong ------------------------------------------------------------------------------------------

ONE = pl.DataFrame({"vm": [1], "region": "eastus"})
HOST = pl.DataFrame({"host": [1], "region": "eastus"})
NAME = "polars.DataFrame"


@pytest.mark.parametrize(
    ("vms", "hosts", "how", "problems"),
    [
        (
            ONE, HOST, {"policy": "alligned", "by": "rack", "host_vcpus": 0.0, "seed": -1},
            [
                "seed: must be a whole number from 0 to 2^64 - 1, got '-1'",
                "policy: must be aligned or random or first-fit or best-fit, got 'alligned'; did you mean 'aligned'?",
                "by: must be update_domain or fault_domain, got 'rack'",
                "host_vcpus: must be above 0 and at most 10^9, got 0",
            ],
        ),
        (
            ONE.rename({"vm": "VM"}), HOST.rename({"host": "server"}), {},
            [
                f"{NAME}: column 'vm' must be there, got 'VM', 'region'; rename 'VM' to 'vm'",
                f"{NAME}: column 'host' must be there, got 'server', 'region'",
            ],
        ),
        (
            ONE, HOST.with_columns(region=pl.lit("eastsu")), {},
            [f"{NAME}: column 'region', row 1: must be a known region, got 'eastsu'; did you mean 'eastus'?"
             "; or list it, with its pair or without, in a file for --pairs (CSV region,paired_region)"],
        ),
        (
            ONE, HOST.with_columns(vcpus=0.0, memory_gib=-2.5), {},
            [
                f"{NAME}: column 'vcpus', row 1: must be above 0, at most 10^9, got 0",
                f"{NAME}: column 'memory_gib', row 1: must be above 0, at most 10^9, got -2.5",
            ],
        ),
        (
            ONE.with_columns(vcpus=float("nan"), memory_gib=-1.0), HOST, {},
            [
                f"{NAME}: column 'vcpus', row 1: must be above 0, at most 10^9, got nan",
                f"{NAME}: column 'memory_gib', row 1: must be 0 or more, at most 10^9, got -1",
            ],
        ),
        (ONE, HOST.head(0), {}, [f"{NAME}: must hold at least one host, got none"]),
        (ONE.head(0), HOST, {}, [f"{NAME}: must hold at least one VM and less than 4,294,967,295, got 0"]),
        (
            ONE,
            pl.DataFrame({"host": [2, 1, 3, 1, 3], "region": ["eastus", "eastus", "westus", "westus", "westus"],
                          "cluster": ["a", "a", "b", "a", "b"], "rack": ["r", "r1", "r", "r2", "r"]}),
            {},
            [
                f"{NAME}: column 'host': must be unique, got '1' in row 2 and row 4, with region 'eastus' and 'westus'"
                " and rack 'r1' and 'r2'",
                f"{NAME}: column 'host': must be unique, got '3' in row 3 and row 5",
            ],
        ),
        (
            ONE.with_columns(host=pl.lit("a"), rack=pl.lit("b")), HOST, {},
            [
                f"{NAME}: column 'host', row 1: must be empty, since hosts are to be placed, got 'a'; drop the column,"
                " or use --replace",
                f"{NAME}: column 'rack', row 1: must be empty, since hosts are to be placed, got 'b'; drop the column,"
                " or use --replace",
            ],
        ),
        (
            pl.concat([ONE, ONE.with_columns(vm=pl.lit(2, pl.Int64), region=pl.lit("westus"))]),
            HOST.with_columns(is_spare=True), {},
            [
                f"{NAME}: must have a host that takes VMs in each region, got none in 'eastus' (1 VMs)",
                f"{NAME}: must have a host that takes VMs in each region, got none in 'westus' (1 VMs)",
            ],
        ),
        (
            ONE.with_columns(zone=pl.lit("1"), cluster=pl.lit("c9")), HOST.with_columns(cluster=pl.lit("c1")), {},
            [f"{NAME}: must have hosts for each zone and cluster of the fleet, got none for 1 VMs, the first of them in"
             " zone '1', cluster 'c9', region 'eastus'; add hosts, or drop 'zone' and 'cluster' from the fleet"],
        ),
        (
            uniform(30), equal_hosts(1, memory_gib=64.0), {"policy": "first-fit"},
            [f"{NAME}: must have room for all VMs, got none for 10 of 30 in region 'eastus', the first of them '20';"
             " they need 10 vCPUs and 0 GiB, free there are 0 vCPUs and 64 GiB, in pieces; add hosts or make them"
             " larger; where hosts count VMs, use --slots"],
        ),
        (
            ONE.with_columns(vcpus=4.0), HOST.with_columns(memory_gib=8.0), {"host_vcpus": 2.5, "policy": "best-fit"},
            [f"{NAME}: must have room for all VMs, got none for 1 of 1 in region 'eastus', the first of them '1'; they"
             " need 4 vCPUs and 0 GiB, free there are 2.5 vCPUs and 8 GiB, in pieces; add hosts or make them larger;"
             " where hosts count VMs, use --slots"],
        ),
        (
            pl.DataFrame({"vm": [1, 2], "region": "eastus", "set": 1, "update_domain": [0, None]}), HOST, {},
            ["set '1' in region 'eastus': column 'update_domain' must be given for all of its 2 VMs or for none, got 1"
             " without, the first of them VM '2'"],
        ),
    ],
)  # fmt: skip
def test_unusable_input_is_told_and_nothing_is_written(tmp_path, vms, hosts, how, problems):
    with pytest.raises(InputError) as caught:
        fleet.place(vms, hosts, tmp_path / "placed.parquet", **how)

    assert caught.value.problems == problems
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("how", "problems"),
    [
        (
            {"vcpus": 0, "memory_gib": 1e10, "fill": 1.5, "spare_ratio": -1, "hosts_per_rack": 0},
            [
                "vcpus: must be above 0 and at most 10^9, got 0",
                "memory_gib: must be above 0 and at most 10^9, got 1e+10",
                "fill: must be above 0 and at most 1, got 1.5",
                "spare_ratio: must be from 0 to 1, got -1",
                "hosts_per_rack: must be a whole number from 1 to 1,000,000, got '0'",
            ],
        ),
        (
            {"vcpus": 2.0, "vms_per_host": 20, "hosts_per_cluster": "measurd"},
            [
                "vcpus: must be left out with vms_per_host, got 2",
                "hosts_per_cluster: must be a whole number from 1 to 1,000,000, or measured, got 'measurd'; did you"
                " mean 'measured'?",
            ],
        ),
        ({"vcpus": 2, "memory_gib": 4}, ["vcpus: must be at least 8, what the largest VM takes, got 2"]),
    ],
)
def test_inventories_that_cannot_be_made_are_refused(tmp_path, how, problems):
    with pytest.raises(InputError) as caught:
        fleet.hosts(ONE.with_columns(vcpus=8.0, memory_gib=2.0), tmp_path / "hosts.parquet", **how)

    assert caught.value.problems == problems
    assert not list(tmp_path.iterdir())


def test_a_broken_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fleetsim.fleet.generating.write_parquet", full)
    with pytest.raises(OSError, match="No space left"):
        fleet.place(uniform(20), equal_hosts(1), tmp_path / "placed")
    assert not list(tmp_path.iterdir())


def test_the_commands_make_what_the_library_makes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fleet.generate("f.parquet", 400, ["eastus", "westus"])
    options = ["--vms-per-host", "20", "--fill", "1", "--hosts-per-cluster", "7", "--json"]
    done = CliRunner().invoke(cli, ["fleet", "hosts", "f.parquet", "-o", "h.parquet", *options])
    there = fleet.hosts("f.parquet", "i.parquet", vms_per_host=20, fill=1.0, hosts_per_cluster=7)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {**there.to_dict(), "hosts": "h.parquet"}
    assert Path("h.parquet").read_bytes() == Path("i.parquet").read_bytes()

    for policy in POLICIES:
        options = ["--slots", "--policy", policy, "--seed", "5", "-o", f"{policy}.parquet", "--json"]
        done = CliRunner().invoke(cli, ["fleet", "place", "f.parquet", "--hosts", "h.parquet", *options])
        how = {"policy": policy, "seed": 5, "slots": True}
        there = fleet.place("f.parquet", "h.parquet", f"{policy}-there.parquet", **how)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout) == {**there.to_dict(), "fleet": f"{policy}.parquet"}
        assert Path(f"{policy}.parquet").read_bytes() == there.path.read_bytes()


def test_a_command_that_finds_no_room_exits_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    uniform(30).write_parquet("f.parquet")
    equal_hosts(1).write_csv("h.csv")

    assert answer(["fleet", "place", "f.parquet", "--hosts", "h.csv", "-o", "p.parquet"]) == 2
    assert "fleetsim: h.csv: must have room for all VMs, got none for 10 of 30" in capsys.readouterr().err
    assert not Path("p.parquet").exists()


ROOM = {
    "host": ["h1", "h2", "h3"],
    "region": ["westus", "eastus", "westus"],
    "vcpus": [4.0, None, 9.0],
    "memory_gib": [None, 8.0, 9.0],
    "cluster": [None, "b", None],
    "rack": ["q", "s", None],
    "is_spare": [False, False, True],
}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"host": ["h1", "h1", "h2"]}, []),
        ({"host": ["h1", None, None]}, []),
        (
            {"host": ["h1", "h1", "h2"], "vcpus": [3.0, 1.5, 99.0]},
            ["the VMs of a host must fit on it, got 2 that take 4.5 vCPUs on host 'h1', which pyarrow.Table gives 4"],
        ),
        (
            {"host": ["h1", "h1", "h2"], "memory_gib": [99.0, 0.0, 8.5]},
            ["got 1 that take 8.5 GiB on host 'h2', which pyarrow.Table gives 8"],
        ),
        ({"host": ["h1", "H2", "h2"]}, ["must be of the hosts in pyarrow.Table, got 'H2'; did you mean 'h2'?"]),
        ({"host": ["h1", "h2", "h2"]}, ["a host must be in one region, got 'h2' in 'westus', and in 'eastus' in"]),
        (
            {"host": ["h1", "h1", "h2"], "cluster": ["a", "a", "x"], "rack": ["q", None, "s"]},
            ["a host must be in one cluster, got 'h2' in 'x', and in 'b' in pyarrow.Table"],
        ),
        ({"host": [1, 1, 2]}, ["column 'host' must be as in pyarrow.Table, text, got whole numbers"]),
        ({"host": ["h3", None, "h2"]}, ["a spare host must have no VM, got 1 on host 'h3'"]),
        ({"host": pa.nulls(3, pa.string())}, ["column 'host' must name hosts of pyarrow.Table, got none"]),
        ({}, ["column 'host' must be there to be compared with pyarrow.Table, got none"]),
    ],
)
def test_vms_that_do_not_fit_on_their_hosts_are_told(columns, expected):
    fleet = pa.table({"vm": [1, 2, 3], "region": ["westus", "westus", "eastus"], **columns})
    try:
        fits(fleet, pa.table(ROOM))
        problems = []
    except InputError as error:
        problems = error.problems

    assert len(problems) == len(expected), problems
    for fragment, problem in zip(expected, problems, strict=True):
        assert fragment in problem


@pytest.mark.parametrize("make", ["place", "hosts"])
def test_what_is_written_as_parquet_is_not_named_otherwise(tmp_path, make):
    vms = pa.table({"vm": [1], "region": ["eastus"]})
    given = (vms, pa.table({"host": [1], "region": ["eastus"]})) if make == "place" else (vms,)
    with pytest.raises(InputError, match=r"x\.csv: must end in \.parquet, or be a folder"):
        getattr(fleet, make)(*given, tmp_path / "x.csv")
    assert list(tmp_path.iterdir()) == []
