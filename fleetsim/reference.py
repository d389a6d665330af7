"""The reference of files and figures, derived from where they are declared: `fleetsim schema` and docs/schema.md.

And the JSON Schema of scenarios, docs/scenario.schema.json.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleetsim.errors import InputError, nearest
from fleetsim.figures import FIGURES
from fleetsim.schema import DTYPES, SUMMARY_FIGURES, TABLES, Table, effect_names, words

if TYPE_CHECKING:
    from rich.console import Console

FIGURES_PAGE = "figures"
SCENARIO_SCHEMA = "scenario"
"""What the JSON Schema of scenarios is called beside the pages."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the reference: a sentence and a table of text."""

    name: str
    doc: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        rows = [dict(zip(self.header, row, strict=True)) for row in self.rows]
        return {"name": self.name, "doc": self.doc, "rows": rows}

    def render(self, console: "Console") -> None:
        from rich.table import Table as Grid
        from rich.text import Text

        console.print(Text(self.name, "bold"))
        console.print(Text(self.doc))
        grid = Grid(*self.header, box=None, header_style="bold", pad_edge=False)
        grid.columns[0].no_wrap = True
        for row in self.rows:
            grid.add_row(*map(Text, row))
        console.print(grid)

    def markdown(self) -> str:
        lines = [f"## {self.name}", "", self.doc, "", _line(self.header), _line(["---"] * len(self.header))]
        return "\n".join([*lines, *map(_line, self.rows), ""])


def described(name: str | None = None) -> Page:
    """The page of table *name*, of `figures`, or the list of all pages. Raises `InputError` for an unknown one."""
    if name is None:
        rows = [(table.name, table.doc) for table in TABLES.values()]
        rows.append((FIGURES_PAGE, "Figures of reports, each with unit, definition and grain."))
        rows.append((SCENARIO_SCHEMA, "The keys of scenarios, as JSON Schema."))
        return Page("tables", "`fleetsim schema NAME` describes one.", ("name", "rows"), tuple(rows))
    if name == FIGURES_PAGE:
        figures = [
            (f.name, f.unit, f.definition, ", ".join(f.grains), "less" if f.is_less_better else "-")
            for f in FIGURES.values()
        ]
        header = ("figure", "unit", "definition", "grains", "better")
        return Page(FIGURES_PAGE, "Figures of reports.", header, tuple(figures))
    if name not in TABLES:
        known = [*TABLES, FIGURES_PAGE, SCENARIO_SCHEMA]
        raise InputError(
            f"schema: must be a table, got '{name}'" + (nearest(name, known) or f"; known: {', '.join(known)}")
        )
    return _table_page(TABLES[name])


def markdown() -> str:
    """The whole reference as one page."""
    head = [
        "# Files, columns and figures",
        "",
        "Made from `fleetsim/schema.py` and `fleetsim/figures/declared.py` by `python -m fleetsim.reference`;"
        " do not edit.",
        "",
    ]
    summary = Page("summary figures", "What `summary` holds.", ("figure", "meaning"), tuple(SUMMARY_FIGURES.items()))
    pages = [*map(_table_page, TABLES.values()), summary, described(FIGURES_PAGE)]
    return "\n".join([*head, *(page.markdown() for page in pages)])


def scenario_schema() -> str:
    """The JSON Schema of scenarios, as a file."""
    from fleetsim.scenario import json_schema

    return f"{json.dumps(json_schema(), indent=2)}\n"


def kinds() -> Page:
    """The kinds of maintenance, from the catalogue."""
    from fleetsim.kinds import KINDS

    rows = []
    for kind in KINDS.values():
        effects = [name for bit, name in enumerate(effect_names()) if int(kind.effects) >> bit & 1]
        phases = ", ".join(phase.name.lower() for phase in kind.phases)
        guests = kind.scheduled_event or "nothing"
        available = "yes" if kind.is_available else "not yet"
        rows.append((kind.name, available, kind.doc, phases or "-", ", ".join(effects) or "-", guests))
    header = ("kind", "simulated", "what is done", "phases", "effects of the platform's work", "guests see")
    return Page("kinds", "What can be done to a VM.", header, tuple(rows))


def rules() -> Page:
    """The rules that `fleetsim verify` checks, from the verifier."""
    from fleetsim.verifier import rules as sentences

    return Page("rules", "What `fleetsim verify` checks.", ("rule", "what must hold"), tuple(sentences().items()))


def scenario_keys() -> tuple[Page, ...]:
    """The keys of scenarios, a page a table of them, from their JSON Schema: the whole scenario first."""
    from fleetsim.scenario import json_schema

    schema = json_schema()
    tables = {"scenario": schema, **schema["$defs"]}
    # A profile that may have others by family has a schema of its own there: its page is that of the profile.
    fullest = {name: tables.get(f"{name}OrFamily", table) for name, table in tables.items()}
    header = ("key", "is", "default", "meaning")
    return tuple(
        Page(name, tables[name]["description"], header, _keys(table, tables))
        for name, table in fullest.items()
        if not name.endswith("OrFamily")
    )


def presets() -> str:
    """All presets in full, as Markdown."""
    from fleetsim.scenario import preset_toml
    from fleetsim.scenario import presets as known

    return "\n".join(f"## {name}\n\n```toml\n{preset_toml(name).strip()}\n```\n" for name in known())


def _keys(table: dict[str, Any], tables: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    """A row a key of *table*, a schema of an object that may refer to other *tables*."""
    rows = []
    for key, schema in table["properties"].items():
        if key in table.get("required", ()):
            default = "needed"
        elif "default" in schema:
            default = f"`{json.dumps(schema['default'])}`"
        else:
            default = "-"
        meaning = schema.get("description") or _target(schema, tables).get("description", "")
        rows.append((f"`{key}`", _is(schema), default, meaning.replace("'*'", "`*`")))
    return tuple(rows)


def _target(schema: dict[str, Any], tables: dict[str, Any]) -> dict[str, Any]:
    """The table that *schema* refers to, if it does."""
    found: dict[str, Any] = tables.get(schema.get("$ref", "").rpartition("/")[2], {})
    return found


def _is(schema: dict[str, Any]) -> str:
    """What a value of *schema* is, in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_is, schema["anyOf"])))
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2].removesuffix("OrFamily")
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "pattern" in schema and "ms|s|min|h|d" in schema["pattern"]:
        return "span"
    if isinstance(schema.get("type"), list):
        return " or ".join(schema["type"])
    if schema.get("type") == "array":
        return f"list of {_is(schema['items'])}" if schema.get("items") else "pair"
    return str({"object": "table"}.get(schema.get("type", ""), schema.get("type", "any")))


def _table_page(table: Table) -> Page:
    rows = []
    for column in table.columns:
        meaning = column.doc
        if column.codes is not None:
            meaning += f": {', '.join(words(column.codes))}"
        if column.name == "effects":
            meaning += f" ({', '.join(f'{1 << bit} {name}' for bit, name in enumerate(effect_names()))})"
        kept = "needed" if column.is_required and not column.is_nullable else "may be null"
        rows.append((column.name, DTYPES[column.dtype], kept, meaning))
    return Page(table.name, table.doc, ("column", "type", "", "meaning"), tuple(rows))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    print(scenario_schema() if sys.argv[1:] == [SCENARIO_SCHEMA] else markdown(), end="")
