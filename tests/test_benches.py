"""The opponents of the benchmarks: each gives the answer in closed form on a small fleet, and a wrong one is told."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benches import __main__ as bench
from benches import campaign, checks, large, layers, opponents, small, tables, worker
from benches.campaign import Given
from benches.opponents import OPPONENTS, RANDOM_GROUPS, Opponent

VMS = 2_000
CASES = [pytest.param(each, group, id=f"{group}-{each.name}") for each in OPPONENTS for group in each.groups]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return worker.prepare(tmp_path_factory.mktemp("fleet") / "prepared", VMS)


def impacts_one_by_one(vms: int) -> tuple[list[int], list[int]]:
    """Start and length of each VM's freeze, VM by VM from the words of the campaign."""
    starts = []
    for vm in range(vms):
        domain = vm % 20 % 5
        is_second = vm // (vms // 10) % 2 == 1
        starts.append(domain * (30_000 + 1_800_000) + is_second * (5 * 30_000 + 4 * 1_800_000))
    return starts, [30_000] * vms


@pytest.mark.parametrize("vms", [200, 2_000, 40_200])
def test_the_closed_form_is_the_sum_over_all_vms(vms):
    starts, lengths = impacts_one_by_one(vms)
    assert campaign.checksum(vms) == sum((vm + 1) * start_ms // 1000 for vm, start_ms in enumerate(starts))
    assert max(map(sum, zip(starts, lengths, strict=True))) == campaign.LENGTH_S * 1000 == 14_700_000
    verdict = checks.check_impacts(vms, starts, lengths, is_random=False)
    assert verdict == checks.Verdict(14_700.0, campaign.checksum(vms))


def test_the_checksum_wraps_around():
    exact = 3851.25 * 100_000_000**2  # the leading term
    assert campaign.checksum(100_000_000) == pytest.approx(exact % 2**64, rel=1e-6)


@pytest.mark.parametrize(("opponent", "group"), CASES)
def test_every_opponent_gives_the_answer(opponent: Opponent, group: str, prepared, tmp_path):
    if opponent.missing:
        pytest.skip(f"{opponent.what} needs {'; '.join(opponent.missing)}")
    given = Given(VMS, prepared, tmp_path, opponent.threads or 2, group in RANDOM_GROUPS)
    if opponent.how == "process":
        subprocess.run([sys.executable, "-c", opponent.process_code, *given.words()], cwd=bench.ROOT, check=True)
        result = tmp_path / "out"
    else:
        task = opponent.load()(given)
        task()
        result = task()  # a second time, as it is when measured
    verdict = worker.judge(opponent, given, result)
    if result is None or not opponent.has_answer:
        assert opponent.role == "limit" or group == "kernel" or opponent.name == "help"
        return
    assert verdict["problems"] == ()
    if opponent.is_verified:
        assert verdict["events"] >= VMS
    elif not given.is_random:
        assert (verdict["length_s"], verdict["checksum"]) == (14_700.0, campaign.checksum(VMS))


def test_a_wrong_start_or_length_is_told():
    starts, lengths = map(np.array, impacts_one_by_one(VMS))

    def problems() -> str:
        return "; ".join(checks.check_impacts(VMS, starts, lengths, is_random=False).problems)

    assert not problems()
    starts[[3, 4]] = starts[[4, 3]]
    assert "checksum" in problems()
    starts[[3, 4]] = starts[[4, 3]]
    lengths[-1] += 1
    assert "length 14,700.001 s" in problems()
    assert "1 freezes are not" in problems()
    assert checks.check_impacts(VMS, starts[1:], lengths, is_random=False).problems


def random_impacts(p50_ms: float) -> tuple[np.ndarray, np.ndarray]:
    """A campaign with lengths of another median, by the rules."""
    lengths = np.random.default_rng(1).lognormal(np.log(p50_ms), campaign.SIGMA, VMS).astype(np.int64)
    by_region = lengths.reshape(10, -1, 4, 5)
    starts = np.zeros_like(by_region)
    for region in range(10):
        start_ms = 0 if region % 2 == 0 else int((starts + by_region)[region - 1].max())
        for domain in range(5):
            starts[region, :, :, domain] = np.reshape(start_ms, (-1, 1))
            start_ms = starts[region, :, 0, domain] + by_region[region, :, :, domain].max(axis=1) + 1_800_000
    return starts.reshape(VMS), lengths


@pytest.mark.parametrize(
    ("vm", "said"),
    [(7, "apart"), (slice(1, 20, 5), "the gap after"), (slice(0, 20, 5), "at 0"), (slice(200, 220), "is through")],
)
def test_a_broken_rule_is_told_with_random_lengths(vm, said):
    starts, lengths = random_impacts(campaign.P50_MS)
    assert not checks.check_impacts(VMS, starts, lengths, is_random=True).problems
    starts[vm] += 1
    assert any(said in problem for problem in checks.check_impacts(VMS, starts, lengths, is_random=True).problems)


def test_another_distribution_is_told():
    starts, lengths = random_impacts(campaign.P50_MS * 1.05)
    (problem,) = checks.check_impacts(VMS, starts, lengths, is_random=True).problems
    assert "from the lognormal" in problem


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("events", lambda table: table.drop_columns("effects"), "has the columns"),
        ("events", lambda table: table.slice(1), "1,999 rows"),
        ("events", lambda table: table.set_column(6, "start_at", table["start_at"].cast(pa.int64())), "an instant"),
        (
            "events",
            lambda table: table.set_column(8, "effects", pc.add(table["effects"], pa.scalar(1, pa.uint8()))),
            "not 16",
        ),
        ("outcomes", lambda table: table.set_column(2, "vm_row", pa.repeat(pa.scalar(0, pa.uint32()), VMS)), "once"),
        (
            "outcomes",
            lambda table: table.set_column(5, "paused_ms", pc.add(table["paused_ms"], pa.scalar(1, pa.uint32()))),
            "paused_ms",
        ),
    ],
)
def test_a_wrong_table_is_told(name, change, said, prepared, tmp_path):
    (opponent,) = (each for each in OPPONENTS if each.name == "run")
    given = Given(VMS, prepared, tmp_path, threads=1)
    out = opponent.load()(given)()
    table = pa.concat_tables([pq.ParquetFile(path).read() for path in sorted((out / name).rglob("*.parquet"))])
    shutil.rmtree(out / name)
    pq.write_table(table, out / f"{name}.parquet")
    assert not worker.judge(opponent, given, out)["problems"]
    pq.write_table(change(table), out / f"{name}.parquet")
    problems = worker.judge(opponent, given, out)["problems"]
    assert any(said in problem for problem in problems)


def test_the_command_keeps_its_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "kept.json"
    told = ["--vms", "2e3", "--rounds", "2", "--only", "numpy", "--only", "heapq", "--json", str(kept)]
    assert bench.main(told) == 0
    content = json.loads(kept.read_text())
    assert {(row["name"], row["group"]) for row in content["rows"]} == {
        (name, group) for name in ("numpy", "heapq") for group in ("memory", "random")
    }
    for row in content["rows"]:
        assert row["problems"] == []
        assert row["events"] == VMS
        assert len(row["seconds_by_round"]) == 2
        assert row["group"] == "random" or row["checksum"] == campaign.checksum(VMS)
    assert "NumPy, vectorised" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_a_wrong_answer_fails_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    answer = {
        "seconds": 1.0,
        "cpu_seconds": 1.0,
        "peak_mib": 1.0,
        "length_s": 1.0,
        "checksum": 1,
        "problems": ["length 1 s"],
    }
    monkeypatch.setattr(bench._Bench, "_worker", lambda self, *words: answer)
    assert bench.main(["--vms", "2000", "--rounds", "1", "--only", "numpy"]) == 1
    assert "WRONG: memory, NumPy, vectorised, 2,000 VMs: length 1 s" in capsys.readouterr().out


def test_an_opponent_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sound, broken = (each for each in OPPONENTS if each.name in ("numpy", "heapq"))
    code = "import sys; sys.exit('no such way')"
    run = bench._Bench.run
    monkeypatch.setattr(bench, "OPPONENTS", (sound, broken))
    monkeypatch.setattr(
        bench._Bench,
        "run",
        lambda self, *words: run(self, "-c", code) if broken.name in words else run(self, *words),
    )
    assert bench.main(["--vms", "2000", "--rounds", "1", "--only", "memory"]) == 1
    out = capsys.readouterr().out
    assert f"WRONG: memory, {broken.what}, 2,000 VMs: failed with exit code 1, saying: no such way" in out
    assert f"WRONG: memory, {sound.what}" not in out


def test_an_opponent_whose_library_is_missing_is_left_out_with_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    absent = replace(OPPONENTS[0], name="absent", what="Absent", needs=("no_such_library",))
    monkeypatch.setattr(bench, "OPPONENTS", (absent,))
    assert bench.main(["--vms", "2000", "--rounds", "1"]) == 0
    assert "left out: Absent, which needs: pip install no_such_library\n" in capsys.readouterr().out


def test_a_tool_that_is_missing_is_left_out_with_how_to_install_it(monkeypatch):
    absent = replace(OPPONENTS[0], needs=("simgrid", "json"))
    monkeypatch.setitem(opponents.TOOLS, "simgrid", replace(opponents.TOOLS["simgrid"], is_here=lambda: False))
    assert absent.missing == ("apt-get install g++ libsimgrid-dev",)
    monkeypatch.setitem(opponents.TOOLS, "simgrid", replace(opponents.TOOLS["simgrid"], is_here=lambda: True))
    assert absent.missing == ()


@pytest.mark.parametrize(
    "told", [["--vms", "1e3,2001"], ["--only", "nobody"], ["--rounds", "0"], ["--keep", "--only", "numpy"]]
)
def test_unusable_arguments_are_refused(told, capsys):
    with pytest.raises(SystemExit) as exited:
        bench.main(told)
    assert exited.value.code == 2
    assert "must be" in capsys.readouterr().err


def test_a_run_whose_rules_are_broken_is_told(prepared, tmp_path):
    (opponent,) = (each for each in OPPONENTS if each.name == "more-customers")
    given = Given(VMS, prepared, tmp_path, threads=1, is_random=True)
    out = opponent.load()(given)()
    (path, *_) = sorted((out / "events").rglob("*.parquet"))
    table = pq.ParquetFile(path).read()
    later = pc.add(table["start_at"].cast(pa.int64()), 90 * 86_400_000).cast(table.schema.field("start_at").type)
    pq.write_table(
        table.set_column(table.schema.get_field_index("start_at"), table.schema.field("start_at"), later), path
    )
    assert any("is broken" in problem for problem in worker.judge(opponent, given, out)["problems"])


KEPT = {name: 10.0 for _, name in small.ROWS}


@pytest.mark.parametrize(
    ("first", "again", "told"),
    [
        ({}, None, []),
        ({"walk": 6.7}, None, []),  # a third slower, and no more
        ({"walk": 6.6}, {"walk": 9.0}, []),  # a neighbour on the machine, for once
        ({"walk": 6.6}, {"walk": 6.5}, ["walk runs 0.66 times as fast"]),
        ({"walk": 1.0, "load": 6.0}, {"walk": 20.0, "load": 6.6}, ["load runs 0.66 times as fast"]),
        ({"walk": 30.0}, None, []),  # faster is fine
    ],
)
def test_a_kernel_that_has_become_slower_by_more_than_a_third_is_told(first, again, told):
    measured = [{**KEPT, **each} for each in (first, again) if each is not None]
    problems = small.judge(KEPT, lambda: measured.pop(0), lambda line: None)
    assert [problem.split(" as fast")[0] + " as fast" for problem in problems] == told
    assert not measured


@pytest.mark.parametrize(("slowed", "code"), [(1.0, 0), (0.6, 1)])
def test_the_small_edition_fails_where_a_kernel_is_slower(slowed, code, monkeypatch, capsys):
    monkeypatch.setattr(small, "ratios", lambda: {name: slowed * ratio for name, ratio in small.read().items()})
    monkeypatch.setattr(bench, "_machine", lambda: {"cpu": small.kept_cpu()})
    assert bench.main(["--small"]) == code
    assert ("SLOWER: walk-random runs 0.60 times as fast" in capsys.readouterr().out) == bool(code)


def test_the_small_edition_does_not_judge_by_another_processor(monkeypatch, capsys):
    monkeypatch.setattr(small, "ratios", lambda: {name: ratio / 2 for name, ratio in small.read().items()})
    monkeypatch.setattr(bench, "_machine", lambda: {"cpu": "another"})

    assert bench.main(["--small"]) == 0
    assert "told, not judged" in capsys.readouterr().out.replace("\n", " ")


def test_the_small_edition_measures_each_row_against_the_calibration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = small.ratios(rounds=1, vms=VMS)
    assert list(found) == [name for _, name in small.ROWS] == list(small.read())
    assert min(found.values()) > 0
    small.save(found, {"machine": {"cpu": "x"}}, tmp_path / "small.json")
    assert small.read(tmp_path / "small.json") == found


def test_ratios_of_other_rows_are_refused(tmp_path):
    small.save({"walk": 1.0}, {}, tmp_path / "small.json")
    with pytest.raises(ValueError, match="--small --save keeps them anew"):
        small.read(tmp_path / "small.json")


def test_the_small_edition_says_so_where_it_cannot_compare(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(small, "KEPT", tmp_path / "small.json")
    assert bench.main(["--small"]) == 2
    assert "NOT COMPARED" in capsys.readouterr().out
    monkeypatch.setattr(small, "ratios", lambda rounds: KEPT)
    assert bench.main(["--small", "--save"]) == 0
    monkeypatch.setattr(small, "ratios", lambda: KEPT)
    assert bench.main(["--small"]) == 0


def test_the_calibration_is_of_known_work(monkeypatch):
    small.calibration()()
    monkeypatch.setattr(small, "_STEPS", 1000)
    with pytest.raises(RuntimeError, match="the calibration came to"):
        small.calibration()


@pytest.mark.parametrize("page", tables.PAGES)
def test_the_tables_of_a_page_are_those_of_the_kept_rows(page):
    content = json.loads(tables.newest().read_text())
    text = (bench.ROOT / page).read_text("utf-8")
    assert tables.BLOCK.search(text)
    assert tables.rendered(text, content) == text, f"{page}: python -m benches.tables makes its tables"
    content["rows"] = [{**row, "cpu_seconds": 2 * row["cpu_seconds"]} for row in content["rows"]]
    assert tables.rendered(text, content) != text


def test_the_kept_rows_are_right_and_of_all_opponents():
    content = json.loads(tables.newest().read_text())
    assert content["versions"]["fleetsim"] == tables.newest().stem
    assert not any(row["problems"] for row in content["rows"])
    assert {(row["group"], row["name"]) for row in content["rows"]} == {
        (group, each.name) for each in OPPONENTS for group in each.groups
    }
    for row in content["rows"]:
        if row["checksum"] and row["group"] in ("memory", "parquet"):
            assert (row["checksum"], row["length_s"]) == (campaign.checksum(row["vms"]), 14_700.0)


def test_the_newest_version_is_chosen_by_number(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    for name in ("0.9.0", "0.10.0", "small"):
        (tmp_path / f"{name}.json").write_text("{}")
    assert tables.newest() == tables.kept("0.10.0")


def kept_content(vms: int, seconds: float, **changed):
    rows = [
        {"group": group, "vms": vms, "name": name, "seconds": seconds}
        for group in ("kernel", "memory")
        for name in ("b", "a")
    ]
    content = {
        "machine": {"cpu": "x", "cores": 2, "load_at_start": seconds},
        "versions": {"fleetsim": "0.1.0"},
        "rows": rows,
        "layers": {"vms": vms, "seconds": seconds},
        "profiles": {"a": {"vms": vms, "seconds": seconds}},
        "left_out": [f"left out: a at {vms}"],
    }
    return {**content, **changed}


def test_rows_of_other_sizes_stay_if_they_are_of_the_same_machine_and_versions(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RESULTS", tmp_path)

    def kept():
        content = json.loads(tables.kept("0.1.0").read_text())
        return [(row["group"], row["vms"], row["name"], row["seconds"]) for row in content["rows"]], content

    tables.keep(kept_content(2000, 1.0))
    tables.keep(kept_content(200, 2.0))
    tables.keep(kept_content(2000, 3.0))
    rows, content = kept()
    sizes = ((200, 2.0), (2000, 3.0))
    groups = ("kernel", "memory")
    assert rows == [(group, vms, name, s) for group in groups for vms, s in sizes for name in ("b", "a")]
    assert content["layers"] == content["profiles"]["a"] == {"vms": 2000, "seconds": 3.0}
    assert content["left_out"] == ["left out: a at 2000", "left out: a at 200"]

    tables.keep(kept_content(200, 4.0, versions={"fleetsim": "0.1.0", "numba": "1"}))
    assert {(vms, seconds) for _, vms, _, seconds in kept()[0]} == {(200, 4.0)}


def frame_of(path: str, function: str, caller: str = "sys._getframe()"):
    names = {"sys": sys}
    exec(compile(f"def {function}(): return {caller}", path, "exec"), names)
    return names[function]()


@pytest.mark.parametrize(
    ("path", "function", "layer"),
    [
        ("/x/fleetsim/engine.py", "advance", "simulates: kernels"),
        ("/x/fleetsim/other.py", "advance", layers.REST),
        ("/x/lib/threading.py", "wait", None),
    ],
)
def test_a_thread_is_seen_in_its_layer(path, function, layer):
    assert layers._layer(frame_of(path, function)) == layer


def test_layers_are_functions_of_fleetsim():
    package = bench.ROOT / "fleetsim"
    for module, function in layers.LAYERS:
        assert re.search(rf"^def {function}\(", (package / module).read_text("utf-8"), re.MULTILINE), (module, function)


def test_the_shares_of_layers_are_of_the_whole(prepared, tmp_path):
    (opponent,) = (each for each in OPPONENTS if each.name == "run")
    given = Given(VMS, prepared, tmp_path, threads=2, is_random=True)
    found = worker.layers(opponent, given, given)
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert set(found["shares"]) <= {*layers.LAYERS.values(), layers.REST}


def test_parts_are_kernels():
    kernels = "".join(path.read_text("utf-8") for path in (bench.ROOT / "fleetsim/kernels").glob("*.py"))
    for kernel in layers.PARTS:
        assert re.search(rf"^@kernel\ndef {kernel}\(", kernels, re.MULTILINE), kernel


@pytest.mark.parametrize("name", bench.PROFILES_OF)
def test_a_gate_is_told_kernel_by_kernel(name, prepared, tmp_path):
    (opponent,) = (each for each in OPPONENTS if each.name == name)
    shares = worker.profile(opponent, *[Given(VMS, prepared, tmp_path, threads=1)] * 2)["shares"]

    assert sum(shares.values()) == pytest.approx(1)
    assert {layers.PARTS["run_gate"], layers.PARTS["sweep_sets"], layers.PARTS_REST} <= set(shares)


def test_the_marks_are_told_of_the_kept_rows():
    content, largest = json.loads(tables.newest().read_text()), json.loads(large.KEPT.read_text())
    told = tables._marks(content, largest)
    (row,) = (row for row in content["rows"] if (row["group"], row["name"], row["vms"]) == ("use", "replicas", 10**6))

    assert f"| 1,000 replicas of 1 M VMs | 20 s | {row['seconds']:.3g} s |" in told
    slower = [row | {"seconds": 2 * row["seconds"], "cpu_seconds": 2 * row["cpu_seconds"]} for row in content["rows"]]
    assert f"| {2 * row['seconds']:.3g} s |" in tables._marks({**content, "rows": slower}, largest)


def test_large_runs_are_measured_step_by_step_and_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(large, "KEPT", tmp_path / "large.json")
    monkeypatch.setattr(large, "START_VMS", 200)

    assert bench.main(["--large", "400", "--keep"]) == 0

    content = json.loads((tmp_path / "large.json").read_text())
    assert [(row["vms"], row["step"]) for row in content["rows"]] == [
        (vms, step) for vms in (200, 400) for step in large.STEPS
    ]
    for row in content["rows"]:
        assert row["seconds"] > 0 < row["cpu_seconds"]
        assert row["peak_mib"] > 10
        assert (row["bytes"] is None) == (row["step"] in ("verify", "report"))
    assert "400 VMs, verify:" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["large.json"]
    assert "fleetsim fleet generate -o fleet --vms 400\n" in large.table(content)


def test_a_large_run_needs_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(large, "BYTES_PER_VM", 10**15)
    assert bench.main(["--large", "2e3"]) == 2
    assert "of disk" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def large_content(cpu_seconds, **changed):
    rows = [{"step": "run", "vms": vms, "cpu_seconds": taken_s} for vms, taken_s in cpu_seconds.items()]
    return {"machine": {"cpu": "x", "cores": 2}, "versions": {"fleetsim": "0.1.0"}, "rows": rows, **changed}


def test_the_slope_is_of_what_is_above_the_start():
    rows = large_content({large.START_VMS: 1.0, 10**7: 2.0, 10**8: 7.0, 10**9: 201.0})["rows"]
    assert large.slope(rows, "run") == pytest.approx(np.log10(200) / 2)
    assert large.slope(rows[:2], "run") is None


def test_large_runs_of_other_sizes_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(large, "KEPT", tmp_path / "large.json")

    def kept():
        return [(row["vms"], row["cpu_seconds"]) for row in json.loads(large.KEPT.read_text())["rows"]]

    large.keep(large_content({400: 1.0}))
    large.keep(large_content({200: 2.0}))
    large.keep(large_content({400: 3.0}))
    assert kept() == [(200, 2.0), (400, 3.0)]
    large.keep(large_content({200: 4.0}, versions={"fleetsim": "0.2.0"}))
    assert kept() == [(200, 4.0)]
