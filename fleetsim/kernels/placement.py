"""Which host takes which VM: a random one that has room, the first that has, or the one that is left fullest.

Axes: V = VMs, H = hosts, C = classes; VMs of a class go on hosts of that class alone. `need` and `room` are of vCPUs
and memory, [.., 2], in millionths, so that sums are exact. A VM that finds no room keeps the host it had, NONE.
"""

import numpy as np

from fleetsim.kernels.fit import NONE, change, leaf_count_of, next_with_room
from fleetsim.kernels.jit import kernel
from fleetsim.kernels.rng import draw64, scaled

TRIES = 8
"""Hosts a VM draws among all of its class before it looks for one with room."""
_ROUNDING = 1e-9


@kernel
def deal(supply, demand, given, class_of):
    """Give each host a class: of those that lack something the one that lacks most, else the one with least to spare.

    Reads    supply    float64[H]  what each host holds, as a share of all
             demand    float64[C]  what each class needs, above 0
    Updates  given     float64[C]  what each class has
    Writes   class_of  int64[H]
    """
    for host in range(supply.shape[0]):
        chosen = 0
        for class_ in range(1, demand.shape[0]):
            if demand[class_] - given[class_] > demand[chosen] - given[chosen]:
                chosen = class_
        if demand[chosen] - given[chosen] <= _ROUNDING * supply[host]:
            for class_ in range(demand.shape[0]):
                if given[class_] * demand[chosen] < given[chosen] * demand[class_]:
                    chosen = class_
        given[chosen] += supply[host]
        class_of[host] = chosen


@kernel
def scatter(key, address, vm_offsets, vms, vm_key, need, host_offsets, hosts, room, most, host_of):
    """Place VMs in the order of *vms*, each on a host it draws among those of its class.

    Who meets full hosts only takes the next that has room after the last one drawn: while there is room everywhere,
    where a VM goes depends on no other.

    Reads    vm_offsets, vms      int64[C+1], int64[]  VMs by class, in the order they are placed
             vm_key, need         int64[V], int64[V,2]
             host_offsets, hosts  int64[C+1], int64[]  hosts by class
    Updates  room                 int64[H,2]  what is left
             host_of              int64[V]
    Scratch  most                 int64[4 * H,2]
    """
    for class_ in range(vm_offsets.shape[0] - 1):
        host_start = host_offsets[class_]
        host_count = host_offsets[class_ + 1] - host_start
        if host_count == 0:
            continue
        leaf_count = _plant(hosts, host_start, host_count, room, most)
        for place in range(vm_offsets[class_], vm_offsets[class_ + 1]):
            vm = vms[place]
            leaf = np.int64(NONE)
            drawn = np.int64(0)
            for attempt in range(1, TRIES + 1):
                draw = draw64(key, np.uint64(vm_key[vm]), address + np.uint64(attempt), np.uint64(0))
                drawn = leaf_count + np.int64(scaled(draw, np.uint64(host_count)))
                if most[drawn, 0] >= need[vm, 0] and most[drawn, 1] >= need[vm, 1]:
                    leaf = drawn
                    break
            if leaf == NONE:
                leaf = next_with_room(most, leaf_count, drawn, need[vm, 0], need[vm, 1])
            if leaf == NONE:
                leaf = next_with_room(most, leaf_count, np.int64(1), need[vm, 0], need[vm, 1])
            if leaf != NONE:
                host = hosts[host_start + leaf - leaf_count]
                change(most, leaf, -need[vm, 0], -need[vm, 1])
                room[host, 0] -= need[vm, 0]
                room[host, 1] -= need[vm, 1]
                host_of[vm] = host


@kernel
def first_fit(vm_offsets, vms, need, host_offsets, hosts, room, most, host_of):
    """Place VMs in the order of *vms*, each on the first host of its class that has room; arrays as in `scatter`."""
    for class_ in range(vm_offsets.shape[0] - 1):
        host_start = host_offsets[class_]
        host_count = host_offsets[class_ + 1] - host_start
        if host_count == 0:
            continue
        leaf_count = _plant(hosts, host_start, host_count, room, most)
        for place in range(vm_offsets[class_], vm_offsets[class_ + 1]):
            vm = vms[place]
            leaf = next_with_room(most, leaf_count, np.int64(1), need[vm, 0], need[vm, 1])
            if leaf != NONE:
                host = hosts[host_start + leaf - leaf_count]
                change(most, leaf, -need[vm, 0], -need[vm, 1])
                room[host, 0] -= need[vm, 0]
                room[host, 1] -= need[vm, 1]
                host_of[vm] = host


@kernel
def best_fit(vm_offsets, vms, need, host_offsets, hosts, room, by_room, host_of):
    """Place VMs in the order of *vms*, each where the least is left: vCPUs, then memory, then the first host.

    Arrays as in `scatter`, but for
    Scratch  by_room  int64[H]  hosts of the class, the fullest first
    """
    for class_ in range(vm_offsets.shape[0] - 1):
        host_start = host_offsets[class_]
        host_count = host_offsets[class_ + 1] - host_start
        least_vcpus = least_memory = np.int64(2**62)
        for place in range(vm_offsets[class_], vm_offsets[class_ + 1]):
            least_vcpus = min(least_vcpus, need[vms[place], 0])
            least_memory = min(least_memory, need[vms[place], 1])
        # Insertion sort: hosts mostly come with as much room as the one before.
        full_count = 0
        for count in range(host_count):
            host = hosts[host_start + count]
            is_full = room[host, 0] < least_vcpus or room[host, 1] < least_memory
            _settle(by_room, room, full_count, count, host, is_full)
            full_count += is_full
        for place in range(vm_offsets[class_], vm_offsets[class_ + 1]):
            vm = vms[place]
            low, high = full_count, host_count
            while low < high:
                middle = (low + high) // 2
                if room[by_room[middle], 0] < need[vm, 0]:
                    low = middle + 1
                else:
                    high = middle
            while low < host_count and room[by_room[low], 1] < need[vm, 1]:
                low += 1
            if low < host_count:
                host = by_room[low]
                room[host, 0] -= need[vm, 0]
                room[host, 1] -= need[vm, 1]
                host_of[vm] = host
                is_full = room[host, 0] < least_vcpus or room[host, 1] < least_memory
                _settle(by_room, room, full_count, low, host, is_full)
                full_count += is_full


@kernel
def _settle(by_room, room, full_count, place, host, is_full):
    """Put *host* where it belongs, from *place* down; full hosts come first, in any order."""
    while place > full_count:
        other = by_room[place - 1]
        if not is_full:
            vcpus, memory = room[other, 0] - room[host, 0], room[other, 1] - room[host, 1]
            if vcpus < 0 or (vcpus == 0 and (memory < 0 or (memory == 0 and other < host))):
                break
        by_room[place] = other
        place -= 1
    by_room[place] = host


@kernel
def _plant(hosts, host_start, host_count, room, most):
    """Make *most* the tree over the hosts' room: of node n the largest of 2n and 2n + 1. Returns the first leaf."""
    leaf_count = leaf_count_of(host_count)
    for resource in range(2):
        for place in range(leaf_count):
            is_host = place < host_count
            most[leaf_count + place, resource] = room[hosts[host_start + place], resource] if is_host else NONE
        for node in range(leaf_count - 1, 0, -1):
            most[node, resource] = max(most[2 * node, resource], most[2 * node + 1, resource])
    return leaf_count
