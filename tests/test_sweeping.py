"""Sweeps: which cases there are, that each is the run it would be alone, and what is said of them."""

import json
import shutil
import tomllib
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

import fleetsim
from fleetsim.cli import cli
from fleetsim.errors import InputError
from fleetsim.responses import Objective, Sweep, short_keys
from fleetsim.sweeping import _read
from tests.test_replicas import fleet, hosted

PLAN = """
name = "december"
start = 2026-12-01T00:00:00Z

[[campaign]]
name = "kernel"
length = "10s"
"""
SWEEP = """
scenario = "plan.toml"
replicas = 3

[grid]
campaign.kernel.length = ["10s", { min = "5s", max = "20s" }]
campaign.kernel.update_domain_gap = ["0s", "10min"]

[[case]]
campaign.kernel.spread = "0s"

[[case]]
campaign.kernel.spread = "1h"
"campaign.kernel.update_domain_order" = "largest_first"
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    (folder / "plan.toml").write_text(PLAN)
    (folder / "sweep.toml").write_text(SWEEP)
    fleet().write_parquet(folder / "fleet.parquet")
    return folder / "sweep.toml"


@pytest.fixture(scope="module")
def swept(asked: Path, tmp_path_factory) -> Sweep:
    return fleetsim.sweep(fleet(), asked, tmp_path_factory.mktemp("swept") / "sweep", threads=2)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_cases_are_every_combination_of_the_grid_for_each_case(asked: Path):
    cases = _read(asked, 100).cases

    length, gap, spread = (f"campaign.kernel.{key}" for key in ("length", "update_domain_gap", "spread"))
    profile = '{ min = "5s", max = "20s" }'
    assert [(case.values[spread], case.values[length], case.values[gap]) for case in cases] == [
        (f'"{spread_}"', length_, f'"{gap_}"')
        for spread_ in ("0s", "1h")
        for length_ in ('"10s"', profile)
        for gap_ in ("0s", "10min")
    ]
    assert [case.number for case in cases] == list(range(8))
    assert all(("campaign.kernel.update_domain_order" in case.values) == (case.number >= 4) for case in cases)


@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_case_is_the_run_it_is_alone(asked: Path, swept: Sweep, tmp_path, place: int):
    case = _read(asked, 100).cases[place]
    lean = ["outputs.events=false", "outputs.outcomes=false"]
    alone = fleetsim.run(fleet(), PLAN, tmp_path / "run", overrides=[*lean, *case.overrides], replicas=3)

    assert contents(alone.path) == contents(swept.path / f"case={place:05}")
    assert swept.manifest["cases"][place]["run_digest"] == alone.digest
    assert fleetsim.verify(swept.path / f"case={place:05}").ok


def test_the_data_set_has_case_and_replica_as_columns(swept: Sweep):
    rows = pl.scan_parquet(swept.path / "case=*/replicas/replica=*/*.parquet", hive_partitioning=True)
    counted = rows.filter(pl.col("grain").cast(pl.String) == "campaign").group_by("case", "replica").len().collect()

    assert sorted(counted.select("case", "replica").rows()) == [(case, of) for case in range(8) for of in range(3)]
    assert counted["len"].n_unique() == 1


def test_figures_are_means_and_bands_of_the_replicas(swept: Sweep):
    drawn = [
        pl.read_parquet(swept.path / f"case=00006/replicas/replica={replica:05}/part-00000.parquet")
        .filter(pl.col("grain").cast(pl.String) == "campaign", pl.col("figure").cast(pl.String) == "unavailable_ms")[
            "value"
        ]
        .item()
        for replica in range(3)
    ]
    (row,) = swept.frame.filter(case=6, figure="unavailable_ms").to_dicts()

    assert len(set(drawn)) == 3
    # Positions ceil(0.05 * 3) = 1 and ceil(0.95 * 3) = 3.
    assert (row["mean"], row["p05"], row["p95"]) == (pytest.approx(sum(drawn) / 3), min(drawn), max(drawn))
    assert row["replica_count"] == 3 and row["campaign"] == "kernel"


def test_common_random_numbers_make_cases_differ_by_what_was_asked(swept: Sweep):
    # Cases 2 and 3 have the same lengths drawn, so that a gap changes nothing of the time that VMs lose.
    lost = [
        swept.frame.filter(case=case, figure="unavailable_ms").select("mean", "p05", "p95").row(0) for case in (2, 3)
    ]
    assert lost[0] == lost[1]


def test_an_interrupted_sweep_goes_on(asked: Path, swept: Sweep, tmp_path):
    cut = tmp_path / "sweep"
    shutil.copytree(swept.path, cut)
    (cut / "sweep.json").unlink()
    (cut / "case=00004/manifest.json").unlink()
    for case in (5, 6, 7):
        shutil.rmtree(cut / f"case={case:05}")
    half = Sweep.open(cut)
    again = fleetsim.sweep(fleet(), asked, cut, resume=True)

    assert half.manifest is None and sorted(set(half.frame["case"])) == [0, 1, 2, 3]
    assert "unfinished: 4 of 8 cases are there" in half.text("markdown")
    assert contents(cut) == contents(swept.path)
    assert again.manifest == swept.manifest


def test_another_sweep_in_its_folder_is_refused(asked: Path, swept: Sweep, tmp_path):
    with pytest.raises(InputError, match="found a finished sweep"):
        fleetsim.sweep(fleet(), asked, swept.path)
    with pytest.raises(InputError, match="differs from what is asked"):
        fleetsim.sweep(fleet(), SWEEP.replace("plan.toml", str(asked.parent / "plan.toml")), swept.path, resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(InputError, match="must be a new folder for the sweep"):
        fleetsim.sweep(fleet(), asked, tmp_path / "full", resume=True)


def test_a_sweep_is_no_run(swept: Sweep):
    with pytest.raises(InputError, match="must be the folder of a run, got a sweep: take one of its cases"):
        fleetsim.report(swept.path)


def test_what_is_asked_of_the_best_case_is_shown(swept: Sweep):
    assert "paused_ms_max" not in swept.text("markdown")
    assert "paused_ms_max" in swept.with_best("min length_ms where paused_ms_max <= 10s").text("markdown")


def test_the_front_has_whom_no_other_beats(swept: Sweep):
    rows = {
        case: tuple(
            swept.frame.filter(case=case, figure=name)["mean"].item() for name in ("length_ms", "unavailable_ms")
        )
        for case in range(8)
    }
    harm = swept.harm_of("kernel")
    beaten = {
        case
        for case, own in rows.items()
        if any(other[0] <= own[0] and other[1] <= own[1] and other != own for other in rows.values())
    }

    assert harm == "unavailable_ms"
    front = swept.front_of("kernel", harm)
    assert set(front) <= set(rows) - beaten
    assert {rows[case] for case in front} == {rows[case] for case in set(rows) - beaten}


def test_the_best_case_meets_its_limits(swept: Sweep):
    wide = swept.wide("kernel", ["length_ms", "paused_ms_max", "unavailable_ms"]).to_dicts()
    allowed = [row for row in wide if row["paused_ms_max_p95"] <= 10_000]
    best = swept.with_best("min unavailable_ms where paused_ms_max <= 10s and length_ms > 1min")
    least = min((row["unavailable_ms"], row["case"]) for row in allowed if row["length_ms_p05"] > 60_000)

    assert 0 < len(allowed) < len(wide)
    assert best.best_case == least[1]
    assert swept.with_best("max kernel.length_ms").best_case == max(wide, key=lambda row: row["length_ms"])["case"]
    assert swept.with_best("min length_ms where paused_ms_max < 1ms").best_case is None
    assert "no case: min length_ms where" in swept.with_best("min length_ms where paused_ms_max < 1ms").text("markdown")
    assert best.to_dict()["best"] == {"objective": best.best.text, "case": least[1]}


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (
            "min length_ms where paused_ms_max < 9s",
            "paused_ms_max < 9.0 s holds in none; case 0 is nearest, with 10.0 s as p95 of its draws",
        ),
        (
            "min length_ms where length_ms > 1h and length_ms <= 1min",
            "length_ms > 1 h holds in 4; length_ms <= 1 min holds in 1",
        ),
        ("min down_ms_p99", "none has down_ms_p99"),
        ("min length_ms where down_ms_p99 > 1s", "down_ms_p99 > 1.0 s holds in none"),
    ],
)
def test_why_no_case_is_the_best_is_said(objective: str, said: str, swept: Sweep):
    (line,) = (line for line in swept.with_best(objective).text("markdown").splitlines() if "no case" in line)
    assert line.replace("\\", "").endswith(f"no case: {objective}; {said}")


def test_hosts_exclude_one_another_in_events_alone(asked: Path, tmp_path):
    text = asked.read_text().partition("[[case]]")[0]
    (tmp_path / "plan.toml").write_text(PLAN)
    for until, best in ((None, "min length_bound_ratio"), ("length_bound_ratio 1%", "min length_ms")):
        (tmp_path / "sweep.toml").write_text(text.replace("3", f'12\nuntil = "{until}"', 1) if until else text)
        with pytest.raises(InputError, match="got 'length_bound_ratio': only events tell it"):
            fleetsim.sweep(hosted(), tmp_path / "sweep.toml", tmp_path / "sweep", best=best)
        assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("least length_ms", ["best: must be 'min FIGURE where ...' or 'max FIGURE ...', got 'least length_ms'"]),
        ("", ["best: must be 'min FIGURE where ...' or 'max FIGURE ...', got ''"]),
        ("min lenght_ms", ["best: must name a figure of campaigns, got 'lenght_ms'; did you mean 'length_ms'?"]),
        ("min length_ms where paused_ms_max <= 10", ["best: must be a value of paused_ms_max, as 10s, got '10'"]),
        ("min kernal.length_ms", ["best: must name a campaign, got 'kernal'; did you mean 'kernel'?"]),
        (
            "min length_ms where paused_ms_p99 = 10s and set_down_ratio_max <= much",
            [
                "best: a condition must be as 'paused_ms_p99 <= 10s', got 'paused_ms_p99 = 10s'",
                "best: must be a value of set_down_ratio_max, as 0.25, got 'much'",
            ],
        ),
    ],
)
def test_an_objective_that_is_none_is_refused(text: str, problems: list[str]):
    with pytest.raises(InputError) as raised:
        Objective.parse(text, ["kernel"])
    assert raised.value.problems == problems


def test_of_several_campaigns_an_objective_must_say_which():
    with pytest.raises(InputError, match=r"must say of which campaign, as a\.length_ms, got 'length_ms' of several"):
        Objective.parse("min length_ms", ["a", "b"])
    assert Objective.parse("min b.length_ms", ["a", "b"]).campaign == "b"


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (("replicas = 3", "replicsa = 3"), ["sweep: replicsa: is no key of a sweep; did you mean 'replicas'?"]),
        (("replicas = 3", 'replicas = "3"'), ['sweep: replicas: must be a whole number, got "3"']),
        (("replicas = 3", "replicas = 0"), ["replicas: must be from 1 to 100,000, got 0"]),
        (
            ('update_domain_gap = ["0s", "10min"]', 'update_domain_gap = "0s"'),
            ['sweep: grid.campaign.kernel.update_domain_gap: must be a list of the values it takes, got "0s"'],
        ),
        (
            ('update_domain_gap = ["0s", "10min"]', 'spread = ["0s"]'),
            ["sweep: campaign.kernel.spread: must be in [grid] or in every [[case]], got it in both"],
        ),
        (("campaign.kernel.length", "campaign.kernal.length"), ["sweep: campaign.kernal.length: must name a campaign"]),
        (("kernel.length", "kernel.lenght"), ["lenght"]),
        (
            ('["0s", "10min"]', '["0s", "10min", "0s"]'),
            ['sweep: grid.campaign.kernel.update_domain_gap: must list each value once, got "0s" more often'],
        ),
        (('["0s", "10min"]', '["0s", "10mni"]'), ["10mni"]),
        (('scenario = "plan.toml"', ""), ["sweep: scenario: must be a file, or a table [scenario], got nothing"]),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_is_written(asked: Path, tmp_path, change, problems: list[str]):
    text = SWEEP.replace(*change).replace("plan.toml", str(asked.parent / "plan.toml"))
    with pytest.raises(InputError) as raised:
        fleetsim.sweep(fleet(), text, tmp_path / "sweep")

    assert len(raised.value.problems) == len(problems)
    assert all(problem in said for problem, said in zip(problems, raised.value.problems, strict=True)), raised.value
    assert not (tmp_path / "sweep").exists()


def test_a_key_of_no_campaign_is_told_by_the_name_of_its_file(asked: Path, tmp_path):
    path = asked.with_name("wrong.toml")
    path.write_text(SWEEP.replace("kernel.spread", "kernal.spread"))
    with pytest.raises(InputError) as raised:
        fleetsim.sweep(fleet(), path, tmp_path / "sweep")
    assert all(problem.startswith(f"{path}: campaign.kernal.spread: ") for problem in raised.value.problems)


def test_a_large_grid_is_asked_about(asked: Path, tmp_path):
    many = ", ".join(f'"{seconds}s"' for seconds in range(1, 60))
    text = SWEEP.replace('"0s", "10min"', many).replace("plan.toml", str(asked.parent / "plan.toml"))
    with pytest.raises(InputError, match="must have at most 200 cases, got 236; --yes makes them all"):
        fleetsim.sweep(fleet(), text, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_the_command_sweeps_reports_and_picks(asked: Path, tmp_path):
    folder, run = tmp_path / "sweep", CliRunner().invoke
    best = "min length_ms where paused_ms_max <= 10s"
    made = run(cli, ["sweep", str(asked.parent / "fleet.parquet"), str(asked), "-o", str(folder), "--best", best])
    told = run(cli, ["report", str(folder), "--json", "--best", best])
    csv = run(cli, ["report", str(folder), "--format", "csv", "--out", str(tmp_path / "sweep.csv")])
    parquet = run(cli, ["report", str(folder), "--format", "parquet", "--out", str(tmp_path / "sweep.parquet")])
    wrong = run(cli, ["report", str(folder), "--by", "region"])
    nowhere = CliRunner().invoke(cli, ["report", str(tmp_path / "nowhere"), "--best", best])

    assert [each.exit_code for each in (made, told, csv, parquet, wrong)] == [0, 0, 0, 0, 2], made.output
    assert isinstance(nowhere.exception, InputError) and "nothing there" in str(nowhere.exception)
    assert "8, 3 draws each" in made.stdout and "case 0 (spread 0s, length 10s, update_domain_gap 0s)" in made.stdout
    assert max(map(len, made.stdout.splitlines())) <= 80
    found = json.loads(told.stdout)
    assert found["best"] == {"objective": best, "case": 0} and len(found["cases"]) == 8
    assert pl.read_csv(tmp_path / "sweep.csv").height == pl.read_parquet(tmp_path / "sweep.parquet").height > 0
    assert "--by is for runs" in wrong.stderr


def test_overrides_are_of_all_cases_but_for_what_is_swept(tmp_path):
    sweep = {"scenario": tomllib.loads(PLAN), "grid": {"campaign.kernel.length": ["1s", "2s"]}}
    asked = ["campaign.kernel.length=9s", "seed=4", "outputs.events=true"]
    made = fleetsim.sweep(fleet(8), sweep, tmp_path / "sweep", overrides=asked)
    resolved = [tomllib.loads((made.path / f"case=0000{case}/resolved.toml").read_text()) for case in (0, 1)]

    assert [each["seed"] for each in resolved] == [4, 4]
    assert [set(fleetsim.read_events(made.path / f"case=0000{case}").collect()["duration_ms"]) for case in (0, 1)] == [
        {1_000},
        {2_000},
    ]


def test_a_key_below_a_table_leaves_the_others_of_it_alone(tmp_path):
    windows = 'kind = "reboot"\nscheduled = { length = "5d", failure_ratio = 0.1, retry_timeout = "1h" }'
    plan = tomllib.loads(PLAN.replace('length = "10s"', windows))
    sweep = {
        "scenario": plan,
        "override": {"campaign": {"kernel": {"scheduled": {"length": "6d"}}}},
        "case": [
            {"campaign.kernel.scheduled.failure_ratio": 0.5},
            {"campaign": {"kernel": {"length": {"p50": "6min", "p99": "9min"}}}},
        ],
    }
    made = fleetsim.sweep(fleet(8), sweep, tmp_path / "sweep")
    first, second = (
        tomllib.loads((made.path / f"case=0000{case}/resolved.toml").read_text())["campaign"][0]["scheduled"]
        for case in (0, 1)
    )

    day_ms = 86_400_000
    assert (first["length_ms"], first["failure_ratio"], first["retry_timeout_ms"]) == (6 * day_ms, 0.5, 3_600_000)
    assert (second["length_ms"], second["failure_ratio"]) == (6 * day_ms, 0.1)
    assert made.cases.columns[1:] == ["campaign.kernel.scheduled.failure_ratio", "campaign.kernel.length"]


def test_cases_that_lack_a_figure_are_not_like_those_that_have_it(tmp_path):
    sweep = {
        "scenario": tomllib.loads(PLAN),
        "case": [
            {"campaign.kernel.kind": "reboot", "campaign.kernel.length": "6min"},
            {"campaign.kernel.kind": "freeze"},
        ],
    }
    made = fleetsim.sweep(fleet(8), sweep, tmp_path / "sweep")

    assert "the same in all: down_ms_p99" not in made.text("markdown")
    assert made.with_best("min length_ms where down_ms_p99 <= 1s").best_case == 1
    assert made.with_best("min length_ms WHERE down_ms_p99 >= 1s").best_case == 0
    assert made.with_best("min length_ms where unavailable_ms <= 100d").best_case == 1


def test_keys_of_several_campaigns_are_told_apart():
    assert short_keys(["campaign.a.length", "campaign.a.work", "seed"]) == {
        "campaign.a.length": "length",
        "campaign.a.work": "work",
        "seed": "seed",
    }
    assert list(short_keys(["campaign.a.length", "campaign.b.length"]).values()) == ["a.length", "b.length"]


def test_whoever_ties_with_the_front_is_on_it(tmp_path):
    sweep = {"scenario": tomllib.loads(PLAN), "grid": {"seed": [1, 2], "campaign.kernel.length": ["1s", "2s"]}}
    made = fleetsim.sweep(fleet(8), sweep, tmp_path / "sweep")

    assert made.front_of("kernel", "unavailable_ms") == [0, 2]


def test_a_sweep_that_lost_parts_says_so(swept: Sweep, tmp_path):
    cut = tmp_path / "sweep"
    shutil.copytree(swept.path, cut)
    shutil.rmtree(cut / "case=00002")
    shutil.rmtree(cut / "case=00003/replicas/replica=00001")

    assert Sweep.open(cut).lost == ["case 2", "case 3"]
    assert "of case 2, case 3 files are lost" in Sweep.open(cut).text("markdown")
    (cut / "case=00004/replicas/replica=00001/part-00000.parquet").write_bytes(b"junk")
    with pytest.raises(InputError, match="its files must be as the sweep wrote them"):
        Sweep.open(cut)


def test_a_grid_without_end_is_counted_not_made(asked: Path, tmp_path):
    values = list(range(1_000))
    grid = {f"campaign.kernel.{key}": values for key in ("length", "work", "spread", "pair_lag", "start")}
    with pytest.raises(InputError, match=r"must have at most 200 cases, got 1,000,000,000,000,000$"):
        fleetsim.sweep(fleet(), {"scenario": tomllib.loads(PLAN), "grid": grid}, tmp_path / "sweep")


@pytest.mark.parametrize(
    ("sweep", "problem"),
    [
        (
            {"grid": {"campaign.kernel.length": {}}},
            "grid.campaign.kernel.length: must be a list of the values it takes",
        ),
        (
            {"grid": {"campaign.kernel.length": ["1s"], "campaign": {"kernel": {"length": ["2s"]}}}},
            "grid.campaign.kernel.length: must be said once, got it twice",
        ),
        ({"grid": {"seed": [1]}, "override": {"seed": 2}}, "seed: must be in [grid] or in [override], got it in both"),
    ],
)
def test_what_would_be_dropped_is_refused(tmp_path, sweep, problem: str):
    with pytest.raises(InputError) as raised:
        fleetsim.sweep(fleet(), {"scenario": tomllib.loads(PLAN), **sweep}, tmp_path / "sweep")
    assert problem in str(raised.value)


def test_threads_and_files_are_judged_before_anything_is_written(asked: Path, tmp_path):
    with pytest.raises(InputError, match="threads: must be at least 1, got 0"):
        fleetsim.sweep(fleet(), asked, tmp_path / "sweep", threads=0)
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="must be TOML in UTF-8"):
        fleetsim.sweep(fleet(), tmp_path / "bad.toml", tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("call", [fleetsim.run, fleetsim.sweep])
def test_what_it_cannot_run_on_is_said_before_anything_is_written(call, tmp_path, monkeypatch):
    asked = PLAN if call is fleetsim.run else {"scenario": tomllib.loads(PLAN)}
    with pytest.raises(InputError, match=r"on: must be ray, got 'rey'; did you mean 'ray'\?"):
        call(fleet(), asked, tmp_path / "run", on="rey")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"--on ray needs Ray: pip install 'fleetsim\[ray\]'"):
        call(fleet(), asked, tmp_path / "run", on="ray")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("best", [None, "min length_ms"])
def test_the_page_draws_responses_and_the_front(best: str | None, swept: Sweep, tmp_path):
    fleetsim.write_sweep(swept if best is None else swept.with_best(best), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()

    assert ("the best" in page) == (best is not None)
    assert "kernel: its length against unavailable_ms" in page
    assert "length_ms by update_domain_gap" in page and "unavailable_ms by length" in page
    assert "unavailable_ms by update_domain_gap" not in page  # which changes nothing of it
    # So that is one line; keys that are swept together, in [[case]], tell nothing of either.
    assert page.count("update_domain_gap changes nothing of it.") == page.count("nothing of it.") == 1
    assert page.count("<svg") == 2 * page.count('class="wide"') > 0
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
