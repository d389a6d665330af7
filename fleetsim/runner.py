"""Runs: a fleet and a scenario become a run folder.

Calendars say which stages start, blocks of a stage are computed and encoded on threads, and a few more hash and write
what is encoded, so that no core waits for the disk. A block reports its end as soon as it is known, so that the region
waiting for it can start. Memory holds the blocks in flight, never the fleet.
"""

import glob
import itertools
import json
import os
import queue
import shutil
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetsim import __version__, records, stages
from fleetsim.blocks import MOVE_COLUMNS, Left, Scope, Vms, check_plans, load, resolve_over
from fleetsim.course import Course, campaign_key
from fleetsim.customers import Known
from fleetsim.engine import Beside, Impacts, Sums, advance, idle, is_anyone_hit, length_ms_max
from fleetsim.errors import InputError, RunError
from fleetsim.fleet.prepared import PreparedFleet, PreparedPart, as_prepared
from fleetsim.fleet.preparing import prepare
from fleetsim.progress import Progress
from fleetsim.regions import Relation, load_relation
from fleetsim.runfolder import DISK_THREADS, MANIFEST, RESOLVED, RunFolder, check_absent
from fleetsim.scenario import Resolved, difference, load_scenario
from fleetsim.schema import COME_BACK, FIRST_ITERATION, NEVER_MS, SCHEMA_VERSION, Kind, Outcome
from fleetsim.tables import parquet_bytes, provenance_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    path: Path
    digest: str
    manifest: Mapping[str, Any] = field(repr=False)  # of all its parts: pages
    warnings: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "run": str(self.path),
            "digest": self.digest,
            "counts": self.manifest["counts"],
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }


def run(
    fleet: Any,
    scenario: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    pairs: str | Path | None = None,
    hosts: Any = None,
    threads: int | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Run *scenario* over *fleet* into the new folder *out*.

    fleet      a prepared fleet, Parquet (file or folder), CSV, or any object with the Arrow PyCapsule interface
    scenario   TOML file or text, or the same as a mapping
    pairs      CSV with the relation of regions, instead of the built-in one
    hosts      an inventory of the hosts the fleet is on, as for `fleet.prepare`; a prepared fleet has its own
    threads    blocks computed and written at once; default: one a core
    overrides  `KEY=VALUE` each, as `--override` takes them
    resume     go on with an unfinished run of the same scenario, fleet and pairs
    progress   called now and then, from this thread

    Raises `InputError` before anything is written where the input is unusable, `RunError` where writing fails.
    """
    started_s = time.perf_counter()
    out = Path(out)
    if threads is not None and threads < 1:
        raise InputError(f"threads: must be at least 1, got {threads}")
    check_absent(out, resume=resume)
    loaded = load_scenario(scenario, overrides)
    relation = load_relation(Path(pairs) if pairs is not None else None)
    with _prepared(fleet, out, relation, pairs, hosts, progress, resume=resume) as prepared:
        resolved = resolve_over(prepared, loaded, relation, threads)
        check_plans(prepared, loaded)
        provenance = {
            "fleetsim_version": __version__,
            "schema_version": SCHEMA_VERSION,
            "scenario_digest": resolved.scenario_digest,
            "fleet_digest": prepared.fleet_digest,
            "pairs_digest": relation.digest,
            **({} if prepared.hosts_digest is None else {"hosts_digest": prepared.hosts_digest}),
        }
        resolved_text = resolved.to_toml(provenance)
        if resume and (out / RESOLVED).exists():
            if changes := difference((out / RESOLVED).read_text(), resolved_text):
                raise InputError([f"{out}: --resume goes on with the same run only: {change}" for change in changes])
            if (out / MANIFEST).exists():
                manifest = _finished(out)
                return Run(out, manifest["run_digest"], manifest, ("the run was finished already",), 0.0)
        prepared_s = time.perf_counter()
        try:
            writing = _Writing(RunFolder(out), prepared, resolved, relation)
            writing.write_inputs(resolved_text)
            writing.run_stages(threads or os.cpu_count() or 1, progress)
            finished_s = time.perf_counter()
            manifest = writing.finish(
                resolved_text, {"prepare_s": prepared_s - started_s, "stages_s": finished_s - prepared_s}
            )
        except InputError:  # only now could it be seen, as a policy that fails
            if not resume:
                shutil.rmtree(out, ignore_errors=True)
            raise
        except OSError as error:
            raise RunError(
                f"{out}: could not be written: {error.strerror or error}; finished parts stay, --resume goes on"
            ) from error
    return Run(out, manifest["run_digest"], manifest, tuple(manifest["warnings"]), time.perf_counter() - started_s)


def _finished(out: Path) -> dict[str, Any]:
    """The manifest of the finished run *out*."""
    try:
        manifest: dict[str, Any] = json.loads((out / MANIFEST).read_text("utf-8"))
        missing = {"run_digest", "counts", "warnings"} - set(manifest)
    except (ValueError, TypeError) as error:
        raise InputError(f"{out / MANIFEST}: must be the manifest of a run, got: {error}") from error
    if missing:
        raise InputError(f"{out / MANIFEST}: must be the manifest of a run, found no '{min(missing)}'")
    return manifest


@contextmanager
def _prepared(
    fleet: Any,
    out: Path,
    relation: Relation,
    pairs: str | Path | None,
    hosts: Any,
    progress: Progress | None,
    *,
    resume: bool,
) -> Iterator[PreparedFleet]:
    """The prepared fleet to run over: *fleet* itself, or one made beside *out* for the time of the run."""
    if (given := as_prepared(fleet, relation)) is not None:
        if hosts is not None:
            raise InputError(
                f"hosts: must not be given with a prepared fleet, which has its own, got {fleet} and an inventory; give"
                " them to `fleetsim fleet prepare --hosts`"
            )
        yield given
        return
    # Nothing may be written for unusable input, not even folders.
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if resume:
        for stray in parent.glob(f".{glob.escape(out.name)}.preparing-*"):
            shutil.rmtree(stray)  # of the run that was killed, perhaps while it prepared
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{out.name}.preparing-") as folder:
        yield prepare(fleet, Path(folder) / "prepared", pairs, hosts=hosts, progress=progress)


Parts = tuple[PreparedPart, ...]
"""Parts of a region that are computed together: one, unless VMs of several can affect one another."""


@dataclass(frozen=True, slots=True)
class _Computed:
    """The sums of a block of a stage are known."""

    decided: stages.Decided
    place: int  # of the block in its stage
    sums: Sums
    known: Known | None  # to be told to customers of other campaigns


@dataclass(frozen=True, slots=True)
class _Written:
    """The files of a part are whole."""

    decided: stages.Decided
    part: PreparedPart


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

    def add(self, message: _Computed) -> bool:
        """Take in the sums of a block, in the order of parts. Returns whether all blocks are in."""
        decided = message.decided
        self._early[decided, message.place] = message.sums
        self._missing[decided] -= 1
        while (sums := self._early.pop((decided, self._next[decided]), None)) is not None:
            self.totals[decided].add(sums)
            self._next[decided] += 1
        return not any(self._missing.values())

    def ran(self) -> dict[stages.Stage, stages.Ran]:
        """What came of each stage."""
        return {
            decided.stage: stages.Ran(sums.free_ms, leaves_vms=bool(sums.outcome_counts[list(COME_BACK)].any()))
            for decided, sums in self.totals.items()
        }


class _Writing:
    """The writing of one run. The coordinating thread does all but `_block` and what it hands on to the disk."""

    def __init__(self, folder: RunFolder, prepared: PreparedFleet, resolved: Resolved, relation: Relation) -> None:
        self.folder = folder
        self.prepared = prepared
        self.resolved = resolved
        self.relation = relation
        self.scenario = resolved.scenario
        self.provenance = provenance_of(
            scenario_digest=resolved.scenario_digest,
            fleet_digest=prepared.fleet_digest,
            seed=self.scenario.seed,
        )
        self.events_schema = records.events_schema(
            self.provenance,
            has_hosts=prepared.host_count > 0,
            are_hosts_known=all(region.hosts is not None for region in prepared.regions)
            and all(campaign.kind != Kind.REDEPLOY for campaign in self.scenario.campaigns),
        )
        self.regions = {region.region: region for region in prepared.regions}
        self.keys = [campaign_key(self.scenario.seed, campaign.name) for campaign in self.scenario.campaigns]
        self.scopes = [_scope(prepared, resolved, campaign.place) for campaign in self.scenario.campaigns]
        self.sums: dict[stages.Decided, Sums] = {}
        self.batches: dict[stages.Decided, _Batch] = {}
        self.shared = {region: _Shared() for region in self._shared_regions()}
        self.regions_of: dict[stages.Calendar, list[str]] = {}
        self.left: dict[tuple[int, Path], Left] = {}  # by campaign and first part: VMs for its next iteration
        self.messages: queue.SimpleQueue[_Computed | _Written | BaseException] = queue.SimpleQueue()
        self.weak_sets: list[pa.Table] = []  # of the stages that are not plain, as they come
        self.is_cancelled = threading.Event()

    def write_inputs(self, resolved_text: str) -> None:
        """Write what the run starts from; `resolved.toml` is what `--resume` compares."""
        self.folder.open()
        self.folder.write(RESOLVED, resolved_text.encode())
        plans = {
            f"requests-c{campaign.place:03}.csv": (campaign.self_service.plan.text.encode(), None)
            for campaign in self.scenario.campaigns
            if campaign.self_service is not None and campaign.self_service.plan is not None
        }
        self.folder.write_all(
            {
                "scenario.toml": (self.scenario.text.encode(), None),
                "pairs.csv": (self.relation.to_csv().encode(), None),
                **plans,
            }
        )
        for region in self.prepared.regions:
            for part in region.parts:
                name = f"fleet/region={region.region}/{part.path.name}"
                self.folder.link(name, part.path, part.vm_count, part.sha256)
            if (hosts := region.hosts) is not None:
                name = f"hosts/region={region.region}/{hosts.path.name}"
                self.folder.link(name, hosts.path, hosts.host_count, hosts.sha256)

    def run_stages(self, threads: int, progress: Progress | None) -> None:
        """Drive every calendar to its end, with blocks on *threads* threads."""
        vms_done, vms_total = 0, sum(self._vm_count(scope) for scope in self.resolved.regions)
        unwritten: dict[stages.Decided, int] = {}
        compute = ThreadPoolExecutor(threads, thread_name_prefix="fleetsim-block")
        disk = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="fleetsim-disk")
        room = threading.BoundedSemaphore(threads + DISK_THREADS)  # encoded blocks on their way to the disk

        def start(calendar: stages.Calendar, decided: Sequence[stages.Decided]) -> None:
            blocks_of = {each: self._blocks(each.stage) for each in decided}
            batch = _Batch(calendar, {each: len(blocks) for each, blocks in blocks_of.items()})
            for each, blocks in blocks_of.items():
                self.batches[each] = batch
                if each.verdict is not stages.Verdict.TRIAL:
                    unwritten[each] = sum(map(len, blocks))
                asking = self._asking(each)
                for place, parts in enumerate(blocks):
                    compute.submit(self._reported, self._block, each, place, parts, asking, disk, room)

        try:
            for calendar in self._calendars():
                start(calendar, next(calendar))
            while unwritten or self.batches:
                message = self.messages.get()
                if isinstance(message, BaseException):
                    raise message
                if isinstance(message, _Computed):
                    if (goes_on := self._take(message)) is not None:
                        start(*goes_on)
                    continue
                vms_done += message.part.vm_count if message.decided.stage.iteration == FIRST_ITERATION else 0
                unwritten[message.decided] -= 1
                sentence = ""
                if unwritten[message.decided] == 0:
                    del unwritten[message.decided]
                    sentence = self._sentence(message.decided)
                if progress is not None:
                    progress("run", vms_done, vms_total, sentence)
        finally:
            self.is_cancelled.set()
            compute.shutdown(cancel_futures=True)
            disk.shutdown(cancel_futures=True)

    def finish(self, resolved_text: str, timings: Mapping[str, float]) -> dict[str, Any]:
        """Write the tables of stages, then the manifest. Returns the manifest."""
        self.sums = dict(sorted(self.sums.items(), key=lambda item: _in_file_order(item[0])))
        campaigns = self.scenario.campaigns
        plain = {
            decided.stage.region
            for decided in self.sums
            if decided.verdict is stages.Verdict.AT_WORK and self.scopes[decided.stage.place].is_plain
        }
        weak_path = self.prepared.path / "no_guarantee.parquet"
        outages = self._application_outages(resolved_text)
        tables = {
            "no_guarantee": records.no_guarantee(weak_path, plain, self.weak_sets, self.provenance),
            "stages": records.stages(self.sums, campaigns, self.scenario.start_ms_epoch, self.provenance),
            "summary": records.summary(self.sums, campaigns, outages, self.provenance),
        }
        self.folder.write_all({f"{name}.parquet": (self._encoded(table), len(table)) for name, table in tables.items()})
        event_count = sum(sums.event_count for sums in self.sums.values())
        outcome_count = sum(int(sums.outcome_counts.sum()) for sums in self.sums.values())
        return self.folder.finish(
            {
                "seed": self.scenario.seed,
                "scenario_digest": self.resolved.scenario_digest,
                "fleet_digest": self.prepared.fleet_digest,
                **({} if self.prepared.hosts_digest is None else {"hosts_digest": self.prepared.hosts_digest}),
                "overrides": list(self.scenario.overrides),
                "counts": {
                    "vms": self.prepared.vm_count,
                    "sets": self.prepared.set_count,
                    "singles": self.prepared.single_count,
                    "stages": len(self.sums),
                    "events": event_count if self.scenario.has_events else 0,
                    "outcomes": outcome_count if self.scenario.has_outcomes else 0,
                },
                "invented": list(self.prepared.invented),
                "warnings": [*self.prepared.warnings, *self.resolved.warnings, *self._unasked(), *self._remaining()],
            },
            timings,
        )

    def _unasked(self) -> list[str]:
        """How many requests of customers' own plans were not made."""
        said = []
        for campaign in self.scenario.campaigns:
            if campaign.self_service is None or campaign.self_service.plan is None:
                continue
            plan = campaign.self_service.plan
            made = sum(sums.request_count for each, sums in self.sums.items() if each.stage.place == campaign.place)
            if made < len(plan.vm):
                said.append(
                    f"{plan.path}: {len(plan.vm) - made:,} of {len(plan.vm):,} requests were not made: out of their"
                    f" windows, or of VMs that were settled by then, or that campaign '{campaign.name}' does not select"
                )
        return said

    def _remaining(self) -> list[str]:
        """Whom the horizon, a window, or their customers' failures left without the update when all is over."""
        told = {
            "horizon": "are overdue: their regions would have ended after it",
            "scheduled window": "are overdue: their update domains would have ended after it",
            "iterations_max": "are not updated: the last attempt of their customers, or a neighbour's, has failed",
            "scheduled.retry_timeout": "are not updated: every try in the scheduled window has failed",
        }
        counts: dict[tuple[str, str], int] = {}
        followed = {_key(each.stage, -1) for each in self.sums}
        for decided, sums in self.sums.items():
            if _key(decided.stage) in followed:
                continue
            late = "horizon" if decided.verdict is stages.Verdict.NO_ROOM else "scheduled window"
            for key, outcome in (
                (late, Outcome.OVERDUE),
                ("iterations_max", Outcome.SKIPPED),
                ("scheduled.retry_timeout", Outcome.FAILED),
            ):
                of = (key, self.scenario.campaigns[decided.stage.place].name)
                counts[of] = counts.get(of, 0) + int(sums.outcome_counts[outcome])
        return [
            f"{key}: {count:,} VMs of campaign '{name}' {told[key]}" for (key, name), count in counts.items() if count
        ]

    def _application_outages(self, resolved_text: str) -> list[records.SummaryRow]:
        """What applications suffer under each campaign: they span regions, so only the whole run can tell."""
        if not self.scenario.has_events or "application" not in self.prepared.columns:
            return []
        from fleetsim import figures  # and with it Polars, which most runs need not wait for

        totals = figures.application_totals(self.folder.path, tomllib.loads(resolved_text))
        return [
            (campaign, FIRST_ITERATION, "*", figure, None, float(value))
            for campaign, values in totals.items()
            for figure, value in values.items()
        ]

    def _vm_count(self, regions: Sequence[str]) -> int:
        return sum(self.regions[region].vm_count for region in regions)

    def _blocks(self, stage: stages.Stage) -> list[Parts]:
        """The parts of a stage as they are computed together."""
        parts = self.regions[stage.region].parts
        is_one = self.scopes[stage.place].needs_region or stage.meets_customers
        blocks: list[Parts] = [parts] if is_one else [(part,) for part in parts]
        if stage.iteration == FIRST_ITERATION:
            return blocks
        return [parts for parts in blocks if len(self._left(parts, stage).rows)]

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
            return self._vm_count([stage.region for each in members for wave in each.waves for stage in wave])

        largest_first = sorted(joined, key=lambda each: (-size(each[1]), min(each[0])))
        about = neighbours, self._is_anyone_hit, horizon_ms, self._announce
        for _, members in largest_first:
            met = {stage.region for each in members for wave in each.waves for stage in wave}
            self.regions_of[stages.calendar(members, *about)] = sorted(met & self.shared.keys())
        return list(self.regions_of)

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
                    if region in self.shared and campaign.windows is None
                    else length_ms_max(campaign, has_hosts=self.scopes[place].has_hosts),
                    lead_ms=None if campaign.windows is None else campaign.windows.lead_ms,
                    meets_customers=region in self.shared,
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
            self.shared[decided.stage.region].asking.append(decided)

    def _opens_ms(self, decided: stages.Decided) -> int:
        """When customers may ask first."""
        windows = self.scenario.campaigns[decided.stage.place].windows
        assert windows is not None
        return decided.at_ms - windows.gap_ms - windows.self_service_ms

    def _asking(self, decided: stages.Decided) -> tuple[Known, list[stages.Decided]] | None:
        """What other campaigns have done in the region of *decided*, and whose customers may ask; None: nobody."""
        shared = self.shared.get(decided.stage.region)
        if shared is None:
            return None
        return shared.known, [
            each for each in shared.asking if each is not decided and self._opens_ms(each) < decided.at_ms
        ]

    def _course(self, decided: stages.Decided) -> Course:
        stage = decided.stage
        until_ms = NEVER_MS if stage.lead_ms is None else decided.at_ms + stage.length_ms_max
        key, origin_ms = self.keys[stage.place], self.scenario.start_ms_epoch
        return Course(decided.at_ms, key, origin_ms, stage.iteration, until_ms=until_ms, region=stage.region)

    def _is_anyone_hit(self, stage: stages.Stage, at_ms: int) -> bool:
        scope = self.scopes[stage.place]
        # Where nobody comes or goes, what was so when the stage was asked for stays so.
        if scope.is_whole or (at_ms > stage.asked_ms and not scope.has_lifetimes):
            return True
        return any(is_anyone_hit(self._load(parts, stage), scope, at_ms) for parts in self._blocks(stage))

    def _load(self, parts: Parts, stage: stages.Stage) -> Vms:
        vms = load(parts, self.scopes[stage.place], self.scenario.start_ms_epoch)
        return vms if stage.iteration == FIRST_ITERATION else vms.of_those(self._left(parts, stage))

    def _left(self, parts: Parts, stage: stages.Stage) -> Left:
        """What the iteration before *stage* left of *parts*."""
        return self.left[stage.place, parts[0].path]

    def _take(self, message: _Computed) -> tuple[stages.Calendar, list[stages.Decided]] | None:
        """Note the sums of a block. Returns a calendar and what it decides next, where it can go on."""
        batch = self.batches[message.decided]
        shared = self.shared.get(message.decided.stage.region)
        if shared is not None and message.known is not None and message.decided.verdict is stages.Verdict.AT_WORK:
            shared.settle(message.decided, message.known, self._opens_ms)
        if not batch.add(message):
            return None
        for decided, sums in batch.totals.items():
            del self.batches[decided]
            if decided.verdict is not stages.Verdict.TRIAL:
                self.sums[decided] = sums
        try:
            return batch.calendar, batch.calendar.send(batch.ran())
        except StopIteration:
            for region in self.regions_of[batch.calendar]:
                del self.shared[region]
            return None

    def _reported(self, task: Callable[..., None], *arguments: Any) -> None:
        """Run *task* on a thread; what it raises reaches the coordinating thread as a message."""
        try:
            task(*arguments)
        except BaseException as error:  # whatever it is, or the coordinating thread would wait for ever
            self.messages.put(error)

    def _block(
        self,
        decided: stages.Decided,
        place: int,
        parts: Parts,
        asking: tuple[Known, list[stages.Decided]] | None,
        disk: ThreadPoolExecutor,
        room: threading.BoundedSemaphore,
    ) -> None:
        """Compute one block, report its sums, encode its parts and hand them to the *disk*."""
        if self.is_cancelled.is_set():
            return
        stage, scope = decided.stage, self.scopes[decided.stage.place]
        vms = self._load(parts, stage)
        if decided.verdict in (stages.Verdict.AT_WORK, stages.Verdict.TRIAL):
            beside = None
            if asking is not None:
                others = [
                    (self._load(parts, each.stage), self.scopes[each.stage.place], self._course(each))
                    for each in asking[1]
                ]
                beside = Beside(tuple(others), asking[0])
            impacts = advance(vms, scope, self._course(decided), beside)
        else:
            impacts = idle(vms, scope, decided.at_ms, is_overdue=decided.verdict is stages.Verdict.NO_ROOM)
        impacts.sums.last_vm_row += parts[0].vm_row_start
        if impacts.left is not None:
            self.left[stage.place, parts[0].path] = impacts.left
        self.messages.put(_Computed(decided, place, impacts.sums, impacts.known))
        if decided.verdict is stages.Verdict.TRIAL:
            return
        if impacts.steps is not None:
            campaign = self.scenario.campaigns[stage.place]
            steps = records.steps(
                impacts.steps,
                campaign,
                stage.iteration,
                parts[0].vm_row_start,
                self.scenario.start_ms_epoch,
                self.provenance,
            )
            self.folder.write(f"steps/{_part_name(stage, 0)}", self._encoded(steps), len(steps))
        for part in parts:
            row = part.vm_row_start - parts[0].vm_row_start
            of_part = impacts.within(row, row + part.vm_count)
            if stage.iteration == FIRST_ITERATION or (of_part.fates is not None and len(of_part.fates.rows)):
                self._encode(decided, part, of_part, disk, room)
            else:  # none of its VMs has come back
                self.messages.put(_Written(decided, part))

    def _encode(
        self,
        decided: stages.Decided,
        part: PreparedPart,
        impacts: Impacts,
        disk: ThreadPoolExecutor,
        room: threading.BoundedSemaphore,
    ) -> None:
        """Encode the parts of events and outcomes that go with *part* of the fleet."""
        stage = decided.stage
        campaign = self.scenario.campaigns[stage.place]
        name = _part_name(stage, part.number)
        about = (impacts, campaign, stage.iteration, records.vm_rows(part.vm_row_start, part.vm_count))
        if impacts.weak_sets is not None:
            self.weak_sets.append(records.weak_sets(part.path, impacts.weak_sets, stage.region))
        while not room.acquire(timeout=1):
            if self.is_cancelled.is_set():
                return
        encoded = {}
        for table, is_kept, rows_of in (
            ("outcomes", self.scenario.has_outcomes, partial(records.outcomes, *about, self.provenance)),
            ("events", self.scenario.has_events, partial(records.events, *about, self.events_schema)),
        ):
            if is_kept:
                rows = rows_of()
                if not self.folder.keep(f"{table}/{name}", len(rows)):
                    encoded[f"{table}/{name}"] = (self._encoded(rows), len(rows))
        disk.submit(self._reported, self._write, decided, part, encoded, room)

    def _encoded(self, table: "pa.Table") -> "pa.Buffer":
        return parquet_bytes(table, self.scenario.output_profile)

    def _write(
        self,
        decided: stages.Decided,
        part: PreparedPart,
        encoded: dict[str, "tuple[pa.Buffer, int]"],
        room: threading.BoundedSemaphore,
    ) -> None:
        for name in list(encoded):
            self.folder.write(name, *encoded.pop(name))
        room.release()
        self.messages.put(_Written(decided, part))

    def _sentence(self, decided: stages.Decided) -> str:
        campaign = self.scenario.campaigns[decided.stage.place]
        region, iteration = self.regions[decided.stage.region], decided.stage.iteration
        what = f"{region.vm_count:,} VMs" if iteration == FIRST_ITERATION else f"iteration {iteration}"
        return f"{campaign.name} in {region.region}: {what} written"


def _part_name(stage: stages.Stage, number: int) -> str:
    """Where rows of *stage* are kept that go with the part *number* of its region."""
    return f"region={stage.region}/part-c{stage.place:03}-i{stage.iteration:03}-{number:05}.parquet"


def _scope(prepared: PreparedFleet, resolved: Resolved, place: int) -> Scope:
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


def _in_file_order(decided: stages.Decided) -> tuple[int, int, str]:
    return _key(decided.stage)


def _key(stage: stages.Stage, iterations_later: int = 0) -> tuple[int, int, str]:
    """The stage by campaign, iteration and region, or that of another iteration."""
    return stage.place, stage.iteration + iterations_later, stage.region
