"""The self-service kernel: requests of customers, one after the other, against the room on hosts updated already.

Axes: V = VMs of a region, A = requests, P = pools of slots, E = rows of the log. Times are int64 ms since
scenario.start.
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
    closes_ms, recycle_ms, retries, asks_again,
    key, address, replica, failure_below,
    request_ms, request_row,
    vm_key, rank, created_ms, deleted_ms, duration_ms, pool,
    free_count, heap_ms, heap_pool, taken_count,
    is_settled, refusal_count, failure_count,
    log_row, log_ms, log_result, again_ms, again_row,
):  # fmt: skip
    """Take all requests of a window in their order; return how many rows the log has, or FULL.

    Reads    request_ms, request_row  int64[A]  by instant, then by VM id
             vm_key, created_ms, deleted_ms  int64[V]  NEVER_MS where never deleted
             rank           int64[V]   orders VMs by id
             duration_ms    uint32[V]  how long a move of each takes
             pool           int64[V]   whose slots it can take
             failure_below  an attempt fails whose draw, halved, is below this
             asks_again     whether customers ask again by themselves
    Updates  free_count     int64[P]   slots
             heap_ms, heap_pool int64[slots]  when those taken come back: at first taken_count of them, by instant
             is_settled     bool[V]    moved, or out of the iteration
             refusal_count, failure_count  int64[V]
    Writes   log_row, log_ms int64[E], log_result int8[E]
    Scratch  again_ms, again_row int64[E]  requests made again: a day later, so in the order in which they come
    """
    log_count = 0
    place = again_place = again_count = 0
    while place < request_ms.shape[0] or again_place < again_count:
        is_again = place == request_ms.shape[0]
        if not is_again and again_place < again_count:
            later_ms = request_ms[place] - again_ms[again_place]
            goes_before = rank[again_row[again_place]] < rank[request_row[place]]
            is_again = later_ms > 0 or (later_ms == 0 and goes_before)
        if is_again:
            now_ms, row = again_ms[again_place], again_row[again_place]
            again_place += 1
        else:
            now_ms, row = request_ms[place], request_row[place]
            place += 1
        if now_ms >= closes_ms or is_settled[row] or now_ms < created_ms[row] or now_ms >= deleted_ms[row]:
            continue
        if log_count == log_row.shape[0]:
            return FULL
        while taken_count > 0 and heap_ms[0] <= now_ms:
            free_count[heap_pool[0]] += 1
            _pop(heap_ms, heap_pool, taken_count)
            taken_count -= 1
        log_row[log_count], log_ms[log_count] = row, now_ms
        asks = False
        if free_count[pool[row]] == 0:
            log_result[log_count] = RETRY_LATER
            refusal_count[row] += 1
            asks = refusal_count[row] <= REFUSALS_MAX
        else:
            draw = draw64(key, np.uint64(vm_key[row]), address + np.uint64(failure_count[row]), replica)
            if draw >> np.uint64(1) < failure_below:
                log_result[log_count] = ABORTED
                failure_count[row] += 1
                is_settled[row] = not retries
                asks = retries
            else:
                log_result[log_count] = COMPLETED
                is_settled[row] = True
                free_count[pool[row]] -= 1
                _push(heap_ms, heap_pool, taken_count, now_ms + np.int64(duration_ms[row]) + recycle_ms, pool[row])
                taken_count += 1
        log_count += 1
        if asks and asks_again:
            again_ms[again_count], again_row[again_count] = now_ms + ASKS_AGAIN_MS, row
            again_count += 1
    return log_count
