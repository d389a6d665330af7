"""Who may be at work when: the calendar of regions that can affect one another (semantics.md 22-26, 28).

A stage is a campaign in a region. It starts when its region and all regions paired with it are at rest and the pair
lag has passed. One with windows is announced when it is asked for, and takes its region for the whole scheduled window,
which never moves: it is the first that keeps clear of all that is known by then. Whom it leaves without an update has a
stage again, asked for a while after that window. Pair groups never wait for one
another, waves aside, so each has a calendar of its own. A calendar is a generator: it yields the stages it has decided
on and is sent back the instants at which those that work free their region, so the caller may compute them in any order
and on any thread.
"""

import heapq
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from fleetsim.schema import FIRST_ITERATION, NEVER_MS


@dataclass(frozen=True, slots=True)
class Stage:
    """One iteration of a campaign in one region. `rank` is its place by the campaign's pair_order.

    asked_ms       is known at release, or when the iteration before has left VMs

    excludes_pair  whether it keeps out others of a paired region that do so as well
    length_ms_max  what it takes at most, from its start: of one with windows its scheduled window
    lead_ms        of one with windows, between its notice and the opening of its scheduled window; else None
    meets_customers  whether customers of another campaign act in its region, or others beside its own: what has
                   come of them is known at no earlier instant than it takes its region
    """

    place: int
    iteration: int
    region: str
    wave: int
    asked_ms: int
    pair_lag_ms: int
    excludes_pair: bool
    rank: int
    length_ms_max: int
    lead_ms: int | None = None
    meets_customers: bool = False

    def key(self, iterations_later: int = 0) -> tuple[int, int, str]:
        """The stage by campaign, iteration and region, as files are in order; or that of another iteration."""
        return self.place, self.iteration + iterations_later, self.region

    def tried_in_order(self) -> tuple[int, int, int, int, str]:
        return (self.asked_ms, self.place, self.iteration, self.rank, self.region)


@dataclass(frozen=True, slots=True)
class Rollout:
    """The stages of one campaign: waves, each released `bake_ms` after the one before is over.

    Those of first iterations, that is: a stage with windows that leaves VMs is followed by another for these, asked for
    `reschedule_delay_ms` after its end, until there were `iterations_max`.
    """

    start_ms: int
    bake_ms: int
    waves: tuple[tuple[Stage, ...], ...]
    iterations_max: int = 1
    reschedule_delay_ms: int = 0


class Verdict(Enum):
    """What a calendar decides about a stage."""

    AT_WORK = "it starts: send back when its region is free again"
    TRIAL = "it could start: send back when its region would be free again"
    NOBODY = "there was nobody to hit when it was asked for: it is over"
    NO_ROOM = "it would end after the horizon: it never starts"


@dataclass(frozen=True, slots=True)
class Decided:
    """A stage, what was decided about it and when, in ms since scenario.start; whether a pair was the last to wait for.

    Where it is at work, `at_ms` is the instant its region is taken: of one with windows, when the scheduled one opens.
    """

    stage: Stage
    at_ms: int
    verdict: Verdict
    waited_for_pair: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a stage: when its region is free again (ms), and whether VMs are left that may come back."""

    free_ms: int
    leaves_vms: bool = False


Calendar = Generator[list[Decided], Mapping[Stage, Ran], None]


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


def calendar(
    rollouts: Sequence[Rollout],
    neighbours: Mapping[str, frozenset[str]],
    is_anyone_hit: Callable[[Stage, int], bool],
    horizon_ms: int = NEVER_MS,
    announce: Callable[[Decided], None] = lambda _: None,
) -> Calendar:
    """Decide about the stages of *rollouts*, each at the first instant that is possible.

    is_anyone_hit  whether a stage has a VM to hit at an instant: when asked for and, where it waited, when it starts
    horizon_ms     no stage starts that would end later
    announce       is told of windows that are announced long before they are decided on: where stages meet customers

    Must be sent, for each stage that is AT_WORK or on TRIAL, what came of it, its region free not before its start;
    stages on trial come alone. Nothing can be missed between the instants it looks at: what keeps a stage waiting
    changes only at an end, or a lag later.
    """
    return _Calendar(rollouts, neighbours, is_anyone_hit, horizon_ms, announce).decide()


class _Waves:
    """How far one campaign's waves are."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.released_count = 0
        self.release_ms = rollout.start_ms  # of the next wave; NEVER_MS until the one before is over
        self.open_count = 0  # stages of the released wave that are not over

    def release(self) -> list[Stage]:
        """The stages of the next wave."""
        wave = [replace(stage, asked_ms=self.release_ms) for stage in self.rollout.waves[self.released_count]]
        self.released_count += 1
        self.open_count = len(wave)
        if wave:
            self.release_ms = NEVER_MS
        else:
            self._end(self.release_ms)
        return wave

    def end_one(self, over_ms: int) -> None:
        """Note that a stage of the released wave is over; the last one to be so tells when the next is released."""
        self.open_count -= 1
        if self.open_count == 0:
            self._end(over_ms)

    def _end(self, over_ms: int) -> None:
        is_last = self.released_count == len(self.rollout.waves)
        self.release_ms = NEVER_MS if is_last else over_ms + self.rollout.bake_ms


class _Calendar:
    def __init__(
        self,
        rollouts: Sequence[Rollout],
        neighbours: Mapping[str, frozenset[str]],
        is_anyone_hit: Callable[[Stage, int], bool],
        horizon_ms: int,
        announce: Callable[[Decided], None],
    ) -> None:
        self.neighbours = neighbours
        self.is_anyone_hit = is_anyone_hit
        self.horizon_ms = horizon_ms
        self.announce = announce
        self.waves = [_Waves(rollout) for rollout in rollouts]
        stages = [(stage, waves) for waves in self.waves for wave in waves.rollout.waves for stage in wave]
        # A campaign without waves has a rollout a pair group: its place alone does not tell which.
        self.waves_of = {(stage.place, stage.region): waves for stage, waves in stages}
        self.lags_ms = {stage.pair_lag_ms for stage, _ in stages}
        self.waiting: list[Stage] = []
        self.returning: list[Stage] = []  # iterations to come
        self.barred: set[Stage] = set()  # waiting stages whose run would have met a window
        self.at_work: dict[Stage, int] = {}
        self.windows: dict[Stage, int] = {}  # those announced that have not opened: when they will
        self.announced: dict[Stage, Decided] = {}  # those that are decided on when their windows open
        self.ended: list[tuple[Stage, int]] = []
        self.ended_ms: dict[str, int] = {}  # by region: when its last stage ended
        # By region, of the stages that exclude a pair: the last end, and when the longest lag of one has passed.
        self.pair_ended_ms: dict[str, int] = {}
        self.lagged_ms: dict[str, int] = {}
        self.agenda = [waves.release_ms for waves in self.waves]
        heapq.heapify(self.agenda)

    def decide(self) -> Calendar:
        while (
            self.waiting
            or self.returning
            or self.announced
            or any(waves.release_ms < NEVER_MS or waves.open_count for waves in self.waves)
        ):
            now_ms = heapq.heappop(self.agenda)
            while self.agenda and self.agenda[0] == now_ms:
                heapq.heappop(self.agenda)
            self._end_stages(now_ms)
            opened = self._open_windows(now_ms)
            while decided := [*opened, *(yield from self._decide_at(now_ms))]:
                opened = []
                ran = yield decided
                for stage in [each.stage for each in decided if self.at_work.get(each.stage) == NEVER_MS]:
                    end_ms = ran[stage].free_ms
                    assert end_ms > now_ms
                    self.at_work[stage] = end_ms
                    self._look_at(end_ms)
                for stage in [each.stage for each in decided if each.verdict is Verdict.AT_WORK]:
                    if ran[stage].leaves_vms:
                        self._come_back(stage, ran[stage].free_ms)

    def _come_back(self, stage: Stage, over_ms: int) -> None:
        """Have the VMs that *stage* leaves scheduled anew, where they may be once more."""
        rollout = self.waves_of[stage.place, stage.region].rollout
        if stage.iteration < rollout.iterations_max:
            asked_ms = over_ms + rollout.reschedule_delay_ms
            self.returning.append(replace(stage, iteration=stage.iteration + 1, asked_ms=asked_ms))
            self._look_at(asked_ms)

    def _decide_at(self, now_ms: int) -> Generator[list[Decided], Mapping[Stage, Ran], list[Decided]]:
        """Try the waiting stages in their order; after one that is over at once, all over again (semantics.md 2)."""
        decided: list[Decided] = []
        is_settled = False
        while not is_settled:
            is_settled = True
            decided += self._asked_now(now_ms)
            for stage in list(self.waiting):
                if stage.lead_ms is not None:
                    if any(end_ms == NEVER_MS for other, end_ms in self.at_work.items() if self._bars(stage, other)):
                        return decided  # their ends must be known before anything is announced
                    self.waiting.remove(stage)
                    announced = self._announced(stage, now_ms)
                    is_settled_later = stage.meets_customers and announced.verdict is Verdict.AT_WORK
                    if is_settled_later:
                        self.announce(announced)
                    if is_settled_later and announced.at_ms > now_ms:
                        self.announced[stage] = announced
                    else:
                        decided.append(announced)
                    if announced.verdict is Verdict.NO_ROOM:
                        self._over(stage, now_ms)
                    is_settled = False
                    break
                free_ms, is_pair_last = self._free_at_ms(stage)
                if free_ms > now_ms or any(self._bars(stage, other) for other in self.at_work):
                    continue
                if stage in self.barred and not self._ended_at(stage, now_ms):
                    continue
                start = Decided(stage, now_ms, Verdict.AT_WORK, is_pair_last and free_ms > stage.asked_ms)
                # Where all it could hit were deleted while it waited it takes no time, but that must be left.
                is_nobody_left = stage.asked_ms < now_ms and not self.is_anyone_hit(stage, now_ms)
                end_ms = now_ms if is_nobody_left else now_ms + stage.length_ms_max
                window_ms = self._next_window_ms(stage)
                if end_ms > min(self.horizon_ms, window_ms) and not is_nobody_left:
                    ran = yield [replace(start, verdict=Verdict.TRIAL)]
                    end_ms = ran[stage].free_ms
                if end_ms > window_ms and end_ms <= self.horizon_ms:
                    self.barred.add(stage)
                    continue
                self.waiting.remove(stage)
                if end_ms > self.horizon_ms:
                    decided.append(Decided(stage, now_ms, Verdict.NO_ROOM))
                    self._over(stage, now_ms)
                elif is_nobody_left:
                    decided.append(start)
                    self._end(stage, now_ms)
                else:
                    self.at_work[stage] = NEVER_MS
                    decided.append(start)
                    continue
                is_settled = False
                break
        return decided

    def _announced(self, stage: Stage, now_ms: int) -> Decided:
        """Give *stage* its scheduled window: the first that keeps clear of all work and windows known so far."""
        assert stage.lead_ms is not None
        spans = [(other, start_ms, start_ms + other.length_ms_max) for other, start_ms in self.windows.items()]
        spans += [(other, 0, end_ms) for other, end_ms in (*self.at_work.items(), *self.ended)]
        busy = [
            (start_ms - lag_ms, end_ms + lag_ms)
            for other, start_ms, end_ms in spans
            if self._bars(stage, other)
            for lag_ms in [_lag_ms(stage, other)]
        ]
        first_ms = now_ms + stage.lead_ms
        opens_ms = min(
            opens_ms
            for opens_ms in (first_ms, *(end_ms for _, end_ms in busy))
            if opens_ms >= first_ms
            and all(end_ms <= opens_ms or opens_ms + stage.length_ms_max <= start_ms for start_ms, end_ms in busy)
        )
        if opens_ms + stage.length_ms_max > self.horizon_ms:
            return Decided(stage, now_ms, Verdict.NO_ROOM)
        self.windows[stage] = opens_ms
        self._look_at(opens_ms)
        self._open_windows(now_ms)  # if it opens with its notice
        is_after_pair = any(
            end_ms + _lag_ms(stage, other) == opens_ms and other.region != stage.region
            for other, _, end_ms in spans
            if self._bars(stage, other)
        )
        return Decided(stage, opens_ms, Verdict.AT_WORK, opens_ms > first_ms and is_after_pair)

    def _open_windows(self, now_ms: int) -> list[Decided]:
        """Take the regions whose windows open now. Returns what is to be decided on only now."""
        opened = []
        for stage in [stage for stage, opens_ms in self.windows.items() if opens_ms == now_ms]:
            del self.windows[stage]
            self.at_work[stage] = now_ms + stage.length_ms_max
            self._look_at(self.at_work[stage])
            if stage in self.announced:
                opened.append(self.announced.pop(stage))
        return opened

    def _next_window_ms(self, stage: Stage) -> int:
        """When what *stage* does must have ended, so that its region is free for the windows announced."""
        near = [other for other in self.windows if self._bars(stage, other)]
        return min((self.windows[other] - _lag_ms(stage, other) for other in near), default=NEVER_MS)

    def _ended_at(self, stage: Stage, now_ms: int) -> bool:
        """Whether *stage* is looked at: between ends, lags after them, of what bars it nothing changes for it."""
        return any(end_ms + _lag_ms(stage, other) == now_ms for other, end_ms in self.ended if self._bars(stage, other))

    def _asked_now(self, now_ms: int) -> list[Decided]:
        """Ask for the stages of waves due, and for iterations; those with nobody to hit are over at once."""
        decided = []
        due = [stage for stage in self.returning if stage.asked_ms == now_ms]
        self.returning = [stage for stage in self.returning if stage.asked_ms > now_ms]
        while due or any(waves.release_ms <= now_ms for waves in self.waves):
            for waves in self.waves:
                if waves.release_ms <= now_ms:
                    due += waves.release()
                    self._look_at(waves.release_ms)
            for stage in due:
                if self.is_anyone_hit(stage, now_ms):
                    self.waiting.append(stage)
                else:
                    decided.append(Decided(stage, now_ms, Verdict.NOBODY))
                    self._over(stage, now_ms)
            due = []
        self.waiting.sort(key=Stage.tried_in_order)
        return decided

    def _over(self, stage: Stage, over_ms: int) -> None:
        if stage.iteration > FIRST_ITERATION:
            return  # waves do not wait for those who come back
        waves = self.waves_of[stage.place, stage.region]
        waves.end_one(over_ms)
        self._look_at(waves.release_ms)

    def _look_at(self, instant_ms: int) -> None:
        if instant_ms < NEVER_MS:
            heapq.heappush(self.agenda, instant_ms)

    def _end_stages(self, now_ms: int) -> None:
        for stage in [stage for stage, end_ms in self.at_work.items() if end_ms == now_ms]:
            del self.at_work[stage]
            self._end(stage, now_ms)

    def _end(self, stage: Stage, now_ms: int) -> None:
        self.ended.append((stage, now_ms))
        self.ended_ms[stage.region] = now_ms
        if stage.excludes_pair:
            self.pair_ended_ms[stage.region] = now_ms
            lagged_ms = max(self.lagged_ms.get(stage.region, 0), now_ms + stage.pair_lag_ms)
            self.lagged_ms[stage.region] = lagged_ms
        for lag_ms in self.lags_ms:
            self._look_at(now_ms + lag_ms)
        self._over(stage, now_ms)

    def _free_at_ms(self, stage: Stage) -> tuple[int, bool]:
        """From when the stages that ended let *stage* start, and whether one of a paired region is the last to."""
        own_ms = self.ended_ms.get(stage.region, 0)
        if not stage.excludes_pair:
            return own_ms, False
        near = [region for region in self.neighbours[stage.region] if region in self.pair_ended_ms]
        # For each of them the larger lag of the two campaigns: the later of both sums.
        pair_ms = max(
            (max(self.pair_ended_ms[other] + stage.pair_lag_ms, self.lagged_ms[other]) for other in near), default=0
        )
        return max(own_ms, pair_ms), pair_ms > own_ms

    def _bars(self, stage: Stage, other: Stage) -> bool:
        """Whether the two are never at work at once."""
        if stage.region == other.region:
            return True
        return stage.excludes_pair and other.excludes_pair and other.region in self.neighbours[stage.region]


def _lag_ms(stage: Stage, other: Stage) -> int:
    return 0 if stage.region == other.region else max(stage.pair_lag_ms, other.pair_lag_ms)
