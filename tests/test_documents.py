"""The documents do what they say: the README's commands run as pasted, and print what it shows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def steps(text):
    """(language, code, lines shown) of each block that runs; `text` blocks are what the one before them shows."""
    blocks = BLOCK.findall(text)
    for (language, code), (then, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language in ("sh", "python"):
            yield language, code, shown.splitlines() if then == "text" else []


def folded(text):
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("document", ["README.md", "docs/promises.md"])
def test_a_document_runs_as_pasted_and_shows_what_it_says(document, tmp_path):
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "COLUMNS": "80", "TZ": "UTC"}
    ran = 0
    for language, code, shown in steps((ROOT / document).read_text("utf-8")):
        command = ["bash", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        said = folded(done.stdout)
        for line in shown:
            assert line == "..." or folded(line).strip() in said, (
                f"{line!r} is not what this prints:\n{code}\n{done.stdout}"
            )
        ran += 1

    assert ran >= 5


def test_a_wrong_claim_would_be_seen():
    (step,) = steps("```sh\necho one\n```\n```text\ntwo\n```\n")

    assert step == ("sh", "echo one\n", ["two"])


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "datasets/README.md", "docs/page.md", "docs/promises.md"]
)
def test_links_lead_somewhere(path):
    text = (ROOT / path).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / path).parent.joinpath(target).exists(), f"{path}: {target} is not there"


def test_the_readme_names_every_scenario_key():
    from fleetsim.scenario import presets

    (campaign,) = presets()["azure-2017"]["campaign"]
    for key in campaign:
        assert f"`campaign.{key}`" in README


def test_nothing_is_left_to_be_filled_in():
    assert re.findall(r"\b(?:TODO|TBD|XXX|[A-Z]+_TABLE)\b", README) == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert "fleetsim." in code
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
