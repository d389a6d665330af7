"""The oracle: what a freeze campaign does, said once more in slow plain Python with a heap of instants.

It reads the semantics aloud, instant by instant, with claims that are taken and let go, and knows no closed
form. It shares no code with fleetsim, not even the draws: Philox4x32-10 and FNV-1a 64 are written here from
their published definitions. The one thing it does not work out itself is the table of lengths, an input.
All spans and instants are whole milliseconds since `scenario.start`; intervals are half-open.
"""

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Identity = int | str

DEFAULT_UPDATE_DOMAIN_COUNT = 5
FREEZE_ITERATION = 1
CLOCK_SYNCHRONISED = 16

# What a draw decides: the upper six bits of counter word 2.
LENGTH, UPDATE_DOMAIN_ORDER, SET_SPREAD, SINGLE_SPREAD = range(4)


@dataclass(frozen=True)
class Vm:
    """One row of the fleet. `set` None: a single. `update_domain` None in a set asks for the default."""

    vm: Identity
    region: str
    set: Identity | None = None
    update_domain: int | None = None


@dataclass(frozen=True)
class Campaign:
    """One freeze campaign, defaults filled in. `lengths`: its 65,537 quantiles, ms; `regions` None: all."""

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


@dataclass(frozen=True)
class Event:
    campaign: str
    vm: Identity
    start_ms: int
    duration_ms: int
    phase: str = "platform"
    kind: str = "freeze"
    result: str = "completed"
    iteration: int = FREEZE_ITERATION
    effects: int = CLOCK_SYNCHRONISED


@dataclass(frozen=True)
class Outcome:
    campaign: str
    vm: Identity
    paused_ms: int
    outcome: str = "updated"
    reason: str = "none"
    down_ms: int = 0
    event_count: int = 1
    iteration: int = FREEZE_ITERATION
    effects: int = CLOCK_SYNCHRONISED


@dataclass(frozen=True)
class StageSpan:
    """One stage: asked for, its region taken, its first unit's start, its last unit's end."""

    campaign: str
    region: str
    asked_ms: int
    start_ms: int
    first_start_ms: int
    last_end_ms: int
    updated_count: int
    iteration: int = FREEZE_ITERATION


@dataclass
class Log:
    """Rows in the order in which they became known."""

    events: list[Event] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    stages: list[StageSpan] = field(default_factory=list)


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


def campaign_key(seed: int, name: str) -> int:
    """The seed mixed with the campaign's name: another campaign in the file changes no draw of this one."""
    return int.from_bytes(hashlib.sha256(seed.to_bytes(8, "little") + name.encode("utf-8")).digest()[:8], "little")


def draw64(seed: int, campaign: str, identity: Identity, stream: int, number: int = 0) -> int:
    """The addressed draw, uniform in [0, 2^64)."""
    key, entity = campaign_key(seed, campaign), entity_key(identity)
    replica = 0
    counter = (entity % 2**32, entity >> 32, stream << 26 | FREEZE_ITERATION << 18 | number, replica)
    words = philox4x32_10(counter, (key % 2**32, key >> 32))
    return words[0] | words[1] << 32


def length_at(lengths: Sequence[int], draw: int) -> int:
    """The quantile a draw names: its upper 16 bits pick the entry, the next 16 interpolate; halves go up."""
    entry, fraction = draw >> 48, draw >> 32 & 0xFFFF
    return lengths[entry] + ((lengths[entry + 1] - lengths[entry]) * fraction + 2**15 >> 16)


def integer_below(limit: int, draw: int) -> int:
    """An integer in [0, limit); 0 where there is nothing to draw from."""
    return draw * limit >> 64


def rank(identity: Identity) -> int | bytes:
    """How identities of one kind sort: integers by value, strings by UTF-8 bytes."""
    return identity if isinstance(identity, int) else identity.encode("utf-8")


def with_domains(vms: Iterable[Vm]) -> list[Vm]:
    """The fleet with the missing domains filled in: the i-th VM of its set by key has domain i mod 5."""
    filled, without_domain = [], defaultdict(list)
    for vm in vms:
        if vm.set is None or vm.update_domain is not None:
            filled.append(vm)
        else:
            without_domain[vm.region, vm.set].append(vm)
    for members in without_domain.values():
        for i, vm in enumerate(sorted(members, key=lambda vm: rank(vm.vm))):
            filled.append(Vm(vm.vm, vm.region, vm.set, i % DEFAULT_UPDATE_DOMAIN_COUNT))
    return filled


def no_guarantee(vms: Iterable[Vm]) -> set[tuple[str, Identity, str]]:
    """Sets of which nothing is promised, as (region, set, reason)."""
    members = defaultdict(list)
    for vm in with_domains(vms):
        if vm.set is not None:
            members[vm.region, vm.set].append(vm.update_domain)
    return {
        (region, set_id, "one_vm" if len(domains) == 1 else "one_domain")
        for (region, set_id), domains in members.items()
        if len(set(domains)) == 1
    }


@dataclass(eq=False)
class Claims:
    """Who holds a set in one stage: one update domain, from its unit's start until a gap after its end."""

    domain: int | None = None
    release_ms: int | None = None  # known once the holder has ended

    def admit(self, domain: int) -> bool:
        return self.domain is None or self.domain == domain


@dataclass(eq=False)
class Unit:
    """What is frozen at once: the VMs of one (set, domain), or one single (which claims nothing)."""

    vms: list[Vm]
    earliest_ms: int
    before: list["Unit"] = field(default_factory=list)  # the units of the same set whose turn comes first
    claims: Claims | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    is_done: bool = False

    def may_start(self, now: int) -> bool:
        is_its_turn = all(unit.start_ms is not None for unit in self.before)
        is_admitted = self.claims is None or self.claims.admit(self.vms[0].update_domain)
        return self.start_ms is None and self.earliest_ms <= now and is_its_turn and is_admitted

    def priority(self) -> tuple:
        """Place in the walk, then a stable key. It decides nothing: without caps no start bars another."""
        vm = self.vms[0]
        return len(self.before), vm.region, vm.set is None, rank(vm.vm if vm.set is None else vm.set)


@dataclass(eq=False)
class Stage:
    """One campaign in one region."""

    campaign: Campaign
    region: str
    place: tuple  # where it stands among the waiting stages
    scope: list[Vm]
    units: list[Unit] = field(default_factory=list)
    start_ms: int | None = None
    end_ms: int | None = None

    def is_at_work(self) -> bool:
        return self.start_ms is not None and self.end_ms is None


def simulate(vms: Iterable[Vm], campaigns: Sequence[Campaign], edges: Iterable[tuple[str, str]], seed: int) -> Log:
    """Run *campaigns*, in file order, over *vms*; *edges* pairs regions, whichever side lists the pair."""
    return _Simulation(with_domains(vms), campaigns, edges, seed).run()


class _Simulation:
    def __init__(self, vms: list[Vm], campaigns: Sequence[Campaign], edges: Iterable[tuple[str, str]], seed: int):
        self.seed = seed
        self.log = Log()
        self.agenda: list[int] = []  # instants at which something may change
        self.neighbours = defaultdict(set)
        for region, paired_region in edges:
            self.neighbours[region].add(paired_region)
            self.neighbours[paired_region].add(region)
        self.stages = [stage for place, campaign in enumerate(campaigns) for stage in _stages_of(campaign, place, vms)]
        self.stages.sort(key=lambda stage: stage.place)
        for stage in self.stages:
            self.tick_at(stage.campaign.start_ms)

    def tick_at(self, instant_ms: int) -> None:
        heapq.heappush(self.agenda, instant_ms)

    def run(self) -> Log:
        last_ms = -1
        while self.agenda:
            now = heapq.heappop(self.agenda)
            if now > last_ms:
                self.tick(now)
                last_ms = now
        assert all(stage.end_ms is not None for stage in self.stages), "a stage never ran"
        return self.log

    def tick(self, now: int) -> None:
        """One instant, in the order of semantics 2."""
        self.end_units(now)
        self.release_claims(now)
        while self.start_a_stage(now):
            pass
        self.start_units(now)

    def end_units(self, now: int) -> None:
        for stage in self.stages:
            if not stage.is_at_work():
                continue
            for unit in stage.units:
                if unit.end_ms == now:
                    unit.is_done = True
                    if unit.claims is not None:
                        unit.claims.release_ms = now + stage.campaign.update_domain_gap_ms
                        self.tick_at(unit.claims.release_ms)
            if all(unit.is_done for unit in stage.units):
                self.end_stage(stage, now)

    def end_stage(self, stage: Stage, now: int) -> None:
        """The last unit has ended: the region is free, whatever gap its sets still keep (semantics 22)."""
        stage.end_ms = now
        for other in self.stages:
            self.tick_at(now + self.lag_ms(stage, other))
        self.log.stages.append(
            StageSpan(
                stage.campaign.name,
                stage.region,
                asked_ms=stage.campaign.start_ms,
                start_ms=stage.start_ms,
                first_start_ms=min(unit.start_ms for unit in stage.units),
                last_end_ms=now,
                updated_count=len(stage.scope),
            )
        )

    def release_claims(self, now: int) -> None:
        for stage in self.stages:
            for unit in stage.units:
                if unit.claims is not None and unit.claims.release_ms == now:
                    unit.claims.domain = unit.claims.release_ms = None

    def start_a_stage(self, now: int) -> bool:
        """Start the first waiting stage that may; say whether there was one."""
        for stage in self.stages:
            if stage.start_ms is None and stage.campaign.start_ms <= now and self.may_start(stage, now):
                stage.start_ms = now
                stage.units = self.units_of(stage)
                for unit in stage.units:
                    self.tick_at(unit.earliest_ms)
                return True
        return False

    def may_start(self, stage: Stage, now: int) -> bool:
        """Nobody is at work here or next door, and next door has been quiet for the lag (semantics 23)."""
        nearby = [
            other
            for other in self.stages
            if other.region == stage.region or other.region in self.neighbours[stage.region]
        ]
        is_free = not any(other.is_at_work() for other in nearby)
        return is_free and all(
            now >= other.end_ms + self.lag_ms(stage, other) for other in nearby if other.end_ms is not None
        )

    def lag_ms(self, stage: Stage, other: Stage) -> int:
        if stage.region == other.region:
            return 0
        return max(stage.campaign.pair_lag_ms, other.campaign.pair_lag_ms)

    def start_units(self, now: int) -> None:
        """One pass in priority order is enough: a start only adds claims (semantics 18)."""
        waiting = [
            (unit, stage)
            for stage in self.stages
            if stage.is_at_work()
            for unit in stage.units
            if unit.start_ms is None
        ]
        for unit, stage in sorted(waiting, key=lambda pair: pair[0].priority()):
            if unit.may_start(now):
                self.start_unit(unit, stage.campaign, now)

    def start_unit(self, unit: Unit, campaign: Campaign, now: int) -> None:
        """Freeze its VMs together, each for its own length; the unit is held for `work` or the longest."""
        durations_ms = [length_at(campaign.lengths, draw64(self.seed, campaign.name, vm.vm, LENGTH)) for vm in unit.vms]
        assert min(durations_ms) >= 1, "every length is at least 1 ms"
        unit.start_ms = now
        unit.end_ms = now + max(campaign.work_ms, *durations_ms)
        self.tick_at(unit.end_ms)
        if unit.claims is not None:
            unit.claims.domain, unit.claims.release_ms = unit.vms[0].update_domain, None
        for vm, duration_ms in zip(unit.vms, durations_ms, strict=True):
            self.log.events.append(Event(campaign.name, vm.vm, now, duration_ms))
            self.log.outcomes.append(Outcome(campaign.name, vm.vm, paused_ms=duration_ms))

    def units_of(self, stage: Stage) -> list[Unit]:
        """The sets, each a walk over its populated domains, and the singles, each after its own wait."""
        campaign = stage.campaign
        units, sets = [], defaultdict(lambda: defaultdict(list))
        for vm in stage.scope:
            if vm.set is None:
                units.append(Unit([vm], stage.start_ms + self.wait_ms(campaign, vm.vm, SINGLE_SPREAD)))
            else:
                sets[vm.set][vm.update_domain].append(vm)
        for set_id, domains in sets.items():
            claims, earliest_ms = Claims(), stage.start_ms + self.wait_ms(campaign, set_id, SET_SPREAD)
            walk: list[Unit] = []
            for domain in self.domain_order(campaign, set_id, domains):
                walk.append(Unit(domains[domain], earliest_ms, before=list(walk), claims=claims))
            units += walk
        return units

    def wait_ms(self, campaign: Campaign, identity: Identity, stream: int) -> int:
        """A wait in [0, spread) from the stage's start (semantics 27)."""
        return integer_below(campaign.spread_ms, draw64(self.seed, campaign.name, identity, stream))

    def domain_order(self, campaign: Campaign, set_id: Identity, domains: dict[int, list[Vm]]) -> list[int]:
        """The populated domains of a set in the order of its walk."""
        if campaign.update_domain_order == "sequential":
            return sorted(domains)
        if campaign.update_domain_order == "largest_first":
            return sorted(domains, key=lambda domain: (-len(domains[domain]), domain))
        assert campaign.update_domain_order == "random"
        return sorted(
            domains,
            key=lambda domain: (
                draw64(self.seed, campaign.name, set_id, UPDATE_DOMAIN_ORDER, domain),
                domain,
            ),
        )


def _stages_of(campaign: Campaign, place_in_file: int, vms: list[Vm]) -> Iterable[Stage]:
    """The stages of *campaign*: the regions it names that have VMs, each with its place by semantics 24."""
    scopes = defaultdict(list)
    for vm in vms:
        if campaign.regions is None or vm.region in campaign.regions:
            scopes[vm.region].append(vm)
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
        place = (campaign.start_ms, place_in_file, FREEZE_ITERATION, region_rank, region)
        yield Stage(campaign, region, place, scope)
