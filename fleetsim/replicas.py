"""Replicas of a run: the same scenario under other draws, of which figures alone are kept.

Replica 0 is the run itself; each other addresses its draws by its number (semantics.md 1), so one is what it is
whichever others are drawn. Whole replicas run on a thread each: none waits for the stages of another.
"""

import math
import statistics
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from fleetsim import records
from fleetsim.blocks import Scope, Vms, load
from fleetsim.driving import Drive, Parts
from fleetsim.engine import Sums
from fleetsim.errors import InputError, nearest
from fleetsim.figures import FIGURES, RunFiles
from fleetsim.fleet.prepared import PreparedFleet
from fleetsim.progress import Progress
from fleetsim.regions import Relation
from fleetsim.reporting import figures_of_sums
from fleetsim.runfolder import RunFolder
from fleetsim.scenario import Resolved
from fleetsim.schema import REPLICAS, STAGES, SUMMARY
from fleetsim.stages import Decided
from fleetsim.tables import arrow_schema, parquet_bytes, provenance_of

AT_ONCE = 32
"""Replicas whose figures are computed together: one query costs as much for one as for some dozens."""
KEPT_VMS_MAX = 20_000_000
"""VMs in scope, over all campaigns, that stay in memory from replica to replica; of larger fleets none do."""
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


_Rows = Mapping[str, list[tuple[Any, ...]]]
"""Rows of the tables of one replica."""


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
        return Until(figure, value)

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


def draw(
    folder: RunFolder,
    prepared: PreparedFleet,
    resolved: Resolved,
    relation: Relation,
    count: int,
    threads: int,
    until: Until | None = None,
    progress: Progress | None = None,
) -> int:
    """Write the figures of replicas 0 to *count* - 1, a file each, beside the tables of the run in *folder*.

    Returns how many there are: fewer than *count* where *until* is met before, whatever the number of *threads*.
    """
    drawing = _Drawing(folder, prepared, resolved, relation)
    batches = [range(first, min(first + AT_ONCE, count)) for first in range(0, count, AT_ONCE)]
    values: dict[str, list[float]] = {}
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fleetsim-replica")

    def submit(replicas: Iterable[int]) -> dict[int, Future[_Rows]]:
        lacking = [replica for replica in replicas if not drawing.is_there(replica)]
        return {replica: pool.submit(drawing.summed_up, replica) for replica in lacking}

    try:
        ahead = submit(batches[0])
        for batch, after in zip(batches, [*batches[1:], ()], strict=True):
            drawn, ahead = ahead, submit(after)  # so that no thread waits for the figures
            frames = drawing.figures_of({replica: rows.result() for replica, rows in drawn.items()})
            frames |= {replica: drawing.read(replica) for replica in batch if replica not in frames}
            enough = next((each for each in batch if until and _is_enough(until, frames[each], values)), None)
            drawing.write({replica: frames[replica] for replica in drawn if enough is None or replica <= enough})
            if enough is not None:
                return enough + 1
            if progress is not None:
                progress("replicas", prepared.vm_count * (batch[-1] + 1), prepared.vm_count * count)
    finally:
        pool.shutdown(cancel_futures=True)
    return count


def _is_enough(until: Until, frame: pl.DataFrame, values: dict[str, list[float]]) -> bool:
    """Take the figures of one more replica into *values*, by campaign. Returns whether there are enough of them."""
    own = frame.filter(pl.col("grain") == "campaign", pl.col("figure") == until.figure).drop_nulls("value")
    for key, value in own.select("key", "value").iter_rows():
        values.setdefault(key, []).append(value)
    return bool(values) and all(len(of_one) >= LEAST_COUNT for of_one in values.values()) and until.is_met(values)


class _Drawing:
    """The replicas of one run. `summed_up` may be called from any thread."""

    def __init__(self, folder: RunFolder, prepared: PreparedFleet, resolved: Resolved, relation: Relation) -> None:
        self.folder = folder
        self.prepared = prepared
        self.resolved = resolved
        self.relation = relation
        self.resolved_toml = tomllib.loads(resolved.to_toml({}))
        provenance = provenance_of(
            scenario_digest=resolved.scenario_digest,
            fleet_digest=prepared.fleet_digest,
            seed=resolved.scenario.seed,
        )
        self.schema = arrow_schema(REPLICAS, provenance)
        in_scope = sum(sum(counts.values()) for counts in resolved.vm_counts)
        self.reading = _Kept() if in_scope <= KEPT_VMS_MAX else load

    def is_there(self, replica: int) -> bool:
        return (self.folder.path / _name(replica)).exists()

    def read(self, replica: int) -> pl.DataFrame:
        """The figures of a replica that an interrupted run has written."""
        name = _name(replica)
        frame = pl.read_parquet(self.folder.path / name, hive_partitioning=False)
        self.folder.keep(name, len(frame))
        return frame

    def write(self, frames: Mapping[int, pl.DataFrame]) -> None:
        self.folder.write_all(
            {
                _name(replica): (parquet_bytes(frame.to_arrow().cast(self.schema), "fast"), len(frame))
                for replica, frame in frames.items()
            }
        )

    def summed_up(self, replica: int) -> dict[str, list[tuple[Any, ...]]]:
        """Run a replica from its first stage to its last: rows of its `stages` and of its `summary`."""
        drive = Drive(self.prepared, self.resolved, self.relation, replica, self.reading)
        sums, scenario = _driven(drive), self.resolved.scenario
        return {
            "stages": records.stage_rows(sums, scenario.campaigns, scenario.start_ms_epoch),
            "summary": list(records.summary_rows(sums, scenario.campaigns)),
        }

    def figures_of(self, drawn: Mapping[int, _Rows]) -> dict[int, pl.DataFrame]:
        """The figures of the replicas *drawn*, each by its number."""
        if not drawn:
            return {}
        files = _Replicas.of(self.folder.path, self.resolved_toml, drawn)
        found = figures_of_sums(files)
        replica = pl.col("key").str.split(_MARK).list.first().cast(pl.Int64)
        of_one = found.with_columns(replica=replica, key=pl.col("key").str.split(_MARK).list.last())
        return {
            int(number): frame.drop("replica")
            for (number,), frame in of_one.partition_by("replica", as_dict=True, maintain_order=True).items()
        }


def _driven(drive: Drive) -> dict[Decided, Sums]:
    """The sums of all stages, in file order."""
    tasks = list(drive.start())
    while tasks:
        task = tasks.pop()
        impacts = drive.compute(task)
        tasks += drive.take(task, impacts.sums, impacts.known)
    return dict(sorted(drive.sums.items(), key=lambda item: item[0].stage.key()))


class _Kept:
    """`blocks.load`, each thing once: what is read of a fleet is the same for every replica."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, tuple[Path, ...]], Vms] = {}

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

    @classmethod
    def of(cls, path: Path, resolved: dict[str, Any], drawn: Mapping[int, _Rows]) -> "_Replicas":
        tables = {}
        for table in (STAGES, SUMMARY):
            rows = [(replica, *row) for replica, tables_of in drawn.items() for row in tables_of[table.name]]
            types = {"replica": pl.Int64} | {column.name: _TYPES[column.dtype] for column in table.columns}
            campaign = pl.concat_str(pl.col("replica").cast(pl.String), pl.lit(_MARK), "campaign")
            tables[table.name] = pl.DataFrame(rows, types, orient="row").with_columns(campaign=campaign).drop("replica")
        nobody = pl.DataFrame(schema={"region": pl.String, "set": pl.String, "reason": pl.String})
        return cls(path, {}, resolved, tables=tables | {"no_guarantee": nobody}, replicas=tuple(drawn))

    @cached_property
    def campaigns(self) -> list[dict[str, Any]]:
        own = self.resolved.get("campaign", [])
        return [each | {"name": f"{replica}{_MARK}{each['name']}"} for replica in self.replicas for each in own]

    def has(self, table: str) -> bool:
        return False

    def scan(self, table: str) -> pl.LazyFrame:
        return self.tables[table].lazy()

    def parts(self, table: str) -> list[Any]:
        return []


def _name(replica: int) -> str:
    return f"replicas/replica={replica:05}/part-00000.parquet"
