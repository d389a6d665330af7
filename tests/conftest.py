"""Profiles of Hypothesis: `quick` at every commit, always the same examples; `deep` by `make deep`.

`mutants` is for planted bugs: twice the examples, of which one that fails is enough, and none is made smaller.
"""

from hypothesis import HealthCheck, Phase, settings

# Compilation happens in the first example, hence no deadline; drawing a fleet may be slow on a busy machine.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", patient, max_examples=25, derandomize=True)
settings.register_profile(
    "mutants", patient, max_examples=50, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
settings.register_profile("deep", patient, max_examples=2000, print_blob=True)
settings.load_profile("quick")
