"""Why a campaign takes so long, where units wait for one another: the chain of units, and what the report says."""

import itertools

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fleetsim
from fleetsim.figures import cliques

HEAD = 'name = "why"\nstart = 2026-12-01T00:00:00Z\n[[campaign]]\nname = "hosts"\nlength = "30s"\n'
SET_ON_HOSTS = {
    "vm": ["a", "b", "c"],
    "region": ["westeurope"] * 3,
    "set": ["s"] * 3,
    "update_domain": [0, 1, 2],
    "host": ["h0", "h1", "h2"],
}


def told(tmp_path, keys, fleet=SET_ON_HOSTS):
    run = fleetsim.run(pa.table(fleet), HEAD + keys, tmp_path / "run")
    assert fleetsim.verify(run.path).ok
    (campaign,) = fleetsim.report(run.path).to_dict()["campaigns"]
    return campaign


def test_the_chain_names_each_host_and_what_it_waited_for(tmp_path):
    campaign = told(tmp_path, 'update_domain_gap = "10min"')
    (link,) = campaign["chain"]

    assert sorted(unit["host"] for unit in link["units"]) == ["h0", "h1", "h2"]
    assert [(unit["start_ms"], unit["held_ms"], unit["waited_for"]) for unit in link["units"]] == [
        (0, 30_000, None),
        (630_000, 30_000, "gap"),
        (1_260_000, 30_000, "gap"),
    ]
    assert (link["work_ms"], link["gap_ms"], link["cap_ms"], link["spread_ms"]) == (90_000, 1_200_000, 0, 0)
    first, bound, hosts = campaign["explanation"]
    assert first == "93% of the time on this chain is gaps between update domains, of 3 hosts one after the other."
    assert bound.endswith("; that is what it took.")
    assert (
        hosts == "3 of 3 hosts there carry one update domain number; a host has VMs of 1.0 domains of sets, 1 at most."
    )


def test_without_hosts_units_are_domains_and_singles(tmp_path):
    fleet = {"vm": [1, 2, 3], "region": ["westeurope"] * 3, "set": ["s", "s", None], "update_domain": [0, 1, None]}
    campaign = told(tmp_path, "caps = [{ per = 'region', vms_count = 1 }]", fleet)
    (link,) = campaign["chain"]

    units = {(unit["set"], unit["domain"], unit["vm"]) for unit in link["units"]}
    assert units == {("s", 0, None), ("s", 1, None), (None, None, 3)}
    assert link["cap_ms"] + link["work_ms"] == 90_000
    assert "3 units one after the other" in campaign["explanation"][0]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            'waves = [["northeurope"], ["westeurope"]]\nbake = "2h"',
            "99% of the time on this chain is `bake` between waves.",
        ),
        ('pair_lag = "3h"', "99% of the time on this chain is `pair_lag` between paired regions."),
    ],
)
def test_what_lies_between_stages_counts(tmp_path, keys, expected):
    fleet = {"vm": [1, 2], "region": ["northeurope", "westeurope"], "host": ["a", "b"]}
    assert told(tmp_path, keys, fleet)["explanation"][0] == expected


def ring(count):
    """Hosts in a ring: each shares a set with the next one, in another domain."""
    return {
        "vm": list(range(2 * count)),
        "region": ["westeurope"] * (2 * count),
        "set": [f"s{(row + 1) // 2 % count}" for row in range(2 * count)],
        "update_domain": [row % 2 for row in range(2 * count)],
        "host": [f"h{row // 2}" for row in range(2 * count)],
    }


def test_only_a_chain_of_gaps_is_told_of_a_better_placement(tmp_path):
    # Five hosts in a ring need three turns, though no three of them exclude one another.
    gaps = told(tmp_path / "gaps", 'update_domain_gap = "10min"', ring(5))["explanation"]
    spread = told(tmp_path / "spread", 'spread = "10h"', ring(5))["explanation"]

    assert gaps[1].endswith("; it took 2.0 times that.")
    assert "`fleet place --policy aligned`" in gaps[2]
    assert "fleet place" not in spread[2]
    assert spread[2].startswith("0 of 5 hosts there carry one update domain number")


def test_hosts_of_which_no_two_go_together_bound_the_length(tmp_path):
    # Each of three excludes both others: three turns, where each set alone needs two.
    campaign = told(tmp_path, 'update_domain_gap = "10min"', ring(3))

    assert campaign["bound"]["bound_ms"] == campaign["figures"]["length_ms"] == 3 * 30_000 + 2 * 600_000
    assert campaign["bound"]["exclusive"] == ("westeurope",)
    assert "hosts that sets keep from one another in westeurope; that is what it took." in campaign["explanation"][1]


def test_who_was_not_hit_excludes_nobody(tmp_path):
    campaign = told(tmp_path, 'update_domain_gap = "10min"\nwhere = { vm = [0, 2] }', ring(3))

    assert campaign["bound"]["bound_ms"] == 2 * 30_000 + 600_000
    assert campaign["bound"]["exclusive"] == ()


@settings(max_examples=30)
@given(
    st.lists(st.tuples(*map(st.integers, (0, 0, 0), (9, 5, 3)), st.integers(1, 9)), min_size=1, max_size=40),
    st.integers(0, 5),
)
def test_a_clique_is_hosts_that_exclude_one_another(rows, gap_ms):
    claims = {(host, set_, domain) for host, set_, domain, _ in rows}
    held_ms = {host: ms for host, _, _, ms in rows}
    table = pl.DataFrame(
        [(*claim, held_ms[claim[0]]) for claim in claims],
        schema=["host_row", "set", "domain", "held_ms"],
        orient="row",
    )
    clique = cliques.longest(table, gap_ms)

    def exclude(one, other):
        return any(
            a[0] == one and b[0] == other and a[1] == b[1] and a[2] != b[2]
            for a, b in itertools.product(claims, repeat=2)
        )

    assert all(exclude(*pair) for pair in itertools.combinations(clique.host_rows, 2))
    assert clique.bound_ms == sum(held_ms[host] for host in clique.host_rows) + gap_ms * (len(clique.host_rows) - 1)
    # None can join it; and a pair is found where there is one.
    assert not any(
        all(exclude(other, host) for host in clique.host_rows) for other in held_ms.keys() - clique.host_rows
    )
    assert len(clique.host_rows) > 1 or not any(exclude(*pair) for pair in itertools.permutations(held_ms, 2))
