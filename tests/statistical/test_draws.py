"""Distributions against their closed forms, with fixed seeds: what no single event can show.

Bounds are those of the Kolmogorov-Smirnov and chi-squared tests at a level of 0.001; seeds are fixed, so a test either
always passes or tells of a change.
"""

from collections import Counter
from itertools import permutations
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest

import fleetsim

KS_BOUND = 1.95  # sqrt(n) * D, at 0.001
SCENARIO = """
name = "draws"
start = 2026-12-01T00:00:00Z
seed = 3
[[campaign]]
name = "draws"
length = LENGTH
spread = "10h"
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Events of 20,000 singles and 6,000 sets of five domains, by length; ids of sets and singles coincide."""
    folder = tmp_path_factory.mktemp("draws")
    singles = pl.DataFrame({"vm": range(20_000), "set": [None] * 20_000}, schema={"vm": pl.Int64, "set": pl.Int64})
    in_sets = pl.DataFrame({"vm": range(20_000, 50_000), "set": [place // 5 for place in range(30_000)]})
    fleet = pl.concat([singles, in_sets]).with_columns(region=pl.lit("westeurope"))

    def run(length):
        out = folder / str(abs(hash(length)))
        if not out.exists():
            fleetsim.run(fleet, SCENARIO.replace("LENGTH", length), out)
        return fleetsim.read_events(out, ["set", "update_domain"]).sort("vm").collect()

    return run


def distance(values, cdf):
    """sqrt(n) times the largest distance of the values' distribution from *cdf*."""
    ordered = np.sort(np.asarray(values, np.float64))
    expected = np.array([cdf(value) for value in ordered])
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return np.sqrt(len(ordered)) * max((steps[1:] - expected).max(), (expected - steps[:-1]).max())


def test_lognormal_lengths(events):
    normal = NormalDist(np.log(6000), np.log(9 / 6) / NormalDist().inv_cdf(0.99))
    lengths = events('{ p50 = "6s", p99 = "9s" }')["duration_ms"]

    assert distance(lengths, lambda value: normal.cdf(np.log(value))) < KS_BOUND
    assert abs(lengths.median() - 6000) < 30


def test_uniform_lengths(events):
    lengths = events('{ min = "10s", max = "30s" }')["duration_ms"]

    assert distance(lengths, lambda value: (value - 10_000) / 20_000) < KS_BOUND


def test_few_uniform_lengths_are_equally_likely(events):
    counts = Counter(events('{ min = "1ms", max = "4ms" }')["duration_ms"])

    assert sorted(counts) == [1, 2, 3, 4]
    expected = 50_000 / 4
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 16.27  # 3 degrees of freedom


def test_starts_are_uniform_within_the_spread(events):
    table = events('{ p50 = "6s", p99 = "9s" }')
    start_ms = table["start_at"].dt.epoch("ms") - table["start_at"].dt.epoch("ms").min()
    singles = start_ms.filter(table["set"].is_null())
    sets = table.with_columns(start_ms=start_ms).filter(pl.col("set").is_not_null()).group_by("set")

    assert distance(singles, lambda value: value / 36_000_000) < KS_BOUND
    assert distance(sets.agg(pl.col("start_ms").min())["start_ms"], lambda value: value / 36_000_000) < KS_BOUND


def test_orders_of_domains_are_equally_likely(events):
    table = events("'1s'").filter(pl.col("set").is_not_null()).sort("set", "start_at")
    orders = Counter(tuple(order) for order in table.group_by("set").agg("update_domain")["update_domain"].to_list())

    assert len(orders) == len(list(permutations(range(5))))
    expected = 6_000 / 120
    assert sum((count - expected) ** 2 / expected for count in orders.values()) < 173.6  # 119 degrees of freedom


def test_a_set_and_a_single_of_one_id_are_drawn_apart(events):
    table = events("'1s'").with_columns(start_ms=pl.col("start_at").dt.epoch("ms"))
    singles = table.filter(pl.col("set").is_null())["start_ms"][:6_000].to_numpy()
    sets = table.filter(pl.col("set").is_not_null()).group_by("set").agg(pl.col("start_ms").min()).sort("set")

    correlation = np.corrcoef(singles, sets["start_ms"].to_numpy())[0, 1]
    assert abs(correlation) < 3.29 / np.sqrt(6_000)
