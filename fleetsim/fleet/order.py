"""The order of a region's VMs: sets by component and id, their update domains, VMs by id; singles last.

Also what that order settles: domains that the fleet leaves open, placement groups of scale sets, and where
parts are cut. Arrays in, arrays out. Integers are ordered by value, strings by their UTF-8 bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetsim.fleet.read import Findings
from fleetsim.kernels.rng import digest_strings
from fleetsim.schema import FAULT_DOMAIN_COUNT_DEFAULT, PLACEMENT_GROUP_VMS, UPDATE_DOMAIN_COUNT_DEFAULT

PART_ROWS = 1 << 20
"""VMs of a part, at most, unless a single set is larger."""
DOMAIN_COUNTS = {"update_domain": UPDATE_DOMAIN_COUNT_DEFAULT, "fault_domain": FAULT_DOMAIN_COUNT_DEFAULT}
"""Columns of domains, and over how many the VMs of a set are dealt where the fleet leaves them open."""

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
_DOMAIN_STRIDE = 256  # unit keys: set row * stride + domain
_BLOCK_ROWS = 1 << 18  # VMs in sets that are brought into the order of units at a time


@dataclass(frozen=True, slots=True)
class Domains:
    """Domains of one kind as a fleet gives them, a row a VM.

    given        uint8 with nulls, or None where the fleet has no such column
    is_assigned  bool with nulls: a prepared fleet's own word that it dealt them, or None
    """

    given: pa.Array | None = None
    is_assigned: pa.Array | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """A region in its final order. Axes: V = its VMs, W = those in sets, which go first, S = sets, U = units.

    rows                       int64[V]    position of each VM in the table as it was read; None: as it stands
    set_offsets                int64[S+1]  where sets start; from the last on, singles
    unit_set                   int64[U]    set of each unit
    unit_domain                uint8[U]    its update domain
    unit_vm_count              int64[U]
    fault_domain               uint8[W]
    is_update_domain_assigned  bool[S]     sets whose update domains were open
    is_fault_domain_assigned   bool[S]
    """

    rows: Ints | None
    set_offsets: Ints
    unit_set: Ints
    unit_domain: Bytes
    unit_vm_count: Ints
    fault_domain: Bytes
    is_update_domain_assigned: Bools
    is_fault_domain_assigned: Bools

    @property
    def in_set_count(self) -> int:
        return int(self.set_offsets[-1])


def order_region(
    region: str,
    vm: pa.Array,
    sets: pa.Array,
    update: Domains,
    fault: Domains,
    findings: Findings,
    components: Callable[[Ints, Ints, int], Ints] | None = None,
) -> Order:
    """Order the VMs of *region*; a set whose update or fault domains are given in part is found.

    vm, sets    int64 or string; a null set is a single
    components  of rows of VMs, their sets (from 0, by id) and the number of sets: the first set of the component of
                each. None: each set is one
    """
    rows, set_offsets = _sets_of(vm, sets)
    if components is not None:
        rows, set_offsets = _by_component(np.arange(len(vm)) if rows is None else rows, set_offsets, components)
    set_count, in_set_count = len(set_offsets) - 1, int(set_offsets[-1])
    fault_domain = np.empty(in_set_count, np.uint8)
    is_assigned = {name: np.empty(set_count, np.bool_) for name in DOMAIN_COUNTS}
    units: list[tuple[Ints, Bytes, Ints]] = []
    # Whole sets at a time: what they take for a while is not taken for a region.
    for start, stop in pairwise(_blocks(set_offsets)):
        offsets = set_offsets[start : stop + 1]
        vms = slice(int(offsets[0]), int(offsets[-1]))
        own = np.arange(vms.start, vms.stop) if rows is None else rows[vms]
        offsets = offsets - vms.start
        set_size = np.diff(offsets)
        place = np.arange(len(own)) - np.repeat(offsets[:-1], set_size)
        settled: list[Bytes] = []
        in_part: list[tuple[int, str, str]] = []
        for name, domains in zip(DOMAIN_COUNTS, (update, fault), strict=True):
            dealt = _dealt(place, set_size, DOMAIN_COUNTS[name])
            domain, is_assigned[name][start:stop], open_count = _settled_domains(domains, own, offsets, dealt)
            settled.append(domain)
            for mixed in np.flatnonzero((open_count > 0) & (open_count < set_size)).tolist():
                of_set = own[offsets[mixed] : offsets[mixed + 1]]
                in_part.append((start + mixed, name, _told_in_part(region, name, vm, sets, domains, of_set)))
        for mixed, name, sentence in sorted(in_part):
            findings.add("domains", (region, name, mixed), sentence)
        unit_key = np.repeat(np.arange(start, stop) * _DOMAIN_STRIDE, set_size) + settled[0]
        if (unit_key[:-1] > unit_key[1:]).any():
            by_unit = np.argsort(unit_key, kind="stable")  # VMs of a unit stay in order of their id
            unit_key = unit_key[by_unit]
            settled[1] = settled[1][by_unit]
            if rows is None:
                rows = np.arange(len(vm))
            rows[vms] = own[by_unit]
        fault_domain[vms] = settled[1]
        unit_start = np.flatnonzero(np.diff(unit_key, prepend=-1))
        unit_set, unit_domain = np.divmod(unit_key[unit_start], _DOMAIN_STRIDE)
        units.append((unit_set, unit_domain.astype(np.uint8), np.diff(np.append(unit_start, len(own)))))
    if rows is not None and (rows == np.arange(len(rows))).all():
        rows = None
    of_none = np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.int64)
    unit_set, unit_domain, unit_vm_count = (np.concatenate(each) for each in zip(of_none, *units, strict=True))
    return Order(
        rows,
        set_offsets,
        unit_set=unit_set,
        unit_domain=unit_domain,
        unit_vm_count=unit_vm_count,
        fault_domain=fault_domain,
        is_update_domain_assigned=is_assigned["update_domain"],
        is_fault_domain_assigned=is_assigned["fault_domain"],
    )


def _told_in_part(region: str, name: str, vm: pa.Array, sets: pa.Array, domains: Domains, of_set: Ints) -> str:
    """What is wrong about a set of which some VMs, at the rows *of_set*, give their domains and others do not."""
    assert domains.given is not None
    is_open = domains.given.take(pa.array(of_set)).is_null().to_numpy(zero_copy_only=False)
    return (
        f"set '{sets[int(of_set[0])]}' in region '{region}': column '{name}' must be given"
        f" for all of its {len(of_set):,} VMs or for none, got {np.count_nonzero(is_open):,} without, the"
        f" first of them VM '{vm[int(of_set[np.argmax(is_open)])]}'"
    )


def _blocks(set_offsets: Ints) -> list[int]:
    """Sets at which blocks of about _BLOCK_ROWS VMs start, and how many sets there are."""
    cuts = np.searchsorted(set_offsets, np.arange(0, int(set_offsets[-1]), _BLOCK_ROWS))
    starts: list[int] = np.unique(np.append(cuts, len(set_offsets) - 1)).tolist()
    return starts


def _by_component(rows: Ints, set_offsets: Ints, components: Callable[[Ints, Ints, int], Ints]) -> tuple[Ints, Ints]:
    """*rows* and *set_offsets* with the sets of a component next to each other."""
    set_size = np.diff(set_offsets)
    set_row = np.repeat(np.arange(len(set_size)), set_size)
    by_component = np.argsort(components(rows[: len(set_row)], set_row, len(set_size)), kind="stable")
    rank = np.empty(len(by_component), np.int64)
    rank[by_component] = np.arange(len(rank))
    in_sets = rows[np.argsort(rank[set_row], kind="stable")]
    offsets = np.concatenate([[0], np.cumsum(set_size[by_component])])
    return np.concatenate([in_sets, rows[len(set_row) :]]), offsets


def _dealt(place: Ints, set_size: Ints, domain_count: int) -> Bytes:
    """Domains round robin: of the VM at each *place* of its set, sets being of *set_size*."""
    # A cycle as long as the longest set is cheaper than a division a VM.
    cycle = (np.arange(set_size.max(initial=0)) % domain_count).astype(np.uint8)
    return cycle[place]


def _settled_domains(domains: Domains, rows: Ints, set_offsets: Ints, dealt: Bytes) -> tuple[Bytes, Bools, Ints]:
    """Domain of each of *rows*, the VMs in sets; which sets have them *dealt*; how many VMs of each gave none.

    Domains that are given are kept. What a prepared fleet says it dealt counts as dealt while it is what is dealt now.
    """
    set_start, set_size = set_offsets[:-1], np.diff(set_offsets)
    if domains.given is None or not len(rows):
        return dealt, np.ones(len(set_start), np.bool_), set_size
    given = domains.given.take(pa.array(rows))
    is_open = given.is_null().to_numpy(zero_copy_only=False)
    open_count = np.add.reduceat(is_open, set_start, dtype=np.int64)
    is_assigned = open_count == set_size
    settled = np.where(is_open, dealt, given.fill_null(0).to_numpy())
    if domains.is_assigned is not None:
        was_dealt = domains.is_assigned.take(pa.array(rows)).fill_null(False).to_numpy(zero_copy_only=False)
        is_assigned |= np.logical_and.reduceat(was_dealt & (settled == dealt), set_start)
    return settled, is_assigned, open_count


def placement_groups(region: str, vm: pa.Array, sets: pa.Array, is_scale_set: Bools, findings: Findings) -> pa.Array:
    """*sets* with each scale set larger than a placement group cut, by VM id, into S/pg-0, S/pg-1, ...

    Names are strings; where *sets* are integers, none may need a cut.
    """
    if not is_scale_set.any():
        return sets
    rows, set_offsets = _sets_of(vm, sets)
    if set_offsets[-1] == 0:
        return sets
    rows = np.arange(len(vm)) if rows is None else rows[: set_offsets[-1]]
    set_start, set_size = set_offsets[:-1], np.diff(set_offsets)
    scale_count = np.add.reduceat(is_scale_set[rows], set_start, dtype=np.int64)
    for mixed in np.flatnonzero((scale_count > 0) & (scale_count < set_size)):
        findings.add(
            "set kinds",
            (region, int(mixed)),
            f"set '{sets[int(rows[set_start[mixed]])]}' in region '{region}': column 'set_kind' must be"
            " the same for"
            " all of its VMs, got a scale set and an availability set",
        )
    is_cut = (scale_count == set_size) & (set_size > PLACEMENT_GROUP_VMS)
    if not is_cut.any():
        return sets
    assert not pa.types.is_integer(sets.type)
    place = np.arange(len(rows)) - np.repeat(set_start, set_size)
    group = pa.array(place // PLACEMENT_GROUP_VMS).cast(sets.type)
    old_name = sets.take(pa.array(rows))
    cut_name = pc.binary_join_element_wise(old_name, group, pa.scalar("/pg-", sets.type))
    is_cut_row = pa.array(np.repeat(is_cut, set_size))
    taken = pc.unique(old_name.filter(pc.invert(is_cut_row)))
    names = pc.unique(cut_name.filter(is_cut_row))
    for name in names.filter(pc.is_in(names, value_set=taken)):
        findings.add(
            "placement groups",
            (region, name.as_py()),
            f"set '{name}' in region '{region}': must not be called like a placement group of another set",
        )
    new_name = pc.if_else(is_cut_row, cut_name, old_name)
    place_of_row = np.full(len(vm), -1)
    place_of_row[rows] = np.arange(len(rows))
    return new_name.take(pa.array(place_of_row, mask=place_of_row < 0))


def part_offsets(set_offsets: Ints, vm_count: int) -> list[int]:
    """Where parts start, and the end: whole sets while they fit in PART_ROWS, then singles fill on."""
    in_set_count = int(set_offsets[-1])
    offsets = [0]
    while offsets[-1] < vm_count:
        limit = offsets[-1] + PART_ROWS
        if limit >= in_set_count:
            offsets.append(min(limit, vm_count))
            continue
        last = int(np.searchsorted(set_offsets, limit, side="right")) - 1
        if set_offsets[last] == offsets[-1]:
            last += 1  # one set larger than a part is a part
        offsets.append(int(set_offsets[last]))
    return offsets


def keys_of(array: pa.Array) -> Ints:
    """64-bit keys draws are addressed by: integers as they are, strings by digest. *array* has no nulls."""
    if pa.types.is_integer(array.type):
        values: Ints = array.to_numpy()
        return values
    keys = np.empty(len(array), np.int64)
    digest_strings(*characters_of(array), keys)
    return keys


def characters_of(array: pa.Array) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
    """Cut points [N+1] and UTF-8 bytes of a string array without nulls."""
    _, offsets, characters = array.buffers()
    cuts = np.frombuffer(offsets or bytes(8), np.int64 if array.type == pa.large_string() else np.int32)
    return cuts[array.offset : array.offset + len(array) + 1], np.frombuffer(characters or b"", np.uint8)


def _sets_of(vm: pa.Array, sets: pa.Array) -> tuple[Ints | None, Ints]:
    """Rows sorted by (set, vm), singles by vm after them, None as they stand; where sets start in them [S+1]."""
    if sets.null_count == 0:
        rows = None if _is_rising([_ordered_codes(sets)], vm) else sorted_rows([sets, vm])
        ordered = sets if rows is None else sets.take(pa.array(rows))
    else:
        is_in_set = sets.is_valid().to_numpy(zero_copy_only=False)
        in_set, single = np.flatnonzero(is_in_set), np.flatnonzero(~is_in_set)
        in_set = in_set[sorted_rows([sets.take(pa.array(in_set)), vm.take(pa.array(in_set))])]
        rows = np.concatenate([in_set, single[sorted_rows([vm.take(pa.array(single))])]])
        ordered = sets.take(pa.array(in_set))
    is_first = np.ones(len(ordered), np.bool_)
    if len(ordered):
        is_first[1:] = pc.not_equal(ordered[1:], ordered[:-1]).to_numpy(zero_copy_only=False)
    return rows, np.append(np.flatnonzero(is_first), len(ordered))


def sorted_rows(keys: list[pa.Array]) -> Ints:
    """Positions that sort by *keys*, the first the most significant; the last is unique in a sound fleet."""
    *upper, last = keys
    codes = [_ordered_codes(key) for key in upper]
    if _is_rising(codes, last):  # fleets mostly come as somebody wrote them in order
        return np.arange(len(last))
    if pa.types.is_integer(last.type):
        rows = np.argsort(last.to_numpy())
    else:
        rows = pc.sort_indices(last).to_numpy().astype(np.int64)
    for code in reversed(codes):
        rows = rows[np.argsort(code[rows], kind="stable")]
    return rows


def _ordered_codes(key: pa.Array) -> Ints:
    """Integers in the order of *key*: its own, or the ranks of its distinct strings, which are few."""
    if pa.types.is_integer(key.type):
        values: Ints = key.to_numpy()
        return values
    words = key.dictionary_encode()
    ranks = np.empty(len(words.dictionary), np.int64)
    ranks[pc.sort_indices(words.dictionary).to_numpy()] = np.arange(len(ranks))
    codes: Ints = ranks[words.indices.to_numpy()]
    return codes


def _is_rising(codes: list[Ints], last: pa.Array) -> bool:
    rising = pc.less(last[:-1], last[1:]).to_numpy(zero_copy_only=False)
    for code in reversed(codes):
        rising = (code[:-1] < code[1:]) | ((code[:-1] == code[1:]) & rising)
    return bool(rising.all())
