"""Runs beside each other: by hand on the run of `test_reporting`, and recounted in Polars from the files of others."""

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import fleetsim
from fleetsim import cli, schema
from fleetsim.comparing import Comparison, _names, signed, times
from fleetsim.errors import InputError
from fleetsim.figures import FIGURES
from fleetsim.page.charts import Clock
from fleetsim.page.comparison import _answers, _differences, _marks
from fleetsim.page.document import sort_value
from fleetsim.page.palette import DOWN, SPREAD, UPDATED
from fleetsim.reporting import report
from tests import browser
from tests.test_reporting import NORTH, SOUTH, VMS, write_run

# Pauses in the other run, and what they are more than in the base: a +2 s, c -20 s, d +0.5 s, e +5 s, b and f none.
OTHER_PAUSES_MS = {"a": 12_000, "b": 12_000, "c": 10_000, "d": 9_500, "e": 25_000, "f": 5_000}
OTHER_VMS = [(*vm[:6], OTHER_PAUSES_MS[vm[0]]) for vm in VMS]
OTHER_NORTH = NORTH | {"end_ms": 1_622_000, "unavailable_ms": 43_500}
OTHER_SOUTH = SOUTH | {
    "start_ms": 1_682_000,
    "end_ms": 8_727_000,
    "unavailable_ms": 30_000,
    "set_out_ms": 25_000,
    "last_spread_ms": 7_020_000,
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    write_run(folder / "base")
    write_run(folder / "other", vms=OTHER_VMS, stages=(OTHER_NORTH, OTHER_SOUTH))
    return folder / "base", folder / "other"


def change(made: Comparison, figure: str, grain: str = "campaign", key: str = "hypervisor") -> tuple:
    """Base value, value, difference, ratio and which is better."""
    row = made.frame.row(
        by_predicate=(pl.col("figure") == figure) & (pl.col("grain") == grain) & (pl.col("key") == key), named=True
    )
    return tuple(row[name] for name in ("base_value", "value", "difference", "ratio", "better"))


def rendered(made: Comparison, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    made.render(console)
    return console.export_text()


def test_differences_by_hand(pair):
    made = fleetsim.compare(*pair)
    assert made.names == ("base", "other")
    assert change(made, "length_ms") == (8_222_000, 8_227_000, 5_000, 8_227 / 8_222, None)  # as good as equal
    assert change(made, "last_end_ms") == (8_722_000, 8_727_000, 5_000, None, None)  # an instant is no multiple
    assert change(made, "set_out_ms") == (20_000, 25_000, 5_000, 1.25, "base")
    assert change(made, "first_start_ms") == (500_000, 500_000, 0, None, None)
    assert change(made, "unavailable_ms") == (86_000, 73_500, -12_500, 73_500 / 86_000, "run")
    assert change(made, "paused_ms_p99") == (30_000, 25_000, -5_000, 25 / 30, "run")
    assert change(made, "vm_hit_count") == (6, 6, 0, 1, None)
    assert change(made, "skipped_count") == (0, 0, 0, None, None)  # nothing is a multiple of none
    assert change(made, "paused_over_ratio", "pause", "hypervisor/15s") == (2 / 6, 1 / 6, -1 / 6, 0.5, "run")
    assert change(made, "last_end_ms", "stage", "hypervisor/1/north") == (1_642_000, 1_622_000, -20_000, None, "run")


@pytest.mark.parametrize(
    ("out_ms", "end_ms", "better", "said"),
    [
        (20_100, 8_722_000, (None, None), "as good as equal, 0.5 % apart at most: set_out_ms +100 ms"),
        (20_101, 8_722_000, ("base", None), "worse in near"),
        (19_900, 8_722_000, (None, None), "hypervisor: no figure differs by more than 0.5 %"),
        (19_899, 8_722_000, ("run", None), "better in near"),
        # 0.5 % of the 8,222 s from first start to last end: 41.11 s. Of the time since the scenario's start it is more.
        (20_000, 8_763_110, (None, None), "last_end_ms +41.1 s"),
        (20_000, 8_763_111, (None, "base"), "worse in near"),
        (20_000, 8_680_889, (None, "run"), "better in near"),
    ],
)
def test_what_differs_by_half_a_percent_is_as_good_as_equal(pair, tmp_path, out_ms, end_ms, better, said):
    south = SOUTH | {"set_out_ms": out_ms, "end_ms": end_ms}
    write_run(tmp_path / "near", stages=(NORTH, south))
    made = fleetsim.compare(pair[0], tmp_path / "near")
    assert (change(made, "set_out_ms")[4], change(made, "last_end_ms")[4]) == better
    assert change(made, "length_ms")[4] == better[1]
    text = " ".join(rendered(made).split())
    assert said in text
    is_near = better == (None, None)
    assert ("as long, on as many, as hard" in text) == (better[1] is None)
    assert ("better in near" in text or "worse in near" in text) != is_near


def test_vms_paired_by_hand(pair):
    both = fleetsim.compare(*pair).others[0].pairs["hypervisor"]
    assert both is not None
    # In order: -20 s, 0, 0, 0.5, 2, 5 s; the third and the sixth of six.
    assert (both.difference_ms_p50, both.difference_ms_p95) == (0, 5_000)
    assert (both.difference_ms_min, both.difference_ms_max, both.difference_ms_sum) == (-20_000, 5_000, -12_500)
    assert (both.longer_count, both.shorter_count, both.equal_count) == (3, 1, 2)
    assert (both.vm_count, both.hit_both_count, both.hit_only_base_count, both.hit_only_other_count) == (6, 6, 0, 0)
    assert both.vms.select("vm", "difference_ms").rows() == [("e", 5_000), ("a", 2_000), ("d", 500), ("c", -20_000)]
    assert both.sets.select("set", "vm_count", "base_ms", "other_ms", "difference_ms").rows() == [
        ("8", 1, 20_000, 25_000, 5_000),
        ("7", 3, 52_000, 34_000, -18_000),
    ]
    assert (both.outcome_changed_count, both.over_both_count) == (0, None)
    assert both.bins["vm_count"].sum() == 6
    assert both.bins.filter(pl.col("bin_start_ms") < 0)["vm_count"].sum() == 1


def test_regions_by_hand(pair):
    other = fleetsim.compare(*pair).others[0]
    told = other.regions_of("hypervisor").select("region", "start_difference_ms", "end_difference_ms").rows()
    assert told == [("north", 0, -20_000), ("south", 0, 5_000)]


def test_the_terminal_tells_it_in_80_columns(pair):
    made = fleetsim.compare(*pair)
    text = rendered(made)
    assert max(map(len, text.splitlines())) <= 80
    for line in (
        "in short, against base",
        "hypervisor: better in other",
        "unavailable_ms 1 min 26 s 1 min 14 s -12.5 s 0.855",
        "hypervisor: worse in other",
        "fleet the same, 6 VMs: paired by VM",
        "longer for 3, shorter for 1, equal for 2",
        "by VM: p50 no change, p95 +5.0 s, from -20.0 s to +5.0 s",
        "as good as equal, 0.5 % apart at most: length_ms +5.0 s; length_bound_ratio +0.007; last_end_ms +5.0 s",
        "hypervisor: of 2 regions, 1 end later and 1 earlier",
        "one draw each",
    ):
        assert line in " ".join(text.split()), text
    for width in (40, 60, 120):
        assert max(map(len, rendered(made, width).splitlines())) <= width


def test_hours_of_both_are_on_one_clock_and_scale(pair, tmp_path):
    bins = {("north", "hourly_start_count"): {3_600_000: 2, 4 * 3_600_000: 4}}
    write_run(tmp_path / "later", bins=bins)
    made = fleetsim.compare(pair[0], tmp_path / "later")
    lines = rendered(made).splitlines()
    at = lines.index("hypervisor: impacts started, by hour since scenario start, and the most of one")
    # In the base 5 impacts start in hour 0 and 1 in hour 2.
    assert [line.rstrip() for line in lines[at + 1 : at + 4]] == [
        "  base   ███     ▂▂▂           5",
        "  later      ▄▄▄         ▇▇▇   4",
        "         0 h              5 h",
    ]
    assert "| 2 | 1 | 0 |" in made.text("markdown")
    for width in (20, 40, 120):
        assert max(map(len, rendered(made, width).splitlines())) <= width
    assert "impacts started" not in rendered(fleetsim.compare(*pair))


def test_a_figure_is_that_of_the_report(pair):
    made = fleetsim.compare(*pair, by=["size"], timeouts=["25s"])
    for path, column in zip(pair, ("base_value", "value"), strict=True):
        own = report(path, by=["size"], timeouts=["25s"]).frame
        told = made.frame.select("figure", "unit", "grain", "key", value=column)
        assert own.sort("grain", "key", "figure").equals(told.sort("grain", "key", "figure").select(own.columns))
    assert "hypervisor by size: other, and its difference from base" in rendered(made)


def test_files_say_the_same(pair, tmp_path):
    made = fleetsim.compare(*pair)
    told = json.loads(made.text("json"))
    (campaign,) = told["others"][0]["campaigns"]
    assert campaign["figures"]["length_ms"]["difference"] == 5_000
    assert campaign["paired"]["difference_ms_p95"] == 5_000
    assert campaign["pause"]["15s"]["paused_over_ratio"]["ratio"] == 0.5
    assert told["base"] == "base"
    assert [each["name"] for each in told["runs"]] == ["base", "other"]
    made.write(tmp_path / "c.parquet")
    table = pq.read_table(tmp_path / "c.parquet")
    assert table.column_names == schema.COMPARISON.names()
    assert json.loads(table.schema.metadata[b"fleetsim.runs"]) == {"base": "d1" * 32, "other": "d1" * 32}
    made.write(tmp_path / "c.csv", "csv")
    assert len(pl.read_csv(tmp_path / "c.csv")) == len(made.frame) == table.num_rows
    made.write(tmp_path / "c.md", "markdown")
    assert "| unavailable_ms | 1 min 26 s | 1 min 14 s | -12.5 s | 0.855 |" in (tmp_path / "c.md").read_text()


def test_three_runs_are_each_against_the_first(pair, tmp_path):
    write_run(tmp_path / "third", vms=OTHER_VMS, stages=(OTHER_NORTH, OTHER_SOUTH))
    made = fleetsim.compare(*pair, tmp_path / "third")
    assert [each.name for each in made.others] == ["other", "third"]
    assert "hypervisor: all runs" in rendered(made)
    sides = [made.frame.filter(run=name).drop("run") for name in ("other", "third")]
    assert sides[0].equals(sides[1])


def test_no_difference_is_said(pair, tmp_path):
    write_run(tmp_path / "same")
    text = rendered(fleetsim.compare(pair[0], tmp_path / "same"))
    assert "hypervisor: no figure differs" in text
    assert "of a VM hit in both, in same: equal for 6" in text
    assert "the same in every key" in text


@pytest.mark.parametrize(
    ("value", "name", "said"),
    [
        (129_840_000, "length_ms", "+36 h 4 min"),
        (-1, "vm_hit_count", "-1 VM"),
        (1_203, "over_tolerance_count", "+1,203 VMs"),
        (0, "length_ms", "none"),
        (-0.25, "set_down_ratio_max", "-0.250"),
        (1, "no_guarantee_count", "+1 set"),
        (-0.00012, "set_down_ratio_max", "-0.0001"),
        (None, "length_ms", "-"),
    ],
)
def test_differences_have_their_unit_in_words(value, name, said):
    assert signed(name, value) == said


def test_ratios_have_three_figures():
    assert [times(each) for each in (17.68, 1.6, 0.0213, 0, 1234.5, 99.96)] == [
        *("17.7", "1.60", "0.0213", "0", "1,234", "100"),
    ]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/a/run", "/b/run"], ["a/run", "b/run"]),
        (["/x/one", "/x/two"], ["one", "two"]),
        (["/x/experiment-2026-gap-10min", "/x/experiment-2026-gap-5min"], ["..10min", "..5min"]),
        (["/x/" + "a" * 30, "/x/" + "a" * 29 + "b"], ["aaaaaaaa..aaaaaaaa", "aaaaaaaa..aaaaaaab"]),
    ],
)
def test_runs_are_called_by_their_folders(paths, names):
    assert _names([Path(each) for each in paths]) == names


@pytest.mark.parametrize("count", [2, 3])
def test_names_are_unique_however_alike(count):
    paths = [Path("/x") / f"{'a' * 20}{number}{'b' * 20}" for number in range(count)]
    names = _names(paths)
    assert len(set(names)) == count
    assert max(map(len, names)) <= 18


def test_what_is_better_is_declared():
    less = {name for name, figure in FIGURES.items() if figure.is_less_better}
    assert {"length_ms", "paused_ms_p99", "overdue_count", "sla_9990_missed_count", "quorum_lost_ms"} <= less
    assert not {"vm_count", "vm_hit_count", "updated_count", "self_service_ratio", "length_bound_ratio"} & less


# Recounted


SCENARIO = """
name = "both"
start = 2026-12-01T00:00:00Z
seed = 5

[[campaign]]
name = "hypervisor"
length = { p50 = "6s", p99 = "9s" }
update_domain_gap = "10min"
spread = "1h"

[tolerance]
real-time = "7s"
"""
REBOOTS = """
name = "reboots"
start = 2026-12-01T00:00:00Z
seed = 5

[[campaign]]
name = "kernel"
kind = "reboot"
notice = "10d"
self_service = { length = "5d", uptake_ratio = 0.4, failure_ratio = 0.3, spare_ratio = 0.5 }
scheduled = { gap = "1d", length = "2d", failure_ratio = 0.3, retry_timeout = "2min" }
iterations_max = 2
reschedule_delay = "14d"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs of 4,000 VMs: `a`; `b` with longer pauses and of two regions; `c` as `b`, events alone; reboots `d`, `e`."""
    folder = tmp_path_factory.mktemp("made")
    count = 4_000
    fleet = pl.DataFrame({"vm": [f"v{number:04}" for number in range(count)]}).with_columns(
        region=pl.Series(["westeurope", "northeurope", "eastus"]).gather([row % 3 for row in range(count)]),
        set=pl.Series([f"s{row % 3}-{row // 60}" if row % 7 else None for row in range(count)]),
        workload=pl.Series(["real-time" if row % 11 == 0 else "batch" for row in range(count)]),
    )
    fleet.write_parquet(folder / "fleet.parquet")
    (folder / "s.toml").write_text(SCENARIO)
    (folder / "r.toml").write_text(REBOOTS)
    longer = ['campaign.hypervisor.length={ p50 = "5s", p99 = "20s" }', "campaign.hypervisor.regions=['Europe']"]
    for name, scenario, overrides in (
        ("a", "s", []),
        ("b", "s", longer),
        ("c", "s", [*longer, "outputs.outcomes=false"]),
        ("d", "r", []),
        ("e", "r", ["campaign.kernel.self_service.uptake_ratio=0.8", "campaign.kernel.iterations_max=3"]),
    ):
        fleetsim.run(folder / "fleet.parquet", folder / f"{scenario}.toml", folder / name, overrides=overrides)
    return folder


def of_vms(run: Path) -> pl.DataFrame:
    """One row a VM in scope: its time out, summed, and its last outcome."""
    fleet = pl.read_parquet(run / "fleet/**/*.parquet").select("vm_row", "vm", "region", "set", "workload")
    rows = pl.read_parquet(run / "outcomes/**/*.parquet").sort("iteration")
    return (
        rows.group_by("vm_row")
        .agg(
            out=(pl.col("paused_ms").cast(pl.Int64) + pl.col("down_ms")).sum(),
            last=(pl.col("paused_ms").cast(pl.Int64) + pl.col("down_ms")).last(),
            paused=pl.col("paused_ms").last().cast(pl.Int64),
            outcome=pl.col("outcome").cast(pl.String).last(),
        )
        .join(fleet, on="vm_row")
    )


@pytest.mark.parametrize(("names", "campaign"), [("ab", "hypervisor"), ("ba", "hypervisor"), ("de", "kernel")])
def test_pairs_recounted(made, names, campaign):
    one, two = (of_vms(made / name) for name in names)
    both = fleetsim.compare(made / names[0], made / names[1]).others[0].pairs[campaign]
    joined = one.join(two.select("vm", "out", "last", "paused", "outcome"), on="vm", how="inner", suffix="_other")
    hit = joined.filter((pl.col("last") > 0) & (pl.col("last_other") > 0))
    change = hit["out_other"] - hit["out"]
    ordered = change.sort()
    assert both is not None
    assert both.vm_count == len(joined)
    assert both.only_base_count == len(one) - len(joined)
    assert both.only_other_count == len(two) - len(joined)
    assert both.hit_both_count == len(hit) > 500
    assert both.hit_only_base_count == (one["last"] > 0).sum() - len(hit)
    assert both.hit_only_other_count == (two["last"] > 0).sum() - len(hit)
    assert (both.longer_count, both.shorter_count) == ((change > 0).sum(), (change < 0).sum())
    assert both.longer_count > 0
    assert both.shorter_count > 0
    assert both.difference_ms_sum == change.sum()
    for percent, found in ((50, both.difference_ms_p50), (95, both.difference_ms_p95)):
        assert found == ordered[-(-len(ordered) * percent // 100) - 1]
    assert both.outcome_changed_count == (joined["outcome"] != joined["outcome_other"]).sum()
    assert both.outcomes is not None
    assert both.outcomes["vm_count"].sum() == len(joined)
    assert both.bins["vm_count"].sum() == len(hit)
    width_ms = both.bins["bin_ms"][0]
    counted = (change // width_ms * width_ms).value_counts().sort("out_other")
    assert both.bins["vm_count"].to_list() == counted["count"].to_list()
    assert both.vms["difference_ms"].head(5).to_list() == ordered.tail(5).reverse().to_list()
    assert both.vms["difference_ms"].tail(5).to_list() == ordered.head(5).to_list()
    of_sets = (
        one.join(two.select("vm", "out"), on="vm", how="full", coalesce=True, suffix="_other")
        .join(pl.read_parquet(made / "fleet.parquet").select("vm", own="set"), on="vm")
        .drop_nulls("own")
        .group_by("own")
        .agg((pl.col("out_other").fill_null(0) - pl.col("out").fill_null(0)).sum().alias("change"))["change"]
        .sort()
    )
    assert both.sets["difference_ms"].head(5).to_list() == of_sets.tail(5).reverse().to_list()
    if campaign == "hypervisor":
        over_base, over = (
            set(rows.filter((pl.col("workload") == "real-time") & (pl.col("paused") > 7_000))["vm"])
            for rows in (one, two)
        )
        assert both.over_both_count == len(over & over_base)
        assert both.over_only_base_count == len(over_base - over) > 0
        assert both.over_only_other_count == len(over - over_base) > 0
        assert set(both.vms_over["vm"]) <= over - over_base
        assert len(both.vms_over) == 5
    else:
        assert both.outcome_changed_count > 0


def test_fewer_vms_updated_is_no_less_harm(made, tmp_path):
    """Of a pair, the second region has no room before the horizon: fewer VMs are hit, so less time is lost."""
    overrides = ['campaign.hypervisor.length={ p50 = "12s", p99 = "18s" }', "horizon=3h"]
    fleetsim.run(made / "fleet.parquet", made / "s.toml", tmp_path / "cut", overrides=overrides)
    cut = fleetsim.compare(made / "a", tmp_path / "cut", by=["region"])
    assert change(cut, "vm_count")[2] == 0
    assert change(cut, "vm_hit_count")[2] < 0
    assert change(cut, "remaining_count")[4] == change(cut, "overdue_count")[4] == "base"
    assert change(cut, "paused_ms_p50")[4] == "base"
    for figure in ("unavailable_ms", "pending_vm_ms", "over_tolerance_count"):
        assert abs(change(cut, figure)[3] - 1) > 0.01
        assert change(cut, figure)[4] is None
    # Where as many are hit, in eastus, it can be said.
    assert change(cut, "vm_hit_count", "region", "hypervisor/eastus")[2] == 0
    assert change(cut, "unavailable_ms", "region", "hypervisor/eastus")[4] == "base"
    assert change(cut, "unavailable_ms", "stage", "hypervisor/1/eastus")[4] == "base"
    assert "The VMs hit, or left without the update, are not the same number" in " ".join(rendered(cut).split())

    reboots = fleetsim.compare(made / "d", made / "e")
    assert change(reboots, "remaining_count", key="kernel")[4] == "run"
    for figure in ("unavailable_ms", "addresses_changed_count"):
        assert abs(change(reboots, figure, key="kernel")[3] - 1) > 0.01
        assert change(reboots, figure, key="kernel")[4] is None


def test_service_levels_of_other_vms_hit_are_not_judged(pair, tmp_path):
    shorter = [(*vm[:6], 3_000_000 if vm[0] == "c" else vm[6]) for vm in VMS]  # 50 min: misses 99.9 % and all above
    stages = {"less": NORTH | {"vm_hit_count": 3}, "alike": NORTH}
    for name, north in stages.items():
        write_run(tmp_path / name, stages=(north, SOUTH))
    write_run(tmp_path / "long", vms=shorter)
    for name, better in (("less", None), ("alike", "run")):
        made = fleetsim.compare(tmp_path / "long", tmp_path / name)
        for key in ("hypervisor/vm",):
            assert change(made, "sla_9990_missed_count", "sla", key)[:3] == (1, 0, -1)
            assert change(made, "sla_9990_missed_count", "sla", key)[4] == better


def test_of_which_iterations_times_are_is_said(made):
    text = " ".join(rendered(fleetsim.compare(made / "d", made / "e")).split())
    assert "down_ms is of the last iteration that a VM is in scope of; by VM, below, all of them are summed" in text
    assert "of a VM hit in both, all its iterations summed, in e" in text
    assert "iteration" not in rendered(fleetsim.compare(made / "a", made / "b"))


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    """20 VMs of two sets on hosts: `one`, `two` on others; `other` has another VM, `moved` one in another set."""
    folder = tmp_path_factory.mktemp("placed")
    (folder / "s.toml").write_text(SCENARIO.split("[tolerance]", maxsplit=1)[0])
    row = pl.int_range(20, eager=True)
    fleet = pl.DataFrame({"vm": row, "region": ["eastus"] * 20, "set": pl.Series(["a", "b"]).gather(row % 2)})
    fleet = fleet.with_columns(update_domain=row // 2 % 5, host=pl.lit("h") + (row // 2).cast(pl.String))
    shifted = fleet.with_columns(host=pl.lit("k") + ((row + 10) // 2 % 10).cast(pl.String))
    for name, each in {
        "one": fleet,
        "two": shifted,
        "other": shifted.with_columns(vm=pl.when(row == 3).then(99).otherwise("vm")),
        "moved": shifted.with_columns(set=pl.when(row == 18).then(pl.lit("b")).otherwise("set")),
    }.items():
        fleetsim.run(each, folder / "s.toml", folder / name)
    return folder


def test_the_same_vms_on_other_hosts_are_paired(placed):
    made = fleetsim.compare(placed / "one", placed / "two")
    other = made.others[0]
    assert (other.is_same_fleet, other.are_same_vms) == (False, True)
    both = other.pairs["hypervisor"]
    one, two = (of_vms_on_hosts(placed / name) for name in ("one", "two"))
    joined = one.join(two, on="vm", suffix="_other")
    assert both.hit_both_count == len(joined) == 20
    assert both.difference_ms_sum == (joined["out_other"] - joined["out"]).sum() != 0
    assert both.longer_count == (joined["out_other"] > joined["out"]).sum()
    text = " ".join(rendered(made).split())
    assert "the same VMs in the same sets, other columns differ, 20 VMs: paired by VM" in text


@pytest.mark.parametrize("name", ["other", "moved"])
def test_other_vms_on_other_hosts_are_not(placed, name):
    made = fleetsim.compare(placed / "one", placed / name)
    assert made.others[0].pairs == {"hypervisor": None}
    assert "different fleets" in " ".join(rendered(made).split())


def of_vms_on_hosts(run: Path) -> pl.DataFrame:
    fleet = pl.read_parquet(run / "fleet/**/*.parquet").select("vm_row", "vm")
    rows = pl.read_parquet(run / "outcomes/**/*.parquet").select("vm_row", out=pl.col("paused_ms").cast(pl.Int64))
    return rows.join(fleet, on="vm_row")


def test_events_alone_tell_the_same_but_for_outcomes(made):
    whole, alone = (fleetsim.compare(made / "a", made / name).others[0].pairs["hypervisor"] for name in "bc")
    names = ("hit_both_count", "longer_count", "difference_ms_p50", "difference_ms_p95", "over_only_other_count")
    assert [getattr(whole, name) for name in names] == [getattr(alone, name) for name in names]
    assert (alone.outcomes, alone.outcome_changed_count) == (None, None)


def test_a_run_that_kept_neither_is_not_paired(made, tmp_path):
    overrides = ["outputs.outcomes=false", "outputs.events=false"]
    fleetsim.run(made / "fleet.parquet", made / "s.toml", tmp_path / "bare", overrides=overrides)
    made_ = fleetsim.compare(made / "a", tmp_path / "bare")
    assert made_.others[0].pairs == {"hypervisor": None}
    assert "no pairing by VM: a run kept neither outcomes nor events" in " ".join(rendered(made_).split())


def test_other_seeds_and_some_vms(made, tmp_path):
    fleetsim.run(made / "fleet.parquet", made / "s.toml", tmp_path / "seed", overrides=["seed=6"])
    compared = fleetsim.compare(made / "a", tmp_path / "seed", only=["workload=real-time"])
    both = compared.others[0].pairs["hypervisor"]
    assert both.vm_count == sum(row % 11 == 0 for row in range(4_000))
    text = " ".join(rendered(compared).split())
    assert "seed 5 and 6: draws differ too" in text
    assert "only VMs with workload=real-time; of whole campaigns stay length_ms" in text


def test_different_fleets_have_figures_and_no_pairs(made, pair):
    fleet = pl.read_parquet(made / "fleet.parquet").head(100)
    fleetsim.run(fleet, made / "s.toml", made / "few")
    compared = fleetsim.compare(made / "a", made / "few")
    assert compared.others[0].pairs == {"hypervisor": None}
    assert change(compared, "vm_count")[:3] == (4_000, 100, -3_900)
    assert change(compared, "unavailable_ms")[2] < 0
    assert change(compared, "unavailable_ms")[4] is None  # of fewer VMs
    assert change(compared, "length_ms")[4] is not None
    text = " ".join(rendered(compared).split())
    assert "different fleets, 4,000 VMs and 100 VMs: no pairing by VM" in text
    assert "The VMs in scope are not the same number" in text


def test_the_only_campaign_of_each_is_compared(made):
    compared = fleetsim.compare(made / "a", made / "d")
    other = compared.others[0]
    assert other.campaigns == {"kernel": "hypervisor"}
    assert change(compared, "vm_count", key="kernel")[:3] == (4_000, 4_000, 0)
    assert "campaign.kernel.kind: was 'freeze', is 'reboot'" in other.scenario_differences
    assert other.pairs["kernel"].outcome_changed_count == 4_000
    assert "kernel (hypervisor in a): the same VMs in both" in rendered(compared)
    assert "5 in both, but campaigns of other names draw anew" in " ".join(rendered(compared).split())


# Bad input


def test_what_cannot_be_compared(made, pair, tmp_path):
    two = SCENARIO.replace("[tolerance]", '[[campaign]]\nname = "firmware"\nlength = "1s"\n[tolerance]')
    (tmp_path / "two.toml").write_text(two.replace('"hypervisor"', '"bios"'))
    fleetsim.run(made / "fleet.parquet", tmp_path / "two.toml", tmp_path / "two")
    for runs, problem in (
        ([made / "a"], "must have two runs at least, got 1"),
        ([], "must have two runs at least, got 0"),
        ([made / "a", made / "b" / ".." / "a"], "got the same folder twice"),
        ([made / "a", tmp_path / "two"], "must share a campaign's name with"),
        ([made / "a", made / "none"], "must be the folder of a run, got nothing there"),
    ):
        with pytest.raises(InputError, match=problem):
            fleetsim.compare(*runs)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/resolved.toml").write_bytes((made / "a/resolved.toml").read_bytes())
    with pytest.raises(InputError, match="must be a finished run"):
        fleetsim.compare(made / "a", tmp_path / "unfinished")
    with pytest.raises(InputError, match="by: must be a column of the fleet, got 'nope'"):
        fleetsim.compare(made / "a", made / "b", by=["nope"])


def test_shared_campaigns_are_compared_and_others_named(made, tmp_path):
    two = SCENARIO.replace("[tolerance]", '[[campaign]]\nname = "firmware"\nlength = "1s"\n[tolerance]')
    (tmp_path / "two.toml").write_text(two)
    for name in ("two", "three"):
        fleetsim.run(made / "fleet.parquet", tmp_path / "two.toml", tmp_path / name, overrides=["seed=6"])
    assert fleetsim.compare(made / "a", tmp_path / "two").to_dict()["others"][0]["campaigns_only_in_run"] == [
        "firmware"
    ]
    compared = fleetsim.compare(tmp_path / "two", tmp_path / "three", by=["workload"])
    assert list(compared.others[0].campaigns) == ["hypervisor", "firmware"]
    told = compared.to_dict()["others"][0]["campaigns"][1]
    assert told["figures"]["vm_count"]["difference"] == 0
    assert {tuple(row["key"]) for row in told["by"][0]["rows"]} == {("batch",), ("real-time",)}


# The command and the page


def test_the_command(made, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(made)
    assert cli.answer(["compare", "a", "b"]) == 0
    assert "in short, against a" in capsys.readouterr().out
    assert cli.answer(["compare", "a", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["others"][0]["run"] == "b"
    assert cli.answer(["compare", "a", "b", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("run,base,figure,unit,grain,key,base_value,value,difference,ratio,better")
    out = tmp_path / "c.parquet"
    assert cli.answer(["compare", "a", "b", "--format", "parquet", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"comparison": str(out)}
    for wrong in (
        ["compare", "a"],
        ["compare", "a", "a"],
        ["compare", "a", "b", "--format", "parquet"],
        ["compare", "a", "b", "--out", str(tmp_path / "x")],
        ["compare", "a", "b", "--html", str(tmp_path / "x"), "--format", "json"],
        ["compare", "a", "none", "--html", str(tmp_path / "x")],
        ["compare", "a", "b", "--html", str(tmp_path / "none" / "x")],
    ):
        assert cli.answer(wrong) == 2, wrong
        assert capsys.readouterr().err
    assert not (tmp_path / "x").exists()


class _Pictures(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.charts: list[str] = []
        self.asked: list[str] = []

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        if tag == "figure":
            self.charts.append(str(told["id"]))
        if tag in ("link", "script", "img", "iframe") and (place := told.get("href") or told.get("src")):
            self.asked.append(place)


@pytest.fixture(scope="module")
def pages(made):
    found = {}
    for name, runs in (("two", "ab"), ("three", "aab")):
        paths = [made / "few" if each == "a" and place else made / each for place, each in enumerate(runs)]
        if name == "three" and not (made / "few").exists():
            fleetsim.run(pl.read_parquet(made / "fleet.parquet").head(100), made / "s.toml", made / "few")
        found[name] = made / f"{name}.html"
        fleetsim.write_comparison(fleetsim.compare(*paths), found[name])
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [("+1 h 4 min", 3_840_000), ("-35 min 37 s", -2_137_000), ("-2,309 VMs", -2_309), ("none", 0), ("+0.3", 0.3)],
)
def test_differences_sort_by_what_they_are(text, value):
    assert sort_value(text) == value


def test_those_out_as_long_are_neither_shorter_nor_longer(pair, tmp_path):
    vms = [(*vm[:6], 9_100 if vm[0] == "d" else vm[6]) for vm in OTHER_VMS]
    write_run(tmp_path / "other", vms=vms, stages=(OTHER_NORTH, OTHER_SOUTH))
    chart = _differences(fleetsim.compare(pair[0], tmp_path / "other").others[0], "hypervisor", "base", "1-1")
    # -20 s, 0, 0, 0.1, 2, 5 s: the two that are equal stand in the bin of the one that is a tenth of a second longer.
    counts = dict(chart.frame.group_by("what").agg(pl.col("vm_count").sum()).rows())
    assert counts == {"shorter": 1, "as long": 2, "longer": 3}
    at_zero = chart.frame.filter(bin_start_ms=0).select("what", "below_count", "top_count").rows()
    assert at_zero == [("as long", 0, 2), ("longer", 2, 3)]
    assert "2 as long. By VM: p50 no change, p95 +5.0 s" in chart.text
    bars = chart.draw(600, False).to_dict()["layer"][0]
    scale = bars["encoding"]["color"]["scale"]
    assert scale == {"domain": ["shorter", "as long", "longer"], "range": [UPDATED, SPREAD, DOWN]}


@pytest.mark.parametrize(
    ("values_ms", "sides"),
    [
        ((0, 2_500), ["right", "left"]),  # `right` is to the left of the line, which its right end is at
        ((-5_000, 2_500), ["left", "left"]),
        ((0, 6_500), ["right", "right"]),
    ],
)
def test_marks_that_are_near_do_not_cross(values_ms, sides):
    marks = list(zip(("p50", "p95"), values_ms, strict=True))
    layers = [each.to_dict() for each in _marks(marks, Clock.of(0, 7_000, ""), (-5.5, 7), 290)]
    assert [layer["mark"]["align"] for layer in layers if layer["mark"]["type"] == "text"] == sides


def test_the_first_screen_says_what_is_equal_and_of_whom(made, pair, tmp_path):
    south = SOUTH | {"end_ms": 8_763_110}
    write_run(tmp_path / "near", stages=(NORTH, south))
    near, reboots = (
        fleetsim.compare(*each).others[0] for each in ((pair[0], tmp_path / "near"), (made / "d", made / "e"))
    )
    told = _answers(near, "hypervisor", "base")
    assert "<strong>as good as equal</strong>" in told
    assert "2 h 17 min in base, 2 h 18 min in near: +41.1 s" in told
    assert "iteration" not in told
    told = _answers(reboots, "kernel", "d")
    assert "down, 1 in 100 VMs longer than that, in its last iteration" in told
    assert told.count("the VMs hit, or left, are not as many") == 1


def test_the_page_stands_alone(pages):
    for name, charts in (
        ("two", ["chart-multiples-1", "chart-completion-1", "chart-differences-1-1"]),
        ("three", ["chart-multiples-1", "chart-completion-1", "chart-differences-2-1"]),
    ):
        seen = _Pictures()
        seen.feed(pages[name].read_text())
        assert seen.charts == charts
        assert seen.asked == ["data:,"]
    assert "not drawn, the fleets differ" in pages["three"].read_text()


@pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
def test_a_browser_shows_the_page(pages):
    with browser.chromium() as driver:
        for page in pages.values():
            for width in (1400, 400):
                browser.show(driver, page, width=width)
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width
                kind = "wide" if width > 760 else "narrow"
                shown = f"[...document.querySelectorAll('svg.{kind}')]"
                heights = driver.execute_script(f"return {shown}.map(each => each.getBoundingClientRect().height)")
                assert len(heights) == 3
                assert min(heights) > 50
        messages = [each for each in driver.get_log("browser") if "ERR_INTERNET" not in each["message"]]
        assert messages == []
