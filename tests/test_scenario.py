"""Scenarios: what is accepted, the exact words for what is not, and profiles against their closed forms."""

import hashlib
import json
import math
import pickle
import tomllib
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetsim import reference
from fleetsim.errors import InputError
from fleetsim.kinds import KINDS
from fleetsim.profiles import PROFILE_STEPS, Profile
from fleetsim.regions import Relation
from fleetsim.scenario import (
    FleetFacts,
    Quorum,
    SelfService,
    Tries,
    Windows,
    difference,
    json_schema,
    load_scenario,
    preset_toml,
    presets,
    resolve,
)
from fleetsim.schema import LENGTH_MS_MAX, SPAN_MS_MAX, Decider, DomainOrder, Kind, Phase, Walk

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
COLUMNS = {
    "vm": pa.int64(),
    "workload": pa.dictionary(pa.int32(), pa.string()),
    "application": pa.string_view(),
    "cluster": pa.string(),
    "update_domain": pa.uint8(),
    "vcpus": pa.float64(),
    "dynamic_ip": pa.bool_(),
    "created": pa.timestamp("ms", "UTC"),
    "tags": pa.list_(pa.string()),
    "local": pa.timestamp("ms"),
}
SIZES = {"Standard_D2s_v5": 20, "Standard_M64s": 5, "Standard_NC6s_v3": 1, "odd": 2}
WORKLOADS = {"batch": 10, "web": 40}


def problems(source, overrides=()):
    with pytest.raises(InputError) as caught:
        load_scenario(source, overrides)
    return caught.value.problems


def campaign(line="", overrides=()):
    return load_scenario(MINIMAL + line, overrides).campaigns[0]


def profile(text) -> Profile:
    return campaign(f"length = {text}").length


def nobody_asks(campaign, regions):
    raise AssertionError(f"{campaign.name} has no 'where'")


def resolved(text, overrides=(), counts=VM_COUNTS, columns=COLUMNS, select=nobody_asks):
    fleet = FleetFacts(counts, columns, SIZES, WORKLOADS)
    return resolve(load_scenario(text, overrides), RELATION, fleet, select)


def unresolvable(text, **fleet):
    with pytest.raises(InputError) as caught:
        resolved(text, **fleet)
    return caught.value.problems


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
    assert (only.waves, only.bake_ms, only.where, only.family_lengths) == ((), 0, (), ())
    assert (only.walk_by, only.sets_in_step) == (Walk.UPDATE_DOMAIN, False)
    assert (only.cannot_freeze, only.pair_exclusion) == ("unaffected", "all")
    assert (scenario.horizon_ms, scenario.tolerance_ms, scenario.quorum) == (None, (), None)
    assert scenario.output_profile == "fast"
    assert (only.length.given, only.length.length_ms_min, only.length.length_ms_max) == (
        "30s",
        30_000,
        30_000,
    )


def test_later_practice_differs_in_five_keys():
    over_fleet = resolved(MINIMAL, ["preset=azure-2024"])
    keys, guide = over_fleet._keys()["campaign"][0], resolved(MINIMAL)._keys()["campaign"][0]

    assert {key for key in keys if keys[key] != guide.get(key)} == {
        *("length", "walk_by", "pair_exclusion", "cannot_freeze", "reboot_length")
    }
    assert over_fleet.scenario.campaigns[0].length.given == '{ p50 = "6s", p99 = "9s", ceiling = "30s" }'
    assert (keys["length"]["length_ms_max"], keys["walk_by"], keys["pair_exclusion"]) == (
        30_000,
        "fault_domain",
        "reboots",
    )
    assert (keys["cannot_freeze"], keys["reboot_length"]["given"]) == ("reboot", "25min")


@pytest.mark.parametrize(
    ("lines", "cannot_freeze", "given"),
    [
        ("cannot_freeze = 'reboot'", "reboot", "25min"),
        ("cannot_freeze = 'reboot'\nreboot_length = '7min'", "reboot", "7min"),
        ("reboot_length = { p50 = '5min', p99 = '9min' }\ncannot_freeze = 'reboot'", "reboot", None),
        ("cannot_freeze = 'unaffected'", "unaffected", None),
        ("", "unaffected", None),
    ],
)
def test_the_length_of_a_reboot_goes_with_reboots_of_who_cannot_be_frozen(lines, cannot_freeze, given):
    for preset in ("azure-2017", "emergency-2018", *(["azure-2024"] * bool(lines))):
        only = campaign(lines, [f"preset={preset}"])

        assert only.cannot_freeze == cannot_freeze
        if given is not None:
            assert (only.reboot_length.given, only.reboot_length.is_constant) == (given, True)
        elif "p50" in lines:
            assert only.reboot_length.given == '{ p50 = "5min", p99 = "9min" }'
            assert only.reboot_length.table[32_768] == 300_000
        else:
            assert only.reboot_length is None


def test_a_preset_that_reboots_says_only_its_length_anew():
    only = campaign("reboot_length = '1min'", ["preset=azure-2024"])

    assert (only.cannot_freeze, only.reboot_length.length_ms_max) == ("reboot", 60_000)


@pytest.mark.parametrize("kind", ["no_impact", "reboot", "redeploy"])
def test_kinds_that_freeze_nobody_reboot_nobody_for_that(kind):
    only = campaign(f"kind = '{kind}'", ["preset=azure-2024"])

    assert (only.cannot_freeze, only.reboot_length) == ("unaffected", None)
    assert problems(f"{MINIMAL}kind = '{kind}'\ncannot_freeze = 'reboot'\n") == [
        f"scenario:7: campaign.hypervisor.cannot_freeze: 'reboot' goes with kind 'freeze', got it with kind '{kind}'"
    ]
    assert problems(f"{MINIMAL}kind = '{kind}'\nreboot_length = '1min'\n") == [
        "scenario:7: campaign.hypervisor.reboot_length: goes with cannot_freeze 'reboot', got it with cannot_freeze"
        " 'unaffected'"
    ]


def test_what_became_of_a_reboots_length_is_told():
    plain, reboots, longer = (
        resolved(MINIMAL + lines).to_toml({})
        for lines in ("", "cannot_freeze = 'reboot'", "cannot_freeze = 'reboot'\nreboot_length = '30min'")
    )

    assert difference(reboots, longer) == ["campaign.hypervisor.reboot_length: was '25min', is '30min'"]
    assert difference(plain, reboots) == [
        "campaign.hypervisor.cannot_freeze: was 'unaffected', is 'reboot'",
        "campaign.hypervisor.reboot_length: was nothing, is '25min'",
    ]


def test_every_key_is_read():
    text = """
name = "all keys"
start = 2026-12-01T02:30:00.250+02:00
horizon = "180d"
seed = 9223372036854775807
preset = "azure-2017"
tolerance = { streaming = "5s", "two words" = "0s" }
quorum = { by = "application", min_up = 0.1 }
outputs = { events = false, outcomes = false, profile = "interchange" }
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
waves = [["westus"], ["Europe", "*"]]
bake = "36h"
where = { workload = "web", vcpus = [2, 4.5], created = 2026-12-01T01:00:00+01:00, dynamic_ip = true }
walk_by = "fault_domain"
sets_in_step = true
cannot_freeze = "unaffected"
pair_exclusion = "reboots"
[[campaign]]
name = "third"
kind = "no_impact"
length = { p50 = "6s", p99 = "9s", floor = "2s", by_family = { M = "30s", Dsv5 = { min = "1s", max = "2s" } } }
"""
    scenario = load_scenario(text)
    second = scenario.campaigns[1]

    assert (scenario.start_ms_epoch, scenario.seed) == (1_796_085_000_250, 2**63 - 1)
    assert (scenario.has_events, scenario.has_outcomes, scenario.output_profile) == (False, False, "interchange")
    assert scenario.horizon_ms == 180 * 86_400_000
    assert scenario.tolerance_ms == (("streaming", 5000), ("two words", 0))
    assert scenario.quorum == Quorum("application", Fraction(1, 10))
    assert (second.place, second.name, second.regions) == (1, "second_1-b", ("Europe", "westus"))
    assert (second.start_ms, second.length.length_ms_min, second.work_ms) == (864_000_000, 500, 90_000)
    assert (second.update_domain_gap_ms, second.update_domain_order) == (1_800_000, DomainOrder.LARGEST_FIRST)
    assert (second.spread_ms, second.pair_order, second.pair_lag_ms) == (
        43_200_000,
        ("westus", "northeurope"),
        1,
    )
    assert (second.waves, second.bake_ms) == ((("westus",), ("Europe", "*")), 36 * 3_600_000)
    assert second.where == (
        ("workload", ("web",)),
        ("vcpus", (2, 4.5)),
        ("created", (datetime(2026, 12, 1, tzinfo=UTC),)),
        ("dynamic_ip", (True,)),
    )
    assert (second.walk_by, second.sets_in_step) == (Walk.FAULT_DOMAIN, True)
    assert (second.cannot_freeze, second.pair_exclusion) == ("unaffected", "reboots")
    third = scenario.campaigns[2]
    assert (third.kind, third.length.given) == (Kind.NO_IMPACT, '{ p50 = "6s", p99 = "9s", floor = "2s" }')
    assert [(family, profile.given) for family, profile in third.family_lengths] == [
        ("M", "30s"),
        ("Dsv5", '{ min = "1s", max = "2s" }'),
    ]
    assert not third.family_lengths[1][1].is_constant


@pytest.mark.parametrize(
    ("given", "meant"), [("'majority'", "majority"), ("1", 1), ("1.0", Fraction(1)), ("0.1", Fraction(1, 10))]
)
def test_a_quorum_is_written_as_it_was_said(given, meant):
    over_fleet = resolved(f"quorum = {{ by = 'set', min_up = {given} }}\n{MINIMAL}")

    written = tomllib.loads(over_fleet.to_toml({}))["quorum"]["min_up"]
    said = tomllib.loads(f"x = {given}")["x"]

    assert over_fleet.scenario.quorum == Quorum("set", meant)
    assert (type(written), written) == (type(said), said)


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
        defaults = resolved(MINIMAL, [f"preset={name}"])
        fleet = FleetFacts(VM_COUNTS, COLUMNS, SIZES, WORKLOADS)
        assert resolve(whole, RELATION, fleet, nobody_asks)._keys() == defaults._keys()
        explicit = {**keys, "name": "demo", "start": tomllib.loads(MINIMAL)["start"]}
        explicit["campaign"][0]["name"] = "hypervisor"
        assert resolve(load_scenario(explicit), RELATION, fleet, nobody_asks)._keys() == defaults._keys()
    with pytest.raises(InputError, match=r"got 'azure-2071'; did you mean 'azure-2017'\?"):
        preset_toml("azure-2071")


def test_catalogue_of_kinds():
    assert [kind.code for kind in KINDS.values()] == list(Kind)
    assert [name for name, kind in KINDS.items() if kind.is_available] == ["no_impact", "freeze", "reboot", "redeploy"]
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
    "known here: name, kind, regions, waves, bake, where, start, length, work, update_domain_gap,"
    " update_domain_order, walk_by, sets_in_step, spread, pair_order, pair_lag, pair_exclusion,"
    " cannot_freeze, reboot_length, caps, host_order, notice, self_service, scheduled, iterations_max,"
    " reschedule_delay, one_zone_at_a_time"
)
CAP_EXAMPLE = 'such as [{ per = "cluster", vms_ratio = 0.05 }]'
CAP_RULE = "must have 'per' and one of 'vms_ratio', 'vms_count', 'hosts_ratio', 'hosts_count'"
KINDS_RULE = "must be one of 'no_impact', 'freeze', 'reboot', 'redeploy'"
SPAN_RULE = "must be a number and a unit (ms, s, min, h, d)"
WAVES_RULE = 'must be a list of lists of regions, geographies or \'*\', such as [["westeurope"], ["*"]]'
VALUE_RULE = (
    "must be a text, a number, true or false, or a time with a time zone in whole milliseconds,"
    " or a list of such values"
)
LENGTH_RULE = "must be a span such as '30s', or a table of p50 and p99, of min and max, or of quantiles"
BAD_CAMPAIGN_LINES = {
    # unknown keys, those that later versions will know among them
    "lenght = '30s'": "lenght: unknown key; did you mean 'length'?",
    "blackout = '1d'": f"blackout: unknown key; {KNOWN_OF_CAMPAIGN}",
    "iterations_max = 0": "iterations_max: must be an integer from 1 to 255, got 0",
    "iterations_max = 256": "iterations_max: must be an integer from 1 to 255, got 256",
    "iterations_max = true": "iterations_max: must be an integer from 1 to 255, got true",
    "reschedule_delay = 14": f"reschedule_delay: {SPAN_RULE}, got 14; did you mean '14s'?",
    "seed = 7": "seed: unknown key; it belongs at the top, before the first table",
    "events = true": "events: unknown key; it belongs under [outputs]",
    "horizon = '1d'": "horizon: unknown key; it belongs at the top, before the first table",
    "min_up = 1": "min_up: unknown key; it belongs under [quorum]",
    "by_family = {}": f"by_family: unknown key; {KNOWN_OF_CAMPAIGN}",
    # caps
    "caps = 0.05": f"caps: must be a list of tables, {CAP_EXAMPLE}, got 0.05",
    "caps = ['cluster']": f'caps: must be a list of tables, {CAP_EXAMPLE}, got ["cluster"]',
    "caps = [{ per = 'cluster' }]": f'caps: {CAP_RULE}, got {{ per = "cluster" }}',
    "caps = [{ vms_count = 3 }]": f"caps: {CAP_RULE}, got {{ vms_count = 3 }}",
    "caps = [{ per = 'zone', vms_count = 3, vms_ratio = 0.1 }]": f"caps: {CAP_RULE},"
    ' got { per = "zone", vms_count = 3, vms_ratio = 0.1 }',
    "caps = [{ per = 'zone', vm_ratio = 0.1 }]": "caps: unknown key 'vm_ratio'; did you mean 'vms_ratio'?,"
    ' got { per = "zone", vm_ratio = 0.1 }',
    "caps = [{ per = 'rack', vms_count = 3 }]": "caps: its 'per' must be one of 'region', 'zone', 'cluster',"
    " got 'rack'",
    **{
        f"caps = [{{ per = 'zone', {key} = {value} }}]": f"caps: its '{key}' must be {rule}, got {value}"
        for key, rule, values in (
            ("vms_ratio", "a ratio above 0 and up to 1 of at most 9 decimals", ("0", "-0.1", "1.5", "0.0123456789")),
            ("hosts_count", f"an integer from 1 to {2**32 - 1}", ("0", "-1", "0.5", "true")),
        )
        for value in values
    },
    "caps = [{ per = 'zone', vms_count = 3 }, { per = 'zone', vms_ratio = 0.1 }]": "caps: must limit the vms of a zone"
    ' once, got [{ per = "zone", vms_count = 3 }, { per = "zone", vms_ratio = 0.1 }]',
    # windows
    "iterations_max = 3": "iterations_max: goes with kinds that need a reboot, got it with kind 'freeze'",
    "reschedule_delay = '1d'": "reschedule_delay: goes with kinds that need a reboot, got it with kind 'freeze'",
    "one_zone_at_a_time = true": "one_zone_at_a_time: goes with kinds that need a reboot, got it with kind 'freeze'",
    "notice = '1d'": "notice: goes with kinds that need a reboot, got it with kind 'freeze'",
    "self_service = {}": "self_service: goes with kinds that need a reboot, got it with kind 'freeze'",
    "self_service = { length = '1d' }": "self_service: goes with kinds that need a reboot, got it with kind 'freeze'",
    "self_service = { uptake_ratio = 1.1 }": "self_service.uptake_ratio: must be a number from 0 to 1, got 1.1",
    "self_service = { failure_ratio = true }": "self_service.failure_ratio: must be a number from 0 to 1, got true",
    "self_service = { spare_ratio = -1 }": "self_service.spare_ratio: must be a number from 0 to 1, got -1",
    "self_service = { by = 'sets' }": "self_service.by: must be one of 'subscription', 'set', 'vm', got 'sets';"
    " did you mean 'set'?",
    "self_service = { timing = 'late' }": "self_service.timing: must be one of 'uniform', 'early', 'last_minute',"
    " 'working_hours', got 'late'",
    "self_service = { timing = { quantiles = [[0.5, '2d'], [1.0, '1d']] } }": "self_service.timing.quantiles: must have"
    ' spans that do not fall from point to point, got [[0.5, "2d"], [1.0, "1d"]]',
    "self_service = { recycle = '-1h' }": "self_service.recycle: must be from 0s to 3650d, got '-1h'",
    "scheduled = { gap = '1d', length = '0s' }": "scheduled.length: must be from 1ms to 3650d, got '0s'",
    "scheduled = { gap = '-1d', length = '1d' }": "scheduled.gap: must be from 0s to 3650d, got '-1d'",
    "scheduled = { gap = '1d', length = '1d', lenght = '1d' }": "scheduled.lenght: unknown key; did you mean 'length'?",
    "scheduled = '1d'": "scheduled: must be a table, got '1d'",
    "scheduled = { failure_ratio = 1.5 }": "scheduled.failure_ratio: must be a number from 0 to 1, got 1.5",
    "scheduled = { retry_timeout = '-2h' }": "scheduled.retry_timeout: must be from 0s to 3650d, got '-2h'",
    # kinds and orders
    "kind = 'freez'": f"kind: {KINDS_RULE}, got 'freez'; did you mean 'freeze'?",
    "kind = 'live_migration'": f"kind: {KINDS_RULE}, got 'live_migration';"
    " this version knows that kind but cannot run it",
    "kind = 1": f"kind: {KINDS_RULE}, got 1",
    "update_domain_order = 'sequentially'": "update_domain_order: must be one of 'random', 'sequential',"
    " 'largest_first', got 'sequentially'; did you mean 'sequential'?",
    "pair_order = 'fewest'": "pair_order: must be one of 'fewest_vms_first', 'most_vms_first', 'name',"
    " got 'fewest'; a list of regions is an order too",
    "pair_order = ['westus', 'eastus', 'westus']": "pair_order: must name a region once, got 'westus' again",
    # regions
    "regions = 'westus'": "regions: must be a list of regions, geographies or '*', got 'westus';"
    ' did you mean ["westus"]?',
    "regions = []": "regions: must be a list of regions, geographies or '*', got []; [\"*\"] is all",
    # waves
    "waves = 'westus'": f"waves: {WAVES_RULE}, got 'westus'",
    "waves = []": f"waves: {WAVES_RULE}, got []",
    "waves = [['westus'], []]": f'waves: {WAVES_RULE}, got [["westus"], []]',
    "waves = [[1]]": f"waves: {WAVES_RULE}, got [[1]]",
    "waves = ['westus', '*']": 'waves: must be a list of lists, one a wave, got ["westus", "*"];'
    ' did you mean [["westus"], ["*"]]?',
    "bake = '1d'": "bake: is the time between waves, got '1d' and no waves",
    "bake = 1": f"bake: {SPAN_RULE}, got 1; did you mean '1s'?",
    # selection
    "where = 'web'": "where: must be a table, got 'web'",
    "where = { workload = [] }": "where.workload: must be a value or a list of values, got []",
    "where = { workload = { a = 1 } }": f"where.workload: {VALUE_RULE}, got {{ a = 1 }}",
    "where = { workload = ['web', [1]] }": f"where.workload: {VALUE_RULE}, got [1]",
    "where = { vcpus = nan }": f"where.vcpus: {VALUE_RULE}, got nan",
    "where = { created = 2026-12-01T00:00:00 }": f"where.created: {VALUE_RULE}, got 2026-12-01T00:00:00",
    "where = { created = 2026-12-01 }": f"where.created: {VALUE_RULE}, got 2026-12-01",
    "where = { created = 2026-12-01T00:00:00.0005Z }": f"where.created: {VALUE_RULE}, got 2026-12-01T00:00:00.000500Z",
    # how sets are walked, and whom a pair or a size keeps out
    "walk_by = 'rack'": "walk_by: must be one of 'update_domain', 'fault_domain', got 'rack'",
    "walk_by = 'fault_domains'": "walk_by: must be one of 'update_domain', 'fault_domain', got 'fault_domains';"
    " did you mean 'fault_domain'?",
    "sets_in_step = 'yes'": "sets_in_step: must be true or false, got 'yes'",
    "pair_exclusion = 'none'": "pair_exclusion: must be one of 'all', 'reboots', got 'none'",
    "cannot_freeze = 'skip'": "cannot_freeze: must be one of 'unaffected', 'reboot', got 'skip'",
    "cannot_freeze = 'reboots'": "cannot_freeze: must be one of 'unaffected', 'reboot', got 'reboots'; did you mean"
    " 'reboot'?",
    "cannot_freeze = true": "cannot_freeze: must be one of 'unaffected', 'reboot', got true",
    "reboot_length = '25min'": "reboot_length: goes with cannot_freeze 'reboot', got it with cannot_freeze"
    " 'unaffected'",
    "reboot_length = 25": f"reboot_length: {SPAN_RULE}, got 25; did you mean '25s'?",
    "reboot_length = '0s'": "reboot_length: must be from 1ms to 49d, got '0s'",
    "reboot_length = {}": f"reboot_length: {LENGTH_RULE}, got {{}}",
    "reboot_length = { min = '2s', max = '1s' }": "reboot_length.max: must not be below min ('2s'), got '1s'",
    "reboot_length = { min = '1s', max = '2s', by_family = { M = '3s' } }": "reboot_length.by_family: unknown key;"
    " known here: floor, ceiling, min, max",
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
    "length = { p50 = '6s', p99 = '9s', by_family = '5s' }": "length.by_family: must be a table, got '5s'",
    "length = { by_family = { M = '5s' } }": f'length: {LENGTH_RULE}, got {{ by_family = {{ M = "5s" }} }}',
    "length = { min = '1s', max = '1s', by_family = { M = '0s' } }": "length.by_family.M: must be from 1ms to 49d,"
    " got '0s'",
    "length = { min = '1s', max = '1s', by_family = { M = { p50 = '2s', p99 = '1s' } } }": "length.by_family.M.p99:"
    " must not be below p50 ('2s'), got '1s'",
    "length = { min = '1s', max = '1s', by_family = { M = { p50 = '2s', p99 = '3s', by_family = {} } } }": (
        "length.by_family.M.by_family: unknown key; known here: floor, ceiling, p50, p99"
    ),
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
PRESETS_RULE = "must be one of 'azure-2017', 'azure-2024', 'emergency-2018'"
HEAD = 'name = "a"\nstart = 2026-12-01T00:00:00Z\n'
MIN_UP_RULE = "must be 'majority', a count from 1, or a ratio above 0.0 and up to 1.0 of at most 9 decimals"
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
        f"t.toml:3: preset: {PRESETS_RULE}, got 'azure-2071'; did you mean 'azure-2017'?",
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
    f'{HEAD}horizon = "0s"\ntolerance = 3\n[quorum]\nby="host"\n[[campaign]]\nname="x"': [
        "t.toml:3: horizon: must be from 1ms to 3650d, got '0s'",
        "t.toml:4: tolerance: must be a table, got 3",
        "t.toml:6: quorum.by: must be one of 'application', 'set', got 'host'",
        "t.toml:5: quorum.min_up: is needed",
    ],
    f'{HEAD}quorum = 3\noutputs.profile = "slow"\n[tolerance]\nweb = 3\n[[campaign]]\nname="x"': [
        f"t.toml:6: tolerance.web: {SPAN_RULE}, got 3; did you mean '3s'?",
        "t.toml:3: quorum: must be a table, got 3",
        "t.toml:4: outputs.profile: must be one of 'fast', 'interchange', got 'slow'",
    ],
    f'{HEAD}horizon = "9d"\n[[campaign]]\nname="x"\nstart="9d"\n[[campaign]]\nname="y"\nstart="10d"': [
        "t.toml:3: horizon: must not be before the start of campaign 'y' ('10d'), got '9d'",
    ],
    **{
        f'{HEAD}quorum={{by="set", min_up={min_up}}}\n[[campaign]]\nname="x"': [
            f"t.toml:3: quorum.min_up: {MIN_UP_RULE}, got {shown}"
        ]
        for min_up, shown in [
            ("0", "0"),
            ("-1", "-1"),
            ("0.0", "0.0"),
            ("1.01", "1.01"),
            ("nan", "nan"),
            ("true", "true"),
            ("4294967296", "4294967296"),
            ("'majorty'", "'majorty'; did you mean 'majority'?"),
        ]
    },
    'name = "a"\nseed = \n': ["t.toml:2: must be TOML, got: invalid value (column 8); text must be in quotes"],
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


REBOOT = f"{MINIMAL}kind = 'reboot'\n"


def test_a_reboot_has_the_windows_of_the_guide_but_for_what_is_said():
    (campaign,) = load_scenario(REBOOT).campaigns
    day_ms = 86_400_000
    assert campaign.windows == Windows(30 * day_ms, 30 * day_ms, 2 * day_ms, 14 * day_ms, 3, 14 * day_ms)
    assert campaign.windows.lead_ms == 32 * day_ms
    assert (campaign.length.length_ms_min, campaign.update_domain_gap_ms) == (25 * 60_000, 30 * 60_000)

    said = "notice = '40d'\nscheduled = { length = '7d' }\nlength = '1s'\niterations_max = 1\nreschedule_delay = '1d'"
    (campaign,) = load_scenario(f"{REBOOT}{said}").campaigns
    assert campaign.windows == Windows(40 * day_ms, 30 * day_ms, 2 * day_ms, 7 * day_ms, 1, day_ms)
    assert campaign.windows.lead_ms == 40 * day_ms
    assert campaign.length.length_ms_max == 1_000


def test_tries_fail_only_where_a_scenario_says_so():
    assert load_scenario(REBOOT).campaigns[0].tries is None
    assert load_scenario(f"{REBOOT}scheduled = {{ retry_timeout = '49d' }}\n").campaigns[0].tries is None

    hour_ms = 3_600_000
    for said, timeout_ms in (("", 2 * hour_ms), (", retry_timeout = '0s'", 0), (", retry_timeout = '3h'", 3 * hour_ms)):
        (campaign,) = load_scenario(f"{REBOOT}scheduled = {{ failure_ratio = 0.1{said} }}\n").campaigns
        assert campaign.tries == Tries(Fraction(1, 10), timeout_ms)
        assert campaign.windows.scheduled_ms == 14 * 24 * hour_ms


@pytest.mark.parametrize(
    ("length", "timeout", "longest"),
    [
        ("'1h'", "1175.0001h", "1h"),
        ("{ p50 = '1s', p99 = '2s', ceiling = '2d' }", "47.1d", "2d"),
        ("{ min = '1s', max = '1s', by_family = { Dv2 = '49d' } }", "1ms", "49d"),
    ],
)
def test_all_tries_of_a_vm_are_no_longer_than_one_impact_may_be(length, timeout, longest):
    said = f"{REBOOT}length = {length}\nscheduled = {{ failure_ratio = 0.1, retry_timeout = '{timeout}' }}\n"
    with pytest.raises(InputError) as caught:
        load_scenario(said)

    (problem,) = caught.value.problems
    assert "scheduled.retry_timeout: must, with the longest length" in problem
    assert f"('{longest}'), be at most 49d where tries fail, got '" in problem


def test_in_an_emergency_the_platform_begins_when_the_window_for_customers_is_cut_short():
    (campaign,) = load_scenario(REBOOT.replace("[[campaign]]", "preset = 'emergency-2018'\n[[campaign]]", 1)).campaigns
    hours_ms = 3_600_000

    assert (campaign.windows.self_service_ms, campaign.windows.gap_ms) == (40 * hours_ms, 0)
    assert campaign.windows.lead_ms == 40 * hours_ms
    assert campaign.update_domain_gap_ms == hours_ms // 2


@pytest.mark.parametrize(
    ("said", "warnings"),
    {
        "": [],
        "notice = '1d'": [],  # the window for customers and the gap take 32 days
        "notice = '29d'\nself_service = { length = '1d' }": [
            "scenario:7: campaign.hypervisor.notice: is less than the 30d that azure-2017 announces a reboot ahead,"
            " got '29d'"
        ],
        "notice = '1d'\nself_service = { length = '3d' }": [
            "scenario:7: campaign.hypervisor.notice: is less than the 30d that azure-2017 announces a reboot ahead,"
            " got '5d'"
        ],
    }.items(),
)
def test_a_notice_shorter_than_that_of_the_preset_is_warned_of(said, warnings):
    assert list(resolved(f"{REBOOT}{said}\n").warnings) == warnings


PLANNED = f"{REBOOT}self_service = {{ requests = 'plan.csv' }}\n"


def test_a_plan_of_customers_is_read_beside_the_scenario(tmp_path):
    (tmp_path / "plan.csv").write_text("at,vm,who\n2026-12-09T10:00:00.5+01:00,7,me\n\n2026-12-10T00:00:00Z,a b,you\n")
    (tmp_path / "reboot.toml").write_text(PLANNED)

    plan = load_scenario(tmp_path / "reboot.toml").campaigns[0].self_service.plan

    assert plan.vm.to_pylist() == ["7", "a b"]
    first_ms = int(datetime(2026, 12, 9, 9, 0, 0, 500_000, tzinfo=UTC).timestamp() * 1000)
    assert plan.at_ms_epoch.tolist() == [first_ms, first_ms + 15 * 3_600_000 - 500]
    assert plan.lines == (2, 4)


@pytest.mark.parametrize(
    ("text", "problems"),
    {
        "vm;at\n1;2026-12-09T00:00:00Z\n": [": must be separated by ',', got a header separated by ';'"],
        "VM,when\n": [": needs a column 'vm', got none; rename 'VM' to 'vm'", ": needs a column 'at', got none"],
        "vm,at\n1,2026-12-09\n,2026-12-09T00:00:00Z\n1\n": [
            ":2: at: must be a time with a time zone in whole milliseconds, as 2026-12-09T09:00:00Z, got '2026-12-09'",
            ":3: vm: is needed, got nothing",
            ":4: must have 2 cells, got 1",
        ],
        "vm,at\n1,2026-12-09T00:00:00Z\n1,2026-12-09T01:00:00+01:00\n": [
            ":3: must be no request a second time, got that of line 2"
        ],
    }.items(),
)
def test_what_is_wrong_in_a_plan_is_told_by_line(tmp_path, text, problems):
    (tmp_path / "plan.csv").write_text(text)
    (tmp_path / "reboot.toml").write_text(PLANNED)

    with pytest.raises(InputError) as caught:
        load_scenario(tmp_path / "reboot.toml")

    assert caught.value.problems == [f"{tmp_path / 'plan.csv'}{problem}" for problem in problems]


def test_a_plan_that_is_not_there_is_told_with_what_is(tmp_path):
    (tmp_path / "plans.csv").write_text("vm,at\n")
    (tmp_path / "reboot.toml").write_text(PLANNED)

    with pytest.raises(InputError, match=r"plan.csv: must be a readable CSV file .* did you mean '.*plans.csv'"):
        load_scenario(tmp_path / "reboot.toml")


@pytest.mark.parametrize("key", ["uptake_ratio = 0.5", "by = 'vm'", "timing = 'early'"])
def test_a_plan_says_who_acts_and_when(key):
    with pytest.raises(InputError, match="must not be said with requests, which say who asks and when"):
        load_scenario(PLANNED.replace("'plan.csv'", f"'plan.csv', {key}"))


def test_customers_do_nothing_unless_some_are_said_to_act():
    assert load_scenario(REBOOT).campaigns[0].self_service is None

    keys = "self_service = { uptake_ratio = 0.1, timing = 'early', by = 'vm', recycle = '2h' }"
    (campaign,) = load_scenario(f"{REBOOT}{keys}").campaigns
    assert campaign.self_service == SelfService(
        uptake=Fraction(1, 10),
        by=Decider.VM,
        timing="early",
        plan=None,
        failure=Fraction(0),
        retries=False,
        spare=Fraction(1, 20),
        recycle_ms=7_200_000,
    )
    assert campaign.windows.self_service_ms == 30 * 86_400_000

    text = f"{REBOOT}{keys}".replace("[[campaign]]", "preset = 'azure-2024'\n[[campaign]]", 1)
    (campaign,) = load_scenario(text).campaigns
    assert (campaign.self_service.retries, campaign.windows.self_service_ms) == (True, 35 * 86_400_000)


def test_a_horizon_leaves_room_for_the_windows_of_some_stage():
    text = f"{REBOOT}regions = ['westus', 'westeurope']\n".replace("[[campaign]]", "horizon = '{}'\n\n[[campaign]]", 1)
    with pytest.raises(InputError) as caught:
        resolved(text.format("45d"))
    assert caught.value.problems == [
        "scenario:4: horizon: must not be before the windows of campaign 'hypervisor' in westeurope, westus are over"
        " ('46d'), got '45d'"
    ]
    assert resolved(text.format("46d")).regions == (("westeurope", "westus"),)


def test_customers_act_beside_other_campaigns():
    text = f"{REBOOT}self_service = {{ uptake_ratio = 0.1 }}\n[[campaign]]\nname = 'other'\n"
    first, second = resolved(text).regions
    assert first == second


def test_what_reboots_do_not_know_yet_is_told():
    def over_hosts(text, *, has_inventory=False):
        fleet = FleetFacts(VM_COUNTS, COLUMNS, SIZES, WORKLOADS, hosts={"westus": {}}, has_inventory=has_inventory)
        try:
            resolve(load_scenario(text), RELATION, fleet, nobody_asks)
        except InputError as error:
            return error.problems
        return []

    asks = f"{REBOOT}self_service = {{ uptake_ratio = 0.1 }}"
    other = "\n[[campaign]]\nname = 'other'\nkind = 'freeze'\n"
    assert over_hosts(REBOOT.replace("'reboot'", "'redeploy'")) == []
    assert over_hosts(asks) == [
        "scenario:7: campaign.hypervisor.self_service: needs to know what room the hosts of the fleet have, got no"
        " inventory of them; give one with --hosts (`fleetsim schema hosts`)"
    ]
    assert over_hosts(asks, has_inventory=True) == []
    assert over_hosts(f"{asks}{other}", has_inventory=True) == [
        "scenario:7: campaign.hypervisor.self_service: moves VMs to other hosts, so in this version no other campaign"
        " may be in its regions, got 'other' in westus; give each `regions` of its own, or a run"
    ]
    assert over_hosts(REBOOT.replace("'reboot'", "'redeploy'") + other) == [
        "scenario:6: campaign.hypervisor.kind: moves VMs to other hosts, so in this version no other campaign may be in"
        " its regions, got 'other' in westus; give each `regions` of its own, or a run"
    ]


def test_zones_take_turns_where_there_are_some():
    assert unresolvable(f"{REBOOT}one_zone_at_a_time = true") == [
        "scenario:7: campaign.hypervisor.one_zone_at_a_time: needs a fleet with a column 'zone', got none"
    ]
    text = f"{REBOOT}one_zone_at_a_time = true"
    assert resolved(text, columns={**COLUMNS, "zone": pa.string()}).scenario.campaigns[0].one_zone_at_a_time
    # What a preset says of zones is for fleets that have some.
    later = REBOOT.replace("[[campaign]]", "preset = 'azure-2024'\n[[campaign]]", 1)
    assert resolved(later).scenario.campaigns[0].one_zone_at_a_time


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

    assert problem.startswith(f"scenario:6: campaign.hypervisor.kind: {KINDS_RULE}, got 'fr\\neeze\\x1bxxx")
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

    assert unresolvable(text) == [
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
        "tolerance_ms": {},
        "cannot_migrate_sizes": ["Standard_M64s", "Standard_NC6s_v3"],
        "outputs": {"events": True, "outcomes": True, "profile": "fast"},
        "campaign": [
            {
                "name": "hypervisor",
                "kind": "freeze",
                "regions": ["northeurope", "westeurope", "westus"],
                "waves": [["northeurope", "westeurope", "westus"]],
                "bake_ms": 0,
                "where": {},
                "start_ms": 0,
                "work_ms": 0,
                "update_domain_gap_ms": 0,
                "update_domain_order": "random",
                "walk_by": "update_domain",
                "sets_in_step": False,
                "cannot_freeze": "unaffected",
                "cannot_freeze_sizes": ["Standard_M64s", "Standard_NC6s_v3"],
                "spread_ms": 43_200_000,
                "pair_order": ["westus"],
                "pair_lag_ms": 0,
                "pair_exclusion": "all",
                "caps": [],
                "host_order": "auto",
                "length": {
                    "given": '{ p50 = "6s", p99 = "9s" }',
                    "length_ms_min": 1,
                    "length_ms_max": 11_473,
                    "table_sha256": over_fleet.scenario.campaigns[0].length.table_sha256,
                    "by_family": [],
                },
            }
        ],
    }


ALL_KEYS = """\
name = "all"
start = 2026-12-01T00:00:00Z
horizon = "180d"
tolerance = { web = "5s" }
quorum = { by = "set", min_up = 0.5 }
[[campaign]]
name = "hypervisor"
waves = [["westeurope"], ["*"]]
bake = "1d"
where = { workload = "web", created = [2026-12-01T01:00:00+01:00, 2026-12-02T00:00:00.5Z] }
length = { p50 = "6s", p99 = "9s", by_family = { M = "12s", Dsv5 = { min = "1s", max = "2s" } } }
"""


def select_some(campaign, regions):
    """All but northeurope, and more than was asked for."""
    assert (campaign.name, regions) == ("hypervisor", ("northeurope", "westeurope", "westus"))
    return {"westus": 3, "westeurope": 2, "northeurope": 0, "eastus": 7}


def test_resolved_toml_says_the_later_keys_too():
    over_fleet = resolved(ALL_KEYS, select=select_some)
    keys = tomllib.loads(over_fleet.to_toml({}))
    (campaign,) = keys["campaign"]

    assert (keys["horizon_ms"], keys["tolerance_ms"]) == (180 * 86_400_000, {"web": 5000})
    assert keys["quorum"] == {"by": "set", "min_up": 0.5}
    assert (campaign["regions"], campaign["waves"]) == (["westeurope", "westus"], [["westeurope"], ["westus"]])
    assert campaign["bake_ms"] == 86_400_000
    assert campaign["where"] == {
        "workload": ["web"],
        "created": [datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 12, 2, microsecond=500_000, tzinfo=UTC)],
    }
    assert campaign["length"]["given"] == '{ p50 = "6s", p99 = "9s" }'
    assert [(each["family"], each["sizes"], each["given"]) for each in campaign["length"]["by_family"]] == [
        ("M", ["Standard_M64s"], "12s"),
        ("Dsv5", ["Standard_D2s_v5"], '{ min = "1s", max = "2s" }'),
    ]
    assert {key: campaign["length"]["by_family"][1][key] for key in ("length_ms_min", "length_ms_max")} == {
        "length_ms_min": 1000,
        "length_ms_max": 2000,
    }
    assert over_fleet.vm_counts == ({"westeurope": 2, "westus": 3},)
    assert over_fleet.cannot_freeze_sizes == ("Standard_M64s", "Standard_NC6s_v3")
    assert over_fleet.family_sizes == ((("Standard_M64s",), ("Standard_D2s_v5",)),)


# ---- Waves, selection and what else the fleet must have ----------------------------------------------------

WAVE = "campaign.hypervisor.waves"
WAVES = {
    # waves, regions or none -> regions by wave
    ('[["westus"], ["*"]]', None): [["westus"], ["northeurope", "westeurope"]],
    ('[["*", "westus"], ["Europe"]]', None): None,  # Europe is in `*` already
    ('[["Europe"], ["westus"]]', None): [["northeurope", "westeurope"], ["westus"]],
    ('[["westeurope"], ["northeurope"]]', None): [["westeurope"], ["northeurope"]],
    ('[["northeurope"], ["*"]]', '["Europe"]'): [["northeurope"], ["westeurope"]],
    ('[["westus", "*"]]', '["*"]'): [["northeurope", "westeurope", "westus"]],
    ('[["westeurope"], ["Europe", "westus"]]', '["*"]'): None,
}


@pytest.mark.parametrize(("waves", "regions"), WAVES)
def test_waves_are_expanded_in_turn(waves, regions):
    text = f"{MINIMAL}waves = {waves}\n" + (f"regions = {regions}\n" if regions else "")
    expected = WAVES[waves, regions]
    if expected is None:
        assert all("must not name a region again" in problem for problem in unresolvable(text))
        return

    over_fleet = resolved(text)

    assert [[list(wave) for wave in waves] for waves in over_fleet.waves] == [expected]
    assert over_fleet.regions == (tuple(sorted(region for wave in expected for region in wave)),)
    assert over_fleet.warnings == ()


@pytest.mark.parametrize(
    ("lines", "words"),
    {
        'waves = [["westeurope"], ["Europe"]]': [
            f"6: {WAVE}[1][0]: must not name a region again, got 'Europe'; wave 1 has 'westeurope' already"
        ],
        'waves = [["westus", "westus"]]': [
            f"6: {WAVE}[0][1]: must not name a region again, got 'westus'; wave 1 has 'westus' already"
        ],
        'waves = [["*"], ["westus"]]': [
            f"6: {WAVE}[1][0]: must not name a region again, got 'westus'; wave 1 has 'westus' already"
        ],
        'waves = [["westuss"], ["Mars"]]\nregions = ["Europe"]': [
            f"6: {WAVE}[0][0]: must be a region, a geography or '*', got 'westuss'; did you mean 'westus'?",
            f"6: {WAVE}[1][0]: must be a region, a geography or '*', got 'Mars'",
        ],
        'waves = [["Europe", "United States"]]\nregions = ["Europe", "westus"]': [
            f"6: {WAVE}[0][1]: must lie within the campaign's regions, got 'United States'; 'eastus' is outside"
        ],
        'waves = [["northeurope"]]\nregions = ["*"]': [
            f"6: {WAVE}: must have every region of the campaign, got none with 'westeurope', 'westus'"
        ],
    }.items(),
)
def test_waves_that_do_not_add_up_are_refused(lines, words):
    assert unresolvable(MINIMAL + lines) == [f"scenario:{word}" for word in words]


def test_a_wave_without_vms_stays_and_is_a_warning():
    text = MINIMAL + 'waves = [["eastus"], ["westus", "eastus2"], ["Europe"], ["*"]]\nbake = "1d"\n'

    over_fleet = resolved(text.replace(', "eastus2"', ""))

    assert over_fleet.waves == (((), ("westus",), ("northeurope", "westeurope"), ()),)
    nobody = "no VM of the fleet is in that wave, so it is over when it is released"
    assert over_fleet.warnings == (f"scenario:6: {WAVE}[0]: {nobody}", f"scenario:6: {WAVE}[3]: {nobody}")
    assert resolved(MINIMAL + 'waves = [["westus", "eastus"]]').warnings == (
        f"scenario:6: {WAVE}[0][1]: no VM of the fleet is in 'eastus'",
    )


def test_a_wave_whose_vms_are_not_selected_is_a_warning():
    text = MINIMAL + 'waves = [["westus"], ["Europe"]]\nwhere = { workload = "web" }\n'

    over_fleet = resolved(text, select=lambda campaign, regions: {"westeurope": 1})
    without = resolved(text, select=lambda campaign, regions: {})

    assert over_fleet.waves == (((), ("westeurope",)),)
    assert over_fleet.vm_counts == ({"westeurope": 1},)
    assert [warning.partition(": no VM")[0] for warning in over_fleet.warnings] == [f"scenario:6: {WAVE}[0]"]
    assert (without.regions, without.waves) == (((),), (((), ()),))
    assert without.warnings == (
        "scenario:7: campaign.hypervisor.where: no VM of its regions matches, so nothing happens",
    )


def test_a_cut_scale_set_is_looked_for_by_its_groups():
    text = MINIMAL + 'where = { set = "workers" }\n'

    over_fleet = resolved(text, columns=COLUMNS | {"set": pa.string()}, select=lambda campaign, regions: {})

    assert over_fleet.warnings == (
        "scenario:6: campaign.hypervisor.where: no VM of its regions matches, so nothing happens;"
        " scale sets of over 100 VMs are in groups, as 'S/pg-0'",
    )


VALUES = {
    'workload = "nobody"': None,
    "vm = 3": None,
    "vm = 9223372036854775807": None,
    "vcpus = [2, 0.5]": None,
    "dynamic_ip = false": None,
    "created = 1990-01-01T00:00:00Z": None,
    'application = ["a", "b"]': None,
    "update_domain = 255": None,
    'vm = "3"': "vm: must be an integer from -9223372036854775808 to 9223372036854775807, as that column is, got '3'",
    "update_domain = [1, 256]": "update_domain: must be an integer from 0 to 255, as that column is, got 256",
    "update_domain = 1.0": "update_domain: must be an integer from 0 to 255, as that column is, got 1.0",
    "update_domain = true": "update_domain: must be an integer from 0 to 255, as that column is, got true",
    "vcpus = true": "vcpus: must be a number, as that column is, got true",
    "workload = 3": "workload: must be a text, as that column is, got 3",
    "application = 2026-12-01T00:00:00Z": "application: must be a text, as that column is, got 2026-12-01T00:00:00Z",
    "dynamic_ip = 1": "dynamic_ip: must be true or false, as that column is, got 1",
    'created = "2026-12-01"': "created: must be a time with a time zone, as that column is, got '2026-12-01'",
    'tags = "a"': "tags: must be a column of texts, numbers, instants, or true and false,"
    " got one of list<item: string>",
    "local = 2026-12-01T00:00:00Z": "local: must be a column of texts, numbers, instants, or true and false,"
    " got one of timestamp[ms]",
    'workloads = "web"': "workloads: must be a column of the fleet, got 'workloads'; did you mean 'workload'?",
    "hue = 1": "hue: must be a column of the fleet, got 'hue'",
}


@pytest.mark.parametrize(("selection", "words"), VALUES.items(), ids=VALUES)
def test_a_selection_is_of_columns_and_values_they_can_have(selection, words):
    text = f"{MINIMAL}where = {{ {selection} }}"
    if words is None:
        assert resolved(text, select=lambda campaign, regions: {"westus": 1}).vm_counts == ({"westus": 1},)
    else:
        # Nobody is asked for VMs with a value their column cannot have.
        assert unresolvable(text) == [f"scenario:6: campaign.hypervisor.where.{words}"]


def test_all_that_the_fleet_lacks_is_told_at_once():
    text = f"""\
tolerance = {{ weeb = "5s", web = "5s", streaming = "5s" }}
quorum = {{ by = "application", min_up = 2 }}
{MINIMAL}
regions = ["westuss"]
where = {{ workload = 3, hue = "red" }}
length = {{ min = "1s", max = "2s", by_family = {{ Ms = "5s", Dsv5 = "5s", Lsv2 = "5s" }} }}
"""
    columns = {"vm": pa.int64(), "workload": pa.string()}

    assert [problem.removeprefix("scenario:") for problem in unresolvable(text, columns=columns)] == [
        "1: tolerance.weeb: must be a workload of the fleet, got 'weeb'; did you mean 'web'?",
        "1: tolerance.streaming: must be a workload of the fleet, got 'streaming'",
        "2: quorum.by: needs a fleet with a column 'application', got none",
        "10: campaign.hypervisor.where.workload: must be a text, as that column is, got 3",
        "10: campaign.hypervisor.where.hue: must be a column of the fleet, got 'hue'",
        "11: campaign.hypervisor.length.by_family.Ms: must be a family of sizes, got 'Ms'; did you mean 'M'?",
        "9: campaign.hypervisor.regions[0]: must be a region, a geography or '*', got 'westuss';"
        " did you mean 'westus'?",
    ]
    assert unresolvable(f'tolerance = {{ web = "5s" }}\n{MINIMAL}', columns={"vm": pa.int64()}) == [
        "scenario:1: tolerance: needs a fleet with a column 'workload', got none"
    ]


def test_what_has_no_effect_over_a_fleet_is_a_warning():
    text = f"""\
quorum = {{ by = "application", min_up = 2 }}
outputs.events = false
{MINIMAL}
length = {{ min = "1s", max = "2s", by_family = {{ M = "5s", Lsv2 = "5s" }} }}
"""
    over_fleet = resolved(text)

    assert over_fleet.warnings == (
        "scenario:1: quorum: by application it is counted from events, which are not kept",
        "scenario:9: campaign.hypervisor.length.by_family.Lsv2: no VM of the fleet is of that family",
    )
    assert over_fleet.family_sizes == ((("Standard_M64s",), ()),)


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


@pytest.mark.parametrize("text", [TWO, ALL_KEYS], ids=["two", "all keys"])
def test_digest_can_be_recomputed_from_the_file(text):
    over_fleet = resolved(text, select=select_some)
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
        "horizon=10d",
        "tolerance.web=5s",
        "quorum={ by = 'set', min_up = 1 }",
        "outputs.profile=interchange",
        "campaign.firmware.kind=no_impact",
        'campaign.firmware.waves=[["westus"], ["*"]]',
        "campaign.firmware.walk_by=fault_domain",
        "campaign.firmware.sets_in_step=true",
        "campaign.firmware.pair_exclusion=reboots",
        "campaign.hypervisor.length.by_family.M=9s",
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
    whole = resolved(ALL_KEYS, select=select_some).to_toml({})
    other = resolved(
        ALL_KEYS,
        [
            "horizon=20d",
            "tolerance={ batch = '1s' }",
            "quorum.min_up=2",
            "campaign.hypervisor.bake=12h",
            "campaign.hypervisor.where={ workload = 'batch' }",
            "campaign.hypervisor.length.by_family={ M = '10s' }",
        ],
        select=select_some,
    ).to_toml({})
    assert difference(whole, other) == [
        "horizon: was '180d', is '20d'",
        "tolerance.web: was '5s', is nothing",
        "tolerance.batch: was nothing, is '1s'",
        "quorum.min_up: was 0.5, is 2",
        "campaign.hypervisor.bake: was '1d', is '12h'",
        'campaign.hypervisor.where.workload: was ["web"], is ["batch"]',
        "campaign.hypervisor.where.created: was [2026-12-01T00:00:00Z, 2026-12-02T00:00:00.500000Z], is nothing",
        "campaign.hypervisor.length.by_family.M: was '12s', is '10s'",
        'campaign.hypervisor.length.by_family.Dsv5: was \'{ min = "1s", max = "2s" }\', is nothing',
    ]
    assert difference(whole, resolved(ALL_KEYS.replace('horizon = "180d"', ""), select=select_some).to_toml({})) == [
        "horizon: was '180d', is nothing"
    ]
    assert difference(before.replace("length_ms_max = 11473", "length_ms_max = 11474"), before) == [
        "campaign.hypervisor.length.length_ms_max: was 11474, is 11473"
    ]


# ---- The JSON Schema ---------------------------------------------------------------------------------------


def as_json(value):
    """A TOML document as JSON has it: instants are text."""
    return json.loads(json.dumps(value, default=datetime.isoformat))


def schema_problems(document):
    checker = jsonschema.Draft202012Validator(json_schema())
    return [error.json_path for error in checker.iter_errors(as_json(document))]


def test_the_schema_is_one_and_needs_what_no_preset_says():
    schema = json_schema()

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["name", "start", "campaign"]
    assert schema["$defs"]["Campaign"]["required"] == ["name"]
    assert schema["$defs"]["Campaign"]["properties"]["kind"]["enum"] == ["no_impact", "freeze", "reboot", "redeploy"]
    assert schema["$defs"]["Campaign"]["properties"]["spread"]["default"] == "0s"
    assert '"reboot" in azure-2024' in schema["$defs"]["Campaign"]["properties"]["cannot_freeze"]["description"]
    assert '"fault_domain" in azure-2024' in schema["$defs"]["Campaign"]["properties"]["walk_by"]["description"]
    for table in (schema, *schema["$defs"].values()):
        for key, value in table["properties"].items():
            assert "$ref" in value or value["description"], key


@pytest.mark.parametrize("text", [MINIMAL, ALL_KEYS, TWO, *map(preset_toml, presets())])
def test_a_scenario_that_loads_fits_the_schema(text):
    load_scenario(text)

    assert schema_problems(tomllib.loads(text)) == []


NOT_IN_THE_SCHEMA = (  # what no schema can tell: keys and lengths that disagree, and spans out of bounds
    "bake = '1d'",
    "notice = '1d'",
    "reboot_length = '25min'",
    "reboot_length = '0s'",
    "reboot_length = { min = '2s', max = '1s' }",
    "iterations_max = 3",
    "one_zone_at_a_time = true",
    "reschedule_delay = '1d'",
    "self_service = {}",
    "self_service = { length = '1d' }",
    "self_service = { timing = { quantiles = [[0.5, '2d'], [1.0, '1d']] } }",
    "scheduled = { gap = '1d', length = '0s' }",
    "pair_lag = '3650.1d'",
    "start = '0.0005s'",
    "length = '49.001d'",
    "length = '0s'",
    "length = { p50 = '9s', p99 = '6s' }",
    "length = { p50 = '1s', p99 = '48d' }",
    "length = { p50 = '6s', p99 = '9s', floor = '12s' }",
    "length = { min = '9s', max = '6s' }",
    "length = { min = '0s', max = '6s' }",
    "length = { min = '1s', max = '6s', floor = '3s', ceiling = '2s' }",
    "length = { quantiles = [[0.5, '6s'], [0.5, '7s']] }",
    "length = { quantiles = [[0.5, '6s'], [0.6, '5s']] }",
    "length = { min = '1s', max = '1s', by_family = { M = '0s' } }",
    "length = { min = '1s', max = '1s', by_family = { M = { p50 = '2s', p99 = '1s' } } }",
    "caps = [{ per = 'zone', vms_ratio = 0.0123456789 }]",
    "caps = [{ per = 'zone', vms_count = 3 }, { per = 'zone', vms_ratio = 0.1 }]",
    # instants are text to it, and NaN is a number
    "start = 2026-12-01T00:00:00Z",
    "where = { vcpus = nan }",
    "where = { created = 2026-12-01T00:00:00 }",
    "where = { created = 2026-12-01 }",
    "where = { created = 2026-12-01T00:00:00.0005Z }",
    "length = { quantiles = [[nan, '6s']] }",
)


@pytest.mark.parametrize("line", [line for line in BAD_CAMPAIGN_LINES if line not in NOT_IN_THE_SCHEMA])
def test_a_broken_key_breaks_the_schema(line):
    assert schema_problems(tomllib.loads(MINIMAL + line))


@pytest.mark.parametrize(
    ("line", "path"),
    {
        "horizon = 3": "$.horizon",
        "seed = -1": "$.seed",
        "preset = 'azure-2071'": "$.preset",
        "tolerance = { web = 5 }": "$.tolerance.web",
        "quorum = { by = 'host', min_up = 1 }": "$.quorum.by",
        "quorum = { by = 'set', min_up = 0 }": "$.quorum.min_up",
        "quorum = { by = 'set', min_up = 1.5 }": "$.quorum.min_up",
        "quorum = { by = 'set' }": "$.quorum",
        "outputs = { profile = 'slow' }": "$.outputs.profile",
        "outputs = { events = 1 }": "$.outputs.events",
        "campaign = []": "$.campaign",
        "campaign = {}": "$.campaign",
        "campaigns = []": "$",
    }.items(),
)
def test_a_broken_key_at_the_top_is_found_by_the_schema(line, path):
    assert schema_problems(tomllib.loads(ALL_KEYS) | tomllib.loads(line)) == [path]


def test_the_published_schema_is_what_the_code_declares():
    published = Path(__file__).parent.parent / "docs" / "scenario.schema.json"

    assert published.read_text("utf-8") == reference.scenario_schema()
    assert json.loads(published.read_text("utf-8")) == json_schema()
