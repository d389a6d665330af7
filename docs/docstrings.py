"""Docstrings as pages show them: their aligned lists of names and meanings, as lists."""

import re
from typing import Any

import griffe

_ENTRY = re.compile(r"^(\w+) {2,}(?=\S)", re.MULTILINE)


class AlignedLists(griffe.Extension):
    """Makes "name   what it is", line by line, a list of Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _ENTRY.sub(r"- `\1`: ", obj.docstring.value)
