"""Runs: the same bytes whatever threads, order of rows or interruptions; nothing lost, nothing half-written."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import fleetsim
from fleetsim.errors import InputError, RunError
from fleetsim.fleet import check, generate, prepare
from fleetsim.loosening import looser
from fleetsim.schema import EVENTS, NO_GUARANTEE, OUTCOMES, STAGES, SUMMARY

SCENARIO = """
name = "test"
start = 2026-12-01T00:00:00Z
seed = 7
[[campaign]]
name = "first"
length = { p50 = "6s", p99 = "9s" }
update_domain_gap = "10min"
spread = "2h"
[[campaign]]
name = "second"
length = "30s"
start = "1h"
regions = ["Europe", "eastus"]
"""
REGIONS = ["eastus", "westus", "northeurope", "westeurope", "uksouth"]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    out = tmp_path_factory.mktemp("fleet") / "fleet"
    generate(out, 5_000, regions=REGIONS)
    return out


@pytest.fixture(scope="module")
def prepared(fleet):
    out = fleet.with_name("prepared")
    prepare(fleet, out)
    return out


def files_of(run):
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def command(*arguments, **options):
    code = "import sys; from fleetsim.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_equal_runs_are_equal_bytes_whatever_the_threads(prepared, tmp_path):
    for name, threads in (("one", 1), ("two", 2), ("seven", 7)):
        fleetsim.run(prepared, SCENARIO, tmp_path / name, threads=threads)

    one = files_of(tmp_path / "one")
    del one["timings.json"]
    for name in ("two", "seven"):
        other = files_of(tmp_path / name)
        del other["timings.json"]
        assert other == one


def test_shuffled_rows_give_the_same_digest(fleet, tmp_path):
    table = pl.read_parquet(fleet)
    straight = fleetsim.run(table, SCENARIO, tmp_path / "straight")
    shuffled = fleetsim.run(table.sample(fraction=1, shuffle=True, seed=1), SCENARIO, tmp_path / "shuffled")

    assert shuffled.digest == straight.digest
    assert fleetsim.run(fleet, SCENARIO, tmp_path / "from-files").digest == straight.digest


def test_another_seed_gives_other_events(prepared, tmp_path):
    one = fleetsim.run(prepared, SCENARIO, tmp_path / "one")
    other = fleetsim.run(prepared, SCENARIO, tmp_path / "other", overrides=["seed=8"])

    assert one.digest != other.digest


def test_every_file_has_its_declared_columns_and_provenance(prepared, tmp_path):
    run = fleetsim.run(prepared, SCENARIO, tmp_path / "run")
    tables = {
        "events": EVENTS,
        "outcomes": OUTCOMES,
        "stages.parquet": STAGES,
        "summary.parquet": SUMMARY,
        "no_guarantee.parquet": NO_GUARANTEE,
    }
    for part in run.manifest["parts"]:
        table = tables.get(part["path"].split("/")[0])
        if table is None:
            continue
        schema = pq.read_schema(run.path / part["path"])
        assert schema.names == [column.name for column in table.columns if column.is_required]
        for column in table.columns[: len(schema)]:
            assert schema.field(column.name).nullable == column.is_nullable
        facts = {key.decode(): value.decode() for key, value in schema.metadata.items()}
        assert facts["fleetsim.version"] == fleetsim.__version__
        assert facts["fleetsim.seed"] == "7"
        assert facts["fleetsim.scenario_digest"] == run.manifest["scenario_digest"]
        assert facts["fleetsim.fleet_digest"] == run.manifest["fleet_digest"]
        if table in (EVENTS, OUTCOMES):
            assert json.loads(facts["fleetsim.effects"])[4] == "clock_synchronised"


@pytest.mark.parametrize("switched_off", ["events", "outcomes"])
def test_outputs_can_be_switched_off(prepared, tmp_path, switched_off):
    run = fleetsim.run(prepared, SCENARIO, tmp_path / "run", overrides=[f"outputs.{switched_off}=false"])

    assert not (run.path / switched_off).exists()
    assert run.manifest["counts"][switched_off] == 0


def test_an_empty_scope_is_a_warning_and_an_empty_run(prepared, tmp_path):
    run = fleetsim.run(prepared, SCENARIO, tmp_path / "run", overrides=['campaign.first.regions=["japaneast"]'])

    assert any("japaneast" in warning for warning in run.warnings)
    stages = pl.read_parquet(run.path / "stages.parquet")
    assert stages["campaign"].cast(pl.String).unique().to_list() == ["second"]

    nothing = fleetsim.run(
        prepared,
        SCENARIO,
        tmp_path / "nothing",
        overrides=['campaign.first.regions=["japaneast"]', 'campaign.second.regions=["japanwest"]'],
    )
    assert nothing.manifest["counts"]["stages"] == 0
    assert fleetsim.verify(nothing.path).ok


def test_own_pairs_replace_the_built_in_ones(fleet, prepared, tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("region,paired_region\n" + "".join(f"{region},\n" for region in REGIONS))
    own = fleetsim.run(prepared, SCENARIO, tmp_path / "own", pairs=pairs, overrides=['campaign.second.regions=["*"]'])

    first = pl.read_parquet(own.path / "summary.parquet").filter(
        (pl.col("figure").cast(pl.String) == "start_ms") & (pl.col("campaign").cast(pl.String) == "first")
    )
    assert first["value"].to_list() == [0.0] * len(REGIONS), "without pairs all regions start at once"
    assert fleetsim.verify(own.path).ok


def test_a_prepared_fleet_keeps_the_pairs_it_was_prepared_with(tmp_path):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("region,paired_region\nmars,phobos\nphobos,\n")
    own = pl.DataFrame({"vm": [1, 2, 3], "region": ["mars", "phobos", "phobos"]})
    there = prepare(own, tmp_path / "prepared", pairs).path
    everywhere = SCENARIO.partition("[[campaign]]")[0] + '[[campaign]]\nname = "all"\n'
    named = fleetsim.run(there, everywhere, tmp_path / "named", pairs=pairs)
    unnamed = fleetsim.run(there, everywhere, tmp_path / "unnamed")

    assert named.digest == unnamed.digest and fleetsim.verify(unnamed.path).ok
    assert check(there).vm_count == 3
    with pytest.raises(InputError, match=r"must be a known region, got 'mars'.*--pairs"):
        fleetsim.run(own, everywhere, tmp_path / "forgotten")


def test_what_exists_is_refused_before_anything_is_computed(prepared, tmp_path):
    run = fleetsim.run(prepared, SCENARIO, tmp_path / "run")
    before = files_of(run.path)
    with pytest.raises(InputError, match="found a finished run"):
        fleetsim.run("no such fleet", "no such scenario", run.path)
    (run.path / "manifest.json").unlink()
    with pytest.raises(InputError, match="--resume goes on with it"):
        fleetsim.run("no such fleet", "no such scenario", run.path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "file").touch()
    with pytest.raises(InputError, match="new or empty folder"):
        fleetsim.run(prepared, SCENARIO, other)
    with pytest.raises(InputError, match=r"found a folder without resolved\.toml"):
        fleetsim.run(prepared, SCENARIO, other, resume=True)
    with pytest.raises(InputError, match="found a file"):
        fleetsim.run(prepared, SCENARIO, other / "file")

    del before["manifest.json"]
    assert files_of(run.path) == before


def test_unusable_input_leaves_nothing_behind(prepared, tmp_path):
    for fleet, scenario, pairs in (
        (prepared, SCENARIO.replace("6s", "6 parsecs"), None),
        (prepared, SCENARIO.replace("eastus", "eastsu"), None),
        (pl.DataFrame({"vm": [1, 1], "region": ["eastus", "eastus"]}), SCENARIO, None),
        (prepared, SCENARIO, tmp_path / "no pairs.csv"),
    ):
        with pytest.raises(InputError):
            fleetsim.run(fleet, scenario, tmp_path / "deep" / "run", pairs=pairs)
    with pytest.raises(InputError, match="threads"):
        fleetsim.run(prepared, SCENARIO, tmp_path / "run", threads=0)

    assert list(tmp_path.iterdir()) == []


def test_resume_of_a_finished_run_says_so(prepared, tmp_path):
    run = fleetsim.run(prepared, SCENARIO, tmp_path / "run")
    before = files_of(run.path)
    again = fleetsim.run(prepared, SCENARIO, run.path, resume=True)

    assert again.digest == run.digest
    assert again.warnings == ("the run was finished already",)
    assert files_of(run.path) == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"overrides": ["seed=8"]}, "seed: was 7, is 8"),
        ({"overrides": ["campaign.first.spread=3h"]}, "campaign.first.spread: was '2h', is '3h'"),
        ({"fleet": {"vm": [1], "region": ["eastus"]}}, "fleet: another one"),
    ],
)
def test_resume_under_something_else_names_what_changed(prepared, tmp_path, changed, named):
    run = fleetsim.run(prepared, SCENARIO, tmp_path / "run")
    (run.path / "manifest.json").unlink()
    fleet = pl.DataFrame(changed["fleet"]) if "fleet" in changed else prepared
    with pytest.raises(InputError, match=named):
        fleetsim.run(fleet, SCENARIO, run.path, resume=True, overrides=changed.get("overrides", ()))


def test_resume_keeps_finished_parts_and_ends_with_the_same_bytes(prepared, tmp_path):
    whole = fleetsim.run(prepared, SCENARIO, tmp_path / "whole")
    run = fleetsim.run(prepared, SCENARIO, tmp_path / "run")
    kept = run.path / run.manifest["parts"][0]["path"]
    (run.path / "manifest.json").unlink()
    (run.path / "stages.parquet").unlink()
    lost = [path for path in run.path.rglob("events/**/*.parquet") if path != kept]
    for path in lost:
        path.unlink()
    inode = kept.stat().st_ino
    resumed = fleetsim.run(prepared, SCENARIO, run.path, resume=True)

    assert resumed.digest == whole.digest
    assert kept.stat().st_ino == inode, "a finished part is not written again"
    assert {name: content for name, content in files_of(run.path).items() if name != "timings.json"} == {
        name: content for name, content in files_of(whole.path).items() if name != "timings.json"
    }


@pytest.fixture(scope="module")
def long_scenario(tmp_path_factory):
    """Enough stages that a run can be stopped between two of them."""
    campaigns = "".join(f'[[campaign]]\nname = "c{place}"\nlength = "30s"\n' for place in range(40))
    path = tmp_path_factory.mktemp("scenario") / "long.toml"
    path.write_text(f'name = "long"\nstart = 2026-12-01T00:00:00Z\n{campaigns}')
    return path


def started(process, run):
    """Wait until *run* has a finished part of events."""
    deadline = time.monotonic() + 120
    while not any(run.glob("events/region=*/part-*.parquet")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_killed_and_resumed_is_as_if_nothing_had_happened(prepared, long_scenario, tmp_path):
    whole = fleetsim.run(prepared, long_scenario, tmp_path / "whole")
    run = tmp_path / "run"
    process = command("run", prepared, long_scenario, "-o", run)
    started(process, run)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (run / "manifest.json").exists(), "killed too late to show anything"

    with pytest.raises(InputError, match="an interrupted run is finished by"):
        fleetsim.report(run)
    resumed = fleetsim.run(prepared, long_scenario, run, resume=True)
    assert resumed.digest == whole.digest
    assert fleetsim.verify(run).ok
    assert not list(run.rglob(".*")), "temporary files are gone"


def test_ctrl_c_exits_with_130_and_keeps_parts(prepared, long_scenario, tmp_path):
    run = tmp_path / "run"
    process = command("run", prepared, long_scenario, "-o", run)
    started(process, run)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()

    assert process.returncode == 130
    assert "--resume goes on" in said
    assert "Traceback" not in said
    assert any(run.glob("events/region=*/part-*.parquet"))
    assert not (run / "manifest.json").exists()


def test_a_full_disk_exits_with_1_and_keeps_parts(prepared, tmp_path):
    run = tmp_path / "run"
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(SCENARIO)

    def limit():
        # The kernel refuses what would make a file larger: an error of write(2), as a full disk is.
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))

    fleetsim.warmup()
    process = command("run", prepared, scenario, "-o", run, preexec_fn=limit)
    _, said = process.communicate()

    assert process.returncode == 1, said
    assert "could not be written" in said
    assert "Traceback" not in said
    assert (run / "resolved.toml").exists()
    assert not list(run.rglob("*.tmp")), "no half-written file is left"
    assert not (run / "manifest.json").exists()
    assert fleetsim.run(prepared, scenario, run, resume=True).digest == (
        fleetsim.run(prepared, scenario, tmp_path / "whole").digest
    )


def test_an_error_on_a_thread_is_told_and_ends_the_run(prepared, tmp_path, monkeypatch):
    def no_space(self, name, content, rows=None):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("fleetsim.runfolder.RunFolder.write", no_space)
    with pytest.raises(RunError, match="No space left on device"):
        fleetsim.run(prepared, SCENARIO, tmp_path / "run")


def test_progress_is_told_stage_by_stage(prepared, tmp_path):
    told = []
    fleetsim.run(prepared, SCENARIO, tmp_path / "run", progress=lambda *step: told.append(step))

    steps = [step for step in told if step[0] == "run"]
    assert steps[-1][1] == steps[-1][2] == 5_000 + 3_000
    assert sum(bool(sentence) for *_, sentence in steps) == len(REGIONS) + 3
    assert Path(tmp_path / "run" / "manifest.json").exists()


def test_what_a_killed_run_left_half_written_is_cleared(fleet, tmp_path):
    whole = fleetsim.run(fleet, SCENARIO, tmp_path / "whole")
    run = fleetsim.run(fleet, SCENARIO, tmp_path / "run")
    (run.path / "manifest.json").unlink()
    (run.path / "events" / "region=eastus" / ".half.tmp").write_bytes(b"half")
    preparing = tmp_path / ".run.preparing-x"
    preparing.mkdir()
    resumed = fleetsim.run(fleet, SCENARIO, run.path, resume=True)

    assert resumed.digest == whole.digest
    assert not preparing.exists()
    assert fleetsim.verify(run.path).ok


@pytest.mark.parametrize("folder", ["fleet", "units"])
def test_a_damaged_prepared_fleet_is_named(fleet, tmp_path, folder):
    prepared = tmp_path / "prepared"
    prepare(fleet, prepared)
    part = prepared / folder / "region=uksouth" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(InputError, match="part 0 of region=uksouth must be readable"):
        fleetsim.run(prepared, SCENARIO, tmp_path / "run")


@pytest.mark.parametrize("content", ["", "[]", "{}"])
def test_resume_of_a_run_with_a_damaged_manifest(prepared, tmp_path, content):
    run = fleetsim.run(prepared, SCENARIO, tmp_path / "run")
    (run.path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match="must be the manifest of a run"):
        fleetsim.run(prepared, SCENARIO, run.path, resume=True)


def test_a_part_cut_short_is_written_anew_on_resume(prepared, tmp_path):
    whole = fleetsim.run(prepared, SCENARIO, tmp_path / "whole")
    run = fleetsim.run(prepared, SCENARIO, tmp_path / "run")
    (run.path / "manifest.json").unlink()
    for name in ("events", "outcomes"):
        part = next((run.path / name).rglob("*.parquet"))
        part.write_bytes(part.read_bytes()[:-20])
    (run.path / "stages.parquet").write_bytes(b"half")

    assert fleetsim.run(prepared, SCENARIO, run.path, resume=True).digest == whole.digest


def test_a_folder_with_nothing_but_a_half_written_file_is_as_good_as_new(prepared, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".half.tmp").touch()
    fleetsim.run(prepared, SCENARIO, tmp_path / "run")

    assert not list((tmp_path / "run").glob(".*"))


def test_whatever_ends_a_thread_ends_the_run(prepared, tmp_path, monkeypatch):
    def leave(*_):
        raise SystemExit(3)

    monkeypatch.setattr("fleetsim.runner.Drive.compute", leave)
    with pytest.raises(SystemExit):
        fleetsim.run(prepared, SCENARIO, tmp_path / "run")


def test_a_fleet_is_copied_where_it_cannot_be_linked(prepared, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    linked = fleetsim.run(prepared, SCENARIO, tmp_path / "linked")
    monkeypatch.setattr(os, "link", refuse)
    copied = fleetsim.run(prepared, SCENARIO, tmp_path / "copied")

    assert copied.manifest["parts"] == linked.manifest["parts"]


REBOOT = {
    "name": "reboot",
    "start": datetime(2026, 12, 1, tzinfo=UTC),
    "campaign": [
        {
            "name": "boot",
            "kind": "reboot",
            "notice": "0s",
            "self_service": {"length": "2d", "spare_ratio": 1.0},
            "scheduled": {"gap": "0s", "length": "1d"},
        }
    ],
}


def planned(folder: Path, *rows: str) -> dict:
    path = folder / "plan.csv"
    path.write_text("\n".join(["vm,at", *rows]) + "\n")
    boot = REBOOT["campaign"][0]
    return REBOOT | {"campaign": [boot | {"self_service": boot["self_service"] | {"requests": str(path)}}]}


def test_a_plan_over_vms_that_the_fleet_has_not_is_told_by_line_and_nothing_is_written(tmp_path):
    fleet = pa.table({"vm": ["a", "b"], "region": ["eastus", "eastus"]})
    scenario = planned(tmp_path, "a,2026-12-01T12:00:00Z", "c,2026-12-01T12:00:00Z", "B,2026-12-02T00:00:00Z")

    with pytest.raises(InputError) as caught:
        fleetsim.run(fleet, scenario, tmp_path / "run")

    assert caught.value.problems == [
        f"{tmp_path / 'plan.csv'}:{line}: vm: must be a VM of the fleet, got '{vm}'"
        for line, vm in ((3, "c"), (4, "B"))
    ]
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_the_plan_so_that_rules_can_be_loosened_without_it(tmp_path):
    fleet = pa.table({"vm": [1, 2, 3], "region": ["eastus"] * 3, "set": [1, 1, 1]})
    run = fleetsim.run(fleet, planned(tmp_path, "1,2026-12-01T12:00:00Z"), tmp_path / "run")
    (tmp_path / "plan.csv").unlink()

    assert fleetsim.verify(run.path).ok
    gaps = [saving for saving in looser(run.path).savings if saving.rule == "gap"]
    assert [saving.updated_count for saving in gaps] == [3]


def test_requests_of_a_plan_that_fall_out_of_all_windows_are_counted(tmp_path):
    fleet = pa.table({"vm": [1, 2, 3], "region": ["eastus"] * 3})
    rows = "1,2026-12-01T12:00:00Z", "2,2026-11-30T12:00:00Z", "3,2026-12-03T00:00:00Z", "1,2026-12-02T12:00:00Z"
    run = fleetsim.run(fleet, planned(tmp_path, *rows), tmp_path / "run")

    assert fleetsim.verify(run.path).ok
    assert [line for line in run.warnings if "requests were not made" in line] == [
        f"{tmp_path / 'plan.csv'}: 3 of 4 requests were not made: out of their windows, or of VMs that were settled by"
        " then, or that campaign 'boot' does not select"
    ]
    (asked,) = fleetsim.read_events(run.path).filter(pl.col("phase") == "self_service").collect().rows(named=True)
    assert (asked["vm"], asked["result"]) == (1, "completed")


def test_too_little_disk_or_memory_is_said_before_anything_is_written(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("fleetsim.room.shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(
        InputError, match=r"run: must have about [0-9.]+ MiB of disk for what is kept, got 0\.0 MiB; outputs"
    ):
        fleetsim.run(prepared, SCENARIO, tmp_path / "run")
    lean = ["outputs.events=false", "outputs.outcomes=false"]
    fleetsim.run(prepared, SCENARIO, tmp_path / "lean", overrides=lean)
    with pytest.raises(InputError, match="sweep: must have about"):
        sweep = {"scenario": tomllib.loads(SCENARIO), "replicas": 2}
        fleetsim.sweep(prepared, sweep, tmp_path / "sweep")
    monkeypatch.undo()
    monkeypatch.setattr("fleetsim.room._available", lambda: 1_000)
    with pytest.raises(InputError, match=r"memory: must be about [0-9.]+ MiB for the largest region or part"):
        fleetsim.run(prepared, SCENARIO, tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name in ("run", "sweep")) == []
