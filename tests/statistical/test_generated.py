"""Realistic fleets against what they are made from: the trace, the sources cited, and the shares that are made up.

Bounds are those of the chi-squared and Kolmogorov-Smirnov tests, or of five standard deviations; seeds are fixed, so
a test either always passes or tells of a change. VMs of a deployment are alike: what is counted are deployments.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fleetsim import fleet
from fleetsim.fleet import realistic
from fleetsim.fleet.describing import DEPLOYMENT_STEPS, Distribution

KS_BOUND = 1.95  # sqrt(n) * D, at 0.001
# A region without a pair here, so that numbers of subscriptions run from 0; and two that are one.
REGIONS = ["eastus", "northeurope", "westeurope"]
VM_COUNT = 550_000
DAYS = 30


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    out = tmp_path_factory.mktemp("generated") / "fleet.parquet"
    fleet.generate(out, VM_COUNT, REGIONS, mix="azure-2017", lifetimes=True, days=DAYS, seed=11)
    return pl.read_parquet(out).cast({pl.Categorical: pl.String})


@pytest.fixture(scope="module")
def deployments(rows):
    """A row each, but for the last of each region, which may be cut."""
    first = pl.coalesce("set", "vm").alias("first")
    found = rows.group_by(first).agg(
        pl.col("region", "application", "subscription", "size", "cluster", "created", "update_domain").first(),
        pl.len().alias("vms"),
        pl.col("size").n_unique().alias("size_count"),
        pl.col("update_domain").n_unique().alias("domain_count"),
    )
    return found.sort("first").filter(pl.col("first") != pl.col("first").max().over("region"))


@pytest.fixture(scope="module")
def whole(deployments):
    """Deployments of eastus, of subscriptions that are there whole."""
    number = pl.col("subscription").str.extract(r"-(\d+)$").cast(pl.Int64)
    own = deployments.filter(pl.col("region") == "eastus").with_columns(number=number)
    return own.filter(pl.col("number") < pl.col("number").max())


def assert_drawn(counts, ratios):
    """Pearson's chi-squared at 0.001, by the approximation of Wilson and Hilferty; rare ones are taken together."""
    total = sum(counts.values())
    rare = [name for name in ratios if total * ratios[name] < 8]
    expected = {name: total * ratio for name, ratio in ratios.items() if name not in rare}
    found = {name: counts.get(name, 0) for name in expected}
    if rare and (rest := total - sum(expected.values())) >= 8:
        expected["rare"], found["rare"] = rest, total - sum(found.values())
    freedom = len(expected) - 1
    statistic = sum((found[name] - expected[name]) ** 2 / expected[name] for name in expected)
    bound = freedom * (1 - 2 / (9 * freedom) + 3.09 * np.sqrt(2 / (9 * freedom))) ** 3
    assert freedom > 0
    assert statistic < bound, (statistic, bound, found, expected)


def assert_ratio(count, total, ratio):
    assert abs(count - total * ratio) < 5 * np.sqrt(total * ratio * (1 - ratio)), (count / total, float(ratio))


def ratios_of(weights):
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def test_the_trace_says_what_is_cited_of_it():
    facts = realistic.measured()
    sizes = ratios_of(facts.size_counts)
    deployed = ratios_of(facts.deployment_counts)
    found = Distribution.of(facts.deployment_counts)

    assert sum(facts.size_counts.values()) == 1_870_433
    assert [round(100 * sizes[shape], 2) for shape in ((1, 1.75), (2, 3.5), (4, 7), (8, 14), (8, 56), (1, 0.75))] == [
        *(47.70, 24.85, 10.88, 10.56, 3.85, 2.06)
    ]
    assert [round(100 * deployed[size], 1) for size in range(1, 11)] == [
        57.2,
        18.1,
        6.5,
        4.1,
        2.4,
        1.5,
        1.2,
        1.0,
        0.8,
        0.8,
    ]
    assert (found.count, found.p90, found.p99, found.max) == (452_901, 7, 46, 1404)
    assert (np.argmin(facts.hour_counts), np.argmax(facts.hour_counts)) == (3, 14)
    assert (len(facts.cluster_hosts), min(facts.cluster_hosts), max(facts.cluster_hosts)) == (36, 118, 917)
    assert float(realistic.ONE_SIZE_RATIO) == 0.82
    assert round(realistic.LIFETIME_MEAN_MS / 3_600_000, 1) == 51.8


def test_shapes_that_are_made_up_have_the_means_that_are_measured():
    applications = realistic._mean(realistic._heavy(realistic.APPLICATION_COUNT_MAX))
    per_application = realistic._mean(realistic._heavy(realistic.DEPLOYMENT_COUNT_MAX))
    vms = Distribution.of(realistic.measured().deployment_counts).mean

    assert float(applications / realistic.APPLICATION_COUNT_MEAN) == pytest.approx(1, abs=0.01)
    assert float(per_application) * vms == pytest.approx(float(realistic.APPLICATION_VMS_MEAN), rel=0.01)


def test_sizes_of_deployments_are_those_of_the_trace(deployments):
    counts, ratios = Counter(), Counter()
    bins = np.array(DEPLOYMENT_STEPS)
    for vms, ratio in ratios_of(realistic.measured().deployment_counts).items():
        ratios[int(np.searchsorted(bins, vms, side="right"))] += ratio
    counts.update(np.searchsorted(bins, deployments["vms"].to_numpy(), side="right").tolist())

    assert_drawn(counts, ratios)
    assert_drawn(
        Counter(deployments.filter(pl.col("vms") < 20)["vms"]),
        ratios_of({vms: count for vms, count in realistic.measured().deployment_counts.items() if vms < 20}),
    )


def test_sizes_of_vms_are_those_of_the_trace(deployments):
    ratios = ratios_of(
        {realistic.SIZE_NAMES[shape]: count for shape, count in realistic.measured().size_counts.items()}
    )

    assert_drawn(Counter(deployments["size"]), ratios)


def test_sets_of_one_size_are_as_many_as_in_the_trace(deployments):
    sets = deployments.filter(pl.col("vms") > 1)

    assert_ratio((sets["size_count"] == 1).sum(), len(sets), float(realistic.ONE_SIZE_RATIO))


def test_vms_with_a_size_each_have_those_of_the_trace(rows, deployments):
    """Of deployments of 30 and more: of smaller ones only those that happen to have two sizes would be seen."""
    mixed = deployments.filter((pl.col("size_count") > 1) & (pl.col("vms") >= 30))["first"]
    drawn = rows.filter(pl.col("set").is_in(mixed.implode()))
    ratios = ratios_of(
        {realistic.SIZE_NAMES[shape]: count for shape, count in realistic.measured().size_counts.items()}
    )

    assert len(drawn) > 10_000
    assert_drawn(Counter(drawn["size"]), ratios)


def test_applications_and_deployments_fall_by_the_power_asked_for(whole):
    of_applications = whole.group_by("subscription").agg(pl.col("application").n_unique())["application"]
    of_deployments = whole.group_by("application").len()["len"]

    for found, largest in (
        (of_applications, realistic.APPLICATION_COUNT_MAX),
        (of_deployments, realistic.DEPLOYMENT_COUNT_MAX),
    ):
        assert_drawn(Counter(found), ratios_of(dict(enumerate(realistic._heavy(largest), 1))))


def test_kinds_of_applications_are_as_asked_for(rows, whole):
    """Told apart by the workloads of applications with enough deployments to show all tiers."""
    enough = whole.group_by("application").len().filter(pl.col("len") >= 3)["application"]
    kinds = (
        rows.filter(pl.col("application").is_in(enough.implode()))
        .group_by("application")
        .agg(pl.col("workload").unique())
    )
    counts = Counter(tuple(sorted(found)) for found in kinds["workload"])

    assert_drawn(counts, {tuple(sorted(tiers)): float(ratio) for tiers, ratio in realistic.APPLICATION_KINDS.items()})


def test_update_domains_are_as_many_as_asked_for(deployments):
    """Of sets that are large enough to show how many they have."""
    sets = deployments.filter(pl.col("vms").is_between(6, 19))
    counts = Counter(count if count in (2, 5) else 20 for count in sets["domain_count"])

    assert_drawn(counts, {count: float(ratio) for count, ratio in realistic.UPDATE_DOMAIN_RATIOS.items()})


def test_clusters_get_deployments_by_their_room(deployments):
    vm_count = deployments.filter(pl.col("region") == "eastus")["first"].max()
    made = realistic.Realistic(VM_COUNT, REGIONS, 11)
    region = realistic._Region(made, "eastus", made.vm_count_by_region["eastus"])
    rooms = np.diff(region._cluster_ends, prepend=0)

    assert rooms.sum() >= vm_count
    assert rooms.min() >= 118 * 15
    assert rooms.max() <= 917 * 35
    counts = Counter(deployments.filter(pl.col("region") == "eastus")["cluster"])
    assert_drawn(counts, ratios_of({f"eastus-c{number}": int(room) for number, room in enumerate(rooms)}))


def test_rooms_of_clusters_are_those_measured_times_the_vms_of_a_host():
    made = realistic.Realistic(60_000_000, ["eastus"], 5)
    rooms = np.diff(realistic._Region(made, "eastus", 60_000_000)._cluster_ends, prepend=0)
    hosts, densities = np.array(realistic.measured().cluster_hosts), np.arange(15, 36)
    expected = np.sort(np.outer(hosts, densities).ravel())
    steps = np.searchsorted(np.sort(rooms), expected, side="right") / len(rooms)

    assert len(rooms) > 4_000
    assert np.abs(steps - np.searchsorted(expected, expected, side="right") / len(expected)).max() < KS_BOUND / np.sqrt(
        len(rooms)
    )


def test_subscriptions_of_a_pair_are_in_both_regions_as_often_as_asked_for(rows):
    """Of those whose number both regions have; they are called alike in both."""
    number = pl.col("subscription").str.extract(r"-(\d+)$").cast(pl.Int64)
    paired = rows.filter(pl.col("region") != "eastus").with_columns(number=number)
    last = paired.group_by("region").agg(pl.col("number").max())["number"].min()
    subscriptions = paired.filter(pl.col("number") < last).group_by("subscription").agg(pl.col("region").n_unique())
    both_count = (subscriptions["region"] == 2).sum()

    assert len(subscriptions) + both_count == 2 * last
    assert_ratio(both_count, last, float(realistic.PAIRED_SUBSCRIPTION_RATIO))


def test_what_is_asked_is_what_comes_out(tmp_path):
    """Shares of VMs and means vary much, since most VMs are in few applications."""
    made = fleet.generate(tmp_path / "fleet", 2_000_000, ["northeurope", "westeurope"], mix="azure-2017", seed=2)
    found = fleet.describe(made.path)

    for name in ("regions", "sizes", "workloads", "kinds"):
        for key, row in found.shares[name].to_dict().items():
            assert row["ratio"] == pytest.approx(row["asked_ratio"], rel=0.1, abs=0.02), (name, key)
    assert found.groups["applications"].mean == pytest.approx(found.asked["application_vms_mean"], rel=0.1)
    assert found.groups["subscriptions"].mean == pytest.approx(found.asked["subscription_vms_mean"], rel=0.1)
    spanning = found.regions_of_applications[2] / sum(found.regions_of_applications.values())
    assert spanning == pytest.approx(found.asked["spanning_application_ratio"], rel=0.25)


# --- lifetimes ----------------------------------------------------------------------------------------------


def test_presence_at_the_start_is_as_asked_for(deployments):
    mean_days = realistic.LIFETIME_MEAN_MS / 86_400_000

    assert_ratio(deployments["created"].null_count(), len(deployments), mean_days / (mean_days + DAYS))


def test_creations_follow_the_hours_of_the_trace_and_no_day(deployments):
    created = deployments["created"].drop_nulls()

    assert_drawn(Counter(created.dt.hour()), ratios_of(dict(enumerate(realistic.measured().hour_counts))))
    assert_drawn(Counter(created.dt.date()), dict.fromkeys(created.dt.date().unique(), 1 / DAYS))


def lives_ms(rows, before):
    """Lives of VMs created in the horizon and earlier than *before*; those not deleted in it are endless."""
    born = rows.filter(pl.col("created") < before)
    return (born["deleted"] - born["created"]).dt.total_milliseconds().fill_null(1 << 60).to_numpy()


def test_lives_are_as_long_as_measured(rows):
    """Up to 15 days, by those who are created 15 days before the end; the measured part ends at five days."""
    start = datetime(2026, 12, 1, tzinfo=UTC)
    lives = np.sort(lives_ms(rows, start + timedelta(days=15)))
    facts = realistic.measured()
    ended = np.searchsorted(lives, np.array(facts.lifetime_edges_ms) + 1, side="left") / len(lives)

    assert facts.lifetime_edges_ms[-1] == 432_300_000
    assert np.abs(ended - 1 + np.array(facts.survivals) / 2**60).max() < KS_BOUND / np.sqrt(len(lives))


def test_the_measured_lives_are_those_of_the_trace():
    """Against shares counted plainly, which take VMs that outlive the trace for alive: they differ by little."""
    facts = realistic.measured()
    alive = dict(zip(facts.lifetime_edges_ms, (survival / 2**60 for survival in facts.survivals), strict=True))

    for edge_s, ended in ((300, 0.027), (900, 0.247), (1800, 0.513), (3600, 0.623)):
        assert 1 - alive[edge_s * 1000] == pytest.approx(ended, abs=0.005)
    assert list(alive.values()) == sorted(alive.values(), reverse=True)


def test_lives_have_the_mean_that_is_measured_and_residual_lives_their_own():
    churn = realistic.Churn(0, DAYS)
    lifetimes = realistic._Lifetimes(churn)
    draws = np.arange(1 << 17, dtype=np.uint64) << np.uint64(47)
    lives = lifetimes.lifetimes.at(draws).astype(np.float64)
    left = lifetimes.residuals.at(draws).astype(np.float64)

    assert lives.max() <= lifetimes.longest_ms
    assert lives.mean() == pytest.approx(realistic.LIFETIME_MEAN_MS, rel=0.01)
    # Of a life under way the mean rest is the mean square by twice the mean.
    assert left.mean() == pytest.approx((lives**2).mean() / (2 * lives.mean()), rel=0.01)


def test_as_many_live_at_the_end_as_at_the_start(rows):
    start = datetime(2026, 12, 1, tzinfo=UTC)
    counts = []
    for day in (0.5, 5, 10, 15, 20, 25, 29.5):
        at = start + timedelta(days=day)
        is_born = pl.col("created").is_null() | (pl.col("created") <= at)
        is_alive = is_born & (pl.col("deleted").is_null() | (pl.col("deleted") > at))
        counts.append(rows.filter(is_alive).height)

    assert np.array(counts) == pytest.approx(np.mean(counts), rel=0.12)
