"""The verifier: reads a finished run as a stranger would and lists every broken rule.

It sees files only and shares no code with what wrote them: pairs come from the CSV, parameters from
`resolved.toml`, and it has its own idea of what an impact may leave behind. Nothing is stepped through time:
each rule is one query over sorted or grouped rows, and its rows are the offenders. The fleet is read part by
part, and of a part one campaign at a time; what outlives them is one small aggregate a stage and a part.
File names do not count.
"""

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from fleetsim.evidence import OUTAGES, Cell, CellFacts, InStep, Part, PartFacts, WalkFacts, Walks, Whole, files_of_parts
from fleetsim.hosting import SEVERAL, Hosts
from fleetsim.schema import (
    FIRST_ITERATION,
    NEVER_MS,
    PLACEMENT_GROUP_VMS,
    TRIES_MAX,
    UPDATE_DOMAIN_COUNT_MAX,
    Effect,
    Outcome,
    Reason,
    words,
)
from fleetsim.storage import Place, Url, local, located
from fleetsim.testimony import (
    IMPACTS,
    MOVED,
    NOT_TOLD_BY_EVENTS,
    OUTCOME_COUNTS,
    STAGE,
    STAGE_TYPES,
    WINDOWS,
    Bools,
    File,
    Listing,
    Testimony,
    read_manifest,
)

if TYPE_CHECKING:
    from rich.console import Console

_Given = TypeVar("_Given")
_Found = TypeVar("_Found")
DAY_MS = 86_400_000
REFUSALS_MAX = 3
"""A customer who is refused asks again a day later, as often as that (semantics.md 31)."""
NOTHING_TO_CHECK = "nothing to check"
_COLOURS = {"broken": "bold red", "kept": "green", NOTHING_TO_CHECK: "dim", "not checked": "yellow"}
"""What a rule can have found, and how a terminal shows it."""
OFFENDERS_SHOWN = 5
"""Offenders a result shows; all are counted."""


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What one rule found. `status` is kept, broken, or not checked.

    `reason` says why a rule is not checked, or only in part.
    """

    rule: str
    sentence: str
    status: str
    row_count: int = 0
    offender_count: int = 0
    offenders: tuple[dict[str, Any], ...] = ()
    reason: str | None = None

    @property
    def found(self) -> str:
        """The status in words: a rule that no row was asked about is kept, but not told as one that was."""
        return NOTHING_TO_CHECK if self.status == "kept" and not self.row_count else self.status


@dataclass(frozen=True, slots=True)
class Verdict:
    """All rules of one run, files and fleet first, then by number."""

    run: Place
    rules: tuple[RuleResult, ...]

    @property
    def ok(self) -> bool:
        return all(rule.status != "broken" for rule in self.rules)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain values, for JSON."""
        shown = [
            {name: getattr(rule, name) for name in RuleResult.__slots__} | {"offenders": list(rule.offenders)}
            for rule in self.rules
        ]
        return {"run": str(self.run), "ok": self.ok, "rules": shown}

    @property
    def counts(self) -> str:
        """How many rules are broken, kept, had nothing to check, and were not checked."""
        counts = Counter(rule.found for rule in self.rules)
        first, *others = (each for each in _COLOURS if counts[each])
        words = {NOTHING_TO_CHECK: f"had {NOTHING_TO_CHECK}"}
        told = [f"{counts[first]} rule{'' if counts[first] == 1 else 's'} {words.get(first, first)}"]
        return ", ".join([*told, *(f"{counts[each]} {words.get(each, each)}" for each in others)])

    def render(self, console: "Console", *, brief: bool = False) -> None:
        """Print each rule with the rows it looked at, and the first offenders; *brief*: broken rules only."""
        from rich.table import Table
        from rich.text import Text

        told = [rule for rule in self.rules if rule.status == "broken" or not brief]
        if told:
            grid = Table("rule", "", "rows", "what must hold", box=None, header_style="bold")
            grid.columns[2].justify = "right"
            for rule in told:
                found = f" ({rule.reason})" if rule.reason else ""
                word = "-" if rule.found == NOTHING_TO_CHECK else rule.found  # which would make its column wide
                status = Text(word, _COLOURS[rule.found])
                grid.add_row(Text(rule.rule), status, f"{rule.row_count:,}", Text(rule.sentence + found))
                for offender in rule.offenders:
                    grid.add_row(
                        "", "", "", Text(", ".join(f"{key}={value}" for key, value in offender.items()), "red")
                    )
                if (more := rule.offender_count - len(rule.offenders)) > 0:
                    grid.add_row("", "", "", Text(f"and {more:,} more", "red"))
            console.print(grid)
        verdict = "the run keeps the plan" if self.ok else "the run breaks the plan"
        console.print(Text(f"{self.run}: {verdict} ({self.counts})", "bold green" if self.ok else "bold red"))


def verify(run: str | Path | Url, *, progress: Callable[[str, int, int], None] | None = None) -> Verdict:
    """Check every rule of a finished *run* from its files alone.

    *progress* is called after each fleet part with "verify", the VMs looked at and the VMs in all. Raises
    `InputError` where *run* is no finished run of a schema this version knows. One at a URL is fetched first.
    """
    folder = local(run)
    return replace(_judged(Listing(folder, read_manifest(folder), {}), progress), run=located(run))


def verify_parts(
    folder: Path, lacking: Mapping[str, str], *, progress: Callable[[str, int, int], None] | None = None
) -> Verdict:
    """Check what rules can be asked of a *folder* that is laid out as a run but for what is *lacking*.

    *lacking* names tables (or `manifest`, or the column `effects`) and says why there are none: rules that need
    them are not checked, for that reason. Without stages a stage counts as started when its first impact starts.
    """
    return _judged(Listing(folder, read_manifest(folder), lacking), progress)


def _judged(listing: Listing, progress: Callable[[str, int, int], None] | None) -> Verdict:
    tally = _Tally(listing)
    testimony = Testimony.read(listing) if "resolved" in listing.readable else None
    if testimony is None:
        return Verdict(listing.folder, tally.results(testimony))
    whole = Whole(testimony, listing)
    in_step = InStep()
    parts = files_of_parts(listing)
    vm_count = sum(file.rows for files in parts for file in files)
    done = 0
    for part, cells, of_part in _in_turn_on_threads(partial(_judged_part, testimony, listing), parts):
        tally.add(of_part)
        for facts in cells:
            in_step.add(facts)
            whole.add_cell(facts)
        whole.add(part)
        done += part.row_count
        if progress is not None:
            progress("verify", done, vm_count)
    for walks in in_step.joined():
        tally.ask("walks", walks, walks.named)
        if (of_walks := WalkFacts.of(walks)) is not None:
            whole.add_walks(of_walks)
    tally.ask("run", whole, testimony.named)
    return Verdict(listing.folder, tally.results(testimony))


def _judged_part(
    testimony: Testimony, listing: Listing, files: Sequence[File]
) -> "tuple[PartFacts, list[CellFacts], _Tally]":
    """What the rules find in one part of the fleet, on any thread; the campaigns go by one at a time."""
    tally, part, facts = _Tally(listing), Part(testimony, listing, files), []
    for cell in part.cells():
        tally.ask("cell", cell, cell.named)
        walks = cell.walks if part.host is None else Hosts.met(cell)
        if "events" in listing.readable:
            tally.ask("walks" if part.host is None else "hosts", walks, walks.named)
        facts.append(CellFacts.of(cell, walks))
        part.note(cell)
    tally.ask("part", part, part.named)
    return PartFacts.of(part), facts, tally


def _in_turn_on_threads(task: Callable[[_Given], _Found], givens: Iterable[_Given]) -> Iterator[_Found]:
    """*task* of each of *givens*, in their order; no more are under way, or wait to be taken, than there are cores."""
    cores = os.cpu_count() or 1
    under_way: deque[Future[_Found]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for given in givens:
            if len(under_way) == cores:
                yield under_way.popleft().result()
            under_way.append(pool.submit(task, given))
        while under_way:
            yield under_way.popleft().result()


@dataclass(frozen=True, slots=True)
class _Query:
    """One query of a rule. Its rows are offenders; `over` names what it looks at: its length is counted."""

    rule: str
    sentence: str
    grain: str
    over: str
    needs: frozenset[str]
    offenders: Callable[[Any], pl.DataFrame]


_QUERIES: list[_Query] = []


def _rule(
    rule: str, grain: str, *, over: str, needs: str = ""
) -> Callable[[Callable[[Any], pl.DataFrame]], Callable[[Any], pl.DataFrame]]:
    """Register a query of *rule*, asked of each fleet part, each cell, each cell's walks, or once of the run.

    Its docstring opens with the sentence; where a rule has several queries, the first one's is the rule's.
    """

    def register(query: Callable[[Any], pl.DataFrame]) -> Callable[[Any], pl.DataFrame]:
        sentence = (query.__doc__ or "").strip().splitlines()[0].removesuffix(".")
        _QUERIES.append(_Query(rule, sentence, grain, over, frozenset(["fleet", *needs.split()]), query))
        return query

    return register


class _Tally:
    """Counts, and keeps the first offenders of, every rule."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._rows: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._shown: dict[str, list[dict[str, Any]]] = {}

    def ask(self, grain: str, subject: Any, named: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Put every query of *grain* whose tables are readable to *subject*."""
        for query in _QUERIES:
            if query.grain == grain and query.needs <= self._listing.readable:
                offenders = query.offenders(subject)
                shown = named(_first(offenders)).to_dicts() if len(offenders) else []
                self._add(query.rule, len(getattr(subject, query.over)), len(offenders), shown)

    def add(self, other: "_Tally") -> None:
        """Add what *other* counted of rows that come later."""
        for rule, rows in other._rows.items():
            self._add(rule, rows, other._counts[rule], other._shown[rule])

    def _add(self, rule: str, rows: int, count: int, shown: Iterable[Mapping[str, Any]]) -> None:
        self._rows[rule] = self._rows.get(rule, 0) + rows
        self._counts[rule] = self._counts.get(rule, 0) + count
        kept = self._shown.setdefault(rule, [])
        kept.extend(dict(row) for row in list(shown)[: OFFENDERS_SHOWN - len(kept)])

    def results(self, testimony: Testimony | None) -> tuple[RuleResult, ...]:
        listing = self._listing
        self._add("files", listing.entry_count, len(listing.problems), listing.problems)
        found = [self._result("files", _FILES_SENTENCE, listing.lacking.get("manifest"), is_partial=False)]
        queries: dict[str, list[_Query]] = {}
        for query in _QUERIES:
            queries.setdefault(query.rule, []).append(query)
        for rule, asked in sorted(queries.items(), key=lambda item: _number(item[0])):
            lacking = [
                frozenset(["resolved"]) if testimony is None else query.needs - listing.readable for query in asked
            ]
            found.append(self._result(rule, asked[0].sentence, self._why_not(lacking), is_partial=not all(lacking)))
        return tuple(found)

    def _why_not(self, lacking: Sequence[frozenset[str]]) -> str | None:
        """Why some query could not be asked, if so."""
        return next((self._listing.why_not(min(names)) for names in lacking if names), None)

    def _result(self, rule: str, sentence: str, reason: str | None, *, is_partial: bool) -> RuleResult:
        if reason is not None and not is_partial:
            return RuleResult(rule, sentence, "not checked", reason=reason)
        count, status = self._counts.get(rule, 0), "broken" if self._counts.get(rule, 0) else "kept"
        shown = tuple(self._shown.get(rule, ()))
        told = None if reason is None else f"in part: {reason}"
        return RuleResult(rule, sentence, status, self._rows.get(rule, 0), count, shown, told)


def rules() -> dict[str, str]:
    """What `verify` checks: rule -> the sentence that must hold, in the order in which a verdict tells them."""
    sentences = {"files": _FILES_SENTENCE}
    for query in sorted(_QUERIES, key=lambda query: _number(query.rule)):
        sentences.setdefault(query.rule, query.sentence)
    return sentences


def _number(rule: str) -> int:
    """Where *rule* stands in the verdict: `fleet`, which is about the input, before the numbered ones."""
    return int(rule[1:]) if rule[1:].isdigit() else 0


def _first(offenders: pl.DataFrame) -> pl.DataFrame:
    """The first few of *offenders*, the same ones at every reading: grouping leaves rows in no order."""
    order = [
        "campaign",
        "iteration",
        "region",
        "walk_row",
        "set_row",
        "unit_row",
        "vm_row",
        "start_ms",
        "figure",
        "path",
    ]
    by = [name for name in order if name in offenders.columns]
    by += [name for name in offenders.columns if name not in by]
    return offenders.sort(*by, nulls_last=True).head(OFFENDERS_SHOWN)


_FILES_SENTENCE = "Every file is the one the manifest lists: there, of its table, and with the same bytes"


@_rule("fleet", "part", over="fleet")
def _fleet_rows(part: Part) -> pl.DataFrame:
    """The fleet is whole: vm_row counts VMs from 0, a set lies in one part, a part in its region's folder."""
    wrong = (pl.col("region") != pl.col("folder_region")) | (pl.col("region") != part.region)
    if not part.is_whole:
        wrong |= pl.col("vm_row").is_duplicated()
    return part.fleet.filter(wrong).select("vm_row", "region", "folder_region")


@_rule("fleet", "run", over="fleet_ranges")
def _fleet_gaps(whole: Whole) -> pl.DataFrame:
    """Parts of the fleet follow one another without a gap."""
    expected = pl.col("high").shift(1, fill_value=-1) + 1
    return (
        whole.fleet_ranges.filter(pl.col("rows") > 0)
        .with_columns(expected_vm_row=expected, expected_rows=pl.col("high") - pl.col("low") + 1)
        .filter((pl.col("low") != pl.col("expected_vm_row")) | (pl.col("rows") != pl.col("expected_rows")))
    )


@_rule("fleet", "run", over="divided_sets")
def _fleet_divided(whole: Whole) -> pl.DataFrame:
    """No set is divided over two parts of the fleet."""
    return whole.divided_sets


@_rule("fleet", "run", over="fleet_digest")
def _fleet_asked_for(whole: Whole) -> pl.DataFrame:
    """The fleet is the one the manifest names by its digest, as its parts state theirs."""
    problem = pl.lit("fleet_digest is not that of its parts")
    return whole.fleet_digest.filter(pl.col("found") != pl.col("expected")).with_columns(problem=problem)


@_rule("fleet", "run", over="fleet_ranges")
def _fleet_vms_differ(whole: Whole) -> pl.DataFrame:
    """No VM is there twice."""
    return whole.repeated_vms.with_columns(problem=pl.lit("vm is there twice"))


@_rule("fleet", "part", over="vms")
def _fleet_lives(part: Part) -> pl.DataFrame:
    """Every VM is created before it is deleted."""
    if part.lifetimes is None:
        return part.vms.head(0).select("vm_row")
    created_ms, deleted_ms = part.lifetimes
    return part.vms.filter(pl.Series(created_ms >= deleted_ms)).select("vm_row", problem=pl.lit("never lives"))


@_rule("R31", "part", over="fleet")
def _domains_in_range(part: Part) -> pl.DataFrame:
    """Every VM of a set has an update domain from 0 to 19, so a set has at most 20, and a fault domain if any has."""
    domain = part.domains("update_domain")
    vms, outside = part.vms.select("vm_row"), domain >= UPDATE_DOMAIN_COUNT_MAX
    if part.column("fault_domain") is not None:
        fault_domain = part.domains("fault_domain")
        vms, outside = vms.with_columns(fault_domain=fault_domain), outside | (fault_domain >= UPDATE_DOMAIN_COUNT_MAX)
    return vms.filter(pl.Series((part.set_row >= 0) & outside))


@_rule("R32", "part", over="assigned")
def _default_domain_count(part: Part) -> pl.DataFrame:
    """A set that was given none has 5 update domains and 3 fault domains, or as many as it has VMs."""
    # Only where some VM is off the round robin can a set have more or fewer.
    by_set = part.misassigned.group_by("set_row", "column").agg(
        pl.col("vm_count", "domain_count").first(), found=pl.col("found").n_unique()
    )
    expected = pl.min_horizontal("vm_count", "domain_count").alias("expected")
    return by_set.with_columns(expected).filter(pl.col("found") != pl.col("expected")).drop("domain_count")


@_rule("R33", "part", over="assigned")
def _round_robin(part: Part) -> pl.DataFrame:
    """Assigned domains go round robin: the i-th VM of a set by id has domain i mod 5, fault domain i mod 3."""
    return part.misassigned.filter("is_off").select("set_row", "vm_row", "column", "found", "expected")


@_rule("R36", "part", over="scale_sets")
def _placement_groups(part: Part) -> pl.DataFrame:
    """Scale sets are walked by placement group, of at most 100 VMs each."""
    return part.scale_sets.filter(pl.col("vm_count") > PLACEMENT_GROUP_VMS).select("set_row", "vm_count")


def _first_problem(rows: pl.DataFrame, problems: Mapping[str, Bools]) -> pl.DataFrame:
    """The *rows* with one of *problems*, and the first of each row in words."""
    found = np.zeros(len(rows), np.uint8)
    for code, mask in reversed(list(enumerate(problems.values(), 1))):
        found[mask] = code
    bad = np.flatnonzero(found)
    names = ["", *problems]
    return rows[bad].with_columns(problem=pl.Series([names[code] for code in found[bad]], dtype=pl.String))


@_rule("R1", "run", over="windowed", needs="stages")
def _windows_in_order(whole: Whole) -> pl.DataFrame:
    """Notice, self-service window, scheduled window: in this order, each as long as the scenario says."""
    names = [name.removesuffix("_at") for name in WINDOWS]
    rows = []
    for row in whole.windowed.select(*STAGE, *(f"{name}_ms" for name in names)).rows():
        windows = whole.testimony.campaigns[row[0]].windows
        if None in row or windows is None:
            continue
        notice_ms, from_ms, until_ms, opens_ms, closes_ms = row[3:]
        spans = {
            "notice": (opens_ms - notice_ms, windows.lead_ms),
            "self-service window": (until_ms - from_ms, windows.self_service_ms),
            "gap": (opens_ms - until_ms, windows.gap_ms),
            "scheduled window": (closes_ms - opens_ms, windows.scheduled_ms),
        }
        rows += [(*row[:3], name, *found) for name, found in spans.items() if found[0] != found[1]]
    schema = {**STAGE_TYPES, "of": pl.String, "found_ms": pl.Int64, "expected_ms": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


@_rule("R2", "run", over="stages", needs="stages summary")
def _only_reboots_have_windows(whole: Whole) -> pl.DataFrame:
    """Stages of kinds that reboot have windows once announced; no others have."""
    started = whole.testimony.stage_times.select(*STAGE, "start_ms")
    stages = whole.testimony.of_campaign(whole.stages.join(started, on=STAGE, how="left"), "scheduled_ms")
    has_windows = pl.col("scheduled_ms").is_not_null() & pl.col("start_ms").is_not_null()
    is_wrong = pl.any_horizontal(pl.col(name).is_not_null() != has_windows for name in WINDOWS)
    return stages.filter(is_wrong).select(*STAGE, *WINDOWS)


@_rule("R3", "cell", over="announced", needs="events stages")
def _after_notice(cell: Cell) -> pl.DataFrame:
    """Every reboot by the platform follows its notice."""
    stage, windows = cell.stage, cell.campaign.windows
    notice_ms = 0 if windows is None or stage is None else (stage.start_ms or 0) - windows.lead_ms
    early = cell.announced.filter(pl.col("start_ms") < notice_ms)
    return early.select("vm_row", "start_ms", notice_ms=pl.lit(notice_ms))


@_rule("R12", "walks", over="windowed_spans", needs="events stages")
def _inside_window(walks: Walks) -> pl.DataFrame:
    """Platform work lies inside the scheduled window, until the last unit is through."""
    window = [None, None] if walks.stage is None else [walks.stage.start_ms, walks.stage.until_ms]
    opens_ms, closes_ms = (pl.lit(ms, pl.Int64) for ms in window)
    is_out = (pl.col("first_start_ms") < opens_ms) | (pl.col("end_ms") > closes_ms)
    told = {"scheduled_start_ms": opens_ms, "scheduled_end_ms": closes_ms}
    return walks.windowed_spans.filter(is_out).select("walk_row", "first_start_ms", "end_ms", **told)


@_rule("R12", "hosts", over="windowed_spans", needs="events stages")
def _hosts_inside_window(hosts: Hosts) -> pl.DataFrame:
    """The same of hosts."""
    return _inside_window(hosts)


@_rule("R51", "run", over="window_meetings", needs="stages pairs")
def _windows_apart(whole: Whole) -> pl.DataFrame:
    """Scheduled windows of a pair do not overlap, nor two in one region; self-service windows may."""
    return whole.window_meetings.filter(pl.col("start_ms_other") < pl.col("end_ms")).drop("lag_ms", "lag_ms_other")


@_rule("R4", "cell", over="events", needs="events")
def _inside_stage(cell: Cell) -> pl.DataFrame:
    """Every event is of a VM of the fleet that lives, and of its campaign, scope, region and stage."""
    events, stage, count = cell.events, cell.stage, len(cell.events)
    place, start_ms, end_ms = (events[name].to_numpy() for name in ("place", "start_ms", "end_ms"))
    is_odd = np.zeros(count, np.bool_)
    kinds = cell.campaign.kinds
    results = ["completed"] if cell.campaign.windows is None else ["completed", "aborted"]
    for column, known in (("phase", [cell.campaign.phase]), ("kind", kinds), ("result", results)):
        if set(events[column].unique().cast(pl.String).to_list()) - set(known):
            is_odd |= ~events[column].cast(pl.String).is_in(known).fill_null(value=False).to_numpy()
    begin_ms = cell.campaign.asked_ms if stage is None else stage.asked_ms
    stage_start_ms = None if stage is None else stage.start_ms
    problems = {
        "no such VM": place < 0,
        "is of a kind without impact": np.full(count, cell.campaign.kind not in IMPACTS),
        f"is no completed {' or '.join(kinds)} by the platform": is_odd,
        "lies in another region's folder": (events["folder_region"] != cell.part.region).to_numpy(),
        "its campaign has no stage there": np.full(count, stage is None)
        | (events["iteration"] != cell.iteration).to_numpy(),
        "its stage never started": np.full(count, stage_start_ms is None),
        "is of no VM the campaign selects": ~cell.selected[place],
        "starts before its stage": start_ms < max(begin_ms, begin_ms if stage_start_ms is None else stage_start_ms),
        "ends after its stage": end_ms > (NEVER_MS if stage is None or stage.end_ms is None else stage.end_ms),
    }
    if cell.part.lifetimes is not None:
        created_ms, deleted_ms = (each[place] for each in cell.part.lifetimes)
        # On a host it may come as long as that waits.
        since_ms = start_ms if cell.part.host is not None else stage_start_ms or 0
        problems["is of a VM created after its stage started"] = created_ms > since_ms
        problems["is of a VM that was gone"] = end_ms > deleted_ms
    if not any(mask.any() for mask in problems.values()):
        return events.head(0)
    found = _first_problem(events, problems)
    told = {"start_ms_stage": stage_start_ms, "end_ms_stage": None if stage is None else stage.end_ms}
    return found.select(
        "vm_row",
        "start_ms",
        "end_ms",
        *(pl.lit(value, pl.Int64).alias(name) for name, value in told.items()),
        "folder_region",
        "problem",
    )


@_rule("R4", "walks", over="spans", needs="events stages summary")
def _starts_within_spread(walks: Walks) -> pl.DataFrame:
    """A set or single first starts within `spread` of its stage's start."""
    if walks.stage is None or walks.stage.start_ms is None:
        return walks.spans.head(0)
    # Under caps, when its stage is over; in a window a single starts anywhere (R12).
    is_bound = pl.col("is_set") | pl.lit(walks.campaign.windows is None)
    held_up = pl.Series(walks.walk["is_held_up"])
    is_bound &= ~held_up.gather(walks.spans["walk_row"])
    late = walks.spans.filter((pl.col("first_start_ms") > walks.last_start_ms) & is_bound)
    told = {"start_ms_stage": walks.stage.start_ms, "spread_ms": walks.campaign.spread_ms}
    return late.select("walk_row", "first_start_ms", **{name: pl.lit(value) for name, value in told.items()})


@_rule("R4", "hosts", over="unclaimed", needs="events stages summary")
def _hosts_within_spread(hosts: Hosts) -> pl.DataFrame:
    """A host that carries no set waits for nothing but `spread`, caps, and zones that go before."""
    if hosts.stage is None or hosts.stage.start_ms is None:
        return hosts.unclaimed.head(0)
    late = hosts.unclaimed.filter(pl.col("first_start_ms") > hosts.last_free_start_ms)
    told = {"start_ms_stage": hosts.stage.start_ms, "spread_ms": hosts.campaign.spread_ms}
    return late.select("walk_row", "first_start_ms", **{name: pl.lit(value) for name, value in told.items()})


@_rule("R4", "run", over="stages", needs="events stages summary")
def _stages_sound(whole: Whole) -> pl.DataFrame:
    """A stage starts when it was asked for or later, in its wave; one with windows when the scheduled one opens."""
    stages = whole.stages.join(whole.testimony.stage_times, on=STAGE, how="left").join(
        whole.testimony.scope, on=STAGE, how="left", suffix="_asked"
    )
    problem = (
        pl.when(pl.col("start_ms") < pl.col("asked_ms"))
        .then(pl.lit("starts before it was asked for"))
        .when(pl.col("asked_ms") < pl.col("campaign_ms"))
        .then(pl.lit("is asked for before its campaign starts"))
        .when(pl.col("notice_ms") < pl.col("asked_ms"))
        .then(pl.lit("is announced before it was asked for"))
        .when(pl.col("scheduled_start_ms") != pl.col("start_ms"))
        .then(pl.lit("starts at another instant than its window"))
        .when(pl.col("wave") != pl.col("wave_asked"))
        .then(pl.lit("is of another wave than the scenario says"))
    )
    parameters = whole.testimony.parameters.select("campaign", campaign_ms="asked_ms")
    shown = [*STAGE, "start_ms", "asked_ms", "wave", *WINDOWS]
    stages = stages.join(parameters, on="campaign", how="left").with_columns(problem=problem)
    return stages.filter(pl.col("problem").is_not_null()).select(*shown, "problem")


@_rule("R4", "run", over="stray_events", needs="events")
def _stray_events(whole: Whole) -> pl.DataFrame:
    """No event is of a VM beyond the fleet, or of a campaign the scenario has not."""
    return whole.stray_events


@_rule("R2", "cell", over="requests", needs="events")
def _only_reboots_are_asked_for(cell: Cell) -> pl.DataFrame:
    """Only stages of kinds that reboot have requests of customers."""
    if cell.campaign.self_service is not None:
        return cell.requests.head(0)
    return cell.requests.select("vm_row", "start_ms", pl.col("result").cast(pl.String))


@_rule("R4", "cell", over="requests", needs="events")
def _requests_sound(cell: Cell) -> pl.DataFrame:
    """Every request is of a VM in scope that lives; what comes of it is a move, or nothing."""
    requests, stage, place = cell.requests, cell.stage, cell.requests["place"].to_numpy()
    result, count = requests["result"].cast(pl.String), len(requests)
    start_ms, end_ms, effects = (requests[name].to_numpy() for name in ("start_ms", "end_ms", "effects"))
    is_move = (result == "completed").to_numpy()
    problems = {
        "no such VM": place < 0,
        "is of no VM the campaign selects": ~cell.selected[place],
        "its stage was never announced": np.full(count, stage is None or stage.start_ms is None),
        "is of another iteration": (requests["iteration"] != cell.iteration).to_numpy(),
        "lies in another region's folder": (requests["folder_region"] != cell.part.region).to_numpy(),
        "is no redeploy": (requests["kind"].cast(pl.String) != "redeploy").to_numpy(),
        "ends as no request does": ~result.is_in(["completed", "aborted", "retry_later"]).to_numpy(),
        "lasts though nothing was done": ~is_move & (end_ms != start_ms),
        "has effects though nothing was done": ~is_move & (effects != 0),
    }
    if cell.part.lifetimes is not None:
        created_ms, deleted_ms = (each[place] for each in cell.part.lifetimes)
        problems["is of a VM that was not there"] = (start_ms < created_ms) | (start_ms >= deleted_ms)
        problems["goes on when its VM is gone"] = end_ms > deleted_ms
    found = _first_problem(requests, problems)
    return found.select("vm_row", "start_ms", "end_ms", pl.col("result").cast(pl.String), "problem")


@_rule("R7", "cell", over="awaited", needs="events stages")
def _left_alone_once_moved(cell: Cell) -> pl.DataFrame:
    """A VM that its customer moved, or failed to where that may not be tried again, has nothing further done to it."""
    outcome, at_ms = cell.settled
    later = np.flatnonzero(outcome[cell.place] >= 0)
    hit = cell.part.vms[cell.place[later]].select("vm_row", start_ms=pl.Series(cell.start_ms[later]))
    requests = cell.awaited.filter(pl.col("place") >= 0)
    place, start_ms = requests["place"].to_numpy(), requests["start_ms"].to_numpy()
    is_further = (outcome[place] >= 0) & (requests["end_ms"].to_numpy() > at_ms[place])
    is_further |= (
        (outcome[place] >= 0)
        & (start_ms >= at_ms[place])
        & (requests["result"].cast(pl.String) == "retry_later").to_numpy()
    )
    return pl.concat([hit, requests.filter(pl.Series(is_further)).select("vm_row", "start_ms")]).with_columns(
        problem=pl.lit("was settled by its customer")
    )


@_rule("R8", "cell", over="awaited", needs="events stages")
def _inside_their_window(cell: Cell) -> pl.DataFrame:
    """Customers start nothing outside their window."""
    stage, windows = cell.stage, cell.campaign.windows
    if stage is None or stage.start_ms is None or windows is None:
        return cell.awaited.head(0)
    closes_ms = stage.start_ms - windows.gap_ms
    opens_ms = closes_ms - windows.self_service_ms
    outside = cell.awaited.filter((pl.col("start_ms") < opens_ms) | (pl.col("start_ms") >= closes_ms))
    return outside.select(
        "vm_row", "start_ms", self_service_start_ms=pl.lit(opens_ms), self_service_end_ms=pl.lit(closes_ms)
    )


@_rule("R8", "cell", over="planned", needs="events stages")
def _by_plan(cell: Cell) -> pl.DataFrame:
    """Where customers have a plan, they ask for what it says, when it says, as long as nothing has come of it."""
    asked, made = cell.planned, cell.awaited.filter(pl.col("place") >= 0).select("vm_row", "start_ms")
    if cell.campaign.self_service is None or cell.campaign.self_service.plan is None:
        return made.head(0).with_columns(problem=pl.lit(""))
    key = ["vm_row", "start_ms"]
    unasked = made.join(asked, on=key, how="anti").with_columns(problem=pl.lit("is not in the plan"))
    missing = asked.join(made, on=key, how="anti").with_columns(problem=pl.lit("is in the plan and was not made"))
    return pl.concat([unasked, missing])


@_rule("R17", "cell", over="moves", needs="events effects")
def _moved_effects(cell: Cell) -> pl.DataFrame:
    """A move loses memory, host and a temporary disk if there is one; a dynamic address changes, no other does."""
    moves = cell.moves
    place = moves["place"].to_numpy()
    expected = np.full(len(place), int(MOVED), np.uint8)
    for name, denial, effect in (
        ("temp_disk_gib", 0.0, Effect.TEMP_DISK_LOST),
        ("dynamic_ip", False, Effect.ADDRESS_CHANGED),
    ):
        column = cell.part.column(name)
        had = np.ones(len(place), np.bool_) if column is None else (column != denial).fill_null(True).to_numpy()[place]
        expected[had] |= np.uint8(effect)
    effects = moves["effects"].to_numpy()
    is_cut = np.zeros(len(place), np.bool_)
    if cell.part.lifetimes is not None:
        is_cut = (moves["end_ms"].to_numpy() == cell.part.lifetimes[1][place]) & (effects == 0)
    wrong = moves.with_columns(effects_expected=pl.Series(expected)).filter(pl.Series((effects != expected) & ~is_cut))
    return wrong.select("vm_row", "start_ms", "effects", "effects_expected")


@_rule("R21", "run", over="rescheduled", needs="stages summary")
def _scheduled_anew(whole: Whole) -> pl.DataFrame:
    """Whoever was not updated is given a new schedule, announced `reschedule_delay` after the end of the last one."""
    stages = whole.stages.filter(pl.col("iteration") > FIRST_ITERATION).select(STAGE)
    expected = whole.testimony.scope.filter(pl.col("iteration") > FIRST_ITERATION).select(STAGE)
    missing = expected.join(stages, on=STAGE, how="anti").with_columns(problem=pl.lit("has no schedule"))
    needless = stages.join(expected, on=STAGE, how="anti").with_columns(problem=pl.lit("is scheduled for nothing"))
    late = whole.rescheduled.filter(pl.col("asked_ms") != pl.col("release_ms"))
    late = late.select(*STAGE, "asked_ms", expected_ms="release_ms", problem=pl.lit("is asked for at another instant"))
    return pl.concat([missing, needless, late], how="diagonal")


@_rule("R22", "cell", over="awaited", needs="events stages")
def _tries_of_one(cell: Cell) -> pl.DataFrame:
    """Of one VM at most one attempt is executed unless failures may be tried again, and it is asked for day by day."""
    asked = cell.campaign.self_service
    if asked is None:
        return cell.awaited.head(0)
    result = pl.col("result").cast(pl.String)
    ordered = cell.awaited.sort("vm_row", "start_ms").with_columns(
        since_ms=pl.col("start_ms") - _before(["vm_row"], "start_ms"),
        before=_before(["vm_row"], "result").cast(pl.String),
    )
    counted = ordered.with_columns(
        refusal_count=(result == "retry_later").cum_sum().over("vm_row"),
        attempt_count=(result != "retry_later").cum_sum().over("vm_row"),
    )
    again_ms = counted["start_ms"].to_numpy() + DAY_MS
    could_ask = np.zeros(len(again_ms), np.bool_)
    is_planned = pl.lit(asked.plan is not None)  # then nobody asks again but by that
    if cell.stage is not None and cell.stage.start_ms is not None and cell.campaign.windows is not None:
        could_ask = again_ms < cell.stage.start_ms - cell.campaign.windows.gap_ms
    if cell.part.lifetimes is not None:
        could_ask &= again_ms < cell.part.lifetimes[1][counted["place"].to_numpy()]
    is_last = pl.col("vm_row") != pl.col("vm_row").cast(pl.Int64).shift(-1).fill_null(-1)
    is_refused = (result == "retry_later") & (pl.col("refusal_count") <= REFUSALS_MAX)
    asks = is_refused | ((result == "aborted") & pl.lit(asked.retries))
    problem = (
        pl.when((pl.col("attempt_count") > 1) & pl.lit(not asked.retries))
        .then(pl.lit("is tried again"))
        .when((result == "aborted") & pl.lit(not asked.fails))
        .then(pl.lit("fails though none does"))
        .when((pl.col("since_ms") != DAY_MS) & ~is_planned)
        .then(pl.lit("is asked for at another time than a day later"))
        .when((pl.col("refusal_count") > REFUSALS_MAX + 1) & ~is_planned)
        .then(pl.lit("is asked for after too many refusals"))
        .when(is_last & asks & pl.Series(could_ask) & ~is_planned)
        .then(pl.lit("is not asked for again"))
    )
    wrong = counted.with_columns(problem=problem).filter(pl.col("problem").is_not_null())
    return wrong.select("vm_row", "start_ms", result, "problem")


@_rule("R25", "run", over="room", needs="events stages")
def _room_kept(whole: Whole) -> pl.DataFrame:
    """Customers' moves take no more room than there is; none is refused where there is room, or granted when barred."""
    return whole.room.filter("is_wrong").drop("is_wrong")


def _wrong_moves(part: Part, rule: str) -> pl.DataFrame:
    return part.judged_requests.filter(pl.col("rule") == rule).drop("rule")


@_rule("R15", "part", over="asked_on_hosts", needs="events stages")
def _moved_to_updated_hosts(part: Part) -> pl.DataFrame:
    """Who moves goes to another host of the cluster, spare or emptied and updated before; nobody else leaves."""
    return _wrong_moves(part, "R15")


@_rule("R24", "part", over="asked_on_hosts", needs="events stages")
def _no_host_overfull(part: Part) -> pl.DataFrame:
    """No host takes more VMs than it has room for, those on their way to it included."""
    return _wrong_moves(part, "R24")


@_rule("R25", "part", over="asked_on_hosts", needs="events stages")
def _first_host_with_room(part: Part) -> pl.DataFrame:
    """With hosts: who asks goes to the first that has room, and nobody is refused where one has."""
    return _wrong_moves(part, "R25")


@_rule("R5", "cell", over="outcomes", needs="outcomes")
def _one_outcome(cell: Cell) -> pl.DataFrame:
    """Every VM selected ends an iteration in exactly one outcome: the one its dates, its size and its event tell."""
    outcomes, place = cell.outcomes, cell.outcomes["place"].to_numpy()
    outcome, reason, or_else = cell.expected_outcomes
    code, reason_code = outcomes["outcome_code"].to_numpy(), outcomes["reason_code"].to_numpy()
    known = place >= 0
    found = np.bincount(place[known], minlength=len(cell.part.vms))
    is_for_window = (code == Outcome.OVERDUE) & (reason_code == Reason.NO_ROOM_IN_WINDOW)
    is_told = np.where(code == Outcome.OVERDUE, is_for_window, reason_code == Reason.NONE)
    does_as_well = (or_else[place] >> np.minimum(code, len(Outcome)) & 1 > 0) & is_told
    if cell.campaign.windows is not None and "events" not in cell.part.listing.readable:
        does_as_well |= is_for_window
    problems = {
        "is of no VM of the fleet": ~known,
        "is of another iteration": (outcomes["iteration"] != cell.iteration).to_numpy(),
        "is of no VM the campaign selects": known & ~cell.selected[place],
        "is one of several": known & (found[place] > 1),
        "is another than expected": ((code != outcome[place]) | (reason_code != reason[place])) & ~does_as_well,
    }
    missing = np.flatnonzero(cell.selected & (found == 0))
    if not len(missing) and not any(mask.any() for mask in problems.values()):
        return outcomes.head(0)
    expected_words, reason_words = np.array(words(Outcome)), np.array(words(Reason))
    bad = _first_problem(outcomes, problems)
    at = bad["place"].to_numpy()
    told = bad.select(
        "vm_row",
        pl.col("outcome", "reason").cast(pl.String),
        "problem",
        found=pl.Series(found[at], dtype=pl.Int64),
        outcome_expected=pl.Series(expected_words[outcome[at]], dtype=pl.String),
        reason_expected=pl.Series(reason_words[reason[at]], dtype=pl.String),
    )
    lost = cell.part.vms[missing].select(
        "vm_row",
        outcome=pl.lit(None, pl.String),
        reason=pl.lit(None, pl.String),
        problem=pl.lit("has no outcome"),
        found=pl.lit(0, pl.Int64),
        outcome_expected=pl.Series(expected_words[outcome[missing]], dtype=pl.String),
        reason_expected=pl.Series(reason_words[reason[missing]], dtype=pl.String),
    )
    return pl.concat([told, lost])


@_rule("R5", "run", over="stray_outcomes", needs="outcomes")
def _stray_outcomes(whole: Whole) -> pl.DataFrame:
    """No outcome is of a VM beyond the fleet, or of a campaign the scenario has not."""
    return whole.stray_outcomes


@_rule("R6", "cell", over="events", needs="events")
def _updated_once(cell: Cell) -> pl.DataFrame:
    """A VM is updated at most once in an iteration."""
    felt = cell.felt
    if not felt.is_repeated:
        return cell.part.vms.head(0)
    rows = np.flatnonzero(felt.event_count > 1)
    return cell.part.vms[rows].select("vm_row", event_count=pl.Series(felt.event_count[rows]))


@_rule("R13", "run", over="calendar", needs="stages summary")
def _complete(whole: Whole) -> pl.DataFrame:
    """Nothing is overdue but what would have ended after the horizon, and nothing ends after it."""
    horizon_ms = whole.testimony.horizon_ms
    late = pl.lit(horizon_ms is not None) & (pl.col("free_ms") > (NEVER_MS if horizon_ms is None else horizon_ms))
    may_be = pl.col("scheduled_ms").is_not_null() & pl.col("start_ms").is_not_null()  # with units too long for it
    problem = (
        pl.when((pl.col("overdue_count") > 0) & pl.lit(horizon_ms is None) & ~may_be)
        .then(pl.lit("is overdue without a horizon"))
        .when((pl.col("overdue_count") > 0) & pl.col("start_ms").is_not_null() & ~may_be)
        .then(pl.lit("is overdue though it started"))
        .when(late)
        .then(pl.lit("ends after the horizon"))
    )
    shown = [*STAGE, "start_ms", "free_ms", "overdue_count", "problem"]
    stages = whole.testimony.of_campaign(whole.calendar, "scheduled_ms")
    return stages.with_columns(problem=problem).filter(pl.col("problem").is_not_null()).select(shown)


@_rule("R13", "run", over="overdue", needs="stages summary")
def _not_for_nothing(whole: Whole) -> pl.DataFrame:
    """A stage that is overdue would not have fitted before the horizon."""
    horizon_ms = whole.testimony.horizon_ms
    fits = pl.lit(horizon_ms is not None) & (pl.col("end_ms_max") <= (horizon_ms or 0))
    return whole.overdue.filter(fits).with_columns(problem=pl.lit("would have fitted"), horizon_ms=pl.lit(horizon_ms))


@_rule("R13", "cell", over="announced", needs="events stages")
def _tried_in_time(cell: Cell) -> pl.DataFrame:
    """A try that fails is made again at once, as long as the time-out allows, and no longer."""
    windows, events = cell.campaign.windows, cell.announced.filter(pl.col("place") >= 0)
    is_aborted = pl.col("result").cast(pl.String) == "aborted"
    if windows is None or not (windows.fails or len(events.filter(is_aborted))):
        return events.head(0).select("vm_row", "start_ms")
    rows = events.sort("vm_row", "start_ms").with_columns(
        number=pl.int_range(pl.len()).over("vm_row"),
        since_ms=pl.col("start_ms") - pl.col("start_ms").first().over("vm_row"),
        is_last=pl.col("vm_row") != pl.col("vm_row").shift(-1),
        end_ms_before=pl.when(pl.col("vm_row") == pl.col("vm_row").shift(1)).then(pl.col("end_ms").shift(1)),
    )
    stays = np.ones(len(rows), np.bool_)
    if cell.part.lifetimes is not None:
        stays = rows["end_ms"].to_numpy() < cell.part.lifetimes[1][rows["place"].to_numpy()]
    has_time = pl.col("since_ms") + pl.col("duration_ms") <= windows.retry_timeout_ms
    may_follow = has_time & (pl.col("number") + 1 < TRIES_MAX) & pl.Series(stays)
    problem = (
        pl.when(is_aborted & pl.lit(not windows.fails))
        .then(pl.lit("fails though none does"))
        .when((pl.col("number") > 0) & (pl.col("since_ms") > windows.retry_timeout_ms))
        .then(pl.lit("begins after the time-out"))
        .when(pl.col("number") >= TRIES_MAX)
        .then(pl.lit("is one try too many"))
        .when(pl.col("start_ms") > pl.col("end_ms_before"))
        .then(pl.lit("begins after a pause"))
        .when(is_aborted & pl.col("is_last").fill_null(value=True) & may_follow)
        .then(pl.lit("is not tried again"))
    )
    wrong = rows.with_columns(problem=problem).filter(pl.col("problem").is_not_null())
    return wrong.select("vm_row", "start_ms", "end_ms", "problem")


def _before(by: Sequence[str], column: str) -> pl.Expr:
    """*column* of the row before, where that is of the same *by*, else null."""
    is_same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in by)
    return pl.when(is_same).then(pl.col(column).shift(1))


def _in_turn(
    visits: pl.DataFrame, clear_ms: pl.Expr, is_off: Callable[[pl.Expr], pl.Expr], of: str = "walk_row"
) -> pl.DataFrame:
    """Visits whose start is off the latest *clear_ms* of earlier visits *of* the same walk, or set.

    The result has that instant as `clear_ms` and the domain it is of as `domain_before`. Only where some visit is
    off its predecessor can one be off an earlier visit: the few such walks get the exact look.
    """
    visits = visits.with_columns(clear_ms=clear_ms)
    suspects = visits.filter(is_off(_before([of], "clear_ms"))).select(of).unique()
    latest = (pl.col("clear_ms") * 256 + pl.col("domain")).cum_max().shift(1).over(of)
    return (
        visits.join(suspects, on=of, how="semi", maintain_order="left")
        .with_columns(latest=latest)
        .with_columns(clear_ms=pl.col("latest") // 256, domain_before=pl.col("latest") % 256)
        .filter(is_off(pl.col("clear_ms")))
        .select(*dict.fromkeys([of, "walk_row"]), "domain", "start_ms", "domain_before", "clear_ms")
    )


def _too_close(walks: Walks, clear_ms: pl.Expr) -> pl.DataFrame:
    """Visits that start while an earlier visit of the same walk, in another domain, is not yet clear.

    One that is hidden by a visit of its own domain that lasts longer is not listed, but that visit is.
    """
    early = _in_turn(walks.set_visits, clear_ms, lambda cleared_ms: pl.col("start_ms") < cleared_ms)
    return early.filter(pl.col("domain") != pl.col("domain_before"))


@_rule("R26", "walks", over="set_visits", needs="events")
def _one_domain_at_work(walks: Walks) -> pl.DataFrame:
    """Of a set, at most one domain has platform work in progress at any instant."""
    return _too_close(walks, pl.col("end_ms"))


@_rule("R27", "walks", over="set_visits", needs="events")
def _all_back(walks: Walks) -> pl.DataFrame:
    """All VMs of a domain are back before the next domain of the set starts."""
    return _too_close(walks, pl.col("impact_end_ms"))


@_rule("R28", "walks", over="set_visits", needs="events")
def _gap_kept(walks: Walks) -> pl.DataFrame:
    """Between two domains of a set lies at least the gap asked for."""
    return _too_close(walks, pl.col("end_ms") + walks.campaign.gap_ms)


def _hosts_too_close(hosts: Hosts, clear_ms: pl.Expr) -> pl.DataFrame:
    """Hosts that start while a set on them is not yet clear of another of its domains.

    One that hits several domains of the set, before or after, may share it with no other.
    """
    early = _in_turn(hosts.set_visits, clear_ms, lambda cleared_ms: pl.col("start_ms") < cleared_ms, "set_row")
    return early.filter((pl.col("domain") != pl.col("domain_before")) | (pl.col("domain") == SEVERAL))


@_rule("R26", "hosts", over="set_visits", needs="events")
def _one_domain_on_hosts(hosts: Hosts) -> pl.DataFrame:
    """The same with hosts: each of its hosts is at work on that domain, or the only one of the set."""
    return _hosts_too_close(hosts, pl.col("end_ms"))


@_rule("R28", "hosts", over="set_visits", needs="events")
def _gap_kept_on_hosts(hosts: Hosts) -> pl.DataFrame:
    """The same with hosts: from the last of them that is at work on one domain to the first on another."""
    return _hosts_too_close(hosts, pl.col("end_ms") + hosts.campaign.gap_ms)


@_rule("R29", "walks", over="units", needs="events")
def _visited_once(walks: Walks) -> pl.DataFrame:
    """Every domain and single in scope is visited once in an iteration, with all its VMs that are still there."""
    is_once = (pl.col("visit_count") == 1) & (pl.col("vm_hit_count") == pl.col("expected_count"))
    return walks.units.filter(~is_once & ~pl.col("is_excused")).drop("is_excused")


@_rule("R30", "walks", over="walk_frame", needs="events")
def _order_kept(walks: Walks) -> pl.DataFrame:
    """A set walks a permutation of its populated domains, in the order asked for."""
    visits = walks.set_visits
    if walks.ranks is not None:
        ranks = walks.units.select("walk_row", "domain").with_columns(rank=pl.Series(walks.ranks, dtype=pl.Int64))
        visits = visits.join(ranks, on=["walk_row", "domain"], how="left", maintain_order="left")
    else:
        visits = visits.with_columns(rank=pl.lit(None, pl.Int64))
    visits = visits.with_columns(
        is_out_of_order=(pl.col("rank") < _before(["walk_row"], "rank")).fill_null(value=False)
    )
    walk_row, walk_count = visits["walk_row"].to_numpy(), len(walks.domain_count)
    key = np.sort(walk_row * 256 + visits["domain"].to_numpy())
    counted = {
        "visit_count": np.bincount(walk_row, minlength=walk_count),
        "visited_count": np.bincount(key[np.diff(key, prepend=-1) != 0] // 256, minlength=walk_count),
        "due_count": walks.domain_count - np.bincount(walks.unit["walk"][walks.is_excused], minlength=walk_count),
    }
    expected = walks.walk_frame
    rows = expected["walk_row"].to_numpy()
    visit_count, visited_count, due_count = (each[rows] for each in counted.values())
    is_off = (visit_count != due_count) | (visited_count != due_count)
    out_of_order = visits.filter("is_out_of_order")["walk_row"].to_numpy()
    is_off |= np.isin(rows, out_of_order) if len(out_of_order) else False
    wrong = expected.filter(pl.Series(is_off, dtype=pl.Boolean))
    visited = visits.join(wrong, on="walk_row", how="semi", maintain_order="left")
    visited = visited.group_by("walk_row", maintain_order=True).agg(visited=pl.col("domain"))
    return wrong.join(visited, on="walk_row", how="left", maintain_order="left").select(
        "walk_row", "visited", "domain_count", order=pl.lit(walks.campaign.order)
    )


@_rule("R34", "cell", over="set_states", needs="events")
def _one_vm_up(cell: Cell) -> pl.DataFrame:
    """A set with living VMs in two or more domains, not all on one host, has one that platform work leaves up."""
    is_out = pl.col("has_two_domains") & (pl.col("down") >= pl.col("vm_count"))
    return cell.set_states.filter(is_out, ~pl.col("is_one_host")).select("set_row", "at_ms", "down", "vm_count")


@_rule("R35", "cell", over="set_states", needs="events")
def _one_domain_down(cell: Cell) -> pl.DataFrame:
    """Of a set, platform work takes down VMs of at most one domain, or of one host, at any instant."""
    differ = cell.set_states.filter(~pl.col("is_one_domain"), ~pl.col("is_one_host"))
    return differ.select("set_row", "at_ms", "down")


@_rule("R38", "part", over="vms", needs="no_guarantee summary")
def _no_guarantee_listed(part: Part) -> pl.DataFrame:
    """Sets in scope with one living VM, one domain of them, or a host with two, are listed as no_guarantee."""
    if part.is_unsure_of_customers:
        return part.listed.head(0)
    expected = part.weak_sets.with_columns(is_expected=True)
    listed = part.listed.group_by("set_row", "reason").agg(row_count=pl.len())
    both = expected.join(listed, on=["set_row", "reason"], how="full", coalesce=True)
    problem = (
        pl.when(pl.col("is_expected").is_null())
        .then(pl.lit("is listed in vain"))
        .when(pl.col("row_count").is_null())
        .then(pl.lit("is not listed"))
        .when(pl.col("row_count") > 1)
        .then(pl.lit("is listed twice"))
    )
    return both.with_columns(problem=problem).filter(pl.col("problem").is_not_null()).drop("is_expected", "row_count")


@_rule("R38", "run", over="listed_left", needs="no_guarantee summary")
def _no_guarantee_strays(whole: Whole) -> pl.DataFrame:
    """No set is listed as without guarantee that the fleet does not have."""
    return whole.listed_left.with_columns(problem=pl.lit("no such set"))


@_rule("R39", "cell", over="fault_domain_states", needs="events")
def _one_fault_domain_down(cell: Cell) -> pl.DataFrame:
    """Where fault domains are walked, VMs of at most one of a set, or of one host, are down at any instant."""
    differ = cell.fault_domain_states.filter(~pl.col("is_one_domain"), ~pl.col("is_one_host"))
    return differ.select("set_row", "at_ms", "down")


@_rule("R40", "walks", over="set_visits", needs="events")
def _no_time_lost(walks: Walks) -> pl.DataFrame:
    """The next domain of a set starts as soon as the gap is over: an empty one costs neither time nor gap."""
    if walks.may_wait:
        return walks.set_visits.head(0)
    clear_ms = pl.col("end_ms_max") + walks.campaign.gap_ms
    held_up = pl.Series(walks.walk["is_held_up"]).gather(walks.set_visits["walk_row"])  # until moves are over
    return _in_turn(walks.set_visits.filter(~held_up), clear_ms, lambda cleared_ms: pl.col("start_ms") > cleared_ms)


@_rule("R41", "cell", over="events", needs="events effects")
def _keeps_state(cell: Cell) -> pl.DataFrame:
    """Impacts leave behind no more than their kind does: a freeze keeps memory, host, temporary disk and addresses."""
    others = pl.lit(~int(cell.campaign.effects) & 0xFF, pl.UInt8)
    if cell.campaign.reboot_sizes:
        is_reboot = pl.col("kind").cast(pl.String) == "reboot"
        others = pl.when(is_reboot).then(pl.lit(~int(Effect.MEMORY_LOST) & 0xFF, pl.UInt8)).otherwise(others)
    if cell.campaign.windows is not None:  # who was tried in vain has not moved
        in_vain = pl.lit(~int(Effect.MEMORY_LOST) & 0xFF, pl.UInt8)
        others = pl.when(pl.col("result").cast(pl.String) == "aborted").then(in_vain).otherwise(others)
    lost = cell.events.filter(pl.col("effects") & others != 0)
    return lost.select("vm_row", "start_ms", "effects")


@_rule("R41", "cell", over="events_on_hosts", needs="events effects")
def _keeps_host(cell: Cell) -> pl.DataFrame:
    """On hosts, its own: of whom the platform updates in place that is told, and where a redeploy leads is not."""
    return cell.strayed.select("vm_row", "start_ms", "host_from", "host_to")


@_rule("R44", "cell", over="events_on_hosts", needs="events")
def _left_out(cell: Cell) -> pl.DataFrame:
    """And none where one was skipped: its host is left out."""
    rows = np.flatnonzero(cell.left_out[cell.place])
    return cell.part.vms[cell.place[rows]].select("vm_row", start_ms=pl.Series(cell.start_ms[rows]))


@_rule("R42", "cell", over="events", needs="events")
def _length_in_bounds(cell: Cell) -> pl.DataFrame:
    """Every impact is as long as its campaign's length, and its size's family, allows."""
    felt = cell.felt.tries
    low, high = (length[felt.place] for length in cell.lengths_ms)
    duration_ms = felt.duration_ms
    outside = ((duration_ms < np.maximum(low, 1)) | (duration_ms > high)) & ~felt.is_cut
    rows = np.flatnonzero(outside)
    return cell.part.vms[felt.place[rows]].select(
        "vm_row",
        start_ms=pl.Series(felt.start_ms[rows]),
        duration_ms=pl.Series(duration_ms[rows]),
        length_ms_min=pl.Series(low[rows]),
        length_ms_max=pl.Series(high[rows]),
    )


@_rule("R43", "cell", over="events", needs="events effects")
def _clock_synchronised(cell: Cell) -> pl.DataFrame:
    """And no less: the clock is synchronised when a frozen VM resumes, a reboot loses the memory."""
    tries, least = cell.tries, int(cell.campaign.effects_least)
    wanted = np.where(cell.is_down, int(Effect.MEMORY_LOST), least) if cell.campaign.reboot_sizes else least
    wanted = np.where(tries.is_aborted, int(Effect.MEMORY_LOST), wanted)
    rows = np.flatnonzero((tries.effects & wanted != wanted) & (~tries.is_cut | tries.is_aborted))
    return cell.part.vms[tries.place[rows]].select(
        "vm_row", start_ms=pl.Series(tries.start_ms[rows]), effects=pl.Series(tries.effects[rows])
    )


@_rule("R44", "hosts", over="units", needs="events")
def _whole_hosts(hosts: Hosts) -> pl.DataFrame:
    """A host is updated once in an iteration: all VMs on it that are there are hit, and start together."""
    is_once = (pl.col("visit_count") == 1) & (pl.col("vm_hit_count") == pl.col("expected_count"))
    return hosts.units.filter(~is_once & ~pl.col("is_excused")).drop("is_excused", "domain", "vm_count")


@_rule("R45", "cell", over="left_alone", needs="events")
def _not_frozen(cell: Cell) -> pl.DataFrame:
    """A VM of a size that cannot keep its memory is not frozen; where such VMs are rebooted, no others are."""
    is_wrong = ~cell.can_freeze[cell.place]
    if cell.campaign.reboot_sizes:
        is_wrong |= cell.is_down != cell.reboots[cell.place]
    rows = np.flatnonzero(is_wrong)
    return cell.part.vms[cell.place[rows]].select("vm_row", start_ms=pl.Series(cell.start_ms[rows]))


@_rule("R45", "cell", over="left_alone", needs="outcomes")
def _unaffected(cell: Cell) -> pl.DataFrame:
    """Who is `unaffected` is so for a reason: its size, or a kind of campaign without impact."""
    outcomes = cell.outcomes_here
    place, reason = outcomes["place"].to_numpy(), outcomes["reason_code"].to_numpy()
    expected = np.where(
        outcomes["outcome_code"].to_numpy() != Outcome.UNAFFECTED,
        Reason.NONE,
        Reason.CANNOT_FREEZE if cell.campaign.kind in IMPACTS else Reason.NO_IMPACT,
    )
    is_wrong = np.isin(reason, [Reason.NO_IMPACT, Reason.CANNOT_FREEZE, Reason.NONE]) & (reason != expected)
    is_overdue = outcomes["outcome_code"].to_numpy() == Outcome.OVERDUE
    is_odd = (expected == Reason.CANNOT_FREEZE) & cell.can_freeze[place]
    if cell.campaign.reboot_sizes:
        reboots = cell.reboots[place]
        # Whoever is rebooted is down, and only they are.
        is_odd |= np.where(reboots, outcomes["paused_ms"].to_numpy(), outcomes["down_ms"].to_numpy()) > 0
    rows = np.flatnonzero((is_wrong & ~is_overdue) | is_odd)
    return outcomes[rows].select("vm_row", pl.col("outcome", "reason").cast(pl.String))


@_rule("R48", "part", over="happened", needs="events")
def _no_overlap(part: Part) -> pl.DataFrame:
    """Impacts of one VM never overlap, over all campaigns."""
    # If any two overlap then so do two that follow one another.
    return (
        part.impacts.sort("vm_row", "start_ms", "end_ms")
        .with_columns(end_ms_before=_before(["vm_row"], "end_ms"))
        .filter(pl.col("start_ms") < pl.col("end_ms_before"))
    )


@_rule("R49", "run", over="stage_meetings", needs="stages summary pairs")
def _pairs_apart(whole: Whole) -> pl.DataFrame:
    """Two regions of a pair are never at work together, nor two stages in one region, over all campaigns."""
    meetings = whole.stage_meetings.filter(pl.col("start_ms_other") < pl.col("end_ms"))
    return meetings.drop("lag_ms", "lag_ms_other").with_columns(seen=pl.lit("stages"))


@_rule("R49", "run", over="event_meetings", needs="events pairs")
def _pairs_apart_in_events(whole: Whole) -> pl.DataFrame:
    """The same, judged on impacts."""
    meetings = whole.event_meetings.filter(pl.col("start_ms_other") < pl.col("end_ms"))
    return meetings.drop("lag_ms", "lag_ms_other").with_columns(seen=pl.lit("events"))


def _lagging(meetings: pl.DataFrame) -> pl.DataFrame:
    """Meetings of neighbours of which the second starts before the larger lag of both campaigns has passed."""
    lag_ms = pl.max_horizontal("lag_ms", "lag_ms_other")
    of_pairs = meetings.with_columns(lag_ms=lag_ms).filter(pl.col("region") != pl.col("region_other"))
    return of_pairs.filter(pl.col("lag_ms") > 0, pl.col("start_ms_other") < pl.col("end_ms") + pl.col("lag_ms")).drop(
        "lag_ms_other"
    )


@_rule("R53", "run", over="zone_spans", needs="events")
def _one_zone_at_work(whole: Whole) -> pl.DataFrame:
    """Where zones take turns, by name, work in one starts when all of the one before is through."""
    before_ms = pl.col("last_end_ms").cum_max().shift(1).over(STAGE)
    early = whole.zone_spans.with_columns(before_end_ms=before_ms).filter(
        pl.col("first_start_ms") < pl.col("before_end_ms")
    )
    return early.rename({"zone": "zone_place"})


@_rule("R54", "run", over="stage_meetings", needs="stages summary pairs")
def _lag_kept(whole: Whole) -> pl.DataFrame:
    """Between the work in two regions of a pair lies the larger pair_lag of the two campaigns."""
    return _lagging(whole.stage_meetings).with_columns(seen=pl.lit("stages"))


@_rule("R54", "run", over="event_meetings", needs="events pairs")
def _lag_kept_in_events(whole: Whole) -> pl.DataFrame:
    """The same, judged on impacts."""
    return _lagging(whole.event_meetings).with_columns(seen=pl.lit("events"))


@_rule("R50", "run", over="calendar", needs="stages summary pairs")
def _not_serialised(whole: Whole) -> pl.DataFrame:
    """A stage starts at the first instant at which no other keeps it out."""
    late = whole.calendar.filter(pl.col("start_ms") > pl.col("first_ms"))
    return late.select(*STAGE, "asked_ms", "start_ms", first_ms="first_ms", problem=pl.lit("starts late"))


@_rule("R50", "cell", over="unstarted", needs="stages summary pairs")
def _never_started(cell: Cell) -> pl.DataFrame:
    """A stage that never starts had nobody to hit when it was asked for, or no room before the horizon."""
    return cell.unstarted.filter("is_hittable").drop("is_hittable").with_columns(problem=pl.lit("never started"))


@_rule("R50", "run", over="calendar", needs="stages summary pairs")
def _waves_released(whole: Whole) -> pl.DataFrame:
    """A wave is released when the one before is over and has baked."""
    wrong = whole.calendar.filter(pl.col("asked_ms") != pl.col("release_ms"), pl.col("iteration") == FIRST_ITERATION)
    return wrong.select(*STAGE, "wave", "asked_ms", "release_ms", problem=pl.lit("is released at another instant"))


@_rule("R55", "hosts", over="units", needs="events")
def _only_forward(hosts: Hosts) -> pl.DataFrame:
    """Host states only go forward: no VM of a host is hit before its one update, or after it."""
    return hosts.returns


@_rule("R57", "hosts", over="set_visits", needs="events")
def _steps_legal(hosts: Hosts) -> pl.DataFrame:
    """A host starts only when each set on it is clear of its other domains, their gap included."""
    early = _hosts_too_close(hosts, pl.col("end_ms") + hosts.campaign.gap_ms)
    return early.unique("walk_row", maintain_order=True).select("walk_row", "start_ms", "clear_ms")


@_rule("R70", "run", over="capped_units", needs="events")
def _caps_kept(whole: Whole) -> pl.DataFrame:
    """Under each cap no more VMs, or hosts, are at work than it allows, but for a single unit that is larger."""
    return whole.overloads


@_rule("R74", "cell", over="outcomes", needs="events outcomes stages summary")
def _outcome_totals(cell: Cell) -> pl.DataFrame:
    """Totals per VM, region and campaign equal a second computation from the events, to the millisecond."""
    outcomes = cell.outcomes_here
    place = outcomes["place"].to_numpy()
    figures: dict[str, npt.NDArray[Any]] = {
        "event_count": cell.row_count,
        "paused_ms": cell.felt.paused_ms,
        "down_ms": cell.felt.down_ms,
        "effects": cell.felt.effects,
    }
    expected = {figure: values[place] for figure, values in figures.items()}
    differs = [outcomes[figure].to_numpy() != values for figure, values in expected.items()]
    rows = np.flatnonzero(np.logical_or.reduce(differs))
    told = {f"{figure}_expected": pl.Series(expected[figure][rows]) for figure in figures}
    return outcomes[rows].select("vm_row", *expected).with_columns(**told)


def _differences(expected: pl.DataFrame, found: pl.DataFrame, needed: Sequence[str]) -> pl.DataFrame:
    """Figures that differ or are told twice. An absent one counts as 0, but *needed* ones must be there.

    *expected* has values and, where more than one will do, the greatest as `value_max`.
    """
    key = [*STAGE, "figure", "bin_start_ms"]
    if "value_max" not in expected.columns:
        expected = expected.with_columns(value_max="value")
    expected = expected.select(*key, expected="value", expected_max="value_max")
    told_once = found.group_by(key).agg(pl.col("value").first(), row_count=pl.len())
    both = expected.join(told_once, on=key, how="full", coalesce=True, nulls_equal=True)
    is_missing = pl.col("figure").is_in(needed) & pl.col("value").is_null() & pl.col("expected").is_not_null()
    # Whole numbers are compared to the last; a ratio may be off by how its quotient was rounded.
    slack = pl.when(pl.col("figure").str.contains("ratio")).then(1e-12).otherwise(0.0)
    value, low, high = (pl.col(name).fill_null(0) for name in ("value", "expected", "expected_max"))
    is_near = (value >= low - slack) & (value <= high + slack)  # false of what is no number
    wrong = both.filter(
        ~is_near | pl.col("value").is_nan().fill_null(value=False) | is_missing | (pl.col("row_count") > 1)
    )
    return wrong.drop("row_count", "expected_max")


@_rule("R74", "run", over="stages_told", needs="events stages summary")
def _stage_totals(whole: Whole) -> pl.DataFrame:
    """Every stage there must be is there once, with the counts and times of its events and outcomes."""
    times = {"first_start_ms": "first_start_ms", "end_ms": "last_end_ms"}
    one = {"figure": pl.lit("stage_count"), "bin_start_ms": pl.lit(None, pl.Int64), "value": pl.lit(1.0)}
    expected = whole.figures.filter(pl.col("figure").is_in([*OUTCOME_COUNTS, *times]))
    scope = whole.testimony.scope.select(*STAGE, **one).with_columns(value_max="value")
    return _differences(
        pl.concat([expected.with_columns(pl.col("figure").replace(times)), scope]),
        pl.concat([whole.stages_told, whole.testimony.stages.select(*STAGE, **one)]),
        list(times.values()),
    )


@_rule("R74", "run", over="summary", needs="events stages summary")
def _summary_totals(whole: Whole) -> pl.DataFrame:
    """Every figure of the summary that events can tell is what they tell."""
    testimony = whole.testimony
    single = {"bin_start_ms": pl.lit(None, pl.Int64)}
    asked = whole.calendar.select(*STAGE, **single, figure=pl.lit("asked_ms"), value="asked_ms")
    # When its region was taken is the calendar's to say: here it must only be there.
    taken = whole.calendar.filter(pl.col("start_ms").is_not_null())
    taken = taken.select(*STAGE, **single, figure=pl.lit("start_ms"), value="start_ms")
    recomputed = whole.figures.filter(~pl.col("figure").is_in([*OUTCOME_COUNTS, *OUTAGES]))
    told = testimony.summary.filter(~pl.col("figure").is_in([*NOT_TOLD_BY_EVENTS, *OUTAGES]))
    times = pl.concat([asked, taken]).cast({"value": pl.Float64}).with_columns(value_max="value")
    expected = pl.concat([recomputed, times.select(recomputed.columns)])
    return _differences(expected, told, ["asked_ms", "start_ms", "free_ms", "first_start_ms", "end_ms"])


@_rule("R74", "run", over="last_walks", needs="events stages summary")
def _last_walk(whole: Whole) -> pl.DataFrame:
    """The walk a stage is said to have ended with did end last; its spread, work, gaps and waits for caps add up."""
    parts_ms = pl.sum_horizontal("last_spread_ms", "last_work_ms", "last_gap_ms", "last_cap_ms")
    # In a window a single starts anywhere.
    last_drawn_ms = pl.max_horizontal(pl.max_horizontal(pl.col("spread_ms"), 1) - 1, "scheduled_ms")
    is_drawn = (pl.col("earliest_ms") - pl.col("start_ms")).is_between(0, last_drawn_ms)
    # Where walks may wait for others, they are those of the units that led to its end.
    expected: dict[str, tuple[pl.Expr, pl.Expr]] = {
        "last_spread_ms": (pl.col("first_start_ms"), pl.col("earliest_ms")),
        "last_gap_ms": ((pl.col("domain_count") - 1) * pl.col("gap_ms"), pl.col("gap_count") * pl.col("gap_ms")),
        "last_domain_count": (pl.col("domain_count"), pl.col("unit_count")),
        "last_cap_ms": (pl.lit(0), pl.col("cap_ms")),
    }
    found = {
        "last_spread_ms": pl.col("last_spread_ms") + pl.col("start_ms"),
        "last_cap_ms": pl.col("last_cap_ms").fill_null(0),
    }
    sound = {
        name: found.get(name, pl.col(name)) == pl.when("may_wait").then(of_chain).otherwise(of_walk)
        for name, (of_walk, of_chain) in expected.items()
    }
    sound["last_spread_ms"] &= ~pl.col("may_wait") | is_drawn
    sound["last_work_ms"] = (parts_ms == pl.col("end_ms") - pl.col("start_ms")) & (
        ~pl.col("may_wait") | (pl.col("last_work_ms") > 0)
    )
    ends_last = pl.col("end_ms").is_between("end_ms_walk", "end_ms_max").fill_null(value=False)
    problem = pl.coalesce(
        pl.when(~ends_last).then(pl.lit("is no walk that ends last")),
        *(
            pl.when(~is_sound.fill_null(value=False)).then(pl.lit(f"{name} is not that of the walk"))
            for name, is_sound in sound.items()
        ),
    )
    shown = [*STAGE, "start_ms", "end_ms", *NOT_TOLD_BY_EVENTS]
    return (
        whole.last_walks.with_columns(problem=problem).filter(pl.col("problem").is_not_null()).select(*shown, "problem")
    )


@_rule("R74", "run", over="steps", needs="events stages summary")
def _steps_told(whole: Whole) -> pl.DataFrame:
    """Steps are the units that events show, and each that waited for another started when that let it."""
    after_ms = pl.when(pl.col("waited_for") == "gap").then("gap_ms").otherwise(0)
    is_known = pl.col("waited_for").is_in(["claim", "gap", "cap", "zone"]).fill_null(value=False)
    # When `spread` let it start; in a window a single starts anywhere. Who waits for moves could do so when they ended.
    earliest_ms = pl.col("start_ms") - pl.col("waited_ms") - pl.col("stage_start_ms")
    starts_anywhere = pl.col("is_single") & pl.col("scheduled_ms").is_not_null()
    last_ms = pl.when(starts_anywhere).then("scheduled_ms").otherwise(pl.max_horizontal("spread_ms", 1) - 1)
    has_customers = any(campaign.self_service is not None for campaign in whole.testimony.campaigns)
    problems = {
        "no unit that events show": pl.col("seen_end_ms").is_null(),
        "is left out of steps": pl.col("end_ms").is_null(),
        "is held for another time": ~pl.col("end_ms").is_between("seen_end_ms", "seen_end_ms_max"),
        "waited for less than nothing": pl.col("waited_ms") < 0,
        "waited for what there is not": (pl.col("waited_for").is_null() != pl.col("waited_row").is_null())
        | (pl.col("waited_for").is_not_null() & ~is_known)
        | (pl.col("waited_row").is_not_null() & pl.col("before_end_ms").is_null()),
        "did not start when what it waited for was over": pl.col("before_end_ms") + after_ms != pl.col("start_ms"),
        "could not start when it is said to": ~earliest_ms.is_between(0, last_ms) & pl.lit(not has_customers),
    }
    problem = pl.coalesce(
        *(pl.when(is_wrong.fill_null(value=False)).then(pl.lit(word)) for word, is_wrong in problems.items())
    )
    stages = whole.testimony.stage_times.select(*STAGE, stage_start_ms="start_ms")
    steps = whole.testimony.of_campaign(whole.steps, "gap_ms", "spread_ms", "scheduled_ms").join(
        stages, on=STAGE, how="left"
    )
    wrong = steps.with_columns(problem=problem)
    return wrong.filter(pl.col("problem").is_not_null()).select(*STAGE, "unit_row", "start_ms", "problem")


@_rule("R74", "run", over="counts", needs="events stages summary")
def _manifest_totals(whole: Whole) -> pl.DataFrame:
    """The counts of the manifest are those of the files."""
    return whole.counts.filter(pl.col("value").ne_missing(pl.col("expected")))


@_rule("R74", "run", over="first_replica", needs="events stages summary")
def _first_replica(whole: Whole) -> pl.DataFrame:
    """The first replica is the run: its figures are those of the summary."""
    return whole.first_replica.filter(pl.col("value").ne_missing(pl.col("expected")))


@_rule("R76", "run", over="outages", needs="events stages summary")
def _outages_swept(whole: Whole) -> pl.DataFrame:
    """Outages of sets and applications, and the time without quorum, equal a sweep over the events."""
    return _differences(whole.outages, whole.summary.filter(pl.col("figure").is_in(OUTAGES)), [])


@_rule("R77", "walks", over="constant_spans", needs="events")
def _closed_form(walks: Walks) -> pl.DataFrame:
    """With one length for all, a set of k domains takes k lengths and k - 1 gaps from first start."""
    took_ms = pl.col("end_ms") - pl.col("first_start_ms")
    held_up = pl.Series(walks.walk["is_held_up"]).gather(walks.constant_spans["walk_row"])
    may_wait = held_up | pl.lit(walks.may_wait)
    differs = (took_ms < pl.col("expected_ms")) | ((took_ms != pl.col("expected_ms")) & ~may_wait)
    wrong = walks.constant_spans.with_columns(took_ms=took_ms).filter(differs)
    return wrong.select("walk_row", "domain_count", "took_ms", "expected_ms")


@_rule("R78", "run", over="bounds", needs="events stages summary pairs")
def _not_below_bounds(whole: Whole) -> pl.DataFrame:
    """A campaign takes at least its longest walk, and the longest walks of two paired regions in turn."""
    return whole.bounds.filter((pl.col("length_ms") < pl.col("bound_ms")).fill_null(True))
