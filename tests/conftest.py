"""Profiles of Hypothesis: `quick` at every commit, always the same examples; `deep` by `make deep`."""

from hypothesis import HealthCheck, settings

# Compilation happens in the first example, hence no deadline; drawing a fleet may be slow on a busy machine.
settings.register_profile(
    "quick", max_examples=50, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "deep", max_examples=2000, print_blob=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("quick")
