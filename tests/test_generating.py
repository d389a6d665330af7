"""Generated fleets, plain and realistic, and what `describe` says of them and of any other fleet.

Distributions are tested in tests/statistical; here is what must hold of every row, and of every number told.
"""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from click.testing import CliRunner
from rich.console import Console

from fleetsim import fleet
from fleetsim.cli import cli
from fleetsim.errors import InputError
from fleetsim.fleet import describing, realistic
from fleetsim.fleet.describing import Distribution
from fleetsim.fleet.generating import START_DEFAULT
from fleetsim.regions import zoned_regions
from fleetsim.sizes import family_of

# A pair, a region with zones and no pair here, one without zones, one that is none.
REGIONS = ["northeurope", "westeurope", "eastus", "westindia"]
VM_COUNT = 40_000
START = datetime.fromisoformat(START_DEFAULT)


def rows_of(path):
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    return pl.concat(pl.read_parquet(file).cast({pl.Categorical: pl.String}) for file in files).sort("vm")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return fleet.generate(tmp_path_factory.mktemp("mixed") / "fleet", VM_COUNT, REGIONS, mix="azure-2017", seed=3)


@pytest.fixture(scope="module")
def rows(made):
    return rows_of(made.path)


@pytest.fixture(scope="module")
def living(tmp_path_factory):
    out = tmp_path_factory.mktemp("living") / "fleet.parquet"
    return fleet.generate(out, VM_COUNT, REGIONS, mix="azure-2017", lifetimes=True, days=10, seed=3)


@pytest.fixture(scope="module")
def sets(rows):
    return rows.filter(pl.col("set").is_not_null()).group_by("set").agg(pl.all().sort_by("vm"), pl.len().alias("vms"))


# --- realistic fleets ---------------------------------------------------------------------------------------


def test_a_realistic_fleet_has_the_vms_asked_for_in_regions_by_zipf(made, rows):
    assert rows["vm"].to_list() == list(range(VM_COUNT))
    assert made.vm_count_by_region == {"northeurope": 19_200, "westeurope": 9_600, "eastus": 6_400, "westindia": 4_800}
    assert dict(Counter(rows["region"])) == made.vm_count_by_region
    assert rows["set"].n_unique() - 1 == made.set_count
    assert rows.select(pl.col("region").rle_id().max()).item() == len(REGIONS) - 1


def test_singles_have_nothing_of_sets_and_all_have_the_rest(rows):
    of_sets = ("set", "set_kind", "update_domain", "fault_domain")
    singles = rows.filter(pl.col("set").is_null())

    assert len(singles) > 0
    assert all(singles[name].null_count() == len(singles) for name in of_sets)
    assert all(
        rows[name].null_count() == (len(singles) if name in of_sets else 0) for name in rows.columns if name != "zone"
    )
    is_zoned = pl.col("region").is_in(list(zoned_regions()))
    assert rows.filter(pl.col("zone").is_null() == is_zoned).is_empty()
    assert rows.filter(is_zoned)["zone"].unique().sort().to_list() == ["1", "2", "3"]


def test_a_set_is_a_run_of_vms_called_as_the_first_and_in_one_place(sets):
    assert (sets["set"] == sets["vm"].list.first()).all()
    assert (sets["vm"].list.last() - sets["vm"].list.first() + 1 == sets["vms"]).all()
    for name in ("region", "set_kind", "zone", "cluster", "workload", "application", "subscription"):
        assert sets[name].list.n_unique().max() == 1, name


def test_kinds_of_sets_follow_their_sizes(sets):
    assert sets["vms"].min() == 2
    assert 20 < sets["vms"].max() <= 1000
    is_scale_set = sets["set_kind"].list.first() == "scale_set"
    assert (is_scale_set == (sets["vms"] >= 20)).all()


def test_domains_are_dealt_round_robin(sets):
    counts = Counter()
    for kind, vms, update_domains, fault_domains in sets.select(
        pl.col("set_kind").list.first(), "vms", "update_domain", "fault_domain"
    ).iter_rows():
        fits = [
            n for n in ((5,) if kind == "scale_set" else (2, 5, 20)) if [i % n for i in range(vms)] == update_domains
        ]
        assert fits, (kind, vms)
        counts[fits[0] if len(fits) == 1 else "any"] += 1
        assert fault_domains == [i % (5 if kind == "scale_set" else 3) for i in range(vms)]
    assert min(counts[2], counts[5], counts[20]) > 0


def test_sizes_are_of_the_catalogue_with_what_they_have(rows):
    of_sizes = {tuple(row) for row in rows.select("size", "vcpus", "memory_gib").unique().iter_rows()}

    assert of_sizes <= {(name, *shape) for shape, name in realistic.SIZE_NAMES.items()}
    assert set(realistic.SIZE_NAMES) == set(realistic.measured().size_counts)
    assert all(family_of(name) for name in realistic.SIZE_NAMES.values())


def test_clusters_are_of_one_zone_and_their_region(rows):
    clusters = rows.group_by("cluster").agg(pl.col("zone", "region").n_unique(), pl.col("region").first().alias("of"))

    assert clusters["zone"].max() == clusters["region"].max() == 1
    assert all(cluster.startswith(f"{region}-c") for cluster, region in clusters.select("cluster", "of").iter_rows())


def test_applications_are_of_one_subscription_and_some_are_in_both_regions_of_a_pair(rows):
    applications = rows.group_by("application").agg(
        pl.col("subscription").n_unique(), pl.col("region").unique(), pl.col("workload").unique()
    )
    assert applications["subscription"].max() == 1
    spanning = applications.filter(pl.col("region").list.len() > 1)
    assert len(spanning) > 0
    assert {tuple(sorted(regions)) for regions in spanning["region"]} == {("northeurope", "westeurope")}
    tiers = [set(tiers) for tiers in realistic.APPLICATION_KINDS]
    assert all(any(set(found) <= each for each in tiers) for found in applications["workload"])
    assert any({"web", "api", "database"} == set(found) for found in applications["workload"])


def test_tiers_take_turns_over_the_deployments_of_an_application(rows):
    deployments = rows.group_by(pl.coalesce("set", "vm").alias("first")).agg(
        pl.col("region", "application", "workload").first()
    )
    for (_,), own in deployments.sort("first").group_by(["application"], maintain_order=True):
        for (_,), here in own.group_by(["region"], maintain_order=True):
            found = here["workload"].to_list()
            assert any(
                found == [tiers[place % len(tiers)] for place in range(len(found))]
                for tiers in realistic.APPLICATION_KINDS
            )


@pytest.mark.parametrize("subscriptions", [1, 7, 1 << 20])
def test_rows_do_not_depend_on_parts_or_form(tmp_path, monkeypatch, living, subscriptions):
    monkeypatch.setattr(realistic, "_PART_SUBSCRIPTIONS", subscriptions)
    again = fleet.generate(tmp_path / "fleet", VM_COUNT, REGIONS, mix="azure-2017", lifetimes=True, days=10, seed=3)
    assert rows_of(again.path).equals(rows_of(living.path))
    assert again.set_count == living.set_count


def test_equal_arguments_give_equal_bytes_and_other_seeds_other_fleets(tmp_path, rows):
    one, two, other = (tmp_path / f"{name}.parquet" for name in ("one", "two", "other"))
    for path, seed in ((one, 3), (two, 3), (other, 4)):
        fleet.generate(path, 3_000, REGIONS, mix="azure-2017", seed=seed)

    assert one.read_bytes() == two.read_bytes()
    for name in ("set", "size", "cluster", "workload"):
        assert not rows_of(one)[name].equals(rows_of(other)[name], null_equal=True), name


def test_a_region_is_what_it_is_whatever_the_others(tmp_path, rows):
    """But for its pair: here eastus is third of four, there first of two with as many VMs."""
    fleet.generate(tmp_path / "fleet", 9_600, ["eastus", "westindia"], mix="azure-2017", seed=3)
    there = rows_of(tmp_path / "fleet").filter(pl.col("region") == "eastus")
    here = rows.filter(pl.col("region") == "eastus")

    shift = here["vm"].min()
    assert here.with_columns(pl.col("vm", "set") - shift).equals(there)


def test_a_smaller_fleet_is_the_beginning_of_a_larger_one(tmp_path, rows):
    """Of one region; but for clusters, which are as many as the fleet needs, and for the deployment that is cut."""
    fleet.generate(tmp_path / "fleet", 1_500, ["eastus"], mix="azure-2017", seed=3)
    small = rows_of(tmp_path / "fleet")
    large = rows.filter(pl.col("region") == "eastus").with_columns(pl.col("vm", "set") - 28_800)
    whole = small.filter(pl.coalesce("set", "vm") < pl.coalesce("set", "vm").max()).drop("cluster", "zone")

    assert len(whole) > 1_000
    assert whole.equals(large.head(len(whole)).drop("cluster", "zone"))


@pytest.mark.parametrize("vm_count", [1, 2, 3, 19, 20, 21, 150])
@pytest.mark.parametrize("regions", [["eastus"], REGIONS])
def test_small_fleets_are_cut_and_usable(tmp_path, vm_count, regions):
    for seed in range(4):
        out = tmp_path / f"{seed}.parquet"
        made = fleet.generate(out, vm_count, regions, mix="azure-2017", lifetimes=True, seed=seed)
        found = fleet.check(out)
        sizes = (
            rows_of(out).filter(pl.col("set").is_not_null()).group_by("set").agg(pl.len(), pl.col("set_kind").first())
        )

        assert found.vm_count == vm_count == sum(made.vm_count_by_region.values())
        assert found.single_count == vm_count - sizes["len"].sum()
        assert sizes.filter((pl.col("set_kind") == "scale_set") != (pl.col("len") >= 20)).is_empty()
        assert sizes["len"].min() is None or sizes["len"].min() > 1


def test_a_large_first_deployment_is_cut_to_the_fleet(tmp_path):
    """Of these seeds some begin with a deployment larger than the fleet."""
    whole = 0
    for seed in range(40):
        fleet.generate(tmp_path / f"{seed}.parquet", 5, ["eastus"], mix="azure-2017", seed=seed)
        whole += rows_of(tmp_path / f"{seed}.parquet")["set"].to_list() == [0] * 5
    assert whole > 0


def test_a_realistic_fleet_passes_check_as_it_was_made(made, living, rows):
    found, alive = fleet.check(made.path), fleet.check(living.path)

    assert found.vm_count_by_region == made.vm_count_by_region
    assert found.single_count == rows["set"].null_count()
    assert found.warnings == alive.warnings == ()
    assert found.invented == made.invented
    assert alive.invented == living.invented
    assert len(alive.invented) == len(found.invented) + 1


def test_every_public_region_is_the_default(tmp_path):
    made = fleet.generate(tmp_path / "fleet", 5_000, mix="azure-2017")
    counts = list(made.vm_count_by_region.values())

    assert len(counts) > 50
    assert list(made.vm_count_by_region)[:2] == ["eastus", "westus"]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == 5_000
    assert f"{len(counts) - 10} more: {sum(counts[10:]):,}" in shown(made)


# --- lifetimes ----------------------------------------------------------------------------------------------


def test_vms_come_and_go_within_the_days_asked_for(living):
    rows = rows_of(living.path)
    end = START + timedelta(days=10)

    assert rows.drop("created", "deleted").columns == list(realistic._COLUMNS)
    assert START <= rows["created"].min() < START + timedelta(hours=1)
    assert end - timedelta(hours=1) < rows["created"].max() < end
    assert rows["deleted"].min() > START
    assert end - timedelta(hours=1) < rows["deleted"].max() < end
    assert rows.filter(pl.col("deleted") <= pl.col("created")).is_empty()
    together = rows.group_by(pl.coalesce("set", "vm")).agg(pl.col("created").n_unique(), pl.col("deleted").n_unique())
    assert together["created"].max() == 1
    assert together["deleted"].max() > 1


def test_lifetimes_change_nothing_else(living, rows):
    assert rows_of(living.path).drop("created", "deleted").equals(rows)


def test_the_start_is_an_instant_in_any_zone(tmp_path):
    text, instant = tmp_path / "text.parquet", tmp_path / "instant.parquet"
    how = {"vms": 500, "regions": REGIONS, "mix": "azure-2017", "lifetimes": True, "days": 1}
    fleet.generate(text, start="2027-03-01T01:00:00+01:00", **how)
    fleet.generate(instant, start=datetime(2027, 3, 1, tzinfo=UTC), **how)

    assert text.read_bytes() == instant.read_bytes()
    assert datetime(2027, 3, 1, tzinfo=UTC) <= rows_of(text)["created"].min()
    assert rows_of(text)["created"].max() < datetime(2027, 3, 2, tzinfo=UTC)


# --- arguments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        ({"mix": "azure-2018"}, ["mix: must be plain or azure-2017, got 'azure-2018'; did you mean 'azure-2017'?"]),
        (
            {"mix": "azure-2017", "set_size": 20, "update_domains": 5},
            [
                "set_size: must be left out with mix 'azure-2017', which has sets as measured, got '20'",
                "update_domains: must be left out with mix 'azure-2017', which has sets as measured, got '5'",
            ],
        ),
        (
            {"lifetimes": True},
            ["lifetimes: must be left out with mix 'plain', whose VMs are there throughout; use 'azure-2017'"],
        ),
        (
            {"mix": "azure-2017", "days": 3, "start": "2026-12-01T00:00:00Z"},
            [
                "days: must be left out without lifetimes, got '3'",
                "start: must be left out without lifetimes, got '2026-12-01T00:00:00Z'",
            ],
        ),
        (
            {"mix": "azure-2017", "lifetimes": True, "days": 0, "start": "tomorrow"},
            [
                "start: must be an instant with a zone in whole milliseconds of the years 1900 to 9998,"
                " as 2026-12-01T00:00:00Z, got 'tomorrow'",
                "days: must be a whole number from 1 to 3,650, got '0'",
            ],
        ),
    ],
)
def test_unusable_arguments_are_told_and_nothing_is_written(tmp_path, arguments, problems):
    with pytest.raises(InputError) as caught:
        fleet.generate(tmp_path / "out", 10, **arguments)

    assert caught.value.problems == problems
    assert not list(tmp_path.iterdir())


def test_a_broken_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fleetsim.fleet.generating.write_parquet", full)
    with pytest.raises(OSError, match="No space left"):
        fleet.generate(tmp_path / "out", 1_000, REGIONS, mix="azure-2017")
    assert not list(tmp_path.iterdir())


def test_the_command_makes_what_the_library_makes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--vms", "800", "--regions", "eastus, westus", "--mix", "azure-2017", "--lifetimes", "--days", "2"]
    done = CliRunner().invoke(cli, ["fleet", "generate", "-o", "f.parquet", *options, "--seed", "5", "--json"])
    there = fleet.generate("g.parquet", 800, ["eastus", "westus"], mix="azure-2017", lifetimes=True, days=2, seed=5)

    assert done.exit_code == 0, done.output
    assert (tmp_path / "f.parquet").read_bytes() == there.path.read_bytes()
    assert json.loads(done.stdout) == {**there.to_dict(), "fleet": "f.parquet"}


# --- describe -----------------------------------------------------------------------------------------------


def distribution(sizes):
    """What Distribution says of the polars series *sizes*, by counting."""
    ordered = sorted(sizes)
    if not ordered:
        return None
    at = [ordered[max(0, -(-percent * len(ordered) // 100) - 1)] for percent in (50, 90, 99)]
    return Distribution(len(ordered), sum(ordered) / len(ordered), *at, ordered[-1])


def counts_of(rows, name):
    return dict(Counter(rows[name].drop_nulls()))


def expected_of(rows):
    in_sets = rows.filter(pl.col("set").is_not_null())
    sets = in_sets.group_by("region", "set").agg(
        pl.len(),
        pl.col("set_kind", "application").first(),
        pl.col("update_domain", "fault_domain").n_unique(),
    )

    def sizes(names):
        return rows.filter(pl.col(names[0]).is_not_null()).group_by(names).len()["len"]

    return {
        "groups": {
            "sets": distribution(sets["len"]),
            "availability_sets": distribution(sets.filter(pl.col("set_kind") == "availability_set")["len"]),
            "scale_sets": distribution(sets.filter(pl.col("set_kind") == "scale_set")["len"]),
            "applications": distribution(sizes(["application"])),
            "application_sets": distribution(sets.drop_nulls("application").group_by("application").len()["len"]),
            "subscriptions": distribution(sizes(["subscription"])),
            "clusters": distribution(sizes(["cluster", "region"])),
        },
        "counts": {
            "regions": counts_of(rows, "region"),
            "sizes": counts_of(rows, "size"),
            "workloads": counts_of(rows, "workload"),
            "zones": counts_of(rows, "zone"),
            "families": dict(Counter(family_of(size) for size in rows["size"])),
            "kinds": {"none": rows["set"].null_count(), **counts_of(rows, "set_kind")},
            "update_domains": {str(n): count for n, count in sorted(Counter(sets["update_domain"]).items())},
            "fault_domains": {str(n): count for n, count in sorted(Counter(sets["fault_domain"]).items())},
        },
        "regions_of_applications": dict(
            sorted(
                Counter(
                    rows.drop_nulls("application").group_by("application").agg(pl.col("region").n_unique())["region"]
                ).items()
            )
        ),
        "vcpus": rows["vcpus"].sum(),
        "memory_gib": rows["memory_gib"].sum(),
        "null_counts": {name: rows[name].null_count() for name in rows.columns},
    }


def found_of(description):
    return {
        "groups": description.groups,
        "counts": {name: dict(shares.counts) for name, shares in description.shares.items() if name != "deployments"},
        "regions_of_applications": description.regions_of_applications,
        "vcpus": description.vcpus,
        "memory_gib": description.memory_gib,
        "null_counts": description.null_counts,
    }


def test_describe_counts_what_is_there(made, rows):
    found = fleet.describe(made.path)

    assert found.vm_count == VM_COUNT
    assert found.single_count == rows["set"].null_count()
    assert found.one_vm_set_count == 0
    assert found.cannot_freeze_count == 0
    assert found_of(found) == expected_of(rows)
    assert found.invented == made.invented
    assert found.present_count is None
    assert list(found.shares["regions"].counts.values()) == sorted(Counter(rows["region"]).values(), reverse=True)


def test_describe_bins_deployments_by_vms(made, rows):
    found = fleet.describe(made.path).shares["deployments"]
    sizes = Counter(rows.group_by(pl.coalesce("set", "vm")).len()["len"])
    bounds = {"1": (1, 1), "2": (2, 2), "3-4": (3, 4), "5-9": (5, 9), "10-19": (10, 19), "20-49": (20, 49)}
    bounds |= {"50-99": (50, 99), "100-199": (100, 199), "200-499": (200, 499), "500+": (500, 1000)}
    expected = {
        name: sum(count for size, count in sizes.items() if low <= size <= high) for name, (low, high) in bounds.items()
    }

    assert dict(found.counts) == {name: count for name, count in expected.items() if count}
    assert found.total == sum(sizes.values())
    assert sum(found.asked.values()) == pytest.approx(1)
    assert list(found.asked) == list(bounds)


@pytest.mark.parametrize("form", ["polars", "shuffled", "csv", "file"])
def test_describe_is_the_same_in_any_form_and_order(tmp_path, made, rows, form):
    given = rows
    if form == "shuffled":
        given = rows.sample(fraction=1.0, shuffle=True, seed=1)
    elif form == "csv":
        given = tmp_path / "fleet.csv"
        rows.write_csv(given)
    elif form == "file":
        given = tmp_path / "fleet.parquet"
        rows.write_parquet(given)
    found = fleet.describe(given)

    assert found_of(found) == found_of(fleet.describe(made.path))
    assert found.asked == {}
    assert found.invented == ()


@pytest.mark.parametrize(("held_rows", "spill_count"), [(500, 20), (5_000, 3)])
def test_describe_needs_no_more_memory_for_more_groups(monkeypatch, rows, held_rows, spill_count):
    shuffled = rows.sample(fraction=1.0, shuffle=True, seed=1)
    spilled = []
    spill = describing._Tally._spill
    monkeypatch.setattr(describing, "_HELD_ROWS", held_rows)
    monkeypatch.setattr("fleetsim.fleet.read.BATCH_ROWS", 3_000)
    monkeypatch.setattr(describing._Tally, "_spill", lambda self, held: (spilled.append(len(held)), spill(self, held)))

    assert found_of(fleet.describe(shuffled)) == expected_of(rows)
    assert len(spilled) >= spill_count


def test_describe_of_a_prepared_fleet_is_that_of_its_sets(tmp_path, made, rows):
    prepared = fleet.prepare(made.path, tmp_path / "prepared")
    found = fleet.describe(prepared.path)

    assert found.groups["sets"].count == prepared.set_count
    assert found.groups["scale_sets"].max == 100  # placement groups
    assert found.single_count == prepared.single_count == rows["set"].null_count()
    assert found.invented == made.invented
    assert found_of(found)["counts"]["regions"] == counts_of(rows, "region")


def test_describe_of_the_least_a_fleet_can_be():
    found = fleet.describe(pl.DataFrame({"vm": [1, 2], "region": ["eastus", "westus"]}))

    assert (found.vm_count, found.single_count, found.vcpus, found.cannot_freeze_count) == (2, 2, None, None)
    assert all(group is None for group in found.groups.values())
    assert {name for name, shares in found.shares.items() if shares.counts} == {"regions", "kinds", "deployments"}
    assert found.shares["regions"].to_dict() == {
        "eastus": {"count": 1, "ratio": 0.5},
        "westus": {"count": 1, "ratio": 0.5},
    }
    assert shown(found)


def test_describe_of_an_odd_fleet():
    """Sets and clusters of one name in two regions, of one VM, without kind; unknown sizes, nulls, other columns."""
    odd = pl.DataFrame(
        {
            "vm": ["a", "b", "c", "d", "e"],
            "region": ["eastus", "eastus", "westus", "westus", "westus"],
            "set": ["s", "s", "s", None, None],
            "set_kind": [None, "scale_set", None, None, "scale_set"],
            "update_domain": [0, 0, 4, 1, None],
            "size": ["Standard_M64s", "Standard_D2s_v3", "mine", None, "Standard_M64s"],
            "application": ["x", "x", "x", None, "y"],
            "cluster": ["c", "c", "c", None, "c"],
            "team": [1, 2, None, None, None],
        }
    )
    found = fleet.describe(odd)

    assert found.groups["sets"] == Distribution(2, 1.5, 1, 2, 2, 2)
    assert found.groups["scale_sets"] == Distribution(1, 2, 2, 2, 2, 2)
    assert found.groups["availability_sets"] == Distribution(1, 1, 1, 1, 1, 1)
    assert found.one_vm_set_count == 1
    assert found.cannot_freeze_count == 2
    assert dict(found.shares["families"].counts) == {"M": 2, "Dsv3": 1, "unknown": 1}
    assert dict(found.shares["update_domains"].counts) == {"1": 2}
    assert dict(found.shares["kinds"].counts) == {"none": 2, "availability_set": 1, "scale_set": 2}
    assert found.regions_of_applications == {1: 1, 2: 1}
    assert found.groups["application_sets"] == Distribution(1, 2, 2, 2, 2, 2)
    assert found.groups["clusters"] == Distribution(2, 2, 2, 2, 2, 2)
    assert found.null_counts["team"] == 3


def test_describe_counts_lives_by_day(living):
    rows = rows_of(living.path)
    found = fleet.describe(living.path)

    assert found.present_count == rows["created"].null_count()
    for name, counts in (("created", found.created_by_day), ("deleted", found.deleted_by_day)):
        expected = Counter(str(instant.date()) for instant in rows[name].drop_nulls())
        assert counts == dict(sorted(expected.items()))
    assert list(found.created_by_day) == [f"2026-12-{day:02}" for day in range(1, 11)]
    assert found.asked["present_ratio"] == pytest.approx(51.84 / (51.84 + 240), rel=1e-3)


def shown(found, width=80):
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        found.render(console)
    return captured.get()


@pytest.mark.parametrize("which", ["made", "living"])
def test_describe_is_shown_within_eighty_columns(request, which):
    made = request.getfixturevalue(which)
    lines = shown(fleet.describe(made.path)).splitlines()

    assert max(map(len, lines)) <= 80
    assert any(line.startswith("VMs") and "40,000 in 4 regions" in line for line in lines)
    assert any(line.split()[:6] == ["northeurope", "19,200", "48.0", "%", "48.0", "%"] for line in lines)
    assert any("created" in line and "at most" in line for line in lines) == (which == "living")


def test_rows_not_shown_are_summed(tmp_path):
    made = fleet.generate(tmp_path / "fleet", 2_000, mix="azure-2017")
    lines = shown(fleet.describe(made.path)).splitlines()
    (others,) = [line.split() for line in lines if line.startswith(f"{len(made.vm_count_by_region) - 10} more")]

    left = sum(sorted(made.vm_count_by_region.values())[:-10])
    assert others[2:4] == [f"{left:,}", f"{left / 20:.1f}"]


def test_unusable_fleets_are_not_described():
    with pytest.raises(InputError, match="must be a known region, got 'eastsu'; did you mean 'eastus'"):
        fleet.describe(pl.DataFrame({"vm": [1], "region": ["eastsu"]}))


def test_the_command_says_what_the_library_says(made):
    done = CliRunner().invoke(cli, ["fleet", "describe", str(made.path), "--json"])

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(json.dumps(fleet.describe(made.path).to_dict()))


def test_distributions_are_by_nearest_rank():
    assert Distribution.of({}) is None
    assert Distribution.of({7: 1}) == Distribution(1, 7, 7, 7, 7, 7)
    assert Distribution.of({1: 50, 2: 40, 3: 9, 9: 1}) == Distribution(100, 1.66, 1, 2, 3, 9)
    assert Distribution.of({3: 10, 1: 51, 2: 39}) == Distribution(100, 1.59, 1, 2, 3, 3)
