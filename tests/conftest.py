"""Profiles of Hypothesis: `quick` at every commit, always the same examples; `deep` by `make deep`.

`mutants` is for planted bugs: three times the examples, of which one that fails is enough, and none is made smaller.
"""

import pytest
from hypothesis import HealthCheck, Phase, settings

# Compilation happens in the first example, hence no deadline; drawing a fleet may be slow on a busy machine.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", patient, max_examples=16, derandomize=True)
settings.register_profile(
    "mutants", patient, max_examples=50, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
settings.register_profile("deep", patient, max_examples=2000, print_blob=True)
settings.load_profile("quick")

FIRST = ("test_kernels", "test_engine", "test_documents", "test_page", "test_replicas")
"""Files that compile all kernels, and whose tests are long: one that began last would leave the other cores idle."""
NEED_NO_KERNELS = (
    "test_verifier",
    "test_oracle",
    "test_scenario",
    "test_fleet",
    "test_importers",
    "test_mutants",
    "test_regions",
    "test_sizes",
    "test_layout",
)
"""The second half, about: pytest-xdist gives each of two workers one. While the first compiles, which takes most of a
minute where nothing is cached, the second is not to compile the same."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that are long first, and those that need no compiled kernel last; workers that are done take over."""
    items.sort(key=lambda item: _place(item.path.stem))


def _place(name: str) -> tuple[int, int]:
    for half, names in ((0, FIRST), (2, NEED_NO_KERNELS)):
        if name in names:
            return half, names.index(name)
    return 1, 0
