"""Where the data sets are that fleetsim ships."""

from pathlib import Path


def dataset_path(name: str) -> Path:
    """The data set *name*: inside an installed package, else beside it in the repository."""
    package = Path(__file__).parent
    installed = package / "datasets" / name
    return installed if installed.exists() else package.parent / "datasets" / name
