"""What mkdocs makes of fleetsim itself: the pages of the reference, and the notebooks as pages.

They are made when the site is built and stand in no file, so they are true of the code beside them.
"""

import base64
import json
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from fleetsim import reference
from fleetsim.cli import cli

ROOT = Path(__file__).parent.parent


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the decisions in the menu, in the order of their numbers."""
    decisions = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    config.nav = [*(config.nav or []), {"Decisions": [f"decisions/{name}" for name in decisions]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    for path, content in pages().items():
        files.append(File.generated(config, path, content=content))
    return files


def pages() -> dict[str, str | bytes]:
    """Path in the site's sources -> content of each page that is made, and of each picture on one."""
    made: dict[str, str | bytes] = {
        "reference/scenario.md": _scenario(),
        "reference/kinds.md": reference.kinds().markdown().replace("## kinds", "# Kinds of maintenance", 1),
        "reference/presets.md": f"# Presets\n\nWhat holds where a scenario says nothing.\n\n{reference.presets()}",
        "reference/rules.md": reference.rules().markdown().replace("## rules", "# Rules", 1),
        "reference/cli.md": _commands(),
    }
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        made |= _notebook(path)
    return made


def _scenario() -> str:
    head = """# Scenario keys

A scenario is TOML. Unknown keys are refused. A span is a number and a unit: `"30s"`, `"1500ms"`, `"10min"`, `"36h"`,
`"14d"`. The same as JSON Schema, for editors: [scenario.schema.json](../scenario.schema.json).
"""
    return "\n".join([head, *(page.markdown() for page in reference.scenario_keys())])


def _commands() -> str:
    """Each command as its `--help` prints it, groups before their members."""
    parts = [
        "# Commands\n\nAs `--help` prints them. Each does what one call of the library does, under the same name.\n"
    ]

    def tell(command: click.Command, name: str, parent: click.Context | None) -> None:
        context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent, terminal_width=80)
        context.help_option_names = ["-h", "--help"]
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
        if isinstance(command, click.Group):
            for each in command.list_commands(context):
                member = command.get_command(context, each)
                assert member is not None
                tell(member, f"{name} {each}", context)

    tell(cli, "fleetsim", None)
    return "\n".join(parts)


def _notebook(path: Path) -> dict[str, str | bytes]:
    """The page of a notebook with the outputs that it keeps, and its pictures."""
    lines = []
    made: dict[str, str | bytes] = {}
    for place, cell in enumerate(json.loads(path.read_text("utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            lines += [source.replace("](../docs/", "](../"), ""]  # the repository has them elsewhere than the site
            continue
        lines += ["```python", source, "```", ""]
        for output in cell["outputs"]:
            data: dict[str, Any] = output.get("data", {})
            if "image/png" in data:
                picture = f"{path.stem}-{place}.png"
                made[f"notebooks/{picture}"] = base64.b64decode(data["image/png"])
                lines += [f"![the chart of the cell above]({picture})", ""]
            elif text := "".join(output.get("text", data.get("text/plain", ""))):
                lines += ["```text", text.rstrip("\n"), "```", ""]
    return {f"notebooks/{path.stem}.md": "\n".join(lines), **made}
