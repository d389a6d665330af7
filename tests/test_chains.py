"""Why a campaign takes so long, where units wait for one another: the chain of units, and what the report says."""

import pyarrow as pa
import pytest

import fleetsim

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


def test_only_a_chain_of_gaps_is_told_of_a_better_placement(tmp_path):
    # Each host shares a set with each other, in another domain: three turns, where each set alone needs two.
    crossed = {
        "vm": list(range(6)),
        "region": ["westeurope"] * 6,
        "set": ["s", "t", "t", "u", "u", "s"],
        "update_domain": [0, 1, 0, 1, 0, 1],
        "host": ["h0", "h0", "h1", "h1", "h2", "h2"],
    }
    gaps = told(tmp_path / "gaps", 'update_domain_gap = "10min"', crossed)["explanation"]
    spread = told(tmp_path / "spread", 'spread = "10h"', crossed)["explanation"]

    assert gaps[1].endswith("; it took 2.0 times that.")
    assert "`fleet place --policy aligned`" in gaps[2]
    assert "fleet place" not in spread[2]
    assert spread[2].startswith("0 of 3 hosts there carry one update domain number")
