"""Searches: which case of a sweep to make next, by what came of those before. The one module that imports Optuna.

A search is among the points of a grid that is too large to be made whole: of each key a place in the list of its
values. What is proposed depends on this grid, the seed, and what came of the cases before, in their order; never on
what computes them. So a search that was stopped is gone through again from its first case, and comes to the same.
"""

import contextlib
import importlib.util
import json
import math
import random
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fleetsim.errors import InputError, nearest
from fleetsim.scenario import span_ms, span_text

RANGE = ("from", "to", "step")
"""The keys of a range."""
VALUES_MAX = 10_000
"""Values of one key."""
AT_ONCE = 4
"""Cases that are proposed at once, unless the sweep says how many: the fewer, the more is known of each."""
_EXAMPLE = '{ from = "5min", to = "60min", step = "5min" }'

Point = tuple[int, ...]
"""Of each key, the place of a value among its values."""


@dataclass(frozen=True, slots=True)
class Searched:
    """A key of the scenario and the values it may take, as TOML has them."""

    name: str
    values: tuple[Any, ...]
    is_ordered: bool
    """Whether neighbours are alike: numbers or lengths from the least to the most, or the other way round."""


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched: every combination of the values of *keys*."""

    keys: tuple[Searched, ...]
    case_count: int
    """Cases to make: not more than there are."""
    at_once: int

    @property
    def size(self) -> int:
        """How many combinations there are."""
        return math.prod(len(key.values) for key in self.keys)

    def values_at(self, point: Point) -> dict[str, Any]:
        """What *point* sets."""
        return {key.name: key.values[place] for key, place in zip(self.keys, point, strict=True)}

    def beside(self, point: Point) -> Iterator[Point]:
        """The points that differ from *point* in one key: by a step, or, where it has no order, by any other value."""
        for axis, key in enumerate(self.keys):
            count, place = len(key.values), point[axis]
            others = (place - 1, place + 1) if key.is_ordered else range(count)
            for other in others:
                if other != place and 0 <= other < count:
                    yield (*point[:axis], other, *point[axis + 1 :])

    def probes(self) -> Iterator[tuple[Point, Point]]:
        """Each value of each key, of a range both ends, with the first and with the last values of the other keys."""
        first, last = (0,) * len(self.keys), tuple(len(key.values) - 1 for key in self.keys)
        for axis, key in enumerate(self.keys):
            for place in sorted({0, last[axis]}) if key.is_ordered else range(len(key.values)):
                yield (*first[:axis], place, *first[axis + 1 :]), (*last[:axis], place, *last[axis + 1 :])


def read_space(where: str, keys: Mapping[str, Any], cases: Any, at_once: Any, problems: list[str]) -> Space:
    """What a table [search] asks for: *keys* with lists or ranges. What is wrong goes to *problems*, *where* it is."""
    for name, value in (("cases", cases), ("at_once", at_once)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            found = "nothing" if value is None else _shown(value)
            problems.append(f"{where}.{name}: must be a whole number from 1 on, got {found}")
    if not keys:
        problems.append(f"{where}: must have keys of the scenario, as campaign.NAME.update_domain_gap = {_EXAMPLE}")
    found_keys = tuple(Searched(name, *_values(f"{where}.{name}", value, problems)) for name, value in keys.items())
    space = Space(found_keys, 0, at_once)
    return space if problems else Space(found_keys, min(cases, space.size), at_once)


def check_installed() -> None:
    """Raise `InputError` where there is nothing that proposes cases."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError("[search] needs Optuna: pip install 'fleetsim[search]'")


def _values(where: str, value: Any, problems: list[str]) -> tuple[tuple[Any, ...], bool]:
    """The values in a list or a range, and whether they have an order."""
    if isinstance(value, Mapping):
        return _of_range(where, value, problems), True
    if not isinstance(value, list) or not value:
        problems.append(f"{where}: must be a list of values, or a range as {_EXAMPLE}, got {_shown(value)}")
        return (), False
    for place, each in enumerate(value):
        if any(each == other and type(each) is type(other) for other in value[:place]):
            problems.append(f"{where}: must have each value once, got {_shown(each)} twice")
    numbers = [_number(each) for each in value]
    known = [number[1] for number in numbers if number is not None]
    is_ordered = len(known) == len(value) and len({number[0] for number in numbers if number is not None}) == 1
    return tuple(value), is_ordered and known in (sorted(known), sorted(known, reverse=True))


def _of_range(where: str, table: Mapping[str, Any], problems: list[str]) -> tuple[Any, ...]:
    """The values from `from` to `to`, both of them, `step` by `step`."""
    count = len(problems)
    problems += [f"{where}.{key}: is no key of a range{nearest(key, RANGE)}" for key in table if key not in RANGE]
    if len(problems) == count and (lacking := [key for key in RANGE if key not in table]):
        problems.append(f"{where}: must be a range as {_EXAMPLE}, got no {' and no '.join(lacking)}")
    ends = {key: _number(table[key]) for key in RANGE if key in table}
    for key, number in ends.items():
        if number is None:
            problems.append(f"{where}.{key}: must be a number, or a length as '5min', got {_shown(table[key])}")
    if len(problems) > count:
        return ()
    (kind, start), (_, stop), (_, step) = (number for key in RANGE if (number := ends[key]) is not None)
    said = f"from {table['from']} to {table['to']} by {table['step']}"
    if len({number[0] for number in ends.values() if number is not None}) > 1:
        problems.append(f"{where}: must be numbers or lengths, all of them, got {said}")
    elif stop < start:
        problems.append(f"{where}: must go from the least to the most, got {said}; did you mean them the other way?")
    elif step <= 0:
        problems.append(f"{where}.step: must be more than nothing, got {table['step']}")
    elif (stop - start) % step:
        last = _spelt(kind, start + (stop - start) // step * step)
        problems.append(f"{where}: must come to its end in whole steps, got {said}; did you mean to = {_shown(last)}?")
    elif (stop - start) / step >= VALUES_MAX:
        problems.append(f"{where}: must have at most {VALUES_MAX:,} values, got {int((stop - start) / step) + 1:,}")
    if len(problems) > count:
        return ()
    is_whole = kind is int and all(isinstance(table[key], int) for key in RANGE)
    return tuple(
        _spelt(int if is_whole else kind if kind is str else float, start + step * place)
        for place in range(int((stop - start) / step) + 1)
    )


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)


def _number(value: Any) -> tuple[type, Fraction] | None:
    """*value* exactly, and whether it is a length (str) or a number (int); None where it is neither."""
    if isinstance(value, str):
        try:
            return str, Fraction(span_ms(value))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int, Fraction(repr(value))


def _spelt(kind: type, value: Fraction) -> Any:
    """*value* as scenarios have it: a length, a whole number, or a number."""
    return span_text(int(value)) if kind is str else int(value) if kind is int else float(value)


class Proposer:
    """Proposes the points of *space*, a few at once, and is told what came of them before it is asked for more.

    seed       of what is drawn
    is_least   whether the least is looked for, or the most
    is_usable  whether a point can be run; those that cannot are passed by

    First come points that are spread evenly, then what Optuna's tree-structured Parzen estimator expects most of. No
    point comes twice: in its place comes the nearest that was not there yet, which searches around the best.
    """

    def __init__(self, space: Space, seed: int, *, is_least: bool, is_usable: Callable[[Point], bool]) -> None:
        self._space, self._is_usable = space, is_usable
        self._passed: set[Point] = set()
        self._first = deque(_spread_evenly(space, seed))
        self._asked: list[Any] = []
        self._left = space.case_count
        with _quiet():
            import optuna

            sampler = optuna.samplers.TPESampler(
                seed=seed % 2**32,
                multivariate=True,
                constant_liar=True,  # what is proposed at once is not the same
                n_startup_trials=1,  # as many as this needs at least: it starts when _first is through
                n_ei_candidates=512,  # steadier than the default of 24 where many settings are alike
                constraints_func=lambda trial: trial.user_attrs["excess"],
            )
            self._study = optuna.create_study(sampler=sampler, direction="minimize" if is_least else "maximize")
            self._distributions: dict[str, Any] = {
                key.name: optuna.distributions.IntDistribution(0, len(key.values) - 1)
                if key.is_ordered
                else optuna.distributions.CategoricalDistribution(range(len(key.values)))
                for key in space.keys
            }

    def propose(self) -> list[Point]:
        """The next points, at most `space.at_once`; none where there are enough, or no more."""
        assert not self._asked, "what came of the last ones was not told"
        points: list[Point] = []
        with _quiet():
            while len(points) < min(self._space.at_once, self._left):
                trial, point = self._next()
                if point is None:
                    break
                self._asked.append(trial)
                points.append(point)
        self._left = self._left - len(points) if points else 0
        return points

    def tell(self, found: Sequence[tuple[float | None, Sequence[float]]]) -> None:
        """What came of the points proposed last, in their order: the value, and by how much each limit is exceeded.

        A value of None is of a case that does not have the figure: it is as bad as one that breaks a limit.
        """
        with _quiet():
            for trial, (value, excess) in zip(self._asked, found, strict=True):
                trial.set_user_attr("excess", [*excess, float(value is None)])
                self._study.tell(trial, 0.0 if value is None else value)
        self._asked = []

    def _next(self) -> tuple[Any, Point | None]:
        from optuna.trial import TrialState

        trial = None
        if self._first:
            point = self._free(self._first.popleft())
        else:
            trial = self._study.ask(self._distributions)
            proposed = tuple(int(trial.params[key.name]) for key in self._space.keys)
            point = self._free(proposed)
            if point != proposed:
                self._study.tell(trial, state=TrialState.FAIL)
                trial = None
        if point is not None:
            self._passed.add(point)
            if trial is None:
                self._study.enqueue_trial({key.name: at for key, at in zip(self._space.keys, point, strict=True)})
                trial = self._study.ask(self._distributions)
        return trial, point

    def _free(self, start: Point) -> Point | None:
        """The point fewest steps from *start* that was not passed yet and can be run; None where there is none."""
        seen, queue = {start}, deque([start])
        while queue:
            point = queue.popleft()
            if point not in self._passed:
                if self._is_usable(point):
                    return point
                self._passed.add(point)
            for other in self._space.beside(point):
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
        return None


def _spread_evenly(space: Space, seed: int) -> list[Point]:
    """The points to begin with: both ends of all keys, then a sequence of low discrepancy (Roberts 2018).

    The k-th place along axis j is the fraction of `start_j + k / g ** j`, where g is the root above 1 of
    g ** (axes + 1) = g + 1.
    """
    axes = len(space.keys)
    count = min(space.case_count, max(space.at_once, 2 * axes + 2))
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (axes + 1))
    starts = [random.Random(f"{seed} {axis}").random() for axis in range(axes)]
    points = [(0,) * axes, tuple(len(key.values) - 1 for key in space.keys)]
    for k in range(max(0, count - 2)):
        parts = [(start + (k + 1) / root ** (axis + 1)) % 1 for axis, start in enumerate(starts)]
        points.append(tuple(int(part * len(key.values)) for part, key in zip(parts, space.keys, strict=True)))
    return points[:count]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing that Optuna says of itself, or of what may change in it, reaches anybody; its log is as it was then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna

        level = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            yield
        finally:
            optuna.logging.set_verbosity(level)
