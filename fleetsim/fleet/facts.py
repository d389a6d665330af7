"""How a call over fleets tells what it made: a title, and facts one below the other."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def render_facts(console: "Console", title: str, facts: Iterable[tuple[str, str]]) -> None:
    """Print *title* and *facts*, (label, sentence) each; a label is shown once for sentences that follow."""
    from rich.table import Table
    from rich.text import Text

    console.print(Text(title, style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    shown = ""
    for label, sentence in facts:
        # Text, not str: a user's own names may hold what rich would take for markup.
        grid.add_row(Text(label if label != shown else "", style="dim"), Text(sentence))
        shown = label
    console.print(grid)
