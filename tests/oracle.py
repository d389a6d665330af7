"""The oracle: what a campaign does to a fleet, said once more in slow plain Python with a heap of instants.

It reads the semantics aloud, instant by instant, with claims that are taken and let go, VMs that come and go, and
knows no closed form. It shares no code with fleetsim, not even the draws: Philox4x32-10 and FNV-1a 64 are written
here from their published definitions. What it does not work out itself is given to it: the tables of lengths, and
which sizes cannot be frozen. All spans and instants are whole milliseconds since `scenario.start`; intervals are
half-open.
"""

import datetime as dt
import hashlib
import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

Identity = int | str

DEFAULT_UPDATE_DOMAIN_COUNT = 5
DEFAULT_FAULT_DOMAIN_COUNT = 3
PLACEMENT_GROUP_VM_COUNT = 100
FIRST_ITERATION = 1
MEMORY_LOST, TEMP_DISK_LOST, ADDRESS_CHANGED, HOST_CHANGED, CLOCK_SYNCHRONISED = 1, 2, 4, 8, 16
EFFECTS = {"freeze": CLOCK_SYNCHRONISED, "reboot": MEMORY_LOST}
KINDS_THAT_REBOOT = ("reboot", "redeploy")

# What a draw decides: the upper six bits of counter word 2.
LENGTH, UPDATE_DOMAIN_ORDER, SET_SPREAD, SINGLE_SPREAD, START_PRIORITY, HOST_SPREAD, UPTAKE, TIMING = range(8)
FAILURE = 26
TRY = 27
DAY_MS = 86_400_000
REFUSALS_MAX = 3  # after that many a customer asks no more
TRIES_MAX = 1_000  # of the platform, of one VM


@dataclass(frozen=True)
class Vm:
    """One row of the fleet. `set` None: a single. A domain of None in a set asks for the default.

    `created_ms` None: it was always there; `deleted_ms` None: it never goes. `attributes` are its other columns.
    """

    vm: Identity
    region: str
    set: Identity | None = None
    update_domain: int | None = None
    fault_domain: int | None = None
    created_ms: int | None = None
    deleted_ms: int | None = None
    set_kind: str | None = None
    cluster: str | None = None
    zone: str | None = None
    rack: str | None = None
    host: Identity | None = None
    size: str | None = None
    application: str | None = None
    subscription: str | None = None
    temp_disk_gib: float | None = None
    dynamic_ip: bool | None = None
    vcpus: float | None = None
    memory_gib: float | None = None
    attributes: Mapping[str, object] = field(default_factory=dict, hash=False)
    set_cluster: str | None = None  # the cluster that all VMs of its set are in, if there is one: `as_prepared` says

    def lives(self, now: int) -> bool:
        is_there = self.created_ms is None or self.created_ms <= now
        return is_there and (self.deleted_ms is None or now < self.deleted_ms)

    def column(self, name: str) -> object:
        return self.attributes.get(name, getattr(self, name, None))


@dataclass(frozen=True)
class Host:
    """One row of an inventory: what a host has room for, None for any amount; `is_spare`: updated, and without VMs."""

    host: Identity
    region: str
    cluster: str | None = None
    vcpus: float | None = None
    memory_gib: float | None = None
    is_spare: bool = False

    def has_room(self, vms: Iterable[Vm]) -> bool:
        """Whether *vms* fit on it; who does not say takes one vCPU and no memory."""
        vcpus = sum(Fraction(1 if vm.vcpus is None else str(vm.vcpus)) for vm in vms)
        memory_gib = sum(Fraction(0 if vm.memory_gib is None else str(vm.memory_gib)) for vm in vms)
        fits = self.vcpus is None or vcpus <= Fraction(str(self.vcpus))
        return fits and (self.memory_gib is None or memory_gib <= Fraction(str(self.memory_gib)))


class Domain(NamedTuple):
    """What of a set is updated together, in the order of a sequential walk."""

    zone: bytes
    number: int | None


class Whole(NamedTuple):
    """Instead of a domain: all of a set, for one host."""

    walker: tuple[str, Identity]


Where = Callable[[Vm], bool] | Mapping[str, Collection[object]]


@dataclass(frozen=True)
class Cap:
    """How many VMs or hosts of a region, zone or cluster may be at work at once: a count, or a ratio of all it has."""

    per: str
    most: int | str  # a ratio as it is spelt
    counts_hosts: bool = False

    def limit(self, base: int) -> int:
        return self.most if isinstance(self.most, int) else max(1, math.floor(Fraction(self.most) * base))

    def count(self, vms: Iterable[Vm]) -> Counter:
        """How many of *vms*, or of their hosts, it counts in each of its groups."""
        if not self.counts_hosts:
            return Counter(self.group(vm) for vm in vms)
        return Counter(group for group, _ in {(self.group(vm), vm.host) for vm in vms})

    def group(self, vm: Vm) -> tuple[str, str | None] | None:
        """What of its region the cap counts *vm* in; None: it counts nowhere."""
        if self.per == "region":
            return vm.region, None
        name = getattr(vm, self.per)
        return None if name is None else (vm.region, name)


@dataclass(frozen=True)
class Windows:
    """Spans of a campaign that needs a reboot: how long before its scheduled window a VM hears of it, at least."""

    notice_ms: int
    self_service_ms: int
    gap_ms: int
    scheduled_ms: int

    @property
    def lead_ms(self) -> int:
        """From the notice to the opening of the scheduled window."""
        return max(self.notice_ms, self.self_service_ms + self.gap_ms)


@dataclass(frozen=True)
class SelfService:
    """What customers do in their window (semantics 29-32); ratios as they are spelt.

    by          whose decision it is: "subscription" (else set or single), "set" (or single), "vm"
    timing      "uniform", "early", "last_minute", "working_hours", or 65,537 quantiles in ms after the opening
    requests    the plan of the customers instead: (vm, instant) each
    start       of the scenario, and the hours that regions are ahead of UTC: for working hours
    """

    uptake: str = "0"
    by: str = "subscription"
    timing: str | Sequence[int] = field(default="uniform", repr=False)
    failure: str = "0"
    spare: str = "0.05"
    recycle_ms: int = 3_600_000
    retries: bool = False
    requests: tuple[tuple[Identity, int], ...] | None = None
    start: dt.datetime | None = None
    hours_east: Mapping[str, int] = field(default_factory=dict, hash=False, repr=False)

    def moment_ms(self, draw: int, region: str, opens_ms: int, closes_ms: int) -> int:
        """When a customer asks: an instant within the window."""
        last_ms = closes_ms - opens_ms - 1
        if self.timing == "early":
            return opens_ms + interpolated(lambda i: last_ms * i**3 // 65_536**3, draw)
        if self.timing == "last_minute":
            return opens_ms + interpolated(lambda i: last_ms - last_ms * (65_536 - i) ** 3 // 65_536**3, draw)
        if not isinstance(self.timing, str):
            return opens_ms + interpolated(lambda i: min(self.timing[i], last_ms), draw)
        spans = [(opens_ms, closes_ms)]
        if self.timing == "working_hours":
            spans = self.working_spans(region, opens_ms, closes_ms) or spans
        place = integer_below(sum(to_ms - from_ms for from_ms, to_ms in spans), draw)
        for from_ms, to_ms in spans:
            if place < to_ms - from_ms:
                return from_ms + place
            place -= to_ms - from_ms
        raise AssertionError

    def working_spans(self, region: str, opens_ms: int, closes_ms: int) -> list[tuple[int, int]]:
        """From 9 to 17 on Mondays to Fridays, by the clock of the region."""
        clock = dt.timezone(dt.timedelta(hours=self.hours_east.get(region, 0)))
        day = (self.start + dt.timedelta(milliseconds=opens_ms)).astimezone(clock).date()
        spans = []
        while True:
            from_ms, to_ms = (
                (dt.datetime.combine(day, dt.time(hour), clock) - self.start) // dt.timedelta(milliseconds=1)
                for hour in (9, 17)
            )
            if from_ms >= closes_ms:
                return spans
            if day.weekday() < 5 and opens_ms < to_ms:
                spans.append((max(from_ms, opens_ms), min(to_ms, closes_ms)))
            day += dt.timedelta(days=1)


def is_below(draw: int, ratio: str) -> bool:
    """Whether what happens to a share of all happens to who has drawn this."""
    return draw >> 1 < math.floor(Fraction(ratio) * 2**63)


@dataclass(frozen=True)
class Campaign:
    """One campaign, defaults filled in.

    lengths         its 65,537 quantiles, ms; `family_lengths`: other ones for VMs of these sizes
    regions         None: all
    where           a predicate, or column -> values; the columns must all match, a null matches nothing
    waves           regions released together, `*` for those not named yet; None: all at once
    cannot_freeze   sizes that are left alone or, where there are `reboot_lengths`, rebooted
    windows         None: it is at work as soon as it may; and has one iteration
    try_failure     share of the platform's tries in a window that fail, as it is spelt
    retry_timeout_ms  how long after its unit's start a VM may still be tried again
    """

    name: str
    lengths: Sequence[int] = field(repr=False)
    regions: tuple[str, ...] | None = None
    start_ms: int = 0
    work_ms: int = 0
    update_domain_gap_ms: int = 0
    update_domain_order: str = "random"
    spread_ms: int = 0
    pair_order: str | tuple[str, ...] = "fewest_vms_first"
    pair_lag_ms: int = 0
    kind: str = "freeze"
    where: Where = field(default_factory=dict)
    waves: tuple[tuple[str, ...], ...] | None = None
    bake_ms: int = 0
    walk_by: str = "update_domain"
    sets_in_step: bool = False
    cannot_freeze: frozenset[str] = frozenset()
    reboot_lengths: Sequence[int] | None = field(default=None, repr=False)
    family_lengths: Mapping[str, Sequence[int]] = field(default_factory=dict, repr=False)
    pair_exclusion: str = "all"
    caps: tuple[Cap, ...] = ()
    host_order: str = "auto"
    windows: Windows | None = None
    self_service: SelfService = SelfService()
    iterations_max: int = 3
    reschedule_delay_ms: int = 14 * DAY_MS
    one_zone_at_a_time: bool = False
    try_failure: str = "0"
    retry_timeout_ms: int = 7_200_000

    def selects(self, vm: Vm) -> bool:
        if self.regions is not None and vm.region not in self.regions:
            return False
        if callable(self.where):
            return self.where(vm)
        return all(vm.column(name) is not None and vm.column(name) in values for name, values in self.where.items())

    def is_left_alone(self, vm: Vm) -> bool:
        return self.kind == "freeze" and self.reboot_lengths is None and vm.size in self.cannot_freeze

    def what_hits(self, vm: Vm) -> str:
        """The kind of the platform's impact: whoever cannot be frozen is rebooted in place, if not left alone."""
        return "reboot" if self.kind == "freeze" and vm.size in self.cannot_freeze else self.kind

    def excludes_pairs(self) -> bool:
        return self.pair_exclusion == "all" or self.kind in KINDS_THAT_REBOOT

    def zone(self, vm: Vm) -> bytes:
        """What is worked on before what comes later by name; who is in no zone goes first (semantics 37)."""
        return (vm.zone or "").encode("utf-8") if self.one_zone_at_a_time else b""

    def walked_domain(self, vm: Vm) -> "Domain":
        """Domains of two zones are not one, whatever their number."""
        return Domain(self.zone(vm), vm.update_domain if self.walk_by == "update_domain" else vm.fault_domain)

    def walker(self, vm: Vm) -> tuple[str, Identity]:
        """Who walks: the single, the set, or in step all sets of a cluster; the second is what draws hang on."""
        if vm.host is not None:
            return "host", vm.host
        if vm.set is None:
            return "single", vm.vm
        if self.sets_in_step and vm.set_cluster is not None:
            return "cluster", vm.set_cluster
        return "set", vm.set

    def quantiles_of(self, vm: Vm) -> Sequence[int]:
        if self.what_hits(vm) != self.kind:
            return self.reboot_lengths
        return self.lengths if vm.size is None else self.family_lengths.get(vm.size, self.lengths)


@dataclass(frozen=True)
class Quorum:
    """Of which groups (`set` or `application`) how many must be up: "majority", a count, or a ratio."""

    by: str
    min_up: str | int | float

    def need(self, living_count: int) -> int:
        if self.min_up == "majority":
            return living_count // 2 + 1
        if isinstance(self.min_up, int):
            return self.min_up
        return math.ceil(Fraction(str(self.min_up)) * living_count)


@dataclass(frozen=True)
class Event:
    campaign: str
    vm: Identity
    start_ms: int
    duration_ms: int
    phase: str = "platform"
    kind: str = "freeze"
    result: str = "completed"
    iteration: int = FIRST_ITERATION
    effects: int = CLOCK_SYNCHRONISED
    host_to: Identity | None = None  # of a move to another host

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.duration_ms


@dataclass(frozen=True)
class Outcome:
    campaign: str
    vm: Identity
    paused_ms: int = 0
    outcome: str = "updated"
    reason: str = "none"
    down_ms: int = 0
    event_count: int = 0
    iteration: int = FIRST_ITERATION
    effects: int = 0


@dataclass(frozen=True)
class StageSpan:
    """One stage: asked for, its region taken, its first unit's start, its last unit's end, its region free.

    None where it was never at work, or hit nobody. `counts`: the VMs that ended in each outcome, those that are.
    Where it has windows its region is taken and free with the scheduled one, whatever is done in it. `windows`: the
    notice, then start and end of the self-service window and of the scheduled one, if they were announced.
    """

    campaign: str
    region: str
    asked_ms: int
    start_ms: int | None
    first_start_ms: int | None
    last_end_ms: int | None
    free_ms: int | None
    counts: Mapping[str, int] = field(hash=False)
    wave: int = 1
    iteration: int = FIRST_ITERATION
    windows: tuple[int, int, int, int, int] | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One unit of a stage that hit somebody, and what it waited for last: units of which the first in the fleet counts.

    waited_for  "gap" or "claim" if another domain's unit, ending, released a set it claims to it just then; "cap" if,
                that failing, a unit ended just then under a cap it is under as well
    """

    campaign: str
    region: str
    vms: tuple[Vm, ...]  # those it could hit
    earliest_ms: int
    start_ms: int
    end_ms: int
    waited_for: str | None
    waited: tuple["Step", ...]
    domain: Domain
    iteration: int = FIRST_ITERATION

    @property
    def stage(self) -> tuple[str, int, str]:
        return self.campaign, self.iteration, self.region


@dataclass(frozen=True)
class Walk:
    """One walker or single of a stage that hit somebody."""

    campaign: str
    region: str
    vms: tuple[Vm, ...]  # those it could hit when the stage started
    wait_ms: int  # from the stage's start, within `spread`
    end_ms: int
    held_ms: int  # its units, summed
    gap_ms: int  # between them, summed
    unit_count: int  # those that hit somebody
    iteration: int = FIRST_ITERATION

    @property
    def stage(self) -> tuple[str, int, str]:
        return self.campaign, self.iteration, self.region


@dataclass
class Log:
    """Rows in the order in which they became known.

    figures           (campaign, iteration, region) -> figure -> value, of every stage
    campaign_figures  (campaign, figure) -> value, of applications
    no_guarantee      (region, set, reason) of the stages that started
    """

    events: list[Event] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    stages: list[StageSpan] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    figures: dict[tuple[str, int, str], dict[str, int | Fraction]] = field(default_factory=dict)
    campaign_figures: dict[tuple[str, str], int] = field(default_factory=dict)
    no_guarantee: set[tuple[str, Identity, str]] = field(default_factory=set)


def philox4x32_10(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds over four 32-bit words (Salmon and others, SC 2011)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        left, right = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            (right >> 32) ^ c1 ^ k0,
            right & 0xFFFFFFFF,
            (left >> 32) ^ c3 ^ k1,
            left & 0xFFFFFFFF,
        )
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def fnv1a_64(octets: bytes) -> int:
    digest = 0xCBF29CE484222325
    for octet in octets:
        digest = ((digest ^ octet) * 0x100000001B3) % 2**64
    return digest


def entity_key(identity: Identity) -> int:
    """The 64 bits a VM or a set is drawn by: integers as they are, strings by their digest."""
    return identity % 2**64 if isinstance(identity, int) else fnv1a_64(identity.encode("utf-8"))


REPLICA = 0
"""Which of the draws of a seed; 0 is the run itself."""


def campaign_key(seed: int, name: str) -> int:
    """The seed mixed with the campaign's name: another campaign in the file changes no draw of this one."""
    return int.from_bytes(hashlib.sha256(seed.to_bytes(8, "little") + name.encode("utf-8")).digest()[:8], "little")


def draw64(
    seed: int, campaign: str, identity: Identity, stream: int, number: int = 0, iteration: int = FIRST_ITERATION
) -> int:
    """The addressed draw, uniform in [0, 2^64)."""
    key, entity = campaign_key(seed, campaign), entity_key(identity)
    counter = (entity % 2**32, entity >> 32, stream << 26 | iteration << 18 | number, REPLICA)
    words = philox4x32_10(counter, (key % 2**32, key >> 32))
    return words[0] | words[1] << 32


def length_at(lengths: Sequence[int], draw: int) -> int:
    """The quantile of a table that a draw names."""
    return interpolated(lengths.__getitem__, draw)


def interpolated(quantile: Callable[[int], int], draw: int) -> int:
    """The quantile a draw names: its upper 16 bits pick the entry, the next 16 interpolate; halves go up."""
    entry, fraction = draw >> 48, draw >> 32 & 0xFFFF
    return quantile(entry) + ((quantile(entry + 1) - quantile(entry)) * fraction + 2**15 >> 16)


def integer_below(limit: int, draw: int) -> int:
    """An integer in [0, limit); 0 where there is nothing to draw from."""
    return draw * limit >> 64


def rank(identity: Identity) -> int | bytes:
    """How identities of one kind sort: integers by value, strings by UTF-8 bytes."""
    return identity if isinstance(identity, int) else identity.encode("utf-8")


def by_value(value: object) -> object:
    """How values of a column sort: strings by UTF-8 bytes, all others as they are."""
    return value.encode("utf-8") if isinstance(value, str) else value


def as_prepared(vms: Iterable[Vm]) -> list[Vm]:
    """The fleet with scale sets cut into placement groups and the missing domains filled in."""
    filled, sets = [], defaultdict(list)
    for vm in vms:
        if vm.set is None:
            filled.append(vm)
        else:
            sets[vm.region, vm.set].append(vm)
    for members in sets.values():
        members.sort(key=lambda vm: rank(vm.vm))
        is_cut = members[0].set_kind == "scale_set" and len(members) > PLACEMENT_GROUP_VM_COUNT
        groups = [members]
        if is_cut:
            starts = range(0, len(members), PLACEMENT_GROUP_VM_COUNT)
            groups = [members[start : start + PLACEMENT_GROUP_VM_COUNT] for start in starts]
        for number, group in enumerate(groups):
            clusters = {vm.cluster for vm in group}
            for i, vm in enumerate(group):
                filled.append(
                    replace(
                        vm,
                        set=f"{vm.set}/pg-{number}" if is_cut else vm.set,
                        set_cluster=vm.cluster if len(clusters) == 1 else None,
                        update_domain=_or_default(vm.update_domain, i, DEFAULT_UPDATE_DOMAIN_COUNT),
                        fault_domain=_or_default(vm.fault_domain, i, DEFAULT_FAULT_DOMAIN_COUNT),
                    )
                )
    return filled


def _or_default(domain: int | None, i: int, domain_count: int) -> int:
    """The i-th VM of a set by key has domain i mod n, where none is given."""
    return i % domain_count if domain is None else domain


@dataclass(eq=False)
class Claims:
    """Who holds a set (or what walks in step) in one stage: one domain, from a start until a gap after the last end.

    A host that hits several of its domains holds all of it, alone.
    """

    domain: object = None
    holder_count: int = 0
    release_ms: int | None = None  # known once no holder is left

    def admit(self, domain: object) -> bool:
        return self.domain is None or (self.domain == domain and isinstance(domain, Domain))


@dataclass(eq=False)
class Unit:
    """What is frozen at once: the VMs of one walked domain of a walker, of one host, or one single."""

    vms: list[Vm]  # those there, not hit and not gone, until it starts
    walker: tuple[str, Identity]
    earliest_ms: int
    position: int
    draw: int
    claims_of: Callable[[Vm], Claims | None]
    domain_of: Callable[[Vm], Domain]
    zone: bytes
    before: list["Unit"] = field(default_factory=list)  # whose turn comes first
    in_zones_before: list["Unit"] = field(default_factory=list)
    to_come: list[Vm] = field(default_factory=list)  # those that will be created on the host
    start_ms: int | None = None
    end_ms: int | None = None
    is_done: bool = False
    held: dict[Claims, object] = field(default_factory=dict)
    reach: tuple[Vm, ...] = ()
    waited_for: str | None = None
    waited: list["Unit"] = field(default_factory=list)

    def is_awaited(self, now: int) -> bool:
        """Whether it is this unit that keeps its walker, whatever gap still bars it."""
        has_passed = {"host": lambda unit: unit.is_done or unit.start_ms is not None}
        is_its_turn = all(map(has_passed.get(self.walker[0], lambda unit: unit.is_done), self.before))
        is_its_turn &= all(unit.is_done for unit in self.in_zones_before)
        return self.start_ms is None and not self.is_done and self.earliest_ms <= now and is_its_turn

    def claims(self) -> dict[Claims, object]:
        """What it claims for the VMs that it hits: of each set a domain, or of several domains all of it."""
        domains = defaultdict(set)
        for vm in self.vms:
            if (claims := self.claims_of(vm)) is not None:
                domains[claims].add(self.domain_of(vm))
        return {claims: min(found) if len(found) == 1 else Whole(self.walker) for claims, found in domains.items()}

    def may_start(self, now: int) -> bool:
        return self.is_awaited(now) and all(claims.admit(domain) for claims, domain in self.claims().items())

    def priority(self) -> tuple:
        """Zone, position, a draw, then a stable key: who starts first where there is no room for all."""
        kind, identity = self.walker
        return self.zone, self.position, self.draw, kind, rank(identity)


@dataclass(eq=False)
class Running:
    """An impact that goes on, and when it would end; of the platform's tries at a VM the current one, from 0."""

    vm: Vm
    start_ms: int
    end_ms: int
    is_move: bool = False  # that its customer started
    host_to: Identity | None = None  # where it has its place from the start on
    try_number: int = 0
    first_ms: int | None = None  # when the first of the tries started, with its unit


@dataclass(eq=False)
class Request:
    """A customer asks for a VM, after so many refusals."""

    vm: Vm
    at_ms: int
    refusal_count: int = 0


@dataclass(eq=False)
class Stage:
    """One campaign in one region."""

    campaign: Campaign
    region: str
    wave: int
    order: tuple  # among those asked for at one instant
    scope: list[Vm]
    asked_ms: int | None = None
    is_judged: bool = False
    units: list[Unit] = field(default_factory=list)
    claims: dict[object, Claims] = field(default_factory=lambda: defaultdict(Claims))
    running: list[Running] = field(default_factory=list)
    outcomes: dict[Identity, Outcome] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    in_reach: list[Vm] = field(default_factory=list)  # whom it could hit when it started
    to_come: list[Vm] = field(default_factory=list)  # who will be created on a host that it could hit
    window: tuple[int, int] | None = None  # the scheduled one, once it is announced
    requests: list[Request] = field(default_factory=list)
    iteration: int = FIRST_ITERATION
    returns_ms: int | None = None  # when it is asked for, if its VMs have been left by another
    under_way: list[Running] = field(default_factory=list)  # what others had begun when it could start, or did
    start_ms: int | None = None
    end_ms: int | None = None  # when its region was free again
    over_ms: int | None = None  # when its wave need not wait for it any longer

    def moves(self, vm: Vm) -> bool:
        """Whether its customer has started, in this campaign, what is not yet over."""
        return any(impact.vm is vm and impact.is_move for impact in self.running)

    def is_at_work(self) -> bool:
        return self.start_ms is not None and self.end_ms is None

    def is_waiting(self) -> bool:
        return self.asked_ms is not None and self.start_ms is None and self.over_ms is None and self.window is None


@dataclass(eq=False)
class Release:
    """The waves of one campaign, and how many of them are released."""

    campaign: Campaign
    waves: list[list[Stage]]
    released_count: int = 0
    released_ms: int | None = None  # the last one


def simulate(
    vms: Iterable[Vm],
    campaigns: Sequence[Campaign],
    edges: Iterable[tuple[str, str]],
    seed: int,
    *,
    horizon_ms: int | None = None,
    quorum: Quorum | None = None,
    hosts: Iterable[Host] = (),
) -> Log:
    """Run *campaigns*, in file order, over *vms*; *edges* pairs regions, whichever side lists the pair."""
    return _Simulation(as_prepared(vms), campaigns, edges, seed, horizon_ms, quorum, hosts=hosts).run()


class _Simulation:
    def __init__(
        self,
        vms: list[Vm],
        campaigns: Sequence[Campaign],
        edges: Iterable[tuple[str, str]],
        seed: int,
        horizon_ms: int | None = None,
        quorum: Quorum | None = None,
        under_way: Sequence[Running] = (),
        hosts: Iterable[Host] = (),
    ):
        self.vms = vms
        self.hosts = {host.host: host for host in hosts}
        self.guests: dict[Identity, list[Vm]] = defaultdict(list)  # who has moved to a host, and is there
        self.left_ms: dict[Identity, int] = {}  # when a VM left the host that the fleet puts it on
        self.moved_from: set[Identity] = set()  # hosts that a customer has moved a VM away from
        self.seed = seed
        self.horizon_ms = horizon_ms
        self.quorum = quorum
        self.log = Log()
        self.agenda: list[int] = []  # instants at which something may change
        self.under_way = list(under_way)  # impacts of campaigns that are not in this world
        self.living = {vm.vm for vm in vms if vm.created_ms is None}
        self.zoned = {vm.region for vm in vms if vm.zone is not None}
        self.gone: set[Identity] = set()
        self.slots: dict[tuple, list[int]] = defaultdict(list)  # (campaign, where) -> when those taken come back
        self.neighbours = defaultdict(set)
        for region, paired_region in edges:
            self.neighbours[region].add(paired_region)
            self.neighbours[paired_region].add(region)
        self.has_customers = any(
            each.self_service.uptake != "0" or each.self_service.requests is not None for each in campaigns
        )
        self.releases = [_release_of(campaign, place, vms) for place, campaign in enumerate(campaigns)]
        self.stages = [stage for release in self.releases for wave in release.waves for stage in wave]
        for campaign in campaigns:
            self.tick_at(campaign.start_ms)
        for vm in vms:
            for instant_ms in (vm.created_ms, vm.deleted_ms):
                if instant_ms is not None:
                    self.tick_at(instant_ms)
        for impact in under_way:
            self.tick_at(impact.end_ms)

    def tick_at(self, instant_ms: int) -> None:
        heapq.heappush(self.agenda, instant_ms)

    def run(self) -> Log:
        last_ms = None
        while self.agenda:
            now = heapq.heappop(self.agenda)
            if now != last_ms:
                self.tick(now)
                last_ms = now
        assert all(stage.over_ms is not None for stage in self.stages), "a stage never ran"
        for stage in self.stages:
            self.tell(stage)
        for release in self.releases:
            self.tell_applications(release.campaign)
        return self.log

    def tick(self, now: int) -> None:
        """One instant, in the order of semantics 2."""
        self.end_impacts_and_units(now)
        self.delete_vms(now)
        self.release_claims(now)
        self.close_windows(now)
        self.ask_again(now)
        self.create_vms(now)
        self.open_windows(now)
        self.settle(now)
        while self.release_a_wave(now) or self.try_a_stage(now):
            pass
        self.take_requests(now)
        self.start_units(now)

    # ---- Ends, deletions, creations

    def end_impacts_and_units(self, now: int) -> None:
        for impact in [impact for impact in self.under_way if impact.end_ms == now]:
            self.under_way.remove(impact)
            self.lets_start(impact, now)
        for stage in self.stages:
            for impact in stage.running[:]:
                if impact.end_ms == now and impact.is_move:
                    self.left_ms[impact.vm.vm] = now
                    self.moved_from.add(impact.vm.host)
                    self.end_impact(stage, impact, now, "updated_self_service", effects_of_a_move(impact.vm))
                    for unit in stage.units:
                        if impact.vm in unit.vms:
                            unit.vms.remove(impact.vm)
                elif impact.end_ms == now and self.fails(impact.vm, stage, impact.try_number):
                    self.try_failed(stage, impact, now)
                elif impact.end_ms == now:
                    outcome = "updated" if stage.campaign.windows is None else "updated_scheduled"
                    effects = EFFECTS.get(stage.campaign.what_hits(impact.vm), effects_of_a_move(impact.vm))
                    self.end_impact(stage, impact, now, outcome, effects)
            for unit in stage.units:
                if unit.end_ms == now:
                    unit.is_done = True
                    for claims in unit.held:
                        claims.holder_count -= 1
                        if claims.holder_count == 0:
                            claims.release_ms = now + stage.campaign.update_domain_gap_ms
                            self.tick_at(claims.release_ms)

    def end_impact(self, stage: Stage, impact: Running, now: int, outcome: str, effects: int) -> None:
        stage.running.remove(impact)
        if impact.is_move:
            self.lets_start(impact, now)
        vm, length_ms = impact.vm.vm, now - impact.start_ms
        kind = stage.campaign.what_hits(impact.vm)
        phase = "platform" if stage.campaign.windows is None else "scheduled"
        if impact.is_move:
            kind, phase = "redeploy", "self_service"
        if length_ms:  # else the VM is gone when it would have been tried again
            self.note(stage, vm, impact.start_ms, length_ms, phase, kind, "completed", effects, impact.host_to)
        self.give(stage, impact.vm, outcome)

    def try_failed(self, stage: Stage, impact: Running, now: int) -> None:
        """The VM was down for nothing, and did not move; it is tried again at once if it may be (semantics 33)."""
        stage.running.remove(impact)
        what = "scheduled", stage.campaign.kind, "aborted", MEMORY_LOST
        self.note(stage, impact.vm.vm, impact.start_ms, now - impact.start_ms, *what)
        number = impact.try_number + 1
        if self.may_try(stage, number, now - impact.first_ms):
            self.start_try(stage, impact.vm, now, number, impact.first_ms)
        else:
            self.give(stage, impact.vm, "failed")

    def lets_start(self, impact: Running, now: int) -> None:
        """Units that hit its VM as well have waited for it until *now*, and not for one another (semantics 29)."""
        for unit in itertools.chain(*(stage.units for stage in self.stages if stage.is_at_work())):
            if unit.start_ms is None and any(vm is impact.vm for vm in unit.vms):
                unit.earliest_ms = max(unit.earliest_ms, now)

    def note(
        self,
        stage: Stage,
        vm: Identity,
        start_ms: int,
        length_ms: int,
        phase: str,
        kind: str,
        result: str,
        effects: int,
        host_to: Identity | None = None,
    ) -> None:
        name, what = stage.campaign.name, (phase, kind, result, stage.iteration, effects, host_to)
        stage.events.append(Event(name, vm, start_ms, length_ms, *what))

    def give(self, stage: Stage, vm: Vm, outcome: str, **more) -> None:
        assert vm.vm not in stage.outcomes, "one outcome a VM, campaign and iteration"
        events = [event for event in stage.events if event.vm == vm.vm]
        more |= {"event_count": len(events), "iteration": stage.iteration}
        for event in events:
            lost = "paused_ms" if event.kind == "freeze" else "down_ms"
            more[lost] = more.get(lost, 0) + event.duration_ms
            more["effects"] = more.get("effects", 0) | event.effects
        stage.outcomes[vm.vm] = Outcome(stage.campaign.name, vm.vm, outcome=outcome, **more)

    def delete_vms(self, now: int) -> None:
        """Whoever is paused is so no longer; whoever waits is not waited for any more (semantics 6, 8)."""
        for gone in (vm for vm in self.vms if vm.deleted_ms == now):
            self.living.remove(gone.vm)
            self.gone.add(gone.vm)
            self.left_ms.setdefault(gone.vm, now)
            for guests in self.guests.values():
                if gone in guests:
                    guests.remove(gone)
            for impact in [impact for impact in self.under_way if impact.vm is gone]:
                self.under_way.remove(impact)
                self.lets_start(impact, now)
            for stage in self.stages:
                for impact in [impact for impact in stage.running if impact.vm is gone]:
                    self.end_impact(stage, impact, now, "deleted", 0)
                for unit in stage.units:
                    if unit.start_ms is None and gone in unit.vms:
                        unit.vms.remove(gone)
                        if gone.vm not in stage.outcomes:  # as it would, had its move ended so
                            self.give(stage, gone, "deleted")

    def create_vms(self, now: int) -> None:
        """Who is created on a host that waits is one of those it hits; on one that is done, updated already."""
        created = [vm for vm in self.vms if vm.created_ms == now]
        self.living |= {vm.vm for vm in created}
        for stage in self.stages:
            for unit in stage.units:
                for vm in [vm for vm in unit.to_come if vm in created]:
                    unit.to_come.remove(vm)
                    if unit.start_ms is None and not unit.is_done:
                        unit.vms.append(vm)
                    else:
                        has_failed = unit.start_ms is not None and self.ends_failed(vm, stage)
                        self.give(stage, vm, "failed" if has_failed else "already_updated")

    def settle(self, now: int) -> None:
        """Units whose turn has come and that have nobody left to hit are done (semantics 10), then stages."""
        for stage in self.stages:
            if not stage.is_at_work():
                continue
            while empty := [unit for unit in stage.units if unit.is_awaited(now) and not unit.vms]:
                for unit in empty:
                    unit.is_done = True
            self.end_if_done(stage, now)

    def end_if_done(self, stage: Stage, now: int) -> None:
        """The last unit has ended: the region is free, whatever gap its sets still keep (semantics 22)."""
        if all(unit.is_done for unit in stage.units) and stage.window is None:
            self.free(stage, now)

    def free(self, stage: Stage, now: int) -> None:
        stage.end_ms = now
        for other in self.stages:
            self.tick_at(now + self.lag_ms(stage, other))
        self.is_over(stage, now)

    def is_over(self, stage: Stage, now: int) -> None:
        """From here on the wave of *stage* waits for it no longer."""
        stage.over_ms = now
        self.tick_at(now + stage.campaign.bake_ms)

    def release_claims(self, now: int) -> None:
        for stage in self.stages:
            for claims in stage.claims.values():
                if claims.release_ms == now and claims.holder_count == 0:
                    claims.domain = claims.release_ms = None

    # ---- Windows

    def announce(self, stage: Stage, now: int) -> None:
        """Its scheduled window, which never moves: the first that overlaps no work known so far (semantics 25, 28)."""
        windows, busy = stage.campaign.windows, []
        for other in self.stages:
            lag_ms = self.lag_ms(stage, other)
            if not self.bar(stage, other):
                continue
            if other.window is not None:
                busy.append((other.window[0] - lag_ms, other.window[1] + lag_ms))
            elif other.start_ms is not None:
                end_ms = self.free_ms_if_started(other, other.start_ms) if other.end_ms is None else other.end_ms
                busy.append((other.start_ms - lag_ms, end_ms + lag_ms))
        first_ms = now + windows.lead_ms
        opens_ms = min(
            opens_ms
            for opens_ms in [first_ms, *(to_ms for _, to_ms in busy)]
            if opens_ms >= first_ms
            and not any(opens_ms < to_ms and from_ms < opens_ms + windows.scheduled_ms for from_ms, to_ms in busy)
        )
        closes_ms = opens_ms + windows.scheduled_ms
        if self.horizon_ms is not None and closes_ms > self.horizon_ms:
            self.leave_out(stage, now, "overdue", "no_room_in_calendar")
            return
        stage.window = (opens_ms, closes_ms)
        self.tick_at(closes_ms)
        self.expect_requests(stage)
        if opens_ms == now:
            self.start_stage(stage, now)
        else:
            self.tick_at(opens_ms)

    def windows_of(self, stage: Stage) -> tuple[int, int, int, int, int] | None:
        if stage.window is None:
            return None
        windows, (opens_ms, closes_ms) = stage.campaign.windows, stage.window
        until_ms = opens_ms - windows.gap_ms
        return opens_ms - windows.lead_ms, until_ms - windows.self_service_ms, until_ms, opens_ms, closes_ms

    def windows_to_come(self, stage: Stage, now: int) -> list[tuple[int, int]]:
        """When those announced that bar *stage* open, and the lag before each."""
        return [
            (other.window[0], self.lag_ms(stage, other))
            for other in self.stages
            if other.window is not None and other.window[0] > now and self.bar(stage, other)
        ]

    def open_windows(self, now: int) -> None:
        for stage in self.stages:
            if stage.window is not None and stage.window[0] == now:
                self.start_stage(stage, now)

    def close_windows(self, now: int) -> None:
        """Whoever still waits is overdue; the region is free, whatever was done in the window (semantics 22, 33)."""
        for stage in self.stages:
            if stage.window is not None and stage.window[1] == now:
                for unit in stage.units:
                    if not unit.is_done:
                        self.is_overdue(unit, stage)
                self.free(stage, now)
                self.send_back(stage, now)

    def send_back(self, stage: Stage, now: int) -> None:
        """Whoever was not updated gets a schedule of its own, until there were enough of them (semantics 35)."""
        ends = {vm: outcome.outcome for vm, outcome in stage.outcomes.items()}
        left = [vm for vm in stage.scope if ends.get(vm.vm) in ("skipped", "overdue", "failed")]
        number = stage.iteration + 1
        if left and number <= stage.campaign.iterations_max:
            order = (stage.order[0], number, *stage.order[2:])
            again = Stage(stage.campaign, stage.region, stage.wave, order, left, iteration=number)
            again.returns_ms = now + stage.campaign.reschedule_delay_ms
            self.stages.append(again)
            self.tick_at(again.returns_ms)

    def ask_again(self, now: int) -> None:
        for stage in self.stages:
            if stage.returns_ms == now:
                stage.asked_ms = now

    def is_overdue(self, unit: Unit, stage: Stage) -> None:
        """Whoever is, or will be, there shares its fate (semantics 7)."""
        unit.is_done = True
        for vm in [*unit.vms, *unit.to_come]:
            if not stage.moves(vm):
                self.give(stage, vm, "overdue", reason="no_room_in_window")
        unit.vms, unit.to_come = [], []

    # ---- Customers

    def expect_requests(self, stage: Stage) -> None:
        """When the customers of *stage* will ask (semantics 32)."""
        asked, (_, opens_ms, closes_ms, _, _) = stage.campaign.self_service, self.windows_of(stage)
        for vm in stage.scope:
            if asked.requests is not None:
                moments_ms = [at_ms for each, at_ms in asked.requests if each == vm.vm]
            else:
                own = vm.vm if vm.set is None or asked.by == "vm" else vm.set
                whose = vm.subscription if asked.by == "subscription" and vm.subscription is not None else own
                acts = is_below(self.drawn(stage, whose, UPTAKE), asked.uptake)
                draw = self.drawn(stage, own, TIMING)
                moments_ms = []
                if acts and opens_ms < closes_ms:
                    moments_ms = [asked.moment_ms(draw, vm.region, opens_ms, closes_ms)]
            for at_ms in moments_ms:
                self.expect(stage, Request(vm, at_ms))

    def expect(self, stage: Stage, request: Request) -> None:
        """Note a request that is made while the window is open; no other is (R8)."""
        _, opens_ms, closes_ms, _, _ = self.windows_of(stage)
        if opens_ms <= request.at_ms < closes_ms:
            stage.requests.append(request)
            self.tick_at(request.at_ms)

    def take_requests(self, now: int) -> None:
        due = [(request, stage) for stage in self.stages for request in stage.requests if request.at_ms == now]
        # By VM, and of those for one VM by the campaign's place in the file.
        for request, stage in sorted(due, key=lambda each: (rank(each[0].vm.vm), each[1].order[0])):
            if request.vm.vm in self.living and request.vm.vm not in stage.outcomes and not stage.moves(request.vm):
                self.take(request, stage, now)

    def take(self, request: Request, stage: Stage, now: int) -> None:
        """Refuse it, let it fail, or move the VM to a host that is updated already (semantics 29-31)."""
        campaign, vm = stage.campaign, request.vm
        asked = campaign.self_service
        asks_again = replace(request, at_ms=now + DAY_MS)
        taken = self.slots[campaign.name, vm.region, vm.cluster]
        if vm.host is None:
            base = sum((each.region, each.cluster) == (vm.region, vm.cluster) for each in self.vms)
            has_room = sum(until_ms > now for until_ms in taken) < math.floor(Fraction(asked.spare) * base)
        else:
            host_to = self.host_with_room(vm, campaign, now)
            has_room = host_to is not None
        if self.is_barred(vm, now) or not has_room:
            self.note(stage, vm.vm, now, 0, "self_service", "redeploy", "retry_later", 0)
            asks_again.refusal_count += 1
            if asks_again.refusal_count <= REFUSALS_MAX and asked.requests is None:
                self.expect(stage, asks_again)
        elif is_below(self.drawn(stage, vm.vm, FAILURE, self.failure_count(stage, vm)), asked.failure):
            self.note(stage, vm.vm, now, 0, "self_service", "redeploy", "aborted", 0)
            if not asked.retries:
                self.give(stage, vm, "skipped")
            elif asked.requests is None:
                self.expect(stage, asks_again)
        else:
            end_ms = now + length_at(campaign.quantiles_of(vm), self.drawn(stage, vm.vm, LENGTH))
            self.tick_at(end_ms)
            taken.append(end_ms + asked.recycle_ms)
            if vm.host is not None:
                self.guests[host_to].append(vm)
            stage.running.append(Running(vm, now, end_ms, True, None if vm.host is None else host_to))

    def failure_count(self, stage: Stage, vm: Vm) -> int:
        """How often its customer has tried in vain, whether by a plan or asking again: each attempt draws anew."""
        failed = [event for event in stage.events if (event.phase, event.result) == ("self_service", "aborted")]
        return sum(event.vm == vm.vm for event in failed)

    def host_with_room(self, vm: Vm, campaign: Campaign, now: int) -> Identity | None:
        """The first host of its cluster by key that is updated already, and fits one VM more (semantics 31)."""
        own = self.hosts[vm.host]
        near = [host for host in self.hosts.values() if (host.region, host.cluster) == (own.region, own.cluster)]
        for host in sorted(near, key=lambda host: rank(host.host)):
            is_open = host.is_spare or self.is_updated(host.host, campaign, now)
            if is_open and host.has_room([*self.guests[host.host], vm]):
                return host.host
        return None

    def is_updated(self, host: Identity, campaign: Campaign, now: int) -> bool:
        """Whether customers' moves have emptied *host*, and it was updated since; one given up for good never is."""
        left_ms = [self.left_ms.get(vm.vm) for vm in self.vms if vm.host == host]
        if host not in self.moved_from or None in left_ms or campaign.kind == "redeploy":
            return False
        return max(left_ms) + campaign.self_service.recycle_ms <= now

    def is_barred(self, vm: Vm, now: int) -> bool:
        """Whether *vm* has an impact, or waits for a stage at work."""
        at_work = [stage for stage in self.stages if stage.is_at_work() and vm in stage.scope]
        return self.has_impact(vm) or any(vm.vm not in stage.outcomes for stage in at_work)

    def has_impact(self, vm: Vm) -> bool:
        """Whether something goes on with *vm*, of any campaign."""
        return any(impact.vm is vm for impact in self.impacts())

    def impacts(self) -> list[Running]:
        return [*self.under_way, *(impact for stage in self.stages for impact in stage.running)]

    # ---- Waves and stages

    def release_a_wave(self, now: int) -> bool:
        """Ask for the stages of the first wave whose time has come; say whether there was one (semantics 26)."""
        for release in self.releases:
            if release.released_count == len(release.waves) or self.release_ms(release) != now:
                continue
            for stage in release.waves[release.released_count]:
                stage.asked_ms = now
            release.released_count += 1
            release.released_ms = now
            self.tick_at(now + release.campaign.bake_ms)  # an empty wave is over when released
            return True
        return False

    def release_ms(self, release: Release) -> int | None:
        """When the next wave may go: None while one of the last is not over."""
        if release.released_ms is None:
            return release.campaign.start_ms
        overs_ms = [stage.over_ms for stage in release.waves[release.released_count - 1]]
        if None in overs_ms:
            return None
        return max([release.released_ms, *overs_ms]) + release.campaign.bake_ms

    def try_a_stage(self, now: int) -> bool:
        """Change something about the first waiting stage that can be changed; say whether there was one."""
        waiting = [stage for stage in self.stages if stage.is_waiting()]
        for stage in sorted(waiting, key=lambda stage: (stage.asked_ms, *stage.order)):
            if not stage.is_judged:
                stage.is_judged = True
                if not self.within_reach(stage):
                    self.leave_out(stage, now, "already_updated", "none")
                    return True
            if stage.campaign.windows is not None:
                self.announce(stage, now)
                return True
            if self.may_start(stage, now):
                stage.under_way = self.impacts()
                windows = self.windows_to_come(stage, now)
                free_ms = now if self.horizon_ms is None and not windows else self.free_ms_if_started(stage, now)
                if self.horizon_ms is not None and free_ms > self.horizon_ms:
                    self.leave_out(stage, now, "overdue", "no_room_in_calendar")
                elif any(free_ms + lag_ms > opens_ms for opens_ms, lag_ms in windows):
                    continue
                else:
                    self.start_stage(stage, now)
                return True
        return False

    def within_reach(self, stage: Stage) -> list[Vm]:
        """Whom *stage* could hit now."""
        if stage.campaign.kind == "no_impact":
            return []
        return [
            vm
            for vm in stage.scope
            if vm.vm in self.living and vm.vm not in stage.outcomes and self.can_freeze(stage, vm)
        ]

    def can_freeze(self, stage: Stage, vm: Vm) -> bool:
        """Whether *vm* is not left alone, or its whole host as it is now, for want of memory kept (semantics 9)."""
        beside = [] if vm.host is None else [each for each in stage.scope if each.host == vm.host]
        there = [each for each in beside if each.vm in self.living]
        return not any(stage.campaign.is_left_alone(each) for each in [vm, *there])

    def leave_out(self, stage: Stage, now: int, outcome: str, reason: str) -> None:
        """End *stage* without a start; *outcome* is for those who would have been, or would still be, hit."""
        for vm in stage.scope:
            if vm.vm in self.gone:
                self.give(stage, vm, "deleted")
            elif vm.vm not in self.living or not self.is_unaffected(stage, vm):
                self.give(stage, vm, outcome, reason=reason)
        self.is_over(stage, now)

    def is_unaffected(self, stage: Stage, vm: Vm) -> bool:
        """Whether the campaign leaves *vm* alone; if so, say it."""
        if stage.campaign.kind == "no_impact":
            self.give(stage, vm, "unaffected", reason="no_impact")
        elif not self.can_freeze(stage, vm):
            self.give(stage, vm, "unaffected", reason="cannot_freeze")
        return vm.vm in stage.outcomes

    def start_stage(self, stage: Stage, now: int) -> None:
        stage.start_ms = now
        self.leave_hosts_out(stage)
        stage.in_reach = self.within_reach(stage)
        for vm in stage.scope:
            if vm.vm in stage.outcomes:
                continue  # by its customer
            if vm.vm in self.gone:
                self.give(stage, vm, "deleted")
            elif vm.vm in self.living:
                self.is_unaffected(stage, vm)
            elif vm.host is None or not stage.in_reach:  # with nobody to hit it is over at once
                self.give(stage, vm, "already_updated")
            elif not self.is_unaffected(stage, vm):  # it shares its host's fate (semantics 7)
                stage.to_come.append(vm)
        stage.units = self.units_of(stage)
        for unit in stage.units:
            unit.reach = tuple(vm for vm in (*unit.vms, *unit.to_come) if not stage.moves(vm))
            unit.in_zones_before = [each for each in stage.units if each.zone < unit.zone]
            self.tick_at(unit.earliest_ms)
        self.end_if_done(stage, now)

    def leave_hosts_out(self, stage: Stage) -> None:
        """Hosts of those whose customers failed are not updated, and whoever is on them neither (semantics 34)."""
        skipped = {
            vm.host
            for vm in stage.scope
            if vm.host is not None and vm.vm in stage.outcomes and stage.outcomes[vm.vm].outcome == "skipped"
        }
        for vm in stage.scope:
            is_settled = vm.vm in stage.outcomes or vm.vm in self.gone or stage.moves(vm)
            if vm.host in skipped and not is_settled:
                self.give(stage, vm, "skipped", reason="host_left_out")

    def may_start(self, stage: Stage, now: int) -> bool:
        """Nobody is at work here or next door, and next door has been quiet for the lag (semantics 23)."""
        barring = [other for other in self.stages if self.bar(stage, other)]
        is_free = not any(other.is_at_work() for other in barring)
        ends_ms = [other.end_ms + self.lag_ms(stage, other) for other in barring if other.end_ms is not None]
        # Between these instants nothing changes for it, but who is deleted: it is not looked at (semantics 25).
        return is_free and max(ends_ms, default=0) <= now and now in (stage.asked_ms, *ends_ms)

    def bar(self, stage: Stage, other: Stage) -> bool:
        """Whether the two are never at work together."""
        if stage.region == other.region:
            return True
        do_exclude = stage.campaign.excludes_pairs() and other.campaign.excludes_pairs()
        return do_exclude and other.region in self.neighbours[stage.region]

    def lag_ms(self, stage: Stage, other: Stage) -> int:
        if stage.region == other.region:
            return 0
        return max(stage.campaign.pair_lag_ms, other.campaign.pair_lag_ms)

    def free_ms_if_started(self, stage: Stage, now: int) -> int:
        """When the region would be free: the stage is run alone in the world, asked for now (semantics 25).

        What customers have started by now, in other campaigns, goes on in that world; nothing begins that it waits for.
        """
        alone = replace(stage.campaign, start_ms=now, regions=(stage.region,), waves=None)
        trial = _Simulation(self.vms, [alone], (), self.seed, under_way=stage.under_way, hosts=self.hosts.values())
        trial.run()
        return trial.stages[0].over_ms

    # ---- Units

    def start_units(self, now: int) -> None:
        """One pass in priority order is enough: a start only adds claims (semantics 18)."""
        waiting = [(unit, stage) for stage in self.stages if stage.is_at_work() for unit in stage.units]
        hit = {impact.vm.vm for impact in self.impacts()}
        for unit, stage in sorted(waiting, key=lambda pair: (pair[1].region, pair[0].priority())):
            if unit.is_awaited(now) and not unit.vms:
                unit.is_done = True  # a host whose turn a start has brought
            elif unit.start_ms is None and any(vm.vm in hit for vm in unit.vms):
                continue  # it waits for the end of what a customer has started (semantics 29)
            elif unit.may_start(now) and self.has_room(unit, stage, now):
                if stage.window is not None and now + self.held_ms(unit, stage) > stage.window[1]:
                    # Without hosts none of the same walk passes it (semantics 33).
                    after = [each for each in stage.units if unit in each.before and unit.walker[0] != "host"]
                    for each in [unit, *after]:
                        self.is_overdue(each, stage)
                else:
                    self.start_unit(unit, stage, now)

    def has_room(self, unit: Unit, stage: Stage, now: int) -> bool:
        """Whether caps have room for the VMs that *unit* hits; one larger needs it empty (semantics 21)."""
        at_work = [each for each in stage.units if each.start_ms is not None and not each.is_done]
        for cap in stage.campaign.caps:
            asked, base = cap.count(unit.vms), cap.count(self.vms)
            used = sum((cap.count(each.vms) for each in at_work), Counter())
            for group in asked.keys() - {None}:
                if used[group] and used[group] + asked[group] > cap.limit(base[group]):
                    return False
        return True

    def start_unit(self, unit: Unit, stage: Stage, now: int) -> None:
        """Freeze its VMs together, each for its own length; the unit is held for `work` or the longest."""
        assert unit.vms, "a unit with nobody to hit is done, and never starts"
        if now > unit.earliest_ms:
            self.note_wait(unit, stage, now)
        unit.start_ms = now
        unit.end_ms = now + self.held_ms(unit, stage)
        for vm in unit.vms:
            self.start_try(stage, vm, now, 0, now)
        self.tick_at(unit.end_ms)
        for claims, domain in unit.claims().items():
            claims.domain, claims.release_ms = domain, None
            claims.holder_count += 1
            unit.held[claims] = domain

    def length_ms(self, vm: Vm, stage: Stage, number: int = 0) -> int:
        drawn_for = vm.vm if vm.host is None else vm.host
        length_ms = length_at(stage.campaign.quantiles_of(vm), self.drawn(stage, drawn_for, LENGTH, number))
        assert length_ms >= 1, "every length is at least 1 ms"
        return length_ms

    def start_try(self, stage: Stage, vm: Vm, now: int, number: int, first_ms: int) -> None:
        end_ms = now + self.length_ms(vm, stage, number)
        stage.running.append(Running(vm, now, end_ms, try_number=number, first_ms=first_ms))
        self.tick_at(end_ms)

    def fails(self, vm: Vm, stage: Stage, number: int) -> bool:
        """Whether the platform's try of that *number* fails; outside of windows none does."""
        if stage.campaign.windows is None:
            return False
        drawn_for = vm.vm if vm.host is None else vm.host
        return is_below(self.drawn(stage, drawn_for, TRY, number), stage.campaign.try_failure)

    def may_try(self, stage: Stage, number: int, since_ms: int) -> bool:
        """Whether a try of that *number* may begin, so long after the unit's start."""
        return number < TRIES_MAX and since_ms <= stage.campaign.retry_timeout_ms

    def tries_ms(self, vm: Vm, stage: Stage) -> int:
        """How long *vm* would be down, all its tries in: the platform knows (semantics 33)."""
        return self.last_try(vm, stage)[1]

    def ends_failed(self, vm: Vm, stage: Stage) -> bool:
        """Whether the last try of *vm*, or of the host it comes to, is one that fails."""
        return self.fails(vm, stage, self.last_try(vm, stage)[0])

    def last_try(self, vm: Vm, stage: Stage) -> tuple[int, int]:
        """The number of the last try of *vm*, and how long all of them take."""
        number, sum_ms = 0, self.length_ms(vm, stage)
        while self.fails(vm, stage, number) and self.may_try(stage, number + 1, sum_ms):
            number += 1
            sum_ms += self.length_ms(vm, stage, number)
        return number, sum_ms

    def held_ms(self, unit: Unit, stage: Stage) -> int:
        return max([stage.campaign.work_ms, *(self.tries_ms(vm, stage) for vm in unit.vms)])

    def note_wait(self, unit: Unit, stage: Stage, now: int) -> None:
        """Whose end let *unit* start: of a zone, of another domain of a set it claims, or under a cap of its own."""
        gap_ms = stage.campaign.update_domain_gap_ms
        wanted = unit.claims()
        if opened := [each for each in unit.in_zones_before if each.start_ms is not None and each.end_ms == now]:
            unit.waited_for, unit.waited = "zone", opened
            return
        for other in stage.units:
            common = other.held.keys() & wanted.keys() if other.end_ms == now - gap_ms else ()
            if any(other.held[each] != wanted[each] or isinstance(wanted[each], Whole) for each in common):
                unit.waited_for = "gap" if gap_ms else "claim"
                unit.waited.append(other)
        groups = [{cap.group(vm) for vm in unit.vms} - {None} for cap in stage.campaign.caps]
        for other in stage.units if unit.waited_for is None else ():
            met = [{cap.group(vm) for vm in other.vms} for cap in stage.campaign.caps]
            if other.end_ms == now and any(mine & its for mine, its in zip(groups, met, strict=True)):
                unit.waited_for = "cap"
                unit.waited.append(other)

    def units_of(self, stage: Stage) -> list[Unit]:
        """The sets, each a walk over its populated domains, and the singles, each after its own wait."""
        campaign = stage.campaign
        if any(vm.host is not None for vm in stage.scope):
            return self.hosts_of(stage)
        units, walkers = [], defaultdict(lambda: defaultdict(list))
        for vm in stage.in_reach:
            walkers[campaign.walker(vm)][campaign.walked_domain(vm)].append(vm)
        for walker, domains in walkers.items():
            kind, identity = walker
            if kind == "single":
                ((_, vms),) = domains.items()
                wait_ms = self.wait_ms(stage, identity, SINGLE_SPREAD)
                # Anywhere in the window that it ends in (semantics 27), unless other zones wait for it.
                if campaign.windows is not None and not (campaign.one_zone_at_a_time and stage.region in self.zoned):
                    held_ms = max(campaign.work_ms, *(self.tries_ms(vm, stage) for vm in vms))
                    room_ms = max(0, campaign.windows.scheduled_ms - held_ms)
                    wait_ms = integer_below(room_ms + 1, self.drawn(stage, identity, SINGLE_SPREAD))
                earliest_ms, draw = stage.start_ms + wait_ms, self.draw(stage, identity)
                of_single = (lambda _vm: None, campaign.walked_domain, campaign.zone(vms[0]))
                units.append(Unit(vms, walker, earliest_ms, 0, draw, *of_single))
                continue
            claims, earliest_ms = stage.claims[walker], stage.start_ms + self.wait_ms(stage, identity, SET_SPREAD)
            walk: list[Unit] = []
            for domain in self.domain_order(stage, identity, domains):
                asked = (len(walk), self.draw(stage, identity), lambda _vm, claims=claims: claims)
                of_domain = (campaign.walked_domain, domain.zone, list(walk))
                walk.append(Unit(domains[domain], walker, earliest_ms, *asked, *of_domain))
            units += walk
        return units

    def hosts_of(self, stage: Stage) -> list[Unit]:
        """The hosts, each after its own wait; where `auto` finds them aligned, in turn by their domain."""
        campaign = stage.campaign
        on_host, there = defaultdict(list), defaultdict(list)
        for vm in [*stage.in_reach, *stage.to_come]:
            on_host[vm.host].append(vm)
        for vm in self.vms:
            if vm.host in on_host and vm.set is not None:
                there[vm.host].append(vm)
        positions = self.positions_of(stage, on_host, there)
        units = []
        for host, vms in on_host.items():
            earliest_ms = stage.start_ms + self.wait_ms(stage, host, HOST_SPREAD)
            asked = (positions[host], self.draw(stage, host))
            claims_of = lambda vm: None if vm.set is None else stage.claims[vm.set]  # noqa: E731
            of_host = (claims_of, campaign.walked_domain, campaign.zone(vms[0]))
            units.append(Unit(vms, ("host", host), earliest_ms, *asked, *of_host))
        if campaign.host_order == "auto":
            sets = {unit: {vm.set for vm in unit.vms} - {None} for unit in units}
            for unit in units:
                unit.before = [each for each in units if each.position < unit.position and sets[each] & sets[unit]]
        for unit in units:
            unit.to_come = [vm for vm in unit.vms if vm in stage.to_come]
            unit.vms = [vm for vm in unit.vms if vm not in stage.to_come]
        return units

    def positions_of(
        self, stage: Stage, on_host: Mapping[Identity, list[Vm]], there: Mapping[Identity, list[Vm]]
    ) -> dict[Identity, int]:
        """The position, or key, of each host by `host_order` (semantics 19)."""
        campaign = stage.campaign
        if campaign.host_order == "most_vms_first":
            return {host: -len(vms) for host, vms in on_host.items()}
        if campaign.host_order == "fewest_claims_first":
            return {host: len({vm.set for vm in vms} - {None}) for host, vms in on_host.items()}
        if campaign.host_order == "rack" or campaign.host_order.startswith("column:"):
            name = campaign.host_order.removeprefix("column:")
            values = {host: [vm.column(name) for vm in self.vms if vm.host == host] for host in on_host}
            known = sorted({value for of_host in values.values() for value in of_host} - {None}, key=by_value)
            return {
                host: min((known.index(value) for value in of_host if value is not None), default=len(known))
                for host, of_host in values.items()
            }
        positions = dict.fromkeys(on_host, 0)
        if campaign.host_order == "random":
            return positions
        assert campaign.host_order == "auto"
        hosts_of = defaultdict(set)
        for host, vms in there.items():
            for vm in vms:
                hosts_of[vm.set].add(host)
        left = set(hosts_of)
        while left:
            component, reached = set(), [min(left, key=rank)]
            first = reached[0]
            while reached:
                if (found := reached.pop()) not in component:
                    component.add(found)
                    reached += [vm.set for host in hosts_of[found] for vm in there[host]]
            left -= component
            hosts = set().union(*(hosts_of[each] for each in component))
            domains = {host: {campaign.walked_domain(vm) for vm in there[host]} for host in hosts}
            if all(len(found) == 1 for found in domains.values()):
                ordered = self.drawn_order(stage, first, set().union(*domains.values()))
                positions |= {host: ordered.index(min(found)) for host, found in domains.items()}
        return positions

    def drawn(self, stage: Stage, identity: Identity, stream: int, number: int = 0) -> int:
        return draw64(self.seed, stage.campaign.name, identity, stream, number, stage.iteration)

    def draw(self, stage: Stage, identity: Identity) -> int:
        """What orders the units of one place in their walks (semantics 18)."""
        return self.drawn(stage, identity, START_PRIORITY)

    def wait_ms(self, stage: Stage, identity: Identity, stream: int) -> int:
        """A wait in [0, spread) from the stage's start (semantics 27)."""
        return integer_below(stage.campaign.spread_ms, self.drawn(stage, identity, stream))

    def domain_order(self, stage: Stage, identity: Identity, domains: Mapping[Domain, list[Vm]]) -> list[Domain]:
        """The populated domains of a walker in the order of its walk: zone by zone."""
        order = stage.campaign.update_domain_order
        if order == "sequential":
            return sorted(domains)
        if order == "largest_first":
            return sorted(domains, key=lambda domain: (domain.zone, -len(domains[domain]), domain))
        assert order == "random"
        return self.drawn_order(stage, identity, domains)

    def drawn_order(self, stage: Stage, identity: Identity, domains: Iterable[Domain]) -> list[Domain]:
        def place(domain: Domain) -> tuple:
            return domain.zone, self.drawn(stage, identity, UPDATE_DOMAIN_ORDER, domain.number), domain

        return sorted(domains, key=place)

    # ---- What is told in the end

    def tell(self, stage: Stage) -> None:
        assert stage.outcomes.keys() == {vm.vm for vm in stage.scope}, "everybody in scope has an outcome"
        assert not stage.running
        campaign, region = stage.campaign, stage.region
        hit = [unit for unit in stage.units if unit.start_ms is not None]
        self.log.events += stage.events
        self.log.outcomes += stage.outcomes.values()
        self.log.stages.append(
            StageSpan(
                campaign.name,
                region,
                asked_ms=stage.asked_ms,
                start_ms=stage.start_ms,
                first_start_ms=min((unit.start_ms for unit in hit), default=None),
                last_end_ms=max((unit.end_ms for unit in hit), default=None),
                free_ms=stage.end_ms,
                counts=dict(Counter(outcome.outcome for outcome in stage.outcomes.values())),
                wave=stage.wave,
                iteration=stage.iteration,
                windows=self.windows_of(stage),
            )
        )
        walks = defaultdict(list)
        for unit in hit:
            walks[unit.walker].append(unit)
        for walker, units in walks.items():
            first_ms, held_ms = units[0].earliest_ms, sum(unit.end_ms - unit.start_ms for unit in units)
            end_ms, gap_ms = max(unit.end_ms for unit in units), (len(units) - 1) * campaign.update_domain_gap_ms
            if self.has_customers and not campaign.caps:  # it may have waited for what customers had started
                first_ms = min(unit.start_ms for unit in units)
                gap_ms = end_ms - first_ms - held_ms
            self.log.walks.append(
                Walk(
                    campaign.name,
                    region,
                    vms=tuple(vm for vm in [*stage.in_reach, *stage.to_come] if campaign.walker(vm) == walker),
                    wait_ms=first_ms - stage.start_ms,
                    end_ms=end_ms,
                    held_ms=held_ms,
                    gap_ms=gap_ms,
                    unit_count=len(units),
                    iteration=stage.iteration,
                )
            )
        told: dict[int, Step] = {}
        for unit in sorted(hit, key=lambda unit: unit.start_ms):
            waited = tuple(told[id(other)] for other in unit.waited)
            when = unit.earliest_ms, unit.start_ms, unit.end_ms
            which = unit.domain_of(unit.reach[0]), stage.iteration
            told[id(unit)] = Step(campaign.name, region, unit.reach, *when, unit.waited_for, waited, *which)
        self.log.steps += told.values()
        self.tell_figures(stage)

    def tell_figures(self, stage: Stage) -> None:
        """The figures of contract and schema that are about sets and time (rules R34, R38, R74, R76)."""
        campaign, region, of = stage.campaign, stage.region, (stage.campaign.name, stage.iteration, stage.region)
        vm_of = {vm.vm: vm for vm in stage.scope}
        sets = defaultdict(list)
        for vm in self.vms:
            if vm.region == region and vm.set is not None:
                sets[vm.set].append(vm)
        reached = {vm.set for vm in stage.in_reach if vm.set is not None}
        without_guarantee = {}
        for set_id in reached:
            domains = [campaign.walked_domain(vm) for vm in sets[set_id] if vm.lives(stage.start_ms)]
            shared = {(vm.host, campaign.walked_domain(vm)) for vm in sets[set_id] if vm.lives(stage.start_ms)}
            hosts = [host for host, _ in shared if host is not None]
            if len(set(domains)) == 1:
                without_guarantee[set_id] = "one_vm" if len(domains) == 1 else "one_domain"
            elif len(set(hosts)) < len(hosts):
                without_guarantee[set_id] = "shared_host"
        self.log.no_guarantee |= {(region, set_id, reason) for set_id, reason in without_guarantee.items()}
        quorum = self.quorum if self.quorum is not None and self.quorum.by == "set" else None
        impacts = [event for event in stage.events if event.duration_ms]
        met = reached | {vm_of[event.vm].set for event in impacts} - {None}
        outages = {set_id: outage(sets[set_id], impacts, quorum) for set_id in met}
        by_platform = [event for event in impacts if event.phase != "self_service"]
        promised = {set_id: outage(sets[set_id], by_platform) for set_id in reached - without_guarantee.keys()}
        walks = [walk for walk in self.log.walks if walk.stage == of]
        last = {event.vm: event for event in sorted(impacts, key=lambda event: event.end_ms)}
        figures = self.log.figures[of] = {
            "vm_hit_count": len(last),
            "unavailable_ms": sum(event.duration_ms for event in impacts),
            "pending_vm_ms": sum(
                event.end_ms - max(campaign.start_ms, _or_default_ms(vm_of[vm].created_ms, campaign.start_ms))
                for vm, event in last.items()
                if event.result != "aborted"
            ),
            "set_count": len(reached),
            "single_count": sum(vm.set is None for vm in stage.in_reach),
            "no_guarantee_count": len(without_guarantee),
            "set_out_ms": sum(found.out_ms for found in outages.values()),
            "set_down_ratio_max": max((found.ratio_max for found in promised.values()), default=Fraction(0)),
        }
        if walks:
            gap_ms = campaign.update_domain_gap_ms
            figures["longest_ms"] = max(walk.held_ms + (walk.unit_count - 1) * gap_ms for walk in walks)
            figures["longest_ms"] = max(figures["longest_ms"], self.longest_set_ms(stage))
        if quorum is not None:
            figures["quorum_lost_ms"] = sum(found.quorum_lost_ms for found in outages.values())
        if walks and campaign.caps:
            figures["cap_bound_ms"] = max(self.cap_bound_ms(cap, stage) for cap in campaign.caps)

    def cap_bound_ms(self, cap: Cap, stage: Stage) -> int:
        """The work in its tightest group over what that allows; a unit larger than that takes all of it."""
        bases, work = cap.count(self.vms), Counter()
        for unit in stage.units:
            if unit.start_ms is not None:
                for group, count in cap.count(unit.vms).items():
                    work[group] += min(count, cap.limit(bases[group])) * (unit.end_ms - unit.start_ms)
        del work[None]
        return max((math.ceil(Fraction(ms, cap.limit(bases[group]))) for group, ms in work.items()), default=0)

    def longest_set_ms(self, stage: Stage) -> int:
        """The least that some set takes in any order: each domain its longest unit, each shared host its own, gaps."""
        held_ms = defaultdict(dict)
        for unit in stage.units:
            if unit.start_ms is None:
                continue
            for claims, domain in unit.claims().items():
                held_ms[claims][domain] = max(held_ms[claims].get(domain, 0), unit.end_ms - unit.start_ms)
        gap_ms = stage.campaign.update_domain_gap_ms
        return max((sum(held.values()) + (len(held) - 1) * gap_ms for held in held_ms.values()), default=0)

    def tell_applications(self, campaign: Campaign) -> None:
        """Applications go over all regions: what the whole campaign did to each of them."""
        events = [event for event in self.log.events if event.campaign == campaign.name]
        applications = defaultdict(list)
        for vm in self.vms:
            if vm.application is not None:
                applications[vm.application].append(vm)
        quorum = self.quorum if self.quorum is not None and self.quorum.by == "application" else None
        outages = [outage(members, events, quorum) for members in applications.values()]
        self.log.campaign_figures[campaign.name, "application_out_ms"] = sum(found.out_ms for found in outages)
        if quorum is not None:
            lost_ms = sum(found.quorum_lost_ms for found in outages)
            self.log.campaign_figures[campaign.name, "quorum_lost_ms"] = lost_ms


def effects_of_a_move(vm: Vm) -> int:
    """It starts anew on another host; what the fleet does not deny it had, it has lost."""
    effects = MEMORY_LOST | HOST_CHANGED
    if vm.temp_disk_gib != 0:
        effects |= TEMP_DISK_LOST
    return effects if vm.dynamic_ip is False else effects | ADDRESS_CHANGED


def _or_default_ms(instant_ms: int | None, default_ms: int) -> int:
    return default_ms if instant_ms is None else instant_ms


@dataclass(frozen=True)
class Outage:
    """How a group of VMs (a set, an application) fared: all of it out, its largest share out, short of quorum."""

    out_ms: int
    ratio_max: Fraction
    quorum_lost_ms: int


def outage(members: Collection[Vm], events: Iterable[Event], quorum: Quorum | None = None) -> Outage:
    """Sweep over the instants at which something changes for *members*: every living one of them counts."""
    ids = {vm.vm for vm in members}
    events = [event for event in events if event.vm in ids]
    instants = {event.start_ms for event in events} | {event.end_ms for event in events}
    instants |= {ms for vm in members for ms in (vm.created_ms, vm.deleted_ms) if ms is not None}
    out_ms, ratio_max, quorum_lost_ms = 0, Fraction(0), 0
    for now, next_ms in itertools.pairwise(sorted(instants)):
        living_count = sum(vm.lives(now) for vm in members)
        out_count = sum(event.start_ms <= now < event.end_ms for event in events)
        if out_count == 0:
            continue
        ratio_max = max(ratio_max, Fraction(out_count, living_count))
        if out_count == living_count:
            out_ms += next_ms - now
        if quorum is not None and living_count >= quorum.need(living_count) > living_count - out_count:
            quorum_lost_ms += next_ms - now
    return Outage(out_ms, ratio_max, quorum_lost_ms)


def _release_of(campaign: Campaign, place_in_file: int, vms: list[Vm]) -> Release:
    """The stages of *campaign*, wave by wave: the regions in which it selects VMs, with their place by semantics 24."""
    scopes = defaultdict(list)
    hosts = {vm.host for vm in vms if campaign.selects(vm)} - {None}
    for vm in vms:
        if vm.host in hosts or campaign.selects(vm):
            scopes[vm.region].append(vm)
    stages = {}
    for region, scope in scopes.items():
        if campaign.pair_order == "fewest_vms_first":
            region_rank = len(scope)
        elif campaign.pair_order == "most_vms_first":
            region_rank = -len(scope)
        elif campaign.pair_order == "name":
            region_rank = 0
        else:
            listed = campaign.pair_order
            region_rank = listed.index(region) if region in listed else len(listed)
        stages[region] = Stage(campaign, region, 1, (place_in_file, FIRST_ITERATION, region_rank, region), scope)
    if campaign.waves is None:
        return Release(campaign, [list(stages.values())])
    named = {region for wave in campaign.waves for region in wave}
    waves = []
    for number, wave in enumerate(campaign.waves, 1):
        regions = set(wave) | (stages.keys() - named if "*" in wave else set())
        waves.append([stages[region] for region in sorted(regions & stages.keys())])
        for stage in waves[-1]:
            stage.wave = number
    assert sum(map(len, waves)) == len(stages), "every region is in one wave"
    return Release(campaign, waves)
