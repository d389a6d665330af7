"""What rules cost, and what placements make of a campaign: answers that can be worked out by hand."""

import json

import pyarrow as pa
import pytest

import fleetsim
from fleetsim import lesson
from fleetsim.errors import InputError
from fleetsim.loosening import looser

HEAD = 'name = "costs"\nstart = 2026-12-01T00:00:00Z\n[[campaign]]\nname = "hosts"\nlength = "30s"\n'


def run(tmp_path, keys, regions=("westeurope",) * 10, **columns):
    count = len(regions)
    fleet = pa.table(
        {
            "vm": list(range(count)),
            "region": list(regions),
            "set": [f"s-{region}" for region in regions],
            "update_domain": [i % 10 for i in range(count)],
            **columns,
        }
    )
    return fleetsim.run(fleet, HEAD + keys, tmp_path / "run").path


def savings(found):
    return {(saving.rule, saving.change): saving.saved_ms for saving in found.savings}


def test_a_tenth_less_gap_and_a_domain_less_are_worked_out(tmp_path):
    found = looser(run(tmp_path, 'update_domain_gap = "10min"'))

    assert found.length_ms == {"hosts": 10 * 30_000 + 9 * 600_000}
    assert savings(found) == {
        ("gap", "update_domain_gap 10 min -> 9 min"): 9 * 60_000,
        ("domains", "a tenth fewer domains a set, at least one"): 630_000,
    }
    assert [saving.saved_ms for saving in found.savings] == [630_000, 540_000]


def test_a_tenth_more_room_is_rounded_up(tmp_path):
    hosts = {"host": [f"h{i}" for i in range(10)], "set": pa.nulls(10, pa.string()), "update_domain": pa.nulls(10)}
    found = looser(run(tmp_path, "caps = [{ per = 'region', hosts_count = 1 }]", **hosts))

    assert savings(found) == {("cap", "hosts_count of a region 1 -> 2"): 150_000}


@pytest.mark.parametrize(
    ("asked", "change"),
    [
        ("0.333333333", "0.333333333 -> 0.366666666"),
        ("0.95", "0.95 -> 1"),
        ("1e-9", "1e-09 -> 0.000000001"),
        ("1", None),
    ],
)
def test_a_share_that_is_higher_is_one_that_can_be_asked_for(tmp_path, asked, change):
    found = looser(run(tmp_path, f"caps = [{{ per = 'region', vms_ratio = {asked} }}]"))

    told = [saving.change for saving in found.savings if saving.rule == "cap"]
    assert told == ([f"vms_ratio of a region {change}"] if change else [])


def test_pairs_are_loosened_in_their_lag_and_as_such(tmp_path):
    regions = ("westeurope",) * 5 + ("northeurope",) * 5
    found = looser(run(tmp_path, 'pair_lag = "100s"', regions))

    assert savings(found) == {
        ("pair", "pair_lag 1 min 40 s -> 1 min 30 s"): 10_000,
        ("pair", "paired regions may be at work together"): 250_000,
        ("domains", "a tenth fewer domains a set, at least one"): 60_000,
    }


def lengths_by_change(found):
    return {(saving.rule, saving.change): saving.length_ms for saving in found.savings}


def test_a_tenth_less_spread_brings_starts_a_tenth_nearer(tmp_path):
    fleet = pa.table({"vm": [1, 2], "region": ["westeurope"] * 2})
    found = looser(fleetsim.run(fleet, HEAD + 'spread = "10h"', tmp_path / "run").path)

    (saving,) = found.savings
    apart_ms = found.length_ms["hosts"] - 30_000
    assert (saving.rule, saving.change) == ("spread", "spread 10 h -> 9 h")
    assert apart_ms > 600_000
    assert saving.length_ms - 30_000 == pytest.approx(apart_ms * 0.9, abs=2)


REBOOTS = 'kind = "reboot"\nself_service = {{ length = "10d" }}\nscheduled = {{ length = "{}" }}\niterations_max = 1\n'


def test_windows_are_a_tenth_shorter_where_all_have_room(tmp_path):
    fleet = pa.table({"vm": [1, 2], "region": ["westeurope"] * 2})
    found = looser(fleetsim.run(fleet, HEAD + REBOOTS.format("10d"), tmp_path / "run").path)

    # VMs start at random within the window, so that they are still done by its end.
    apart_ms = found.length_ms["hosts"] - 30_000
    assert apart_ms > 600_000
    told = lengths_by_change(found)
    assert told["window", "self_service.length 10 d -> 9 d"] == found.length_ms["hosts"]
    window_ms = 10 * 86_400_000
    nearer_ms = apart_ms * (0.9 * window_ms - 30_000) / (window_ms - 30_000)
    assert told["window", "scheduled.length 10 d -> 9 d"] - 30_000 == pytest.approx(nearer_ms, abs=2)


def test_a_window_without_room_for_all_is_a_tenth_longer(tmp_path):
    # Three domains of 30 s, a minute between: 210 s, of which a window of 200 s has room for two.
    fleet = {"vm": [1, 2, 3], "region": ["westeurope"] * 3, "set": ["s"] * 3, "update_domain": [0, 1, 2]}
    keys = HEAD + REBOOTS.format("200s") + 'update_domain_gap = "1min"'
    found = looser(fleetsim.run(pa.table(fleet), keys, tmp_path / "run").path)

    assert found.updated_count == {"hosts": 2}
    saving = next(each for each in found.savings if each.change.startswith("scheduled.length"))
    assert (saving.rule, saving.change) == ("window", "scheduled.length 3 min 20 s -> 3 min 40 s")
    assert (saving.saved_ms, saving.updated_count) == (None, 3)


def test_customers_with_a_plan_keep_their_window(tmp_path):
    (tmp_path / "plan.csv").write_text("vm,at\n1,2026-12-02T00:00:00Z\n")
    (tmp_path / "s.toml").write_text(
        HEAD + REBOOTS.format("10d").replace('"10d" }', '"10d", requests = "plan.csv" }', 1)
    )
    fleet = pa.table({"vm": ["1", "2"], "region": ["westeurope"] * 2})
    found = looser(fleetsim.run(fleet, tmp_path / "s.toml", tmp_path / "run").path)

    assert [change for rule, change in savings(found) if rule == "window"] == ["scheduled.length 10 d -> 9 d"]


def test_under_a_horizon_those_left_out_are_told_and_no_time(tmp_path, capsys):
    from rich.console import Console

    # One after the other, the second of the pair has no room before the horizon.
    fleet = pa.table({"vm": range(10), "region": ["westeurope"] * 5 + ["northeurope"] * 5})
    found = looser(fleetsim.run(fleet, HEAD, tmp_path / "run", overrides=["horizon=40s"]).path)

    assert found.updated_count == {"hosts": 5}
    (saving,) = found.savings
    assert (saving.rule, saving.saved_ms, saving.updated_count) == ("pair", None, 10)
    found.render(Console(width=100))
    assert "5 VMs more" in capsys.readouterr().out


def test_what_was_overridden_stays_so(tmp_path):
    fleet = pa.table({"vm": [1, 2], "region": ["westeurope"] * 2, "set": ["s"] * 2, "update_domain": [0, 1]})
    out = fleetsim.run(fleet, HEAD, tmp_path / "run", overrides=["campaign.hosts.update_domain_gap=10s"]).path

    assert savings(looser(out)) == {("gap", "update_domain_gap 10.0 s -> 9.0 s"): 1_000}


def test_nothing_to_loosen_is_said(tmp_path, capsys):
    from rich.console import Console

    fleet = pa.table({"vm": [1], "region": ["westeurope"]})
    found = looser(fleetsim.run(fleet, HEAD, tmp_path / "run").path)

    assert found.savings == ()
    found.render(Console(width=80))
    assert "no campaign has" in capsys.readouterr().out


def test_a_run_without_its_overrides_is_refused(tmp_path):
    out = run(tmp_path, "")
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["overrides"]
    (out / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(InputError, match="which keeps its overrides; run it again"):
        looser(out)


def test_placements_have_the_answers_that_are_known(tmp_path):
    made = lesson.placements(tmp_path / "placements", host_count=1_000)
    aligned, renamed, in_random_order, at_random = made.cases

    # Five domains of 30 s, and four gaps of 30 min between: no order can be shorter, and this one is not longer.
    assert aligned.length_ms == aligned.bound_ms == renamed.length_ms == 5 * 30_000 + 4 * 1_800_000
    assert aligned.one_domain_count == 1_000
    assert aligned.unit_count == 5
    assert in_random_order.bound_ms == aligned.bound_ms
    assert in_random_order.ratio > 4
    assert at_random.ratio > 4
    assert at_random.one_domain_count < 1_000
    assert [case["run"] for case in made.to_dict()["cases"]] == ["run-1", "run-2", "run-3", "run-4"]
    assert all((tmp_path / "placements" / case.run / "manifest.json").exists() for case in made.cases)
