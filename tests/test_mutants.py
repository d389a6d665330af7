"""The list of planted bugs fits the code: `python -m tests.mutants` runs them."""

import shutil

import pytest

from tests.mutants import MUTANTS, ROOT, plant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_each_bug_can_be_planted(mutant, tmp_path):
    path = tmp_path / "fleetsim" / mutant.file
    path.parent.mkdir(parents=True)
    shutil.copy(ROOT / "fleetsim" / mutant.file, path)
    before = path.read_text("utf-8")
    plant(mutant, tmp_path)

    compile(path.read_text("utf-8"), path, "exec")
    assert path.read_text("utf-8") != before
