"""Sweeps: one scenario under many settings of its keys, each case a run with replicas in a folder of its own.

Cases have the seed of the scenario, so a VM draws the same in all of them (common random numbers): what differs between
two cases is what was asked, not chance. Their figures are one Parquet data set, by `case` and `replica`. Which cases
there are is in the file; or, with a table [search], each follows from what came of those before.
"""

import contextlib
import itertools
import json
import math
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from fleetsim import __version__
from fleetsim.blocks import check_plans, resolve_over
from fleetsim.cluster import Cluster, check_asked, connected, shared
from fleetsim.errors import InputError, RunError, nearest, nearest_path
from fleetsim.figures import not_drawn
from fleetsim.fleet.prepared import PreparedFleet, relation_over
from fleetsim.progress import Progress
from fleetsim.regions import Relation
from fleetsim.replicas import check_draws
from fleetsim.responses import CASES, MANIFEST, Objective, Sweep, asked_in_words, read_search, summed_up, with_search
from fleetsim.runfolder import HALF_WRITTEN
from fleetsim.runner import disk_bytes, prepared_for, run
from fleetsim.scenario import Scenario, load_scenario
from fleetsim.searching import AT_ONCE, RANGE, Point, Proposer, Space, check_installed, read_space
from fleetsim.storage import Place, Url, as_input, check_room, local, located, readable
from fleetsim.tables import folder_above, parquet_bytes, write_atomic

ASKED = "sweep.toml"
CASES_UNASKED_MAX = 200
"""Cases of a sweep that is made without being asked whether all of them are meant."""
CASES_MAX = 10_000
_LEAN = ("outputs.events=false", "outputs.outcomes=false")
_KEYS = ("scenario", "replicas", "until", "override", "grid", "case", "search")


@dataclass(frozen=True, slots=True)
class Case:
    """One setting of the swept keys: their values as TOML writes them."""

    number: int
    values: Mapping[str, str]

    @property
    def overrides(self) -> tuple[str, ...]:
        return tuple(f"{key}={value}" for key, value in self.values.items())

    @property
    def name(self) -> str:
        return asked_in_words({key: _bare(value) for key, value in self.values.items()}, list(self.values))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a sweep file asks for."""

    text: str = field(repr=False)
    scenario: Any
    replicas: int
    until: str | None
    overrides: tuple[str, ...]
    cases: tuple[Case, ...]
    """None where they are too many, or are to be searched for."""
    count: int
    space: Space | None = None
    """What is searched."""
    name: str = "sweep"
    """As messages call it: its file, where it is one."""


def sweep(
    fleet: Any,
    asked: str | Path | Mapping[str, Any],
    out: str | Path | Url,
    *,
    pairs: str | Path | None = None,
    hosts: Any = None,
    threads: int | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    best: str | None = None,
    yes: bool = False,
    on: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Run every case of the sweep *asked* over *fleet*, into the new folder *out*.

    fleet      as for `run`
    asked      TOML file or text, or the same as a mapping: `scenario` (a file beside it, or a table), `replicas`,
               `until`, `[override]` of all cases, `[grid]` of keys and the values each takes, `[[case]]` of keys;
               or, in place of both, `[search]` of keys and their lists or ranges, and how many `cases` to make
    overrides  `KEY=VALUE` each, of all cases; what is swept goes before them
    resume     go on with an unfinished sweep of the same file
    best       which case is meant, as `min length_ms where paused_ms_p99 <= 10s`: `best_case` of what is returned; a
               search needs it, as that is what it looks for
    yes        make as many cases as there are; without it more than CASES_UNASKED_MAX are refused
    on         as for `run`: a case a worker, or one case after the other on all where they are fewer than its CPUs

    Cases keep neither events nor outcomes, unless `[override]` says so. Raises `InputError` before anything is written
    where the input is unusable, `RunError` where writing fails: finished cases stay.
    """
    out = located(out)
    most = CASES_MAX if yes else CASES_UNASKED_MAX
    plan = _read(asked, most)
    plan = replace(plan, overrides=(*plan.overrides, *overrides))
    rule = check_draws(plan.replicas, plan.until)
    if plan.count > most:
        hint = "" if yes or plan.count > CASES_MAX else "; --yes makes them all"
        raise InputError(f"sweep: must have at most {most:,} cases, got {plan.count:,}{hint}")
    if threads is not None and threads < 1:
        raise InputError(f"threads: must be at least 1, got {threads}")
    check_asked(on)
    if plan.space is not None:
        if best is None:
            raise InputError(
                "sweep: search: needs --best, as 'min length_ms where paused_ms_p99 <= 10s': what is looked for"
            )
        check_installed()
    with as_input():
        _check_absent(out, plan.text, resume=resume)
    relation = relation_over(fleet, pairs)
    with (
        prepared_for(fleet, out, relation, pairs, hosts, progress, resume=resume, on=on) as prepared,
        contextlib.ExitStack() as until_over,
    ):
        if rule is not None:
            rule.check(prepared.columns)
        resolve = _Resolver(plan, prepared, relation, threads)
        campaigns, needed = _check_cases(plan, resolve)
        check_room(out, needed, "fewer cases or replicas take less, and so do cases without events", resume=resume)
        objective = None if best is None else Objective.parse(best, campaigns, not_drawn(prepared.columns))
        if plan.space is not None and resume:
            _check_objective(out, objective)
        cluster = until_over.enter_context(connected(on, threads))
        vm_count = prepared.vm_count * plan.replicas
        try:
            _start(out, plan)
            make = until_over.enter_context(
                _maker(_Cases(prepared.path, plan, out, pairs, threads, on), cluster, vm_count, progress)
            )
            if plan.space is None:
                _write_cases(out, plan.cases)
                make(plan.cases)
                made = _finish(out, plan.cases, None, prepared)
            else:
                assert objective is not None
                made = _finish(out, *_search(plan, plan.space, objective, out, resolve, make), prepared)
            return made if best is None else made.with_best(best)
        except OSError as error:
            raise RunError(f"{out}: could not be written: {error.strerror or error}; finished cases stay") from error


@dataclass(frozen=True, slots=True)
class _Cases:
    """What makes a case of a sweep, in whatever process."""

    prepared_path: Place
    plan: Asked
    out: Place
    pairs: str | Path | None
    threads: int | None
    on: str | None = None

    def __call__(self, case: Case, progress: Progress | None = None) -> None:
        folder = self.out / _folder(case)
        run(
            self.prepared_path,
            self.plan.scenario,
            folder,
            pairs=self.pairs,
            threads=self.threads,
            overrides=[*_LEAN, *self.plan.overrides, *case.overrides],
            resume=folder.exists(),
            replicas=self.plan.replicas,
            until=self.plan.until,
            on=self.on,
            progress=progress,
        )


@contextlib.contextmanager
def _maker(
    cases: _Cases, cluster: Cluster | None, vm_count: int, progress: Progress | None
) -> Iterator[Callable[[Sequence[Case]], None]]:
    """What makes some of the cases, over *vm_count* VMs in all their replicas: each on one worker of *cluster*, where
    there are at least as many at once as it has CPUs, else one after the other."""
    plan = cases.plan
    at_once = plan.count if plan.space is None else plan.space.at_once
    if cluster is None or min(at_once, plan.count) < cluster.cpu_count:

        def make_in_turn(batch: Sequence[Case]) -> None:
            for case in batch:
                cases(case, progress and _part_of(progress, case, plan.count, vm_count))

        yield make_in_turn
        return
    paths = shared(cases.out), shared(cases.pairs)
    asked = replace(plan, scenario=shared(plan.scenario))
    with cluster.workers(_Cases, shared(cases.prepared_path), asked, *paths, 1) as submit:

        def make_at_once(batch: Sequence[Case]) -> None:
            answers = {submit(case): case for case in batch}
            for done_count, answer in enumerate(as_completed(answers), batch[0].number + 1):
                answer.result()
                if progress is not None:
                    said = f"{done_count:,} of {plan.count:,} cases: {answers[answer].name}"
                    progress("sweep", vm_count * done_count, vm_count * plan.count, said)

        yield make_at_once


@dataclass(frozen=True, slots=True)
class _Resolver:
    """What a case comes to, without running it."""

    plan: Asked
    prepared: PreparedFleet
    relation: Relation
    threads: int | None

    def __call__(self, overrides: Sequence[str]) -> tuple[Scenario, int]:
        """The scenario with *overrides*, and the bytes its case keeps; raise `InputError` where it cannot be run."""
        loaded = load_scenario(self.plan.scenario, (*_LEAN, *self.plan.overrides, *overrides))
        resolved = resolve_over(self.prepared, loaded, self.relation, self.threads)
        needed = disk_bytes(self.prepared, resolved, self.plan.replicas)
        check_plans(self.prepared, loaded)
        return loaded, needed


def _case_at(space: Space, point: Point, number: int) -> Case:
    return Case(number, {key: _spelt(value) for key, value in space.values_at(point).items()})


def _search(
    plan: Asked,
    space: Space,
    objective: Objective,
    out: Place,
    resolve: _Resolver,
    make: Callable[[Sequence[Case]], None],
) -> tuple[list[Case], dict[str, Any]]:
    """Make cases of *space* in *out*, each few of them by what came of those before.

    Cases that are there already are not computed again, but come at the same place. Returns the cases, and what the
    manifest says of the search.
    """
    cases: list[Case] = []
    unusable: list[dict[str, Any]] = []

    def is_usable(point: Point) -> bool:
        case = _case_at(space, point, 0)
        try:
            resolve(case.overrides)
        except InputError as error:
            unusable.append({"set": _set(case), "problems": _of_sweep(error)})
            return False
        return True

    seed = load_scenario(plan.scenario, (*_LEAN, *plan.overrides)).seed
    proposer = Proposer(space, seed, is_least=objective.is_least, is_usable=is_usable)
    told = {"objective": objective.text, "settings": space.size, "at_once": space.at_once, "seed": seed}
    while points := proposer.propose():
        batch = [_case_at(space, point, number) for number, point in enumerate(points, len(cases))]
        cases += batch
        _write_cases(out, cases, told | {"cases": plan.count})
        make(batch)
        figures = summed_up([local(out / _folder(case)) for case in batch])
        proposer.tell([objective.found_in(figures.filter(case=case.number)) for case in batch])
    return cases, told | {"unusable": unusable}


def case_count(asked: str | Path | Mapping[str, Any]) -> int:
    """How many cases a sweep has."""
    return _read(asked, 0).count


def _read(asked: str | Path | Mapping[str, Any], most: int) -> Asked:
    """The sweep of a file, of TOML text or of a mapping; raise `InputError` with every problem found.

    Of more than *most* cases only the count is told.
    """
    folder, name = Path(), "sweep"
    if isinstance(asked, Mapping):
        document, text = dict(asked), tomli_w.dumps(asked)
    else:
        text, path = str(asked), None
        if isinstance(asked, Path) or not ("\n" in text or "=" in text):
            path = Path(asked)
            if not path.is_file():
                found = "a folder" if path.is_dir() else f"nothing there{nearest_path(path)}"
                raise InputError(f"{path}: must be a file, got {found}")
            folder, name = path.parent, str(path)
        try:
            text = path.read_text("utf-8") if path is not None else text
            document = tomllib.loads(text)
        except ValueError as error:
            raise InputError(f"{name}: must be TOML in UTF-8: {error}") from error
    problems = [f"{name}: {key}: is no key of a sweep{nearest(key, _KEYS)}" for key in document if key not in _KEYS]
    scenario = document.get("scenario")
    if isinstance(scenario, str) and scenario:
        scenario = folder / scenario
    elif not isinstance(scenario, Mapping):
        problems.append(f"{name}: scenario: must be a file, or a table [scenario], got {_found(document, 'scenario')}")
    replicas, until = document.get("replicas", 1), document.get("until")
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        problems.append(f"{name}: replicas: must be a whole number, got {_found(document, 'replicas')}")
    if until is not None and not isinstance(until, str):
        problems.append(f"{name}: until: must be as 'length_ms 1%', got {_found(document, 'until')}")
    tables = {key: document.get(key, {}) for key in ("override", "grid", "search")}
    for key, table in tables.items():
        if not isinstance(table, Mapping):
            problems.append(f"{name}: {key}: must be a table of keys of the scenario, got {_found(document, key)}")
    listed = document.get("case", [{}])
    if not (isinstance(listed, list) and listed and all(isinstance(each, Mapping) for each in listed)):
        problems.append(
            f"{name}: case: must be tables [[case]] of keys of the scenario, got {_found(document, 'case')}"
        )
    if problems:
        raise InputError(problems)
    if "search" in document:
        return _read_search(name, document, text, (scenario, replicas, until))
    grid = _keyed(f"{name}: grid", tables["grid"], problems)
    of_list = [_keyed(f"{name}: case", each, problems) for each in listed]
    override = _keyed(f"{name}: override", tables["override"], problems)
    for key, value in grid.items():
        if not isinstance(value, list) or not value:
            problems.append(f"{name}: grid.{key}: must be a list of the values it takes, got {_found(grid, key)}")
        elif twice := [each for each, count in Counter(map(_spelt, value)).items() if count > 1]:
            problems.append(f"{name}: grid.{key}: must list each value once, got {', '.join(twice)} more often")
        if any(key in each for each in of_list):
            problems.append(f"{name}: {key}: must be in [grid] or in every [[case]], got it in both")
        if key in override:
            problems.append(f"{name}: {key}: must be in [grid] or in [override], got it in both")
    if problems:
        raise InputError(problems)
    count = len(of_list) * math.prod(len(values) for values in grid.values())
    if count > most:
        return Asked(text, scenario, replicas, until, (), (), count, name=name)
    combined = itertools.product(of_list, *([(key, value) for value in values] for key, values in grid.items()))
    cases = [listed_keys | dict(of_grid) for listed_keys, *of_grid in combined]
    return Asked(
        text,
        scenario,
        replicas,
        until,
        tuple(f"{key}={_spelt(value)}" for key, value in override.items()),
        tuple(Case(number, {key: _spelt(value) for key, value in case.items()}) for number, case in enumerate(cases)),
        count,
        name=name,
    )


def _read_search(name: str, document: Mapping[str, Any], text: str, asked: tuple[Any, int, str | None]) -> Asked:
    """The sweep of a *document* with a table [search]; raise `InputError` with every problem found."""
    problems = [
        f"{name}: {key}: must not be beside [search], of which a list of values is as a key of [grid]"
        for key in ("grid", "case")
        if key in document
    ]
    table = dict(document["search"])
    cases, at_once = table.pop("cases", None), table.pop("at_once", AT_ONCE)
    keys = _keyed(f"{name}: search", table, problems, frozenset(RANGE))
    override = _keyed(f"{name}: override", document.get("override", {}), problems)
    problems += [
        f"{name}: {key}: must be in [search] or in [override], got it in both" for key in keys.keys() & override
    ]
    space = read_space(f"{name}: search", keys, cases, at_once, problems)
    if problems:
        raise InputError(problems)
    overrides = tuple(f"{key}={_spelt(value)}" for key, value in override.items())
    return Asked(text, *asked, overrides, (), space.case_count, space, name)


def _leaves(table: Mapping[str, Any], marks: frozenset[str], above: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of *table* as overrides spell them, `campaign.NAME.length`, and their values.

    A key may be quoted with its dots or not, which TOML reads as tables in one another. A table is a value where it
    has one of *marks* and no table in it (campaigns may be named as they like), or has nothing in it; of any other its
    keys are set one by one.
    """
    for key, value in table.items():
        name = f"{above}{key}"
        is_table = isinstance(value, Mapping) and len(value) > 0
        if is_table and (not marks & value.keys() or any(isinstance(each, Mapping) for each in value.values())):
            yield from _leaves(value, marks, f"{name}.")
        else:
            yield name, value


_PROFILES = frozenset({"p50", "min", "quantiles"})
"""Keys of which a profile of lengths has one."""


def _keyed(
    where: str, table: Mapping[str, Any], problems: list[str], marks: frozenset[str] = _PROFILES
) -> dict[str, Any]:
    """The keys of *table*, each of which must stand there once, and none below another."""
    found: dict[str, Any] = {}
    for key, value in _leaves(table, marks):
        if key in found or any(
            f"{other}.".startswith(f"{key}.") or f"{key}.".startswith(f"{other}.") for other in found
        ):
            problems.append(f"{where}.{key}: must be said once, got it twice")
        found[key] = value
    return found


def _found(document: Mapping[str, Any], key: str) -> str:
    return json.dumps(document[key], default=str) if key in document else "nothing"


def _spelt(value: Any) -> str:
    """*value* as TOML has it."""
    text = tomli_w.dumps({"value": [value]}, multiline_strings=False).removeprefix("value = [").strip()
    return " ".join(text.removesuffix("]").strip().removesuffix(",").split()).replace(", ]", " ]")


def _bare(text: str) -> str:
    """A value as people say it: a string without its quotes."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _folder(case: Case) -> str:
    return f"case={case.number:05}"


def _check_absent(out: Place, text: str, *, resume: bool) -> None:
    """Raise `InputError` where *out* holds something a sweep would overwrite."""
    if isinstance(out, Path):
        folder_above(out)
    if not out.exists() or (out.is_dir() and all(path.match(HALF_WRITTEN) for path in out.iterdir())):
        return
    path = out / ASKED
    if not path.is_file():
        raise InputError(f"{out}: must be a new folder for the sweep, found {'a file' if out.is_file() else 'another'}")
    if not resume:
        what = (
            "a finished sweep; give another -o"
            if (out / MANIFEST).exists()
            else "an unfinished sweep; --resume goes on with it"
        )
        raise InputError(f"{out}: must be a new folder, found {what}")
    if path.read_text("utf-8") != text:
        raise InputError(f"{out}: --resume goes on with the same sweep only, and {path} differs from what is asked")


def _check_objective(out: Place, objective: Objective | None) -> None:
    """Raise `InputError` where the search in *out* looks for something else."""
    told = read_search(out / CASES) if (out / CASES).is_file() else None
    if told is not None and objective is not None and told["objective"] != objective.text:
        raise InputError(
            f"{out}: --resume goes on with the same search only: it is for '{told['objective']}', got"
            f" '{objective.text}'"
        )


def _check_cases(plan: Asked, resolve: _Resolver) -> tuple[list[str], int]:
    """Resolve every case, so that nothing is computed if one of them cannot be; each problem is said once.

    Of what is searched each value is, which must be usable with the first or the last values of the other keys. Returns
    the names of the campaigns, and the bytes that all cases keep.
    """
    problems: dict[str, None] = {}
    campaigns: dict[str, None] = {}
    needed: list[int] = []
    probes: list[tuple[tuple[str, ...], ...]] = [(case.overrides,) for case in plan.cases]
    if plan.space is not None:
        probes = [
            tuple(_case_at(plan.space, point, 0).overrides for point in dict.fromkeys(pair))
            for pair in plan.space.probes()
        ]
    for ways in probes:
        refused: list[InputError] = []
        for overrides in ways:
            try:
                loaded, bytes_of_one = resolve(overrides)
            except InputError as error:
                refused.append(error)
                continue
            needed.append(bytes_of_one)
            campaigns |= dict.fromkeys(campaign.name for campaign in loaded.campaigns)
            break
        else:
            problems |= dict.fromkeys(refused[0].problems)
    if problems:
        raise InputError(_of_sweep(InputError(problems), plan.name))
    return list(campaigns), sum(needed) if plan.space is None else max(needed) * plan.count


def _of_sweep(error: InputError, name: str = "sweep") -> list[str]:
    return [each.replace("--override ", f"{name}: ") for each in error.problems]


def _set(case: Case) -> dict[str, str]:
    return {key: _bare(value) for key, value in case.values.items()}


def _start(out: Place, plan: Asked) -> None:
    """Write what the sweep starts from."""
    if isinstance(out, Path):
        out.mkdir(parents=True, exist_ok=True)
        for stray in out.glob(HALF_WRITTEN):
            stray.unlink()
    write_atomic(out / ASKED, plan.text.encode())


def _write_cases(out: Place, cases: Sequence[Case], search: Mapping[str, Any] | None = None) -> None:
    """Write what is asked in each of *cases*, and what they are a *search* for.

    Cases of a search that are there already must be the same, and stay.
    """
    keys = dict.fromkeys(key for case in cases for key in case.values)
    rows = {key: [_bare(case.values[key]) if key in case.values else None for case in cases] for key in keys}
    frame = pl.DataFrame(
        {"case": [case.number for case in cases], **rows},
        schema={"case": pl.UInt32, **dict.fromkeys(keys, pl.String)},
    )
    if search is not None and (out / CASES).is_file():
        there = pl.read_parquet(readable(out / CASES), hive_partitioning=False)
        count = min(len(there), len(frame))
        if not there.head(count).equals(frame.head(count)):
            raise InputError(
                f"{out}: --resume goes on with the same search only, and now other cases are proposed than are there:"
                " with other versions of Optuna or fleetsim start it anew"
            )
        if len(there) >= len(frame):
            return
    table = frame.to_arrow()
    write_atomic(out / CASES, parquet_bytes(table if search is None else with_search(table, search)))


def _finish(out: Place, cases: Sequence[Case], search: Mapping[str, Any] | None, prepared: PreparedFleet) -> Sweep:
    """Write the manifest of the sweep, last of all."""
    manifests = [json.loads((out / _folder(case) / "manifest.json").read_text("utf-8")) for case in cases]
    manifest = {
        "fleetsim_version": __version__,
        "fleet_digest": prepared.fleet_digest,
        "vm_count": prepared.vm_count,
        **({} if search is None else {"search": search}),
        "cases": [
            {
                "case": case.number,
                "set": _set(case),
                "replicas": told["replicas"],
                "run_digest": told["run_digest"],
            }
            for case, told in zip(cases, manifests, strict=True)
        ],
    }
    write_atomic(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return Sweep.open(out)


def _part_of(progress: Progress, case: Case, count: int, vm_count: int) -> Progress:
    """*progress* of the whole sweep of *count* cases, each over *vm_count* VMs in all its replicas, by that of one."""

    def report(step: str, done_count: int, total_count: int, sentence: str = "", /) -> None:
        if step == "replicas":
            said = f"case {case.number + 1:,} of {count:,}: {case.name}, {sentence}" if sentence else ""
            share = case.number + done_count / max(1, total_count)
            progress("sweep", round(share * vm_count), count * vm_count, said)

    return report
