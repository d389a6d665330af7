"""A loop in numba, as one writes it for this campaign alone: nothing else can affect a set, so there is no queue."""

from collections.abc import Callable

import numba
import numpy as np

from benches.campaign import (
    DOMAIN_COUNT,
    FREEZE_MS,
    GAP_MS,
    MU,
    REGION_COUNT,
    SEED,
    SET_SIZE,
    SIGMA,
    Given,
)

Impacts = tuple[np.ndarray, np.ndarray]


@numba.njit(cache=True)
def _walk(vms, is_random, start_ms, duration_ms):  # type: ignore[no-untyped-def]
    np.random.seed(SEED)
    region_vms = vms // REGION_COUNT
    region_start_ms = 0
    for region in range(REGION_COUNT):
        if region % 2 == 0:
            region_start_ms = 0
        region_end_ms = region_start_ms
        for first in range(region * region_vms, (region + 1) * region_vms, SET_SIZE):
            now_ms = region_start_ms
            end_ms = now_ms
            for domain in range(DOMAIN_COUNT):
                longest_ms = 0
                for vm in range(first + domain, first + SET_SIZE, DOMAIN_COUNT):
                    length_ms = FREEZE_MS
                    if is_random:
                        length_ms = round(np.random.lognormal(MU, SIGMA))
                    start_ms[vm] = now_ms
                    duration_ms[vm] = length_ms
                    longest_ms = max(longest_ms, length_ms)
                end_ms = now_ms + longest_ms
                now_ms = end_ms + GAP_MS
            region_end_ms = max(region_end_ms, end_ms)
        region_start_ms = region_end_ms


def sets(given: Given) -> Callable[[], Impacts]:
    """Sets one after the other, region by region."""

    def task() -> Impacts:
        start_ms, duration_ms = np.empty(given.vms, np.int64), np.empty(given.vms, np.uint32)
        _walk(given.vms, given.is_random, start_ms, duration_ms)
        return start_ms, duration_ms

    return task
