"""How the stages of a run follow one another over a prepared fleet, and what becomes of the VMs in each.

A drive knows neither threads nor files: it says which blocks can be computed now, computes one on whatever thread asks
for it, and takes in its sums; what is done with the rows is up to its driver.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fleetsim import stages
from fleetsim.blocks import MOVE_COLUMNS, Left, Scope, Vms, load
from fleetsim.course import Course, campaign_key
from fleetsim.customers import Known
from fleetsim.engine import Beside, Impacts, Sums, advance, idle, is_anyone_hit, length_ms_max
from fleetsim.fleet.prepared import PreparedFleet, PreparedPart
from fleetsim.regions import Relation
from fleetsim.scenario import Resolved
from fleetsim.schema import COME_BACK, FIRST_ITERATION, NEVER_MS, Kind
from fleetsim.storage import Place

Parts = tuple[PreparedPart, ...]
"""Parts of a region that are computed together: one, unless VMs of several can affect one another."""


class Handing(Protocol):
    """Where a block of a stage leaves what is known of its VMs for the next iteration of the stage."""

    def leave(self, stage: stages.Stage, parts: Parts, left: Left) -> None:
        """Keep *left*, of *parts* by *stage*: perhaps again, the same."""

    def left_before(self, stage: stages.Stage, parts: Parts) -> Left:
        """What the iteration before *stage* left of *parts*."""


class _InMemory:
    """Of each campaign and first part: what was left last, as a stage follows its iteration before."""

    def __init__(self) -> None:
        self._left: dict[tuple[int, Place], Left] = {}

    def leave(self, stage: stages.Stage, parts: Parts, left: Left) -> None:
        self._left[stage.place, parts[0].path] = left

    def left_before(self, stage: stages.Stage, parts: Parts) -> Left:
        return self._left[stage.place, parts[0].path]


@dataclass(frozen=True, slots=True)
class Task:
    """A block of a stage, to be computed: its place in the stage, and its parts."""

    decided: stages.Decided
    place: int
    parts: Parts
    asking: tuple[Known, list[stages.Decided]] | None
    """What other campaigns have done in its region, and whose customers may ask there; None: nobody."""


@dataclass(slots=True)
class _Shared:
    """What has happened so far where customers act beside other campaigns, and whose windows are to come."""

    known: Known = field(default_factory=Known)
    asking: list[stages.Decided] = field(default_factory=list)

    def settle(self, decided: stages.Decided, known: Known, opens_ms: Callable[[stages.Decided], int]) -> None:
        """Take in what is *known* of *decided*, and drop what no request to come can meet any more."""
        self.asking = [each for each in self.asking if each is not decided]
        earliest_ms = min([decided.at_ms, *map(opens_ms, self.asking)])
        self.known = Known((*self.known.bars, *known.bars), (*self.known.moves, *known.moves)).after(earliest_ms)


class _Batch:
    """Stages a calendar decided on together: it goes on when all their ends are known."""

    def __init__(self, calendar: stages.Calendar, block_counts: Mapping[stages.Decided, int]) -> None:
        self.calendar = calendar
        self.totals = {decided: Sums() for decided in block_counts}
        self._missing = dict(block_counts)
        self._early: dict[tuple[stages.Decided, int], Sums] = {}
        self._next = dict.fromkeys(block_counts, 0)

    def add(self, task: Task, sums: Sums) -> bool:
        """Take in the sums of a block, in the order of parts. Returns whether all blocks are in."""
        decided = task.decided
        self._early[decided, task.place] = sums
        self._missing[decided] -= 1
        while (next_sums := self._early.pop((decided, self._next[decided]), None)) is not None:
            self.totals[decided].add(next_sums)
            self._next[decided] += 1
        return not any(self._missing.values())

    def ran(self) -> dict[stages.Stage, stages.Ran]:
        """What came of each stage."""
        return {
            decided.stage: stages.Ran(sums.free_ms, leaves_vms=bool(sums.outcome_counts[list(COME_BACK)].any()))
            for decided, sums in self.totals.items()
        }


class Drive:
    """The stages of one run. `compute` alone may be called from any thread; the rest is the coordinating thread's.

    replica  which of the draws of the scenario's seed: 0 is the run itself
    reading  reads parts for a scope, as `blocks.load`, which it is where none is given
    handing  between iterations; in memory where none is given
    """

    def __init__(
        self,
        prepared: PreparedFleet,
        resolved: Resolved,
        relation: Relation,
        replica: int = 0,
        reading: Callable[[Parts, Scope, int], Vms] = load,
        handing: Handing | None = None,
    ) -> None:
        self.relation = relation
        self.resolved = resolved
        self.scenario = resolved.scenario
        self.replica = replica
        self.reading = reading
        self.handing = handing or _InMemory()
        self.regions = {region.region: region for region in prepared.regions}
        self.keys = [campaign_key(self.scenario.seed, campaign.name) for campaign in self.scenario.campaigns]
        self.scopes = [scope_of(prepared, resolved, campaign.place) for campaign in self.scenario.campaigns]
        self.sums: dict[stages.Decided, Sums] = {}
        self._batches: dict[stages.Decided, _Batch] = {}
        self._shared = {region: _Shared() for region in self._shared_regions()}
        self._regions_of: dict[stages.Calendar, list[str]] = {}

    def start(self) -> Iterator[Task]:
        """What can be computed first, of every calendar."""
        for calendar in self._calendars():
            yield from self._tasks(calendar, next(calendar))

    @property
    def is_over(self) -> bool:
        """Whether the sums of all that was to be computed are known."""
        return not self._batches

    def compute(self, task: Task) -> Impacts:
        """What becomes of the VMs of a block; the sums count rows in the whole fleet."""
        stage, scope = task.decided.stage, self.scopes[task.decided.stage.place]
        vms = self._load(task.parts, stage)
        if task.decided.verdict in (stages.Verdict.AT_WORK, stages.Verdict.TRIAL):
            beside = None
            if task.asking is not None:
                known, asking = task.asking
                others = [
                    (self._load(task.parts, each.stage), self.scopes[each.stage.place], self._course(each))
                    for each in asking
                ]
                beside = Beside(tuple(others), known)
            impacts = advance(vms, scope, self._course(task.decided), beside)
        else:
            is_overdue = task.decided.verdict is stages.Verdict.NO_ROOM
            impacts = idle(vms, scope, task.decided.at_ms, is_overdue=is_overdue)
        impacts.sums.last_vm_row += task.parts[0].vm_row_start
        if impacts.left is not None:
            self.handing.leave(stage, task.parts, impacts.left)
        return impacts

    def take(self, task: Task, sums: Sums, known: Known | None) -> list[Task]:
        """Note the sums of a block, and what customers of others must know. Returns what can be computed then."""
        decided = task.decided
        batch, shared = self._batches[decided], self._shared.get(decided.stage.region)
        if shared is not None and known is not None and decided.verdict is stages.Verdict.AT_WORK:
            shared.settle(decided, known, self._opens_ms)
        if not batch.add(task, sums):
            return []
        for each, total in batch.totals.items():
            del self._batches[each]
            if each.verdict is not stages.Verdict.TRIAL:
                self.sums[each] = total
        try:
            return self._tasks(batch.calendar, batch.calendar.send(batch.ran()))
        except StopIteration:
            for region in self._regions_of[batch.calendar]:
                del self._shared[region]
            return []

    def _tasks(self, calendar: stages.Calendar, decided: Sequence[stages.Decided]) -> list[Task]:
        blocks_of = {each: self._blocks(each.stage) for each in decided}
        batch = _Batch(calendar, {each: len(blocks) for each, blocks in blocks_of.items()})
        tasks = []
        for each, blocks in blocks_of.items():
            self._batches[each] = batch
            asking = self._asking(each)
            tasks += [Task(each, place, parts, asking) for place, parts in enumerate(blocks)]
        return tasks

    def vm_count(self, regions: Sequence[str]) -> int:
        """VMs in *regions*."""
        return sum(self.regions[region].vm_count for region in regions)

    def _blocks(self, stage: stages.Stage) -> list[Parts]:
        """The parts of a stage as they are computed together."""
        parts = self.regions[stage.region].parts
        is_one = self.scopes[stage.place].needs_region or stage.meets_customers
        blocks: list[Parts] = [parts] if is_one else [(part,) for part in parts]
        if stage.iteration == FIRST_ITERATION:
            return blocks
        return [parts for parts in blocks if len(self.handing.left_before(stage, parts).rows)]

    def _calendars(self) -> list[stages.Calendar]:
        """One calendar for regions that can affect one another, those with most VMs first: so threads end together."""
        rollouts: list[tuple[set[str], stages.Rollout]] = []
        for campaign in self.scenario.campaigns:
            waves = self._waves(campaign.place)
            for group in [waves] if len(waves) > 1 else self._by_pair_group(waves):
                touched = {self.relation.pair_group(stage.region) for wave in group for stage in wave}
                if not touched:
                    continue
                windows = campaign.windows
                again = () if windows is None else (windows.iterations_max, windows.reschedule_delay_ms)
                rollouts.append((touched, stages.Rollout(campaign.start_ms, campaign.bake_ms, tuple(group), *again)))
        # Campaigns join the pair groups that their waves couple.
        joined: list[tuple[set[str], list[stages.Rollout]]] = []
        for touched, rollout in rollouts:
            near = [each for each in joined if each[0] & touched]
            joined = [each for each in joined if not each[0] & touched]
            met = set(touched).union(*(groups for groups, _ in near))
            joined.append((met, [*(each for _, members in near for each in members), rollout]))
        neighbours = {region: self.relation.neighbours(region) for region in self.regions}
        horizon_ms = NEVER_MS if self.scenario.horizon_ms is None else self.scenario.horizon_ms

        def size(members: Sequence[stages.Rollout]) -> int:
            return self.vm_count([stage.region for each in members for wave in each.waves for stage in wave])

        largest_first = sorted(joined, key=lambda each: (-size(each[1]), min(each[0])))
        about = neighbours, self._is_anyone_hit, horizon_ms, self._announce
        for _, members in largest_first:
            met = {stage.region for each in members for wave in each.waves for stage in wave}
            self._regions_of[stages.calendar(members, *about)] = sorted(met & self._shared.keys())
        return list(self._regions_of)

    def _waves(self, place: int) -> list[tuple[stages.Stage, ...]]:
        """The stages of a campaign by wave."""
        campaign, vm_counts = self.scenario.campaigns[place], self.resolved.vm_counts[place]
        rank = stages.ranks(campaign.pair_order, vm_counts)
        excludes_pair = campaign.pair_exclusion == "all" or campaign.kind in (Kind.REBOOT, Kind.REDEPLOY)
        return [
            tuple(
                stages.Stage(
                    place=place,
                    iteration=FIRST_ITERATION,
                    region=region,
                    wave=number,
                    asked_ms=campaign.start_ms,
                    pair_lag_ms=campaign.pair_lag_ms,
                    excludes_pair=excludes_pair,
                    rank=rank[region],
                    # Nobody knows yet how long it will have to wait for customers.
                    length_ms_max=NEVER_MS // 2
                    if region in self._shared and campaign.windows is None
                    else length_ms_max(campaign, has_hosts=self.scopes[place].has_hosts),
                    lead_ms=None if campaign.windows is None else campaign.windows.lead_ms,
                    meets_customers=region in self._shared,
                )
                for region in wave
            )
            for number, wave in enumerate(self.resolved.waves[place], 1)
        ]

    def _by_pair_group(self, waves: Sequence[tuple[stages.Stage, ...]]) -> list[list[tuple[stages.Stage, ...]]]:
        """The stages of a single wave: without waves, pair groups never wait for one another."""
        groups: dict[str, list[stages.Stage]] = {}
        for stage in itertools.chain(*waves):
            groups.setdefault(self.relation.pair_group(stage.region), []).append(stage)
        return [[tuple(group)] for group in groups.values()]

    def _shared_regions(self) -> set[str]:
        """Regions in which customers of a campaign may meet another one."""
        counts = self.resolved.vm_counts
        at_work = [campaign.place for campaign in self.scenario.campaigns if self.scopes[campaign.place].has_impact]
        return {
            region
            for campaign in self.scenario.campaigns
            if campaign.self_service is not None
            for region in counts[campaign.place]
            if any(region in counts[place] for place in at_work if place != campaign.place)
        }

    def _announce(self, decided: stages.Decided) -> None:
        """Note that customers may ask from now on, until *decided* is at work."""
        if self.scenario.campaigns[decided.stage.place].self_service is not None:
            self._shared[decided.stage.region].asking.append(decided)

    def _opens_ms(self, decided: stages.Decided) -> int:
        """When customers may ask first."""
        windows = self.scenario.campaigns[decided.stage.place].windows
        assert windows is not None
        return decided.at_ms - windows.gap_ms - windows.self_service_ms

    def _asking(self, decided: stages.Decided) -> tuple[Known, list[stages.Decided]] | None:
        """What other campaigns have done in the region of *decided*, and whose customers may ask; None: nobody."""
        shared = self._shared.get(decided.stage.region)
        if shared is None:
            return None
        return shared.known, [
            each for each in shared.asking if each is not decided and self._opens_ms(each) < decided.at_ms
        ]

    def _course(self, decided: stages.Decided) -> Course:
        stage = decided.stage
        until_ms = NEVER_MS if stage.lead_ms is None else decided.at_ms + stage.length_ms_max
        key, origin_ms = self.keys[stage.place], self.scenario.start_ms_epoch
        return Course(
            decided.at_ms, key, origin_ms, stage.iteration, self.replica, until_ms=until_ms, region=stage.region
        )

    def _is_anyone_hit(self, stage: stages.Stage, at_ms: int) -> bool:
        scope = self.scopes[stage.place]
        # Where nobody comes or goes, what was so when the stage was asked for stays so.
        if scope.is_whole or (at_ms > stage.asked_ms and not scope.has_lifetimes):
            return True
        return any(is_anyone_hit(self._load(parts, stage), scope, at_ms) for parts in self._blocks(stage))

    def _load(self, parts: Parts, stage: stages.Stage) -> Vms:
        vms = self.reading(parts, self.scopes[stage.place], self.scenario.start_ms_epoch)
        return vms if stage.iteration == FIRST_ITERATION else vms.of_those(self.handing.left_before(stage, parts))


def scope_of(prepared: PreparedFleet, resolved: Resolved, place: int) -> Scope:
    """What the campaign at *place* is about in *prepared*."""
    scenario = resolved.scenario
    campaign = scenario.campaigns[place]
    is_left_alone = campaign.kind == Kind.FREEZE and campaign.reboot_length is None
    # In the order of the table of profiles. Whoever is rebooted is so whatever its family's pause would be.
    sizes_of = [*resolved.family_sizes[place], resolved.cannot_freeze_sizes if campaign.reboot_length else ()]
    return Scope(
        campaign,
        has_lifetimes=prepared.has_lifetimes,
        cannot_freeze_sizes=frozenset(resolved.cannot_freeze_sizes) if is_left_alone else frozenset(),
        profile_of_size={size: row for row, sizes in enumerate(sizes_of, 1) for size in sizes},
        quorum=scenario.quorum if scenario.quorum is not None and scenario.quorum.by == "set" else None,
        has_hosts=prepared.host_count > 0,
        has_zones="zone" in prepared.columns,
        move_columns=tuple(name for name in MOVE_COLUMNS if name in prepared.columns),
    )
