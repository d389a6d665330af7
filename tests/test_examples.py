"""The examples in datasets/examples: each is about its fleet, runs, breaks no rule, and shows what its comments say."""

import json
import tomllib
from datetime import datetime
from pathlib import Path

import jsonschema
import polars as pl
import pytest

import fleetsim
from fleetsim import fleet
from fleetsim.blocks import resolve_over
from fleetsim.regions import load_relation
from fleetsim.scenario import json_schema, load_scenario

EXAMPLES = Path(__file__).parent.parent / "datasets" / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.toml"))


def resolved(name, folder):
    prepared = fleet.prepare(EXAMPLES / f"{name}.csv", folder)
    return resolve_over(prepared, load_scenario(EXAMPLES / f"{name}.toml"), load_relation())


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The finished run of an example, by name."""
    runs = {}

    def run(name):
        if name not in runs:
            out = tmp_path_factory.mktemp("examples") / name
            fleetsim.run(EXAMPLES / f"{name}.csv", EXAMPLES / f"{name}.toml", out)
            runs[name] = out
        return runs[name]

    return run


def test_every_example_has_a_fleet_and_a_name():
    assert len(NAMES) >= 10
    assert sorted(path.stem for path in EXAMPLES.glob("*.csv")) == NAMES
    assert [load_scenario(EXAMPLES / f"{name}.toml").name for name in NAMES] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_about_its_fleet(name, tmp_path):
    over_fleet = resolved(name, tmp_path / "prepared")

    assert over_fleet.warnings == ()
    assert all(over_fleet.regions)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_fits_the_schema(name):
    text = (EXAMPLES / f"{name}.toml").read_text("utf-8")

    jsonschema.validate(json.loads(json.dumps(tomllib.loads(text), default=datetime.isoformat)), json_schema())
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 120


def test_the_selections_are_what_the_comments_count(tmp_path):
    over_fleet = resolved("where-workload", tmp_path / "prepared")

    assert over_fleet.vm_counts == ({"westeurope": 4}, {"westeurope": 5})


def test_the_waves_are_what_the_comments_name(tmp_path):
    over_fleet = resolved("waves", tmp_path / "prepared")

    assert over_fleet.waves == ((("westcentralus",), ("northeurope", "westeurope"), ("eastus", "southeastasia")),)


def test_the_sizes_are_what_the_comments_name(tmp_path):
    over_fleet = resolved("sizes", tmp_path / "prepared")

    assert over_fleet.cannot_freeze_sizes == ("Standard_M64s", "Standard_NC6s_v3")
    assert over_fleet.family_sizes == ((("Standard_E8s_v3",),),)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_and_breaks_no_rule(name, ran):
    assert fleetsim.verify(ran(name)).ok


def counts(ran, name):
    """Outcomes by campaign and region, but for those of nobody."""
    stages = pl.read_parquet(ran(name) / "stages.parquet")
    words = [column for column in stages.columns if column.endswith("_count")]
    return {
        (row["campaign"], row["region"]): {word.removesuffix("_count"): row[word] for word in words if row[word]}
        for row in stages.with_columns(pl.col("campaign", "region").cast(pl.String)).iter_rows(named=True)
    }


def test_the_outcomes_are_what_the_comments_say(ran):
    assert counts(ran, "horizon") == {
        ("hypervisor", "eastus"): {"updated": 5},
        ("hypervisor", "southeastasia"): {"updated": 4},
        ("hypervisor", "westus"): {"overdue": 10},
    }
    assert counts(ran, "sizes") == {("hypervisor", "westeurope"): {"updated": 8, "unaffected": 4}}
    assert counts(ran, "lifetimes") == {
        ("hypervisor", "northeurope"): {"updated": 2, "already_updated": 1, "deleted": 1},
        ("hypervisor", "westeurope"): {"updated": 2, "already_updated": 1, "deleted": 1},
    }
    assert counts(ran, "campaigns-that-meet")["agent", "westeurope"] == {"unaffected": 6}
