"""The documents do what they say: the README's commands run as pasted, and print what it shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.notebooks import NOTEBOOKS, executed, told
from tests.pasted import ENVIRONMENT, Done, Pasted

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def steps(text):
    """(language, code, lines shown) of each block that runs; `text` blocks are what the one before them shows."""
    blocks = BLOCK.findall(text)
    for (language, code), (then, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=False):
        if language in ("sh", "python"):
            yield language, code, shown.splitlines() if then == "text" else []


def folded(text):
    return re.sub(r"\s+", " ", text)


def pages():
    """Every page of docs that has something to run."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return [page for page in found if any(steps((ROOT / page).read_text("utf-8")))]


def check(document, folder, run):
    """Run the blocks of *document* in *folder*, top to bottom, by *run*; each must print the lines it shows."""
    (folder / "datasets").symlink_to(ROOT / "datasets")
    ran = 0
    for language, code, shown in steps((ROOT / document).read_text("utf-8")):
        done = run(language, code, folder)
        assert done.code == 0, f"{code}\n{done.out}{done.err}"
        said = folded(done.out)
        for line in shown:
            assert line == "..." or folded(line).strip() in said, (
                f"{line!r} is not what this prints:\n{code}\n{done.out}"
            )
        ran += 1

    assert ran


@pytest.fixture(scope="module")
def pasted(tmp_path_factory):
    process = Pasted(tmp_path_factory.mktemp("pasted"))
    yield process
    process.close()


# That of the cluster starts one, which takes half a minute.
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.deep if "cluster" in page else ()) for page in pages()]
)
def test_a_page_runs_and_shows_what_it_says(page, tmp_path, pasted):
    check(page, tmp_path, pasted.run)


def test_the_readme_runs_as_pasted(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def run(language, code, folder):
        command = ["bash", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
        environment = {**os.environ, **ENVIRONMENT, "PATH": path}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        return Done(done.returncode, done.stdout, done.stderr)

    check("README.md", tmp_path, run)


def test_a_command_of_a_page_does_what_the_command_does(tmp_path, pasted):
    (tmp_path / "fleet.csv").write_text("vm,region\na,eastus\n", "utf-8")
    good, bad = (pasted.run("sh", f"fleetsim fleet check {name} | cat\n", tmp_path) for name in ("fleet.csv", "no.csv"))
    refused = pasted.run("sh", "fleetsim fleet check no.csv || echo code $?\n", tmp_path)
    wrong = pasted.run("python", "print(1)\nnone\n", tmp_path)

    assert "usable" in good.out
    assert bad.out == ""
    assert refused.out == "code 2\n"
    assert "no.csv" in refused.err
    assert (wrong.code, wrong.out) == (1, "1\n")
    assert "NameError" in wrong.err


def test_every_page_that_answers_a_question_runs():
    answers = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "how-to").glob("*.md")}

    assert answers - {*pages()} == {"docs/how-to/index.md"}
    assert {"docs/index.md", "docs/promises.md", "docs/truth.md"} <= {*pages()}


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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own libraries
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_comes_to_the_outputs_it_keeps(path):
    kept = nbformat.read(path, as_version=4)
    assert any("fleetsim." in cell.source for cell in kept.cells if cell.cell_type == "code")
    assert next(cell.execution_count for cell in kept.cells if cell.cell_type == "code") == 1

    assert told(executed(path)) == told(kept)
