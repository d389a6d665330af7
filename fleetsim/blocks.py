"""Blocks: what one campaign hits of one part of a fleet, as the arrays kernels see.

Where a campaign takes every VM of its regions and walks update domains, a block is its part as it stands. Everything
else - VMs that `where` leaves out, that come and go, that cannot be frozen, walks by fault domain, sets in step - is
settled here, before the kernels: `cut` picks the rows that can be hit and puts them in the order they are walked.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fleetsim.errors import InputError
from fleetsim.fleet.order import keys_of
from fleetsim.fleet.prepared import PreparedFleet, PreparedPart
from fleetsim.kernels import hosts
from fleetsim.kernels.fit import NO_LIMIT, millionths
from fleetsim.kinds import KINDS
from fleetsim.plans import Plan, first_of
from fleetsim.profiles import Profile
from fleetsim.regions import Relation
from fleetsim.scenario import Campaign, Cap, FleetFacts, Quorum, Resolved, Scenario, SelfService, resolve
from fleetsim.schema import (
    NEVER_MS,
    NO_ROW,
    RESOURCES,
    TAKES,
    UPDATE_DOMAIN_COUNT_MAX,
    CapScope,
    Decider,
    Effect,
    Kind,
    Outcome,
    Reason,
    Walk,
)
from fleetsim.storage import Place, readable
from fleetsim.tables import to_numpy

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_INSTANT = pa.timestamp("ms", tz="UTC")

_CUSTOMER_COLUMNS = ("cluster", "subscription")
"""Fleet columns that say where there is room for a VM, and whose it is."""
_LOST_WITH_A_MOVE: dict[str, tuple[object, Effect]] = {
    "temp_disk_gib": (0.0, Effect.TEMP_DISK_LOST),
    "dynamic_ip": (False, Effect.ADDRESS_CHANGED),
}
"""What a move costs a VM unless a fleet column denies that it had it: column -> the denial, and the effect."""
MOVE_COLUMNS = (*_CUSTOMER_COLUMNS, *_LOST_WITH_A_MOVE)
"""Fleet columns that are asked for where VMs are moved."""

ZONES_MAX = 11
"""As many zones of a region as can take turns: their domains are told apart by 8 bits."""
NOT_SELECTED = -1
"""In `Fates.outcome` of all rows: the campaign has nothing to say about the VM."""


@dataclass(frozen=True, slots=True)
class Block:
    """VMs to walk as arrays; V VMs, U units, S sets (whatever walks its domains one at a time). Rows count from 0."""

    vm_key: Int64s  # [V]
    set_offsets: Int64s  # [S+1] units of each set
    set_key: Int64s  # [S]
    unit_set_key: Int64s  # [U]
    domain: npt.NDArray[np.uint8]  # [U]
    unit_offsets: Int64s  # [U+1] VM rows of each unit; singles are the rows after the last

    @property
    def single_row(self) -> int:
        """Row of the first single."""
        return int(self.unit_offsets[-1])


@dataclass(frozen=True)
class Scope:
    """What of a fleet a campaign is about, and how it walks, with the facts of the fleet looked up.

    cannot_freeze_sizes  those that are left alone
    profile_of_size      row in the campaign's table of profiles, of the sizes that are not drawn from the first
    """

    campaign: Campaign
    has_lifetimes: bool = False
    cannot_freeze_sizes: frozenset[str] = frozenset()
    profile_of_size: Mapping[str, int] | None = None
    quorum: Quorum | None = None  # of sets
    has_hosts: bool = False
    has_zones: bool = False
    move_columns: tuple[str, ...] = ()  # of MOVE_COLUMNS those that the fleet has

    @property
    def has_impact(self) -> bool:
        return KINDS[self.campaign.kind.name.lower()].has_impact

    @cached_property
    def is_plain(self) -> bool:
        """Whether every VM is hit, as the parts stand."""
        return self.is_whole and not (
            self.profile_of_size
            or self.quorum
            or self.campaign.sets_in_step
            or self.walks_fault_domains
            or self.campaign.caps
            or self.campaign.windows
            or self.has_hosts
            or self.zones_take_turns
        )

    @property
    def moves_vms(self) -> bool:
        """Whether VMs start anew on other hosts: by the platform, or by their customers."""
        return self.campaign.kind == Kind.REDEPLOY or self.campaign.self_service is not None

    @property
    def walks_fault_domains(self) -> bool:
        return self.campaign.walk_by == Walk.FAULT_DOMAIN

    @property
    def zones_take_turns(self) -> bool:
        return self.campaign.one_zone_at_a_time and self.has_zones

    @property
    def is_whole(self) -> bool:
        """Whether every VM of its regions can be hit, whenever it is."""
        return self.has_impact and not (self.campaign.where or self.has_lifetimes or self.cannot_freeze_sizes)

    @cached_property
    def quantiles_ms(self) -> npt.NDArray[np.uint32]:
        """uint32[P, Q] ms: the tables lengths are drawn from, the campaign's own first, that of reboots last."""
        return frozen(np.stack([profile.table for profile in profiles_of(self.campaign)]))

    def is_rebooted(self, profile: npt.NDArray[np.uint8] | None) -> Bools | None:
        """Which VMs, by their rows in the table of profiles, a freeze reboots; None: none."""
        if profile is None or self.campaign.reboot_length is None:
            return None
        rebooted: Bools = profile == len(profiles_of(self.campaign)) - 1
        return rebooted

    @property
    def needs_region(self) -> bool:
        """Whether the parts of a region can affect one another: a cluster, or what a cap limits, may be in several."""
        shares_room = self.campaign.self_service is not None
        waits = self.campaign.sets_in_step or bool(self.campaign.caps) or self.has_hosts or self.zones_take_turns
        return waits or shares_room

    @property
    def _told_to_policy(self) -> Mapping[str, tuple[str, str]]:
        """What a policy for hosts is told of fleet columns: parameter -> column, and how it is folded."""
        policy = self.campaign.host_policy
        return policy.columns() if self.has_hosts and policy is not None else {}

    @property
    def columns(self) -> list[str]:
        """Fleet columns that decide about a VM."""
        wanted = [name for name, _ in self.campaign.where]
        wanted += ["created", "deleted"] * self.has_lifetimes
        wanted += ["size"] * bool(self.cannot_freeze_sizes or self.profile_of_size)
        wanted += ["fault_domain"] * self.walks_fault_domains
        wanted += ["cluster"] * self.campaign.sets_in_step
        wanted += ["zone"] * self.zones_take_turns
        wanted += ["host_row"] * self.has_hosts
        wanted += [self.campaign.host_column] if self.has_hosts and self.campaign.host_column else []
        wanted += [column for column, _ in self._told_to_policy.values()]
        wanted += [cap.scope.name.lower() for cap in self.campaign.caps if cap.scope != CapScope.REGION]
        if self.campaign.self_service:
            wanted += ["vm", *(name for name in _CUSTOMER_COLUMNS if name in self.move_columns)]
            wanted += TAKES if self.has_hosts else []
        if self.moves_vms:
            wanted += [name for name in _LOST_WITH_A_MOVE if name in self.move_columns]
        return list(dict.fromkeys(wanted))


def profiles_of(campaign: Campaign) -> list[Profile]:
    """The profiles that lengths of *campaign* are drawn from: its own, those of families, that of reboots."""
    families = [profile for _, profile in campaign.family_lengths]
    reboots = [] if campaign.reboot_length is None else [campaign.reboot_length]
    return [campaign.length, *families, *reboots]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the C caps of a campaign make of some VMs; G groups, each a region, zone or cluster under one cap."""

    group: Int64s  # [C, V] of each VM, -1 for none
    most: Int64s  # [G] VMs or hosts that may be worked on at once
    counts_hosts: Bools  # [G]

    @staticmethod
    def none(vm_count: int) -> "Limits":
        """No caps."""
        return Limits(np.empty((0, vm_count), np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))

    def of(self, rows: Int64s) -> "Limits":
        """The same of some of the VMs."""
        return Limits(np.ascontiguousarray(self.group[:, rows]), self.most, self.counts_hosts)


@dataclass(frozen=True, slots=True)
class Customers:
    """What decides about requests for the VMs of a region, and what becomes of them; P pools of slots."""

    rank: Int64s  # [V] by id
    pool: Int64s  # [V] of its cluster, or of the VMs in none
    pool_sizes: Int64s  # [P] VMs
    subscription: tuple[Bools, Int64s] | None  # [V] whether it has one, and the key that draws are addressed by
    planned: tuple[Int64s, Int64s] | None = None  # [R] rows of those who ask by a plan, and when
    taken: Int64s = field(default_factory=lambda: np.empty((2, 0), np.int64))  # as `Left` has them
    hosts: "HostRoom | None" = None  # None: there are slots instead


@dataclass(frozen=True, slots=True)
class HostRoom:
    """Where VMs that are on hosts could go; V VMs, H hosts by id. vCPUs and memory in millionths."""

    host_of: Int64s  # [V]
    need: Int64s  # [V, 2]
    room: Int64s  # [H, 2] of each when it is empty
    is_spare: Bools  # [H]
    pool_of: Int64s  # [H] of its cluster, or of the hosts in none
    first_row: int  # of them in the table of hosts
    moved: Int64s = field(default_factory=lambda: np.empty((4, 0), np.int64))  # as `Left` has them


@dataclass(frozen=True, slots=True)
class Left:
    """What an iteration of a stage hands on to the next one."""

    rows: Int64s  # VMs that it has not updated
    taken: Int64s | None  # [2, N] slots that customers took: when each comes back, since scenario.start; and its pool
    moved: Int64s | None = None  # [4, N] moves to hosts so far: row, start and end since scenario.start, number of host


@dataclass(frozen=True)
class Vms:
    """The VMs of some parts, in row order, with what a scope asks about them; V VMs, S sets. Instants since start."""

    block: Block  # as the parts stand
    is_selected: Bools | None = None  # [V] None: all
    can_freeze: Bools | None = None  # [V] None: all
    created_ms: Int64s | None = None  # [V] None: all live all the time; -NEVER_MS for those that always did
    deleted_ms: Int64s | None = None  # [V] NEVER_MS for those that always will
    fault_domain: npt.NDArray[np.uint8] | None = None  # [V] None: update domains are walked
    zone: Int64s | None = None  # [V] place by name of the zone of each where they take turns, 0 for none; None: none do
    cluster: tuple[Int64s, Int64s] | None = None  # [V] cluster each walks with, -1 for none; [clusters] their keys
    profile: npt.NDArray[np.uint8] | None = None  # [V] row in the table of profiles
    limits: Limits | None = None  # None: no caps
    host: tuple[Int64s, Int64s] | None = None  # [V] host of each, by id; [hosts] their keys for draws
    host_row: npt.NDArray[np.uint32] | None = None  # [V] row of it in the table of hosts
    host_rank: Int64s | None = None  # [hosts] by the column that orders them, where one does
    customers: Customers | None = None  # None: nobody acts
    move_effects: npt.NDArray[np.uint8] | None = None  # [V] None: nobody is moved
    told: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)  # [hosts] each, to the policy that orders them

    def keeps_memory_at(self, instant_ms: int) -> Bools | None:
        """Which VMs can be frozen, None for all: nobody beside one that lives and cannot (semantics.md 9)."""
        if self.can_freeze is None or self.host is None:
            return self.can_freeze
        host, keys = self.host
        is_left_alone = np.zeros(len(keys), np.bool_)
        is_left_alone[host[~self.can_freeze & self.lives_at(instant_ms)]] = True
        keeps: Bools = self.can_freeze & ~is_left_alone[host]
        return keeps

    @cached_property
    def set_or_none(self) -> Int64s:
        """The set of each VM, -1 for singles: int64[V]."""
        sizes = np.append(np.diff(self.vm_offsets), len(self.block.vm_key) - self.block.single_row)
        return np.repeat(np.append(np.arange(len(self.block.set_key)), -1), sizes)

    @property
    def set_row(self) -> Int64s:
        """The set of each VM that is in one, and these go first."""
        return self.set_or_none[: self.block.single_row]

    def sets_of(self, rows: Int64s) -> Int64s:
        """The set of each of the VMs at *rows*, -1 for singles."""
        return self.set_or_none[rows]

    def of_those(self, left: Left) -> "Vms":
        """The same for the next iteration, which is about those only that were *left*."""
        is_selected = np.zeros(len(self.block.vm_key), np.bool_)
        is_selected[left.rows] = True
        customers = self.customers
        if customers is not None and left.taken is not None:
            customers = replace(customers, taken=left.taken)
        if customers is not None and customers.hosts is not None and left.moved is not None:
            customers = replace(customers, hosts=replace(customers.hosts, moved=left.moved))
        return replace(self, is_selected=is_selected, customers=customers)

    @cached_property
    def domain(self) -> npt.NDArray[np.uint8]:
        """The domain walked of each VM in a set: where zones take turns each zone has its own (semantics.md 37)."""
        single_row = self.block.single_row
        if self.fault_domain is not None:
            domain = self.fault_domain[:single_row]
        else:
            domain = np.repeat(self.block.domain, np.diff(self.block.unit_offsets))
        if self.zone is not None:
            domain = (self.zone[:single_row] * UPDATE_DOMAIN_COUNT_MAX + domain).astype(np.uint8)
        return frozen(np.ascontiguousarray(domain))

    @property
    def domain_limit(self) -> int:
        """What the numbers of `domain` are below."""
        zone_count = 1 if self.zone is None else int(self.zone.max(initial=0)) + 1
        return UPDATE_DOMAIN_COUNT_MAX * zone_count

    @property
    def vm_offsets(self) -> Int64s:
        """int64[S+1]: VMs of each set."""
        offsets: Int64s = self.block.unit_offsets[self.block.set_offsets]
        return offsets

    def lives_at(self, instant_ms: int) -> Bools:
        if self.created_ms is None or self.deleted_ms is None:
            return np.ones(len(self.block.vm_key), np.bool_)
        lives: Bools = (self.created_ms <= instant_ms) & (instant_ms < self.deleted_ms)
        return lives


@dataclass(frozen=True, slots=True)
class Fates:
    """How each VM ends its iteration, whatever happens to it in a unit; [V], in row order."""

    outcome: npt.NDArray[np.int8]  # Outcome, or NOT_SELECTED
    reason: npt.NDArray[np.int8]  # Reason

    @property
    def rows(self) -> Int64s:
        """The VMs selected."""
        return np.flatnonzero(self.outcome != NOT_SELECTED)

    def counts(self) -> Int64s:
        """How many VMs end in each way: int64[outcomes]."""
        return np.bincount(self.outcome - NOT_SELECTED, minlength=1 + len(Outcome))[1:]


@dataclass(frozen=True, slots=True)
class Cut:
    """The VMs a stage can hit from its start, in the order they are walked; the arrays are as long as the block."""

    block: Block
    rows: Int64s  # [V] of the parts
    deleted_ms: Int64s | None
    profile: npt.NDArray[np.uint8] | None
    limits: Limits
    created_ms: Int64s | None  # of those not yet there at the start; -NEVER_MS for the others
    set_row: Int64s  # [V] the set of each, -1 for singles
    domain: npt.NDArray[np.uint8]  # of all VMs in sets, as the parts stand: the domain walked
    is_hit: Bools  # of all VMs, as the parts stand


def resolve_over(
    prepared: PreparedFleet, scenario: Scenario, relation: Relation, threads: int | None = None
) -> Resolved:
    """*scenario* over *prepared*: what `where` selects is counted on *threads* (default: one a core)."""

    def select(campaign: Campaign, regions: Sequence[str]) -> dict[str, int]:
        scope = Scope(campaign, has_hosts=prepared.host_count > 0)
        blocks = [
            (each.region, parts)
            for each in prepared.regions
            if each.region in regions
            for parts in ([each.parts] if each.hosts else [(part,) for part in each.parts])
        ]
        counts = dict.fromkeys(regions, 0)
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            found = pool.map(lambda block: _count_selected(load(block[1], scope, 0)), blocks)
            for (region, _), count in zip(blocks, found, strict=True):
                counts[region] += count
        return counts

    facts = FleetFacts(
        vm_counts={region.region: region.vm_count for region in prepared.regions},
        columns=prepared.columns,
        sizes=prepared.sizes,
        workloads=prepared.workloads,
        hosts={region.region: region.hosts.without for region in prepared.regions if region.hosts is not None},
        has_inventory=prepared.hosts_digest is not None,
    )
    return resolve(scenario, relation, facts, select)


def _count_selected(vms: Vms) -> int:
    """VMs of *vms* that the campaign selects, whatever their dates."""
    return len(vms.block.vm_key) if vms.is_selected is None else int(np.count_nonzero(vms.is_selected))


def load(parts: Sequence[PreparedPart], scope: Scope, start_ms_epoch: int) -> Vms:
    """Read what *scope* asks about the VMs of *parts*, which follow each other in one region.

    Raises `InputError` where a file is damaged.
    """
    # Parts of a region are sets first, then singles: joined, they are so too.
    tables, blocks = zip(*[_read(part, scope.columns) for part in parts], strict=True)
    block = blocks[0] if len(blocks) == 1 else _joined(blocks)
    if scope.is_plain:
        return Vms(block)
    column = {
        name: pa.chunked_array(
            [chunk for table in tables for chunk in table[name].chunks], tables[0].schema.field(name).type
        )
        for name in scope.columns
    }
    is_selected = None
    for name, values in scope.campaign.where:
        matches = _matches(column[name], values)
        is_selected = matches if is_selected is None else is_selected & matches
    hosts_path = parts[0].hosts_path
    host = _hosts(column["host_row"], hosts_path) if scope.has_hosts and hosts_path is not None else None
    if host is not None and is_selected is not None:
        # A host with any VM in scope is updated, and all its VMs are in scope (semantics.md 9).
        is_host_selected = np.zeros(len(host[1]), np.bool_)
        is_host_selected[host[0][is_selected]] = True
        is_selected = is_host_selected[host[0]]
    return Vms(
        block,
        host=host,
        host_row=None if host is None else to_numpy(column["host_row"]),
        host_rank=None
        if host is None or scope.campaign.host_column is None
        else _ranks(column[scope.campaign.host_column], *host),
        told={}
        if host is None
        else {name: _folded(column[of], fold, *host) for name, (of, fold) in scope._told_to_policy.items()},
        is_selected=is_selected,
        can_freeze=~_matches(column["size"], sorted(scope.cannot_freeze_sizes)) if scope.cannot_freeze_sizes else None,
        created_ms=_since(column["created"], start_ms_epoch, -NEVER_MS) if scope.has_lifetimes else None,
        deleted_ms=_since(column["deleted"], start_ms_epoch, NEVER_MS) if scope.has_lifetimes else None,
        fault_domain=to_numpy(column["fault_domain"].fill_null(0)) if scope.walks_fault_domains else None,
        zone=_zones(column["zone"], parts[0]) if scope.zones_take_turns else None,
        cluster=_clusters(column["cluster"], block) if scope.campaign.sets_in_step else None,
        profile=_profiles(column["size"], scope.profile_of_size) if scope.profile_of_size else None,
        limits=_limits(scope.campaign.caps, column, len(block.vm_key), None if host is None else host[0])
        if scope.campaign.caps
        else None,
        customers=_customers(scope.campaign.self_service, column, block, start_ms_epoch, host and host[0], hosts_path)
        if scope.campaign.self_service
        else None,
        move_effects=_move_effects(column, len(block.vm_key)) if scope.moves_vms else None,
    )


def _customers(
    asked: SelfService,
    column: Mapping[str, pa.ChunkedArray],
    block: Block,
    start_ms_epoch: int,
    host_of: Int64s | None,
    hosts_path: Place | None,
) -> Customers:
    vm_count = len(block.vm_key)
    rank = np.array(block.vm_key)
    if not pa.types.is_integer(column["vm"].type):
        rank[pc.sort_indices(column["vm"]).to_numpy()] = np.arange(vm_count)  # by bytes
    pool = _coded(column["cluster"])[0] + 1 if "cluster" in column else np.zeros(vm_count, np.int64)
    subscription = None
    if "subscription" in column and asked.by == Decider.SUBSCRIPTION:
        codes, names = _coded(column["subscription"])
        subscription = codes >= 0, np.append(keys_of(names), 0)[codes]
    planned = None
    if asked.plan is not None:
        row = _places_of(asked.plan, column["vm"])
        is_here = row >= 0
        planned = row[is_here], asked.plan.at_ms_epoch[is_here] - start_ms_epoch
    room = None
    if host_of is not None and hosts_path is not None:
        room = _host_room(host_of, np.stack([_millionths(column[name]) for name in TAKES], axis=1), hosts_path)
        pool = room.pool_of[host_of]
    return Customers(rank, pool, np.bincount(pool), subscription, planned, hosts=room)


def _host_room(host_of: Int64s, need: Int64s, path: Place) -> HostRoom:
    """What the hosts of a region offer, by its table at *path*, to VMs on *host_of* int64[V] that take *need*."""
    hosts = pq.read_table(readable(path), partitioning=None)
    room = np.stack([_millionths(hosts[name], NO_LIMIT) for name in RESOURCES], axis=1)
    is_spare: Bools = hosts["is_spare"].to_numpy()
    pool = _coded(hosts["cluster"])[0] + 1 if "cluster" in hosts.column_names else np.zeros(len(hosts), np.int64)
    return HostRoom(host_of, need, room, is_spare, pool, hosts["host_row"][0].as_py())


def _millionths(column: pa.ChunkedArray, absent: int = 0) -> Int64s:
    """Amounts in millionths, so that sums are exact: int64[N]; *absent* where there is none."""
    return np.where(column.is_valid().to_numpy(), millionths(column.fill_null(0).to_numpy()), absent)


def _places_of(plan: Plan, vm: pa.ChunkedArray) -> Int64s:
    """The place of each VM of *plan* in the column *vm*, -1 for those not there."""
    found: Int64s = pc.index_in(plan.vm, vm.cast(pa.string())).fill_null(-1).to_numpy().astype(np.int64)
    return found


def check_plans(prepared: PreparedFleet, scenario: Scenario) -> None:
    """Raise `InputError` with the lines of customers' plans whose VM is not in the fleet."""
    plans = [campaign.self_service.plan for campaign in scenario.campaigns if campaign.self_service]
    parts = [part for region in prepared.regions for part in region.parts]
    problems = []
    for plan in filter(None, plans):
        is_known = np.zeros(len(plan.vm), np.bool_)
        for part in parts:
            with pq.ParquetFile(readable(part.path)) as file:
                is_known |= _places_of(plan, file.read(columns=["vm"], use_threads=False)["vm"]) >= 0
        unknown = [
            f"{plan.path}:{plan.lines[row]}: vm: must be a VM of the fleet, got '{plan.vm[row]}'"
            for row in np.flatnonzero(~is_known)
        ]
        problems += first_of(unknown, plan.path)
    if problems:
        raise InputError(problems)


def _move_effects(column: Mapping[str, pa.ChunkedArray], vm_count: int) -> npt.NDArray[np.uint8]:
    """What a start on another host does to each VM (rules.md R17, R18)."""
    effects = np.full(vm_count, Effect.MEMORY_LOST | Effect.HOST_CHANGED, np.uint8)
    for name, (denial, effect) in _LOST_WITH_A_MOVE.items():
        has_it = np.ones(vm_count, np.bool_)
        if name in column:
            has_it = pc.not_equal(column[name], denial).fill_null(True).to_numpy()
        effects[has_it] |= np.uint8(effect)
    return effects


def _read(part: PreparedPart, columns: Sequence[str]) -> tuple[pa.Table, Block]:
    # ParquetFile and not read_table, which sets up a data set for each file and takes longer than the reading.
    try:
        with pq.ParquetFile(readable(part.path)) as file:
            key_name = "vm_key" if "vm_key" in file.schema_arrow.names else "vm"
            vms = file.read(columns=list(dict.fromkeys([key_name, *columns])), use_threads=False)
            for name in set(columns) - set(vms.column_names):  # a fleet may have one of `created` and `deleted`
                vms = vms.append_column(name, pa.nulls(len(vms), _INSTANT))
        with pq.ParquetFile(readable(part.units_path)) as file:
            units = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{part.path.parent.parent.parent}: part {part.number} of {part.path.parent.name} must be readable,"
            f" got: {str(error).splitlines()[0]}; prepare the fleet anew"
        ) from error
    unit_offsets = np.zeros(len(units) + 1, np.int64)
    np.cumsum(to_numpy(units["vm_count"]), out=unit_offsets[1:])
    set_row, unit_set_key = to_numpy(units["set_row"]), to_numpy(units["set_key"])
    set_offsets = np.append(np.flatnonzero(np.diff(set_row, prepend=np.uint32(NO_ROW))), len(units))
    return vms, _block(
        to_numpy(vms[key_name]), set_offsets, unit_set_key, to_numpy(units["update_domain"]), unit_offsets
    )


def _block(
    vm_key: Int64s,
    set_offsets: Int64s,
    unit_set_key: Int64s,
    domain: npt.NDArray[np.uint8],
    unit_offsets: Int64s,
) -> Block:
    """A block, its arrays read-only like Arrow's own, so that each kernel is compiled once and not once a mixture."""
    return Block(
        vm_key=frozen(vm_key),
        set_offsets=frozen(set_offsets),
        set_key=frozen(unit_set_key[set_offsets[:-1]]),
        unit_set_key=frozen(unit_set_key),
        domain=frozen(domain),
        unit_offsets=frozen(unit_offsets),
    )


def owners(offsets: Int64s) -> Int64s:
    """int64[offsets[-1]]: whose each row is, of N owners with the rows from offsets[i] to offsets[i + 1]."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def frozen(array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
    """*array*, from now on read-only."""
    array.flags.writeable = False
    return array


def _joined(blocks: Sequence[Block]) -> Block:
    unit_starts = np.cumsum([0, *(len(block.domain) for block in blocks)])
    row_starts = np.cumsum([0, *(block.single_row for block in blocks)])
    set_offsets = [block.set_offsets[:-1] + start for block, start in zip(blocks, unit_starts, strict=False)]
    unit_offsets = [block.unit_offsets[:-1] + start for block, start in zip(blocks, row_starts, strict=False)]
    return _block(
        np.concatenate([block.vm_key for block in blocks]),
        np.concatenate([*set_offsets, unit_starts[-1:]]),
        np.concatenate([block.unit_set_key for block in blocks]),
        np.concatenate([block.domain for block in blocks]),
        np.concatenate([*unit_offsets, row_starts[-1:]]),
    )


def _matches(column: pa.ChunkedArray, values: Sequence[object]) -> Bools:
    """Whether each row has one of *values*; a null has none."""
    words = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    wanted = pa.array(values, words)
    chunks = [
        pc.is_in(chunk.dictionary, wanted).take(chunk.indices)
        if pa.types.is_dictionary(chunk.type)
        else pc.is_in(chunk, wanted)
        for chunk in column.chunks
    ]
    joined = pa.chunked_array(chunks, pa.bool_()).fill_null(False)
    matches: Bools = joined.to_numpy()
    return matches


def _since(column: pa.ChunkedArray, start_ms_epoch: int, absent_ms: int) -> Int64s:
    """Instants as ms since scenario.start; *absent_ms* where there is none."""
    instants = column.cast(pa.int64())
    since_ms = to_numpy(instants.fill_null(0)) - start_ms_epoch
    return np.where(instants.is_valid().to_numpy(), since_ms, absent_ms)


def _coded(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """A text column as codes, -1 for null, and the words they stand for."""
    words = column.cast(pa.string()).dictionary_encode().combine_chunks()
    words = words.chunk(0) if isinstance(words, pa.ChunkedArray) else words
    return to_numpy(words.indices.fill_null(-1)).astype(np.int64), words.dictionary


def _zones(column: pa.ChunkedArray, part: PreparedPart) -> Int64s | None:
    """The place of each VM's zone by name, 0 for VMs in none where others are in one; None where none is."""
    codes, words = _coded(column)
    if not len(words):
        return None
    place = np.empty(len(words) + 1, np.int64)
    place[pc.sort_indices(words).to_numpy()] = np.arange(len(words))  # by bytes
    place[-1] = -1  # of those in none
    places = place[codes]
    places -= places.min()
    if len(words) > ZONES_MAX:
        region = part.path.parent.name.removeprefix("region=")
        raise InputError(
            f"one_zone_at_a_time: goes with {ZONES_MAX} zones a region at most, got {len(words)} in {region}"
        )
    return places


def _clusters(column: pa.ChunkedArray, block: Block) -> tuple[Int64s, Int64s]:
    """Cluster each VM walks with, -1 for none, and the key that draws of each cluster are addressed by.

    A set walks with a cluster if all its VMs are in it: were its parts to walk with several, nothing would keep two of
    its domains apart.
    """
    codes, words = _coded(column)
    in_sets, starts = codes[: block.single_row], block.unit_offsets[block.set_offsets]
    if len(starts) > 1:
        lowest, highest = (each.reduceat(in_sets, starts[:-1]) for each in (np.minimum, np.maximum))
        in_sets[:] = np.repeat(np.where(lowest == highest, lowest, -1), np.diff(starts))
    return codes, keys_of(words)


def _profiles(column: pa.ChunkedArray, profile_of_size: Mapping[str, int]) -> npt.NDArray[np.uint8]:
    codes, words = _coded(column)
    # The last entry is for those without a size, whose code is -1.
    rows = np.array([*(profile_of_size.get(word, 0) for word in words.to_pylist()), 0], np.uint8)
    return rows[codes]


def _hosts(host_row: pa.ChunkedArray, path: Place) -> tuple[Int64s, Int64s]:
    """Number of each VM's host in the region, by id, and the keys that draws of hosts are addressed by."""
    hosts = pq.read_table(readable(path), columns=["host_row", "host_key"], partitioning=None)
    return to_numpy(host_row).astype(np.int64) - hosts["host_row"][0].as_py(), to_numpy(hosts["host_key"])


def _ranks(column: pa.ChunkedArray, host: Int64s, keys: Int64s) -> Int64s:
    """Rank of each host by the least value that one of its VMs has in *column*; those without come last."""
    values = column.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    known = pc.unique(values.drop_null())
    known = known.take(pc.sort_indices(known))  # strings by their bytes
    of_vm = pc.index_in(values, known).fill_null(len(known)).to_numpy().astype(np.int64)
    ranks = np.full(len(keys), len(known))
    np.minimum.at(ranks, host, of_vm)
    return ranks


def _folded(column: pa.ChunkedArray, fold: str, host: Int64s, keys: Int64s) -> npt.NDArray[Any]:
    """The sum or the maximum of *column* over the VMs of each host; nulls are left out."""
    values = column.combine_chunks()
    given = values.is_valid().to_numpy(zero_copy_only=False)
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    numbers = numbers.astype(np.float64 if np.issubdtype(numbers.dtype, np.floating) else np.int64)
    if fold == "sum":
        folded = np.zeros(len(keys), numbers.dtype)
        np.add.at(folded, host[given], numbers[given])
        return folded
    is_met = np.zeros(len(keys), np.bool_)
    is_met[host[given]] = True
    lowest = -np.inf if numbers.dtype == np.float64 else np.iinfo(np.int64).min
    folded = np.full(len(keys), lowest, numbers.dtype)
    np.maximum.at(folded, host[given], numbers[given])
    return np.where(is_met, folded, 0)


def _limits(caps: Sequence[Cap], column: Mapping[str, pa.ChunkedArray], vm_count: int, host: Int64s | None) -> Limits:
    """What *caps* make of the VMs of a region: ratios are of all that is there, whatever its dates and scope."""
    groups, most = [], [np.empty(0, np.int64)]
    for cap in caps:
        name = cap.scope.name.lower()
        codes = np.zeros(vm_count, np.int64) if cap.scope == CapScope.REGION else _coded(column[name])[0]
        counted = np.flatnonzero(codes >= 0)
        if cap.of == "hosts" and host is not None:
            counted = counted[
                np.unique(host[counted] * (codes.max(initial=0) + 1) + codes[counted], return_index=True)[1]
            ]
        counts = np.bincount(codes[counted])
        groups.append(np.where(codes >= 0, codes + sum(map(len, most)), -1))
        if isinstance(cap.most, Fraction):
            most.append(np.maximum(1, counts * cap.most.numerator // cap.most.denominator))
        else:
            most.append(np.full(len(counts), cap.most))
    counts_hosts = np.repeat([cap.of == "hosts" for cap in caps], [len(each) for each in most[1:]])
    return Limits(np.stack(groups), np.concatenate(most), counts_hosts)


@dataclass(frozen=True, slots=True)
class Settled:
    """What customers have settled of the VMs of a region before the scheduled window opens."""

    outcome: npt.NDArray[np.int8]  # [V] NOT_SELECTED where they have not
    reason: npt.NDArray[np.int8]  # [V]
    is_over: Bools  # [V] settled by the opening
    busy_until_ms: Int64s  # [V] the end of a move that lasts longer, else 0


def judge(vms: Vms, scope: Scope, start_ms: int, *, is_overdue: bool = False, never_starts: bool = False) -> Fates:
    """How the VMs of a stage end that starts (or is over) at *start_ms*, as far as units do not decide it.

    is_overdue    it never starts, for want of room in the calendar
    never_starts  for that, or because there is nobody to hit
    """
    vm_count = len(vms.block.vm_key)
    updated = Outcome.UPDATED if scope.campaign.windows is None else Outcome.UPDATED_SCHEDULED
    outcome = np.full(vm_count, Outcome.OVERDUE if is_overdue else updated, np.int8)
    reason = np.full(vm_count, Reason.NO_ROOM_IN_CALENDAR if is_overdue else Reason.NONE, np.int8)

    def settle(rows: Bools, outcome_code: Outcome, reason_code: Reason = Reason.NONE) -> None:
        outcome[rows], reason[rows] = outcome_code, reason_code

    if not scope.has_impact:
        settle(np.ones(vm_count, np.bool_), Outcome.UNAFFECTED, Reason.NO_IMPACT)
    keeps = vms.keeps_memory_at(start_ms) if scope.has_impact else None
    if keeps is not None:
        settle(~keeps & vms.lives_at(start_ms), Outcome.UNAFFECTED, Reason.CANNOT_FREEZE)
    if vms.created_ms is not None and vms.deleted_ms is not None:
        if not is_overdue:
            settle(vms.created_ms > start_ms, Outcome.ALREADY_UPDATED)
            if keeps is not None and vms.host is not None and not never_starts:  # a host that is left alone stays so
                settle(~keeps & (vms.created_ms > start_ms), Outcome.UNAFFECTED, Reason.CANNOT_FREEZE)
        settle(vms.deleted_ms <= start_ms, Outcome.DELETED)
    if vms.is_selected is not None:
        outcome[~vms.is_selected] = NOT_SELECTED
    return Fates(outcome, reason)


def hittable(vms: Vms, scope: Scope, instant_ms: int) -> Bools:
    """Which VMs a unit that starts at *instant_ms* could hit."""
    if not scope.has_impact:
        return np.zeros(len(vms.block.vm_key), np.bool_)
    can = vms.lives_at(instant_ms)
    for mask in (vms.is_selected, vms.keeps_memory_at(instant_ms)):
        if mask is not None:
            can &= mask
    return can


def _coming(vms: Vms, is_hit: Bools, start_ms: int) -> Bools:
    """Which VMs are created after *start_ms* on a host that a stage from there on hits (semantics.md 7)."""
    if vms.host is None or vms.created_ms is None or not is_hit.any():  # without anybody to hit it is over at once
        return np.zeros(len(vms.block.vm_key), np.bool_)
    comes = vms.created_ms > start_ms
    for mask in (vms.is_selected, vms.keeps_memory_at(start_ms)):
        if mask is not None:
            comes &= mask
    return comes


def cut(vms: Vms, scope: Scope, start_ms: int, settled: Settled | None = None) -> Cut:
    """The VMs that a stage which starts at *start_ms* can hit, by walker and domain; singles last.

    Those among them whose customers have begun a move that is not over are not hit, but waited for.
    """
    block, single_row = vms.block, vms.block.single_row
    is_hit = hittable(vms, scope, start_ms)
    if settled is not None:
        is_hit &= ~settled.is_over
    comes = _coming(vms, is_hit, start_ms)
    if settled is not None:
        comes &= ~settled.is_over
    rows = np.flatnonzero(is_hit | comes)
    set_rows = rows[: np.searchsorted(rows, single_row)]
    domain = vms.domain
    if vms.host is not None:
        return _cut_hosts(vms, rows, domain, is_hit)
    if len(rows) == len(is_hit) and vms.cluster is None and vms.fault_domain is None and vms.zone is None:
        limits = Limits.none(len(rows)) if vms.limits is None else vms.limits
        return Cut(block, rows, vms.deleted_ms, vms.profile, limits, None, vms.set_or_none, domain, is_hit)
    walker = vms.set_row[set_rows]
    walker_key = block.set_key
    if vms.cluster is not None:
        cluster, cluster_key = vms.cluster[0][set_rows], vms.cluster[1]
        walker = np.where(cluster >= 0, len(walker_key) + cluster, walker)
        walker_key = np.concatenate([walker_key, cluster_key])
        # In order of their first rows, as sets are.
        _, first, place = np.unique(walker, return_index=True, return_inverse=True)
        rank = np.empty(len(first), np.int64)
        rank[np.argsort(first)] = np.arange(len(first))
        order = np.lexsort((domain[set_rows], rank[place]))
    elif vms.fault_domain is not None or vms.zone is not None:
        order = np.lexsort((domain[set_rows], walker))
    else:
        order = np.arange(len(set_rows))
    set_rows, walker = set_rows[order], walker[order]
    walked = domain[set_rows]
    is_new_set = np.diff(walker, prepend=-1) != 0
    unit_start = np.flatnonzero(is_new_set | (np.diff(walked.astype(np.int16), prepend=-1) != 0))
    rows = np.concatenate([set_rows, rows[len(set_rows) :]])
    return Cut(
        _block(
            block.vm_key[rows],
            np.append(np.flatnonzero(is_new_set[unit_start]), len(unit_start)),
            walker_key[walker[unit_start]],
            walked[unit_start],
            np.append(unit_start, len(set_rows)),
        ),
        rows,
        None if vms.deleted_ms is None else vms.deleted_ms[rows],
        None if vms.profile is None else vms.profile[rows],
        Limits.none(len(rows)) if vms.limits is None else vms.limits.of(rows),
        None,
        vms.sets_of(rows),
        domain,
        is_hit,
    )


def _cut_hosts(vms: Vms, rows: Int64s, domain: npt.NDArray[np.uint8], is_hit: Bools) -> Cut:
    """`cut` where hosts are the units: VMs by host, then by set and domain. Of the block only `vm_key` is of use.

    All VMs of a host are hit for the length that is drawn for it, so its key stands for theirs.
    """
    assert vms.host is not None
    host, keys = vms.host
    if vms.fault_domain is not None or vms.zone is not None:
        walked = np.concatenate([domain, np.zeros(len(is_hit) - len(domain), np.uint8)])
        rows = rows[np.lexsort((walked[rows], vms.sets_of(rows)))]
    by_host, stops = np.empty(len(rows), np.int64), np.zeros(len(keys) + 1, np.int64)
    hosts.sort_by_host(host, rows, stops, by_host)
    rows = by_host
    sizes = np.diff(stops[:-1], prepend=0)
    there = np.flatnonzero(sizes)
    key, count, offsets = keys[there], len(there), np.append(0, stops[there])
    block = _block(np.repeat(key, sizes[there]), np.arange(count + 1), key, np.zeros(count, np.uint8), offsets)
    return Cut(
        block,
        rows,
        None if vms.deleted_ms is None else vms.deleted_ms[rows],
        None if vms.profile is None else vms.profile[rows],
        Limits.none(len(rows)) if vms.limits is None else vms.limits.of(rows),
        None if vms.created_ms is None else np.where(is_hit[rows], -NEVER_MS, vms.created_ms[rows]),
        vms.sets_of(rows),
        domain,
        is_hit,
    )
