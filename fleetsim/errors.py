"""The two families of expected failure. Anything else is a bug and keeps its traceback."""

import difflib
from collections.abc import Iterable, Sequence
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
    """`; did you mean 'x'?` for the known word nearest to *word*, blind to case and blanks, or nothing."""
    spelled = {str(each): each for each in known}
    matches = difflib.get_close_matches(str(word), spelled, n=1, cutoff=0.6)
    plain = {_plain(each): each for each in spelled}
    matches = [plain[_plain(str(word))]] if _plain(str(word)) in plain else matches
    return f"; did you mean '{matches[0]}'?" if matches else ""


def _plain(word: str) -> str:
    return "".join(word.lower().split())


def nearest_path(path: Path) -> str:
    """The same for a *path* where there is nothing: the name beside it that is nearest but for its suffix."""
    entries = path.parent.iterdir() if path.parent.is_dir() else ()
    beside = [entry for entry in entries if not entry.name.startswith(".")]  # those are of others, or of a run
    names = {entry.stem: entry.name for entry in sorted(beside, key=lambda entry: entry.suffix == path.suffix)}
    matches = difflib.get_close_matches(path.stem, names, n=1)
    return f"; did you mean '{path.parent / names[matches[0]]}'?" if matches else ""


def nearest_name(name: str, found: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of *found* nearest to *name*, blind to case, if there is one as near as *cutoff*."""
    spelled = {word.lower(): word for word in found}
    matches = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=cutoff)
    return spelled[matches[0]] if matches else None


def renaming(column: str, found: Iterable[str], missing: Iterable[str]) -> str:
    """`; rename 'Column' to 'column'` for what of *found* is nearer to *column* than to all *missing*, or nothing."""
    near = nearest_name(column, found)
    is_meant = near is not None and nearest_name(near, missing, cutoff=0) == column
    return f"; rename '{near}' to '{column}'" if is_meant else ""


def wrong_separator(header: Sequence[str]) -> str:
    """What is wrong with a CSV *header* that came out as one column for want of commas, or nothing."""
    marks = {";": "';'", "\t": "tabs"}
    found = [word for mark, word in marks.items() if len(header) == 1 and mark in header[0]]
    return f"must be separated by ',', got a header separated by {found[0]}" if found else ""
