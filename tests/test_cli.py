"""The command line: what a command prints and where, its exit code, and that bad input is told once and leaves nothing.

Commands run in this process, through the real entry; a few run as processes, where pipes and terminals matter.
"""

import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import click
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleetsim import cli, first_run
from fleetsim.scenario import json_schema
from fleetsim.schema import SCHEMA_VERSION, TABLES

FLEET = """\
vm,region,set,update_domain,size
web-0,westeurope,web,0,D2
web-1,westeurope,web,1,D2
db-0,northeurope,db,0,E8
db-1,northeurope,db,1,E8
cache,northeurope,,,D2
"""
SCENARIO = """\
name = "december"
start = 2026-12-01T22:00:00Z
[[campaign]]
name = "hypervisor"
length = { p50 = "6s", p99 = "9s" }
update_domain_gap = "10min"
"""
PRESETS_RULE = "must be one of 'azure-2017', 'azure-2024', 'emergency-2018'"
KINDS_RULE = "must be one of 'no_impact', 'freeze', 'reboot', 'redeploy'"
SPAN_RULE = "must be a number and a unit (ms, s, min, h, d)"


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def problems(self):
        """Lines on stderr, without the name of the program."""
        return [line.removeprefix("fleetsim: ") for line in self.err.splitlines()]


def call(*arguments):
    """Start the command line as `main` does. Returns the exit code."""
    words = [str(argument) for argument in arguments]
    return cli.answer(words)


@pytest.fixture
def say(capsys, monkeypatch):
    """What a command says: its exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def said(*arguments):
        capsys.readouterr()
        code = call(*arguments)
        return Said(code, *capsys.readouterr())

    return said


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a fleet and a scenario, which is the current one; scratch files of the system go there too."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "fleet.csv").write_text(FLEET)
    (tmp_path / "december.toml").write_text(SCENARIO)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(say, here):
    """The problems a command tells of unusable input, once it is sure that it did nothing else."""

    def problems(*arguments):
        before = everything(here)
        said = say(*arguments)
        assert said.code == 2, said
        assert said.out == ""
        assert "Traceback" not in said.err
        assert all(line.startswith("fleetsim: ") for line in said.err.splitlines()), said.err
        assert everything(here) == before, "nothing is written"
        return said.problems

    return problems


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run, the prepared fleet it is of, and its scenario."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "fleet.csv").write_text(FLEET)
    (folder / "december.toml").write_text(SCENARIO)
    assert call("fleet", "prepare", folder / "fleet.csv", "-o", folder / "prepared") == 0
    assert call("run", folder / "prepared", folder / "december.toml", "-o", folder / "run") == 0
    return folder


def everything(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# ---- Bad input: fleets -------------------------------------------------------------------------------------


def parquet(**columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


BAD_FLEETS = {
    "missing column": ("f.csv", "vm,size\na,D2\n", ["f.csv: column 'region' must be there, got 'vm', 'size'"]),
    "misspelt column": (
        "f.csv",
        "vm,regoin\na,westus\n",
        ["f.csv: column 'region' must be there, got 'vm', 'regoin'; rename 'regoin' to 'region'"],
    ),
    "both columns misspelt": (
        "f.csv",
        "VM,Region\na,westus\n",
        [
            "f.csv: column 'vm' must be there, got 'VM', 'Region'; rename 'VM' to 'vm'",
            "f.csv: column 'region' must be there, got 'VM', 'Region'; rename 'Region' to 'region'",
        ],
    ),
    "duplicate vm": (
        "f.csv",
        "vm,region\na,westus\nb,westus\na,eastus\n",
        ["f.csv: column 'vm': must be unique, got 'a' 2 times, in row 1 and row 3"],
    ),
    "vm neither integer nor string": (
        "f.parquet",
        parquet(vm=[1.5, 2.5], region=["westus", "westus"]),
        [
            "f.parquet: column 'vm' must be integers or strings, got double;"
            ' a column of integers with gaps must not become floats (pandas: .astype("Int64"))'
        ],
    ),
    "domain out of range": (
        "f.csv",
        "vm,region,set,update_domain\na,westus,s,0\nb,westus,s,20\n",
        ["f.csv: column 'update_domain', row 2: must be a whole number from 0 to 19, got 20"],
    ),
    "domain below range": (
        "f.csv",
        "vm,region,set,update_domain\na,westus,s,-1\nb,westus,s,-2\n",
        ["f.csv: column 'update_domain', row 1: must be a whole number from 0 to 19, got -1 (2 rows)"],
    ),
    "a set in two regions": (
        "f.csv",
        "vm,region,set\na,westus,s\nb,eastus,s\n",
        ["f.csv: column 'set': a set must be in one region, got 's' in 'eastus' and 'westus'"],
    ),
    "null region": ("f.csv", "vm,region\na,westus\nb,\n", ["f.csv: column 'region', row 2: must not be empty"]),
    "unknown region": (
        "f.csv",
        "vm,region\na,westus\nb,westeurop\n",
        [
            "f.csv: column 'region', row 2: must be a known region, got 'westeurop'; did you mean 'westeurope'?;"
            " or list it, with its pair or without, in a file for --pairs (CSV region,paired_region)"
        ],
    ),
    "empty fleet": (
        "f.csv",
        "vm,region\n",
        ["f.csv: must hold at least one VM and less than 4,294,967,295, got 0"],
    ),
    "empty file": ("f.csv", "", ["f.csv: must be a fleet as Parquet, CSV or Arrow, got an empty file"]),
    "truncated Parquet": (
        "f.parquet",
        parquet(vm=["a"], region=["westus"])[:-20],
        ["f.parquet: must be a whole Parquet file, got one that cannot be read: "],
    ),
    "not a Parquet": (
        "f.parquet",
        "vm,region\na,westus\n",
        ["f.parquet: must be a fleet as Parquet, CSV (*.csv) or Arrow, got a file that is none of them"],
    ),
    "ragged CSV": (
        "f.csv",
        "vm,region\na,westus\nb\nc,westus,3\n",
        ["f.csv: row 2: must have 2 fields, got 1", "f.csv: row 3: must have 2 fields, got 3"],
    ),
    "hosts": (
        "f.csv",
        "vm,region,host\na,westus,h\nb,westus,\n",
        [
            "f.csv: column 'host' must be given for all VMs of a region or for none, got 1 of 2 VMs of region 'westus'"
            " without, the first of them VM 'b'"
        ],
    ),
    "faults of fields at once": (
        "f.csv",
        "vm,region,set,update_domain\n,westus,s,0\nb,westeurop,s,99\n",
        [
            "f.csv: column 'update_domain', row 2: must be a whole number from 0 to 19, got 99",
            "f.csv: column 'region', row 2: must be a known region, got 'westeurop'; did you mean 'westeurope'?;"
            " or list it, with its pair or without, in a file for --pairs (CSV region,paired_region)",
            "f.csv: column 'vm', row 1: must not be empty",
        ],
    ),
    "faults between rows at once": (
        "f.csv",
        "vm,region,set\na,westus,s\na,eastus,s\n",
        [
            "f.csv: column 'vm': must be unique, got 'a' 2 times, in row 1 and row 2",
            "f.csv: column 'set': a set must be in one region, got 's' in 'eastus' and 'westus'",
        ],
    ),
}


@pytest.mark.parametrize(
    "command",
    [
        ("run", "FLEET", "december.toml", "-o", "deep/er/run"),
        ("fleet", "prepare", "FLEET", "-o", "deep/prepared"),
        ("fleet", "check", "FLEET", "--json"),
    ],
    ids=["run", "prepare", "check"],
)
@pytest.mark.parametrize(("name", "content", "expected"), BAD_FLEETS.values(), ids=BAD_FLEETS)
def test_an_unusable_fleet_is_told(refused, here, command, name, content, expected):
    (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    problems = refused(*[name if word == "FLEET" else word for word in command])

    assert len(problems) == len(expected), problems
    for problem, said in zip(problems, expected, strict=True):
        assert problem.startswith(said) if said.endswith(": ") else problem == said


@pytest.mark.parametrize(
    ("fleet", "expected"),
    [
        ("flete.csv", "flete.csv: must be a file or folder, got nothing there; did you mean 'fleet.csv'?"),
        (
            "scratch",
            "scratch: must hold Parquet files (*.parquet) or Arrow files (*.arrow, *.arrows, *.feather, *.ipc),"
            " got none",
        ),
    ],
)
def test_a_fleet_that_is_not_there_is_told(refused, fleet, expected):
    assert refused("run", fleet, "december.toml", "-o", "run") == [expected]
    assert refused("fleet", "check", fleet) == [expected]


def test_a_run_is_no_fleet_but_has_one(refused, say, made):
    run = made / "run"

    assert refused("fleet", "check", run) == [f"{run}: must be a fleet, got a run; its fleet is in '{run / 'fleet'}'"]
    assert say("fleet", "check", run / "fleet").code == 0


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 99}'])
def test_a_damaged_prepared_fleet_is_told(refused, here, made, content):
    shutil.copytree(made / "prepared", here / "prepared")
    (here / "prepared" / "prepared.json").write_text(content)
    for command in (("run", "prepared", "december.toml", "-o", "run"), ("fleet", "check", "prepared")):
        (problem,) = refused(*command)
        assert problem.startswith("prepared/prepared.json: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "region,pair\nwesteurope,northeurope\n",
            ["line 1: column 'paired_region' must be there, got region, pair"],
        ),
        (
            "region,paired_region\na,a\nb\n",
            ["line 2: region 'a' must not be paired with itself", "line 3: must have 2 fields, got 1"],
        ),
    ],
)
def test_unusable_pairs_are_told(refused, here, content, expected):
    (here / "pairs.csv").write_text(content)
    for command in (("run", "fleet.csv", "december.toml", "-o", "run"), ("fleet", "check", "fleet.csv")):
        assert refused(*command, "--pairs", "pairs.csv") == [f"pairs.csv: {problem}" for problem in expected]


def test_pairs_that_are_not_there_are_told(refused, here):
    (here / "pairs.csv").touch()
    (problem,) = refused("fleet", "check", "fleet.csv", "--pairs", "pair.csv")

    assert problem.startswith("pair.csv: the list of region pairs must be a readable CSV file, got: ")
    assert problem.endswith("; did you mean 'pairs.csv'?")


# ---- Bad input: scenarios ----------------------------------------------------------------------------------

BAD_SCENARIOS = {
    "unknown preset": (
        'preset = "azure-2071"',
        [
            f"1: preset: {PRESETS_RULE}, got 'azure-2071'; did you mean 'azure-2017'?",
        ],
    ),
    "unknown key": ("sed = 3", ["1: sed: unknown key; did you mean 'seed'?"]),
    "unknown key of a campaign": (
        'lenght = "3s"',
        ["8: campaign.hypervisor.lenght: unknown key; did you mean 'length'?"],
    ),
    "unknown key of outputs": ("[outputs]\nevent = true", ["9: outputs.event: unknown key; did you mean 'events'?"]),
    "unknown kind": (
        'kind = "freez"',
        [f"8: campaign.hypervisor.kind: {KINDS_RULE}, got 'freez'; did you mean 'freeze'?"],
    ),
    "unknown update_domain_order": (
        'update_domain_order = "randon"',
        [
            "8: campaign.hypervisor.update_domain_order: must be one of 'random', 'sequential', 'largest_first',"
            " got 'randon'; did you mean 'random'?"
        ],
    ),
    "unknown pair_order": (
        'pair_order = "nam"',
        [
            "8: campaign.hypervisor.pair_order: must be one of 'fewest_vms_first', 'most_vms_first', 'name',"
            " got 'nam'; did you mean 'name'?; a list of regions is an order too"
        ],
    ),
    "unknown unit": (
        'spread = "2hours"',
        [f"8: campaign.hypervisor.spread: {SPAN_RULE}, got '2hours'; did you mean '2h'?"],
    ),
    "unknown region": (
        'regions = ["westeurop"]',
        [
            "8: campaign.hypervisor.regions[0]: must be a region, a geography or '*', got 'westeurop';"
            " did you mean 'westeurope'?"
        ],
    ),
    "start without time zone": (
        "start = 2026-12-01T22:00:00",
        ["2: start: must be a time with a time zone, such as 2026-12-01T00:00:00Z, got 2026-12-01T22:00:00"],
    ),
    "negative gap": (
        'update_domain_gap = "-10min"',
        ["6: campaign.hypervisor.update_domain_gap: must be from 0s to 3650d, got '-10min'"],
    ),
    "gap NaN": ("update_domain_gap = nan", [f"6: campaign.hypervisor.update_domain_gap: {SPAN_RULE}, got nan"]),
    "gap beyond the limit": (
        'update_domain_gap = "3651d"',
        ["6: campaign.hypervisor.update_domain_gap: must be from 0s to 3650d, got '3651d'"],
    ),
    "negative length": ('length = "-1s"', ["5: campaign.hypervisor.length: must be from 1ms to 49d, got '-1s'"]),
    "length NaN": (
        'length = "NaNs"',
        [f"5: campaign.hypervisor.length: {SPAN_RULE}, got 'NaNs'"],
    ),
    "length beyond the limit": (
        'length = "50d"',
        ["5: campaign.hypervisor.length: must be from 1ms to 49d, got '50d'"],
    ),
    "p99 < p50": (
        'length = { p50 = "9s", p99 = "6s" }',
        ["5: campaign.hypervisor.length.p99: must not be below p50 ('9s'), got '6s'"],
    ),
    "two campaigns of one name": (
        '[[campaign]]\nname = "hypervisor"',
        ["9: campaign[1].name: must be unique, got 'hypervisor' as in campaign[0]"],
    ),
    "no TOML": ("length = ", ["5: must be TOML, got: invalid value (column 10); text must be in quotes"]),
    "several at once": (
        'start = 2026-12-01T22:00:00\nlength = "6"\nspread = "-1s"\nkind = "freeez"\ncolour = "red"',
        [
            "2: start: must be a time with a time zone, such as 2026-12-01T00:00:00Z, got 2026-12-01T22:00:00",
            f"9: campaign.hypervisor.kind: {KINDS_RULE}, got 'freeez'; did you mean 'freeze'?",
            f"5: campaign.hypervisor.length: {SPAN_RULE}, got '6'; did you mean '6s'?",
            "8: campaign.hypervisor.spread: must be from 0s to 3650d, got '-1s'",
            "10: campaign.hypervisor.colour: unknown key; known here: name, kind, regions, waves, bake, where,"
            " start, length, work, update_domain_gap, update_domain_order, walk_by, sets_in_step, spread, pair_order,"
            " pair_lag, pair_exclusion, cannot_freeze, reboot_length, caps, host_order, notice, self_service,"
            " scheduled, iterations_max, reschedule_delay, one_zone_at_a_time",
        ],
    ),
}


def with_lines(scenario, lines):
    """*scenario* with *lines* in the place of those of the same key, else at the top or at the end."""
    said = scenario.splitlines()
    for line in lines.splitlines():
        key = line.partition(" =")[0]
        places = [place for place, other in enumerate(said) if other.startswith(f"{key} =") and key != "name"]
        if places:
            said[places[0]] = line
        elif key in ("preset", "sed"):
            said.insert(0, line)
        else:
            said += ["# a comment"] * (said[-1] == scenario.splitlines()[-1]) + [line]
    return "\n".join(said) + "\n"


@pytest.mark.parametrize(("lines", "expected"), BAD_SCENARIOS.values(), ids=BAD_SCENARIOS)
def test_an_unusable_scenario_is_told(refused, here, lines, expected):
    (here / "bad.toml").write_text(with_lines(SCENARIO, lines))

    assert refused("run", "fleet.csv", "bad.toml", "-o", "deep/run") == [f"bad.toml:{problem}" for problem in expected]


def test_a_scenario_that_is_not_there_is_told(refused):
    assert refused("run", "fleet.csv", "decembre.toml", "-o", "run") == [
        "decembre.toml: must be a readable file, got: no such file or directory; did you mean 'december.toml'?"
    ]


def test_overrides_are_judged_like_the_file(refused):
    overrides = ["campaign.hyper.length=3s", "campaign.hypervisor.spread=3", "sed=1", "nothing"]

    assert refused(
        *("run", "fleet.csv", "december.toml", "-o", "run"), *(f"--override={override}" for override in overrides)
    ) == [
        "--override campaign.hyper.length: must name a campaign, got 'hyper'; did you mean 'hypervisor'?",
        "--override: must be KEY=VALUE, such as campaign.NAME.length=10s, got 'nothing'",
        f"--override campaign.hypervisor.spread: {SPAN_RULE}, got 3; did you mean '3s'?",
        "--override sed: unknown key; did you mean 'seed'?",
    ]


# ---- Bad input: runs, outputs, arguments -------------------------------------------------------------------


@pytest.mark.parametrize("command", ["verify", "report"])
@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("rnu", "got nothing there; did you mean 'run'?"),
        ("fleet.csv", "got a file"),
        ("scratch", "got no manifest.json and no resolved.toml"),
        ("prepared", "got no manifest.json and no resolved.toml"),
    ],
)
def test_a_folder_that_is_not_a_run_is_told(refused, here, made, command, folder, expected):
    for name in ("run", "prepared"):
        shutil.copytree(made / name, here / name)

    assert refused(command, folder) == [f"{folder}: must be the folder of a run, {expected}"]


@pytest.mark.parametrize("command", ["verify", "report"])
def test_an_unfinished_run_is_told_how_to_go_on(refused, here, made, command):
    shutil.copytree(made / "run", here / "run", ignore=shutil.ignore_patterns("manifest.json"))
    (problem,) = refused(command, "run")

    assert problem.startswith("run: must be a finished run, got no manifest.json")
    assert "--resume" in problem


@pytest.mark.parametrize("command", ["verify", "report"])
@pytest.mark.parametrize("other", [{}, {"parts": None, "counts": None}], ids=["like ours", "in other words"])
def test_a_run_of_a_newer_schema_is_refused(refused, here, made, command, other):
    shutil.copytree(made / "run", here / "run")
    manifest = json.loads((here / "run" / "manifest.json").read_text()) | other
    newer = {key: value for key, value in manifest.items() if value is not None} | {"schema_version": 99}
    (here / "run" / "manifest.json").write_text(json.dumps(newer))
    (problem,) = refused(command, "run")

    assert problem.startswith("run")
    assert f"must be at most {SCHEMA_VERSION}, got 99;" in problem


@pytest.mark.parametrize("command", ["verify", "report"])
@pytest.mark.parametrize("change", ["", "[]", "{}", {"parts": 3}, {"parts": ["a"]}, {"parts": [{"path": 3}]}])
def test_a_damaged_manifest_is_told(refused, here, made, command, change):
    shutil.copytree(made / "run", here / "run")
    path = here / "run" / "manifest.json"
    path.write_text(change if isinstance(change, str) else json.dumps(json.loads(path.read_text()) | change))
    (problem,) = refused(command, "run")

    assert problem.startswith("run/manifest.json: ")


WRITING = {
    "run": ("run", "fleet.csv", "december.toml"),
    "prepare": ("fleet", "prepare", "fleet.csv"),
    "generate": ("fleet", "generate", "--vms", "10"),
    "import": ("fleet", "import", "azure-trace"),
    "inventory": ("fleet", "import", "azure-inventory", "fleet.csv"),
    "topology": ("fleet", "import", "huawei-topology"),
    "embed": ("fleet", "embed", "fleet.csv", "--in", "fleet.csv"),
    "demo": ("demo",),
}


@pytest.mark.parametrize("there", ["file", "folder", "run"])
@pytest.mark.parametrize("command", WRITING.values(), ids=WRITING)
def test_an_output_that_exists_is_refused(refused, here, made, command, there):
    if there == "file":
        (here / "out").write_text("mine")
    elif there == "folder":
        (here / "out").mkdir()
        (here / "out" / "mine").touch()
    else:
        shutil.copytree(made / "run", here / "out")
    (problem,) = refused(*command, "-o", "out")

    assert problem.startswith("out: must ")
    assert "file" in problem if there == "file" else "folder" in problem


@pytest.mark.parametrize("command", WRITING.values(), ids=WRITING)
def test_an_output_below_a_file_is_refused(refused, here, command):
    assert refused(*command, "-o", "fleet.csv/deep/out") == [
        f"fleet.csv/deep/out: must be in a folder, got the file '{here / 'fleet.csv'}' in its way"
    ]


def test_an_unfinished_run_is_not_overwritten(refused, here, made):
    shutil.copytree(made / "run", here / "out", ignore=shutil.ignore_patterns("manifest.json"))

    assert refused("run", "fleet.csv", "december.toml", "-o", "out") == [
        "out: must be a new folder, found an unfinished run; --resume goes on with it"
    ]


def test_unusable_arguments_of_generate_are_told_at_once(refused):
    arguments = ["--vms", "0", "--regions", "", "--set-size", "0", "--update-domains", "21", "--seed", "-1"]

    assert refused("fleet", "generate", "-o", "out", *arguments) == [
        "seed: must be a whole number from 0 to 2^64 - 1, got '-1'",
        "vms: must be a whole number from 1 to 4,294,967,294, got '0'",
        "set_size: must be a whole number from 1 to 4,294,967,294, got '0'",
        "update_domains: must be a whole number from 1 to 20, got '21'",
        "regions: a name must be letters, digits, '-' or '_' with at least one letter, got ''",
    ]


def test_a_source_that_is_not_the_trace_is_told(refused):
    expected = "must be the Azure 2017 VM trace as Parquet with the columns vm_id, batch_id, vcpus, memory_gib"
    (missing,) = refused("fleet", "import", "azure-trace", "flete.csv", "-o", "out")
    (other,) = refused("fleet", "import", "azure-trace", "fleet.csv", "-o", "out")

    assert missing == f"flete.csv: {expected}, got no such file; did you mean 'fleet.csv'?"
    assert other.startswith(f"fleet.csv: {expected}, got a file that cannot be read: ")


def test_a_trace_is_imported_as_alive_on_a_day_of_it(refused, say, here):
    trace = {"vm_id": [0, 1], "batch_id": [0, 0], "vcpus": [1, 1], "memory_gib": [1.75, 1.75]}
    lives = {"created_s": [0, 86_400], "lifetime_lo_s": [60, 60], "lifetime_hi_s": [90, 90], "censored": [False, True]}
    pl.DataFrame({**trace, **lives}).write_parquet(here / "trace.parquet")
    command = ("fleet", "import", "azure-trace", "trace.parquet", "--present", "alive", "--at", "0.5")
    said = say(*command, "--start", "2027-01-01T00:00:00+01:00", "-o", "alive.parquet")

    assert said.code == 0, said.err
    rows = pl.read_parquet(here / "alive.parquet")
    assert rows["vm"].to_list() == [1]
    assert rows["created"].dt.to_string("iso").to_list() == ["2027-01-01 11:00:00.000+00:00"]
    assert refused(*command, "--start", "2027", "-o", "other.parquet") == [
        "start: must be an instant with a zone in whole milliseconds of the years 1900 to 9998,"
        " as 2026-12-01T00:00:00Z, got '2027'"
    ]


def test_threads_below_one_are_refused(refused):
    assert refused("run", "fleet.csv", "december.toml", "-o", "run", "--threads", "0") == [
        "threads: must be at least 1, got 0"
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["run", "fleet.csv", "december.toml"], "Missing option '-o' / '--out'."),
        (["run", "fleet.csv"], "Missing argument 'SCENARIO'."),
        (["fleet", "generate", "-o", "out", "--vms", "many"], "'many' is not a valid integer."),
        (
            ["report", "run", "--format", "parket"],
            "'parket' is not one of 'table', 'json', 'csv', 'markdown', 'parquet'.",
        ),
        (["report", "run", "--format", "parquet"], "--format parquet needs --out FILE"),
        (["report", "run", "--out", "file.json"], "--out needs --format json, csv, markdown or parquet"),
        (["fleet", "check", "fl\udcffeet.csv"], r"must be UTF-8, got 'fl\udcffeet.csv'"),
    ],
)
def test_a_command_line_that_is_none_is_told(say, here, arguments, expected):
    before = everything(here)
    said = say(*arguments)

    assert (said.code, said.out) == (2, "")
    assert said.err.splitlines()[-1].endswith(expected)
    assert said.err.startswith("Usage: fleetsim ")
    assert everything(here) == before


# ---- Where things are said ---------------------------------------------------------------------------------


def tiny_trace(path):
    columns = {"vm_id": range(6), "batch_id": [0, 0, 0, 1, 2, 2], "vcpus": [1, 1, 1, 2, 4, 4]}
    pl.DataFrame(columns).with_columns(memory_gib=pl.col("vcpus") * 1.75).write_parquet(path)
    return path


@pytest.fixture
def tiny_demo(here, monkeypatch):
    """The demo, but of 60 VMs."""
    tiny_trace(here / "trace.parquet")
    monkeypatch.setattr(first_run, "DEMO_VM_COUNT", 60)


JSON_COMMANDS = [
    ("fleet", "generate", "-o", "generated", "--vms", "50"),
    ("fleet", "generate", "-o", "generated", "--vms", "50", "--mix", "azure-2017", "--lifetimes"),
    ("fleet", "describe", "fleet.csv"),
    ("fleet", "import", "azure-trace", "trace.parquet", "-o", "imported.parquet"),
    ("fleet", "import", "azure-inventory", "fleet.csv", "-o", "own.parquet", "--map", "vm=vm,region=region,set=set"),
    ("fleet", "import", "huawei-topology", "-o", "topology.parquet", "--sequence", "C1"),
    ("fleet", "embed", "fleet.csv", "--in", "fleet.csv", "-o", "both"),
    ("fleet", "prepare", "fleet.csv", "-o", "prepared"),
    ("fleet", "check", "fleet.csv"),
    ("run", "fleet.csv", "december.toml", "-o", "run"),
    ("run", "fleet.csv", "december.toml", "-o", "empty", "--override", 'campaign.hypervisor.regions=["Japan"]'),
    ("verify", "made"),
    ("report", "made"),
    ("report", "made", "--by", "size", "--by", "region,size"),
    ("report", "made", "--format", "json", "--out", "report.json"),
    ("report", "made", "--format", "parquet", "--out", "report.parquet"),
    ("schema",),
    ("schema", "figures"),
    *(("schema", table) for table in TABLES),
    ("presets",),
    ("presets", "azure-2017"),
    ("warmup",),
    ("demo", "-o", "demo"),
]


@pytest.mark.parametrize("command", JSON_COMMANDS, ids=" ".join)
def test_json_is_one_object_on_stdout_and_nothing_else(say, here, made, tiny_demo, command):
    (here / "made").symlink_to(made / "run")
    said = say(*command, "--json")

    assert said.code == 0, said.err
    assert isinstance(json.loads(said.out), dict)
    assert all(line.startswith("fleetsim: ") for line in said.err.splitlines())


@pytest.mark.parametrize("command", JSON_COMMANDS, ids=" ".join)
def test_what_is_printed_fits_the_terminal(say, here, made, tiny_demo, command):
    (here / "made").symlink_to(made / "run")
    said = say(*command)

    assert said.code == 0, said.err
    assert said.out or "--out" in command
    wide = [line for line in said.out.splitlines() if len(line) > 80]
    assert all(line.startswith(("# azure-2017: ", "kernels are compiled")) for line in wide), wide
    assert all(line.startswith("fleetsim: ") for line in said.err.splitlines())


def test_progress_and_warnings_go_to_stderr(say, here):
    regions = 'campaign.hypervisor.regions=["*", "Japan"]'
    said = say("run", "fleet.csv", "december.toml", "-o", "run", "--override", regions)

    assert said.out.splitlines()[0].startswith("5 VMs, 2 stages, 5 events in ")
    assert said.out.splitlines()[1].startswith("digest: ")
    assert sorted(problem.partition(" (")[0] for problem in said.problems) == [
        "run: hypervisor in northeurope: 3 VMs written",
        "run: hypervisor in westeurope: 2 VMs written",
        "warning: --override campaign.hypervisor.regions[1]: no VM of the fleet is in 'Japan'",
    ]


def test_an_empty_scope_is_a_warning_and_an_empty_run(say, here):
    said = say("run", "fleet.csv", "december.toml", "-o", "run", '--override=campaign.hypervisor.regions=["Japan"]')

    assert said.code == 0
    assert said.out.startswith("5 VMs, 0 stages, 0 events in ")
    assert said.problems[-1] == (
        "warning: december.toml:3: campaign.hypervisor: no VM of the fleet is in its regions, so nothing happens"
    )
    assert say("verify", "run").code == 0
    assert say("report", "run").code == 0


def test_the_demo_says_where_to_look_further(say, here, tiny_demo):
    said = say("demo")

    assert said.code == 0, said.err
    assert "The run is in fleetsim-demo. Look further:" in said.out
    assert said.out.splitlines()[-1].startswith("digest: ")
    assert say("report", "fleetsim-demo", "--by", "size").code == 0
    assert list((here / "scratch").iterdir()) == []


# ---- Verdicts and reports ----------------------------------------------------------------------------------


def test_verify_exits_with_0_when_every_rule_is_kept(say, made):
    said = say("verify", made / "run")

    assert said.code == 0
    assert "the run keeps the plan (" in " ".join(said.out.split())


def test_verify_exits_with_1_when_a_rule_is_broken(say, here, made):
    shutil.copytree(made / "run", here / "run")
    (path,) = (here / "run" / "events" / "region=westeurope").iterdir()
    events = pq.read_table(path, partitioning=None)
    place = events.schema.get_field_index("effects")
    lost = pa.array([1] * len(events), events.schema.field(place).type)  # memory, which a freeze keeps
    pq.write_table(events.set_column(place, events.schema.field(place), lost), path)
    said, as_json = say("verify", "run"), say("verify", "run", "--json")

    assert said.code == as_json.code == 1
    assert "run: the run breaks the plan" in said.out
    verdict = json.loads(as_json.out)
    broken = {rule["rule"]: rule for rule in verdict["rules"] if rule["status"] == "broken"}
    assert verdict["ok"] is False
    assert {"files", "R41"} <= set(broken)
    assert broken["R41"]["offender_count"] == 2
    assert "web-0" in str(broken["R41"]["offenders"])


def test_the_demo_exits_with_1_when_a_rule_is_broken(say, here, tiny_demo, monkeypatch):
    def tampered(run, progress):
        (run / "stages.parquet").unlink()
        return first_run_verify(run, progress=progress)

    first_run_verify = first_run.verify
    monkeypatch.setattr(first_run, "verify", tampered)
    monkeypatch.setattr(first_run, "report", lambda run: Reported())

    assert say("demo", "--json").code == 1


class Reported:
    def to_dict(self):
        return {}


def test_a_report_is_written_as_parquet_or_json(say, here, made):
    as_parquet = say("report", made / "run", "--by", "size", "--format", "parquet", "--out", "report.parquet")
    as_json = say("report", made / "run", "--by", "size", "--format", "json", "--out", "report.json")
    printed = say("report", made / "run", "--by", "size", "--format", "json")

    assert (as_parquet.code, as_parquet.out) == (as_json.code, as_json.out) == (0, "")
    assert as_parquet.problems == ["report written to report.parquet"]
    assert pl.read_parquet("report.parquet").filter(grain="size").height > 0
    assert json.loads((here / "report.json").read_text()) == json.loads(printed.out)
    assert printed.out == say("report", made / "run", "--by", "size", "--json").out


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("nowhere/report.json", "must be in a folder that is there, got none"),
        ("scrtch/report.json", "must be in a folder that is there, got none; did you mean 'scratch'?"),
        ("scratch", "must be a file, got a folder"),
    ],
)
def test_a_report_that_cannot_be_written_is_told(refused, made, out, expected):
    assert refused("report", made / "run", "--format", "json", "--out", out) == [f"{out}: {expected}"]


def test_unknown_columns_of_a_report_are_told_at_once(refused, made):
    run = made / "run"

    assert refused("report", run, "--by", "sise", "--by", "region,upd_domain", "--by", "colour") == [
        "by: must be a column of the fleet, got 'sise'; did you mean 'size'?",
        "by: must be a column of the fleet, got 'upd_domain'; did you mean 'update_domain'?",
        "by: must be a column of the fleet, got 'colour';"
        " known: vm, region, set, update_domain, fault_domain, size, vm_row, vm_key, is_fault_domain_assigned",
    ]


# ---- Reference ---------------------------------------------------------------------------------------------


def test_schema_describes_tables_and_figures(say):
    tables = say("schema").out

    assert all(f"\n{name} " in tables for name in [*TABLES, "figures"])
    assert "duration_ms" in say("schema", "events").out
    assert "length_bound_ratio" in say("schema", "figures").out
    assert json.loads(say("schema", "scenario").out) == json_schema()
    assert say("schema", "scenario", "--json").out == say("schema", "scenario").out


def test_unknown_words_are_told_with_the_nearest(refused):
    assert refused("schema", "evnts") == ["schema: must be a table, got 'evnts'; did you mean 'events'?"]
    assert refused("schema", "nope") == [
        f"schema: must be a table, got 'nope'; known: {', '.join([*TABLES, 'figures', 'scenario'])}"
    ]
    assert refused("presets", "azure-2107") == [f"preset: {PRESETS_RULE}, got 'azure-2107'; did you mean 'azure-2017'?"]


def test_a_preset_is_a_scenario_to_start_from(say, here):
    printed = say("presets", "azure-2017").out
    (here / "mine.toml").write_text(printed)

    assert say("presets").out == "azure-2017\nazure-2024\nemergency-2018\n"
    assert say("run", "fleet.csv", "mine.toml", "-o", "run").code == 0


def test_warmup_says_where_kernels_are(say):
    said = say("warmup")

    assert said.code == 0
    assert said.out.startswith("kernels ")


def walked(command=cli.cli, path=()):
    yield path, command
    for name, member in getattr(command, "commands", {}).items():
        yield from walked(member, (*path, name))


@pytest.mark.parametrize(("path", "command"), [pytest.param(*pair, id=" ".join(pair[0])) for pair in walked()])
def test_help_mentions_every_argument(say, path, command):
    said = say(*path, "--help")

    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: {' '.join(('fleetsim', *path))} ")
    assert say(*path, "-h") == said
    assert max(map(len, said.out.splitlines())) <= 80
    assert not any(line.endswith("...") for line in said.out.splitlines()[1:]), "a sentence is cut"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert all(option in said.out for option in parameter.opts)
            assert parameter.help
        else:
            metavar = parameter.make_metavar(click.Context(command))
            assert metavar in said.out.splitlines()[0]
    for name in getattr(command, "commands", {}):
        assert f"\n  {name} " in said.out


def test_every_command_takes_json():
    for path, command in walked():
        if not isinstance(command, click.Group):
            assert any("--json" in parameter.opts for parameter in command.params), path


def test_the_version_is_said(say):
    from fleetsim import __version__

    assert say("--version").out == f"fleetsim, version {__version__}\n"


# ---- Going on, and being stopped ---------------------------------------------------------------------------


def test_resume_where_nothing_is_starts_the_run(say, here, made):
    said = say("run", "fleet.csv", "december.toml", "-o", "run", "--resume")

    assert said.code == 0
    assert f"digest: {json.loads((made / 'run' / 'manifest.json').read_text())['run_digest']}\n" in said.out


def test_resume_goes_on_with_an_unfinished_run(say, here, made):
    shutil.copytree(made / "run", here / "run", ignore=shutil.ignore_patterns("manifest.json", "events"))
    said = say("run", "fleet.csv", "december.toml", "-o", "run", "--resume")

    assert said.code == 0
    assert (here / "run" / "manifest.json").read_bytes() == (made / "run" / "manifest.json").read_bytes()


def test_resume_of_a_finished_run_says_so(say, here, made):
    shutil.copytree(made / "run", here / "run")
    before = everything(here)
    said = say("run", "fleet.csv", "december.toml", "-o", "run", "--resume")

    assert said.code == 0
    assert said.problems == ["warning: the run was finished already"]
    assert everything(here) == before


def test_resume_of_something_else_is_refused(refused, here, made):
    shutil.copytree(made / "run", here / "run", ignore=shutil.ignore_patterns("manifest.json"))
    arguments = ("run", "fleet.csv", "december.toml", "--resume", "-o")

    assert refused(*arguments, "run", "--override", "seed=3", "--override", "campaign.hypervisor.length=3s") == [
        "run: --resume goes on with the same run only: seed: was 0, is 3",
        "run: --resume goes on with the same run only: campaign.hypervisor.length:"
        " was '{ p50 = \"6s\", p99 = \"9s\" }', is '3s'",
    ]
    (here / "other").mkdir()
    (here / "other" / "mine").touch()
    assert refused(*arguments, "other") == [
        "other: must be an unfinished run to resume, found a folder without resolved.toml"
    ]


@pytest.mark.parametrize(
    ("place", "arguments", "hint"),
    [
        ("fleetsim.fleet.check", ("fleet", "check", "fleet.csv"), ""),
        (
            "fleetsim.runner.run",
            ("run", "fleet.csv", "december.toml", "-o", "run"),
            "; finished parts stay, --resume goes on",
        ),
        ("fleetsim.first_run.demo", ("demo",), "; if fleetsim-demo is there, it is unfinished: remove it"),
    ],
)
def test_an_interrupted_command_exits_with_130(say, here, monkeypatch, place, arguments, hint):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stopped)
    said = say(*arguments)

    assert (said.code, said.out) == (130, "")
    assert said.err.strip() == f"fleetsim: interrupted{hint}"


def test_what_the_system_refuses_is_told_without_a_traceback(say, here, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", "/somewhere/else")

    monkeypatch.setattr("fleetsim.fleet.prepare", denied)
    said = say("fleet", "prepare", "fleet.csv", "-o", "prepared")

    assert (said.code, said.out, said.err) == (1, "", "fleetsim: /somewhere/else: permission denied\n")


# ---- Processes ---------------------------------------------------------------------------------------------


def process(*arguments, **options):
    code = "from fleetsim.cli import main; main()"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-c", code, *map(os.fsencode, map(str, arguments))], **streams)


def test_a_run_waits_for_no_library_it_does_not_use(here):
    code = (
        "import os, sys; from fleetsim.cli import main\n"
        "os._exit = sys.exit\n"  # that it ends at once would leave no time to look
        "try: main()\n"
        "finally: print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    arguments = ("run", "fleet.csv", "december.toml", "-o", "quick")
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)

    imported = set(run.stdout.splitlines()[-1].split())
    assert {"numba", "pyarrow"} <= imported
    assert not {"pandas", "polars", "rich", "duckdb", "fsspec"} & imported


def test_unusable_input_ends_a_process_with_2(here):
    with process("fleet", "check", "flete.csv") as command:
        out, err = command.communicate()

    assert (command.returncode, out) == (2, b"")
    assert err == b"fleetsim: flete.csv: must be a file or folder, got nothing there; did you mean 'fleet.csv'?\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("schema", "events"), 0),
        (("presets", "azure-2017"), 0),
        (("report", "run", "--json"), 0),
        (("verify", "run"), 0),
        (("verify", "broken"), 1),
    ],
    ids=str,
)
def test_a_reader_that_leaves_early_changes_nothing(here, made, arguments, code):
    shutil.copytree(made / "run", here / "run")
    shutil.copytree(made / "run", here / "broken", ignore=shutil.ignore_patterns("stages.parquet"))
    with process(*arguments) as command:
        command.stdout.close()
        err = command.stderr.read()

    assert (command.returncode, err) == (code, b"")


def test_a_run_whose_progress_nobody_reads_ends_well(here):
    with process("run", "fleet.csv", "december.toml", "-o", "run") as command:
        command.stderr.close()
        out = command.stdout.read()

    assert command.returncode == 0
    assert b"digest: " in out
    assert (here / "run" / "manifest.json").exists()


@pytest.mark.parametrize("closed", [1, 2])
def test_closed_streams_change_nothing(here, closed):
    with process("fleet", "check", "fleet.csv", preexec_fn=lambda: os.close(closed)) as command:
        out, err = command.communicate()

    assert command.returncode == 0
    assert b"".join((out, err)) == b"" if closed == 1 else b"usable" in out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_behind_stdout_is_told():
    with Path("/dev/full").open("wb") as full, process("presets", "azure-2017", stdout=full) as command:
        err = command.stderr.read()

    assert (command.returncode, err) == (1, b"fleetsim: no space left on device\n")


def test_names_that_stdout_cannot_say_are_escaped(here, made):
    shutil.copytree(made / "run", here / "師走")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    for arguments in (("report", "師走", "--json"), ("report", "師走")):
        with process(*arguments, env=environment) as command:
            out, err = command.communicate()
        assert (command.returncode, err) == (0, b"")
        assert rb"\u5e2b\u8d70" in out


def test_progress_is_a_bar_on_a_terminal(here):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with process("fleet", "check", "fleet.csv", "--json", stderr=theirs, env=environment) as command:
        os.close(theirs)
        out = command.stdout.read()
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how a terminal ends
            pass
    os.close(ours)

    assert command.returncode == 0
    assert json.loads(out)["vm_count"] == 5
    assert b"of 5 VMs" in shown


@pytest.mark.parametrize(
    ("done_count", "total_count", "elapsed_s", "words"),
    [
        (0, 1_000_000, 5.0, ""),
        (500_000, 1_000_000, 0.0, ""),
        (500_000, 1_000_000, 2.0, "0.2 M/s  0:02 left"),
        (10_000, 1_000_000, 1.0, "10.0 k/s  1:39 left"),
        (5_000_000, 5_000_000, 0.25, "20.0 M/s  0:00 left"),
    ],
)
def test_pace_is_rate_and_time_left(done_count, total_count, elapsed_s, words):
    assert cli._pace(done_count, total_count, elapsed_s) == words
