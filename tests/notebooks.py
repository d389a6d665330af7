"""Executes the notebooks: `python -m tests.notebooks [NAME...]` keeps their outputs, a test compares them."""

import copy
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TIMEOUT_S = 240


def executed(path: Path) -> Any:
    """The notebook at *path* with new outputs, executed in a folder of its own beside the datasets."""
    notebook = copy.deepcopy(nbformat.read(path, as_version=4))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "datasets").symlink_to(ROOT / "datasets")
        client = NotebookClient(notebook, timeout=TIMEOUT_S, resources={"metadata": {"path": folder}})
        client.execute()
    for cell in notebook.cells:
        cell.metadata = {}  # when it was executed is not what it says
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def told(notebook: Any) -> list[list[str]]:
    """What each cell of code printed or showed, as text; of a chart only that there is one."""
    return [[_text(output) for output in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]


def _text(output: Any) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return "a chart"
    return str(output.get("text", data.get("text/plain", output.output_type)))


if __name__ == "__main__":
    for each in [path for path in NOTEBOOKS if not sys.argv[1:] or path.stem in sys.argv[1:]]:
        nbformat.write(executed(each), each)
        print(each.name)
