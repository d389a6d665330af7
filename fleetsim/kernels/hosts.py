"""Host kernels: which VMs sit together, and what that means for their sets.

Axes: V = VMs, by row; N = some of them; H = hosts; S = sets. Passes over all VMs, so that no sort is needed.
"""

import numpy as np

from fleetsim.kernels.jit import kernel
from fleetsim.schema import NEVER_MS

NONE = -1


@kernel
def sort_by_host(host, rows, host_offsets, by_host):
    """Put *rows* in the order of their hosts; of one host they stay as they are.

    Reads    host    int64[V], rows int64[N]
    Writes   by_host       int64[N]
    Updates  host_offsets  int64[H+1] = 0  where the rows of each host end; of the last, nothing
    """
    for row in rows:
        host_offsets[host[row] + 1] += 1
    for of_host in range(host_offsets.shape[0] - 1):
        host_offsets[of_host + 1] += host_offsets[of_host]
    for row in rows:
        by_host[host_offsets[host[row]]] = row
        host_offsets[host[row]] += 1


@kernel
def find_domains(host, domain, lowest, highest):
    """The least and the greatest domain on each host: host int64[N], NONE for some, domain uint8[N], a row a VM.

    Updates  lowest, highest  int64[H] = NONE
    """
    for row in range(host.shape[0]):
        of_host, number = host[row], np.int64(domain[row])
        if of_host == NONE:
            continue
        if lowest[of_host] == NONE or number < lowest[of_host]:
            lowest[of_host] = number
        highest[of_host] = max(highest[of_host], number)


@kernel
def place_domains(set_row, rows, domain, place_of_domain, rank, set_places, vm_place):
    """The place that each VM has its host claim: the populated domains of a set in the order of their turns.

    Reads    set_row, rows    int64[N]  the set of each VM, NONE for singles, and its row; domain uint8[] by row
             place_of_domain  uint8[S, D]  the turn of each domain
    Scratch  rank             uint8[S, D] = 0
    Writes   set_places       int64[S+1]  places of each set: the whole of it, then its domains
             vm_place         int64[N]    NONE for singles
    """
    for row in range(set_row.shape[0]):
        if set_row[row] != NONE:
            rank[set_row[row], place_of_domain[set_row[row], domain[rows[row]]]] = 1
    set_places[0] = 0
    for set_ in range(rank.shape[0]):
        count = 0
        for place in range(rank.shape[1]):
            count += rank[set_, place]
            rank[set_, place] = count - rank[set_, place]
        set_places[set_ + 1] = set_places[set_] + 1 + count
    for row in range(set_row.shape[0]):
        set_ = set_row[row]
        if set_ == NONE:
            vm_place[row] = NONE
        else:
            vm_place[row] = set_places[set_] + 1 + rank[set_, place_of_domain[set_, domain[rows[row]]]]


@kernel
def find_shared(set_row, host, domain, is_living, last_set, last_domain, is_shared):
    """Which sets have living VMs of two domains on one host.

    Reads    set_row int64[N] rising, of the first N VMs; host int64[V], domain uint8[N], is_living bool[V]
    Scratch  last_set int64[H] = NONE, last_domain int64[H]
    Updates  is_shared  bool[S] = False
    """
    for row in range(set_row.shape[0]):
        if not is_living[row]:
            continue
        of_host, set_ = host[row], set_row[row]
        if last_set[of_host] != set_:
            last_set[of_host], last_domain[of_host] = set_, domain[row]
        elif last_domain[of_host] != domain[row]:
            is_shared[set_] = True


@kernel
def longest_set_ms(
    unit_offsets, set_row, rows, domain, created_ms, deleted_ms, unit_start_ms, unit_end_ms, gap_ms,
    domain_ms, set_ms, turn_count,
):  # fmt: skip
    """The least that any set takes in any order: each domain its longest host, hosts with several their own, and gaps.

    Reads    unit_offsets int64[H+1]  VMs of each host, by set; set_row int64[N] NONE for singles
             rows int64[N]; domain uint8[] by row
             created_ms, deleted_ms   int64[N]; unit_start_ms, unit_end_ms int64[H]
    Scratch  domain_ms  int64[S, domains] = 0, set_ms int64[S] = 0, turn_count int64[S] = 0
    """
    for unit in range(unit_start_ms.shape[0]):
        start_ms = unit_start_ms[unit]
        if start_ms == NEVER_MS:
            continue
        held_ms = unit_end_ms[unit] - start_ms
        row, stop = unit_offsets[unit], unit_offsets[unit + 1]
        while row < stop:
            set_ = set_row[row]
            first, has_several = np.int64(NONE), False
            while row < stop and set_row[row] == set_:
                if set_ != NONE and created_ms[row] <= start_ms < deleted_ms[row]:
                    number = np.int64(domain[rows[row]])
                    has_several |= first not in (NONE, number)
                    first = number
                row += 1
            if has_several:
                set_ms[set_] += held_ms
                turn_count[set_] += 1
            elif first != NONE:
                domain_ms[set_, first] = max(domain_ms[set_, first], held_ms)
    longest_ms = np.int64(0)
    for set_ in range(set_ms.shape[0]):
        for number in range(domain_ms.shape[1]):
            set_ms[set_] += domain_ms[set_, number]
            turn_count[set_] += np.int64(domain_ms[set_, number] > 0)
        longest_ms = max(longest_ms, set_ms[set_] + (turn_count[set_] - 1) * gap_ms)
    return longest_ms
