"""The two families of expected failure. Anything else is a bug and keeps its traceback."""

import difflib
from collections.abc import Iterable
from pathlib import Path


class FleetsimError(Exception):
    """Base of everything fleetsim raises on purpose."""


class InputError(FleetsimError):
    """Unusable input: exit code 2, nothing written. One line a problem, all problems of a file at once."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class RunError(FleetsimError):
    """The run failed, by disk or by a broken invariant: exit code 1, finished parts stay."""


def nearest(word: object, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word nearest to *word*, or nothing."""
    matches = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def nearest_path(path: Path) -> str:
    """The same for a *path* where there is nothing: the nearest name beside it."""
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    matches = difflib.get_close_matches(path.name, beside, n=1)
    return f"; did you mean '{path.parent / matches[0]}'?" if matches else ""
