"""Runs: a fleet and a scenario become a run folder.

Calendars say which stages start, blocks of a stage are computed and encoded on threads, and a few more hash and write
what is encoded, so that no core waits for the disk. A block reports its end as soon as it is known, so that the region
waiting for it can start. Memory holds the blocks in flight, never the fleet.
"""

import glob
import json
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleetsim import __version__, records, stages
from fleetsim.engine import ITERATION, Sums, advance, campaign_key, load_block
from fleetsim.errors import InputError, RunError
from fleetsim.fleet.prepared import PreparedFleet, PreparedPart, open_prepared
from fleetsim.fleet.preparing import prepare
from fleetsim.progress import Progress
from fleetsim.regions import Relation, load_relation
from fleetsim.runfolder import DISK_THREADS, MANIFEST, RESOLVED, RunFolder, check_absent
from fleetsim.scenario import Resolved, difference, load_scenario, resolve
from fleetsim.schema import SCHEMA_VERSION
from fleetsim.tables import parquet_bytes, provenance_of


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
    threads: int | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Run *scenario* over *fleet* into the new folder *out*.

    fleet      a prepared fleet, Parquet (file or folder), CSV, or any object with the Arrow PyCapsule interface
    scenario   TOML file or text, or the same as a mapping
    pairs      CSV with the relation of regions, instead of the built-in one
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
    with _prepared(fleet, out, relation, pairs, progress, resume=resume) as prepared:
        resolved = resolve(loaded, relation, {region.region: region.vm_count for region in prepared.regions})
        provenance = {
            "fleetsim_version": __version__,
            "schema_version": SCHEMA_VERSION,
            "scenario_digest": resolved.scenario_digest,
            "fleet_digest": prepared.fleet_digest,
            "pairs_digest": relation.digest,
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
            manifest = writing.finish({"prepare_s": prepared_s - started_s, "stages_s": finished_s - prepared_s})
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
    fleet: Any, out: Path, relation: Relation, pairs: str | Path | None, progress: Progress | None, *, resume: bool
) -> Iterator[PreparedFleet]:
    """The prepared fleet to run over: *fleet* itself, or one made beside *out* for the time of the run."""
    if isinstance(fleet, str | Path) and (Path(fleet) / "prepared.json").is_file():
        prepared = open_prepared(fleet)
        if prepared.pairs_digest == relation.digest:
            yield prepared
            return
    # Nothing may be written for unusable input, not even folders.
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if resume:
        for stray in parent.glob(f".{glob.escape(out.name)}.preparing-*"):
            shutil.rmtree(stray)  # of the run that was killed, perhaps while it prepared
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{out.name}.preparing-") as folder:
        yield prepare(fleet, Path(folder) / "prepared", pairs, progress=progress)


@dataclass(frozen=True, slots=True)
class _Computed:
    """A block is computed, not yet written."""

    started: stages.Started
    part_number: int
    sums: Sums


@dataclass(frozen=True, slots=True)
class _Written:
    """The files of a block are whole."""

    started: stages.Started
    part: PreparedPart


class _Batch:
    """Stages a calendar started together: it goes on when all their ends are known."""

    def __init__(self, calendar: stages.Calendar, part_counts: Mapping[stages.Started, int]) -> None:
        self.calendar = calendar
        self.totals = {started: Sums() for started in part_counts}
        self._missing = dict(part_counts)
        self._early: dict[tuple[stages.Started, int], Sums] = {}
        self._next_part = dict.fromkeys(part_counts, 0)

    def add(self, message: _Computed) -> bool:
        """Take in the sums of a block, in the order of parts. Returns whether all blocks are in."""
        started = message.started
        self._early[started, message.part_number] = message.sums
        self._missing[started] -= 1
        while (sums := self._early.pop((started, self._next_part[started]), None)) is not None:
            self.totals[started].add(sums)
            self._next_part[started] += 1
        return not any(self._missing.values())


class _Writing:
    """The writing of one run. The coordinating thread does all but `_block`."""

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
        self.regions = {region.region: region for region in prepared.regions}
        self.keys = [campaign_key(self.scenario.seed, campaign.name) for campaign in self.scenario.campaigns]
        self.sums: dict[stages.Started, Sums] = {}
        self.batches: dict[stages.Started, _Batch] = {}
        self.messages: queue.SimpleQueue[_Computed | _Written | BaseException] = queue.SimpleQueue()
        self.is_cancelled = threading.Event()

    def write_inputs(self, resolved_text: str) -> None:
        """Write what the run starts from; `resolved.toml` is what `--resume` compares."""
        self.folder.open()
        self.folder.write(RESOLVED, resolved_text.encode())
        self.folder.write_all(
            {
                "scenario.toml": (self.scenario.text.encode(), None),
                "pairs.csv": (self.relation.to_csv().encode(), None),
            }
        )
        for region in self.prepared.regions:
            for part in region.parts:
                name = f"fleet/region={region.region}/{part.path.name}"
                self.folder.link(name, part.path, part.vm_count, part.sha256)

    def run_stages(self, threads: int, progress: Progress | None) -> None:
        """Drive every calendar to its end, with blocks on *threads* threads."""
        vms_done, vms_total = 0, sum(self._vm_count(scope) for scope in self.resolved.regions)
        unwritten: dict[stages.Started, int] = {}
        compute = ThreadPoolExecutor(threads, thread_name_prefix="fleetsim-block")
        disk = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="fleetsim-disk")
        room = threading.BoundedSemaphore(threads + DISK_THREADS)  # encoded blocks on their way to the disk

        def start(calendar: stages.Calendar, started: Sequence[stages.Started]) -> None:
            parts_of = {each: self.regions[each.stage.region].parts for each in started}
            batch = _Batch(calendar, {each: len(parts) for each, parts in parts_of.items()})
            for stage_started, parts in parts_of.items():
                self.batches[stage_started] = batch
                unwritten[stage_started] = len(parts)
                for part in parts:
                    compute.submit(self._reported, self._block, stage_started, part, disk, room)

        try:
            for calendar in self._calendars():
                start(calendar, next(calendar))
            while unwritten:
                message = self.messages.get()
                if isinstance(message, BaseException):
                    raise message
                if isinstance(message, _Computed):
                    if (goes_on := self._take(message)) is not None:
                        start(*goes_on)
                    continue
                vms_done += message.part.vm_count
                unwritten[message.started] -= 1
                sentence = ""
                if unwritten[message.started] == 0:
                    del unwritten[message.started]
                    sentence = self._sentence(message.started)
                if progress is not None:
                    progress("run", vms_done, vms_total, sentence)
        finally:
            self.is_cancelled.set()
            compute.shutdown(cancel_futures=True)
            disk.shutdown(cancel_futures=True)

    def finish(self, timings: Mapping[str, float]) -> dict[str, Any]:
        """Write the tables of stages, then the manifest. Returns the manifest."""
        self.sums = dict(sorted(self.sums.items(), key=lambda item: _in_file_order(item[0])))
        campaigns = self.scenario.campaigns
        scope = {region for regions in self.resolved.regions for region in regions}
        tables = {
            "no_guarantee": records.no_guarantee(self.prepared.path / "no_guarantee.parquet", scope, self.provenance),
            "stages": records.stages(self.sums, campaigns, self.scenario.start_ms_epoch, self.provenance),
            "summary": records.summary(self.sums, campaigns, self.provenance),
        }
        self.folder.write_all({f"{name}.parquet": (parquet_bytes(table), len(table)) for name, table in tables.items()})
        impact_count = sum(sums.vm_hit_count for sums in self.sums.values())
        return self.folder.finish(
            {
                "seed": self.scenario.seed,
                "scenario_digest": self.resolved.scenario_digest,
                "fleet_digest": self.prepared.fleet_digest,
                "counts": {
                    "vms": self.prepared.vm_count,
                    "sets": self.prepared.set_count,
                    "singles": self.prepared.single_count,
                    "stages": len(self.sums),
                    "events": impact_count if self.scenario.has_events else 0,
                    "outcomes": impact_count if self.scenario.has_outcomes else 0,
                },
                "invented": list(self.prepared.invented),
                "warnings": [*self.prepared.warnings, *self.resolved.warnings],
            },
            timings,
        )

    def _vm_count(self, regions: Sequence[str]) -> int:
        return sum(self.regions[region].vm_count for region in regions)

    def _calendars(self) -> list[stages.Calendar]:
        """One calendar a pair group that has a stage, those with most VMs first: so threads end together."""
        groups: dict[str, list[stages.Stage]] = {}
        for campaign, scope in zip(self.scenario.campaigns, self.resolved.regions, strict=True):
            vm_counts = {region: self.regions[region].vm_count for region in scope}
            rank = stages.ranks(campaign.pair_order, vm_counts)
            for region in scope:
                stage = stages.Stage(
                    place=campaign.place,
                    iteration=ITERATION,
                    region=region,
                    asked_ms=campaign.start_ms,
                    pair_lag_ms=campaign.pair_lag_ms,
                    rank=rank[region],
                )
                groups.setdefault(self.relation.pair_group(region), []).append(stage)
        neighbours = {region: self.relation.neighbours(region) for region in self.regions}
        largest_first = sorted(
            groups.items(), key=lambda group: (-self._vm_count([stage.region for stage in group[1]]), group[0])
        )
        return [stages.calendar(group, neighbours) for _, group in largest_first]

    def _take(self, message: _Computed) -> tuple[stages.Calendar, list[stages.Started]] | None:
        """Note the sums of a block. Returns a calendar and what it starts next, where it can go on."""
        batch = self.batches[message.started]
        if not batch.add(message):
            return None
        self.sums.update(batch.totals)
        for started in batch.totals:
            del self.batches[started]
        try:
            return batch.calendar, batch.calendar.send({each.stage: sums.end_ms for each, sums in batch.totals.items()})
        except StopIteration:
            return None

    def _reported(self, task: Callable[..., None], *arguments: Any) -> None:
        """Run *task* on a thread; what it raises reaches the coordinating thread as a message."""
        try:
            task(*arguments)
        except BaseException as error:  # whatever it is, or the coordinating thread would wait for ever
            self.messages.put(error)

    def _block(
        self,
        started: stages.Started,
        part: PreparedPart,
        disk: ThreadPoolExecutor,
        room: threading.BoundedSemaphore,
    ) -> None:
        """Compute one block, report its sums, encode its parts and hand them to the *disk*."""
        if self.is_cancelled.is_set():
            return
        stage = started.stage
        campaign = self.scenario.campaigns[stage.place]
        impacts = advance(
            load_block(part),
            campaign,
            key=self.keys[stage.place],
            start_ms=started.start_ms,
            vm_row_start=part.vm_row_start,
            origin_ms=self.scenario.start_ms_epoch,
            iteration=stage.iteration,
        )
        self.messages.put(_Computed(started, part.number, impacts.sums))
        name = f"region={stage.region}/part-c{stage.place:03}-i{stage.iteration:03}-{part.number:05}.parquet"
        vm_row = records.vm_rows(part.vm_row_start, part.vm_count)
        about = (impacts, campaign, stage.iteration, vm_row, self.provenance)
        while not room.acquire(timeout=1):
            if self.is_cancelled.is_set():
                return
        encoded = {}
        if self.scenario.has_outcomes and not self.folder.keep(f"outcomes/{name}", part.vm_count):
            encoded[f"outcomes/{name}"] = parquet_bytes(records.outcomes(*about))
        if self.scenario.has_events and not self.folder.keep(f"events/{name}", part.vm_count):
            encoded[f"events/{name}"] = parquet_bytes(records.events(*about))
        disk.submit(self._reported, self._write, started, part, encoded, room)

    def _write(
        self,
        started: stages.Started,
        part: PreparedPart,
        encoded: dict[str, Any],
        room: threading.BoundedSemaphore,
    ) -> None:
        for name in list(encoded):
            self.folder.write(name, encoded.pop(name), part.vm_count)
        room.release()
        self.messages.put(_Written(started, part))

    def _sentence(self, started: stages.Started) -> str:
        campaign = self.scenario.campaigns[started.stage.place]
        vm_count = self.regions[started.stage.region].vm_count
        return f"{campaign.name} in {started.stage.region}: {vm_count:,} VMs written"


def _in_file_order(started: stages.Started) -> tuple[int, int, str]:
    return started.stage.place, started.stage.iteration, started.stage.region
