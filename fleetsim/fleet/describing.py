"""What a fleet is like: counts, shares and distributions, beside what a generated fleet was asked to be.

One pass over any fleet. Memory is bounded: rows are counted batch by batch, and groups (sets, applications,
subscriptions, clusters) that do not fit are parted by key into scratch files. Whether the fleet can be used is not
judged here beyond its fields; `check` does that.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fleetsim.fleet.facts import render_facts
from fleetsim.fleet.generating import ASKED_KEY
from fleetsim.fleet.order import keys_of
from fleetsim.fleet.prepared import relation_over
from fleetsim.fleet.read import SET_KINDS, Findings, open_fleet
from fleetsim.progress import Progress
from fleetsim.sizes import family_of, preserves_memory

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

ROWS_SHOWN = 10
"""Rows of a table on a terminal, largest first; JSON has them all."""
DEPLOYMENT_STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500)
"""Where the bins of the sizes of deployments begin."""

_HELD_ROWS = 1 << 20  # partial groups in memory, at most
_PARTITIONS = 64
_DAY_MS = 86_400_000
_SPARK_WIDTH = 60
_TOPIC_LENGTH = 20
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_Number = TypeVar("_Number", int, float)
_DOMAINS = ("update_domain", "fault_domain")
_WORDS = ("region", "zone", "size", "workload")


@dataclass(frozen=True, slots=True)
class Distribution:
    """How large *count* groups are, by nearest rank."""

    count: int
    mean: float
    p50: int
    p90: int
    p99: int
    max: int

    @classmethod
    def of(cls, sizes: Mapping[int, int]) -> "Distribution | None":
        """Of groups counted by size; None where there are none."""
        if not sizes:
            return None
        values = sorted(sizes)
        reached = np.cumsum([sizes[value] for value in values])
        count = int(reached[-1])
        ranks = {percent: -(-percent * count // 100) for percent in (50, 90, 99)}
        quantiles = {percent: values[int(np.searchsorted(reached, rank))] for percent, rank in ranks.items()}
        total = sum(value * each for value, each in sizes.items())
        return cls(count, total / count, quantiles[50], quantiles[90], quantiles[99], values[-1])


@dataclass(frozen=True)
class Shares:
    """Counts by name, of *total*; *asked*: the ratios a generated fleet was to have."""

    counts: Mapping[str, int]
    total: int
    asked: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        names = dict.fromkeys((*self.counts, *self.asked))
        return {
            name: {
                "count": self.counts.get(name, 0),
                "ratio": self.counts.get(name, 0) / self.total if self.total else 0.0,
                **({"asked_ratio": self.asked.get(name, 0.0)} if self.asked else {}),
            }
            for name in names
        }


@dataclass(frozen=True)
class Description:
    """What a fleet is like. Shares are of all VMs, but those of `deployments` of sets and singles.

    A deployment is a set, or a single. `asked` is what the metadata of a generated fleet says. A distribution is
    None, and a count of lifetimes, where the fleet lacks the column.
    """

    fleet: str
    vm_count: int
    vcpus: float | None
    memory_gib: float | None
    single_count: int
    cannot_freeze_count: int | None
    shares: Mapping[str, Shares]
    """By `regions`, `kinds` (none: a single), `sizes`, `families`, `workloads`, `zones`, `deployments` (bins of VMs),
    `update_domains` and `fault_domains` (sets by populated domains)."""
    groups: Mapping[str, Distribution | None]
    """VMs of each of `sets`, those by kind, `applications`, `subscriptions`, `clusters`; `application_sets`: sets of
    each application that has any."""
    one_vm_set_count: int
    regions_of_applications: Mapping[int, int]
    """Applications by the number of regions they are in."""
    present_count: int | None
    """VMs without `created`."""
    created_by_day: Mapping[str, int]
    deleted_by_day: Mapping[str, int]
    null_counts: Mapping[str, int]
    asked: Mapping[str, Any]
    invented: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The description as plain JSON values."""
        plain = (
            *("fleet", "vm_count", "vcpus", "memory_gib", "single_count", "cannot_freeze_count", "one_vm_set_count"),
            *("present_count", "created_by_day", "deleted_by_day"),
        )
        return {
            **{name: getattr(self, name) for name in plain},
            "shares": {name: shares.to_dict() for name, shares in self.shares.items()},
            "groups": {name: asdict(found) if found else None for name, found in self.groups.items()},
            "regions_of_applications": {str(count): each for count, each in self.regions_of_applications.items()},
            "columns": {
                name: {"null_count": count, "null_ratio": count / self.vm_count if self.vm_count else 0.0}
                for name, count in self.null_counts.items()
            },
            "asked": dict(self.asked),
            "invented": list(self.invented),
            "warnings": list(self.warnings),
        }

    def render(self, console: "Console") -> None:
        """Print the description to *console*, within 80 columns."""
        render_facts(console, f"fleet {self.fleet}", self._facts())
        rows = [(name.replace("_", " "), found) for name, found in self.groups.items() if found]
        if rows:
            console.print()
            console.print(_group_table(rows, self.asked))
        counted = {"deployments": "sets and singles", "update_domains": "sets", "fault_domains": "sets"}
        titles = {
            "regions": "regions",
            "kinds": "VMs by kind of set",
            "deployments": "sets and singles by VMs",
            "update_domains": "sets by populated update domains",
            "fault_domains": "sets by populated fault domains",
            "sizes": "sizes",
            "families": "families",
            "workloads": "workloads",
            "zones": "zones",
        }
        for name, title in titles.items():
            shares = self.shares[name]
            if shares.counts:
                in_order = name in ("deployments", "update_domains", "fault_domains")
                console.print()
                console.print(
                    _share_table(title, counted.get(name, "VMs"), shares, in_order, console.options.ascii_only)
                )
        self._render_days(console)
        if self.invented:
            console.print()
            render_facts(console, "invented", map(_topic, self.invented))

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("VMs", f"{self.vm_count:,} in {len(self.shares['regions'].counts):,} regions")]
        if "mix" in self.asked:
            facts.append(("generated", f"mix {self.asked['mix']}; 'asked' is what the mix would have on average"))
        if self.vcpus is not None:
            facts.append(("vCPUs", f"{self.vcpus:,.0f}"))
        if self.memory_gib is not None:
            facts.append(("memory", f"{self.memory_gib:,.0f} GiB"))
        facts.append(("singles", f"{self._of_all(self.single_count)} are in no set"))
        if self.one_vm_set_count:
            facts.append(("sets of one", f"{self.one_vm_set_count:,} sets have one VM"))
        if self.cannot_freeze_count is not None:
            facts.append(("cannot freeze", f"{self._of_all(self.cannot_freeze_count)} have a size that cannot"))
        if spanning_count := sum(each for count, each in self.regions_of_applications.items() if count > 1):
            all_count = sum(self.regions_of_applications.values())
            facts.append(
                (
                    "applications",
                    f"{spanning_count:,} ({_percent(spanning_count / all_count)}) are in several regions"
                    f"{self._asked('spanning_application_ratio')}",
                )
            )
        if self.present_count is not None:
            created_count, deleted_count = sum(self.created_by_day.values()), sum(self.deleted_by_day.values())
            facts += [
                ("lifetimes", f"{self._of_all(self.present_count)} were always there{self._asked('present_ratio')}"),
                ("lifetimes", f"{created_count:,} are created, {deleted_count:,} are deleted"),
            ]
        empty = [f"{name} {_percent(count / self.vm_count)}" for name, count in self.null_counts.items() if count > 0]
        return [
            *facts,
            ("columns", ", ".join(self.null_counts)),
            ("empty", ", ".join(empty) or "none"),
            *(("warning", sentence) for sentence in self.warnings),
        ]

    def _asked(self, name: str) -> str:
        return f"; asked: {_percent(self.asked[name])}" if name in self.asked else ""

    def _of_all(self, count: int) -> str:
        return f"{count:,} VMs ({_percent(count / self.vm_count) if self.vm_count else '0 %'})"

    def _render_days(self, console: "Console") -> None:
        from rich.text import Text

        days = [date.fromisoformat(day).toordinal() for day in {**self.created_by_day, **self.deleted_by_day}]
        if not days:
            return
        first, count = min(days), max(days) - min(days) + 1
        a_bar = -(-count // _SPARK_WIDTH)
        console.print()
        step = "day" if a_bar == 1 else f"{a_bar:,} days"
        console.print(Text(f"VMs created and deleted, by {step} from {_day(first)} UTC", style="bold"))
        for label, counts in (("created", self.created_by_day), ("deleted", self.deleted_by_day)):
            bars = [0] * -(-count // a_bar)
            for day, each in counts.items():
                bars[(date.fromisoformat(day).toordinal() - first) // a_bar] += each
            line = _spark(bars, console.options.ascii_only)
            console.print(Text(f"  {label}  {line}  at most {max(bars):,}", no_wrap=True, overflow="crop"))


def describe(fleet: object, pairs: str | Path | None = None, *, progress: Progress | None = None) -> Description:
    """Say what *fleet* is like, from reading it once.

    fleet     a path (Parquet, a folder of it, CSV, Arrow, a prepared fleet) or an Arrow table of any library
    pairs     CSV with the relation of regions, instead of the built-in one: what regions are known
    progress  called now and then, from this thread

    Raises `InputError` where fields of the fleet are unusable.
    """
    source = open_fleet(fleet, relation_over(fleet, pairs))
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="fleetsim-describe.") as scratch:
        tallies = _Tallies(Path(scratch), set(source.schema.names))
        for batch in source.batches(findings):
            tallies.add(batch)
            if progress is not None:
                progress("describe", tallies.vm_count, max(tallies.vm_count, source.row_count))
        findings.raise_any()
        asked = json.loads(source.metadata.get(ASKED_KEY, b"{}"))
        return tallies.description(source.name, asked, tuple(source.invented), tuple(source.warnings))


class _Tally:
    """Groups with what is summed of them; no more than _HELD_ROWS are held, others lie in *folder*, parted by key."""

    def __init__(self, folder: Path, keys: list[str], sums: list[pl.Expr]) -> None:
        self._folder = folder
        self._keys = keys
        self._sums = sums
        self._held: list[pl.DataFrame] = []
        self._held_rows = 0
        self._spill_count = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Add *rows*: the keys, and what is summed. Rows whose first key is null are in no group."""
        self._hold(self._grouped(rows.filter(pl.col(self._keys[0]).is_not_null())))
        if self._held_rows > _HELD_ROWS:
            held = self._grouped(pl.concat(self._held))
            self._held, self._held_rows = [], 0
            if held.height > _HELD_ROWS // 2:
                self._spill(held)
            else:
                self._hold(held)

    def groups(self) -> Iterator[pl.DataFrame]:
        """All groups, each once, some at a time."""
        if self._held and self._spill_count:
            self._spill(pl.concat(self._held))
            self._held = []
        if self._held:
            yield self._grouped(pl.concat(self._held))
        for number in range(_PARTITIONS if self._spill_count else 0):
            yield self._grouped(pl.concat([pl.read_ipc(file) for file in self._folder.glob(f"{number}.*")]))

    def _grouped(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.group_by(self._keys).agg(self._sums)

    def _hold(self, rows: pl.DataFrame) -> None:
        self._held.append(rows)
        self._held_rows += rows.height

    def _spill(self, rows: pl.DataFrame) -> None:
        self._folder.mkdir(exist_ok=True)
        part = (pl.col(self._keys[0]).hash() % _PARTITIONS).alias("part")
        for (number,), own in rows.with_columns(part).partition_by("part", include_key=False, as_dict=True).items():
            own.write_ipc(self._folder / f"{number}.{self._spill_count}.arrow")
        self._spill_count += 1


class _Tallies:
    """Everything that is counted, batch by batch."""

    def __init__(self, folder: Path, names: set[str]) -> None:
        self.vm_count = 0
        self._names = names
        self._words = {name: Counter[str]() for name in _WORDS if name in names}
        self._null_counts: dict[str, int] = {}
        self._sums: dict[str, list[float]] = {name: [] for name in ("vcpus", "memory_gib") if name in names}
        self._days = {name: Counter[int]() for name in ("created", "deleted") if name in names}
        self._single_count = 0
        vms, sets = pl.col("vms").sum(), pl.col("sets").sum()
        bits = [pl.col(name).bitwise_or() for name in _DOMAINS]
        self._tallies = {
            # The application of a set is that of any of its VMs.
            "set": _Tally(folder / "set", ["set", "region"], [vms, pl.col("kind", "application").max(), *bits]),
            "application": _Tally(folder / "application", ["application", "region"], [vms, sets]),
            "subscription": _Tally(folder / "subscription", ["subscription"], [vms]),
            "cluster": _Tally(folder / "cluster", ["cluster", "region"], [vms]),
        }

    def add(self, batch: pa.RecordBatch) -> None:
        """Count the rows of *batch*."""
        if not batch.num_rows:
            return
        self.vm_count += batch.num_rows
        for name in batch.schema.names:
            column = batch.column(name)
            self._null_counts[name] = self._null_counts.get(name, 0) + column.null_count
        for name, words in self._words.items():
            for code, count in _code_counts(batch.column(name)):
                words[batch.column(name).dictionary[code].as_py()] += count
        for name, sums in self._sums.items():
            sums.append(pc.sum(batch.column(name)).as_py() or 0.0)
        for name, days in self._days.items():
            at_ms = batch.column(name).drop_null().cast(pa.int64()).to_numpy()
            days.update(dict(zip(*_counted(at_ms // _DAY_MS), strict=True)))
        self._single_count += batch.column("set").null_count if "set" in self._names else batch.num_rows
        runs = _runs(batch)
        for name, tally in self._tallies.items():
            if name in self._names:
                tally.add(runs)

    def description(
        self, fleet: str, asked: Mapping[str, Any], invented: tuple[str, ...], warnings: tuple[str, ...]
    ) -> Description:
        """What was counted; no more can be added."""
        vms_of_sets = {kind: Counter[int]() for kind in range(len(SET_KINDS))}
        populated = {name: Counter[int]() for name in _DOMAINS if name in self._names}
        for groups in self._tallies["set"].groups():
            for kind, sizes in vms_of_sets.items():
                _count_into(sizes, groups.filter(pl.col("kind") == kind)["vms"])
            for name, counts in populated.items():
                _count_into(counts, groups[name].bitwise_count_ones().cast(pl.Int64))
            if "application" in self._names:
                self._tallies["application"].add(groups.with_columns(vms=pl.lit(0, pl.Int64), sets=pl.lit(1, pl.Int64)))
        applications, regions_of, sets_of = Counter[int](), Counter[int](), Counter[int]()
        for groups in self._tallies["application"].groups():
            whole = groups.group_by("application").agg(
                pl.col("vms").sum(), pl.col("sets").sum(), pl.len().cast(pl.Int64)
            )
            _count_into(applications, whole["vms"])
            _count_into(regions_of, whole["len"])
            _count_into(sets_of, whole.filter(pl.col("sets") > 0)["sets"])
        subscriptions, clusters = Counter[int](), Counter[int]()
        for sizes, name in ((subscriptions, "subscription"), (clusters, "cluster")):
            for groups in self._tallies[name].groups():
                _count_into(sizes, groups["vms"])

        of_sets = sum(vms_of_sets.values(), Counter[int]())
        kinds = {
            "none": self._single_count,
            **{word: sum(s * n for s, n in vms_of_sets[kind].items()) for kind, word in enumerate(SET_KINDS)},
        }
        deployments = of_sets + Counter({1: self._single_count})
        size_counts = self._words.get("size")
        families = Counter[str]()
        for size, count in (size_counts or {}).items():
            families[family_of(size) or "unknown"] += count
        set_count = of_sets.total()
        by_vms = {
            name: Shares(_most_first(self._words.get(column, Counter())), self.vm_count, asked.get(name, {}))
            for name, column in (("regions", "region"), ("sizes", "size"), ("workloads", "workload"), ("zones", "zone"))
        }
        return Description(
            fleet=fleet,
            vm_count=self.vm_count,
            vcpus=_sum(self._sums.get("vcpus")),
            memory_gib=_sum(self._sums.get("memory_gib")),
            single_count=self._single_count,
            cannot_freeze_count=None
            if size_counts is None
            else sum(count for size, count in size_counts.items() if not preserves_memory(size)),
            shares={
                **by_vms,
                "families": Shares(_most_first(families), self.vm_count),
                "kinds": Shares(
                    {word: count for word, count in kinds.items() if count}, self.vm_count, asked.get("kinds", {})
                ),
                "deployments": Shares(
                    _binned(deployments), deployments.total(), _binned(_by_size(asked.get("deployments_by_vms", {})))
                ),
                **{
                    f"{name}s": Shares({str(domains): counts[domains] for domains in sorted(counts)}, set_count)
                    for name, counts in populated.items()
                },
                **{f"{name}s": Shares({}, 0) for name in _DOMAINS if name not in populated},
            },
            groups={
                "sets": Distribution.of(of_sets),
                **{f"{word}s": Distribution.of(vms_of_sets[kind]) for kind, word in enumerate(SET_KINDS)},
                "applications": Distribution.of(applications),
                "application_sets": Distribution.of(sets_of),
                "subscriptions": Distribution.of(subscriptions),
                "clusters": Distribution.of(clusters),
            },
            one_vm_set_count=of_sets[1],
            regions_of_applications=dict(sorted(regions_of.items())),
            present_count=self._null_counts.get("created", self.vm_count) if self._days else None,
            created_by_day=_by_day(self._days.get("created", Counter())),
            deleted_by_day=_by_day(self._days.get("deleted", Counter())),
            null_counts=self._null_counts,
            asked=asked,
            invented=invented,
            warnings=warnings,
        )


def _runs(batch: pa.RecordBatch) -> pl.DataFrame:
    """The rows of *batch*; such as follow one another and are of one set, application and so on, are one.

    Names are 64-bit keys, null where there is none; domains are bits of 32; `sets` is for sums and 0.
    """
    keys = {name: _keys(batch, name) for name in ("region", "set", "application", "subscription", "cluster")}
    kinds = _kinds(batch)
    is_new = np.ones(batch.num_rows, np.bool_)
    is_new[1:] = kinds[1:] != kinds[:-1]
    for values in (array for pair in keys.values() for array in pair):
        is_new[1:] |= values[1:] != values[:-1]
    starts = np.flatnonzero(is_new)
    return pl.DataFrame(
        {
            **{name: pa.array(key[starts], mask=is_null[starts]) for name, (key, is_null) in keys.items()},
            "kind": kinds[starts],
            "vms": np.diff(starts, append=batch.num_rows),
            "sets": np.zeros(len(starts), np.int64),
            **{name: np.bitwise_or.reduceat(_domain_bits(batch, name), starts) for name in _DOMAINS},
        }
    )


def _keys(batch: pa.RecordBatch, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """64-bit keys of the names in column *name*, and where there is none: all, if the column is not there."""
    if name not in batch.schema.names:
        return np.zeros(batch.num_rows, np.int64), np.ones(batch.num_rows, np.bool_)
    column = batch.column(name)
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    if not pa.types.is_dictionary(column.type):
        return keys_of(column.fill_null("" if column.type == pa.large_string() else 0)), is_null
    of_words = keys_of(column.dictionary) if len(column.dictionary) else np.zeros(1, np.int64)
    return of_words[column.indices.fill_null(0).to_numpy()], is_null


def _kinds(batch: pa.RecordBatch) -> npt.NDArray[np.int8]:
    """Positions in SET_KINDS; the first where the fleet does not say."""
    if "set_kind" not in batch.schema.names:
        return np.zeros(batch.num_rows, np.int8)
    column = batch.column("set_kind")
    codes_of = {word: code for code, word in enumerate(SET_KINDS)}  # another word is a problem that is told of
    code_of = np.array([*(codes_of.get(word, 0) for word in column.dictionary.to_pylist()), 0], np.int8)
    codes: npt.NDArray[np.int8] = code_of[column.indices.fill_null(len(code_of) - 1).to_numpy()]
    return codes


def _domain_bits(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.uint32]:
    """A bit for the domain in column *name*, or none."""
    if name not in batch.schema.names:
        return np.zeros(batch.num_rows, np.uint32)
    column = batch.column(name)
    bits: npt.NDArray[np.uint32] = np.uint32(1) << column.fill_null(0).to_numpy().astype(np.uint32)
    return bits if not column.null_count else bits * column.is_valid().to_numpy(zero_copy_only=False)


def _code_counts(column: pa.DictionaryArray) -> Iterator[tuple[int, int]]:
    """(code, rows) of the words that occur."""
    counts = np.bincount(column.indices.drop_null().to_numpy())
    return ((code, int(counts[code])) for code in np.flatnonzero(counts).tolist())


def _count_into(counts: Counter[int], values: pl.Series) -> None:
    counts.update(dict(zip(*_counted(values.drop_nulls().to_numpy()), strict=True)))


def _counted(values: npt.NDArray[Any]) -> tuple[list[int], list[int]]:
    found, counts = np.unique(values, return_counts=True)
    return found.tolist(), counts.tolist()


def _most_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _sum(sums: list[float] | None) -> float | None:
    return None if sums is None else float(sum(sums))


def _by_size(asked: Mapping[str, float]) -> dict[int, float]:
    return {int(size): ratio for size, ratio in asked.items()}


def _binned(counts: Mapping[int, _Number]) -> dict[str, _Number]:
    """*counts* by size, summed over the bins of DEPLOYMENT_STEPS from the first to the last that is not empty."""
    sums: dict[int, _Number] = {}
    for size, count in counts.items():
        step = max(step for step in DEPLOYMENT_STEPS if step <= size)
        sums[step] = sums[step] + count if step in sums else count
    names = {}
    for place, step in enumerate(DEPLOYMENT_STEPS):
        stop = DEPLOYMENT_STEPS[place + 1] if place + 1 < len(DEPLOYMENT_STEPS) else None
        names[step] = f"{step}+" if stop is None else f"{step}" if stop == step + 1 else f"{step}-{stop - 1}"
    return {names[step]: sums[step] for step in sorted(sums)}


def _by_day(counts: Mapping[int, int]) -> dict[str, int]:
    return {_day(_EPOCH_ORDINAL + day): counts[day] for day in sorted(counts)}


def _day(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()


def _topic(sentence: str) -> tuple[str, str]:
    """`topic: what is said of it`, parted; a sentence without topic has an empty one."""
    topic, mark, rest = sentence.partition(": ")
    return (topic, rest) if mark and len(topic) <= _TOPIC_LENGTH else ("", sentence)


def _percent(ratio: float) -> str:
    """*ratio* in percent; what is not 0 is not shown as 0."""
    percent = 100 * ratio
    return "0 %" if not percent else f"{percent:.1f} %" if percent >= 0.1 else "< 0.1 %"


def _spark(counts: list[int], ascii_only: bool) -> str:
    blocks = " .:#" if ascii_only else " ▁▂▃▄▅▆▇█"
    largest = max(1, *counts)
    return "".join(blocks[-(-count * (len(blocks) - 1) // largest)] for count in counts)


def _table(title: str, *columns: str) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="dim"
    )
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=place > 0, overflow="fold")
    return table


def _group_table(rows: list[tuple[str, Distribution]], asked: Mapping[str, Any]) -> "Table":
    """Distributions, a line each; what is asked for is a mean."""
    from rich.text import Text

    means = {"applications": "application_vms_mean", "subscriptions": "subscription_vms_mean"}
    is_asked = any(name in asked for name in means.values())
    head = ("", "count", "p50", "p90", "p99", "max", "mean", *(("asked",) if is_asked else ()))
    table = _table("VMs of each (of application sets: sets)", *head)
    for name, found in rows:
        cells = [name, *(f"{value:,}" for value in (found.count, found.p50, found.p90, found.p99, found.max))]
        cells.append(f"{found.mean:,.1f}")
        if is_asked:
            cells.append(f"{asked[means[name]]:,.1f}" if means.get(name) in asked else "")
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _share_table(title: str, counted: str, shares: Shares, in_order: bool, ascii_only: bool) -> "Table":
    """Counts and shares with a bar each; largest first, or all in their own order."""
    from rich.text import Text

    head = ("", counted, "share", *(("asked",) if shares.asked else ()), "")
    table = _table(title, *head)
    table.columns[-1].justify = "left"
    rows = shares.to_dict()
    names = list(rows) if in_order else list(rows)[:ROWS_SHOWN]
    largest = max(row["ratio"] for row in rows.values())

    def add(name: str, count: int, ratio: float, asked: float, has_bar: bool = True) -> None:
        bar = ("#" if ascii_only else "█") * (round(20 * ratio / largest) if largest and has_bar else 0)
        told = [_percent(asked)] if shares.asked else []
        table.add_row(*(Text(cell) for cell in (name, f"{count:,}", _percent(ratio), *told)), Text(bar, style="dim"))

    for name in names:
        add(name, rows[name]["count"], rows[name]["ratio"], rows[name].get("asked_ratio", 0.0))
    if others := [row for name, row in rows.items() if name not in names]:
        sums = [sum(row.get(key, 0) for row in others) for key in ("count", "ratio", "asked_ratio")]
        add(f"{len(others):,} more", int(sums[0]), sums[1], sums[2], has_bar=False)
    return table
