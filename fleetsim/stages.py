"""Who may be at work when: the calendar of one pair group (semantics.md 22-25, campaigns without windows).

A stage is a campaign in a region. It starts when its region and all regions paired with it are at rest and the pair
lag has passed. Pair groups never wait for one another, so each has a calendar of its own. A calendar is a generator:
it yields the stages that start now and is sent back the instants at which they end, so the caller may compute them in
any order and on any thread.
"""

import heapq
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

from fleetsim.schema import NEVER_MS


@dataclass(frozen=True, slots=True)
class Stage:
    """One campaign in one region. `rank` is its place by the campaign's pair_order."""

    place: int
    iteration: int
    region: str
    asked_ms: int
    pair_lag_ms: int
    rank: int

    def tried_in_order(self) -> tuple[int, int, int, int, str]:
        return (self.asked_ms, self.place, self.iteration, self.rank, self.region)


@dataclass(frozen=True, slots=True)
class Started:
    """A stage and the instant its region was taken, in ms since scenario.start; whether a pair kept it waiting last."""

    stage: Stage
    start_ms: int
    waited_for_pair: bool = False


Calendar = Generator[list[Started], Mapping[Stage, int], None]


def ranks(pair_order: str | Sequence[str], vm_counts: Mapping[str, int]) -> dict[str, int]:
    """Place of each region of *vm_counts* by *pair_order*: a word of the scenario, or a list of regions."""
    if pair_order == "fewest_vms_first":
        ordered = sorted(vm_counts, key=lambda region: (vm_counts[region], region))
    elif pair_order == "most_vms_first":
        ordered = sorted(vm_counts, key=lambda region: (-vm_counts[region], region))
    elif pair_order == "name":
        ordered = sorted(vm_counts)
    else:
        listed = [region for region in pair_order if region in vm_counts]
        ordered = listed + sorted(set(vm_counts) - set(listed))
    return {region: place for place, region in enumerate(ordered)}


def calendar(stages: Sequence[Stage], neighbours: Mapping[str, frozenset[str]]) -> Calendar:
    """Start the *stages* of one pair group, each at the first instant it may.

    Yields lists of Started; must be sent the end (ms, after the start) of each of them before it goes on. Nothing
    can be missed between the instants it looks at: what keeps a stage waiting changes only at an end, or a lag later.
    """
    waiting = sorted(stages, key=Stage.tried_in_order)
    at_work: dict[Stage, int] = {}
    ended_ms: dict[str, int] = {}  # by region: when its last stage ended, and when the longest lag of one has passed
    lagged_ms: dict[str, int] = {}
    agenda = sorted({stage.asked_ms for stage in waiting})

    def free_at_ms(stage: Stage) -> tuple[int, bool]:
        """From when the stages that ended let *stage* start, and whether one of a paired region is the last to."""
        near = [region for region in neighbours[stage.region] if region in ended_ms]
        own_ms = ended_ms.get(stage.region, 0)
        # For each of them the larger lag of the two campaigns: the later of both sums.
        pair_ms = max((max(ended_ms[other] + stage.pair_lag_ms, lagged_ms[other]) for other in near), default=0)
        return max(own_ms, pair_ms), pair_ms > own_ms

    def is_kept_out(stage: Stage) -> bool:
        near = neighbours[stage.region]
        return any(other.region == stage.region or other.region in near for other in at_work)

    while waiting:
        now_ms = heapq.heappop(agenda)
        while agenda and agenda[0] == now_ms:
            heapq.heappop(agenda)
        for stage in [stage for stage, end_ms in at_work.items() if end_ms == now_ms]:
            ended_ms[stage.region] = at_work.pop(stage)
            lagged_ms[stage.region] = max(lagged_ms.get(stage.region, 0), now_ms + stage.pair_lag_ms)
        started = []
        for stage in list(waiting):
            free_ms, is_pair_last = free_at_ms(stage)
            if max(stage.asked_ms, free_ms) <= now_ms and not is_kept_out(stage):
                waiting.remove(stage)
                started.append(Started(stage, now_ms, waited_for_pair=is_pair_last and free_ms > stage.asked_ms))
                at_work[stage] = NEVER_MS
        if not started:
            continue
        ends_ms = yield started
        for start in started:
            end_ms = ends_ms[start.stage]
            assert end_ms > start.start_ms, "a stage with VMs lasts"
            at_work[start.stage] = end_ms
            lags_ms = {max(start.stage.pair_lag_ms, other.pair_lag_ms) for other in waiting}
            for instant_ms in {end_ms, *(end_ms + lag_ms for lag_ms in lags_ms)}:
                heapq.heappush(agenda, instant_ms)
