"""What a run is measured by: the queries that compute its figures from its folder, a module a subject.

A stranger to the engine: it meets a run only in its files. From `declared` (what each figure is) and `runs` (the files)
upwards, a module imports only from those before it: `steps` and `timeline`, `pauses`, then `phases`, `remedies`,
`outages`, `bottleneck` and `spans`, last `pairing`.
"""

from fleetsim.figures.bottleneck import Link, chain, explained, waits
from fleetsim.figures.declared import (
    FIGURES,
    GRAINS,
    LEFT_COUNTS,
    OUTCOME_COUNTS,
    PAUSE_BOUNDS_MS,
    SLA_COUNTS,
    STAGE,
    duration,
)
from fleetsim.figures.draws import band, bands, not_drawn, replica_path
from fleetsim.figures.outages import application_outages, application_shares, application_totals, service_levels
from fleetsim.figures.pairing import Paired, paired
from fleetsim.figures.pauses import impact_by, impacts, pause_ms, pauses_over, tallies
from fleetsim.figures.phases import iterations, remaining
from fleetsim.figures.remedies import Intolerance, Remedy, intolerances
from fleetsim.figures.runs import RunFiles, read_events
from fleetsim.figures.spans import Stragglers, bin_width_ms, courses, lengths, stragglers
from fleetsim.figures.steps import Hosts, hosts_of
from fleetsim.figures.timeline import WINDOWS, Bound, bound, campaigns, hours, stages, times, windows

__all__ = [
    "FIGURES",
    "GRAINS",
    "LEFT_COUNTS",
    "OUTCOME_COUNTS",
    "PAUSE_BOUNDS_MS",
    "SLA_COUNTS",
    "STAGE",
    "WINDOWS",
    "Bound",
    "Hosts",
    "Intolerance",
    "Link",
    "Paired",
    "Remedy",
    "RunFiles",
    "Stragglers",
    "application_outages",
    "application_shares",
    "application_totals",
    "band",
    "bands",
    "bin_width_ms",
    "bound",
    "campaigns",
    "chain",
    "courses",
    "duration",
    "explained",
    "hosts_of",
    "hours",
    "impact_by",
    "impacts",
    "intolerances",
    "iterations",
    "lengths",
    "not_drawn",
    "paired",
    "pause_ms",
    "pauses_over",
    "read_events",
    "remaining",
    "replica_path",
    "service_levels",
    "stages",
    "stragglers",
    "tallies",
    "times",
    "waits",
    "windows",
]
