"""Scenarios: what is accepted, the exact words for what is not, and profiles against their closed forms."""

import hashlib
import json
import math
import pickle
import tomllib
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetsim.errors import InputError
from fleetsim.kinds import KINDS
from fleetsim.regions import Relation
from fleetsim.scenario import (
    PROFILE_STEPS,
    Profile,
    difference,
    load_scenario,
    preset_toml,
    presets,
    resolve,
)
from fleetsim.schema import LENGTH_MS_MAX, SPAN_MS_MAX, DomainOrder, Kind, Phase

MINIMAL = """\
name = "demo"
start = 2026-12-01T00:00:00Z

[[campaign]]
name = "hypervisor"
"""
RELATION = Relation(
    paired={"eastus": "westus", "northeurope": "westeurope", "westeurope": "northeurope", "westus": "eastus"},
    geography={
        "eastus": "United States",
        "northeurope": "Europe",
        "westeurope": "Europe",
        "westus": "United States",
    },
)
VM_COUNTS = {"northeurope": 30, "westeurope": 20, "westus": 10}


def problems(source, overrides=()):
    with pytest.raises(InputError) as caught:
        load_scenario(source, overrides)
    return caught.value.problems


def campaign(line="", overrides=()):
    return load_scenario(MINIMAL + line, overrides).campaigns[0]


def profile(text) -> Profile:
    return campaign(f"length = {text}").length


def resolved(text, overrides=(), counts=VM_COUNTS):
    return resolve(load_scenario(text, overrides), RELATION, counts)


# ---- What is accepted --------------------------------------------------------------------------------------


def test_what_is_not_said_comes_from_the_preset():
    scenario = load_scenario(MINIMAL)
    only = scenario.campaigns[0]

    assert (scenario.name, scenario.seed, scenario.preset) == ("demo", 0, "azure-2017")
    assert scenario.start_ms_epoch == 1_796_083_200_000
    assert (scenario.has_events, scenario.has_outcomes) == (True, True)
    assert (only.place, only.name, only.kind, only.regions) == (0, "hypervisor", Kind.FREEZE, ("*",))
    assert (only.start_ms, only.work_ms, only.update_domain_gap_ms, only.spread_ms, only.pair_lag_ms) == (0,) * 5
    assert (only.update_domain_order, only.pair_order) == (DomainOrder.RANDOM, "fewest_vms_first")
    assert (only.length.given, only.length.length_ms_min, only.length.length_ms_max) == (
        "30s",
        30_000,
        30_000,
    )


def test_every_key_is_read():
    text = """
name = "all keys"
start = 2026-12-01T02:30:00.250+02:00
seed = 9223372036854775807
preset = "azure-2017"
outputs = { events = false, outcomes = false }
[[campaign]]
name = "first"
[[campaign]]
name = "second_1-b"
kind = "freeze"
regions = ["Europe", "westus"]
start = "10d"
length = "0.5s"
work = "1.5min"
update_domain_gap = "30min"
update_domain_order = "largest_first"
spread = "12h"
pair_order = ["westus", "northeurope"]
pair_lag = "1ms"
"""
    scenario = load_scenario(text)
    second = scenario.campaigns[1]

    assert (scenario.start_ms_epoch, scenario.seed) == (1_796_085_000_250, 2**63 - 1)
    assert (scenario.has_events, scenario.has_outcomes) == (False, False)
    assert (second.place, second.name, second.regions) == (1, "second_1-b", ("Europe", "westus"))
    assert (second.start_ms, second.length.length_ms_min, second.work_ms) == (864_000_000, 500, 90_000)
    assert (second.update_domain_gap_ms, second.update_domain_order) == (1_800_000, DomainOrder.LARGEST_FIRST)
    assert (second.spread_ms, second.pair_order, second.pair_lag_ms) == (
        43_200_000,
        ("westus", "northeurope"),
        1,
    )


def test_file_text_and_mapping_are_the_same_scenario(tmp_path):
    path = tmp_path / "seed=3.toml"
    path.write_text("\ufeff" + MINIMAL, "utf-8")

    from_file, from_name, from_text = load_scenario(path), load_scenario(str(path)), load_scenario(MINIMAL)
    from_mapping = load_scenario(tomllib.loads(MINIMAL))

    assert from_file == from_name == from_text
    assert from_file.text == MINIMAL
    assert tomllib.loads(from_mapping.text) == tomllib.loads(MINIMAL)
    assert from_mapping.campaigns == from_text.campaigns


def test_a_scenario_can_be_sent_to_another_process():
    scenario = load_scenario(MINIMAL + 'length = { p50 = "6s", p99 = "9s" }')

    copy = pickle.loads(pickle.dumps(scenario))

    assert copy == scenario
    assert copy.campaigns[0].length.table_sha256 == scenario.campaigns[0].length.table_sha256


def test_presets_in_full_are_the_defaults():
    for name, keys in presets().items():
        whole = load_scenario(preset_toml(name), ["name=demo", "campaign.maintenance.name=hypervisor"])
        assert resolve(whole, RELATION, VM_COUNTS)._keys() == resolved(MINIMAL)._keys()
        explicit = {**keys, "name": "demo", "start": tomllib.loads(MINIMAL)["start"]}
        explicit["campaign"][0]["name"] = "hypervisor"
        defaults = resolved(MINIMAL, [f"preset={name}"])
        assert resolve(load_scenario(explicit), RELATION, VM_COUNTS)._keys() == defaults._keys()
    with pytest.raises(
        InputError, match=r"preset: must be 'azure-2017', got 'azure-2071'; did you mean 'azure-2017'\?"
    ):
        preset_toml("azure-2071")


def test_catalogue_of_kinds():
    assert [kind.code for kind in KINDS.values()] == list(Kind)
    assert [name for name, kind in KINDS.items() if kind.is_available] == ["freeze"]
    freeze = KINDS["freeze"]
    assert (freeze.phases, int(freeze.effects), freeze.is_paused, freeze.has_windows) == (
        (Phase.PLATFORM,),
        16,
        True,
        False,
    )
    assert [name for name, kind in KINDS.items() if kind.has_impact and not kind.is_paused] == [
        "reboot",
        "redeploy",
    ]


# ---- What is refused ---------------------------------------------------------------------------------------

KNOWN_OF_CAMPAIGN = (
    "known here: name, kind, regions, start, length, work, update_domain_gap, update_domain_order, spread,"
    " pair_order, pair_lag"
)
SPAN_RULE = "must be a number and a unit (ms, s, min, h, d)"
LENGTH_RULE = "must be a span such as '30s', or a table of p50 and p99, of min and max, or of quantiles"
BAD_CAMPAIGN_LINES = {
    # unknown keys, those that later versions will know among them
    "lenght = '30s'": "lenght: unknown key; did you mean 'length'?",
    "waves = [['*']]": f"waves: unknown key; {KNOWN_OF_CAMPAIGN}",
    "where = { workload = ['web'] }": f"where: unknown key; {KNOWN_OF_CAMPAIGN}",
    "caps = []": f"caps: unknown key; {KNOWN_OF_CAMPAIGN}",
    "seed = 7": "seed: unknown key; it belongs at the top, before the first table",
    "events = true": "events: unknown key; it belongs under [outputs]",
    # kinds and orders
    "kind = 'freez'": "kind: must be 'freeze', got 'freez'; did you mean 'freeze'?",
    "kind = 'reboot'": "kind: must be 'freeze', got 'reboot'; this version knows that kind but cannot run it",
    "kind = 1": "kind: must be 'freeze', got 1",
    "update_domain_order = 'sequentially'": "update_domain_order: must be one of 'random', 'sequential',"
    " 'largest_first', got 'sequentially'; did you mean 'sequential'?",
    "pair_order = 'fewest'": "pair_order: must be one of 'fewest_vms_first', 'most_vms_first', 'name',"
    " got 'fewest'; a list of regions is an order too",
    "pair_order = ['westus', 'eastus', 'westus']": "pair_order: must name a region once, got 'westus' again",
    # regions
    "regions = 'westus'": "regions: must be a list of regions, geographies or '*', got 'westus';"
    ' did you mean ["westus"]?',
    "regions = []": "regions: must be a list of regions, geographies or '*', got []; [\"*\"] is all",
    # spans
    "work = '30m'": f"work: {SPAN_RULE}, got '30m'; did you mean '30min'?",
    "work = '1 Hour'": f"work: {SPAN_RULE}, got '1 Hour'; did you mean '1h'?",
    "work = 30": f"work: {SPAN_RULE}, got 30; did you mean '30s'?",
    "work = '0'": f"work: {SPAN_RULE}, got '0'; did you mean '0s'?",
    "work = '5 weeks'": f"work: {SPAN_RULE}, got '5 weeks'",
    "spread = ''": f"spread: {SPAN_RULE}, got ''",
    "spread = nan": f"spread: {SPAN_RULE}, got nan",
    "update_domain_gap = 'NaN'": f"update_domain_gap: {SPAN_RULE}, got 'NaN'",
    "update_domain_gap = inf": f"update_domain_gap: {SPAN_RULE}, got inf",
    "update_domain_gap = '-1s'": "update_domain_gap: must be from 0s to 3650d, got '-1s'",
    "pair_lag = '3650.1d'": "pair_lag: must be from 0s to 3650d, got '3650.1d'",
    "start = '0.0005s'": "start: must come out as whole milliseconds, got '0.0005s'",
    "start = 2026-12-01T00:00:00Z": f"start: {SPAN_RULE}, got 2026-12-01T00:00:00Z",
    # lengths
    "length = '0s'": "length: must be from 1ms to 49d, got '0s'",
    "length = '49.001d'": "length: must be from 1ms to 49d, got '49.001d'",
    "length = { mean = '6s' }": f'length: {LENGTH_RULE}, got {{ mean = "6s" }}',
    "length = { p50 = '6s', max = '9s' }": f'length: {LENGTH_RULE}, got {{ p50 = "6s", max = "9s" }}',
    "length = { p50 = '6s' }": "length.p99: is needed",
    "length = { p50 = '6s', p99 = '9s', celing = '1s' }": "length.celing: unknown key; did you mean 'ceiling'?",
    "length = { p50 = '9s', p99 = '6s' }": "length.p99: must not be below p50 ('9s'), got '6s'",
    "length = { p50 = '1s', p99 = '48d' }": "length.p99: needs a ceiling of at most 49d beside it, got '48d'",
    "length = { p50 = '6s', p99 = '9s', floor = '12s' }": "length.floor: must not be above the ceiling"
    " ('11473ms' unless said), got '12s'",
    "length = { min = '9s', max = '6s' }": "length.max: must not be below min ('9s'), got '6s'",
    "length = { min = '0s', max = '6s' }": "length.min: must be from 1ms to 49d, got '0s'",
    "length = { min = '1s', max = '6s', floor = '3s', ceiling = '2s' }": "length.ceiling: must not be below"
    " the floor ('3s'), got '2s'",
    "length = { quantiles = [] }": "length.quantiles: must be a list of pairs, such as"
    ' [[0.5, "6s"], [1.0, "30s"]], got []',
    "length = { quantiles = [[0.5, '6s'], [50, '7s']] }": "length.quantiles[1]: its quantile must be a number"
    " from 0 to 1, got 50",
    "length = { quantiles = [[nan, '6s']] }": "length.quantiles[0]: its quantile must be a number from 0 to 1, got nan",
    "length = { quantiles = [[0.5, '6']] }": f"length.quantiles[0]: its span {SPAN_RULE}, got '6'; did you mean '6s'?",
    "length = { quantiles = ['6s'] }": "length.quantiles[0]: must be a pair of quantile and span, such as"
    " [0.5, \"6s\"], got '6s'",
    "length = { quantiles = [[0.5, '6s'], [0.5, '7s']] }": "length.quantiles: must have quantiles that rise"
    ' from point to point, got [[0.5, "6s"], [0.5, "7s"]]',
    "length = { quantiles = [[0.5, '6s'], [0.6, '5s']] }": "length.quantiles: must have spans that do not"
    ' fall from point to point, got [[0.5, "6s"], [0.6, "5s"]]',
}
NAME_RULE = "name: must be 1 to 100 letters, digits, '-' or '_'"
BAD_TOPS = {
    'start = 2026-12-01T00:00:00Z\n[[campaign]]\nname="x"': ["t.toml: name: is needed"],
    'name = "a"\n[[campaign]]\nname="x"': ["t.toml: start: is needed, such as 2026-12-01T00:00:00Z"],
    'name = ""\nstart = 2026-12-01T00:00:00\n[[campaign]]\nname="x"': [
        "t.toml:1: name: must be a text of 1 to 100 printable characters, got ''",
        "t.toml:2: start: must be a time with a time zone, such as 2026-12-01T00:00:00Z, got 2026-12-01T00:00:00",
    ],
    'name = "a"\nstart = "2026"\nseed = true\n[[campaign]]\nname="x"': [
        "t.toml:2: start: must be a time with a time zone, without quotes (in Python: a datetime),"
        " such as 2026-12-01T00:00:00Z, got '2026'",
        "t.toml:3: seed: must be an integer from 0 to 9223372036854775807, got true",
    ],
    'name = "a"\nstart = 2026-12-01T00:00:00.0005Z\nseed = -1\n[[campaign]]\nname="x"': [
        "t.toml:2: start: must be in whole milliseconds, got 2026-12-01T00:00:00.000500Z",
        "t.toml:3: seed: must be an integer from 0 to 9223372036854775807, got -1",
    ],
    'name = "a"\nstart = 1969-12-01T00:00:00Z\nseed = 9223372036854775808\n[[campaign]]\nname="x"': [
        "t.toml:2: start: must be in the years 1970 to 2999, got 1969-12-01T00:00:00Z",
        "t.toml:3: seed: must be an integer from 0 to 9223372036854775807, got 9223372036854775808",
    ],
    'name = "a"\nstart = 2026-12-01T00:00:00Z\npreset = "azure-2071"\nlength = "3s"\noutputs = 3\n': [
        "t.toml:3: preset: must be 'azure-2017', got 'azure-2071'; did you mean 'azure-2017'?",
        "t.toml:5: outputs: must be a table, got 3",
        "t.toml: campaign: at least one is needed",
        "t.toml:4: length: unknown key; it belongs under [[campaign]]",
    ],
    'name = "a"\nstart = 2026-12-01T00:00:00Z\n[campaign]\nname="x"\n[outputs]\nevent=true\noutcomes="no"': [
        "t.toml:7: outputs.outcomes: must be true or false, got 'no'",
        "t.toml:6: outputs.event: unknown key; did you mean 'events'?",
        't.toml:3: campaign: must be written [[campaign]], once a campaign, got { name = "x" }',
    ],
    'name = "a"\nstart = 2026-12-01T00:00:00Z\n[[campaign]]\nname="."\n[[campaign]]\n[[campaign]]\nname=""': [
        f"t.toml:4: campaign[0].{NAME_RULE}, got '.'",
        "t.toml:5: campaign[1].name: is needed",
        f"t.toml:7: campaign[2].{NAME_RULE}, got ''",
    ],
    'name = "a"\nstart = 2026-12-01T00:00:00Z\n[[campaign]]\nname="x"\n[[campaign]]\nname="x"\nwork="1"': [
        f"t.toml:7: campaign[1].work: {SPAN_RULE}, got '1'; did you mean '1s'?",
        "t.toml:6: campaign[1].name: must be unique, got 'x' as in campaign[0]",
    ],
    'name = "a"\nseed = \n': ["t.toml:2: must be TOML, got: invalid value (column 8)"],
    'name = "a"\nname = "b"\n': ["t.toml:2: must be TOML, got: cannot overwrite a value (column 11)"],
}


@pytest.mark.parametrize(("line", "words"), BAD_CAMPAIGN_LINES.items(), ids=BAD_CAMPAIGN_LINES)
def test_a_bad_key_of_a_campaign_is_named(line, words):
    assert problems(f"{MINIMAL}\n# a comment\n{line}\n") == [f"scenario:8: campaign.hypervisor.{words}"]


@pytest.mark.parametrize(("text", "words"), BAD_TOPS.items(), ids=range(len(BAD_TOPS)))
def test_a_bad_file_is_told_all_its_problems(text, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.toml").write_text(text, "utf-8")

    assert problems("t.toml") == words


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    bytes_file = tmp_path / "bytes.toml"
    bytes_file.write_bytes(b'name = "\xff"')

    assert problems("absent.toml") == ["absent.toml: must be a readable file, got: no such file or directory"]
    assert problems(tmp_path) == [f"{tmp_path}: must be a readable file, got: is a directory"]
    assert problems(bytes_file) == [f"{bytes_file}: must be UTF-8 text, got other bytes at 8"]


def test_lines_are_found_in_any_way_of_writing_toml():
    text = '''name = """
[[campaign]]
work = 3
"""
"start"     = 2026-12-01T00:00:00Z
outputs . "events" = 1

[[campaign]]  # one
name = "a"
regions = [
  "*",  # work = 3
]
work = 1
[campaign.length]
p50 = "6s"

p99 = 7

[[ "campaign" ]]
name = "b"
length.min = "0s"
length.max = "1s"
'''
    assert [problem.rpartition(", got")[0].partition(": must")[0] for problem in problems(text)] == [
        "scenario:1: name",
        "scenario:6: outputs.events",
        "scenario:17: campaign.a.length.p99",
        "scenario:13: campaign.a.work",
        "scenario:21: campaign.b.length.min",
    ]


def test_words_of_the_user_stay_on_one_line():
    (problem,) = problems(MINIMAL + f'kind = "fr\\neeze\\u001b{"x" * 200}"')

    assert problem.startswith("scenario:6: campaign.hypervisor.kind: must be 'freeze', got 'fr\\neeze\\x1bxxx")
    assert problem.isprintable()
    assert len(problem) < 250


# ---- Overrides ---------------------------------------------------------------------------------------------


def test_an_override_goes_before_the_file():
    text = MINIMAL + 'length = { p50 = "6s", p99 = "9s" }\n[outputs]\nevents = true\n'
    overrides = [
        "seed=7",
        "outputs.events=false",
        "outputs.outcomes = false",
        "start=2027-01-01T00:00:00Z",
        "campaign.hypervisor.length.p99=12s",
        "campaign.hypervisor.update_domain_order=sequential",
        'campaign.hypervisor.regions=["westus"]',
        "campaign.hypervisor.spread='12h'",
        "seed=8",
    ]
    scenario = load_scenario(text, overrides)
    only = scenario.campaigns[0]

    assert (scenario.seed, scenario.has_events, scenario.has_outcomes) == (8, False, False)
    assert scenario.start_ms_epoch == 1_798_761_600_000
    assert only.length.given == '{ p50 = "6s", p99 = "12s" }'
    assert (only.update_domain_order, only.regions, only.spread_ms) == (
        DomainOrder.SEQUENTIAL,
        ("westus",),
        43_200_000,
    )
    assert (scenario.text, scenario.overrides) == (text, tuple(overrides))


def test_one_text_is_one_override():
    assert load_scenario(MINIMAL, "seed=2") == load_scenario(MINIMAL, ["seed=2"])


def test_a_start_in_quotes_is_told(tmp_path):
    for source in (
        MINIMAL.replace("2026-12-01T00:00:00Z", '"2026-12-01T20:00:00Z"'),
        {**tomllib.loads(MINIMAL), "start": "2026-12-01T20:00:00Z"},
    ):
        (problem,) = problems(source)
        assert problem.endswith(
            "start: must be a time with a time zone, without quotes (in Python: a datetime),"
            " such as 2026-12-01T00:00:00Z, got '2026-12-01T20:00:00Z'"
        )


@pytest.mark.parametrize(
    ("override", "words"),
    {
        "campaign.hypervisr.length=10s": " campaign.hypervisr.length: must name a campaign, got 'hypervisr';"
        " did you mean 'hypervisor'?",
        "campaign.hypervisor.length=10sec": f" campaign.hypervisor.length: {SPAN_RULE}, got '10sec';"
        " did you mean '10s'?",
        'campaign.hypervisor.length={ p50 = "9s", p99 = "6s" }': " campaign.hypervisor.length.p99: must not"
        " be below p50 ('9s'), got '6s'",
        "campaign.hypervisor.lenght=10s": " campaign.hypervisor.lenght: unknown key; did you mean 'length'?",
        "campaign.hypervisor=10s": " campaign.hypervisor: must name a campaign and a key of it, such as"
        " campaign.NAME.length",
        "length=10s": " length: unknown key; it belongs under [[campaign]]",
        "name.x=1": " name.x: name must be a table, got 'demo'",
        "seed=1\nstart=3": " seed: must be an integer from 0 to 9223372036854775807, got '1\\nstart=3'",
        "seed": ": must be KEY=VALUE, such as campaign.NAME.length=10s, got 'seed'",
        "outputs..events=1": ": must be KEY=VALUE, such as campaign.NAME.length=10s, got 'outputs..events=1'",
    }.items(),
)
def test_a_bad_override_is_named(override, words):
    assert problems(MINIMAL, [override]) == [f"--override{words}"]


# ---- Spans -------------------------------------------------------------------------------------------------

UNITS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(st.sampled_from([0, 1, SPAN_MS_MAX, SPAN_MS_MAX + 1]), st.integers(0, SPAN_MS_MAX)),
    st.sampled_from(sorted(UNITS)),
    st.integers(0, 12),
)
def test_a_span_is_exact_or_refused(ms, unit, digits):
    """Written with *digits* decimals, cut off: what does not come out whole is refused, never rounded."""
    scaled = ms * 10**digits // UNITS[unit]
    text = f"{scaled // 10**digits}" + (f".{scaled % 10**digits:0{digits}}" if digits else "") + unit
    exact = Fraction(scaled, 10**digits) * UNITS[unit]

    if exact > SPAN_MS_MAX:
        assert "must be from 0s to 3650d" in problems(f'{MINIMAL}work = "{text}"')[0]
    elif exact.denominator == 1:
        assert campaign(f'work = "{text}"').work_ms == exact
    else:
        assert "must come out as whole milliseconds" in problems(f'{MINIMAL}work = "{text}"')[0]


# ---- Profiles ----------------------------------------------------------------------------------------------


def entry(table, quantile) -> int:
    return int(table[round(quantile * PROFILE_STEPS)])


def shares(table) -> dict[int, float]:
    """How likely the interpolating draw makes each length, in tables that rise by 1 ms at most a step."""
    found: dict[int, float] = {}
    for left, right in zip(table[:-1].tolist(), table[1:].tolist(), strict=True):
        assert right - left in (0, 1)
        for ms in (left, right):
            found[ms] = found.get(ms, 0) + 0.5 / PROFILE_STEPS
    return found


def test_constant_profile():
    constant = profile('"0.5s"')

    assert constant.is_constant
    assert constant.table.dtype == np.uint32
    assert constant.table.shape == (PROFILE_STEPS + 1,)
    assert set(constant.table.tolist()) == {500}


def test_lognormal_profile_has_its_quantiles():
    lognormal = profile('{ p99 = "9s", p50 = "6s" }')
    sigma = math.log(9 / 6) / NormalDist().inv_cdf(0.99)
    ceiling_ms = 6000 * math.exp(sigma * NormalDist().inv_cdf(0.9999))

    assert lognormal.given == '{ p50 = "6s", p99 = "9s" }'
    assert (lognormal.length_ms_min, lognormal.length_ms_max) == (1, round(ceiling_ms))
    assert not lognormal.is_constant
    assert entry(lognormal.table, 0.5) == 6000
    assert abs(entry(lognormal.table, 0.99) - 9000) <= 1
    for i in (1, 99, 20_000, 50_000, 65_529):  # the last entry below the ceiling
        exact = 6000 * math.exp(sigma * NormalDist().inv_cdf(i / PROFILE_STEPS))
        assert abs(int(lognormal.table[i]) - exact) <= 0.5
    assert set(lognormal.table[65_530:].tolist()) == {round(ceiling_ms)}


def test_lognormal_profile_of_equal_quantiles_is_constant():
    assert profile('{ p50 = "6s", p99 = "6000ms", ceiling = "9s" }').table.tolist() == [6000] * (PROFILE_STEPS + 1)


def test_a_ceiling_cuts_and_extends():
    cut = profile('{ p50 = "6s", p99 = "9s", floor = "5s", ceiling = "8s" }')
    extended = profile('{ p50 = "6s", p99 = "9s", ceiling = "1min" }')

    assert (cut.length_ms_min, cut.length_ms_max, cut.table[0], cut.table[-1]) == (5000, 8000, 5000, 8000)
    assert entry(cut.table, 0.5) == 6000
    assert (extended.length_ms_max, extended.table[-1]) == (60_000, 60_000)
    assert 11_473 < extended.table[-2] < 13_000


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 10, 1000])
def test_uniform_profile_takes_all_values_equally_often(count):
    found = shares(profile(f'{{ min = "10s", max = "{10_000 + count - 1}ms" }}').table)

    assert sorted(found) == list(range(10_000, 10_000 + count))
    assert all(abs(share - 1 / count) <= 1 / PROFILE_STEPS for share in found.values())


def test_wide_uniform_profile_is_a_straight_line():
    table = profile('{ min = "1ms", max = "49d" }').table.astype(np.int64)

    line = 1 + np.arange(PROFILE_STEPS + 1) * ((LENGTH_MS_MAX - 1) / PROFILE_STEPS)
    assert (table[0], table[-1]) == (1, LENGTH_MS_MAX)
    assert np.abs(table - line).max() <= 1


def test_quantile_profile_is_linear_between_its_points_and_flat_outside():
    table = profile('{ quantiles = [[0.25, "6s"], [0.5, "8s"], [0.75, "8s"], [0.875, "30s"]] }').table

    assert {entry(table, quantile) for quantile in (0, 0.1, 0.25)} == {6000}
    assert entry(table, 0.375) == 7000
    assert {entry(table, quantile) for quantile in (0.5, 0.6, 0.75)} == {8000}
    assert entry(table, 0.8125) == 19_000
    assert {entry(table, quantile) for quantile in (0.875, 0.95, 1)} == {30_000}


def test_one_quantile_is_a_constant_and_a_tenth_is_a_tenth():
    assert profile('{ quantiles = [[1, "6s"]] }').is_constant
    # Every odd entry lies halfway between two milliseconds, but not if 0.1 and 0.9 were binary fractions.
    table = profile('{ quantiles = [[0.1, "1ms"], [0.9, "131073ms"]] }').table
    for i in range(6554, 6600):
        assert table[i] == round(1 + Fraction(131_072 * 10, 8) * (Fraction(i, PROFILE_STEPS) - Fraction(1, 10)))


def test_entries_are_rounded_half_to_even():
    table = profile('{ quantiles = [[0, "1ms"], [1, "32769ms"]] }').table  # half a millisecond a step

    assert table[:8].tolist() == [1, 2, 2, 2, 3, 4, 4, 4]


def test_floor_and_ceiling_clip_every_form():
    uniform = profile('{ min = "1s", max = "2s", floor = "1.5s", ceiling = "1600ms" }')
    quantiles = profile('{ quantiles = [[0, "1s"], [1, "2s"]], ceiling = "1.25s" }')

    assert (uniform.length_ms_min, uniform.length_ms_max) == (1500, 1600)
    assert (entry(uniform.table, 0.4), entry(uniform.table, 0.55), entry(uniform.table, 0.7)) == (
        1500,
        1550,
        1600,
    )
    assert (quantiles.length_ms_min, quantiles.length_ms_max, entry(quantiles.table, 0.5)) == (
        1000,
        1250,
        1250,
    )


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(['p50 = "{}ms", p99 = "{}ms"', 'min = "{}ms", max = "{}ms"', "quantiles"]),
    st.tuples(*[st.sampled_from([1, 2, 3, 999, 30_000, 65_537, 86_400_000])] * 2).map(sorted),
    st.sampled_from(['ceiling = "49d"', 'floor = "2ms", ceiling = "1min"', 'ceiling = "2ms"']),
    st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True).map(sorted),
)
def test_tables_never_fall_and_their_ends_are_the_bounds(form, lengths, limits, thousandths):
    if form == "quantiles":
        left, right = (thousandth / 1000 for thousandth in thousandths)
        form = f'quantiles = [[{left}, "{{}}ms"], [{right}, "{{}}ms"]]'
    drawn = profile(f"{{ {form.format(*lengths)}, {limits} }}")
    table = drawn.table.astype(np.int64)

    assert (np.diff(table) >= 0).all()
    assert (table[0], table[-1]) == (drawn.length_ms_min, drawn.length_ms_max)
    assert drawn.is_constant == (table[0] == table[-1])


# ---- Over a fleet ------------------------------------------------------------------------------------------


def test_selectors_become_sorted_regions_with_vms():
    text = MINIMAL + 'regions = ["westus", "Europe", "westeurope"]\n[[campaign]]\nname = "all"\n'

    over_fleet = resolved(text, counts={**VM_COUNTS, "eastus": 0})

    assert over_fleet.regions == (
        ("northeurope", "westeurope", "westus"),
        ("northeurope", "westeurope", "westus"),
    )
    assert over_fleet.warnings == ()


def test_known_regions_without_vms_are_warnings():
    text = MINIMAL + 'regions = ["eastus", "Europe"]\npair_order = ["eastus", "westeurope"]\n'
    counts = {"westus": 10}

    over_fleet = resolved(text, counts=counts)

    assert over_fleet.regions == ((),)
    assert over_fleet.warnings == (
        "scenario:6: campaign.hypervisor.regions[0]: no VM of the fleet is in 'eastus'",
        "scenario:6: campaign.hypervisor.regions[1]: no VM of the fleet is in 'Europe'",
        "scenario:4: campaign.hypervisor: no VM of the fleet is in its regions, so nothing happens",
        "scenario:7: campaign.hypervisor.pair_order[0]: no VM of the fleet is in 'eastus'",
        "scenario:7: campaign.hypervisor.pair_order[1]: no VM of the fleet is in 'westeurope'",
    )


def test_unknown_regions_are_named_all_at_once():
    text = MINIMAL + 'regions = ["westeurop", "Mars",\n"*"]\npair_order = ["Europe", "westuss"]\n'

    with pytest.raises(InputError) as caught:
        resolved(text)

    assert caught.value.problems == [
        "scenario:6: campaign.hypervisor.regions[0]: must be a region, a geography or '*', got 'westeurop';"
        " did you mean 'westeurope'?",
        "scenario:6: campaign.hypervisor.regions[1]: must be a region, a geography or '*', got 'Mars'",
        "scenario:8: campaign.hypervisor.pair_order[0]: must be a region, got 'Europe'; did you mean 'westeurope'?",
        "scenario:8: campaign.hypervisor.pair_order[1]: must be a region, got 'westuss'; did you mean 'westus'?",
    ]
    with pytest.raises(InputError, match=r"^--override campaign\.hypervisor\.regions\[0\]: must be a region"):
        resolved(MINIMAL, ['campaign.hypervisor.regions=["mars"]'])


def test_resolved_toml_says_everything():
    text = MINIMAL + 'length = { p50 = "6s", p99 = "9s" }\nspread = "12h"\npair_order = ["westus"]\n'
    over_fleet = resolved(text, ["start=2026-12-01T01:00:00.5+01:00"])

    written = over_fleet.to_toml({"fleetsim_version": "0.1.0", "schema_version": 1})
    keys = tomllib.loads(written)

    assert "\nstart = 2026-12-01T00:00:00.500000Z\n" in written
    assert keys.pop("provenance") == {
        "fleetsim_version": "0.1.0",
        "schema_version": 1,
        "scenario_digest": over_fleet.scenario_digest,
    }
    assert keys.pop("start").isoformat() == "2026-12-01T00:00:00.500000+00:00"
    assert keys == {
        "name": "demo",
        "seed": 0,
        "preset": "azure-2017",
        "outputs": {"events": True, "outcomes": True},
        "campaign": [
            {
                "name": "hypervisor",
                "kind": "freeze",
                "regions": ["northeurope", "westeurope", "westus"],
                "start_ms": 0,
                "work_ms": 0,
                "update_domain_gap_ms": 0,
                "update_domain_order": "random",
                "spread_ms": 43_200_000,
                "pair_order": ["westus"],
                "pair_lag_ms": 0,
                "length": {
                    "given": '{ p50 = "6s", p99 = "9s" }',
                    "length_ms_min": 1,
                    "length_ms_max": 11_473,
                    "table_sha256": over_fleet.scenario.campaigns[0].length.table_sha256,
                },
            }
        ],
    }


TWO = MINIMAL + 'length = { p50 = "6s", p99 = "9s" }\nwork = "1s"\n[[campaign]]\nname = "firmware"\n'


def test_digest_ignores_how_the_file_is_written():
    same = """# a comment
start = 2026-12-01T01:00:00+01:00   # the same instant
preset = "azure-2017"
name = "demo"
campaign = [
  { work = "1s", length = { p99 = "9s", p50 = "6s" }, name = "hypervisor" },
  { name = "firmware", regions = ["westus", "Europe"] },
]
"""
    assert resolved(same).scenario_digest == resolved(TWO).scenario_digest


def test_digest_can_be_recomputed_from_the_file():
    over_fleet = resolved(TWO)
    keys = tomllib.loads(over_fleet.to_toml({"fleet_digest": "aa"}))
    provenance = keys.pop("provenance")

    canonical = json.dumps(keys, sort_keys=True, separators=(",", ":"), default=lambda at: at.isoformat())

    assert hashlib.sha256(canonical.encode()).hexdigest() == provenance["scenario_digest"]


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "name=other",
        "start=2026-12-01T00:00:00.001Z",
        "outputs.events=false",
        "campaign.hypervisor.length.p99=9001ms",
        "campaign.hypervisor.work=2s",
        "campaign.firmware.name=bios",
        'campaign.firmware.regions=["westus"]',
        "campaign.firmware.pair_order=name",
        "campaign.firmware.start=1ms",
    ],
)
def test_digest_depends_on_every_key(override):
    assert resolved(TWO, [override]).scenario_digest != resolved(TWO).scenario_digest


def test_digest_depends_on_the_order_of_campaigns():
    there, back = (
        resolved(f'{MINIMAL.partition("[[")[0]}[[campaign]]\nname = "{a}"\n[[campaign]]\nname = "{b}"\n')
        for a, b in (("a", "b"), ("b", "a"))
    )

    assert there.scenario_digest != back.scenario_digest
    assert difference(there.to_toml({}), back.to_toml({})) == ['campaign: was ["a", "b"], is ["b", "a"]']


def test_difference_names_what_changed():
    def provenance(digest, version):
        digests = dict.fromkeys(("fleet_digest", "pairs_digest"), digest * 16)
        return {"fleetsim_version": version, "schema_version": int(version[-1]), **digests}

    before = resolved(TWO).to_toml(provenance("a489", "0.1"))
    overrides = ["seed=7", "campaign.hypervisor.length=10s", "campaign.firmware.spread=12h"]
    after = resolved(TWO, overrides).to_toml(provenance("5794", "0.2"))

    assert difference(before, before) == []
    assert difference(before, after) == [
        "seed: was 0, is 7",
        "fleetsim: another version (was '0.1', is '0.2')",
        "schema: another version (was '1', is '2')",
        "fleet: another one (digest was 'a489a489...', is '57945794...')",
        "pairs: another list (digest was 'a489a489...', is '57945794...')",
        "campaign.hypervisor.length: was '{ p50 = \"6s\", p99 = \"9s\" }', is '10s'",
        "campaign.firmware.spread: was '0s', is '12h'",
    ]
    assert difference(before.replace("length_ms_max = 11473", "length_ms_max = 11474"), before) == [
        "campaign.hypervisor.length.length_ms_max: was 11474, is 11473"
    ]
