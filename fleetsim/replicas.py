"""Replicas of a run: the same scenario under other draws, of which figures alone are kept.

Replica 0 is the run itself; each other addresses its draws by its number (semantics.md 1), so one is what it is
whichever others are drawn. Whole replicas run on a thread each: none waits for the stages of another. On a cluster a
task is some of them, whose files its worker writes.
"""

import math
import os
import shutil
import statistics
import tomllib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from fleetsim import records
from fleetsim.blocks import Scope, Vms, load
from fleetsim.cluster import Cluster
from fleetsim.driving import Drive, Parts, Task
from fleetsim.engine import Impacts
from fleetsim.errors import InputError, nearest
from fleetsim.figures import FIGURES, PAUSE_BOUNDS_MS, RunFiles, not_drawn, replica_path
from fleetsim.figures.declared import PERCENTILES
from fleetsim.figures.pauses import pause_key
from fleetsim.figures.runs import edges, tolerance_by
from fleetsim.fleet.prepared import PreparedFleet
from fleetsim.kernels import impact
from fleetsim.kinds import KINDS
from fleetsim.progress import Progress
from fleetsim.regions import Relation
from fleetsim.reporting import figures_of_sums
from fleetsim.runfolder import Part, RunFolder
from fleetsim.scenario import Resolved
from fleetsim.schema import NEVER_MS, REPLICAS, STAGES, SUMMARY
from fleetsim.stages import Stage, Verdict
from fleetsim.storage import Place, children, readable
from fleetsim.tables import arrow_schema, parquet_bytes, provenance_of

AT_ONCE = 32
"""Replicas whose figures are computed together: one query costs as much for one as for some dozens."""
KEPT_VMS_MAX = 20_000_000
"""VMs in scope, over all campaigns, that stay in memory from replica to replica; of larger fleets none do."""
REPLICAS_MAX = 100_000
"""Of which file names have five digits."""
LEAST_COUNT = 10
"""Replicas before a stop rule is asked: an interval of fewer tells nothing."""
_CONFIDENCE_Z = statistics.NormalDist().inv_cdf(0.975)
_TYPES: dict[str, Any] = {
    "text": pl.String,
    "code": pl.String,
    "u8": pl.UInt8,
    "u16": pl.UInt16,
    "u32": pl.UInt32,
    "i64": pl.Int64,
    "f64": pl.Float64,
    "instant": pl.Int64,
}
_MARK = "\x1f"
"""Between a replica and a campaign, where several replicas are queried as one run."""


@dataclass(frozen=True, slots=True)
class Until:
    """A stop rule: replicas are enough when the mean of *figure* is known within *ratio*, with 95 % confidence."""

    figure: str
    ratio: float

    @staticmethod
    def parse(text: str) -> "Until":
        """From `FIGURE RATIO%`, as `length_ms 1%`; raise `InputError` for anything else."""
        figure, _, ratio = text.strip().partition(" ")
        known = [name for name, each in FIGURES.items() if "campaign" in each.grains]
        if figure not in known:
            raise InputError(f"until: must name a figure of campaigns, got '{figure}'{nearest(figure, known)}")
        try:
            value = float(ratio.strip().removesuffix("%")) / 100
        except ValueError:
            value = math.nan
        if not (ratio.strip().endswith("%") and 0 < value < 1):
            raise InputError(f"until: must be FIGURE RATIO%, as 'length_ms 1%', got '{text}'")
        rule = Until(figure, value)
        rule.check(())
        return rule

    def check(self, columns: Container[str]) -> None:
        """Raise `InputError` where replicas over a fleet with *columns* do not keep its figure."""
        if self.figure in not_drawn(columns):
            told = f"got '{self.figure}': only events tell it"
            raise InputError(f"until: must name a figure that is kept of replicas, {told}")

    def is_met(self, values: Mapping[str, Sequence[float]]) -> bool:
        """Whether *values*, by campaign, are enough of them: of every campaign that has any."""
        return all(_half_width(of_one) <= self.ratio * abs(statistics.fmean(of_one)) for of_one in values.values())


def _half_width(values: Sequence[float]) -> float:
    """Half of the 95 % confidence interval of the mean of *values*, by Student's t."""
    degrees = len(values) - 1
    z = _CONFIDENCE_Z
    # The quantile of t by that of the normal distribution: Abramowitz and Stegun 26.7.5, within 0.0005 from 9 on.
    t = (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )
    return t * statistics.stdev(values) / math.sqrt(len(values))


def check_draws(replicas: int | None, until: str | None, replica: int = 0) -> Until | None:
    """The stop rule in *until*; raise `InputError` unless so many *replicas*, or that *replica*, can be drawn."""
    if replicas is not None and not 1 <= replicas <= REPLICAS_MAX:
        raise InputError(f"replicas: must be from 1 to {REPLICAS_MAX:,}, got {replicas}")
    if not 0 <= replica < REPLICAS_MAX:
        raise InputError(f"replica: must be from 0 to {REPLICAS_MAX - 1:,}, got {replica}")
    if replica and replicas is not None:
        raise InputError(f"replica: one that is run alone has no replicas, got {replica} of {replicas}")
    rule = None if until is None else Until.parse(until)
    if rule is not None and (replicas or 1) < LEAST_COUNT:
        most = f"the most there will be, of at least {LEAST_COUNT}"
        raise InputError(f"until: needs replicas, {most}, got {replicas or 1}")
    return rule


def draw(
    folder: RunFolder,
    prepared: PreparedFleet,
    resolved: Resolved,
    relation: Relation,
    count: int,
    threads: int,
    until: Until | None = None,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
) -> int:
    """Write the figures of replicas 0 to *count* - 1, a file each, beside the tables of the run in *folder*.

    Returns how many there are: fewer than *count* where *until* is met before, whatever the number of *threads*, and on
    whatever *cluster*.
    """
    drawing = _Drawing(folder, prepared, resolved, relation)
    drawn_count = (
        _on_threads(drawing, count, threads, until, progress)
        if cluster is None
        else _on_workers(drawing, count, cluster, until, progress)
    )
    drawing.drop(drawn_count)
    return drawn_count


def _on_threads(drawing: "_Drawing", count: int, threads: int, until: Until | None, progress: Progress | None) -> int:
    """Draw on *threads* threads, and compute and write the figures of many at once. Returns how many are enough."""
    batches = [range(first, min(first + AT_ONCE, count)) for first in range(0, count, AT_ONCE)]
    values: dict[str, list[float]] = {}
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fleetsim-replica")

    def submit(replicas: Iterable[int]) -> dict[int, Future["_Drawn"]]:
        lacking = [replica for replica in replicas if not drawing.is_there(replica)]
        return {replica: pool.submit(drawing.summed_up, replica) for replica in lacking}

    try:
        ahead = submit(batches[0])
        for batch, after in zip(batches, [*batches[1:], ()], strict=True):
            drawn, ahead = ahead, submit(after)  # so that no thread waits for the figures
            frames = drawing.figures_of({replica: rows.result() for replica, rows in drawn.items()})
            frames |= {replica: drawing.read(replica) for replica in batch if replica not in frames}
            enough = next((each for each in batch if _is_enough(until, frames[each], values)), None)
            drawing.write({replica: frames[replica] for replica in drawn if enough is None or replica <= enough})
            done_count = batch[-1] + 1 if enough is None else enough + 1
            is_over = enough is not None or done_count == count
            _tell(progress, drawing.vm_count, done_count, done_count if is_over else count)
            if is_over:
                return done_count
    finally:
        pool.shutdown(cancel_futures=True)
    return count


def _on_workers(
    drawing: "_Drawing", count: int, cluster: Cluster, until: Until | None, progress: Progress | None
) -> int:
    """Draw on the workers of *cluster*, which write the figures. Returns how many are enough."""
    size = max(1, min(AT_ONCE, count // (4 * cluster.cpu_count)))
    chunks = [range(first, min(first + size, count)) for first in range(0, count, size)]
    values: dict[str, list[float]] = {}
    answers: list[Future[list[Part]]] = []
    there = {replica for replica in range(count) if drawing.is_there(replica)}
    with cluster.workers(_Drawing.on_worker, *drawing.about) as submit:
        for place, chunk in enumerate(chunks):
            # Where it is not known how many are enough, no more than a few are drawn in vain.
            ahead = len(chunks) if until is None else place + 1 + 2 * cluster.cpu_count
            for later in chunks[len(answers) : ahead]:
                answers.append(submit([replica for replica in later if replica not in there]))
            drawing.folder.parts.update({part.path: part for part in answers[place].result()})
            for replica in chunk:
                # Those of an interrupted run are read to become part of this one, the others for the rule alone.
                if (until is not None or replica in there) and _is_enough(until, drawing.read(replica), values):
                    _tell(progress, drawing.vm_count, replica + 1, replica + 1)
                    return replica + 1
            _tell(progress, drawing.vm_count, chunk[-1] + 1, count)
    return count


def _tell(progress: Progress | None, vm_count: int, done_count: int, count: int) -> None:
    if progress is not None:
        said = f"{done_count:,} draws written" if done_count == count else ""
        progress("replicas", vm_count * done_count, vm_count * count, said)


def _is_enough(until: Until | None, frame: pl.DataFrame, values: dict[str, list[float]]) -> bool:
    """Take the figures of one more replica into *values*, by campaign. Returns whether there are enough of them."""
    if until is None:
        return False
    own = frame.filter(pl.col("grain") == "campaign", pl.col("figure") == until.figure).drop_nulls("value")
    for key, value in own.select("key", "value").iter_rows():
        values.setdefault(key, []).append(value)
    return bool(values) and all(len(of_one) >= LEAST_COUNT for of_one in values.values()) and until.is_met(values)


class _Drawing:
    """The replicas of one run. `summed_up` may be called from any thread."""

    def __init__(
        self, folder: RunFolder, prepared: PreparedFleet, resolved: Resolved, relation: Relation, processes: int = 1
    ) -> None:
        self.folder = folder
        self.prepared = prepared
        self.resolved = resolved
        self.relation = relation
        self.resolved_toml = tomllib.loads(resolved.to_toml({}))
        self.tolerance = tolerance_by(self.resolved_toml, prepared.columns)
        self._tolerances: dict[tuple[Place, ...], npt.NDArray[np.int64]] = {}
        provenance = provenance_of(
            scenario_digest=resolved.scenario_digest,
            fleet_digest=prepared.fleet_digest,
            seed=resolved.scenario.seed,
        )
        self.schema = arrow_schema(REPLICAS, provenance)
        in_scope = sum(sum(counts.values()) for counts in resolved.vm_counts)
        self.reading = _Kept() if in_scope * processes <= KEPT_VMS_MAX else load

    @classmethod
    def on_worker(
        cls, path: Place, prepared: PreparedFleet, resolved: Resolved, relation: Relation
    ) -> Callable[[Sequence[int]], list[Part]]:
        """What a process of a cluster does: it draws, and writes the figures."""
        # As many as this one keep a fleet in the memory of its machine.
        return cls(RunFolder(path), prepared, resolved, relation, os.cpu_count() or 1)._drawn_and_written

    @property
    def about(self) -> tuple[Place, PreparedFleet, Resolved, Relation]:
        """What `on_worker` is to be told."""
        return self.folder.path, self.prepared, self.resolved, self.relation

    @property
    def vm_count(self) -> int:
        return self.prepared.vm_count

    def _drawn_and_written(self, replicas: Sequence[int]) -> list[Part]:
        self.write(self.figures_of({replica: self.summed_up(replica) for replica in replicas}))
        return [self.folder.parts.pop(replica_path(replica)) for replica in replicas]

    def drop(self, first: int) -> None:
        """Remove replicas from *first* on: of a worker that was ahead, now or before the run was interrupted."""
        for path in children(self.folder.path / "replicas"):
            if int(path.name.partition("=")[2]) >= first:
                if isinstance(path, Path):
                    shutil.rmtree(path)
                else:
                    path.remove()
        for name in [
            name for name in self.folder.parts if name.startswith("replicas/") and name >= replica_path(first)
        ]:
            del self.folder.parts[name]

    def tolerance_of(self, parts: Parts) -> npt.NDArray[np.int64] | None:
        """How long a pause each VM of *parts* stands, in ms, int64[V]; None where nothing says so of any."""
        if self.tolerance is None:
            return None
        key = tuple(part.path for part in parts)
        if key not in self._tolerances:
            _, tolerance_ms = self.tolerance
            files = [pl.scan_parquet(readable(path), hive_partitioning=False, glob=False) for path in key]
            rows = pl.concat(file.select(tolerance_ms.fill_null(NEVER_MS).alias("ms")) for file in files)
            self._tolerances[key] = rows.collect()["ms"].to_numpy()
        return self._tolerances[key]

    def is_there(self, replica: int) -> bool:
        return self.folder.has(replica_path(replica))

    def read(self, replica: int) -> pl.DataFrame:
        """The figures of a replica that an interrupted run has written."""
        name = replica_path(replica)
        frame = pl.read_parquet(readable(self.folder.path / name), hive_partitioning=False)
        self.folder.keep(name, len(frame))
        return frame

    def write(self, frames: Mapping[int, pl.DataFrame]) -> None:
        self.folder.write_all(
            {
                replica_path(replica): (parquet_bytes(frame.to_arrow().cast(self.schema), "fast"), len(frame))
                for replica, frame in frames.items()
            }
        )

    def summed_up(self, replica: int) -> "_Drawn":
        """Run a replica from its first stage to its last."""
        drive = Drive(self.prepared, self.resolved, self.relation, replica, self.reading)
        lengths, tasks = _Lengths(drive, self.tolerance_of), list(drive.start())
        while tasks:
            task = tasks.pop()
            impacts = drive.compute(task)
            lengths.add(task, impacts)
            tasks += drive.take(task, impacts.sums, impacts.known)
        sums = dict(sorted(drive.sums.items(), key=lambda item: item[0].stage.key()))
        scenario = self.resolved.scenario
        rows = {
            "stages": records.stage_rows(sums, scenario.campaigns, scenario.start_ms_epoch),
            "summary": records.summary_rows(sums, scenario.campaigns),
        }
        return _Drawn(rows, lengths.figures())

    def figures_of(self, drawn: Mapping[int, "_Drawn"]) -> dict[int, pl.DataFrame]:
        """The figures of the replicas *drawn*, each by its number."""
        if not drawn:
            return {}
        files = _Replicas.of(self, drawn)
        told = [(number, *row) for number, each in drawn.items() for row in each.lengths]
        types = {"replica": pl.Int64, "grain": pl.String, "key": pl.String, "figure": pl.String, "exact": pl.Float64}
        exact = pl.DataFrame(told, types, orient="row")
        marked = pl.col("key").str.split_exact(_MARK, 1).struct
        keys = ["replica", "grain", "key", "figure"]
        summed = figures_of_sums(files).with_columns(
            replica=marked.field("field_0").cast(pl.Int64), key=marked.field("field_1")
        )
        units = pl.col("figure").replace_strict({name: each.unit for name, each in FIGURES.items()})
        of_one = pl.concat(
            [
                summed.join(exact, on=keys, how="left", maintain_order="left")
                .with_columns(value=pl.coalesce("exact", "value"))
                .drop("exact"),
                exact.join(summed, on=keys, how="anti", maintain_order="left")
                .with_columns(unit=units)
                .select(*(name if name != "value" else pl.col("exact").alias("value") for name in summed.columns)),
            ]
        )
        return {
            int(number): frame.drop("replica")
            for (number,), frame in of_one.partition_by("replica", as_dict=True, maintain_order=True).items()
        }


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A replica: rows of its `stages` and of its `summary`, and figures of lengths: grain, key, figure and value."""

    rows: Mapping[str, list[tuple[Any, ...]]]
    lengths: list[tuple[str, str, str, float]]


class _Lengths:
    """How long VMs are out in one replica, counted one by one: bins of `summary` are too wide for percentiles.

    Exact to the ms where none longer than 65 s can be drawn, else 1/32,768 of the longest too low at most.
    """

    def __init__(self, drive: Drive, tolerance_of: Callable[[Parts], npt.NDArray[np.int64] | None]) -> None:
        self.campaigns = drive.scenario.campaigns
        self._tolerance_of = tolerance_of
        self._over_counts: dict[Stage, int] = {}
        self._shifts = [_shifts(scope) for scope in drive.scopes]
        self._counts: dict[tuple[Stage, bool], npt.NDArray[np.int64]] = {}  # by stage, and whether down or paused
        self._longest_ms: dict[tuple[Stage, bool], int] = {}

    def add(self, task: Task, impacts: Impacts) -> None:
        """Count what a block of a stage does, unless it is only tried."""
        decided = task.decided
        if decided.verdict is Verdict.TRIAL:
            return
        is_paused = KINDS[self.campaigns[decided.stage.place].kind.name.lower()].is_paused
        lengths = {not is_paused: impacts.duration_ms}
        if impacts.is_rebooted is not None:
            lengths = {False: impacts.duration_ms[~impacts.is_rebooted], True: impacts.duration_ms[impacts.is_rebooted]}
        if (tolerance_ms := self._tolerance_of(task.parts)) is not None:
            of_hit = tolerance_ms if impacts.rows is None else tolerance_ms[impacts.rows]
            is_over = (impacts.duration_ms > of_hit) & is_paused
            if impacts.is_rebooted is not None:
                is_over &= ~impacts.is_rebooted
            self._over_counts[decided.stage] = self._over_counts.get(decided.stage, 0) + int(np.count_nonzero(is_over))
        if impacts.requests is not None:
            lengths[True] = np.concatenate([lengths[True], impacts.requests.of(impacts.requests.is_move).duration_ms])
        for is_down, duration_ms in lengths.items():
            if not len(duration_ms):
                continue
            key = decided.stage, is_down
            shift, longest_ms = self._shifts[decided.stage.place][is_down], int(duration_ms.max())
            counts = np.zeros(min(longest_ms >> shift, _LAST_BIN) + 1, np.int64)
            impact.count_lengths(duration_ms, np.uint32(shift), counts)
            self._counts[key] = _added(self._counts[key], counts) if key in self._counts else counts
            self._longest_ms[key] = max(self._longest_ms.get(key, 0), longest_ms)

    def figures(self) -> list[tuple[str, str, str, float]]:
        """Percentiles, maxima and counts: of stages, and of campaigns where a VM is out in one iteration alone."""
        found = []
        wholes: dict[tuple[int, bool], list[tuple[npt.NDArray[np.int64], int]]] = {}
        for (stage, is_down), counts in self._counts.items():
            campaign, longest_ms = self.campaigns[stage.place], self._longest_ms[stage, is_down]
            key = f"{campaign.name}/{stage.iteration}/{stage.region}"
            found += self._of("stage", key, stage.place, is_down, counts, longest_ms)
            if campaign.tries is None or campaign.windows is None or campaign.windows.iterations_max == 1:
                wholes.setdefault((stage.place, is_down), []).append((counts, longest_ms))
        over: dict[int, int] = {}
        for stage, count in self._over_counts.items():
            name = self.campaigns[stage.place].name
            found.append(("stage", f"{name}/{stage.iteration}/{stage.region}", "over_tolerance_count", count))
            over[stage.place] = over.get(stage.place, 0) + count
        found += [
            ("campaign", self.campaigns[place].name, "over_tolerance_count", count) for place, count in over.items()
        ]
        summed = {key: reduce(_added, [counts for counts, _ in parts]) for key, parts in wholes.items()}
        for (place, is_down), parts in wholes.items():
            name, counts = self.campaigns[place].name, summed[place, is_down]
            found += self._of("campaign", name, place, is_down, counts, max(each_ms for _, each_ms in parts))
            if is_down or self._shifts[place][is_down]:
                continue
            hit_count = int(counts.sum() + np.sum(summed.get((place, True), 0)))
            for bound_ms in PAUSE_BOUNDS_MS:
                ratio = int(counts[bound_ms + 1 :].sum()) / hit_count
                found.append(("pause", f"{name}/{pause_key(bound_ms)}", "paused_over_ratio", ratio))
        return found

    def _of(
        self, grain: str, key: str, place: int, is_down: bool, counts: npt.NDArray[np.int64], longest_ms: int
    ) -> list[tuple[str, str, str, float]]:
        word, reached = "down" if is_down else "paused", np.cumsum(counts)
        found = [(grain, key, f"{word}_ms_max", float(longest_ms))]
        for percent in PERCENTILES:
            at = int(np.searchsorted(reached, (int(reached[-1]) * percent + 99) // 100))
            if at < _LAST_BIN:
                found.append((grain, key, f"{word}_ms_p{percent}", float(at << self._shifts[place][is_down])))
        return found


def _added(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The sum of two counts by bin, of which one may have more bins."""
    short, total = (one, other.copy()) if len(one) < len(other) else (other, one.copy())
    total[: len(short)] += short
    return total


def _shifts(scope: Scope) -> tuple[int, int]:
    """By how many bits lengths are rounded down, of VMs paused and of VMs down."""
    longest_ms = scope.quantiles_ms.max(axis=1)  # the last are those that a freeze reboots, if it does
    paused_ms = longest_ms[:-1] if scope.campaign.reboot_length is not None else longest_ms
    paused, down = (max(0, int(each_ms.max()).bit_length() - 16) for each_ms in (paused_ms, longest_ms))
    return paused, down


_LAST_BIN = 1 << 17
"""Of those by which `_Lengths` counts: only tries in vain add up to more."""


class _Kept:
    """`blocks.load`, each thing once: what is read of a fleet is the same for every replica."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, tuple[Place, ...]], Vms] = {}

    def __call__(self, parts: Parts, scope: Scope, start_ms_epoch: int) -> Vms:
        key = scope.campaign.place, tuple(part.path for part in parts)
        if (vms := self._kept.get(key)) is None:
            vms = self._kept[key] = load(parts, scope, start_ms_epoch)
        return vms


@dataclass(frozen=True)
class _Replicas(RunFiles):
    """Some replicas of a run as if they were its campaigns, known by their sums alone."""

    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    replicas: tuple[int, ...] = ()
    pairs: str = ""
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, drawing: "_Drawing", drawn: Mapping[int, "_Drawn"]) -> "_Replicas":
        tables = {}
        for table in (STAGES, SUMMARY):
            rows = [(replica, *row) for replica, each in drawn.items() for row in each.rows[table.name]]
            types = {"replica": pl.Int64} | {column.name: _TYPES[column.dtype] for column in table.columns}
            campaign = pl.concat_str(pl.col("replica").cast(pl.String), pl.lit(_MARK), "campaign")
            tables[table.name] = pl.DataFrame(rows, types, orient="row").with_columns(campaign=campaign).drop("replica")
        nobody = pl.DataFrame(schema={"region": pl.String, "set": pl.String, "reason": pl.String})
        tables["no_guarantee"] = nobody
        return cls(
            Path(),
            {},
            drawing.resolved_toml,
            tables=tables,
            replicas=tuple(drawn),
            pairs=drawing.relation.to_csv(),
            columns=tuple(drawing.prepared.columns),
        )

    @cached_property
    def campaigns(self) -> list[dict[str, Any]]:
        own = self.resolved.get("campaign", [])
        return [each | {"name": f"{replica}{_MARK}{each['name']}"} for replica in self.replicas for each in own]

    @cached_property
    def edges(self) -> set[frozenset[str]]:
        return edges(self.pairs.encode())

    @cached_property
    def fleet_schema(self) -> pl.Schema:
        return pl.Schema(dict.fromkeys(self.columns, pl.Null))  # which there are is all that is asked here

    def has(self, table: str) -> bool:
        return False

    def scan(self, table: str) -> pl.LazyFrame:
        return self.tables[table].lazy()

    def parts(self, table: str) -> list[Any]:
        return []
