"""The site: what is made for it tells all there is, pictures are those of the runs, nothing is fetched from afar."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fleetsim import reference
from fleetsim.cli import cli
from fleetsim.kinds import KINDS
from fleetsim.scenario import json_schema, presets
from fleetsim.verifier import rules

ROOT = Path(__file__).parent.parent


def module(name):
    """The module *name* of docs, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def made():
    return module("hooks").pages()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `make docs` builds it: a link or an anchor that leads nowhere is an error."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_command_is_told(made):
    def names(command, name):
        yield name
        for each, member in getattr(command, "commands", {}).items():
            yield from names(member, f"{name} {each}")

    told = re.findall(r"^## (.+)$", made["reference/cli.md"], re.MULTILINE)
    assert told == list(names(cli, "fleetsim"))
    assert "--looser" in made["reference/cli.md"]


def test_every_key_of_scenarios_is_told(made):
    schema = json_schema()
    for table in (schema, *schema["$defs"].values()):
        for key, meaning in table["properties"].items():
            assert f"| `{key}` | " in made["reference/scenario.md"]
            assert (
                meaning.get("description", "").replace("'*'", "`*`").replace("|", r"\|")
                in made["reference/scenario.md"]
            )


def test_every_kind_preset_and_rule_is_told(made):
    assert all(f"| {name} |" in made["reference/kinds.md"] for name in KINDS)
    assert all(f"## {name}\n" in made["reference/presets.md"] for name in presets())
    assert all(f"| {rule} | {sentence}" in made["reference/rules.md"] for rule, sentence in rules().items())
    assert list(rules())[:3] == ["files", "fleet", "R1"]


def test_a_cell_with_a_bar_stays_one_cell():
    page = reference.Page("name", "doc", ("one", "two"), (("a|b", "c"),))

    assert r"| a\|b | c |" in page.markdown()


def test_the_pictures_are_those_of_the_runs(tmp_path):
    module("pictures").draw(tmp_path)

    for drawn in sorted(tmp_path.glob("*.svg")):
        assert (ROOT / "docs" / "assets" / drawn.name).read_bytes() == drawn.read_bytes(), drawn.name
    assert len(list(tmp_path.glob("*.svg"))) >= 5


def test_what_a_page_says_of_a_picture_is_in_it():
    said = 0
    for page in (ROOT / "docs").glob("*.md"):
        for words, name in re.findall(r"!\[([^\]]+)\]\(assets/([\w-]+\.svg)\)", page.read_text("utf-8")):
            texts = " ".join(re.findall(r">([^<>]+)<", (ROOT / "docs" / "assets" / name).read_text("utf-8")))
            numbers = re.findall(r"\d+", words)
            assert set(numbers) <= set(re.findall(r"\d+", texts)), (page.name, name)
            said += len(numbers)
    assert said >= 5


def test_the_site_is_built_strictly_and_fetches_nothing(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text("utf-8")
        fetched = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+", text)
        assert fetched == [], page.name
        assert "fonts.googleapis" not in text


def test_every_page_can_be_reached_from_the_menu(site):
    menu = (site / "index.html").read_text("utf-8")
    for page in [path for path in site.rglob("*.html") if path.name != "404.html"]:
        assert f'href="{page.relative_to(site).as_posix()}"' in menu, page
