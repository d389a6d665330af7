"""Runs: a fleet and a scenario become a run folder.

Calendars say which stages start, blocks of a stage are computed and encoded on threads, and a few more hash and write
what is encoded, so that no core waits for the disk. A block reports its end as soon as it is known, so that the region
waiting for it can start. Memory holds the blocks in flight, never the fleet. On a cluster each worker computes and
writes whole blocks, and what one must know of another's lies in the run folder.
"""

import contextlib
import glob
import io
import json
import os
import queue
import secrets
import shutil
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq

from fleetsim import __version__, records, stages
from fleetsim.blocks import Left, check_plans, resolve_over
from fleetsim.cluster import Cluster, check_asked, connected, shared
from fleetsim.customers import Known
from fleetsim.driving import Drive, Parts, Task, scope_of
from fleetsim.engine import Impacts, Sums
from fleetsim.errors import InputError, RunError
from fleetsim.fleet.prepared import PreparedFleet, PreparedPart, as_prepared, relation_over
from fleetsim.fleet.preparing import prepare
from fleetsim.progress import Progress
from fleetsim.regions import Relation
from fleetsim.room import check_memory
from fleetsim.runfolder import MANIFEST, RESOLVED, SCRATCH, Part, RunFolder, check_absent
from fleetsim.scenario import Resolved, difference, load_scenario
from fleetsim.schema import FIRST_ITERATION, SCHEMA_VERSION, Kind, Outcome
from fleetsim.storage import Place, Url, check_room, fetched, located, readable, remove
from fleetsim.tables import parquet_bytes, provenance_of, write_atomic

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run."""

    path: Place
    digest: str
    manifest: Mapping[str, Any] = field(repr=False)  # of all its parts: pages
    warnings: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "run": str(self.path),
            "digest": self.digest,
            "counts": self.manifest["counts"],
            **({"replicas": self.manifest["replicas"]} if "replicas" in self.manifest else {}),
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }


def run(
    fleet: Any,
    scenario: str | Path | Mapping[str, Any],
    out: str | Path | Url,
    *,
    pairs: str | Path | None = None,
    hosts: Any = None,
    threads: int | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    replicas: int | None = None,
    until: str | None = None,
    replica: int = 0,
    on: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Run *scenario* over *fleet* into the new folder *out*: a path, or a URL that fsspec knows, as `s3://bucket/run`.

    fleet      a prepared fleet (at a path or a URL), Parquet (file or folder), CSV, or any object with the Arrow
               PyCapsule interface
    scenario   TOML file or text, or the same as a mapping
    pairs      CSV with the relation of regions, instead of the built-in one
    hosts      an inventory of the hosts the fleet is on, as for `fleet.prepare`; a prepared fleet has its own
    threads    blocks computed and written at once; default: one a core
    overrides  `KEY=VALUE` each, as `--override` takes them
    resume     go on with an unfinished run of the same scenario, fleet and pairs
    replicas   how many times to draw: the run is the first, of all the figures are kept; default: once, without those
    until      `FIGURE RATIO%`: fewer replicas, as soon as the mean of a figure of campaigns is known so well (95 %)
    replica    the number of the one to run: 0, or one of a run with replicas, to have its events
    on         "ray": on the workers of a Ray cluster, which see *fleet* and *out* where this process does
    progress   called now and then, from this thread

    Raises `InputError` before anything is written where the input is unusable, `RunError` where writing fails.
    """
    started_s = time.perf_counter()
    out = located(out)
    if threads is not None and threads < 1:
        raise InputError(f"threads: must be at least 1, got {threads}")
    rule = None
    if replicas is not None or until is not None or replica:
        from fleetsim.replicas import check_draws, draw  # and with it Polars, which most runs need not wait for

        rule = check_draws(replicas, until, replica)
    check_asked(on)
    check_absent(out, resume=resume)
    loaded = load_scenario(scenario, overrides)
    relation = relation_over(fleet, pairs)
    with (
        prepared_for(fleet, out, relation, pairs, hosts, progress, resume=resume, on=on) as prepared,
        contextlib.ExitStack() as until_over,
    ):
        resolved = resolve_over(prepared, loaded, relation, threads)
        check_plans(prepared, loaded)
        if rule is not None:
            rule.check(prepared.columns)
        provenance = {
            "fleetsim_version": __version__,
            "schema_version": SCHEMA_VERSION,
            "scenario_digest": resolved.scenario_digest,
            "fleet_digest": prepared.fleet_digest,
            "pairs_digest": relation.digest,
            **({} if prepared.hosts_digest is None else {"hosts_digest": prepared.hosts_digest}),
            **({"replica": str(replica)} if replica else {}),
            **({"replicas": str(replicas)} if replicas is not None else {}),
            **({"until": until} if until is not None else {}),
        }
        resolved_text = resolved.to_toml(provenance)
        if resume and (out / RESOLVED).exists():
            if changes := difference((out / RESOLVED).read_text(), resolved_text):
                raise InputError([f"{out}: --resume goes on with the same run only: {change}" for change in changes])
            if (out / MANIFEST).exists():
                manifest = _finished(out)
                return Run(out, manifest["run_digest"], manifest, ("the run was finished already",), 0.0)
        needed = disk_bytes(prepared, resolved, replicas)
        check_room(out, needed, "outputs.events=false leaves out the largest table", resume=resume)
        if on is None:
            check_memory(_memory_bytes(prepared, resolved), "the largest region or part that is computed at once")
        cluster = until_over.enter_context(connected(on, threads))
        prepared_s = time.perf_counter()
        try:
            folder = RunFolder(shared(out) if on else out)
            writing = _Writing(_Blocks(folder, prepared, resolved, relation, replica, is_shared=on is not None))
            writing.write_inputs(resolved_text)
            threads = threads or os.cpu_count() or 1
            writing.run_stages(threads, cluster, progress)
            timings = {"prepare_s": prepared_s - started_s, "stages_s": time.perf_counter() - prepared_s}
            facts: dict[str, Any] = {"replica": replica} if replica else {}
            if replicas is not None:
                drawn_s = time.perf_counter()
                facts["replicas"] = draw(
                    folder, prepared, resolved, relation, replicas, threads, rule, cluster, progress
                )
                timings["replicas_s"] = time.perf_counter() - drawn_s
            manifest = writing.finish(resolved_text, facts, timings)
        except InputError:  # only now could it be seen, as a policy that fails
            if not resume:
                remove(out)
            raise
        except OSError as error:
            raise RunError(
                f"{out}: could not be written: {error.strerror or error}; finished parts stay, --resume goes on"
            ) from error
    return Run(out, manifest["run_digest"], manifest, tuple(manifest["warnings"]), time.perf_counter() - started_s)


EVENT_BYTES, OUTCOME_BYTES, REPLICA_BYTES = 4, 2, 8_192
"""On disk at least: a row of the table, compressed, and the figures of a replica."""
VM_BYTES = 100
"""In memory at least, of a VM whose stage is computed."""


def disk_bytes(prepared: PreparedFleet, resolved: Resolved, replicas: int | None) -> int:
    """What a run takes of a disk at least, where the fleet is linked; about, for files are compressed."""
    scenario = resolved.scenario
    row_bytes = EVENT_BYTES * scenario.has_events + OUTCOME_BYTES * scenario.has_outcomes
    vm_count = {region.region: region.vm_count for region in prepared.regions}
    in_scope = sum(vm_count[region] for regions in resolved.regions for region in regions)
    return in_scope * row_bytes + REPLICA_BYTES * (replicas or 0)


def _memory_bytes(prepared: PreparedFleet, resolved: Resolved) -> int:
    """What the largest block takes of memory at least."""
    largest = 0
    for place, regions in enumerate(resolved.regions):
        needs_region = scope_of(prepared, resolved, place).needs_region
        for region in prepared.regions:
            if region.region in regions:
                parts = [part.vm_count for part in region.parts]
                largest = max(largest, sum(parts) if needs_region else max(parts))
    return largest * VM_BYTES


def _finished(out: Place) -> dict[str, Any]:
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
def prepared_for(
    fleet: Any,
    out: Place,
    relation: Relation,
    pairs: str | Path | None,
    hosts: Any,
    progress: Progress | None,
    *,
    resume: bool,
    on: str | None = None,
) -> Iterator[PreparedFleet]:
    """The prepared fleet to run over: *fleet* itself, or one made for the time of the run.

    That is beside *out*, so that its files can be linked, and found *on* a cluster. What threads need for a URL is made
    in the system's folder.
    """
    fleet = shared(fleet) if on else fleet
    if (given := as_prepared(fleet, relation)) is not None:
        if hosts is not None:
            raise InputError(
                f"hosts: must not be given with a prepared fleet, which has its own, got {fleet} and an inventory; give"
                " them to `fleetsim fleet prepare --hosts`"
            )
        yield given
        return
    if isinstance(out, Url):
        with _prepared_for_url(fleet, out, pairs, hosts, progress, resume=resume, on=on) as prepared:
            yield prepared
        return
    # Nothing may be written for unusable input, not even folders.
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if resume:
        for stray in parent.glob(f".{glob.escape(out.name)}.preparing-*"):
            shutil.rmtree(stray)  # of the run that was killed, perhaps while it prepared
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{out.name}.preparing-") as folder:
        yield prepare(fleet, Path(folder) / "prepared", pairs, hosts=hosts, progress=progress)


@contextmanager
def _prepared_for_url(
    fleet: Any,
    out: Url,
    pairs: str | Path | None,
    hosts: Any,
    progress: Progress | None,
    *,
    resume: bool,
    on: str | None,
) -> Iterator[PreparedFleet]:
    if on is None:
        with tempfile.TemporaryDirectory(prefix="fleetsim-preparing-") as folder:
            yield prepare(fleet, Path(folder) / "prepared", pairs, hosts=hosts, progress=progress)
        return
    prefix = f".{out.name}.preparing-"
    if resume:
        for stray in out.parent.iterdir():
            if stray.name.startswith(prefix):
                remove(stray)
    made = out.parent / f"{prefix}{secrets.token_hex(8)}"
    try:
        yield prepare(fleet, made, pairs, hosts=hosts, progress=progress)
    finally:
        remove(made)


@dataclass(frozen=True, slots=True)
class _Computed:
    """The sums of a block are known, and what customers of other campaigns must know of it."""

    task: Task
    sums: Sums
    known: Known | None


@dataclass(frozen=True, slots=True)
class _Written:
    """The files of a part are whole."""

    decided: stages.Decided
    part: PreparedPart


class _Blocks:
    """What becomes of the blocks of one run, as bytes of its files. Its methods may be called from any thread."""

    def __init__(
        self,
        folder: RunFolder,
        prepared: PreparedFleet,
        resolved: Resolved,
        relation: Relation,
        replica: int,
        *,
        is_shared: bool,
    ) -> None:
        self.folder = folder
        self.prepared = prepared
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
        handing = _InFiles(folder.path / SCRATCH) if is_shared else None
        self.drive = Drive(prepared, resolved, relation, replica, handing=handing)
        self.weak_sets: list[pa.Table] = []  # of the stages that are not plain, as they come

    def write_steps(self, task: Task, impacts: Impacts) -> None:
        """Write what the units of a block waited for, where that is told."""
        if impacts.steps is None:
            return
        stage = task.decided.stage
        steps = records.steps(
            impacts.steps,
            self.scenario.campaigns[stage.place],
            stage.iteration,
            task.parts[0].vm_row_start,
            self.scenario.start_ms_epoch,
            self.provenance,
        )
        self.folder.write(f"steps/{_part_name(stage, 0)}", self.encoded(steps), len(steps))

    def parts(self, task: Task, impacts: Impacts) -> Iterator[tuple[PreparedPart, Impacts | None]]:
        """The parts of a block, each with what becomes of it; None: none of its VMs has come back."""
        for part in task.parts:
            row = part.vm_row_start - task.parts[0].vm_row_start
            of_part = impacts.within(row, row + part.vm_count)
            is_met = task.decided.stage.iteration == FIRST_ITERATION or (
                of_part.fates is not None and len(of_part.fates.rows)
            )
            yield part, of_part if is_met else None

    def encode(self, stage: stages.Stage, part: PreparedPart, impacts: Impacts) -> dict[str, "tuple[pa.Buffer, int]"]:
        """Bytes and rows, by name, of the files of events and outcomes that go with *part*, but of those kept."""
        campaign = self.scenario.campaigns[stage.place]
        name = _part_name(stage, part.number)
        about = (impacts, campaign, stage.iteration, records.vm_rows(part.vm_row_start, part.vm_count))
        if impacts.weak_sets is not None:
            self.weak_sets.append(records.weak_sets(part.path, impacts.weak_sets, stage.region))
        encoded = {}
        for table, is_kept, rows_of in (
            ("outcomes", self.scenario.has_outcomes, partial(records.outcomes, *about, self.provenance)),
            ("events", self.scenario.has_events, partial(records.events, *about, self.events_schema)),
        ):
            if is_kept:
                rows = rows_of()
                if not self.folder.keep(f"{table}/{name}", len(rows)):
                    encoded[f"{table}/{name}"] = (self.encoded(rows), len(rows))
        return encoded

    def encoded(self, table: "pa.Table") -> "pa.Buffer":
        return parquet_bytes(table, self.scenario.output_profile)


class _InFiles:
    """How blocks hand on to the next iteration what they leave, where another process may compute that.

    A file an iteration: a block that is computed again, as its worker was lost, finds what it found.
    """

    def __init__(self, folder: Place) -> None:
        self.folder = folder

    def leave(self, stage: stages.Stage, parts: Parts, left: Left) -> None:
        arrays = {each.name: getattr(left, each.name) for each in fields(left)}
        content = io.BytesIO()
        np.savez(content, **{name: array for name, array in arrays.items() if array is not None})
        write_atomic(self._path(stage, stage.iteration, parts), content.getvalue())

    def left_before(self, stage: stages.Stage, parts: Parts) -> Left:
        # A block of which nothing was left is computed no more: what it left last stays so.
        iterations = range(stage.iteration - 1, FIRST_ITERATION, -1)
        paths = (self._path(stage, iteration, parts) for iteration in iterations)
        path = next((path for path in paths if path.exists()), self._path(stage, FIRST_ITERATION, parts))
        with np.load(readable(path)) as arrays:
            return Left(**{"taken": None, **arrays})

    def _path(self, stage: stages.Stage, iteration: int, parts: Parts) -> Place:
        return self.folder / f"region={stage.region}/c{stage.place:03}-i{iteration:03}-{parts[0].number:05}.npz"


@dataclass(frozen=True, slots=True)
class _Handed:
    """What a worker tells of a block whose files it has written."""

    sums: Sums
    known: Known | None
    parts: tuple[Part, ...]


class _Worker:
    """What a process of a cluster does for a run: blocks, one after the other."""

    def __init__(
        self, path: Place, prepared: PreparedFleet, resolved: Resolved, relation: Relation, replica: int
    ) -> None:
        self.folder = RunFolder(path)
        self.blocks = _Blocks(self.folder, prepared, resolved, relation, replica, is_shared=True)

    def __call__(self, task: Task) -> _Handed:
        """Compute a block and write its files."""
        stage = task.decided.stage
        impacts = self.blocks.drive.compute(task)
        if task.decided.verdict is not stages.Verdict.TRIAL:
            self.blocks.write_steps(task, impacts)
            for part, of_part in self.blocks.parts(task, impacts):
                if of_part is not None:
                    self.folder.write_all(self.blocks.encode(stage, part, of_part))
            for number, table in enumerate(self.blocks.weak_sets):
                name = _part_name(stage, task.place).replace("/", f"/weak-{number:03}-")
                write_atomic(self.folder.path / SCRATCH / name, parquet_bytes(table))
        handed = _Handed(impacts.sums, impacts.known, tuple(self.folder.parts.values()))
        self.folder.parts.clear()
        self.blocks.weak_sets.clear()
        return handed


class _Writing:
    """The writing of one run. The coordinating thread does all but `_block` and what it hands on to the disk."""

    def __init__(self, blocks: _Blocks) -> None:
        self.blocks = blocks
        self.folder = blocks.folder
        self.prepared = blocks.prepared
        self.scenario = blocks.scenario
        self.provenance = blocks.provenance
        self.drive = blocks.drive
        self.resolved = blocks.drive.resolved
        self.relation = blocks.drive.relation
        self.messages: queue.SimpleQueue[_Computed | _Written | BaseException] = queue.SimpleQueue()
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
        linked: dict[str, tuple[Place, int, str]] = {}
        for region in self.prepared.regions:
            for part in region.parts:
                linked[f"fleet/region={region.region}/{part.path.name}"] = part.path, part.vm_count, part.sha256
            if (hosts := region.hosts) is not None:
                name = f"hosts/region={region.region}/{hosts.path.name}"
                linked[name] = hosts.path, hosts.host_count, hosts.sha256
        self.folder.link_all(linked)

    def run_stages(self, threads: int, cluster: Cluster | None, progress: Progress | None) -> None:
        """Drive every calendar to its end, with blocks on *threads* threads, or on the workers of a *cluster*."""
        vms_done, vms_total = 0, sum(self.drive.vm_count(scope) for scope in self.resolved.regions)
        unwritten: dict[stages.Decided, int] = {}

        with self._on_threads(threads) if cluster is None else self._on(cluster) as start:

            def submit(tasks: Iterable[Task]) -> None:
                for task in tasks:
                    if task.decided.verdict is not stages.Verdict.TRIAL:
                        unwritten[task.decided] = unwritten.get(task.decided, 0) + len(task.parts)
                    start(task)

            submit(self.drive.start())
            while unwritten or not self.drive.is_over:
                message = self.messages.get()
                if isinstance(message, BaseException):
                    raise message
                if isinstance(message, _Computed):
                    submit(self.drive.take(message.task, message.sums, message.known))
                    continue
                vms_done += message.part.vm_count if message.decided.stage.iteration == FIRST_ITERATION else 0
                unwritten[message.decided] -= 1
                sentence = ""
                if unwritten[message.decided] == 0:
                    del unwritten[message.decided]
                    sentence = self._sentence(message.decided)
                if progress is not None:
                    progress("run", vms_done, vms_total, sentence)

    @contextmanager
    def _on_threads(self, threads: int) -> Iterator[Callable[[Task], None]]:
        """What starts a task on a thread of this process."""
        compute = ThreadPoolExecutor(threads, thread_name_prefix="fleetsim-block")
        disk = ThreadPoolExecutor(self.folder.writer_count, thread_name_prefix="fleetsim-disk")
        room = threading.BoundedSemaphore(threads + self.folder.writer_count)  # encoded blocks on their way to the disk

        def start(task: Task) -> None:
            compute.submit(self._reported, self._block, task, disk, room)

        try:
            yield start
        finally:
            self.is_cancelled.set()
            compute.shutdown(cancel_futures=True)
            disk.shutdown(cancel_futures=True)

    @contextmanager
    def _on(self, cluster: Cluster) -> Iterator[Callable[[Task], None]]:
        """What starts a task on a worker of *cluster*."""
        about = (self.folder.path, self.prepared, self.resolved, self.relation, self.drive.replica)

        def done(task: Task, answer: Future[_Handed]) -> None:
            if (error := answer.exception()) is not None:
                self.messages.put(error)
                return
            handed = answer.result()
            self.folder.parts.update({part.path: part for part in handed.parts})
            self.messages.put(_Computed(task, handed.sums, handed.known))
            if task.decided.verdict is not stages.Verdict.TRIAL:
                for part in task.parts:
                    self.messages.put(_Written(task.decided, part))

        with cluster.workers(_Worker, *about) as submit:
            yield lambda task: submit(task).add_done_callback(partial(done, task))
        weak: list[Any] = sorted((self.folder.path / SCRATCH).rglob("weak-*.parquet"))
        self.blocks.weak_sets += [pq.ParquetFile(readable(path)).read() for path in weak]

    def finish(self, resolved_text: str, facts: Mapping[str, Any], timings: Mapping[str, float]) -> dict[str, Any]:
        """Write the tables of stages, then the manifest. Returns the manifest."""
        self.drive.sums = dict(sorted(self.drive.sums.items(), key=lambda item: item[0].stage.key()))
        campaigns = self.scenario.campaigns
        plain = {
            decided.stage.region
            for decided in self.drive.sums
            if decided.verdict is stages.Verdict.AT_WORK and self.drive.scopes[decided.stage.place].is_plain
        }
        weak_path = self.prepared.path / "no_guarantee.parquet"
        self.folder.clear()
        outages = self._application_outages(resolved_text)
        tables = {
            "no_guarantee": records.no_guarantee(weak_path, plain, self.blocks.weak_sets, self.provenance),
            "stages": records.stages(self.drive.sums, campaigns, self.scenario.start_ms_epoch, self.provenance),
            "summary": records.summary(self.drive.sums, campaigns, outages, self.provenance),
        }
        self.folder.write_all(
            {f"{name}.parquet": (self.blocks.encoded(table), len(table)) for name, table in tables.items()}
        )
        event_count = sum(sums.event_count for sums in self.drive.sums.values())
        outcome_count = sum(int(sums.outcome_counts.sum()) for sums in self.drive.sums.values())
        return self.folder.finish(
            {
                "seed": self.scenario.seed,
                **facts,
                "scenario_digest": self.resolved.scenario_digest,
                "fleet_digest": self.prepared.fleet_digest,
                **({} if self.prepared.hosts_digest is None else {"hosts_digest": self.prepared.hosts_digest}),
                "overrides": list(self.scenario.overrides),
                "counts": {
                    "vms": self.prepared.vm_count,
                    "sets": self.prepared.set_count,
                    "singles": self.prepared.single_count,
                    "stages": len(self.drive.sums),
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
            made = sum(
                sums.request_count for each, sums in self.drive.sums.items() if each.stage.place == campaign.place
            )
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
        followed = {each.stage.key(-1) for each in self.drive.sums}
        for decided, sums in self.drive.sums.items():
            if decided.stage.key() in followed:
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

        with fetched(self.folder.path, ("events/", "fleet/")) as path:
            totals = figures.application_totals(path, tomllib.loads(resolved_text))
        return [
            (campaign, FIRST_ITERATION, "*", figure, None, float(value))
            for campaign, values in totals.items()
            for figure, value in values.items()
        ]

    def _reported(self, task: Callable[..., None], *arguments: Any) -> None:
        """Run *task* on a thread; what it raises reaches the coordinating thread as a message."""
        try:
            task(*arguments)
        except BaseException as error:  # whatever it is, or the coordinating thread would wait for ever
            self.messages.put(error)

    def _block(self, task: Task, disk: ThreadPoolExecutor, room: threading.BoundedSemaphore) -> None:
        """Compute one block, report its sums, encode its parts and hand them to the *disk*."""
        if self.is_cancelled.is_set():
            return
        decided = task.decided
        impacts = self.drive.compute(task)
        self.messages.put(_Computed(task, impacts.sums, impacts.known))
        if decided.verdict is stages.Verdict.TRIAL:
            return
        self.blocks.write_steps(task, impacts)
        for part, of_part in self.blocks.parts(task, impacts):
            if of_part is None:
                self.messages.put(_Written(decided, part))
                continue
            while not room.acquire(timeout=1):
                if self.is_cancelled.is_set():
                    return
            encoded = self.blocks.encode(decided.stage, part, of_part)
            disk.submit(self._reported, self._write, decided, part, encoded, room)

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
        region, iteration = self.drive.regions[decided.stage.region], decided.stage.iteration
        what = f"{region.vm_count:,} VMs" if iteration == FIRST_ITERATION else f"iteration {iteration}"
        return f"{campaign.name} in {region.region}: {what} written"


def _part_name(stage: stages.Stage, number: int) -> str:
    """Where rows of *stage* are kept that go with the part *number* of its region."""
    return f"region={stage.region}/part-c{stage.place:03}-i{stage.iteration:03}-{number:05}.parquet"
