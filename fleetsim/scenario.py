"""Scenarios: TOML in, a frozen `Scenario` out, presets filled in and length profiles compiled.

Every problem of a file is reported at once, at its line and under the key as the user wrote it. A fleet comes
in only with `resolve`, which says what regions a campaign reaches; what happens to VMs is decided elsewhere.
"""

import copy
import hashlib
import itertools
import json
import math
import re
import sys
import tomllib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import cache, cached_property, lru_cache, partial
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, Any

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator, ValidationError
from pydantic_core import ErrorDetails

from fleetsim.errors import InputError, nearest, nearest_path
from fleetsim.kinds import KINDS
from fleetsim.regions import Relation
from fleetsim.schema import LENGTH_MS_MAX, SPAN_MS_MAX, DomainOrder, Kind, words

if TYPE_CHECKING:
    import numpy as np

DEFAULT_PRESET = "azure-2017"
PAIR_ORDERS = ("fewest_vms_first", "most_vms_first", "name")
PROFILE_STEPS = 65_536
"""A profile is the quantiles 0 / PROFILE_STEPS .. PROFILE_STEPS / PROFILE_STEPS."""
SEED_MAX = 2**63 - 1

_PRESETS: dict[str, dict[str, Any]] = {
    DEFAULT_PRESET: {
        "preset": DEFAULT_PRESET,
        "seed": 0,
        "outputs": {"events": True, "outcomes": True},
        "campaign": [
            {
                "kind": "freeze",
                "regions": ["*"],
                "start": "0s",
                "length": "30s",
                "work": "0s",
                "update_domain_gap": "0s",
                "update_domain_order": "random",
                "spread": "0s",
                "pair_order": "fewest_vms_first",
                "pair_lag": "0s",
            }
        ],
    },
}
_PRESET_DOCS = {DEFAULT_PRESET: "in-place migration as in the guide of 2017: everybody is paused for 30 s"}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START_YEAR_MAX = 2999
_START_EXAMPLE = "2026-12-01T00:00:00Z"
_CAMPAIGN_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_SPAN = re.compile(r"(-?[0-9]{1,30}(?:\.[0-9]{1,30})?)(ms|s|min|h|d)")
_UNIT_MS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_OTHER_UNITS = {
    **dict.fromkeys(("msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}
_SPAN_RULE = "must be a number and a unit (ms, s, min, h, d)"

_OTHER_INPUTS = {
    "fleet_digest": "fleet: another one (digest was '{was:.8}...', is '{now:.8}...')",
    "pairs_digest": "pairs: another list (digest was '{was:.8}...', is '{now:.8}...')",
    "fleetsim_version": "fleetsim: another version (was '{was}', is '{now}')",
    "schema_version": "schema: another version (was '{was}', is '{now}')",
}
"""What a difference of provenance says."""

_Path = tuple[str | int, ...]
"""Keys and positions from the top of a scenario to a value."""


# ---- Profiles ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Profile:
    """How long an impact lasts: a distribution, compiled to quantiles in whole milliseconds.

    `given` is the profile as the scenario says it, in one spelling; it determines the rest. The bounds are
    the first and the last entry of the table.
    """

    given: str
    length_ms_min: int
    length_ms_max: int
    # Makes the entries before they are clipped to the bounds; a partial, so that profiles can be pickled.
    _entries: Callable[[], Sequence[int]] = field(repr=False, compare=False)

    @property
    def is_constant(self) -> bool:
        return self.length_ms_min == self.length_ms_max

    @property
    def table(self) -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
        """uint32[PROFILE_STEPS + 1] ms: entry i is the quantile i / PROFILE_STEPS. A new copy each time."""
        import numpy as np

        # Copied, since an array over bytes is read-only: to numba another type, for which it compiles anew.
        return np.frombuffer(self._table_bytes, "<u4").astype(np.uint32)

    @cached_property
    def table_sha256(self) -> str:
        """Digest of the table as little-endian u32, in hex."""
        return hashlib.sha256(self._table_bytes).hexdigest()

    @cached_property
    def _table_bytes(self) -> bytes:
        low, high = self.length_ms_min, self.length_ms_max
        if low == high:
            return _constant_bytes(low)
        entries = array("I", [low if ms < low else high if ms > high else ms for ms in self._entries()])
        assert len(entries) == PROFILE_STEPS + 1
        assert entries.itemsize == 4
        if sys.byteorder == "big":
            entries.byteswap()
        return entries.tobytes()


@lru_cache(maxsize=64)
def _constant_bytes(length_ms: int) -> bytes:
    """The table of a constant length: scenarios of many campaigns share it."""
    return length_ms.to_bytes(4, "little") * (PROFILE_STEPS + 1)


def _constant(length_ms: int) -> Sequence[int]:
    return [length_ms] * (PROFILE_STEPS + 1)


@cache
def _normal_quantiles() -> list[float]:
    """Quantiles 1 .. PROFILE_STEPS - 1 of the standard normal distribution; the outermost are infinite."""
    inverse = NormalDist().inv_cdf
    return [inverse(i / PROFILE_STEPS) for i in range(1, PROFILE_STEPS)]


def _lognormal(p50_ms: int, p99_ms: int) -> Sequence[int]:
    sigma, exp = _lognormal_sigma(p50_ms, p99_ms), math.exp
    return [0, *[round(p50_ms * exp(sigma * z)) for z in _normal_quantiles()], LENGTH_MS_MAX]


def _lognormal_sigma(p50_ms: int, p99_ms: int) -> float:
    return math.log(p99_ms / p50_ms) / NormalDist().inv_cdf(0.99)


def _lognormal_longest_ms(p50_ms: int, p99_ms: int) -> int:
    """The ceiling where none is said: the quantile 0.9999, rounded half to even."""
    return round(p50_ms * math.exp(_lognormal_sigma(p50_ms, p99_ms) * NormalDist().inv_cdf(0.9999)))


def _uniform(min_ms: int, max_ms: int) -> Sequence[int]:
    """Quantiles of the discrete distribution: whole, and all values equally likely, both ends included."""
    count = max_ms - min_ms + 1
    return [min_ms, *[min_ms - 1 - (-count * i // PROFILE_STEPS) for i in range(1, PROFILE_STEPS + 1)]]


def _piecewise(points: tuple[tuple[Fraction, int], ...]) -> Sequence[int]:
    """Linear between *points* (quantile, ms), flat outside them; integers only, so that rounding is exact."""
    scale = math.lcm(*[quantile.denominator for quantile, _ in points])
    knots = [(int(quantile * scale) * PROFILE_STEPS, ms) for quantile, ms in points]
    entries: list[int] = []
    right = 0
    for i in range(PROFILE_STEPS + 1):
        at = i * scale
        while right < len(knots) and knots[right][0] < at:
            right += 1
        if right == 0 or right == len(knots):
            entries.append(knots[min(right, len(knots) - 1)][1])
            continue
        (left_at, left_ms), (right_at, right_ms) = knots[right - 1 : right + 1]
        width = right_at - left_at
        entries.append(_rounded_ratio(left_ms * width + (right_ms - left_ms) * (at - left_at), width))
    return entries


def _rounded_ratio(numerator: int, denominator: int) -> int:
    """numerator / denominator, rounded half to even; requires denominator > 0."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


# ---- What a scenario is ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Campaign:
    """One maintenance over a fleet. `regions` are selectors as given; `start_ms` is after the scenario's."""

    place: int
    name: str
    kind: Kind
    regions: tuple[str, ...]
    start_ms: int
    length: Profile
    work_ms: int
    update_domain_gap_ms: int
    update_domain_order: DomainOrder
    spread_ms: int
    pair_order: str | tuple[str, ...]
    pair_lag_ms: int


@dataclass(frozen=True)
class Scenario:
    """Everything a run needs besides the fleet. `text` is the TOML as given, before `overrides`."""

    name: str
    start_ms_epoch: int
    seed: int
    preset: str
    campaigns: tuple[Campaign, ...]
    has_events: bool
    has_outcomes: bool
    text: str
    overrides: tuple[str, ...]
    _places: "_Places" = field(repr=False, compare=False)


@dataclass(frozen=True)
class Resolved:
    """A scenario over a fleet: `regions` has, for each campaign, the sorted regions in which it has VMs."""

    scenario: Scenario
    regions: tuple[tuple[str, ...], ...]
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
        return {
            "name": scenario.name,
            "start": _EPOCH + timedelta(milliseconds=scenario.start_ms_epoch),
            "seed": scenario.seed,
            "preset": scenario.preset,
            "outputs": {"events": scenario.has_events, "outcomes": scenario.has_outcomes},
            "campaign": [
                {
                    "name": campaign.name,
                    "kind": campaign.kind.name.lower(),
                    "regions": list(regions),
                    "start_ms": campaign.start_ms,
                    "work_ms": campaign.work_ms,
                    "update_domain_gap_ms": campaign.update_domain_gap_ms,
                    "update_domain_order": campaign.update_domain_order.name.lower(),
                    "spread_ms": campaign.spread_ms,
                    "pair_order": (
                        campaign.pair_order if isinstance(campaign.pair_order, str) else list(campaign.pair_order)
                    ),
                    "pair_lag_ms": campaign.pair_lag_ms,
                    "length": {
                        "given": campaign.length.given,
                        "length_ms_min": campaign.length.length_ms_min,
                        "length_ms_max": campaign.length.length_ms_max,
                        "table_sha256": campaign.length.table_sha256,
                    },
                }
                for campaign, regions in zip(scenario.campaigns, self.regions, strict=True)
            ],
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
    return f'# {name}: {_PRESET_DOCS[name]}\nname = "{name}"\nstart = {_START_EXAMPLE}\n{rest}'


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
    problems += _repeated_names(document, places)
    if problems:
        raise InputError(problems)
    return Scenario(
        name=keys.name,
        start_ms_epoch=keys.start,
        seed=keys.seed,
        preset=keys.preset,
        campaigns=tuple(
            Campaign(
                place=place,
                name=campaign.name,
                kind=campaign.kind,
                regions=campaign.regions,
                start_ms=campaign.start,
                length=campaign.length,
                work_ms=campaign.work,
                update_domain_gap_ms=campaign.update_domain_gap,
                update_domain_order=campaign.update_domain_order,
                spread_ms=campaign.spread,
                pair_order=campaign.pair_order,
                pair_lag_ms=campaign.pair_lag,
            )
            for place, campaign in enumerate(keys.campaign)
        ),
        has_events=keys.outputs.events,
        has_outcomes=keys.outputs.outcomes,
        text=tomli_w.dumps(_plain(source)) if isinstance(source, Mapping) else text,
        overrides=tuple(overrides),
        _places=places,
    )


def resolve(scenario: Scenario, relation: Relation, region_vm_counts: Mapping[str, int]) -> Resolved:
    """*scenario* over a fleet with *region_vm_counts* VMs: selectors become regions that have VMs."""
    word = scenario._places.word
    inhabited = {region for region, vm_count in region_vm_counts.items() if vm_count}
    members: dict[str, set[str]] = {"*": set(inhabited)}
    for region in relation.regions:
        if geography := relation.geography[region]:
            members.setdefault(geography, set()).add(region)
    members |= {region: {region} for region in relation.regions}

    problems: list[str] = []
    warnings: list[str] = []
    scopes = []
    for campaign in scenario.campaigns:
        here = ("campaign", campaign.place)
        scope: set[str] = set()
        for i, selector in enumerate(campaign.regions):
            if selector not in members:
                rule = "must be a region, a geography or '*'"
                problems.append(f"{word((*here, 'regions', i))}: {rule}, got '{selector}'{nearest(selector, members)}")
            elif selector != "*" and not members[selector] & inhabited:
                warnings.append(f"{word((*here, 'regions', i))}: no VM of the fleet is in '{selector}'")
            scope |= members.get(selector, set()) & inhabited
        if not scope:
            warnings.append(f"{word(here)}: no VM of the fleet is in its regions, so nothing happens")
        for i, region in enumerate(campaign.pair_order if isinstance(campaign.pair_order, tuple) else ()):
            if region not in relation.regions:
                near = nearest(region, relation.regions)
                problems.append(f"{word((*here, 'pair_order', i))}: must be a region, got '{region}'{near}")
            elif region not in inhabited:
                warnings.append(f"{word((*here, 'pair_order', i))}: no VM of the fleet is in '{region}'")
        scopes.append(tuple(sorted(scope)))
    if problems:
        raise InputError(problems)
    return Resolved(scenario, tuple(scopes), tuple(warnings))


def difference(resolved_toml_a: str, resolved_toml_b: str) -> list[str]:
    """Keys in which two texts of `resolved.toml` differ, as `campaign.NAME.length: was '30s', is '10s'`."""
    before, after = (tomllib.loads(text) for text in (resolved_toml_a, resolved_toml_b))
    old, new = ({campaign["name"]: campaign for campaign in side.pop("campaign")} for side in (before, after))
    found = list(_differing((), before, after))
    if list(old) != list(new):
        found.append(f"campaign: was {_shown(list(old))}, is {_shown(list(new))}")
    for name in old:
        if name in new:
            found += _differing(("campaign", name), old[name], new[name])
    return found


def _differing(path: tuple[str, ...], before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in {**before, **after}:
        was, now = before.get(key), after.get(key)
        place = ".".join((*path, key))
        if was == now or key == "scenario_digest":  # the digest of what is compared here
            continue
        if path == ("provenance",) and key in _OTHER_INPUTS:
            yield _OTHER_INPUTS[key].format(was=str(was), now=str(now))
            continue
        if key == "length" and was and now and was["given"] != now["given"]:
            was, now = was["given"], now["given"]
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _differing((*path, key), was, now)
        elif key.endswith("_ms") and isinstance(was, int) and isinstance(now, int):
            yield f"{place.removesuffix('_ms')}: was '{_span_text(was)}', is '{_span_text(now)}'"
        else:
            yield f"{place}: was {_shown(was)}, is {_shown(now)}"


# ---- What a file may say: one validator a type, in our words -----------------------------------------------


def _span(value: object, ms_min: int, ms_max: int) -> int:
    """*value* such as `0.5s` in whole ms, exactly."""
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{_SPAN_RULE}, got {_shown(value)}{_span_hint(value)}")
    ms = Fraction(match[1]) * _UNIT_MS[match[2]]
    if not ms_min <= ms <= ms_max:
        raise ValueError(f"must be from {_span_text(ms_min)} to {_span_text(ms_max)}, got {_shown(value)}")
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


def _span_text(ms: int) -> str:
    """*ms* in the largest unit that leaves no rest."""
    unit = next((unit for unit, size in reversed(_UNIT_MS.items()) if ms and ms % size == 0), "s")
    return f"{ms // _UNIT_MS[unit]}{unit}"


def _span_ms(value: object) -> int:
    return _span(value, 0, SPAN_MS_MAX)


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
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= SEED_MAX:
        return value
    raise ValueError(f"must be an integer from 0 to {SEED_MAX}, got {_shown(value)}")


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


def _points(value: object) -> object:
    if isinstance(value, list) and value:
        return value
    raise ValueError(f'must be a list of pairs, such as [[0.5, "6s"], [1.0, "30s"]], got {_shown(value)}')


_LengthMs = Annotated[int, PlainValidator(_length_ms)]
_SpanMs = Annotated[int, PlainValidator(_span_ms)]
_Switch = Annotated[bool, PlainValidator(_switch)]


class _Keys(BaseModel):
    """A table of the file: field names are its keys. What has no default is needed, once the preset is in."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class _Form(_Keys):
    """A length profile as a table."""

    floor: _LengthMs = 1
    ceiling: Annotated[int | None, PlainValidator(_length_ms)] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """(key, rule it breaks) where keys disagree."""
        if self.ceiling is not None and self.ceiling < self.floor:
            yield "ceiling", f"must not be below the floor ('{_span_text(self.floor)}')"

    def bounds_ms(self) -> tuple[int, int]:
        """Shortest and longest length before they are clipped to floor and ceiling."""
        raise NotImplementedError

    def entries(self) -> Callable[[], Sequence[int]]:
        """What computes the entries of the table, not yet clipped to the profile's bounds."""
        raise NotImplementedError


class _Lognormal(_Form):
    p50: _LengthMs
    p99: _LengthMs

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.p99 < self.p50:
            yield "p99", f"must not be below p50 ('{_span_text(self.p50)}')"
        elif self.ceiling is None:
            longest_ms = _lognormal_longest_ms(self.p50, self.p99)
            if longest_ms > LENGTH_MS_MAX:
                yield "p99", f"needs a ceiling of at most {_span_text(LENGTH_MS_MAX)} beside it"
            elif longest_ms < self.floor:
                yield "floor", f"must not be above the ceiling ('{_span_text(longest_ms)}' unless said)"

    def bounds_ms(self) -> tuple[int, int]:
        if self.p50 == self.p99:
            return self.p50, self.p50
        return 1, self.ceiling or _lognormal_longest_ms(self.p50, self.p99)

    def entries(self) -> Callable[[], Sequence[int]]:
        return partial(_lognormal, self.p50, self.p99)


class _Uniform(_Form):
    min: _LengthMs
    max: _LengthMs

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.max < self.min:
            yield "max", f"must not be below min ('{_span_text(self.min)}')"

    def bounds_ms(self) -> tuple[int, int]:
        return self.min, self.max

    def entries(self) -> Callable[[], Sequence[int]]:
        return partial(_uniform, self.min, self.max)


class _Quantiles(_Form):
    quantiles: Annotated[tuple[Annotated[tuple[Fraction, int], PlainValidator(_point)], ...], BeforeValidator(_points)]

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
        return partial(_piecewise, self.quantiles)


_FORMS: dict[tuple[str, ...], type[_Form]] = {
    ("p50", "p99"): _Lognormal,
    ("min", "max"): _Uniform,
    ("quantiles",): _Quantiles,
}
_FORM_KEYS = [*(key for keys in _FORMS for key in keys), *_Form.model_fields]
_FORM_RULE = "must be a span such as '30s', or a table of p50 and p99, of min and max, or of quantiles"


def _form(value: Mapping[str, object]) -> type[_Form] | None:
    """The form of profile whose keys *value* uses, where it is one."""
    used = [form for keys, form in _FORMS.items() if value.keys() & set(keys)]
    return used[0] if len(used) == 1 else None


def _length(value: object) -> Profile:
    if not isinstance(value, dict):
        length_ms = _length_ms(value)
        return Profile(str(value), length_ms, length_ms, partial(_constant, length_ms))
    form = _form(value)
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
    return Profile(_inline(said), low, high, keys.entries())


class _CampaignKeys(_Keys):
    name: Annotated[str, PlainValidator(_campaign_name)]
    kind: Annotated[Kind, PlainValidator(_kind)]
    regions: Annotated[tuple[str, ...], PlainValidator(_regions)]
    start: _SpanMs
    length: Annotated[Profile, PlainValidator(_length)]
    work: _SpanMs
    update_domain_gap: _SpanMs
    update_domain_order: Annotated[DomainOrder, PlainValidator(_domain_order)]
    spread: _SpanMs
    pair_order: Annotated[str | tuple[str, ...], PlainValidator(_pair_order)]
    pair_lag: _SpanMs


class _OutputKeys(_Keys):
    events: _Switch
    outcomes: _Switch


class _ScenarioKeys(_Keys):
    name: Annotated[str, PlainValidator(_scenario_name)]
    start: Annotated[int, PlainValidator(_instant)]
    seed: Annotated[int, PlainValidator(_seed)]
    preset: Annotated[str, PlainValidator(_preset)]
    outputs: _OutputKeys
    campaign: Annotated[tuple[_CampaignKeys, ...], BeforeValidator(_campaign_list)]


_HOMES: dict[type[_Keys], str] = {
    _ScenarioKeys: "at the top, before the first table",
    _CampaignKeys: "under [[campaign]]",
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
        raise InputError(f"{file}{line}: must be TOML, got: {reason[:1].lower()}{reason[1:]}{column}") from None


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
            {**campaign_base, **campaign} if isinstance(campaign, dict) else campaign for campaign in campaigns
        ]
        if isinstance(campaigns, list)
        else campaigns,
    }


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
        case ("campaign", _):
            here = _CampaignKeys
        case _:
            here = _form(table) or _Form
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
