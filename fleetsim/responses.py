"""What came of a sweep: figures case by case, how they respond to what was asked, and which case to take.

Met in the files of a sweep alone: `cases.parquet` says what was asked in each case, the data set of `replicas` what
came of it. A figure of a case is its mean over the replicas, beside p05 and p95.
"""

import json
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq

from fleetsim import figures, schema
from fleetsim.errors import InputError, nearest, nearest_path
from fleetsim.figures import FIGURES
from fleetsim.reporting import Block, Grid, Items, Sheet, spelt
from fleetsim.storage import Place, Url, local, located, readable

__all__ = ["Sweep"]

MANIFEST, CASES = "sweep.json", "cases.parquet"
EFFORT = "length_ms"
HARMS = ("over_tolerance_count", "set_out_ms", "unavailable_ms", "paused_ms_p99", "down_ms_p99", "set_down_ratio_max")
"""What a campaign harms, the gravest first: the first that differs from case to case is set against its length."""
SHOWN = (EFFORT, "paused_ms_p99", "down_ms_p99", "unavailable_ms", "set_down_ratio_max", "set_out_ms")
CASES_SHOWN = 40
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
_LEAST_EXCESS = 1e-9
"""Of a case that is at a limit it must be below."""
_SEARCH = b"fleetsim.search"
_COMPARED = re.compile(r"(\S+)\s*(<=|>=|<|>)\s*(\S+)")


@dataclass(frozen=True, slots=True)
class Limit:
    """A condition of an objective: *figure* of *campaign* (None: the only one) is at most, or at least, *value*."""

    campaign: str | None
    figure: str
    comparison: str
    value: float

    def holds(self, rows: pl.DataFrame) -> bool:
        """Whether it does for what *rows* tell of one case: by its p95 where it is bounded from above, else its p05."""
        worst = self.worst(rows)
        if worst is None:  # nobody is paused, or down: that is within any limit from above
            return self.percentile == "p95"
        return _HOLDS[self.comparison](worst, self.value)

    def excess(self, rows: pl.DataFrame) -> float:
        """By how much *rows* of one case are beyond it, in terms of its value: 0 where it holds, else more."""
        if self.holds(rows):
            return 0.0
        worst = self.worst(rows)
        return 1.0 if worst is None else max(abs(worst - self.value) / (abs(self.value) or 1.0), _LEAST_EXCESS)

    @property
    def percentile(self) -> str:
        """Which of the replicas must keep to it: p95 where it is bounded from above, else p05."""
        return "p95" if self.comparison in ("<=", "<") else "p05"

    def worst(self, rows: pl.DataFrame) -> float | None:
        """What *rows* of one case come to in that one; None where they do not have the figure."""
        value: float | None = _row(rows, self.campaign, self.figure)[self.percentile]
        return value

    def sentence(self, cases: Sequence[pl.DataFrame]) -> str:
        """In how many of *cases* it holds; where in none, by how little that is missed."""
        text = f"{self.figure} {self.comparison} {spelt(self.figure, self.value)}"
        text = f"{self.campaign}.{text}" if self.campaign else text
        if holds_count := sum(self.holds(rows) for rows in cases):
            return f"{text} holds in {holds_count:,}"
        nearest = min(cases, key=self.excess)
        case, worst = nearest["case"][0], self.worst(nearest)
        if worst is None:
            return f"{text} holds in none"
        draws = f" as {self.percentile} of its draws" if nearest["replica_count"][0] > 1 else ""
        return f"{text} holds in none; case {case} is nearest, with {spelt(self.figure, worst)}{draws}"


@dataclass(frozen=True, slots=True)
class Objective:
    """`min FIGURE where FIGURE <= VALUE and ...`: which of the cases is meant."""

    text: str
    is_least: bool
    campaign: str | None
    figure: str
    limits: tuple[Limit, ...]

    def figures_of(self, campaign: str) -> list[str]:
        """The figures of *campaign* that it asks about."""
        asked = [(self.campaign, self.figure), *((limit.campaign, limit.figure) for limit in self.limits)]
        return [figure for of, figure in asked if of in (None, campaign)]

    def found_in(self, rows: pl.DataFrame) -> tuple[float | None, list[float]]:
        """What *rows* of one case come to: the mean of its figure, None where there is none, and by how much each limit
        is exceeded."""
        return _row(rows, self.campaign, self.figure)["mean"], [limit.excess(rows) for limit in self.limits]

    @staticmethod
    def parse(text: str, campaigns: Sequence[str], left_out: Collection[str] = figures.not_drawn(())) -> "Objective":
        """The objective in *text*, about *campaigns*, of whose figures those *left_out* are not kept of replicas.

        Raise `InputError` with every problem found.
        """
        problems: list[str] = []
        plain = re.sub(r"\s+(where|and)\s+", lambda word: word[0].lower(), text.strip(), flags=re.IGNORECASE)
        head, _, conditions = plain.partition(" where ")
        word, _, figure = head.strip().partition(" ")
        if word not in ("min", "max"):
            problems.append(f"best: must be 'min FIGURE where ...' or 'max FIGURE ...', got '{text}'")
            if not figure:
                raise InputError(problems)
        subject = _subject(figure.strip(), campaigns, left_out, problems)
        limits = []
        for each in re.split(r"\s+and\s+", conditions.strip()) if conditions.strip() else ():
            match = _COMPARED.fullmatch(each.strip())
            if match is None:
                problems.append(f"best: a condition must be as 'paused_ms_p99 <= 10s', got '{each.strip()}'")
                continue
            about = _subject(match[1], campaigns, left_out, problems)
            value = _value(match[3], about[1], problems)
            limits.append(Limit(*about, match[2], value))
        if problems:
            raise InputError(problems)
        return Objective(text.strip(), word == "min", *subject, tuple(limits))


def _subject(
    text: str, campaigns: Sequence[str], left_out: Collection[str], problems: list[str]
) -> tuple[str | None, str]:
    """`FIGURE` or `CAMPAIGN.FIGURE` as a campaign, None where it is the only one, and a figure."""
    campaign, _, figure = text.rpartition(".")
    known = [name for name, each in FIGURES.items() if "campaign" in each.grains]
    if figure not in known:
        problems.append(f"best: must name a figure of campaigns, got '{figure}'{nearest(figure, known)}")
    elif figure in left_out:
        problems.append(f"best: must name a figure that is kept of replicas, got '{figure}': only events tell it")
    if campaign and campaign not in campaigns:
        problems.append(f"best: must name a campaign, got '{campaign}'{nearest(campaign, campaigns)}")
    if not campaign and len(campaigns) > 1:
        problems.append(f"best: must say of which campaign, as {campaigns[0]}.{figure}, got '{figure}' of several")
    return campaign or None, figure


def _value(text: str, figure: str, problems: list[str]) -> float:
    """A bound of *figure*: `10s` where it is a time, else `0.25`, `25%` or `100`."""
    is_time = figure in FIGURES and FIGURES[figure].unit in ("ms", "VM-ms")
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(ms|s|min|h|d|%)?", text)
    if (
        match is None
        or (is_time and match[2] in (None, "%") and match[1] != "0")
        or (not is_time and match[2] not in (None, "%"))
    ):
        problems.append(f"best: must be a value of {figure}, as {'10s' if is_time else '0.25'}, got '{text}'")
        return 0.0
    return float(Fraction(match[1]) * _UNITS[match[2] or "ms"])


_UNITS: dict[str, int | Fraction] = {
    "ms": 1,
    "s": 1_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "%": Fraction(1, 100),
}


@dataclass(frozen=True)
class Sweep(Sheet):
    """A sweep as it stands in *path*; `frame` is the table `sweep` of the schema."""

    path: Place
    cases: pl.DataFrame
    """`case`, and a text column a swept key."""
    figures: pl.DataFrame
    """Rows of schema.SWEEP: of the campaigns of each case that is finished."""
    manifest: Mapping[str, Any] | None
    """None where it is unfinished."""
    best: "Objective | None" = None
    search: Mapping[str, Any] | None = None
    """Of cases that were searched for: the `objective`, of how many `settings`, and how many `cases` are asked for."""

    @classmethod
    def open(cls, folder: str | Path | Url) -> "Sweep":
        """The sweep in *folder*, finished or not; raise `InputError` where there is none."""
        path = local(folder)
        if not (path / CASES).is_file():
            found = f"no {CASES}" if path.is_dir() else f"nothing there{nearest_path(path)}"
            raise InputError(f"{path}: must be the folder of a sweep, got {found}")
        manifest = path / MANIFEST
        try:
            told = json.loads(manifest.read_text("utf-8")) if manifest.is_file() else None
            cases = pl.read_parquet(path / CASES, hive_partitioning=False)
            figures, search = summed_up(sorted(path.glob("case=*"))), read_search(path / CASES)
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            raise InputError(f"{path}: its files must be as the sweep wrote them, got {error}") from error
        made = cls(located(folder), cases, figures, told, search=search)
        return made if search is None or not made.campaigns else made.with_best(search["objective"])

    @property
    def keys(self) -> list[str]:
        """What differs between the cases."""
        return [name for name in self.cases.columns if name != "case"]

    @property
    def campaigns(self) -> list[str]:
        """The campaigns, by name."""
        return self.figures["campaign"].unique(maintain_order=True).to_list()

    @property
    def frame(self) -> pl.DataFrame:
        """Figures by case: mean, p05 and p95 over its replicas."""
        return self.figures

    @property
    def lost(self) -> list[str]:
        """The cases of a finished sweep of which replicas are not there any more."""
        if self.manifest is None:
            return []
        there = dict(self.figures.group_by("case").agg(pl.col("replica_count").max()).rows())
        return [
            f"case {each['case']}" for each in self.manifest["cases"] if there.get(each["case"]) != each["replicas"]
        ]

    def with_best(self, objective: str) -> "Sweep":
        """The same, with the case that *objective* names marked; raise `InputError` where it is no objective."""
        return replace(self, best=Objective.parse(objective, self.campaigns))

    @cached_property
    def best_case(self) -> int | None:
        """The case that meets all limits and has the least, or the most, of the objective by its mean; None: none."""
        assert self.best is not None
        found = []
        for rows in self._by_case:
            mean = _row(rows, self.best.campaign, self.best.figure)["mean"]
            if mean is not None and all(limit.holds(rows) for limit in self.best.limits):
                found.append((mean if self.best.is_least else -mean, int(rows["case"][0])))
        return min(found)[1] if found else None

    @cached_property
    def cases_within(self) -> list[int]:
        """The cases that meet all limits of the objective, whatever they come to."""
        assert self.best is not None
        limits = self.best.limits
        return [int(rows["case"][0]) for rows in self._by_case if all(limit.holds(rows) for limit in limits)]

    @property
    def _by_case(self) -> list[pl.DataFrame]:
        """The rows of `figures` of each finished case."""
        return self.figures.partition_by("case", maintain_order=True)

    def harm_of(self, campaign: str) -> str | None:
        """The gravest of HARMS that differs between the cases; None where none does."""
        return next((name for name in HARMS if self._means(campaign, name).n_unique() > 1), None)

    def _means(self, campaign: str, figure: str) -> pl.Series:
        """The mean of *figure* in each finished case, null in those that do not have it."""
        own = self.figures.filter(campaign=campaign)
        cases = own.select("case").unique()
        return cases.join(own.filter(figure=figure), on="case", how="left")["mean"]

    def front_of(self, campaign: str, harm: str) -> list[int]:
        """The cases of which none other takes less time and harms less: the Pareto front, shortest first."""
        wide = (
            self.figures.filter(pl.col("campaign") == campaign, pl.col("figure").is_in([EFFORT, harm]))
            .pivot("figure", index="case", values="mean")
            .drop_nulls()
            .sort(EFFORT, harm, "case")
        )
        front: list[int] = []
        least = float("inf")
        for _, rows in wide.group_by(EFFORT, maintain_order=True):
            if (lowest := float(rows[harm][0])) < least:
                front += rows.filter(pl.col(harm) == lowest)["case"].to_list()
                least = lowest
        return front

    def to_dict(self) -> dict[str, Any]:
        """All of it as one JSON object."""
        told = {
            "sweep": str(self.path),
            "is_finished": self.manifest is not None,
            "keys": self.keys,
            "units": {name: each.unit for name, each in FIGURES.items() if "campaign" in each.grains},
            "cases": [self._case(row) for row in self.cases.iter_rows(named=True)],
            "fronts": [
                {"campaign": name, "harm": harm, "cases": self.front_of(name, harm)}
                for name in self.campaigns
                if (harm := self.harm_of(name)) is not None
            ],
        }
        if self.search is not None:
            told |= {"search": dict((self.manifest or {}).get("search", self.search))}
        if self.best is not None:
            told |= {"best": {"objective": self.best.text, "case": self.best_case}}
        return told

    def _case(self, row: dict[str, Any]) -> dict[str, Any]:
        own = self.figures.filter(case=row["case"])
        return {
            "case": row["case"],
            "set": {key: row[key] for key in self.keys if row[key] is not None},
            "replicas": int(own["replica_count"].max() or 0),  # type: ignore[arg-type]
            "campaigns": [
                {
                    "campaign": name,
                    "figures": {
                        each["figure"]: {which: each[which] for which in ("mean", "p05", "p95")}
                        for each in own.filter(campaign=name).iter_rows(named=True)
                    },
                }
                for name in self.campaigns
            ],
        }

    def _parquet(self) -> tuple[schema.Table, dict[str, str]]:
        return schema.SWEEP, {"fleetsim.fleet_digest": self.manifest["fleet_digest"]} if self.manifest else {}

    def wide(self, campaign: str, figures: Sequence[str]) -> pl.DataFrame:
        """One row a case: `case`, the keys, and of each of *figures* of *campaign* its mean, `_p05` and `_p95`."""
        own = self.figures.filter(pl.col("campaign") == campaign)
        rows = self.cases
        for name in figures:
            of_one = own.filter(figure=name).select(
                "case", pl.col("mean").alias(name), *(pl.col(each).alias(f"{name}_{each}") for each in ("p05", "p95"))
            )
            rows = rows.join(of_one, on="case", how="inner", maintain_order="left")
        return rows.drop_nulls(figures)

    def blocks(self) -> Iterator[Block]:
        """What is shown: what the sweep is, then the cases of each campaign."""
        return self._page()

    def _page(self) -> Iterator[Block]:
        counts: list[int] = sorted(set(self.figures["replica_count"].to_list()))
        total = len(self.cases) if self.search is None or self.manifest is not None else self.search["cases"]
        done_count = self.figures["case"].n_unique()
        draws = " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))) if counts else "no"
        items = [("cases", f"{total:,}, {'one draw' if draws == '1' else f'{draws} draws'} each")]
        if self.manifest is not None:
            fleet = f"{self.manifest['vm_count']:,} VMs, digest {self.manifest['fleet_digest'][:12]}"
            items.append(("fleet", f"{fleet}; fleetsim {self.manifest['fleetsim_version']}"))
        if self.search is not None:
            items.append(("search", self._told_search(self.search)))
        if self.lost:
            hint = "without their folders --resume makes them again"
            items.append(("warning", f"of {', '.join(self.lost)} files are lost; {hint}"))
        if self.manifest is None:
            items.append(("warning", f"unfinished: {done_count:,} of {total:,} cases are there; --resume goes on"))
        if self.best is not None:
            items.append(("best", self._told_best(self.best)))
        yield Items(self.path.name or str(self.path), items)
        for campaign in self.campaigns:
            yield self._grid(campaign)

    def _told_search(self, search: Mapping[str, Any]) -> str:
        text = f"among {search['settings']:,} settings, for {search['objective']}"
        unusable = (self.manifest or {}).get("search", {}).get("unusable", [])
        if unusable:
            text += f"; {len(unusable):,} passed by that cannot be run, as: {unusable[0]['problems'][0]}"
        return text

    def _told_best(self, best: "Objective") -> str:
        if self.best_case is None:
            return "; ".join([f"no case: {best.text}", *(self._why_none(best) if len(self.figures) else ())])
        row = self.cases.row(by_predicate=pl.col("case") == self.best_case, named=True)
        asked = asked_in_words({key: row[key] for key in self.keys}, self.keys)
        return f"case {self.best_case} ({asked}): {best.text}"

    def _why_none(self, best: "Objective") -> Iterator[str]:
        """Why no case is the *best*, of some."""
        if all(_row(rows, best.campaign, best.figure)["mean"] is None for rows in self._by_case):
            yield f"none has {best.figure}"
        for limit in best.limits:
            yield limit.sentence(self._by_case)

    def _grid(self, campaign: str) -> Grid:
        """Cases down, what was asked and what came of it across."""
        own = self.figures.filter(campaign=campaign)
        harm = self.harm_of(campaign)
        front = set() if harm is None else set(self.front_of(campaign, harm))
        asked = () if self.best is None else self.best.figures_of(campaign)
        wanted = dict.fromkeys((*SHOWN, *((harm,) if harm else ()), *asked))
        told_of = [name for name in wanted if len(own.filter(figure=name))]
        is_same = {name: self._means(campaign, name).n_unique() == 1 for name in told_of}
        same = [name for name in told_of if is_same[name] and name not in (EFFORT, *asked)]
        known = [name for name in told_of if name not in same]
        values = {
            (case, figure): row for case, figure, *row in own.select("case", "figure", "mean", "p05", "p95").rows()
        }
        has_bands = bool((own["replica_count"] > 1).any())
        rows = []
        for row in self.cases.head(CASES_SHOWN).iter_rows(named=True):
            case = row["case"]
            if not any((case, name) in values for name in known):
                continue
            marks = ("*" if case in front else "") + ("!" if self.best is not None and case == self.best_case else "")
            cells = [f"{case}{marks}", *("-" if row[key] is None else row[key] for key in self.keys)]
            for name in known:
                mean, low, high = values.get((case, name), (None, None, None))
                cells.append(spelt(name, mean))
                if has_bands and name == EFFORT:
                    cells += [spelt(name, low), spelt(name, high)]
            rows.append(cells)
        header = ["case", *short_keys(self.keys).values()]
        for name in known:
            header.append(name)
            if has_bands and name == EFFORT:
                header += ["p05", "p95"]
        notes = []
        if len(self.cases) > CASES_SHOWN:
            notes.append(f"... {len(self.cases) - CASES_SHOWN:,} more: --format csv has them all")
        if same:
            alike = {name: own.filter(figure=name)["mean"][0] for name in same}
            told = [f"{name} {spelt(name, value)}" for name, value in alike.items() if value is not None]
            notes += [f"the same in all: {', '.join(told)}"] if told else []
        if harm is not None:
            notes.append(f"*: no other case has both less {EFFORT} and less {harm}")
        if self.best is not None and self.best_case is not None:
            notes.append("!: the best")
        return Grid(f"{campaign}, case by case" + (": means" if has_bands else ""), header, rows, notes=notes)


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Each of *keys* without `campaign.`, and without the name where all are of one campaign."""
    names = {key.split(".", 2)[1] for key in keys if key.startswith("campaign.")}
    start = f"campaign.{min(names)}." if len(names) == 1 else "campaign."
    return {key: key.removeprefix(start) for key in keys}


def asked_in_words(values: Mapping[str, str | None], among: Sequence[str]) -> str:
    """What a case asks for, of the keys *among* which it has some: `length 10s, spread 2h`."""
    short = short_keys(among)
    return ", ".join(f"{short[key]} {value}" for key, value in values.items() if value is not None) or "as it is"


def _row(rows: pl.DataFrame, campaign: str | None, figure: str) -> dict[str, Any]:
    """What *rows* of a case tell of *figure*, of *campaign* or of the only one; nothing where they do not."""
    own = rows.filter(figure=figure) if campaign is None else rows.filter(figure=figure, campaign=campaign)
    return own.row(0, named=True) if len(own) else dict.fromkeys(("mean", "p05", "p95"))


def with_search(table: pa.Table, search: Mapping[str, Any]) -> pa.Table:
    """The *table* of cases, with what they were searched for."""
    return table.replace_schema_metadata({_SEARCH: json.dumps(search).encode()})


def read_search(path: Place) -> dict[str, Any] | None:
    """What the cases in the file *path* were searched for; None where they were not."""
    told = (pq.read_schema(readable(path)).metadata or {}).get(_SEARCH)
    return None if told is None else dict(json.loads(told))


def summed_up(folders: Sequence[Path]) -> pl.DataFrame:
    """Rows of schema.SWEEP from the replicas of those cases in *folders* that are finished."""
    texts, values = ("campaign", "figure", "unit"), ("mean", "p05", "p95")
    types = pl.Schema(
        {"case": pl.UInt32()}
        | dict.fromkeys(texts, pl.String())
        | dict.fromkeys(values, pl.Float64())
        | {"replica_count": pl.UInt32()}
    )
    finished = [folder for folder in folders if (folder / "manifest.json").is_file()]
    found = []
    for folder in finished:
        found.append(
            pl.scan_parquet(sorted(folder.glob("replicas/replica=*/part-*.parquet")), hive_partitioning=False)
            .filter(pl.col("grain").cast(pl.String) == "campaign")
            .group_by(campaign="key", figure="figure", unit="unit", maintain_order=True)
            .agg(mean=pl.col("value").mean(), **figures.band("value"), replica_count=pl.len())
            .with_columns(cs.categorical().cast(pl.String), case=pl.lit(int(folder.name.removeprefix("case="))))
            .cast(types)
            .select(types.names())
        )
    return pl.concat([pl.DataFrame(schema=types), *pl.collect_all(found)])
