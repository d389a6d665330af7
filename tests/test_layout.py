"""The layout is a test: imports go down, nothing heavy is imported early, pages are what the code says.

The floors themselves are declared in pyproject.toml, for import-linter.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fleetsim
from fleetsim import reference

ROOT = Path(__file__).parent.parent


def lint_imports(root):
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, env={"PYTHONPATH": str(root)}, check=False)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    root = tmp_path_factory.mktemp("layout")
    shutil.copytree(ROOT / "fleetsim", root / "fleetsim")
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def test_imports_go_down():
    done = lint_imports(ROOT)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("schema", "from fleetsim.errors import InputError", "imports go down"),
        ("stages", "from fleetsim import runner", "imports go down"),
        ("kernels/impact", "from fleetsim.kernels import walk", "kernels are strangers"),
        ("verifier", "from fleetsim.tables import to_numpy", "the verifier and the reports"),
        ("instance_view", "from fleetsim.tables import to_numpy", "the verifier and the reports"),
        ("engine", "import numba", "numba is imported by"),
        ("nowhere", "import json", "imports go down"),
    ],
)
def test_a_planted_import_is_caught(copy, module, line, contract):
    path = copy / "fleetsim" / f"{module}.py"
    before = path.read_text() if path.exists() else None
    path.write_text(f"{before or ''}\n{line}\n")
    try:
        done = lint_imports(copy)
    finally:
        path.unlink() if before is None else path.write_text(before)

    assert done.returncode != 0
    assert contract in done.stdout + done.stderr


def test_importing_fleetsim_and_its_help_imports_nothing_heavy():
    code = (
        "import sys, fleetsim, fleetsim.cli;"
        "print([name for name in ('numba', 'numpy', 'polars', 'pyarrow', 'pydantic', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in [name for name in fleetsim.__all__ if name not in ("__version__", "fleet")]:
        assert callable(getattr(fleetsim, name)), name


def test_the_page_of_files_is_what_the_code_declares():
    assert (ROOT / "docs" / "schema.md").read_text("utf-8") == reference.markdown()
