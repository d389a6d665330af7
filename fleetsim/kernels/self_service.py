"""The self-service kernel: requests of customers, one after the other, against the room on hosts updated already.

Axes: C = campaigns whose customers ask, V = VMs of a region, A = requests, P = pools of slots, B = VMs that stages
bar, E = rows of the log. Times are int64 ms since scenario.start.
"""

import numpy as np

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
def _push(heap_ms, heap_pool, count, until_ms, pool):
    """Put *pool* into the binary heap of *count* entries, by *until_ms*."""
    hole = count
    while hole > 0 and until_ms < heap_ms[(hole - 1) >> 1]:
        heap_ms[hole], heap_pool[hole] = heap_ms[(hole - 1) >> 1], heap_pool[(hole - 1) >> 1]
        hole = (hole - 1) >> 1
    heap_ms[hole], heap_pool[hole] = until_ms, pool


@kernel
def _pop(heap_ms, heap_pool, count):
    """Take the earliest entry out of the heap of *count*."""
    last = count - 1
    hole, child = 0, 1
    while child < last:
        if child + 1 < last and heap_ms[child + 1] < heap_ms[child]:
            child += 1
        if heap_ms[last] <= heap_ms[child]:
            break
        heap_ms[hole], heap_pool[hole] = heap_ms[child], heap_pool[child]
        hole, child = child, 2 * child + 1
    heap_ms[hole], heap_pool[hole] = heap_ms[last], heap_pool[last]


@kernel
def take_requests(
    place, closes_ms, recycle_ms, retries, asks_again,
    key, address, replica, failure_below,
    request_ms, request_row, request_of, request_place, known_until_ms,
    bar_ms, bar_row, bar_until_ms,
    vm_key, rank, created_ms, deleted_ms, duration_ms, pool,
    free_count, heap_ms, heap_pool, taken_count,
    is_settled, refusal_count, failure_count, busy_until_ms,
    log_of, log_row, log_ms, log_result, again_ms, again_row, again_of,
):  # fmt: skip
    """Take all requests of some windows in their order; return how many rows the log has, or FULL.

    Reads    place          int64[C]   of the campaign in the file, rising
             closes_ms, recycle_ms int64[C]; retries bool[C]
             asks_again     bool[C]    whether customers ask again by themselves
             key, address, replica, failure_below uint64[C]  an attempt fails whose draw, halved, is below the last
             request_ms, request_row, request_of, request_place  int64[A]  by instant, then by VM id, then by place
             known_until_ms int64[A]   of a move that is known already, of whatever campaign: its end; else 0
             bar_ms, bar_row, bar_until_ms  int64[B]  by the first: from when on no request for the VM is granted,
                                       and until when
             vm_key, created_ms, deleted_ms  int64[V]  NEVER_MS where never deleted
             rank           int64[V]   orders VMs by id
             duration_ms    uint32[C, V]  how long a move of each takes
             pool           int64[V]   whose slots it can take
    Updates  free_count     int64[C * P]  slots
             heap_ms, heap_pool int64[slots]  when those taken come back: at first taken_count of them, by instant
             is_settled     bool[C, V] moved, or out of the iteration
             refusal_count, failure_count  int64[C, V]
             busy_until_ms  int64[V] = 0  until when no request is granted, of any campaign
    Writes   log_of, log_row, log_ms int64[E], log_result int8[E]
    Scratch  again_ms, again_row, again_of int64[E]  requests made again: a day later, so in the order they come in
    """
    pool_count = free_count.shape[0] // place.shape[0]
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
                continue
        if now_ms >= closes_ms[of] or is_settled[of, row] or now_ms < created_ms[row] or now_ms >= deleted_ms[row]:
            continue
        if log_count == log_row.shape[0]:
            return FULL
        while barred < bar_ms.shape[0] and bar_ms[barred] <= now_ms:
            busy_until_ms[bar_row[barred]] = max(busy_until_ms[bar_row[barred]], bar_until_ms[barred])
            barred += 1
        while taken_count > 0 and heap_ms[0] <= now_ms:
            free_count[heap_pool[0]] += 1
            _pop(heap_ms, heap_pool, taken_count)
            taken_count -= 1
        log_of[log_count], log_row[log_count], log_ms[log_count] = of, row, now_ms
        slots = of * pool_count + pool[row]
        asks = False
        if free_count[slots] == 0 or now_ms < busy_until_ms[row]:
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
                log_result[log_count] = COMPLETED
                is_settled[of, row] = True
                busy_until_ms[row] = now_ms + np.int64(duration_ms[of, row])
                free_count[slots] -= 1
                _push(heap_ms, heap_pool, taken_count, busy_until_ms[row] + recycle_ms[of], slots)
                taken_count += 1
        log_count += 1
        if asks and asks_again[of]:
            again_ms[again_count], again_row[again_count], again_of[again_count] = now_ms + ASKS_AGAIN_MS, row, of
            again_count += 1
    return log_count
