"""Hosts as units: what each of them claims, and in which order they are tried (semantics.md 12-20)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetsim.blocks import Bools, Cut, Int64s, Vms, frozen, owners
from fleetsim.course import Course
from fleetsim.gating import Lives, Passed, Units
from fleetsim.kernels import gate, hosts, rng, walk
from fleetsim.scenario import Campaign
from fleetsim.schema import UPDATE_DOMAIN_COUNT_MAX, HostOrder, Stream


def units_of_hosts(vms: Vms, taken: Cut, campaign: Campaign, course: Course, busy_ms: Int64s | None = None) -> Units:
    """The hosts of *taken* as units, each with its VMs by set and domain.

    busy_ms  int64[V] when what customers have started with a VM is over, else 0: no unit starts before
    """
    key, vm_offsets = taken.block.set_key, taken.block.unit_offsets
    host_count, set_count = len(key), len(vms.block.set_key)
    earliest_ms, draw = np.empty(host_count, np.int64), np.empty(host_count, np.uint64)
    walk.draw_starts(course.start_ms, campaign.spread_ms, *course.draws(Stream.HOST_SPREAD), key, earliest_ms)
    rng.fill_draws(*course.draws(Stream.START_PRIORITY), key, draw)
    if busy_ms is not None and host_count:
        earliest_ms = np.maximum(earliest_ms, np.maximum.reduceat(busy_ms, vm_offsets[:-1]))
    domain_count = vms.domain_limit
    turns = _Turns.none(host_count, set_count, domain_count)
    match campaign.host_order:
        case HostOrder.AUTO:
            turns = _aligned(vms, taken, course)
        case HostOrder.RACK | HostOrder.COLUMN:
            assert vms.host is not None
            assert vms.host_rank is not None
            turns.position[:] = vms.host_rank[vms.host[0][taken.rows[vm_offsets[:-1]]]]
        case HostOrder.POLICY:
            turns.position[:] = _by_policy(vms, taken, campaign)
        case HostOrder.MOST_VMS_FIRST:
            turns.position[:] = -np.diff(vm_offsets)
        case HostOrder.FEWEST_CLAIMS_FIRST:
            turns.position[:] = _claim_counts(taken)
    turns.position[:] -= turns.position.min(initial=0)

    set_places, vm_place = np.empty(set_count + 1, np.int64), np.empty(len(taken.rows), np.int64)
    rank = np.zeros((set_count, domain_count), np.uint8)
    hosts.place_domains(taken.set_row, taken.rows, taken.domain, turns.place_of_domain, rank, set_places, vm_place)
    is_by_row = vms.fault_domain is None and vms.zone is None  # within a host
    return Units(
        walker_offsets=np.arange(host_count + 1),
        draw=draw,
        vm_offsets=vm_offsets,
        first_row=taken.rows[vm_offsets[:-1]] if is_by_row else np.minimum.reduceat(taken.rows, vm_offsets[:-1]),
        earliest_ms=earliest_ms,
        position=turns.position,
        waits_turn=np.zeros(host_count, np.bool_),
        vm_place=vm_place,
        set_places=set_places,
        is_ordered=turns.is_ordered,
        zone=None if vms.zone is None else vms.zone[taken.rows[vm_offsets[:-1]]],
    )


def _claim_counts(taken: Cut) -> Int64s:
    """How many sets each host has VMs of: int64[H]."""
    unit_of_row = owners(taken.block.unit_offsets)
    is_new = (np.diff(taken.set_row, prepend=-2) != 0) | (np.diff(unit_of_row, prepend=-1) != 0)
    return np.bincount(unit_of_row[is_new & (taken.set_row >= 0)], minlength=len(taken.block.set_key))


def _by_policy(vms: Vms, taken: Cut, campaign: Campaign) -> Int64s:
    """The rank of each host by the user's policy: int64[H]."""
    assert vms.host is not None
    assert campaign.host_policy is not None
    host_count, unit_of_row = len(taken.block.set_key), owners(taken.block.unit_offsets)
    in_set = np.flatnonzero(taken.set_row >= 0)
    lowest, highest = np.full((2, host_count), hosts.NONE)
    hosts.find_domains(unit_of_row[in_set], frozen(taken.domain[taken.rows[in_set]]), lowest, highest)
    host = vms.host[0][taken.rows[taken.block.unit_offsets[:-1]]]
    told = {
        "vm_count": np.diff(taken.block.unit_offsets),
        "claim_count": _claim_counts(taken),
        "domain": lowest,
        **{name: values[host] for name, values in vms.told.items()},
    }
    _, rank = np.unique(campaign.host_policy.priorities(told), return_inverse=True)
    return rank.astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Turns:
    """Which hosts wait for which: H hosts, S sets, D numbers of domains."""

    position: Int64s  # [H]
    is_ordered: Bools  # [S] sets that are done domain by domain
    place_of_domain: npt.NDArray[np.uint8]  # [S, D] the place of each domain in that

    @staticmethod
    def none(host_count: int, set_count: int, domain_count: int) -> "_Turns":
        """None waits."""
        places = np.tile(np.arange(domain_count, dtype=np.uint8), (set_count, 1))
        return _Turns(np.zeros(host_count, np.int64), np.zeros(set_count, np.bool_), places)


def _aligned(vms: Vms, taken: Cut, course: Course) -> _Turns:
    """Turns by `auto`: where the hosts of a component carry one domain number each, domain by domain.

    That is judged by all VMs the fleet puts on hosts of this stage; the order is drawn for the component's first set.
    """
    assert vms.host is not None
    (host_of, host_key), set_key = vms.host, vms.block.set_key
    host_of_unit = host_of[taken.rows[taken.block.unit_offsets[:-1]]]  # rising
    host_count, set_count = len(host_of_unit), len(set_key)
    domain_count = vms.domain_limit
    turns = _Turns.none(host_count, set_count, domain_count)
    host = host_of[: vms.block.single_row]
    if host_count < len(host_key):
        unit_of = np.full(len(host_key), gate.NONE)
        unit_of[host_of_unit] = np.arange(host_count)
        host = unit_of[host]
    component = np.empty(set_count, np.int64)
    first_set, lowest, highest = np.full((3, host_count), gate.NONE)
    gate.find_components(host, vms.set_row, first_set, component)
    hosts.find_domains(host, taken.domain, lowest, highest)
    has_sets = np.flatnonzero(first_set >= 0)
    if not len(has_sets):
        return turns
    of_host = component[first_set[has_sets]]  # by the first set of it
    is_aligned = np.ones(set_count, np.bool_)
    is_aligned[of_host[lowest[has_sets] != highest[has_sets]]] = False
    is_ordered = is_aligned[component]

    # The domains of each component, in the order that is drawn for it.
    ordered, of_host = has_sets[is_aligned[of_host]], of_host[is_aligned[of_host]]
    is_there = np.zeros((set_count, domain_count), np.bool_)
    is_there[of_host, lowest[ordered]] = True
    first, domains = np.nonzero(is_there)  # zone by zone
    zone, number = np.divmod(domains, UPDATE_DOMAIN_COUNT_MAX)
    draws = np.empty(len(first), np.uint64)
    walk.draw_units(*course.draws(Stream.UPDATE_DOMAIN_ORDER), set_key[first], number.astype(np.uint8), draws)
    is_new = np.diff(first, prepend=-1) != 0
    components = np.append(np.flatnonzero(is_new), len(first))
    zones = np.append(np.flatnonzero(is_new | (np.diff(zone, prepend=-1) != 0)), len(first))
    turn = np.empty(len(first), np.int64)
    walk.number_turns(zones, draws, np.empty(UPDATE_DOMAIN_COUNT_MAX, np.uint64), turn)
    places = turns.place_of_domain
    drawn = places.copy()
    drawn[first, domains] = zones[owners(zones)] - components[owners(components)] + turn
    places[is_ordered] = drawn[component[is_ordered]]
    turns.position[ordered] = places[of_host, lowest[ordered]]
    return _Turns(turns.position, is_ordered, places)


def longest_set_ms(units: Units, taken: Cut, lives: Lives, passed: Passed, gap_ms: int) -> int:
    """The least that any set takes in any order, by the hosts that hit some of it."""
    set_count, domain_count = len(units.is_ordered), int(taken.domain.max(initial=0)) + 1
    when = *lives, passed.start_ms, passed.end_ms, gap_ms
    return int(
        hosts.longest_set_ms(
            units.vm_offsets, taken.set_row, taken.rows, taken.domain, *when,
            np.zeros((set_count, domain_count), np.int64), *np.zeros((2, set_count), np.int64),
        )
    )  # fmt: skip


def sets_that_share(vms: Vms, domain: npt.NDArray[np.uint8], lives: Bools) -> Bools:
    """Sets that have living VMs of two domains on one host: bool[S]; *domain* is of the VMs in sets."""
    assert vms.host is not None
    is_shared = np.zeros(len(vms.block.set_key), np.bool_)
    last_set, last_domain = np.full((2, len(vms.host[1])), hosts.NONE)
    hosts.find_shared(vms.set_row, vms.host[0], domain, lives, last_set, last_domain, is_shared)
    return is_shared
