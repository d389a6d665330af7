"""Scenarios: TOML in, a frozen `Scenario` out, presets filled in and length profiles compiled.

Every problem of a file is reported at once, at its line and under the key as the user wrote it. A fleet comes
in only with `resolve`, which says what a campaign reaches of it; what happens to VMs is decided elsewhere.
"""

import copy
import hashlib
import itertools
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeGuard

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails

from fleetsim.errors import InputError, nearest, nearest_path
from fleetsim.kinds import KINDS
from fleetsim.plans import Plan, read_plan
from fleetsim.policies import COUNTS, Policy, registered
from fleetsim.profiles import Profile, constant, lognormal, lognormal_longest_ms, piecewise, uniform
from fleetsim.regions import Relation
from fleetsim.schema import LENGTH_MS_MAX, SPAN_MS_MAX, CapScope, Decider, DomainOrder, HostOrder, Kind, Walk, words
from fleetsim.sizes import families, family_of, migrates_live, preserves_memory

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic_core import core_schema

DEFAULT_PRESET = "azure-2017"
PAIR_ORDERS = ("fewest_vms_first", "most_vms_first", "name")
PAIR_EXCLUSIONS = ("all", "reboots")
"""Which work in one region keeps work out of its paired regions."""
CANNOT_FREEZE = ("unaffected", "reboot")
"""What can happen to VMs whose size cannot be frozen."""
TIMINGS = ("uniform", "early", "last_minute", "working_hours")
"""When customers ask: anywhere in their window, mostly at its beginning or end, or from 9 to 17 on working days."""
QUORUM_GROUPS = ("application", "set")
OUTPUT_PROFILES = ("fast", "interchange")
MAJORITY = "majority"
EVERYWHERE = "*"
"""The selector of all regions with VMs, and in waves of those not named yet."""
SEED_MAX = 2**63 - 1
ITERATIONS_MAX = 2**8 - 1

_GUIDE: dict[str, Any] = {
    "kind": "freeze",
    "regions": [EVERYWHERE],
    "bake": "0s",
    "start": "0s",
    "length": "30s",
    "work": "0s",
    "update_domain_gap": "0s",
    "update_domain_order": "random",
    "walk_by": "update_domain",
    "sets_in_step": False,
    "spread": "0s",
    "pair_order": "fewest_vms_first",
    "pair_lag": "0s",
    "pair_exclusion": "all",
    "cannot_freeze": "unaffected",
    "caps": [],
    "host_order": "auto",
}
"""What azure-2017 says of a campaign."""
_GUIDE_OF_REBOOTS: dict[str, Any] = {
    "length": "25min",
    "update_domain_gap": "30min",
    "notice": "30d",
    "self_service": {
        "length": "30d",
        "uptake_ratio": 0.0,
        "by": "subscription",
        "timing": "uniform",
        "failure_ratio": 0.0,
        "retries": False,
        "spare_ratio": 0.05,
        "recycle": "1h",
    },
    "scheduled": {"gap": "2d", "length": "14d", "failure_ratio": 0.0, "retry_timeout": "2h"},
    "iterations_max": 3,
    "reschedule_delay": "14d",
    "one_zone_at_a_time": False,
}
"""What presets say otherwise, or besides, of a kind that needs a reboot: notices go out 30 days ahead, and windows were
announced with a gap of two days and 14 days for the platform (Azure, "Handling planned maintenance notifications", 2017
to 2020); a reboot takes about 25 min, and 30 min between domains let applications recover (the same). How often whoever
was not updated is scheduled anew, and how soon, is not published; nor is how long one that fails is tried again: two
hours are what a job of the platform may be held up for each update domain (Service Fabric, durability Gold)."""
_REBOOTS: dict[str, dict[str, Any]] = {
    DEFAULT_PRESET: _GUIDE_OF_REBOOTS,
    "azure-2024": {
        **_GUIDE_OF_REBOOTS,
        "self_service": {**_GUIDE_OF_REBOOTS["self_service"], "length": "35d", "retries": True},
        "one_zone_at_a_time": True,
    },
    "emergency-2018": {
        **_GUIDE_OF_REBOOTS,
        "notice": "0s",
        "self_service": {**_GUIDE_OF_REBOOTS["self_service"], "length": "40h"},
        "scheduled": {**_GUIDE_OF_REBOOTS["scheduled"], "gap": "0s"},
    },
}
"""The same by preset. Since 2020 customers have typically 35 days, and may try again after a failure; a maintenance
that needs a reboot goes on in one zone of a region at a time (Azure, "Maintenance for virtual machines"). In January
2018 their window, open since the 2nd, was ended on the 3rd, after some 40 hours, and the platform began at once, by
update domain as ever (A. Finn, aidanfinn.com, January 2018)."""
_OF_REBOOTS = ("notice", "self_service", "scheduled", "iterations_max", "reschedule_delay", "one_zone_at_a_time")
"""Keys that only kinds with windows have."""
_ROWS = {"vm_row", "host_row"}
_NOT_WITH_HOSTS = {
    "update_domain_order": "in the order of host_order",
    "sets_in_step": "updated one by one",
}
"""Keys about walks, which sets whose hosts are updated do not make, and what is so instead."""
_LATER_PRACTICE: dict[str, Any] = {
    "length": {"p50": "6s", "p99": "9s", "ceiling": "30s"},
    "walk_by": "fault_domain",
    "pair_exclusion": "reboots",
    "cannot_freeze": "reboot",
    "reboot_length": _GUIDE_OF_REBOOTS["length"],
}
"""Where azure-2024 differs: pauses are mostly below 10 s, domains that are walked are fault domains, updates
without a reboot may overlap in paired regions, and sizes that cannot keep their memory are rebooted (Azure,
"Maintenance for virtual machines", 2020-2024). How long those are down is said of planned reboots only, about 25 min:
taken to be the same."""
_PRESETS: dict[str, dict[str, Any]] = {
    name: {
        "preset": name,
        "seed": 0,
        "outputs": {"events": True, "outcomes": True, "profile": "fast"},
        "campaign": [campaign],
    }
    for name, campaign in (
        (DEFAULT_PRESET, _GUIDE),
        ("azure-2024", {**_GUIDE, **_LATER_PRACTICE}),
        ("emergency-2018", _GUIDE),
    )
}
_PRESET_DOCS = {
    DEFAULT_PRESET: "in-place migration as in the guide of 2017: everybody is paused for 30 s",
    "azure-2024": "as documented since 2020: short pauses, one fault domain at a time, pairs exclude reboots only",
    "emergency-2018": "as azure-2017, but the window for customers is cut short, and the platform begins at once",
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START_YEAR_MAX = 2999
_START_EXAMPLE = "2026-12-01T00:00:00Z"
_CAMPAIGN_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SPAN = re.compile(r"(-?[0-9]{1,30}(?:\.[0-9]{1,30})?)(ms|s|min|h|d)")
_NOT_NEGATIVE_SPAN = f"^{_SPAN.pattern.replace('-?', '')}$"
_UNIT_MS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_OTHER_UNITS = {
    **dict.fromkeys(("msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}
_COUNT_MAX = 2**32 - 1
_RATIO_STEPS = 10**9  # of a ratio: times any number of VMs, it is far within 63 bits
_HOST_ORDERS = [word for word in words(HostOrder) if word not in ("column", "policy")]
_CAP_LIMITS = ("vms_ratio", "vms_count", "hosts_ratio", "hosts_count")
_CAP_EXAMPLE = '[{ per = "cluster", vms_ratio = 0.05 }]'
_SPAN_RULE = "must be a number and a unit (ms, s, min, h, d)"

_OTHER_INPUTS = {
    "fleet_digest": "fleet: another one (digest was '{was:.8}...', is '{now:.8}...')",
    "pairs_digest": "pairs: another list (digest was '{was:.8}...', is '{now:.8}...')",
    "hosts_digest": "hosts: another inventory (digest was '{was:.8}...', is '{now:.8}...')",
    "fleetsim_version": "fleetsim: another version (was '{was}', is '{now}')",
    "schema_version": "schema: another version (was '{was}', is '{now}')",
}
"""What a difference of provenance says."""

_Path = tuple[str | int, ...]
"""Keys and positions from the top of a scenario to a value."""


# ---- What a scenario is ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quorum:
    """How many VMs of a set or an application must be up: more than half, a count, or a ratio of those that live."""

    by: str
    min_up: int | Fraction | Literal["majority"]

    @property
    def min_up_given(self) -> int | float | str:
        """`min_up` as TOML spells it: a ratio is a float, also where it is 1.0."""
        return float(self.min_up) if isinstance(self.min_up, Fraction) else self.min_up


@dataclass(frozen=True)
class Cap:
    """How much of a region, zone or cluster may be worked on at once: a count, or a ratio of all that is there."""

    scope: CapScope
    of: Literal["vms", "hosts"]
    most: int | Fraction

    @property
    def given(self) -> dict[str, Any]:
        """The cap as TOML spells it."""
        is_ratio = isinstance(self.most, Fraction)
        key = f"{self.of}_{'ratio' if is_ratio else 'count'}"
        return {"per": self.scope.name.lower(), key: float(self.most) if is_ratio else self.most}


@dataclass(frozen=True)
class Windows:
    """Spans of a campaign that needs a reboot: its notice, the window for customers, a gap, the platform's window.

    `notice_ms` is the least between the notice and the opening of the scheduled window; the self-service window ends
    `gap_ms` before that. Whoever was not updated has windows again, announced `reschedule_delay_ms` after the end of
    these, up to `iterations_max` times in all.
    """

    notice_ms: int
    self_service_ms: int
    gap_ms: int
    scheduled_ms: int
    iterations_max: int
    reschedule_delay_ms: int

    @property
    def lead_ms(self) -> int:
        """From the notice to the opening of the scheduled window."""
        return max(self.notice_ms, self.self_service_ms + self.gap_ms)


@dataclass(frozen=True)
class Tries:
    """How the platform fares in its window, where some tries fail: no try begins later after its unit's start."""

    failure: Fraction  # share of the tries
    retry_timeout_ms: int


@dataclass(frozen=True)
class SelfService:
    """What customers do in their window (semantics.md 29-32). Ratios are shares from 0 to 1.

    uptake      share of the deciders who act
    timing      when they ask: one of TIMINGS, or a profile of spans after the window's opening
    plan        who asks, and when, instead of all that; nobody asks again but by it
    failure     share of executed attempts that fail
    retries     whether a customer whose attempt has failed asks again, rather than being out of the iteration
    spare       slots on hosts that are updated already, as a share of the VMs of a cluster, or of those in none
    recycle_ms  from the end of a move until the slot that the VM left can be used
    """

    uptake: Fraction
    by: Decider
    timing: "str | Profile"
    plan: Plan | None
    failure: Fraction
    retries: bool
    spare: Fraction
    recycle_ms: int


@dataclass(frozen=True)
class Campaign:
    """One maintenance over a fleet. Selectors are as given; `start_ms` is after the scenario's.

    `regions` is empty where `waves` alone say the scope, `waves` where all regions are released at once. `where`
    has a fleet column and the values it may have; VMs must match all columns. `family_lengths` goes before
    `length` for sizes of a family.
    """

    place: int
    name: str
    kind: Kind
    regions: tuple[str, ...]
    waves: tuple[tuple[str, ...], ...]
    bake_ms: int
    where: tuple[tuple[str, tuple[object, ...]], ...]
    start_ms: int
    length: Profile
    family_lengths: tuple[tuple[str, Profile], ...]
    work_ms: int
    update_domain_gap_ms: int
    update_domain_order: DomainOrder
    walk_by: Walk
    sets_in_step: bool
    spread_ms: int
    pair_order: str | tuple[str, ...]
    pair_lag_ms: int
    pair_exclusion: str
    cannot_freeze: str
    reboot_length: Profile | None  # of those that cannot be frozen, where they are rebooted
    caps: tuple[Cap, ...]
    host_order: HostOrder
    host_column: str | None  # of the fleet, by which hosts are ordered
    host_policy: Policy | None
    one_zone_at_a_time: bool  # where the fleet has zones
    windows: Windows | None  # of kinds that need a reboot
    self_service: SelfService | None  # where a customer acts in the first of them
    tries: Tries | None  # where some of the platform's fail in the last of them

    @property
    def host_order_given(self) -> str:
        """`host_order` as a scenario spells it."""
        word = self.host_order.name.lower()
        if self.host_policy is not None:
            return f"{word}:{self.host_policy.name}"
        return f"{word}:{self.host_column}" if self.host_order == HostOrder.COLUMN else word


@dataclass(frozen=True)
class Scenario:
    """Everything a run needs besides the fleet. `text` is the TOML as given, before `overrides`.

    `tolerance_ms` has the longest pause of a workload; `horizon_ms` is after the scenario's start.
    """

    name: str
    start_ms_epoch: int
    horizon_ms: int | None
    seed: int
    preset: str
    campaigns: tuple[Campaign, ...]
    tolerance_ms: tuple[tuple[str, int], ...]
    quorum: Quorum | None
    has_events: bool
    has_outcomes: bool
    output_profile: str
    text: str
    overrides: tuple[str, ...]
    _places: "_Places" = field(repr=False, compare=False)


@dataclass(frozen=True)
class FleetFacts:
    """What `resolve` asks of a fleet: VMs by region, size and workload (none where it has no such column)."""

    vm_counts: Mapping[str, int]
    columns: "Mapping[str, pa.DataType]"
    sizes: Mapping[str, int] = field(default_factory=dict)
    workloads: Mapping[str, int] = field(default_factory=dict)
    hosts: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Regions with hosts, and by `zone` and `cluster`, where some of them have none, how many and the first."""
    has_inventory: bool = False
    """Whether it is known what room hosts have."""


@dataclass(frozen=True)
class Resolved:
    """A scenario over a fleet: tuples with one member a campaign, in the order of the file, but for sizes and warnings.

    `regions` are those with selected VMs, sorted; `waves` the same regions as they are released, in one wave where
    none were asked for; `vm_counts` the selected VMs by region; `family_sizes` the sizes of the fleet in each family
    of `family_lengths`. The other two tuples of sizes are those of the fleet that cannot be frozen, or moved running.
    """

    scenario: Scenario
    regions: tuple[tuple[str, ...], ...]
    waves: tuple[tuple[tuple[str, ...], ...], ...]
    vm_counts: tuple[Mapping[str, int], ...]
    cannot_freeze_sizes: tuple[str, ...]
    cannot_migrate_sizes: tuple[str, ...]
    family_sizes: tuple[tuple[tuple[str, ...], ...], ...]
    warnings: tuple[str, ...]

    @cached_property
    def scenario_digest(self) -> str:
        """sha256 of `to_toml` but provenance, as JSON: keys sorted, no spaces, UTF-8, ISO instants."""
        canonical = json.dumps(
            self._keys(),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            default=datetime.isoformat,
        )
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_toml(self, provenance: Mapping[str, Any]) -> str:
        """The text of `resolved.toml`: what was asked, in full, and *provenance* with the digest added."""
        keys = self._keys()
        head = {"name": keys.pop("name")}
        start = keys.pop("start").isoformat().replace("+00:00", "Z")
        # tomli_w writes an instant as `2026-12-01 00:00:00+00:00`: TOML, but not as scenarios are written.
        rest = tomli_w.dumps({**keys, "provenance": {**provenance, "scenario_digest": self.scenario_digest}})
        return f"{tomli_w.dumps(head)}start = {start}\n{rest}"

    def _keys(self) -> dict[str, Any]:
        scenario = self.scenario
        quorum = scenario.quorum
        return {
            "name": scenario.name,
            "start": _EPOCH + timedelta(milliseconds=scenario.start_ms_epoch),
            **({} if scenario.horizon_ms is None else {"horizon_ms": scenario.horizon_ms}),
            "seed": scenario.seed,
            "preset": scenario.preset,
            "tolerance_ms": dict(scenario.tolerance_ms),
            "cannot_migrate_sizes": list(self.cannot_migrate_sizes),
            **({} if quorum is None else {"quorum": {"by": quorum.by, "min_up": quorum.min_up_given}}),
            "outputs": {
                "events": scenario.has_events,
                "outcomes": scenario.has_outcomes,
                "profile": scenario.output_profile,
            },
            "campaign": [self._campaign_keys(campaign) for campaign in scenario.campaigns],
        }

    def _campaign_keys(self, campaign: Campaign) -> dict[str, Any]:
        place, pair_order = campaign.place, campaign.pair_order
        by_family = zip(campaign.family_lengths, self.family_sizes[place], strict=True)
        return {
            "name": campaign.name,
            "kind": campaign.kind.name.lower(),
            "regions": list(self.regions[place]),
            "waves": [list(wave) for wave in self.waves[place]],
            "bake_ms": campaign.bake_ms,
            "where": {column: list(values) for column, values in campaign.where},
            "start_ms": campaign.start_ms,
            "work_ms": campaign.work_ms,
            "update_domain_gap_ms": campaign.update_domain_gap_ms,
            "update_domain_order": campaign.update_domain_order.name.lower(),
            "walk_by": campaign.walk_by.name.lower(),
            "sets_in_step": campaign.sets_in_step,
            "cannot_freeze": campaign.cannot_freeze,
            "cannot_freeze_sizes": list(self.cannot_freeze_sizes),
            **({} if campaign.reboot_length is None else {"reboot_length": _profile_keys(campaign.reboot_length)}),
            "spread_ms": campaign.spread_ms,
            "pair_order": pair_order if isinstance(pair_order, str) else list(pair_order),
            "pair_lag_ms": campaign.pair_lag_ms,
            "pair_exclusion": campaign.pair_exclusion,
            "caps": [cap.given for cap in campaign.caps],
            "host_order": campaign.host_order_given,
            **({} if campaign.host_policy is None else {"host_policy_sha256": campaign.host_policy.sha256}),
            **({} if campaign.windows is None else _window_keys(campaign)),
            "length": {
                **_profile_keys(campaign.length),
                "by_family": [
                    {"family": family, "sizes": list(sizes), **_profile_keys(profile)}
                    for (family, profile), sizes in by_family
                ],
            },
        }


def _window_keys(campaign: Campaign) -> dict[str, Any]:
    windows, asked, tries = campaign.windows, campaign.self_service, campaign.tries
    assert windows is not None
    customers: dict[str, Any] = {"uptake_ratio": 0.0}
    if asked is not None:
        who: dict[str, Any] = {
            "uptake_ratio": float(asked.uptake),
            "by": asked.by.name.lower(),
            "timing": asked.timing if isinstance(asked.timing, str) else _profile_keys(asked.timing),
        }
        if asked.plan is not None:
            who = {"requests": {"count": len(asked.plan.vm), "sha256": asked.plan.sha256}, "uptake_ratio": 0.0}
        customers = {
            **who,
            "failure_ratio": float(asked.failure),
            "retries": asked.retries,
            "spare_ratio": float(asked.spare),
            "recycle_ms": asked.recycle_ms,
        }
    return {
        "notice_ms": windows.notice_ms,
        "self_service": {"length_ms": windows.self_service_ms, **customers},
        "scheduled": {
            "gap_ms": windows.gap_ms,
            "length_ms": windows.scheduled_ms,
            **(
                {}
                if tries is None
                else {"failure_ratio": float(tries.failure), "retry_timeout_ms": tries.retry_timeout_ms}
            ),
        },
        "iterations_max": windows.iterations_max,
        "reschedule_delay_ms": windows.reschedule_delay_ms,
        "one_zone_at_a_time": campaign.one_zone_at_a_time,
    }


def _profile_keys(profile: Profile) -> dict[str, Any]:
    return {
        "given": profile.given,
        "length_ms_min": profile.length_ms_min,
        "length_ms_max": profile.length_ms_max,
        "table_sha256": profile.table_sha256,
    }


def presets() -> dict[str, dict[str, Any]]:
    """The presets by name, each a scenario of one unnamed campaign: what holds where nothing is said."""
    return copy.deepcopy(_PRESETS)


def preset_toml(name: str) -> str:
    """The preset *name* in full, as a scenario that runs: its names and its start are for the user to change."""
    try:
        (campaign,) = _PRESETS[name]["campaign"]
    except KeyError:
        raise InputError(f"preset: {_choice(tuple(_PRESETS), name)}") from None
    rest = tomli_w.dumps({**_PRESETS[name], "campaign": [{"name": "maintenance", **campaign}]})
    of_reboots = "".join(
        f"\n#   {key}{f'.{inner}' if inner else ''} = {_inline(value)}"
        for key, said in _REBOOTS[name].items()
        for inner, value in (said.items() if isinstance(said, dict) else [("", said)])
    )
    head = f"# {name}: {_PRESET_DOCS[name]}\n# a reboot has instead, and besides:{of_reboots}\n"
    return f'{head}name = "{name}"\nstart = {_START_EXAMPLE}\n{rest}'


def load_scenario(source: str | Path | Mapping[str, Any], overrides: str | Sequence[str] = ()) -> Scenario:
    """The scenario in *source*: a file, TOML text (known by a newline or a '='), or TOML already read.

    *overrides* are `KEY=VALUE`, with keys such as `seed` or `campaign.NAME.length`, and go before what
    *source* says; a text is one of them. Raises `InputError` with every problem found.
    """
    if isinstance(overrides, str):
        overrides = (overrides,)
    document, text, file = _read(source)
    places = _Places(file, text, document)
    problems = _apply_overrides(document, overrides, places)
    filled = _with_preset(document)
    try:
        keys = _ScenarioKeys.model_validate(filled)
    except ValidationError as error:
        problems += [_worded(problem, filled, places) for problem in error.errors(include_url=False)]
    else:
        problems += _disagreements(keys, places)
    problems += _repeated_names(document, places)
    plans: dict[int, Plan] = {}
    if not problems:
        plans, problems = _plans(keys, folder=Path(file).parent)
    if problems:
        raise InputError(problems)
    return Scenario(
        name=keys.name,
        start_ms_epoch=keys.start,
        horizon_ms=keys.horizon,
        seed=keys.seed,
        preset=keys.preset,
        campaigns=tuple(
            Campaign(
                place=place,
                name=campaign.name,
                kind=campaign.kind,
                regions=campaign.regions,
                waves=campaign.waves,
                bake_ms=campaign.bake,
                where=tuple(campaign.where.items()),
                start_ms=campaign.start,
                length=campaign.length.profile,
                family_lengths=campaign.length.by_family,
                work_ms=campaign.work,
                update_domain_gap_ms=campaign.update_domain_gap,
                update_domain_order=campaign.update_domain_order,
                walk_by=campaign.walk_by,
                sets_in_step=campaign.sets_in_step,
                spread_ms=campaign.spread,
                pair_order=campaign.pair_order,
                pair_lag_ms=campaign.pair_lag,
                pair_exclusion=campaign.pair_exclusion,
                cannot_freeze=campaign.cannot_freeze,
                reboot_length=campaign.reboot_length,
                caps=campaign.caps,
                host_order=campaign.host_order[0],
                host_column=campaign.host_order[1],
                host_policy=campaign.host_order[2],
                one_zone_at_a_time=bool(campaign.one_zone_at_a_time),
                windows=_windows(campaign),
                self_service=_self_service(campaign.self_service, plans.get(place)),
                tries=_tries(campaign.scheduled),
            )
            for place, campaign in enumerate(keys.campaign)
        ),
        tolerance_ms=tuple(keys.tolerance.items()),
        quorum=Quorum(keys.quorum.by, keys.quorum.min_up) if keys.quorum else None,
        has_events=keys.outputs.events,
        has_outcomes=keys.outputs.outcomes,
        output_profile=keys.outputs.profile,
        text=tomli_w.dumps(_plain(source)) if isinstance(source, Mapping) else text,
        overrides=tuple(overrides),
        _places=places,
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of scenarios, for editors and checkers; an instant is a string there.

    What a preset says need not be said. A schema cannot tell all: names of the fleet, spans that are too long,
    and keys that disagree are found by `load_scenario` and `resolve` only.
    """
    schema = _ScenarioKeys.model_json_schema(schema_generator=_InputSchema)
    tops = {
        name: {"seed": preset["seed"], "preset": DEFAULT_PRESET, "outputs": preset["outputs"]}
        for name, preset in _PRESETS.items()
    }
    _say_defaults(schema, tops)
    _say_defaults(schema["$defs"]["Output"], {name: preset["outputs"] for name, preset in _PRESETS.items()})
    for key, table in (("self_service", "SelfService"), ("scheduled", "Scheduled")):
        _say_defaults(schema["$defs"][table], {name: keys[key] for name, keys in _REBOOTS.items()})
    _say_defaults(schema["$defs"]["Campaign"], {name: preset["campaign"][0] for name, preset in _PRESETS.items()})
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def _say_defaults(table: dict[str, Any], filled: Mapping[str, Mapping[str, Any]]) -> None:
    """Let the schema of a *table* say what presets fill in, by their names: those keys are not needed."""
    for key, default in filled[DEFAULT_PRESET].items():
        values = {name: keys[key] for name, keys in filled.items()}
        if all(value == default for value in values.values()):
            table["properties"][key]["default"] = default
        else:
            choices = ", ".join(f"{_inline(value)} in {name}" for name, value in values.items())
            table["properties"][key]["description"] += f" ({choices})"
    table["required"] = [key for key in table["required"] if key not in filled[DEFAULT_PRESET]]


Select = Callable[[Campaign, tuple[str, ...]], Mapping[str, int]]
"""VMs by region that `where` of a campaign selects in the given regions."""


def resolve(scenario: Scenario, relation: Relation, fleet: FleetFacts, select: Select) -> Resolved:
    """*scenario* over *fleet*: selectors become regions with VMs, families the sizes of the fleet in them.

    *select* is asked for campaigns with `where` only, once all names are known to be right. Raises `InputError`
    with every name the fleet or the relation does not know; what has no effect over this fleet is a warning.
    """
    word = scenario._places.word
    sizes_of: dict[str | None, tuple[str, ...]] = {}
    for size in sorted(fleet.sizes):
        family = family_of(size)
        sizes_of[family] = (*sizes_of.get(family, ()), size)
    scopes = [_Scope(campaign, relation, fleet, word) for campaign in scenario.campaigns]
    problems = [*_unknown_to_fleet(scenario, fleet, sizes_of), *(line for scope in scopes for line in scope.problems)]
    regions = [scope.regions for scope in scopes]
    problems += _beyond_the_horizon(scenario, regions)
    for campaign, scope in zip(scenario.campaigns, scopes, strict=True):
        problems += _unlike_hosts(scenario._places, campaign, scope.regions, fleet)
    problems += _beside_moves(scenario, regions, fleet)
    if problems:
        raise InputError(problems)

    warnings = []
    if scenario.quorum is not None and scenario.quorum.by == "application" and not scenario.has_events:
        warnings.append(f"{word(('quorum',))}: by application it is counted from events, which are not kept")
    vm_counts, waves = [], []
    for campaign, scope in zip(scenario.campaigns, scopes, strict=True):
        here = ("campaign", campaign.place)
        warnings += scope.warnings
        selected = select(campaign, scope.regions) if campaign.where and scope.regions else fleet.vm_counts
        counts = {region: selected[region] for region in scope.regions if selected.get(region)}
        if scenario._places.says((*here, "host_order")) and all(
            fleet.hosts.get(region) is None for region in scope.regions
        ):
            warnings.append(f"{word((*here, 'host_order'))}: no VM of its regions is on a host, so it says nothing")
        released = tuple(tuple(region for region in wave if region in counts) for wave in scope.waves)
        if scope.regions and not counts:
            cut = "; scale sets of over 100 VMs are in groups, as 'S/pg-0'" if "set" in dict(campaign.where) else ""
            warnings.append(f"{word((*here, 'where'))}: no VM of its regions matches, so nothing happens{cut}")
        elif counts:
            warnings += [
                f"{word((*here, 'waves', i))}: no VM of the fleet is in that wave, so it is over when it is released"
                for i, wave in enumerate(released)
                if not wave
            ]
        if (
            scenario._places.says((*here, "self_service", "spare_ratio"))
            and counts
            and all(fleet.hosts.get(region) is not None for region in counts)
        ):
            warnings.append(
                f"{word((*here, 'self_service', 'spare_ratio'))}: says nothing where VMs are on hosts: the inventory"
                " tells what room there is"
            )
        usual_ms = span_ms(_REBOOTS[scenario.preset]["notice"])
        if campaign.windows is not None and campaign.windows.lead_ms < usual_ms:
            warnings.append(
                f"{word((*here, 'notice'))}: is less than the {span_text(usual_ms)} that {scenario.preset} announces"
                f" a reboot ahead, got '{span_text(campaign.windows.lead_ms)}'"
            )
        warnings += [
            f"{word((*here, 'length', 'by_family', family))}: no VM of the fleet is of that family"
            for family, _ in campaign.family_lengths
            if family not in sizes_of
        ]
        vm_counts.append(counts)
        waves.append(released)
    return Resolved(
        scenario=scenario,
        regions=tuple(tuple(counts) for counts in vm_counts),
        waves=tuple(waves),
        vm_counts=tuple(vm_counts),
        cannot_freeze_sizes=tuple(size for size in sorted(fleet.sizes) if not preserves_memory(size)),
        cannot_migrate_sizes=tuple(size for size in sorted(fleet.sizes) if not migrates_live(size)),
        family_sizes=tuple(
            tuple(sizes_of.get(family, ()) for family, _ in campaign.family_lengths) for campaign in scenario.campaigns
        ),
        warnings=tuple(warnings),
    )


def _beyond_the_horizon(scenario: Scenario, regions: Sequence[Sequence[str]]) -> Iterator[str]:
    """Campaigns whose windows could not be over by the horizon in any of their *regions*, whatever else is going on."""
    for campaign in scenario.campaigns:
        if campaign.windows is None or scenario.horizon_ms is None or not regions[campaign.place]:
            continue
        over_ms = campaign.start_ms + campaign.windows.lead_ms + campaign.windows.scheduled_ms
        if over_ms > scenario.horizon_ms:
            first, count = ", ".join(sorted(regions[campaign.place])[:3]), len(regions[campaign.place]) - 3
            more = f" and {count} more" if count > 0 else ""
            whose = f"the windows of campaign '{campaign.name}' in {first}{more}"
            yield (
                f"{scenario._places.word(('horizon',))}: must not be before {whose} are over"
                f" ('{span_text(over_ms)}'), got '{span_text(scenario.horizon_ms)}'"
            )


def _unknown_to_fleet(scenario: Scenario, fleet: FleetFacts, fleet_families: Iterable[str | None]) -> list[str]:
    """Problems with columns, workloads and families of sizes that *scenario* names."""
    word = scenario._places.word
    problems = []
    if scenario.tolerance_ms and "workload" not in fleet.columns:
        problems.append(f"{word(('tolerance',))}: needs a fleet with a column 'workload', got none")
    else:
        problems += [
            f"{word(('tolerance', workload))}: must be a workload of the fleet, got '{workload}'"
            f"{nearest(workload, fleet.workloads)}"
            for workload, _ in scenario.tolerance_ms
            if workload not in fleet.workloads
        ]
    if scenario.quorum is not None and scenario.quorum.by == "application" and "application" not in fleet.columns:
        problems.append(f"{word(('quorum', 'by'))}: needs a fleet with a column 'application', got none")
    known_families = sorted({*families(), *filter(None, fleet_families)})
    for campaign in scenario.campaigns:
        here = ("campaign", campaign.place)
        if campaign.sets_in_step and "cluster" not in fleet.columns:
            problems.append(f"{word((*here, 'sets_in_step'))}: needs a fleet with a column 'cluster', got none")
        asks_for_zones = scenario._places.says((*here, "one_zone_at_a_time")) and campaign.one_zone_at_a_time
        if asks_for_zones and "zone" not in fleet.columns:
            problems.append(f"{word((*here, 'one_zone_at_a_time'))}: needs a fleet with a column 'zone', got none")
        for i, cap in enumerate(campaign.caps):
            needed = [name for name in (cap.scope.name.lower(), *["host"] * (cap.of == "hosts")) if name != "region"]
            problems += [
                f"{word((*here, 'caps', i))}: needs a fleet with a column '{column}', got none"
                for column in needed
                if column not in fleet.columns
            ]
        # Not by rows: these are of how the fleet was prepared.
        if campaign.host_column is not None and campaign.host_column not in fleet.columns.keys() - _ROWS:
            near = nearest(campaign.host_column, fleet.columns.keys() - _ROWS)
            told = f"must be by a column of the fleet, got '{campaign.host_column}'{near}"
            problems.append(f"{word((*here, 'host_order'))}: {told}")
        if campaign.host_policy is not None:
            where = word((*here, "host_order"))
            problems += [f"{where}: {fault}" for fault in _unlike_policy(campaign.host_policy, fleet)]
        for column, values in campaign.where:
            if (dtype := fleet.columns.get(column)) is None:
                faults = [f"must be a column of the fleet, got '{column}'{nearest(column, fleet.columns)}"]
            else:
                faults = list(_unlike(dtype, values))
            problems += [f"{word((*here, 'where', column))}: {fault}" for fault in faults]
        problems += [
            f"{word((*here, 'length', 'by_family', family))}: must be a family of sizes, got '{family}'"
            f"{nearest(family, known_families)}"
            for family, _ in campaign.family_lengths
            if family not in known_families
        ]
    return problems


def _unlike_policy(policy: Policy, fleet: FleetFacts) -> Iterator[str]:
    """What *policy* asks for and cannot be told of *fleet*."""
    from pyarrow import types

    asked = policy.columns()
    for parameter in policy.parameters:
        column, _ = asked.get(parameter, (parameter, ""))
        dtype = fleet.columns.get(column) if parameter in asked else None
        if parameter in COUNTS or (dtype is not None and (types.is_integer(dtype) or types.is_floating(dtype))):
            continue
        told = f"{', '.join(COUNTS)}, or COLUMN_sum or COLUMN_max of a column of numbers"
        yield f"policy '{policy.name}' may ask for {told}, got '{parameter}'"


def _unlike_hosts(places: "_Places", campaign: Campaign, regions: Sequence[str], fleet: FleetFacts) -> Iterator[str]:
    """What *campaign* says that goes with hosts only, or with sets only, and does not with those of *regions*."""
    here = ("campaign", campaign.place)
    hosts = {region: fleet.hosts.get(region) for region in regions}
    if campaign.tries is not None and campaign.family_lengths and any(facts is not None for facts in hosts.values()):
        at = places.word((*here, "scheduled", "failure_ratio"))
        yield f"{at}: must be 0 in this version where families on one host have lengths of their own"
    if (
        campaign.self_service is not None
        and not fleet.has_inventory
        and any(facts is not None for facts in hosts.values())
    ):
        yield (
            f"{places.word((*here, 'self_service'))}: needs to know what room the hosts of the fleet have, got no"
            " inventory of them; give one with --hosts (`fleetsim schema hosts`)"
        )
    if any(facts is not None for facts in hosts.values()):
        for key, how in _NOT_WITH_HOSTS.items():
            if places.says((*here, key)):
                yield f"{places.word((*here, key))}: must not be said where hosts are updated, which are {how}"
    for i, cap in enumerate(campaign.caps):
        where, column = places.word((*here, "caps", i)), cap.scope.name.lower()
        for region, facts in hosts.items():
            if facts is None:
                if cap.of == "hosts" and "host" in fleet.columns:
                    yield f"{where}: counts hosts, but the VMs of region '{region}' have none"
            elif column in fleet.columns and (without := facts.get(column)) is not None:
                yield (
                    f"{where}: needs a {column} for each host, got {without['host_count']:,} hosts without in region"
                    f" '{region}', the first of them '{without['first']}'"
                )


def _beside_moves(scenario: Scenario, regions: Sequence[Sequence[str]], fleet: FleetFacts) -> Iterator[str]:
    """Campaigns that share regions with one that moves VMs from host to host: they would meet them elsewhere."""
    told: set[frozenset[int]] = set()
    for campaign in scenario.campaigns:
        key = "kind" if campaign.kind == Kind.REDEPLOY else "self_service"
        if key == "self_service" and campaign.self_service is None:
            continue
        own = {region for region in regions[campaign.place] if fleet.hosts.get(region) is not None}
        for other in scenario.campaigns:
            both = frozenset([campaign.place, other.place])
            if len(both) == 2 and both not in told and (shared := own & set(regions[other.place])):
                told.add(both)
                yield (
                    f"{scenario._places.word(('campaign', campaign.place, key))}: moves VMs to other hosts, so in this"
                    f" version no other campaign may be in its regions, got '{other.name}' in {min(shared)}; give each"
                    " `regions` of its own, or a run"
                )


def _unlike(dtype: "pa.DataType", values: Sequence[object]) -> Iterator[str]:
    """What is wrong with *values* for a column of *dtype*, where they cannot be equal to any value of it."""
    from pyarrow import types

    if types.is_dictionary(dtype):
        dtype = dtype.value_type
    wanted: tuple[type, ...]
    low, high = -math.inf, math.inf
    if types.is_string(dtype) or types.is_large_string(dtype) or types.is_string_view(dtype):
        rule, wanted = "a text", (str,)
    elif types.is_boolean(dtype):
        rule, wanted = "true or false", (bool,)
    elif types.is_integer(dtype):
        bits = dtype.bit_width - types.is_signed_integer(dtype)
        low, high = -(2**bits) if types.is_signed_integer(dtype) else 0, 2**bits - 1
        rule, wanted = f"an integer from {low} to {high}", (int,)
    elif types.is_floating(dtype):
        low, high = -(2**53), 2**53  # of whole numbers: beyond, a column of floats has only some
        rule, wanted = "a number", (int, float)
    elif types.is_timestamp(dtype) and dtype.tz is not None:
        rule, wanted = "a time with a time zone", (datetime,)
    else:
        yield f"must be a column of texts, numbers, instants, or true and false, got one of {dtype}"
        return
    for value in values:
        is_like = isinstance(value, wanted) and isinstance(value, bool) == (bool in wanted)
        if not is_like or (isinstance(value, int) and not low <= value <= high):
            yield f"must be {rule}, as that column is, got {_shown(value)}"


class _Scope:
    """The regions a campaign reaches: with VMs of the fleet, sorted, and by wave. What is wrong is collected."""

    def __init__(self, campaign: Campaign, relation: Relation, fleet: FleetFacts, word: Callable[[_Path], str]) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._campaign = campaign
        self._word_of = word
        self._inhabited = {region for region, vm_count in fleet.vm_counts.items() if vm_count}
        self._members: dict[str, set[str]] = {EVERYWHERE: set(self._inhabited)}
        for region in relation.regions:
            if geography := relation.geography[region]:
                self._members.setdefault(geography, set()).add(region)
        self._members |= {region: {region} for region in relation.regions}

        scope = self._named(("regions",), campaign.regions)
        waves = self._waves(scope) if campaign.waves else [scope]
        self.waves = tuple(tuple(sorted(wave & self._inhabited)) for wave in waves)
        self.regions = tuple(sorted(set().union(*self.waves)))
        if not self.regions:
            self.warnings.append(f"{self._word()}: no VM of the fleet is in its regions, so nothing happens")
        for i, region in enumerate(campaign.pair_order if isinstance(campaign.pair_order, tuple) else ()):
            if region not in relation.regions:
                near = nearest(region, relation.regions)
                self.problems.append(f"{self._word('pair_order', i)}: must be a region, got '{region}'{near}")
            elif region not in self._inhabited:
                self.warnings.append(f"{self._word('pair_order', i)}: no VM of the fleet is in '{region}'")

    def _word(self, *path: str | int) -> str:
        return self._word_of(("campaign", self._campaign.place, *path))

    def _named(self, path: _Path, selectors: Sequence[str]) -> set[str]:
        """Regions of *selectors*, with VMs or without; `*` is those with VMs."""
        regions: set[str] = set()
        warnings = []
        for i, selector in enumerate(selectors):
            members = self._members.get(selector)
            if members is None:
                rule = "must be a region, a geography or '*'"
                near = nearest(selector, self._members)
                self.problems.append(f"{self._word(*path, i)}: {rule}, got '{selector}'{near}")
            elif selector != EVERYWHERE and not members & self._inhabited:
                warnings.append(f"{self._word(*path, i)}: no VM of the fleet is in '{selector}'")
            regions |= members or set()
        if path == ("regions",) or regions & self._inhabited:  # of a wave without VMs it is said as a whole
            self.warnings += warnings
        return regions

    def _waves(self, scope: set[str]) -> list[set[str]]:
        """Regions of each wave. `*` is what of the scope, else of the fleet, no wave has named so far."""
        campaign = self._campaign
        is_scope_given = bool(campaign.regions)
        wave_of: dict[str, int] = {}
        problems = len(self.problems)
        for i, selectors in enumerate(campaign.waves):
            self._named(("waves", i), selectors)
            for j, selector in enumerate(selectors):
                if selector == EVERYWHERE:
                    continue
                members = self._members.get(selector, set())
                if repeated := sorted(members & wave_of.keys()):
                    self.problems.append(
                        f"{self._word('waves', i, j)}: must not name a region again, got '{selector}';"
                        f" wave {wave_of[repeated[0]] + 1} has {_several(repeated)} already"
                    )
                elif is_scope_given and EVERYWHERE not in campaign.regions and not members <= scope:
                    self.problems.append(
                        f"{self._word('waves', i, j)}: must lie within the campaign's regions, got '{selector}';"
                        f" {_several(sorted(members - scope))} is outside"
                    )
                wave_of |= dict.fromkeys(members - wave_of.keys(), i)
            if EVERYWHERE in selectors:
                rest = (scope if is_scope_given else self._inhabited) - wave_of.keys()
                wave_of |= dict.fromkeys(rest, i)
        left_out = sorted((scope & self._inhabited) - wave_of.keys())
        if left_out and len(self.problems) == problems:
            self.problems.append(
                f"{self._word('waves')}: must have every region of the campaign, got none with {_several(left_out)}"
            )
        return [{region for region, wave in wave_of.items() if wave == i} for i in range(len(campaign.waves))]


def _several(names: Sequence[str]) -> str:
    """The first of *names* in quotes, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def difference(
    resolved_toml_a: str, resolved_toml_b: str, renamed: Mapping[str, str] | None = None, *, has_draws: bool = True
) -> list[str]:
    """Keys in which two texts of `resolved.toml` differ, as `campaign.NAME.length: was '30s', is '10s'`.

    Campaigns are matched by name; *renamed* tells which one of the second is which of the first (name -> new name).
    Without *has_draws* it does not matter which draws, and how many, there are.
    """
    before, after = (tomllib.loads(text) for text in (resolved_toml_a, resolved_toml_b))
    for key in () if has_draws else _DRAWS:
        for side in (before, after):
            side.get("provenance", {}).pop(key, None)
    old, new = ({campaign["name"]: campaign for campaign in side.pop("campaign")} for side in (before, after))
    old = {(renamed or {}).get(name, name): campaign for name, campaign in old.items()}
    found = list(_differing((), before, after))
    if list(old) != list(new):
        found.append(f"campaign: was {_shown(list(old))}, is {_shown(list(new))}")
    for name in old:
        if name in new:
            found += _differing(("campaign", name), old[name], new[name])
    return found


_DRAWS = ("replica", "replicas", "until")
"""What `resolved.toml` says of draws, which is not of the plan."""


def _differing(path: tuple[str, ...], before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in {**before, **after}:
        was, now = before.get(key), after.get(key)
        place = (*path, key)
        if was == now or key == "scenario_digest":  # the digest of what is compared here
            continue
        if key == "hosts_digest" and None in (was, now):
            yield "hosts: " + ("an inventory is given now" if was is None else "no inventory is given now")
            continue
        if path == ("provenance",) and key in _OTHER_INPUTS:
            yield _OTHER_INPUTS[key].format(was=str(was), now=str(now))
            continue
        if key == "by_family":
            was, now = ({each["family"]: each for each in listed or ()} for listed in (was, now))
        was_given, now_given = (side.get("given", side) if isinstance(side, dict) else side for side in (was, now))
        if isinstance(was, dict) and isinstance(now, dict) and (was_given is was or was_given == now_given):
            yield from _differing(("tolerance",) if place == ("tolerance_ms",) else place, was, now)
        elif (key.endswith("_ms") or path == ("tolerance",)) and {type(was), type(now)} <= {int, type(None)}:
            was_span, now_span = ("nothing" if ms is None else f"'{span_text(ms)}'" for ms in (was, now))
            yield f"{'.'.join(place).removesuffix('_ms')}: was {was_span}, is {now_span}"
        else:
            yield f"{'.'.join(place)}: was {_shown(was_given)}, is {_shown(now_given)}"


# ---- What a file may say: one validator a type, in our words -----------------------------------------------


def _span(value: object, ms_min: int, ms_max: int) -> int:
    """*value* such as `0.5s` in whole ms, exactly."""
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_SPAN_RULE}, got {_shown(value)}{_span_hint(value)}")
    ms = Fraction(match[1]) * _UNIT_MS[match[2]]
    if not ms_min <= ms <= ms_max:
        raise ValueError(f"must be from {span_text(ms_min)} to {span_text(ms_max)}, got {_shown(value)}")
    if ms.denominator != 1:
        raise ValueError(f"must come out as whole milliseconds, got {_shown(value)}")
    return int(ms)


def _span_hint(value: object) -> str:
    """The span somebody meant who wrote `30`, `30 s` or `30sec`."""
    loose = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(value))
    if loose is None:
        return ""
    word = loose[2].lower() or "s"
    unit = word if word in _UNIT_MS else _OTHER_UNITS.get(word)
    return f"; did you mean '{loose[1]}{unit}'?" if unit else ""


def span_text(ms: int) -> str:
    """*ms* in the largest unit that leaves no rest."""
    unit = next((unit for unit, size in reversed(_UNIT_MS.items()) if ms and ms % size == 0), "s")
    return f"{ms // _UNIT_MS[unit]}{unit}"


def span_ms(value: object) -> int:
    """The ms of a span such as `36h`, as scenarios say one; `ValueError` where *value* is none."""
    return _span(value, 0, SPAN_MS_MAX)


def _horizon_ms(value: object) -> int:
    return _span(value, 1, SPAN_MS_MAX)


def _length_ms(value: object) -> int:
    return _span(value, 1, LENGTH_MS_MAX)


def _choice(known: Sequence[str], value: object) -> str:
    """The sentence that *value* is none of *known*."""
    quoted = ", ".join(f"'{word}'" for word in known)
    near = nearest(value, known) if isinstance(value, str) else ""
    return f"must be {'one of ' if len(known) > 1 else ''}{quoted}, got {_shown(value)}{near}"


def _one_of(known: Sequence[str], value: object) -> str:
    if isinstance(value, str) and value in known:
        return value
    raise ValueError(_choice(known, value))


def _preset(value: object) -> str:
    return _one_of(tuple(_PRESETS), value)


def _kind(value: object) -> Kind:
    available = [name for name, kind in KINDS.items() if kind.is_available]
    if isinstance(value, str) and value in KINDS and value not in available:
        raise ValueError(f"{_choice(available, value)}; this version knows that kind but cannot run it")
    return KINDS[_one_of(available, value)].code


def _domain_order(value: object) -> DomainOrder:
    return DomainOrder[_one_of(words(DomainOrder), value).upper()]


def _walk(value: object) -> Walk:
    return Walk[_one_of(words(Walk), value).upper()]


def _pair_exclusion(value: object) -> str:
    return _one_of(PAIR_EXCLUSIONS, value)


def _cannot_freeze(value: object) -> str:
    return _one_of(CANNOT_FREEZE, value)


def _quorum_by(value: object) -> str:
    return _one_of(QUORUM_GROUPS, value)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _COUNT_MAX


def _is_ratio(value: float) -> bool:
    return 0 < value <= 1 and Fraction(str(value)).denominator <= _RATIO_STEPS


def _min_up(value: object) -> int | Fraction | str:
    """A ratio of 0.1 means a tenth, not the nearest binary fraction."""
    if _is_count(value):
        return value
    if isinstance(value, float) and _is_ratio(value):
        return Fraction(str(value))
    if value == MAJORITY:
        return MAJORITY
    near = nearest(value, [MAJORITY]) if isinstance(value, str) else ""
    rule = f"must be '{MAJORITY}', a count from 1, or a ratio above 0.0 and up to 1.0 of at most 9 decimals"
    raise ValueError(f"{rule}, got {_shown(value)}{near}")


def _output_profile(value: object) -> str:
    return _one_of(OUTPUT_PROFILES, value)


def _pair_order(value: object) -> str | tuple[str, ...]:
    if isinstance(value, list) and value and all(isinstance(region, str) for region in value):
        if repeated := sorted({region for region in value if value.count(region) > 1}):
            raise ValueError(f"must name a region once, got {', '.join(map(_shown, repeated))} again")
        return tuple(value)
    if isinstance(value, str) and value in PAIR_ORDERS:
        return value
    raise ValueError(f"{_choice(PAIR_ORDERS, value)}; a list of regions is an order too")


def _regions(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and value and all(isinstance(region, str) for region in value):
        return tuple(value)
    hint = f"; did you mean {_inline([value])}?" if isinstance(value, str) else '; ["*"] is all'
    raise ValueError(f"must be a list of regions, geographies or '*', got {_shown(value)}{hint}")


def _waves(value: object) -> tuple[tuple[str, ...], ...]:
    if isinstance(value, list) and value:
        if all(isinstance(wave, list) and wave and all(isinstance(name, str) for name in wave) for wave in value):
            return tuple(map(tuple, value))
        if all(isinstance(name, str) for name in value):
            hint = f"; did you mean {_inline([[name] for name in value])}?"
            raise ValueError(f"must be a list of lists, one a wave, got {_shown(value)}{hint}")
    example = '[["westeurope"], ["*"]]'
    raise ValueError(f"must be a list of lists of regions, geographies or '*', such as {example}, got {_shown(value)}")


def _table(value: object) -> object:
    if isinstance(value, dict):
        return value
    raise ValueError(f"must be a table, got {_shown(value)}")


def _wanted(value: object) -> tuple[object, ...]:
    """The values a column may have; instants in UTC, so that equal ones are written alike."""
    values = value if isinstance(value, list) else [value]
    for each in values:
        is_instant = isinstance(each, datetime) and each.tzinfo is not None and each.microsecond % 1000 == 0
        if not (isinstance(each, str | int) or (isinstance(each, float) and math.isfinite(each)) or is_instant):
            rule = "must be a text, a number, true or false, or a time with a time zone in whole milliseconds"
            raise ValueError(f"{rule}, or a list of such values, got {_shown(each)}")
    if not values:
        raise ValueError("must be a value or a list of values, got []")
    return tuple(each.astimezone(UTC) if isinstance(each, datetime) else each for each in values)


def _caps(value: object) -> tuple[Cap, ...]:
    if not isinstance(value, list):
        raise ValueError(f"must be a list of tables, such as {_CAP_EXAMPLE}, got {_shown(value)}")
    caps = tuple(map(_cap, value))
    for cap in caps:
        if sum((cap.scope, cap.of) == (other.scope, other.of) for other in caps) > 1:
            raise ValueError(f"must limit the {cap.of} of a {cap.scope.name.lower()} once, got {_shown(value)}")
    return caps


def _cap(value: object) -> Cap:
    if not isinstance(value, dict):
        raise ValueError(f"must be a list of tables, such as {_CAP_EXAMPLE}, got {_shown([value])}")
    for key in value:
        if key not in ("per", *_CAP_LIMITS):
            raise ValueError(f"unknown key '{key}'{nearest(key, ('per', *_CAP_LIMITS))}, got {_shown(value)}")
    said = [key for key in _CAP_LIMITS if key in value]
    if "per" not in value or len(said) != 1:
        raise ValueError(f"must have 'per' and one of {', '.join(map(repr, _CAP_LIMITS))}, got {_shown(value)}")
    try:
        scope = CapScope[_one_of(words(CapScope), value["per"]).upper()]
    except ValueError as error:
        raise ValueError(f"its 'per' {error}") from None
    (key,) = said
    most = value[key]
    if key.endswith("_count"):
        if not _is_count(most):
            raise ValueError(f"its '{key}' must be an integer from 1 to {_COUNT_MAX}, got {_shown(most)}")
    else:
        if not isinstance(most, int | float) or isinstance(most, bool) or not _is_ratio(most):
            raise ValueError(
                f"its '{key}' must be a ratio above 0 and up to 1 of at most 9 decimals, got {_shown(most)}"
            )
        most = Fraction(str(most))
    return Cap(scope, "vms" if key.startswith("vms") else "hosts", most)


def _host_order(value: object) -> tuple[HostOrder, str | None, Policy | None]:
    if isinstance(value, str) and value.startswith("column:") and len(value) > len("column:"):
        return HostOrder.COLUMN, value.removeprefix("column:"), None
    if isinstance(value, str) and value.startswith("policy:"):
        known = registered()
        if (policy := known.get(name := value.removeprefix("policy:"))) is None:
            told = f"; known: {', '.join(known)}" if known else "; register one with fleetsim.policy"
            raise ValueError(f"must name a registered policy, got '{name}'{nearest(name, known) or told}")
        return HostOrder.POLICY, None, policy
    try:
        order = HostOrder[_one_of(_HOST_ORDERS, value).upper()]
    except ValueError as error:
        raise ValueError(f"{error}; or a column, as 'column:vcpus', or a policy") from None
    return order, "rack" if order == HostOrder.RACK else None, None


def _campaign_name(value: object) -> str:
    if isinstance(value, str) and _CAMPAIGN_NAME.fullmatch(value):
        return value
    raise ValueError(f"must be 1 to 100 letters, digits, '-' or '_', got {_shown(value)}")


def _scenario_name(value: object) -> str:
    if isinstance(value, str) and 1 <= len(value) <= 100 and value.isprintable():
        return value
    raise ValueError(f"must be a text of 1 to 100 printable characters, got {_shown(value)}")


def _instant(value: object) -> int:
    if not isinstance(value, datetime) or value.tzinfo is None:
        bare = ", without quotes (in Python: a datetime)," if isinstance(value, str) else ","
        raise ValueError(f"must be a time with a time zone{bare} such as {_START_EXAMPLE}, got {_shown(value)}")
    if value.microsecond % 1000:
        raise ValueError(f"must be in whole milliseconds, got {_shown(value)}")
    ms = (value - _EPOCH) // timedelta(milliseconds=1)
    if ms < 0 or value.year > _START_YEAR_MAX:
        raise ValueError(f"must be in the years 1970 to {_START_YEAR_MAX}, got {_shown(value)}")
    return ms


def _seed(value: object) -> int:
    return _integer(value, 0, SEED_MAX)


def _iterations_max(value: object) -> int:
    return _integer(value, 1, ITERATIONS_MAX)


def _integer(value: object, least: int, most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return value
    raise ValueError(f"must be an integer from {least} to {most}, got {_shown(value)}")


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"must be true or false, got {_shown(value)}")


def _campaign_list(value: object) -> object:
    if not isinstance(value, list):
        raise ValueError(f"must be written [[campaign]], once a campaign, got {_shown(value)}")
    if not value:
        raise ValueError("at least one is needed")
    return value


def _point(value: object) -> tuple[Fraction, int]:
    """A point of a quantile profile; 0.1 means a tenth, not the nearest binary fraction."""
    if not (isinstance(value, list) and len(value) == 2):
        raise ValueError(f'must be a pair of quantile and span, such as [0.5, "6s"], got {_shown(value)}')
    quantile, span = value
    if isinstance(quantile, bool) or not isinstance(quantile, int | float) or not 0 <= quantile <= 1:
        raise ValueError(f"its quantile must be a number from 0 to 1, got {_shown(quantile)}")
    try:
        return Fraction(str(quantile)), _length_ms(span)
    except ValueError as error:
        raise ValueError(f"its span {error}") from None


_Point = Annotated[
    list[object],
    WithJsonSchema(
        {
            "type": "array",
            "prefixItems": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": _NOT_NEGATIVE_SPAN},
            ],
            "items": False,
            "minItems": 2,
        }
    ),
]


def _points(value: object) -> object:
    if isinstance(value, list) and value:
        return value
    raise ValueError(f'must be a list of pairs, such as [[0.5, "6s"], [1.0, "30s"]], got {_shown(value)}')


def _share(value: object) -> Fraction:
    """0.1 means a tenth, not the nearest binary fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"must be a number from 0 to 1, got {_shown(value)}")
    return Fraction(str(value))


def _file_name(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"must be the name of a file, such as 'plan.csv', got {_shown(value)}")


def _decider(value: object) -> Decider:
    return Decider[_one_of(words(Decider), value).upper()]


def _timing(value: object) -> "str | Profile":
    if isinstance(value, dict):
        return _profile(value, _FAMILY_FORMS)[0]
    return _one_of(TIMINGS, value)


def _family_length(value: object) -> Profile:
    return _profile(value, _FAMILY_FORMS)[0]


_SPAN_SCHEMA = WithJsonSchema({"type": "string", "pattern": _NOT_NEGATIVE_SPAN})
_NAMES_SCHEMA: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_SCALAR_SCHEMA = {"type": ["string", "number", "boolean"]}

_RATIO_SCHEMA = WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1})
_COUNT_SCHEMA = WithJsonSchema({"type": "integer", "minimum": 1, "maximum": _COUNT_MAX})
_Share = Annotated[Fraction, PlainValidator(_share), WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})]
_LengthMs = Annotated[int, PlainValidator(_length_ms), _SPAN_SCHEMA]
_SpanMs = Annotated[int, PlainValidator(span_ms), _SPAN_SCHEMA]
_Switch = Annotated[bool, PlainValidator(_switch, json_schema_input_type=bool)]


class _InputSchema(GenerateJsonSchema):
    """What files may say: no null, no titles made of keys, and defaults only where a preset says them."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def default_schema(self, schema: "core_schema.WithDefaultSchema") -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def nullable_schema(self, schema: "core_schema.NullableSchema") -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).removeprefix("_").removesuffix("Keys")


class _Keys(BaseModel):
    """A table of the file: field names are its keys. What has no default is needed, once the preset is in."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        model_title_generator=lambda model: model.__name__.removeprefix("_").removesuffix("Keys"),
    )


class _Form(_Keys):
    """A length profile as a table."""

    floor: Annotated[_LengthMs, Field(description="shortest length, 1 ms unless said")] = 1
    ceiling: Annotated[
        int | None,
        PlainValidator(_length_ms),
        _SPAN_SCHEMA,
        Field(description="longest length; of a lognormal profile its quantile 0.9999 unless said"),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """(key, rule it breaks) where keys disagree."""
        if self.ceiling is not None and self.ceiling < self.floor:
            yield "ceiling", f"must not be below the floor ('{span_text(self.floor)}')"

    def bounds_ms(self) -> tuple[int, int]:
        """Shortest and longest length before they are clipped to floor and ceiling."""
        raise NotImplementedError

    def entries(self) -> Callable[[], Sequence[int]]:
        """What computes the entries of the table, not yet clipped to the profile's bounds."""
        raise NotImplementedError


class _Lognormal(_Form):
    """A lognormal distribution by two of its quantiles."""

    p50: Annotated[_LengthMs, Field(description="the median")]
    p99: Annotated[_LengthMs, Field(description="the quantile 0.99")]

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.p99 < self.p50:
            yield "p99", f"must not be below p50 ('{span_text(self.p50)}')"
        elif self.ceiling is None:
            longest_ms = lognormal_longest_ms(self.p50, self.p99)
            if longest_ms > LENGTH_MS_MAX:
                yield "p99", f"needs a ceiling of at most {span_text(LENGTH_MS_MAX)} beside it"
            elif longest_ms < self.floor:
                yield "floor", f"must not be above the ceiling ('{span_text(longest_ms)}' unless said)"

    def bounds_ms(self) -> tuple[int, int]:
        if self.p50 == self.p99:
            return self.p50, self.p50
        return 1, self.ceiling or lognormal_longest_ms(self.p50, self.p99)

    def entries(self) -> Callable[[], Sequence[int]]:
        return partial(lognormal, self.p50, self.p99)


class _Uniform(_Form):
    """All milliseconds from min to max, equally likely."""

    min: Annotated[_LengthMs, Field(description="shortest length")]
    max: Annotated[_LengthMs, Field(description="longest length")]

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.max < self.min:
            yield "max", f"must not be below min ('{span_text(self.min)}')"

    def bounds_ms(self) -> tuple[int, int]:
        return self.min, self.max

    def entries(self) -> Callable[[], Sequence[int]]:
        return partial(uniform, self.min, self.max)


class _Quantiles(_Form):
    """Any distribution, by points of its quantile function: linear between them, flat outside."""

    quantiles: Annotated[
        tuple[Annotated[tuple[Fraction, int], PlainValidator(_point, json_schema_input_type=_Point)], ...],
        BeforeValidator(_points),
        Field(description="pairs of quantile and span, rising", json_schema_extra={"minItems": 1}),
    ]

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        steps = list(itertools.pairwise(self.quantiles))
        if any(left[0] >= right[0] for left, right in steps):
            yield "quantiles", "must have quantiles that rise from point to point"
        if any(left[1] > right[1] for left, right in steps):
            yield "quantiles", "must have spans that do not fall from point to point"

    def bounds_ms(self) -> tuple[int, int]:
        return self.quantiles[0][1], self.quantiles[-1][1]

    def entries(self) -> Callable[[], Sequence[int]]:
        return partial(piecewise, self.quantiles)


_FamilyLength = Annotated[str, _SPAN_SCHEMA] | _Lognormal | _Uniform | _Quantiles


class _Families(_Keys):
    """What the profile of a campaign has besides: other profiles for families of sizes."""

    by_family: Annotated[
        dict[str, Annotated[Profile, PlainValidator(_family_length, json_schema_input_type=_FamilyLength)]],
        BeforeValidator(_table),
        Field(description="for sizes of a family, such as Dsv3: its own span or profile"),
    ] = {}


class _LognormalOrFamily(_Lognormal, _Families):
    __doc__ = _Lognormal.__doc__


class _UniformOrFamily(_Uniform, _Families):
    __doc__ = _Uniform.__doc__


class _QuantilesOrFamily(_Quantiles, _Families):
    __doc__ = _Quantiles.__doc__


_Length = Annotated[str, _SPAN_SCHEMA] | _LognormalOrFamily | _UniformOrFamily | _QuantilesOrFamily
_Forms = Mapping[tuple[str, ...], type[_Form]]
_FAMILY_FORMS: _Forms = {("p50", "p99"): _Lognormal, ("min", "max"): _Uniform, ("quantiles",): _Quantiles}
_FORMS: _Forms = dict(zip(_FAMILY_FORMS, (_LognormalOrFamily, _UniformOrFamily, _QuantilesOrFamily), strict=True))
_FORM_KEYS = [*(key for keys in _FORMS for key in keys), "floor", "ceiling"]
"""Keys that say a profile, in the order of its one spelling."""
_FORM_RULE = "must be a span such as '30s', or a table of p50 and p99, of min and max, or of quantiles"


def _form(value: Mapping[str, object], forms: _Forms) -> type[_Form] | None:
    """The form of profile whose keys *value* uses, where it is one."""
    used = [form for keys, form in forms.items() if value.keys() & set(keys)]
    return used[0] if len(used) == 1 else None


def _profile(value: object, forms: _Forms) -> tuple[Profile, _Form | None]:
    """The profile *value* says, with its keys where it is a table."""
    if not isinstance(value, dict):
        length_ms = _length_ms(value)
        return Profile(str(value), length_ms, length_ms, partial(constant, length_ms)), None
    form = _form(value, forms)
    if form is None:
        raise ValueError(f"{_FORM_RULE}, got {_shown(value)}")
    keys = form.model_validate(value)
    if broken := list(keys.problems()):
        raise ValidationError.from_exception_data(
            "length",
            [
                {
                    "type": "value_error",
                    "loc": (key,),
                    "input": value[key],
                    "ctx": {"error": ValueError(f"{rule}, got {_shown(value[key])}")},
                }
                for key, rule in broken
            ],
        )
    said = {key: value[key] for key in _FORM_KEYS if key in value}
    if isinstance(keys, _Quantiles):
        said["quantiles"] = [[float(quantile), span] for quantile, span in value["quantiles"]]
    low, high = (min(max(ms, keys.floor), keys.ceiling or LENGTH_MS_MAX) for ms in keys.bounds_ms())
    return Profile(_inline(said), low, high, keys.entries()), keys


class _Lengths(NamedTuple):
    """What `length` says: a profile, and those of families that differ."""

    profile: Profile
    by_family: tuple[tuple[str, Profile], ...] = ()


def _lengths(value: object) -> _Lengths:
    profile, keys = _profile(value, _FORMS)
    return _Lengths(profile, tuple(keys.by_family.items()) if isinstance(keys, _Families) else ())


class _CapKeys(_Keys):
    """A cap; one of the four limits."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [limit]} for limit in _CAP_LIMITS]})

    per: Annotated[
        str,
        WithJsonSchema({"enum": words(CapScope)}),
        Field(description="of what: each region, zone or cluster by itself"),
    ]
    vms_ratio: Annotated[float | None, _RATIO_SCHEMA, Field(description="of all VMs of the fleet there")] = None
    vms_count: Annotated[int | None, _COUNT_SCHEMA, Field(description="VMs")] = None
    hosts_ratio: Annotated[float | None, _RATIO_SCHEMA, Field(description="of all hosts with VMs there")] = None
    hosts_count: Annotated[int | None, _COUNT_SCHEMA, Field(description="hosts")] = None


class _SelfServiceKeys(_Keys):
    """The window in which customers may start the maintenance of their VMs themselves."""

    length: Annotated[_SpanMs, Field(description="how long it is open")]
    uptake_ratio: Annotated[_Share, Field(description="share of those who decide that act")]
    requests: Annotated[
        str | None,
        PlainValidator(_file_name),
        WithJsonSchema({"type": "string", "minLength": 1}),
        Field(description="CSV file of vm and at, beside the scenario: who asks and when, instead of a share of all"),
    ] = None
    by: Annotated[
        Decider,
        PlainValidator(_decider),
        WithJsonSchema({"enum": words(Decider)}),
        Field(description="who decides: a subscription, else a set or single, for all its VMs; each set; each VM"),
    ]
    timing: Annotated[
        str | Profile,
        PlainValidator(_timing),
        WithJsonSchema({"anyOf": [{"enum": list(TIMINGS)}, {"type": "object"}]}),
        Field(description="when: one of these, or a profile of spans after the window's opening"),
    ]
    failure_ratio: Annotated[_Share, Field(description="share of the attempts that fail")]
    retries: Annotated[
        _Switch, Field(description="whether a customer may try again after a failure, rather than be out of it")
    ]
    spare_ratio: Annotated[
        _Share, Field(description="room on updated hosts, as a share of the VMs of each cluster, else region")
    ]
    recycle: Annotated[_SpanMs, Field(description="until the place that a moved VM left can be used")]


class _ScheduledKeys(_Keys):
    """The window in which the platform updates what is left."""

    gap: Annotated[_SpanMs, Field(description="between the self-service window and this one")]
    length: Annotated[
        int,
        PlainValidator(_horizon_ms),
        _SPAN_SCHEMA,
        Field(description="how long it is open: what does not fit into it is overdue"),
    ]
    failure_ratio: Annotated[_Share, Field(description="share of the tries that fail, and are made again at once")]
    retry_timeout: Annotated[
        _SpanMs, Field(description="how long after its start a VM may be tried again: then it has failed")
    ]


class _CampaignKeys(_Keys):
    """One maintenance over the fleet."""

    name: Annotated[
        str,
        PlainValidator(_campaign_name),
        WithJsonSchema({"type": "string", "pattern": f"^{_CAMPAIGN_NAME.pattern}$"}),
        Field(description="unique in the scenario; draws are addressed by it"),
    ]
    kind: Annotated[
        Kind,
        PlainValidator(_kind),
        WithJsonSchema({"enum": [name for name, kind in KINDS.items() if kind.is_available]}),
        Field(description="what is done to a VM"),
    ]
    regions: Annotated[
        tuple[str, ...],
        PlainValidator(_regions),
        WithJsonSchema(_NAMES_SCHEMA),
        Field(description="where: regions, geographies, or '*' for all; where waves are given, those of the waves"),
    ] = ()
    waves: Annotated[
        tuple[tuple[str, ...], ...],
        PlainValidator(_waves),
        WithJsonSchema({"type": "array", "items": _NAMES_SCHEMA, "minItems": 1}),
        Field(description="regions released together, wave after wave; '*' is what no wave has named so far"),
    ] = ()
    bake: Annotated[_SpanMs, Field(description="between the end of a wave and the release of the next")]
    where: Annotated[
        dict[
            str,
            Annotated[
                tuple[object, ...],
                PlainValidator(_wanted),
                WithJsonSchema({"anyOf": [_SCALAR_SCHEMA, {"type": "array", "items": _SCALAR_SCHEMA, "minItems": 1}]}),
            ],
        ],
        BeforeValidator(_table),
        Field(description="selects VMs: for each fleet column a value or several; all columns must match"),
    ] = {}
    start: Annotated[_SpanMs, Field(description="after the scenario's start")]
    length: Annotated[
        _Lengths,
        PlainValidator(_lengths, json_schema_input_type=_Length),
        Field(description="how long a VM is hit: a span, or a profile to draw from"),
    ]
    work: Annotated[_SpanMs, Field(description="how long a unit is held at least")]
    update_domain_gap: Annotated[_SpanMs, Field(description="between two domains of a set")]
    update_domain_order: Annotated[
        DomainOrder,
        PlainValidator(_domain_order),
        WithJsonSchema({"enum": words(DomainOrder)}),
        Field(description="the order in which a set walks its domains"),
    ]
    walk_by: Annotated[
        Walk,
        PlainValidator(_walk),
        WithJsonSchema({"enum": words(Walk)}),
        Field(description="which of its domains a set is walked by"),
    ]
    sets_in_step: Annotated[_Switch, Field(description="whether all sets of a cluster walk together")]
    spread: Annotated[_SpanMs, Field(description="sets and singles start at random within it")]
    pair_order: Annotated[
        str | tuple[str, ...],
        PlainValidator(_pair_order),
        WithJsonSchema({"anyOf": [{"enum": list(PAIR_ORDERS)}, {**_NAMES_SCHEMA, "uniqueItems": True}]}),
        Field(description="which region of a pair goes first; a list of regions goes before all others"),
    ]
    pair_lag: Annotated[_SpanMs, Field(description="between the work in a region and in its paired region")]
    pair_exclusion: Annotated[
        str,
        PlainValidator(_pair_exclusion),
        WithJsonSchema({"enum": list(PAIR_EXCLUSIONS)}),
        Field(description="which work keeps work out of the paired region"),
    ]
    cannot_freeze: Annotated[
        str,
        PlainValidator(_cannot_freeze),
        WithJsonSchema({"enum": list(CANNOT_FREEZE)}),
        Field(description="what happens to VMs whose size cannot keep its memory through an update"),
    ]
    reboot_length: Annotated[
        Profile | None,
        PlainValidator(_family_length, json_schema_input_type=_FamilyLength),
        Field(
            description="where such VMs are rebooted: how long they are down, a span or a profile"
            f" ({_GUIDE_OF_REBOOTS['length']} unless said)"
        ),
    ] = None
    caps: Annotated[
        tuple[Cap, ...],
        PlainValidator(_caps, json_schema_input_type=list[_CapKeys]),
        Field(description="how much may be worked on at once; all of them hold"),
    ]
    host_order: Annotated[
        tuple[HostOrder, str | None, Policy | None],
        PlainValidator(_host_order),
        WithJsonSchema(
            {
                "anyOf": [
                    {"enum": _HOST_ORDERS},
                    {"type": "string", "pattern": "^(column|policy):.+$"},
                ]
            }
        ),
        Field(description="the order in which hosts are tried, where the fleet has hosts"),
    ]
    notice: Annotated[
        int | None,
        PlainValidator(span_ms),
        _SPAN_SCHEMA,
        Field(description="of kinds that need a reboot: before the scheduled window, at least"),
    ] = None
    self_service: Annotated[
        _SelfServiceKeys | None,
        BeforeValidator(_table),
        Field(description="of kinds that need a reboot: the window for customers"),
    ] = None
    scheduled: Annotated[
        _ScheduledKeys | None,
        BeforeValidator(_table),
        Field(description="of kinds that need a reboot: the window of the platform"),
    ] = None
    iterations_max: Annotated[
        int | None,
        PlainValidator(_iterations_max),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": ITERATIONS_MAX}),
        Field(description="of kinds that need a reboot: how often a VM is scheduled, until it is updated"),
    ] = None
    reschedule_delay: Annotated[
        int | None,
        PlainValidator(span_ms),
        _SPAN_SCHEMA,
        Field(description="of kinds that need a reboot: from the end of a scheduled window to the next notice"),
    ] = None
    one_zone_at_a_time: Annotated[
        _Switch | None,
        Field(description="of kinds that need a reboot: whether the zones of a region take turns, by name"),
    ] = None


class _QuorumKeys(_Keys):
    """How many VMs must be up at once."""

    by: Annotated[
        str,
        PlainValidator(_quorum_by),
        WithJsonSchema({"enum": list(QUORUM_GROUPS)}),
        Field(description="of what: applications (a fleet column) or sets"),
    ]
    min_up: Annotated[
        int | Fraction | Literal["majority"],
        PlainValidator(_min_up),
        WithJsonSchema(
            {
                "anyOf": [
                    {"const": MAJORITY},
                    {"type": "integer", "minimum": 1, "maximum": _COUNT_MAX},
                    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                ]
            }
        ),
        Field(description="more than half, a count, or a ratio of those that live (1 is one VM, 1.0 is all)"),
    ]


class _OutputKeys(_Keys):
    """What a run writes."""

    events: Annotated[_Switch, Field(description="one row an impact")]
    outcomes: Annotated[_Switch, Field(description="one row a VM and campaign")]
    profile: Annotated[
        str,
        PlainValidator(_output_profile),
        WithJsonSchema({"enum": list(OUTPUT_PROFILES)}),
        Field(description="encodings: those written fastest, or those that old readers know"),
    ]


class _ScenarioKeys(_Keys):
    """A scenario of fleetsim: everything a run needs besides the fleet."""

    name: Annotated[
        str,
        PlainValidator(_scenario_name),
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 100}),
        Field(description="what the scenario is called"),
    ]
    start: Annotated[
        int,
        PlainValidator(_instant),
        WithJsonSchema({"type": "string", "format": "date-time"}),
        Field(description="instant 0 of the simulation, with a time zone"),
    ]
    horizon: Annotated[
        int | None,
        PlainValidator(_horizon_ms),
        _SPAN_SCHEMA,
        Field(description="after start: a stage that would end later does not begin, and its VMs are overdue"),
    ] = None
    seed: Annotated[
        int,
        PlainValidator(_seed),
        WithJsonSchema({"type": "integer", "minimum": 0, "maximum": SEED_MAX}),
        Field(description="of all draws"),
    ]
    preset: Annotated[
        str,
        PlainValidator(_preset),
        WithJsonSchema({"enum": list(_PRESETS)}),
        Field(description="what holds where nothing is said"),
    ]
    tolerance: Annotated[
        dict[str, _SpanMs],
        BeforeValidator(_table),
        Field(description="longest pause a workload stands; the fleet column pause_max_ms goes first"),
    ] = {}
    quorum: Annotated[_QuorumKeys | None, BeforeValidator(_table)] = None
    outputs: _OutputKeys
    campaign: Annotated[
        tuple[_CampaignKeys, ...],
        BeforeValidator(_campaign_list),
        Field(description="the maintenances, in order: [[campaign]] once each", json_schema_extra={"minItems": 1}),
    ]


_HOMES: dict[type[_Keys], str] = {
    _ScenarioKeys: "at the top, before the first table",
    _CampaignKeys: "under [[campaign]]",
    _QuorumKeys: "under [quorum]",
    _SelfServiceKeys: "under self_service of [[campaign]]",
    _ScheduledKeys: "under scheduled of [[campaign]]",
    _OutputKeys: "under [outputs]",
}


# ---- Reading and wording -----------------------------------------------------------------------------------


def _read(source: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str, str]:
    """(document, its text, its name in messages); the text of a mapping is empty."""
    if isinstance(source, Mapping):
        return {key: _plain(value) for key, value in source.items()}, "", "scenario"
    text, file = (source, "scenario") if _is_text(source) else (_file_text(Path(source)), str(source))
    assert isinstance(text, str)
    try:
        return tomllib.loads(text), text, file
    except (ValueError, RecursionError) as error:
        at = re.search(r" \(at line ([0-9]+), column ([0-9]+)\)$", str(error))
        reason = str(error)[: at.start() if at else None]
        line, column = (f":{at[1]}", f" (column {at[2]})") if at else ("", "")
        hint = "; text must be in quotes" if reason == "Invalid value" else ""
        raise InputError(f"{file}{line}: must be TOML, got: {reason[:1].lower()}{reason[1:]}{column}{hint}") from None


def _is_text(source: str | Path) -> bool:
    """Whether *source* is TOML itself; a path may hold a '=' too, if there is such a file."""
    if isinstance(source, Path) or not ("\n" in source or "=" in source):
        return False
    try:
        return "\n" in source or not Path(source).exists()
    except OSError:  # too long to be a path
        return True


def _file_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = nearest_path(path) if isinstance(error, FileNotFoundError) else ""
        raise InputError(f"{path}: must be a readable file, got: {reason}{hint}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text, got other bytes at {error.start}") from None


def _plain(value: Any) -> Any:
    """A copy of *value* in the types `tomllib` uses."""
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    return [_plain(member) for member in value] if isinstance(value, list | tuple) else value


def _apply_overrides(document: dict[str, Any], overrides: Sequence[str], places: "_Places") -> list[str]:
    """Put each `KEY=VALUE` into *document*; returns the problems of those that have no place there."""
    problems = []
    for override in overrides:
        key, equals, value = (part.strip() for part in override.partition("="))
        where, *parts = f"--override {key}", *key.split(".")
        table: Any = document
        path: list[str | int] = []
        if not equals or not all(parts):
            problems.append(f"--override: must be KEY=VALUE, such as campaign.NAME.length=10s, got '{override}'")
            continue
        if parts[0] == "campaign":
            names = _campaign_names(document)
            if len(parts) < 3:
                problems.append(f"{where}: must name a campaign and a key of it, such as campaign.NAME.length")
                continue
            if parts[1] not in names:
                known = [name for name in names if name is not None]
                problems.append(f"{where}: must name a campaign, got '{parts[1]}'{nearest(parts[1], known)}")
                continue
            path = ["campaign", names.index(parts[1])]
            table = document["campaign"][path[1]]
            parts = parts[2:]
        for part in parts[:-1]:
            table = table.setdefault(part, {})
            path.append(part)
            if not isinstance(table, dict):
                problems.append(f"{where}: {'.'.join(parts[:-1])} must be a table, got {_shown(table)}")
                break
        else:
            table[parts[-1]] = _override_value(value)
            places.override((*path, parts[-1]), key)
    return problems


def _override_value(text: str) -> object:
    """*text* read as a TOML value, and where that fails as a string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _campaign_names(document: Mapping[str, Any]) -> list[str | None]:
    """The name of each campaign of an unchecked *document*, None where it is no text."""
    campaigns = document.get("campaign")
    if not isinstance(campaigns, list):
        return []
    names = [campaign.get("name") if isinstance(campaign, dict) else None for campaign in campaigns]
    return [name if isinstance(name, str) else None for name in names]


def _repeated_names(document: Mapping[str, Any], places: "_Places") -> list[str]:
    names = _campaign_names(document)
    return [
        f"{places.word(('campaign', place, 'name'))}: must be unique, got '{name}' as in campaign[{names.index(name)}]"
        for place, name in enumerate(names)
        if name is not None and names.index(name) < place
    ]


def _with_preset(document: Mapping[str, Any]) -> dict[str, Any]:
    """*document* with what it does not say taken from its preset."""
    preset = document.get("preset")
    base = _PRESETS.get(preset if isinstance(preset, str) else DEFAULT_PRESET, _PRESETS[DEFAULT_PRESET])
    outputs, campaigns = document.get("outputs", {}), document.get("campaign", [])
    (campaign_base,) = base["campaign"]
    return {
        **base,
        **document,
        "outputs": {**base["outputs"], **outputs} if isinstance(outputs, dict) else outputs,
        "campaign": [
            _filled(campaign_base, _REBOOTS[base["preset"]], campaign) if isinstance(campaign, dict) else campaign
            for campaign in campaigns
        ]
        if isinstance(campaigns, list)
        else campaigns,
    }


def _filled(base: Mapping[str, Any], reboots: Mapping[str, Any], campaign: Mapping[str, Any]) -> dict[str, Any]:
    """*campaign* with what a preset says besides, *reboots* of kinds that need one.

    The regions of its waves are its regions, unless it says others.
    """
    base = {key: value for key, value in base.items() if key != "regions" or "waves" not in campaign}
    # Of a kind without windows too, so that all that is told of them is that they do not go with it.
    said = {key: {**reboots[key], **campaign[key]} for key in _OF_REBOOTS if isinstance(campaign.get(key), dict)}
    kind = KINDS.get(str(campaign.get("kind")))
    if kind is not None and kind.has_windows:
        base |= {"walk_by": _GUIDE["walk_by"], **reboots}  # later practice walks others for pauses only
    if campaign.get("kind", base["kind"]) != Kind.FREEZE.name.lower():
        base |= {"cannot_freeze": _GUIDE["cannot_freeze"]}
    base.pop("reboot_length", None)
    if campaign.get("cannot_freeze", base["cannot_freeze"]) == "reboot":
        base |= {"reboot_length": reboots["length"]}
    return {**base, **campaign, **said}


def _self_service(keys: _SelfServiceKeys | None, plan: Plan | None) -> SelfService | None:
    """What *keys* say of customers; None where nobody acts."""
    if keys is None or not (keys.uptake_ratio or plan) or not keys.length:
        return None
    return SelfService(
        plan=plan,
        uptake=keys.uptake_ratio,
        by=keys.by,
        timing=keys.timing,
        failure=keys.failure_ratio,
        retries=keys.retries,
        spare=keys.spare_ratio,
        recycle_ms=keys.recycle,
    )


def _plans(keys: _ScenarioKeys, folder: Path) -> tuple[dict[int, Plan], list[str]]:
    """The customers' own plans by campaign, looked for from *folder* on, and what is wrong with them."""
    plans, problems = {}, []
    for place, campaign in enumerate(keys.campaign):
        if campaign.self_service is not None and campaign.self_service.requests is not None:
            try:
                plans[place] = read_plan(folder / campaign.self_service.requests)
            except InputError as error:
                problems += error.problems
    return plans, problems


def _windows(campaign: _CampaignKeys) -> Windows | None:
    if campaign.self_service is None or campaign.scheduled is None or campaign.notice is None:
        return None
    assert campaign.iterations_max is not None
    assert campaign.reschedule_delay is not None
    scheduled, again = campaign.scheduled, (campaign.iterations_max, campaign.reschedule_delay)
    return Windows(campaign.notice, campaign.self_service.length, scheduled.gap, scheduled.length, *again)


def _tries(keys: _ScheduledKeys | None) -> Tries | None:
    """What *keys* say of tries that fail; None where none does."""
    return Tries(keys.failure_ratio, keys.retry_timeout) if keys is not None and keys.failure_ratio else None


def _too_long_tries(campaign: _CampaignKeys, place: int, places: "_Places") -> Iterator[str]:
    """A VM is down for all its tries, which must be no longer than any one impact may be."""
    if campaign.scheduled is None or not campaign.scheduled.failure_ratio:
        return
    profiles = [campaign.length.profile, *(profile for _, profile in campaign.length.by_family)]
    longest_ms = max(profile.length_ms_max for profile in profiles)
    timeout_ms = campaign.scheduled.retry_timeout
    if timeout_ms + longest_ms > LENGTH_MS_MAX:
        yield (
            f"{places.word(('campaign', place, 'scheduled', 'retry_timeout'))}: must, with the longest length"
            f" ('{span_text(longest_ms)}'), be at most {span_text(LENGTH_MS_MAX)} where tries fail,"
            f" got '{span_text(timeout_ms)}'"
        )


def _disagreements(keys: _ScenarioKeys, places: "_Places") -> Iterator[str]:
    """Keys that are right each by itself, but not together."""
    for place, campaign in enumerate(keys.campaign):
        if campaign.bake and not campaign.waves:
            at = places.word(("campaign", place, "bake"))
            yield f"{at}: is the time between waves, got '{span_text(campaign.bake)}' and no waves"
        if not KINDS[campaign.kind.name.lower()].has_windows:
            for key in _OF_REBOOTS:
                if getattr(campaign, key) is not None:
                    at = places.word(("campaign", place, key))
                    yield f"{at}: goes with kinds that need a reboot, got it with kind '{campaign.kind.name.lower()}'"
        else:
            customers = ("campaign", place, "self_service")
            for key in ("uptake_ratio", "by", "timing") if places.says((*customers, "requests")) else ():
                if places.says((*customers, key)):
                    at = places.word((*customers, key))
                    yield f"{at}: must not be said with requests, which say who asks and when"
            yield from _too_long_tries(campaign, place, places)
        if campaign.cannot_freeze == "reboot" and campaign.kind != Kind.FREEZE:
            at = places.word(("campaign", place, "cannot_freeze"))
            yield f"{at}: 'reboot' goes with kind 'freeze', got it with kind '{campaign.kind.name.lower()}'"
        if campaign.cannot_freeze != "reboot" and campaign.reboot_length is not None:
            at = places.word(("campaign", place, "reboot_length"))
            yield f"{at}: goes with cannot_freeze 'reboot', got it with cannot_freeze '{campaign.cannot_freeze}'"
        if keys.horizon is not None and keys.horizon < campaign.start:
            yield (
                f"{places.word(('horizon',))}: must not be before the start of campaign '{campaign.name}'"
                f" ('{span_text(campaign.start)}'), got '{span_text(keys.horizon)}'"
            )


def _worded(problem: ErrorDetails, document: Mapping[str, Any], places: "_Places") -> str:
    """A problem pydantic found, in our words."""
    path, value = problem["loc"], problem["input"]
    match problem["type"]:
        case "value_error":
            says = str(problem["ctx"]["error"])
        case "missing":
            says = f"is needed, such as {_START_EXAMPLE}" if path == ("start",) else "is needed"
        case "extra_forbidden":
            says = f"unknown key{_key_hint(path, document)}"
        case "model_type":
            says = f"must be a table, got {_shown(value)}"
        case _:
            says = f"{problem['msg'][:1].lower()}{problem['msg'][1:]}, got {_shown(value)}"
    return f"{places.word(path)}: {says}"


def _key_hint(path: _Path, document: Mapping[str, Any]) -> str:
    """What the unknown key at *path* should have been: a key of its table, or of another one."""
    table: Any = document
    for part in path[:-1]:
        table = table[part]
    match path[:-1]:
        case ():
            here: type[_Keys] = _ScenarioKeys
        case ("outputs",):
            here = _OutputKeys
        case ("quorum",):
            here = _QuorumKeys
        case ("campaign", _):
            here = _CampaignKeys
        case ("campaign", _, "self_service"):
            here = _SelfServiceKeys
        case ("campaign", _, "scheduled"):
            here = _ScheduledKeys
        case _:
            here = _form(table, _FAMILY_FORMS if {"by_family", "reboot_length"} & {*path} else _FORMS) or _Form
    key = str(path[-1])
    home = next((words for model, words in _HOMES.items() if key in model.model_fields), None)
    known = list(here.model_fields)
    return f"; it belongs {home}" if home else nearest(key, known) or f"; known here: {', '.join(known)}"


def _shown(value: object) -> str:
    """*value* as a message quotes it: text in quotes, the rest as TOML, and never more than a line."""
    text = f"'{value}'" if isinstance(value, str) else _inline(value)
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _inline(value: object) -> str:
    """*value* as TOML on one line; None, which TOML has not, as nothing."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_inline(member)}' for key, member in value.items())} }}" if value else "{}"
    return str(value)


class _Places:
    """Where things were said: words a path of keys as `FILE:LINE: campaign.NAME.key`, or as an override."""

    def __init__(self, source: str, text: str, document: Mapping[str, Any]) -> None:
        self._source = source
        self._text = text
        self._document = document
        self._overrides: dict[_Path, str] = {}

    def override(self, path: _Path, key: str) -> None:
        """From now on what is at *path* was said by `--override key=...`."""
        self._overrides[path] = key

    def says(self, path: _Path) -> bool:
        """Whether something is said at *path* itself."""
        node: Any = self._document
        for key in path:
            try:
                node = node[key]
            except (LookupError, TypeError):
                return path in self._overrides
        return True

    def word(self, path: _Path) -> str:
        for depth in range(len(path), 0, -1):
            if (key := self._overrides.get(path[:depth])) is not None:
                return f"--override {_dotted(key, path[depth:])}"
        names = _campaign_names(self._document)
        rest, key = path, ""
        if len(path) > 1 and path[0] == "campaign" and isinstance(path[1], int):
            name = names[path[1]]
            is_clear = name is not None and names.count(name) == 1 and _CAMPAIGN_NAME.fullmatch(name)
            rest, key = path[2:], f"campaign.{name}" if is_clear else f"campaign[{path[1]}]"
        lines = (self._lines.get(path[:depth]) for depth in range(len(path), 0, -1))
        line = next((f":{line}" for line in lines if line is not None), "")
        return f"{self._source}{line}: {_dotted(key, rest)}"

    @cached_property
    def _lines(self) -> dict[_Path, int]:
        """The line, from 1, on which each path of keys is said.

        TOML is a sequence of statements, and a statement cut short is none: each is the fewest lines that
        `tomllib` reads. So this needs no parser of its own.
        """
        lines: dict[_Path, int] = {}
        table: _Path = ()
        sizes: dict[_Path, int] = {}  # of arrays of tables, so far
        statement, start = "", 1
        for number, line in enumerate(self._text.split("\n"), 1):
            start = start if statement else number
            statement += f"{line}\n"
            try:
                parsed = tomllib.loads(statement)
            except ValueError:
                continue
            if statement.lstrip().startswith("["):
                table, node = (), parsed
                while node:
                    ((key, node),) = node.items()
                    table = (*table, key)
                    if isinstance(node, list):
                        sizes[table] = sizes.get(table, 0) + 1
                        (node,) = node
                    if table in sizes:
                        table = (*table, sizes[table] - 1)
                lines.setdefault(table, start)
            else:
                for path in _paths(parsed):
                    lines.setdefault((*table, *path), start)
            statement = ""
        return lines


def _dotted(key: str, path: _Path) -> str:
    """*key* and below it *path*, as `campaign.x` and `regions[0]`."""
    for part in path:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key


def _paths(value: object) -> Iterator[_Path]:
    """Paths to everything within *value*."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield (key,)
        for path in _paths(member):
            yield (key, *path)
