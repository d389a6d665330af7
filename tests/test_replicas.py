"""Replicas: each is what it is alone, whoever else is drawn, on how many threads, after whatever interruption."""

import json
import re
import shutil
import statistics
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import fleetsim
from fleetsim.cli import cli
from fleetsim.errors import InputError
from fleetsim.figures import duration
from fleetsim.replicas import Until
from fleetsim.runner import Run
from tests import oracle
from tests.strategies import scenes
from tests.test_engine import HUNTS, assert_equals_the_oracle, read, run_of

PLAN = """
name = "december"
start = 2026-12-01T00:00:00Z
seed = 3

[[campaign]]
name = "kernel"
length = { min = "6s", max = "60min" }
spread = "2h"
update_domain_gap = "10min"
"""
LEAN = ("outputs.events=false", "outputs.outcomes=false")


def fleet(vm_count: int = 60) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "vm": [f"vm-{i:03}" for i in range(vm_count)],
            "region": ["westeurope" if i % 4 else "northeurope" for i in range(vm_count)],
            "set": [None if i % 7 == 0 else f"set-{i % 4}-{i // 12}" for i in range(vm_count)],
        }
    )


def figures_of(run: Path, replica: int) -> pl.DataFrame:
    return pl.read_parquet(run / f"replicas/replica={replica:05}/part-00000.parquet", hive_partitioning=False).cast(
        dict.fromkeys(("figure", "unit", "grain", "key"), pl.String)
    )


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*.parquet"))}


@pytest.mark.parametrize("hunt", ["tries and lifetimes", "everything"])
@settings(max_examples=max(4, settings.default.max_examples // 50))
@given(data=st.data(), replica=st.sampled_from([1, 2, 70_000]))
def test_a_replica_equals_the_oracle_under_its_draws(data, replica: int, hunt: str):
    scene = data.draw(scenes(features=HUNTS[hunt]))

    with pytest.MonkeyPatch.context() as patch, run_of(scene, replica=replica) as run:
        patch.setattr(oracle, "REPLICA", replica)
        assert_equals_the_oracle(scene, read(run, scene))


@pytest.mark.parametrize("hunt", ["selection and lifetimes", "tries and lifetimes", "everything"])
# An example is four runs with their verdicts; to make one smaller would take minutes.
@settings(max_examples=max(2, settings.default.max_examples // 100), phases=[Phase.explicit, Phase.generate])
@given(data=st.data())
def test_each_of_several_replicas_is_what_it_is_alone(data, hunt: str):
    scene = data.draw(scenes(features=HUNTS[hunt]))

    with run_of(scene, replicas=3, threads=2) as several:
        for replica in range(3):
            found = figures_of(several.path, replica)
            with run_of(scene, replica=replica) as alone:
                told = fleetsim.report(alone.path).frame
            # What only events tell: hosts that exclude one another, applications, and of whom tries have failed
            # in several iterations, how long the last was.
            unknown = [
                "quorum_lost_ms",
                *(["length_bound_ratio"] if any(vm.host is not None for vm in scene.vms) else []),
            ]
            told = told.filter(~pl.col("figure").is_in(unknown))
            if re.search(r"scheduled = \{[^}]*failure_ratio", scene.toml()):
                of_last = pl.col("figure").str.contains("_ms_p|_ms_max") & (pl.col("grain") == "campaign")
                told = told.filter(~of_last & (pl.col("grain") != "pause"))
            both = found.join(told, on=["figure", "unit", "grain", "key"], suffix="_alone", validate="1:1")
            # Of a reboot of up to 25 min a percentile may be 31 ms too low.
            low_ms = pl.when(pl.col("figure").str.starts_with("down_ms_p")).then(31).otherwise(0)
            is_right = pl.col("value").is_between(pl.col("value_alone") - low_ms, "value_alone")
            wrong = both.filter(~is_right.fill_null(pl.col("value").eq_missing(pl.col("value_alone"))))
            assert wrong.is_empty(), wrong
            assert {"length_ms", "vm_hit_count", "unavailable_ms"} <= set(both["figure"])
            assert both.filter(grain="campaign")["key"].n_unique() == len(scene.requests)


def test_lengths_near_a_bound_are_counted_to_the_millisecond(tmp_path):
    plan = PLAN.replace('{ min = "6s", max = "60min" }', '{ min = "29990ms", max = "30010ms" }')
    run = fleetsim.run(fleet(), plan, tmp_path / "run", replicas=2)
    exact = fleetsim.report(run.path).frame
    both = figures_of(run.path, 0).join(exact, on=["figure", "grain", "key"], suffix="_exact")
    share = both.filter(key="kernel/30s")["value"].item()

    assert both["value"].to_list() == both["value_exact"].to_list()
    assert 0 < share < 1


def hosted(vm_count: int = 40) -> pl.DataFrame:
    """Sets over hosts that carry two of their domains: hosts of other numbers may exclude one another."""
    return fleet(vm_count).with_columns(
        update_domain=pl.when(pl.col("set").is_not_null()).then(pl.int_range(pl.len()) % 5),
        host=pl.format("{}-{}", "region", pl.int_range(pl.len()) // 8),
    )


def test_over_hosts_no_bound_is_told_that_events_would_better(tmp_path):
    both = fleetsim.run(hosted(), PLAN, tmp_path / "both", replicas=12)
    lean = fleetsim.run(hosted(), PLAN, tmp_path / "lean", overrides=LEAN)
    plain = fleetsim.run(fleet(), PLAN, tmp_path / "plain", replicas=12, overrides=LEAN)

    def ratio_of(run: Run) -> float | None:
        return fleetsim.report(run.path).campaign_rows["length_bound_ratio"].item()

    def kept(run: Run) -> list[float]:
        rows = figures_of(run.path, 0).filter(figure="length_bound_ratio", grain="campaign")
        return rows["value"].drop_nulls().to_list()

    assert ratio_of(both) is not None and ratio_of(lean) is None
    assert kept(both) == [] and kept(plain) == [ratio_of(plain)]
    told = " ".join(fleetsim.report(lean.path).text("markdown").split())
    assert "hosts that exclude one another left out, as only events tell them" in told
    assert "left out" not in " ".join(fleetsim.report(both.path).text("markdown").split())
    with pytest.raises(InputError, match=r"kept of replicas, got 'length_bound_ratio': only events tell it"):
        fleetsim.run(hosted(), PLAN, tmp_path / "until", replicas=12, until="length_bound_ratio 1%")
    assert not (tmp_path / "until").exists()


def test_neither_threads_nor_other_replicas_nor_interruptions_change_one(tmp_path):
    one = fleetsim.run(fleet(), PLAN, tmp_path / "one", replicas=40, threads=1)
    three = fleetsim.run(fleet(), PLAN, tmp_path / "three", replicas=40, threads=3)
    fewer = fleetsim.run(fleet(), PLAN, tmp_path / "fewer", replicas=2)
    shutil.copytree(three.path, tmp_path / "resumed")
    for path in [tmp_path / "resumed/manifest.json", *tmp_path.glob("resumed/replicas/replica=000[13]?/*")]:
        path.unlink()
    resumed = fleetsim.run(fleet(), PLAN, tmp_path / "resumed", replicas=40, resume=True)

    assert contents(one.path) == contents(three.path) == contents(resumed.path)
    assert contents(fewer.path) == {
        name: content
        for name, content in contents(one.path).items()
        if not name.startswith("replicas/") or "replica=00000" in name or "replica=00001" in name
    }
    assert len({figures_of(one.path, replica)["value"][0] for replica in range(40)}) > 30
    assert fleetsim.verify(resumed.path).ok


def test_replicas_leave_the_run_as_it_is(tmp_path):
    plain = fleetsim.run(fleet(), PLAN, tmp_path / "plain")
    drawn = fleetsim.run(fleet(), PLAN, tmp_path / "drawn", replicas=3)

    assert plain.digest == drawn.digest
    assert drawn.manifest["replicas"] == 3 and "replicas" not in plain.manifest


def test_bands_are_percentiles_of_the_replicas(tmp_path):
    run = fleetsim.run(fleet(), PLAN, tmp_path / "run", replicas=30)
    report = fleetsim.report(run.path)
    drawn = pl.concat(figures_of(run.path, replica) for replica in range(30))
    lengths = sorted(drawn.filter(grain="campaign", figure="length_ms")["value"])
    row = report.frame.row(by_predicate=(pl.col("grain") == "campaign") & (pl.col("figure") == "length_ms"), named=True)

    # Positions ceil(0.05 * 30) = 2 and ceil(0.95 * 30) = 29 of 30.
    assert (row["p05"], row["p95"]) == (lengths[1], lengths[28]) and lengths[1] < lengths[28]
    assert row["key"] == "kernel" and row["value"] == figures_of(run.path, 0)["value"][0]
    assert "30 draws, of which this is the first" in report.text("markdown")
    report.write(tmp_path / "report.parquet")
    assert pl.read_parquet(tmp_path / "report.parquet").columns[-2:] == ["p05", "p95"]


def test_a_stop_rule_ends_as_soon_as_the_mean_is_known(tmp_path):
    found = [
        fleetsim.run(fleet(), PLAN, tmp_path / f"run-{threads}", replicas=300, until="length_ms 2%", threads=threads)
        for threads in (1, 2)
    ]
    count = found[0].manifest["replicas"]
    lengths = [figures_of(found[0].path, replica)["value"][0] for replica in range(count)]
    # Student's t at 0.975, of 9 to 300 degrees of freedom, is from 2.262 down to 1.968.
    half_width = statistics.stdev(lengths) / count**0.5

    assert 10 < count < 300
    assert 1.96 * half_width <= 0.02 * statistics.fmean(lengths)
    before = lengths[:-1]
    assert 2.27 * statistics.stdev(before) / len(before) ** 0.5 > 0.02 * statistics.fmean(before)
    assert contents(found[0].path) == contents(found[1].path)
    assert fleetsim.verify(found[0].path).ok


@pytest.mark.parametrize(
    ("values", "ratio", "is_met"),
    [([9.0, 11.0] * 5, 0.0755, True), ([9.0, 11.0] * 5, 0.0753, False), ([5.0] * 10, 0.0001, True)],
)
def test_an_interval_is_that_of_student(values: list[float], ratio: float, is_met: bool):
    # stdev of five 9s and five 11s is sqrt(10 / 9), so half of the interval is 2.262157 sqrt(1 / 9) = 0.754052.
    assert Until("length_ms", ratio).is_met({"kernel": values}) is is_met


@pytest.mark.parametrize("figure", ["unavailable_ms", "length_ms", "updated_count", "last_end_ms"])
def test_verify_sees_a_first_replica_that_is_not_the_run(tmp_path, figure: str):
    run = fleetsim.run(fleet(), PLAN, tmp_path / "run", replicas=2)
    path = run.path / "replicas/replica=00000/part-00000.parquet"
    table = pl.read_parquet(path, hive_partitioning=False)
    is_wrong = (pl.col("grain") == "stage") & (pl.col("figure") == figure)
    table.with_columns(value=pl.when(is_wrong).then(pl.col("value") + 1).otherwise("value")).write_parquet(path)
    manifest = json.loads((run.path / "manifest.json").read_text())
    part = next(part for part in manifest["parts"] if part["path"].startswith("replicas/replica=00000"))
    part["sha256"] = sha256(path.read_bytes()).hexdigest()
    (run.path / "manifest.json").write_text(json.dumps(manifest))

    assert broken(run.path) == ["R74"]


def test_verify_counts_the_replicas(tmp_path):
    run = fleetsim.run(fleet(), PLAN, tmp_path / "run", replicas=3)
    shutil.rmtree(run.path / "replicas/replica=00002")
    manifest = json.loads((run.path / "manifest.json").read_text())
    manifest["parts"] = [part for part in manifest["parts"] if "replica=00002" not in part["path"]]
    (run.path / "manifest.json").write_text(json.dumps(manifest))

    assert broken(run.path) == ["R74"]


def broken(run: Path) -> list[str]:
    return [rule["rule"] for rule in fleetsim.verify(run).to_dict()["rules"] if rule["status"] == "broken"]


def test_tolerances_are_asked_of_every_replica(tmp_path):
    plan = PLAN.replace('max = "60min" }', 'max = "10s" }') + '[tolerance]\nweb = "8s"\n'
    vms = fleet().with_columns(
        workload=pl.when(pl.col("vm").str.ends_with("1")).then(pl.lit("web")),
        pause_max_ms=pl.when(pl.col("vm").str.ends_with("2")).then(7_000),
    )
    run = fleetsim.run(vms, plan, tmp_path / "run", replicas=3)
    counts = []
    for replica in range(3):
        alone = fleetsim.report(fleetsim.run(vms, plan, tmp_path / f"run-{replica}", replica=replica).path).frame
        told = figures_of(run.path, replica).filter(figure="over_tolerance_count")
        both = told.join(alone, on=["figure", "grain", "key"], suffix="_alone")
        assert set(both["grain"]) == {"campaign", "stage"}
        assert both["value"].to_list() == both["value_alone"].to_list()
        counts += both.filter(grain="campaign")["value"].to_list()
    assert len(set(counts)) > 1


def test_what_customers_did_is_known_of_every_replica(tmp_path):
    windows = (
        'self_service = { length = "2d", uptake_ratio = 0.5, by = "vm" }\nscheduled = { gap = "1h", length = "1d" }'
    )
    plan = PLAN.replace('name = "kernel"', 'name = "kernel"\nkind = "reboot"\nnotice = "5d"\n' + windows)
    plan = plan.replace('max = "60min" }', 'max = "10min" }').replace('spread = "2h"\n', "")
    run = fleetsim.run(fleet(), plan, tmp_path / "run", replicas=2)
    alone = fleetsim.report(fleetsim.run(fleet(), plan, tmp_path / "alone", replica=1).path).campaign_rows
    told = figures_of(run.path, 1).filter(grain="campaign", figure="self_service_ratio")["value"].item()

    assert told == alone["self_service_ratio"].item() and 0 < told < 1


def test_what_costs_in_a_replica_is_measured_in_it(tmp_path):
    run = fleetsim.run(fleet(), PLAN, tmp_path / "run", replica=5)
    shorter = fleetsim.run(
        fleet(), PLAN, tmp_path / "shorter", replica=5, overrides=["campaign.kernel.update_domain_gap=9min"]
    )
    (saving,) = [each for each in fleetsim.looser(run.path).savings if each.rule == "gap"]

    assert saving.length_ms == fleetsim.report(shorter.path).campaign_rows["length_ms"].item()


def test_compare_tells_replicas_apart(tmp_path):
    one = fleetsim.run(fleet(), PLAN, tmp_path / "one", replicas=2)
    other = fleetsim.run(fleet(), PLAN, tmp_path / "other", replica=1)
    said = " ".join(fleetsim.compare(one.path, other.path).text("markdown").split())

    assert "3 in both, but replicas 0 and 1: draws differ too" in said
    assert "the same in every key" in said


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"replicas": 0}, "replicas: must be from 1 to 100,000, got 0"),
        ({"replicas": 200_000}, "replicas: must be from 1 to 100,000, got 200000"),
        ({"replica": -1}, "replica: must be from 0 to 99,999, got -1"),
        ({"replica": 1, "replicas": 2}, "replica: one that is run alone has no replicas, got 1 of 2"),
        ({"until": "length_ms 1%"}, "until: needs replicas, the most there will be, of at least 10, got 1"),
        (
            {"until": "lenght_ms 1%", "replicas": 20},
            "until: must name a figure of campaigns, got 'lenght_ms'; did you mean 'length_ms'?",
        ),
        (
            {"until": "length_ms 1", "replicas": 20},
            "until: must be FIGURE RATIO%, as 'length_ms 1%', got 'length_ms 1'",
        ),
        (
            {"until": "length_ms x%", "replicas": 20},
            "until: must be FIGURE RATIO%, as 'length_ms 1%', got 'length_ms x%'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_said_before_anything_is_written(tmp_path, asked, message: str):
    with pytest.raises(InputError) as raised:
        fleetsim.run(fleet(), PLAN, tmp_path / "run", **asked)

    assert str(raised.value) == message
    assert not (tmp_path / "run").exists()


def test_resuming_with_other_replicas_is_refused(tmp_path):
    run = fleetsim.run(fleet(), PLAN, tmp_path / "run", replicas=3)
    (run.path / "manifest.json").unlink()

    with pytest.raises(InputError, match="replicas"):
        fleetsim.run(fleet(), PLAN, tmp_path / "run", replicas=4, resume=True)


def test_the_command_draws_and_reports(tmp_path):
    fleet().write_parquet(tmp_path / "fleet.parquet")
    (tmp_path / "plan.toml").write_text(PLAN)
    run = ["run", str(tmp_path / "fleet.parquet"), str(tmp_path / "plan.toml"), "-o"]
    drawn = CliRunner().invoke(cli, [*run, str(tmp_path / "run"), "--replicas", "12"])
    alone = CliRunner().invoke(cli, [*run, str(tmp_path / "seven"), "--replica", "7"])
    told = CliRunner().invoke(cli, ["report", str(tmp_path / "run")])

    assert (drawn.exit_code, alone.exit_code, told.exit_code) == (0, 0, 0), drawn.output + alone.output + told.output
    assert "seed 3, preset azure-2017, 12 draws" in told.stdout and "p05 to p95" in told.stdout
    value = fleetsim.report(tmp_path / "seven").frame["value"][0]
    assert value == figures_of(tmp_path / "run", 7)["value"][0]


def test_the_page_of_a_run_with_replicas_tells_of_them(tmp_path):
    run = fleetsim.run(fleet(), PLAN, tmp_path / "run", replicas=30)
    fleetsim.write_page(run.path, html=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    low, high = fleetsim.report(run.path).band("kernel", "length_ms")

    assert "seed 3, 30 draws, of which this is the first" in page
    assert f"of 30 draws, p05 {duration(low)}, p95 {duration(high)}" in page
    assert "p05 to p95" in page
