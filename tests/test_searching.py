"""Searches: that they find what is best, come to the same however they are run, and make no case twice."""

import importlib.util
import itertools
import json
import logging
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest

import fleetsim
from fleetsim import cli, responses, searching
from fleetsim.errors import InputError
from fleetsim.responses import Limit, Sweep
from fleetsim.searching import Proposer, Searched, Space
from fleetsim.sweeping import _read
from tests.test_replicas import fleet
from tests.test_sweeping import contents

PLAN = """
name = "december"
start = 2026-12-01T00:00:00Z
seed = 3

[[campaign]]
name = "kernel"
length = "10s"
"""
GAP, SPREAD = "campaign.kernel.update_domain_gap", "campaign.kernel.spread"
SEARCH = """
scenario = "plan.toml"

[search]
cases = 10
campaign.kernel.update_domain_gap = { from = "0min", to = "20min", step = "5min" }
campaign.kernel.spread = ["0s", "15min", "30min", "1h"]
"""
BEST = "max length_ms where set_down_ratio_max <= 0.5 and length_ms <= 100min"


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    (folder / "plan.toml").write_text(PLAN)
    (folder / "search.toml").write_text(SEARCH)
    fleet().write_parquet(folder / "fleet.parquet")
    return folder / "search.toml"


@pytest.fixture(scope="module")
def searched(asked: Path, tmp_path_factory) -> Sweep:
    return fleetsim.sweep(fleet(), asked, tmp_path_factory.mktemp("searched") / "sweep", best=BEST, threads=1)


def space(*counts: int, cases: int, at_once: int = 4, is_ordered: bool = True) -> Space:
    keys = (Searched(f"key-{axis}", tuple(range(count)), is_ordered) for axis, count in enumerate(counts))
    return Space(tuple(keys), cases, at_once)


def gone_through(proposer: Proposer, answer) -> list[tuple[int, ...]]:
    """All that is proposed where *answer* tells what comes of a point."""
    found = []
    while points := proposer.propose():
        proposer.tell([answer(point) for point in points])
        found += points
    return found


def anyhow(_: tuple[int, ...]) -> bool:
    return True


def test_half_the_cases_of_a_grid_find_its_best(asked: Path, searched: Sweep, tmp_path):
    values = {GAP: ["0min", "5min", "10min", "15min", "20min"], SPREAD: ["0s", "15min", "30min", "1h"]}
    grid = fleetsim.sweep(fleet(), {"scenario": tomllib.loads(PLAN), "grid": values}, tmp_path / "grid", best=BEST)

    def best_of(made: Sweep) -> float:
        return made.frame.filter(case=made.best_case, figure="length_ms")["mean"].item()

    assert len(grid.cases) == 20 and len(searched.cases) == 10
    lengths = grid.frame.filter(figure="length_ms")["mean"]
    assert best_of(searched) == best_of(grid) < lengths.max()  # the limit is what binds
    assert searched.best_case not in (0, 1)  # which are the corners that it begins with


@pytest.mark.parametrize("seed", range(4))
def test_the_least_within_a_limit_is_found_with_a_quarter_of_the_cases(seed: int):
    asked = space(12, 12, cases=36)

    def answer(point: tuple[int, ...]) -> tuple[float, list[float]]:
        return (point[0] - 7) ** 2 + 2.0 * (point[1] - 3) ** 2, [max(0, 9 - point[0]) / 9]

    points = gone_through(Proposer(asked, seed, is_least=True, is_usable=anyhow), answer)
    allowed = [answer(point)[0] for point in points if point[0] >= 9]

    assert len(points) == len(set(points)) == 36
    assert min(allowed) == answer((9, 3))[0]


@pytest.mark.parametrize("is_ordered", [True, False])
def test_no_point_comes_twice_and_at_the_end_there_are_all(is_ordered: bool):
    asked = space(3, 1, 4, cases=12, at_once=5, is_ordered=is_ordered)
    points = gone_through(Proposer(asked, 1, is_least=False, is_usable=anyhow), lambda point: (sum(point), []))
    assert sorted(points) == list(itertools.product(range(3), range(1), range(4)))


def test_what_cannot_be_run_is_passed_by():
    asked = space(5, 5, cases=25)
    points = gone_through(
        Proposer(asked, 1, is_least=True, is_usable=lambda point: point[0] >= point[1]), lambda point: (sum(point), [])
    )
    assert sorted(points) == [(a, b) for a in range(5) for b in range(a + 1)]


def test_what_has_no_value_is_as_bad_as_what_breaks_a_limit():
    asked = space(9, 9, cases=40)
    points = gone_through(
        Proposer(asked, 1, is_least=True, is_usable=anyhow),
        lambda point: (None if point[0] < 5 else float(sum(point)), []),
    )
    assert (5, 0) in points
    assert sum(point[0] >= 5 for point in points) > len(points) / 2


def test_seeds_begin_elsewhere_and_the_same_seed_comes_to_the_same():
    asked = space(20, 20, cases=16)
    one, again, other = (
        gone_through(Proposer(asked, seed, is_least=True, is_usable=anyhow), lambda point: (sum(point), []))
        for seed in (1, 1, 2)
    )
    assert one == again != other


def test_a_limit_is_exceeded_by_a_share_of_its_value():
    rows = pl.DataFrame({"campaign": ["a"], "figure": ["length_ms"], "mean": [150.0], "p05": [50.0], "p95": [200.0]})

    def excess(comparison: str, value: float, figure: str = "length_ms") -> float:
        return Limit(None, figure, comparison, value).excess(rows)

    assert excess("<=", 200) == excess(">", 40) == excess("<=", 1, "down_ms_p99") == 0
    assert excess("<=", 100) == 1 and excess(">=", 100) == 0.5
    assert 0 < excess("<", 200) < 1e-6
    assert excess(">=", 1, "down_ms_p99") == 1


@pytest.mark.parametrize("place", [0, 4, 9])
def test_a_case_of_a_search_is_the_run_it_is_alone(searched: Sweep, tmp_path, place: int):
    row = searched.cases.row(place, named=True)
    lean = ["outputs.events=false", "outputs.outcomes=false"]
    alone = fleetsim.run(
        fleet(), PLAN, tmp_path / "run", overrides=[*lean, *(f'{key}="{row[key]}"' for key in (GAP, SPREAD))]
    )
    assert searched.manifest["cases"][place]["run_digest"] == alone.digest


@pytest.mark.parametrize("kept", [3, 4, 9])
def test_an_interrupted_search_goes_on_to_the_same_bytes(asked: Path, searched: Sweep, tmp_path, kept: int):
    cut = tmp_path / "sweep"
    shutil.copytree(searched.path, cut)
    (cut / "sweep.json").unlink()
    for case in range(kept, 10):
        shutil.rmtree(cut / f"case={case:05}")
    # What is in the file when cases of the batch are being made: all that were proposed until then.
    proposed = searched.cases.head(min(10, (kept // searching.AT_ONCE + 1) * searching.AT_ONCE))
    told = responses.read_search(cut / "cases.parquet")
    table = responses.with_search(proposed.to_arrow(), told)
    (cut / "cases.parquet").write_bytes(fleetsim.sweeping.parquet_bytes(table))
    half = Sweep.open(cut)
    again = fleetsim.sweep(fleet(), asked, cut, best=BEST, resume=True)

    assert f"unfinished: {kept} of 10 cases are there" in " ".join(half.text("markdown").split())
    assert contents(cut) == contents(searched.path)
    assert (cut / "sweep.json").read_bytes() == (searched.path / "sweep.json").read_bytes()
    assert again.best_case == searched.best_case


def test_another_search_in_its_folder_is_refused(asked: Path, searched: Sweep, tmp_path):
    cut = tmp_path / "sweep"
    shutil.copytree(searched.path, cut)
    with pytest.raises(InputError, match=f"the same search only: it is for '{BEST}', got 'min length_ms'"):
        fleetsim.sweep(fleet(), asked, cut, best="min length_ms", resume=True)
    frame = pl.read_parquet(cut / "cases.parquet", hive_partitioning=False)
    told = responses.read_search(cut / "cases.parquet")
    other = frame.with_columns(pl.lit("7min").alias(GAP)).to_arrow()
    (cut / "cases.parquet").write_bytes(fleetsim.sweeping.parquet_bytes(responses.with_search(other, told)))
    with pytest.raises(InputError, match="now other cases are proposed than are there"):
        fleetsim.sweep(fleet(), asked, cut, best=BEST, resume=True)


def test_what_breaks_a_limit_stays_among_the_cases(searched: Sweep):
    rows = searched.frame.filter(figure="length_ms")
    assert len(rows) == 10 and rows["mean"].max() > 6_000_000
    assert rows.filter(case=searched.best_case)["mean"].item() <= 6_000_000


def test_a_report_tells_what_was_looked_for(searched: Sweep):
    opened = Sweep.open(searched.path)
    text = " ".join(opened.text("markdown").split())

    assert opened.best_case == searched.best_case and opened.best is not None and opened.best.text == BEST
    assert "search: among 20 settings, for max length_ms where set_down_ratio_max" in text
    assert opened.to_dict()["search"] == {
        "objective": BEST, "settings": 20, "at_once": 4, "seed": 3, "unusable": [],
    }  # fmt: skip
    assert opened.with_best("min length_ms").best_case != opened.best_case


def test_settings_that_exclude_one_another_are_passed_by_and_told(tmp_path):
    plan = tomllib.loads(PLAN) | {"horizon": "20d"}
    plan["campaign"][0] |= {"kind": "reboot", "length": "5min", "notice": "2d"}
    sweep = {
        "scenario": plan,
        "search": {
            "cases": 12,
            "campaign.kernel.self_service.length": ["1d", "6d", "12d"],
            "campaign.kernel.scheduled.length": ["2d", "6d", "9d"],
        },
    }
    made = fleetsim.sweep(fleet(8), sweep, tmp_path / "sweep", best="min length_ms")
    unusable = made.to_dict()["search"]["unusable"]

    assert 0 < len(unusable) < 9 and len(made.cases) == 9 - len(unusable)
    assert f"{len(unusable)} passed by that cannot be run" in " ".join(made.text("markdown").split())


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (("cases = 10", ""), ["sweep: search.cases: must be a whole number from 1 on, got nothing"]),
        (
            ("cases = 10", 'cases = "10"\nat_once = 0'),
            [
                'sweep: search.cases: must be a whole number from 1 on, got "10"',
                "sweep: search.at_once: must be a whole number from 1 on, got 0",
            ],
        ),
        (('from = "0min"', 'form = "0min"'), ["gap.form: is no key of a range; did you mean 'from'?"]),
        ((', step = "5min"', ""), ["got no step"]),
        (
            ('from = "0min", to = "20min"', 'from = "20min", to = "0min"'),
            ["must go from the least to the most, got from 20min to 0min by 5min; did you mean them the other way?"],
        ),
        (
            ('to = "20min"', 'to = "22min"'),
            ['must come to its end in whole steps, got from 0min to 22min by 5min; did you mean to = "20min"?'],
        ),
        (('step = "5min"', 'step = "0s"'), [f"sweep: search.{GAP}.step: must be more than nothing, got 0s"]),
        (('step = "5min"', 'step = "1ms"'), ["must have at most 10,000 values, got 1,200,001"]),
        (('step = "5min"', "step = 5"), ["must be numbers or lengths, all of them, got from 0min to 20min by 5"]),
        (
            ('from = "0min", to = "20min"', 'from = "0mni", to = "20mni"'),
            [
                f"sweep: search.{GAP}.from: must be a number, or a length as '5min', got \"0mni\"",
                f"sweep: search.{GAP}.to: must be a number, or a length as '5min', got \"20mni\"",
            ],
        ),
        (('["0s", "15min", "30min", "1h"]', '"1h"'), [f"sweep: search.{SPREAD}: must be a list of values, or a range"]),
        (('"15min", "30min"', '"15min", "15min"'), [f'search.{SPREAD}: must have each value once, got "15min" twice']),
        (
            ("[search]", f'[override]\n{SPREAD} = "0s"\n[search]'),
            [f"sweep: {SPREAD}: must be in [search] or in [override], got it in both"],
        ),
        (("[search]", "[grid]\nseed = [1, 2]\n[search]"), ["sweep: grid: must not be beside [search]"]),
        (("kernel.spread", "kernal.spread"), ["sweep: campaign.kernal.spread: must name a campaign"]),
        (("kernel.spread", "kernel.spraed"), ["spraed"]),
        (('"1h"]', '"1hour"]'), ["1hour"]),
        (
            ("cases = 10", "cases = 300\nseed = { from = 1, to = 90, step = 1 }"),
            ["must have at most 200 cases, got 300"],
        ),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_is_written(asked: Path, tmp_path, change, problems: list[str]):
    text = SEARCH.replace(*change).replace("plan.toml", str(asked.parent / "plan.toml"))
    assert text != SEARCH.replace("plan.toml", str(asked.parent / "plan.toml"))
    with pytest.raises(InputError) as raised:
        fleetsim.sweep(fleet(), text, tmp_path / "sweep", best=BEST)

    assert len(raised.value.problems) == len(problems), raised.value
    assert all(problem in said for problem, said in zip(problems, raised.value.problems, strict=True)), raised.value
    assert not (tmp_path / "sweep").exists()


def test_a_search_needs_to_know_for_what(asked: Path, tmp_path):
    with pytest.raises(InputError, match="sweep: search: needs --best, as 'min length_ms where"):
        fleetsim.sweep(fleet(), asked, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_without_optuna_one_message_says_what_to_install(asked: Path, tmp_path, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "optuna" else find_spec(name, *rest)
    )
    with pytest.raises(InputError) as raised:
        fleetsim.sweep(fleet(), asked, tmp_path / "sweep", best=BEST)
    assert raised.value.problems == ["[search] needs Optuna: pip install 'fleetsim[search]'"]
    command = ["sweep", asked.parent / "fleet.parquet", asked, "-o", tmp_path / "sweep", "--best", BEST]
    assert cli.answer([str(word) for word in command]) == 2
    assert raised.value.problems[0] in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_the_command_searches_on_any_number_of_threads_and_optuna_says_nothing(asked: Path, searched: Sweep, tmp_path):
    # In a process of its own, where warnings are shown as users see them.
    code = "from fleetsim.cli import main; main()"
    command = [sys.executable, "-W", "always", "-c", code, "sweep", asked.parent / "fleet.parquet", asked]
    done = subprocess.run(
        [*map(str, command), "-o", str(tmp_path / "sweep"), "--best", BEST, "--json", "--threads", "2"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["best"] == {"objective": BEST, "case": searched.best_case}
    assert not any(word in done.stderr.lower() for word in ("optuna", "warning", "trial", "experimental"))
    assert contents(tmp_path / "sweep") == contents(searched.path)
    assert Sweep.open(tmp_path / "sweep").manifest == searched.manifest


def test_optuna_is_asked_only_where_cases_are_searched_for():
    code = "import sys, fleetsim.sweeping; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_log_of_optuna_is_left_as_it_was(asked: Path):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(logging.WARNING)
    gone_through(Proposer(space(3, 3, cases=4), 1, is_least=True, is_usable=anyhow), lambda point: (sum(point), []))

    assert optuna.logging.get_verbosity() == logging.WARNING


def test_values_of_ranges_are_spelt_as_scenarios_spell_them():
    problems: list[str] = []
    made = searching.read_space(
        "search",
        {
            "gap": {"from": "0s", "to": "2h", "step": "30min"},
            "cap": {"from": 0.05, "to": 0.2, "step": 0.05},
            "count": {"from": 2, "to": 6, "step": 2},
            "order": ["random", "sequential"],
            "falling": ["1h", "90s", "0s"],
        },
        1_000,
        4,
        problems,
    )
    assert problems == []
    assert [key.values for key in made.keys[:3]] == [
        ("0s", "30min", "1h", "90min", "2h"),
        (0.05, 0.1, 0.15, 0.2),
        (2, 4, 6),
    ]
    assert [key.is_ordered for key in made.keys] == [True, True, True, False, True]
    assert made.size == made.case_count == 5 * 4 * 3 * 2 * 3


def test_the_page_draws_what_was_searched(searched: Sweep, tmp_path):
    fleetsim.write_sweep(searched, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()

    assert "length_ms by update_domain_gap" in page and "length_ms by spread" in page
    assert "within all limits" in page and "beyond a limit" in page
    assert "no line here" not in page


def test_campaigns_may_be_named_as_the_keys_of_a_range():
    values = ["0s", "5min"]
    asked = {"scenario": {}, "search": {"cases": 2, "campaign": {"step": {"update_domain_gap": values}}}}
    space = _read(asked, 100).space
    assert space is not None
    assert [(key.name, key.values) for key in space.keys] == [("campaign.step.update_domain_gap", ("0s", "5min"))]

    grid = _read({"scenario": {}, "grid": {"campaign": {"p50": {"update_domain_gap": values}}}}, 100)
    assert [list(case.values) for case in grid.cases] == [["campaign.p50.update_domain_gap"]] * 2
