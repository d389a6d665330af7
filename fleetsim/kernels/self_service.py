"""The self-service kernel: requests of customers, one after the other, against the room on hosts updated already.

Axes: C = campaigns whose customers ask, V = VMs of a region, A = requests, P = pools of slots or hosts, B = VMs that
stages bar, E = rows of the log; where VMs are on hosts, H = hosts of the region, D = VMs that are deleted. Times are
int64 ms since scenario.start.
"""

from typing import NamedTuple

import numpy as np

from fleetsim.kernels.fit import NONE, change, next_with_room
from fleetsim.kernels.jit import kernel
from fleetsim.kernels.rng import draw64

ASKS_AGAIN_MS = 86_400_000
"""After a refusal, or a failure where that may be tried again (semantics.md 31)."""
REFUSALS_MAX = 3
"""After more than that a customer asks no more."""

# What became of a request, in the log; the numbers are those of schema.Result.
COMPLETED = 0
ABORTED = 1
RETRY_LATER = 2

FULL = -1
"""Instead of the rows of the log: it has no room for all of them."""


@kernel
def _push(heap_ms, heap_what, count, until_ms, what):
    """Put *what* into the binary heap of *count* entries, by *until_ms*."""
    hole = count
    while hole > 0 and until_ms < heap_ms[(hole - 1) >> 1]:
        heap_ms[hole], heap_what[hole] = heap_ms[(hole - 1) >> 1], heap_what[(hole - 1) >> 1]
        hole = (hole - 1) >> 1
    heap_ms[hole], heap_what[hole] = until_ms, what


@kernel
def _pop(heap_ms, heap_what, count):
    """Take the earliest entry out of the heap of *count*."""
    last = count - 1
    hole, child = 0, 1
    while child < last:
        if child + 1 < last and heap_ms[child + 1] < heap_ms[child]:
            child += 1
        if heap_ms[last] <= heap_ms[child]:
            break
        heap_ms[hole], heap_what[hole] = heap_ms[child], heap_what[child]
        hole, child = child, 2 * child + 1
    heap_ms[hole], heap_what[hole] = heap_ms[last], heap_what[last]


class Housed(NamedTuple):
    """What decides where VMs go that are on hosts, and how far that is; no host at all where they are not.

    deletion_row  int64[D]     by instant
    need, room    int64[V, 2], int64[H, 2]  of vCPUs and memory, in millionths
    host_of       int64[V]     where the fleet puts each
    pool_of, place_of  int64[H]  where each host stands among those of its pool, in the order of ids
    hosts, starts int64[H], int64[P + 1]  hosts by pool, and where those of each begin
    trees         int64[P + 1] where the tree of each pool begins in `most`
    most          int64[.., 2] see `fit`: room on hosts that may be gone to
    target        int64[V]     the host each has moved to, or NONE
    vms_left      int64[H]     VMs that the fleet puts there and that have not gone
    is_moved_from bool[H]      whether a customer has moved one of them away
    emptied, emptied_ms int64[H]  hosts in the order in which they were emptied, and when
    cursors       int64[CURSOR_COUNT]  how far each of these is
    """

    deletion_row: np.ndarray
    need: np.ndarray
    room: np.ndarray
    host_of: np.ndarray
    pool_of: np.ndarray
    place_of: np.ndarray
    hosts: np.ndarray
    starts: np.ndarray
    trees: np.ndarray
    most: np.ndarray
    target: np.ndarray
    vms_left: np.ndarray
    is_moved_from: np.ndarray
    emptied: np.ndarray
    emptied_ms: np.ndarray
    cursors: np.ndarray

    @staticmethod
    def nowhere() -> "Housed":
        """VMs are on no hosts."""
        none, pairs = np.empty(0, np.int64), np.empty((0, 2), np.int64)
        cursors = np.zeros(CURSOR_COUNT, np.int64)
        return Housed(
            none, pairs, pairs, none, none, none, none, none, none, pairs,
            none, none, np.empty(0, np.bool_), none, none, cursors,
        )  # fmt: skip


_DELETED = 0  # deletions that are done with
_EMPTIED = 1  # hosts that are emptied
_UPDATED = 2  # those of them that are updated, and so room
CURSOR_COUNT = 3


@kernel
def _change(housed, host, vcpus, memory):
    """Add to the room on *host*, or take from it."""
    pool = housed.pool_of[host]
    tree = housed.most[housed.trees[pool] : housed.trees[pool + 1]]
    change(tree, tree.shape[0] // 2 + housed.place_of[host], vcpus, memory)


@kernel
def _open(housed, host):
    """Let VMs go to *host*, which is updated and empty."""
    _change(housed, host, housed.room[host, 0] - NONE, housed.room[host, 1] - NONE)


@kernel
def open_spare(housed, is_spare):
    """Let VMs go to those hosts that *is_spare* bool[H] names, and to no others."""
    housed.most[:] = NONE
    for host in range(is_spare.shape[0]):
        if is_spare[host]:
            _open(housed, host)


@kernel
def _first_with_room(housed, row, pool):
    """The first host of *pool* that the VM at *row* can go to, or NONE."""
    tree = housed.most[housed.trees[pool] : housed.trees[pool + 1]]
    leaf_count = tree.shape[0] // 2
    leaf = next_with_room(tree, leaf_count, np.int64(1), housed.need[row, 0], housed.need[row, 1])
    return leaf if leaf == NONE else housed.hosts[housed.starts[pool] + leaf - leaf_count]


@kernel
def _leave(housed, row, now_ms):
    """Note that the VM at *row* has left its host: the last to do so empties it, if any of them was moved."""
    host = housed.host_of[row]
    housed.vms_left[host] -= 1
    if housed.vms_left[host] == 0 and housed.is_moved_from[host]:
        emptied = housed.cursors[_EMPTIED]
        housed.emptied[emptied], housed.emptied_ms[emptied] = host, now_ms
        housed.cursors[_EMPTIED] += 1


@kernel
def _catch_up(housed, now_ms, recycle_ms, deleted_ms, moved_ms, heap_ms, heap_what, moving_count):
    """Do what happens to hosts up to *now_ms*; return how many moves go on.

    Moves end, at *moved_ms* int64[V] unless the VM is deleted before, VMs are deleted, emptied hosts are updated after
    *recycle_ms*. A VM deleted during its move gives back both its places.
    """
    cursors, deletion_row = housed.cursors, housed.deletion_row
    while True:
        end_ms = heap_ms[0] if moving_count > 0 else now_ms + 1
        if cursors[_DELETED] < deletion_row.shape[0] and deleted_ms[deletion_row[cursors[_DELETED]]] < end_ms:
            row = deletion_row[cursors[_DELETED]]
            if deleted_ms[row] > now_ms:
                break
            cursors[_DELETED] += 1
            if housed.target[row] == NONE:
                _leave(housed, row, deleted_ms[row])
            else:
                _change(housed, housed.target[row], housed.need[row, 0], housed.need[row, 1])
        elif end_ms <= now_ms:
            row = heap_what[0]
            _pop(heap_ms, heap_what, moving_count)
            moving_count -= 1
            housed.is_moved_from[housed.host_of[row]] |= moved_ms[row] <= deleted_ms[row]
            _leave(housed, row, end_ms)
        else:
            break
    while cursors[_UPDATED] < cursors[_EMPTIED] and housed.emptied_ms[cursors[_UPDATED]] + recycle_ms <= now_ms:
        _open(housed, housed.emptied[cursors[_UPDATED]])
        cursors[_UPDATED] += 1
    return moving_count


@kernel
def _move_to(housed, row, host):
    """Give the VM at *row* its place on *host*."""
    housed.target[row] = host
    _change(housed, host, -housed.need[row, 0], -housed.need[row, 1])


@kernel
def take_requests(
    place, closes_ms, recycle_ms, retries, asks_again,
    key, address, replica, failure_below,
    request_ms, request_row, request_of, request_place, known_until_ms, known_target,
    bar_ms, bar_row, bar_until_ms,
    vm_key, rank, created_ms, deleted_ms, duration_ms, pool,
    free_count, heap_ms, heap_what, heap_count, housed,
    is_settled, refusal_count, failure_count, busy_until_ms,
    log_of, log_row, log_ms, log_target, log_result, again_ms, again_row, again_of,
):  # fmt: skip
    """Take all requests of some windows in their order; return how many rows the log has, or FULL.

    Reads    place          int64[C]   of the campaign in the file, rising
             closes_ms, recycle_ms int64[C]; retries bool[C]
             asks_again     bool[C]    whether customers ask again by themselves
             key, address, replica, failure_below uint64[C]  an attempt fails whose draw, halved, is below the last
             request_ms, request_row, request_of, request_place  int64[A]  by instant, then by VM id, then by place
             known_until_ms int64[A]   of a move that is known already, of whatever campaign: its end; else 0
             known_target   int64[A]   and the host it goes to, or NONE
             bar_ms, bar_row, bar_until_ms  int64[B]  by the first: from when on no request for the VM is granted,
                                       and until when
             vm_key, created_ms, deleted_ms  int64[V]  NEVER_MS where never deleted
             rank           int64[V]   orders VMs by id
             duration_ms    uint32[C, V]  how long a move of each takes
             pool           int64[V]   whose slots it can take, or on whose hosts it may go
    Updates  free_count     int64[C * P]  slots
             heap_ms, heap_what int64[slots]  when those taken come back, and of what pool: at first heap_count of
                            them, by instant; over hosts int64[V] when moves end, and of what row
             housed         Housed     at its start; for one campaign, if there are hosts
             is_settled     bool[C, V] moved, or out of the iteration
             refusal_count, failure_count  int64[C, V]
             busy_until_ms  int64[V] = 0  until when no request is granted, of any campaign
    Writes   log_of, log_row, log_ms, log_target int64[E], log_result int8[E]; the target of a move is a host, or NONE
    Scratch  again_ms, again_row, again_of int64[E]  requests made again: a day later, so in the order they come in
    """
    pool_count = free_count.shape[0] // place.shape[0]
    has_hosts = housed.pool_of.shape[0] > 0
    log_count = 0
    barred = turn = again_turn = again_count = 0
    while turn < request_ms.shape[0] or again_turn < again_count:
        is_again = turn == request_ms.shape[0]
        if not is_again and again_turn < again_count:
            later_ms = request_ms[turn] - again_ms[again_turn]
            goes_before = rank[again_row[again_turn]] < rank[request_row[turn]]
            if again_row[again_turn] == request_row[turn]:
                goes_before = place[again_of[again_turn]] < request_place[turn]
            is_again = later_ms > 0 or (later_ms == 0 and goes_before)
        if is_again:
            now_ms, row, of = again_ms[again_turn], again_row[again_turn], again_of[again_turn]
            again_turn += 1
        else:
            now_ms, row, of = request_ms[turn], request_row[turn], request_of[turn]
            turn += 1
            if known_until_ms[turn - 1] > 0:
                busy_until_ms[row] = max(busy_until_ms[row], known_until_ms[turn - 1])
                if known_target[turn - 1] != NONE:
                    heap_count = _catch_up(
                        housed, now_ms, recycle_ms[0], deleted_ms, busy_until_ms, heap_ms, heap_what, heap_count
                    )
                    _move_to(housed, row, known_target[turn - 1])
                    _push(heap_ms, heap_what, heap_count, min(known_until_ms[turn - 1], deleted_ms[row]), row)
                    heap_count += 1
                continue
        if now_ms >= closes_ms[of] or is_settled[of, row] or now_ms < created_ms[row] or now_ms >= deleted_ms[row]:
            continue
        if log_count == log_row.shape[0]:
            return FULL
        while barred < bar_ms.shape[0] and bar_ms[barred] <= now_ms:
            busy_until_ms[bar_row[barred]] = max(busy_until_ms[bar_row[barred]], bar_until_ms[barred])
            barred += 1
        slots, goes_to = of * pool_count + pool[row], np.int64(NONE)
        if has_hosts:
            heap_count = _catch_up(
                housed, now_ms, recycle_ms[0], deleted_ms, busy_until_ms, heap_ms, heap_what, heap_count
            )
            goes_to = _first_with_room(housed, row, pool[row])
            has_room = goes_to != NONE
        else:
            while heap_count > 0 and heap_ms[0] <= now_ms:
                free_count[heap_what[0]] += 1
                _pop(heap_ms, heap_what, heap_count)
                heap_count -= 1
            has_room = free_count[slots] > 0
        log_of[log_count], log_row[log_count], log_ms[log_count], log_target[log_count] = of, row, now_ms, NONE
        asks = False
        if not has_room or now_ms < busy_until_ms[row]:
            log_result[log_count] = RETRY_LATER
            refusal_count[of, row] += 1
            asks = refusal_count[of, row] <= REFUSALS_MAX
        else:
            number = address[of] + np.uint64(failure_count[of, row])
            draw = draw64(key[of], np.uint64(vm_key[row]), number, replica[of])
            if draw >> np.uint64(1) < failure_below[of]:
                log_result[log_count] = ABORTED
                failure_count[of, row] += 1
                is_settled[of, row] = not retries[of]
                asks = retries[of]
            else:
                log_result[log_count], log_target[log_count] = COMPLETED, goes_to
                is_settled[of, row] = True
                busy_until_ms[row] = now_ms + np.int64(duration_ms[of, row])
                if has_hosts:
                    _move_to(housed, row, goes_to)
                    _push(heap_ms, heap_what, heap_count, min(busy_until_ms[row], deleted_ms[row]), row)
                else:
                    free_count[slots] -= 1
                    _push(heap_ms, heap_what, heap_count, busy_until_ms[row] + recycle_ms[of], slots)
                heap_count += 1
        log_count += 1
        if asks and asks_again[of]:
            again_ms[again_count], again_row[again_count], again_of[again_count] = now_ms + ASKS_AGAIN_MS, row, of
            again_count += 1
    return log_count
