"""The vocabulary of files: every table, column, unit and enumeration, declared once.

Readers, writers, kernels, the verifier and `docs/schema.md` derive from this page. It depends on nothing, so that a
stranger may read it too. The position of a member is its code, in memory and in the Arrow dictionary: members are
only appended.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

SCHEMA_VERSION = 2

NEVER_MS = 2**62
FIRST_ITERATION = 1
"""In arrays: an instant that does not come. Null in files."""
NO_ROW = 2**32 - 1
"""In arrays: no row. Null in files."""
RESOURCES = ("vcpus", "memory_gib")
"""What a VM takes of a host; in this order on the last axis of arrays."""
TAKES = tuple(f"takes_{name}" for name in RESOURCES)
"""Columns of a prepared fleet that say how much."""

LENGTH_MS_MAX = 49 * 86_400_000
"""Longest impact: 49 d, which a u32 of milliseconds still holds."""
TRIES_MAX = 1_000
"""Tries of the platform to update a VM in a window, at most: each is a row of `events`, and takes draws of its own."""
SPAN_MS_MAX = 3650 * 86_400_000
"""Longest of every other span: 3,650 d."""
UPDATE_DOMAIN_COUNT_MAX = 20
"""Update domains of a set, at most (specification G13)."""
UPDATE_DOMAIN_COUNT_DEFAULT = 5
"""Update domains of a set where the fleet gives none (Azure: availability-set overview, 2024)."""
FAULT_DOMAIN_COUNT_DEFAULT = 3
"""Fault domains of a set where the fleet gives none (the same source: two or three by region)."""
PLACEMENT_GROUP_VMS = 100
"""VMs of a placement group of a scale set, at most (rules.md R36; Azure: scale set FAQ)."""


class Phase(IntEnum):
    """Who started an impact, and when in the campaign."""

    PLATFORM = 0
    SELF_SERVICE = 1
    SCHEDULED = 2
    UNPLANNED = 3


class Kind(IntEnum):
    """What is done to a VM."""

    NO_IMPACT = 0
    FREEZE = 1
    LIVE_MIGRATION = 2
    REBOOT = 3
    REDEPLOY = 4


class Result(IntEnum):
    """How an attempt ended."""

    COMPLETED = 0
    ABORTED = 1
    RETRY_LATER = 2
    FELL_BACK = 3
    CANCELLED = 4


class Outcome(IntEnum):
    """How a VM ends an iteration (rules.md R5)."""

    UPDATED_SELF_SERVICE = 0
    UPDATED_SCHEDULED = 1
    UPDATED = 2
    SKIPPED = 3
    ALREADY_UPDATED = 4
    DELETED = 5
    OVERDUE = 6
    FAILED = 7
    CANCELLED = 8
    UNAFFECTED = 9


COME_BACK = (Outcome.SKIPPED, Outcome.OVERDUE, Outcome.FAILED)
"""Whoever ends an iteration like that has another one, where there is another (semantics.md 35)."""


class Reason(IntEnum):
    """Why an outcome is what it is, where the outcome alone does not say."""

    NONE = 0
    NO_ROOM_IN_CALENDAR = 1  # overdue: its stage would have ended after `horizon`
    NO_IMPACT = 2  # unaffected: the kind of the campaign has none
    CANNOT_FREEZE = 3  # unaffected: its size cannot keep its memory through an update
    NO_ROOM_IN_WINDOW = 4  # overdue: its unit, or one before it in its set, would have ended after the window
    HOST_LEFT_OUT = 5  # skipped: its customer's neighbour on the host failed, and the host is left out


class NoGuarantee(IntEnum):
    """Why a set is not promised a VM that stays up (rules.md R38)."""

    ONE_DOMAIN = 0
    ONE_VM = 1
    SHARED_HOST = 2


class Bottleneck(IntEnum):
    """What takes the largest part of a stage's time between `asked` and its end."""

    NONE = 0
    WORK = 1
    GAP = 2
    SPREAD = 3
    PAIR = 4
    CAMPAIGN = 5  # waited for another campaign in the same region
    CAP = 6
    WINDOW = 7  # from the notice to the opening of the scheduled window


class Effect(IntFlag):
    """What an impact leaves behind: bits of `effects`."""

    MEMORY_LOST = 1
    TEMP_DISK_LOST = 2
    ADDRESS_CHANGED = 4
    HOST_CHANGED = 8
    CLOCK_SYNCHRONISED = 16


class Stream(IntEnum):
    """What a draw decides: six bits of the counter (semantics.md 4). Never renumbered."""

    LENGTH = 0
    UPDATE_DOMAIN_ORDER = 1
    SET_SPREAD = 2
    SINGLE_SPREAD = 3
    START_PRIORITY = 4
    HOST_SPREAD = 5
    UPTAKE = 6
    TIMING = 7
    # Fleets are drawn from the same generator, under a key of their own.
    REGION = 8
    SIZE = 9
    PAIRED_SUBSCRIPTION = 10
    APPLICATION_COUNT = 11
    APPLICATION_KIND = 12
    DEPLOYMENT_COUNT = 13
    DEPLOYMENT_SIZE = 14
    MIXED_SIZES = 15
    VM_SIZE = 16
    UPDATE_DOMAIN_COUNT = 17
    CLUSTER = 18
    CLUSTER_HOSTS = 19
    CLUSTER_DENSITY = 20
    PRESENT = 21
    CREATED_DAY = 22
    CREATED_TIME = 23
    LIFETIME = 24
    PLACEMENT = 25
    LIFE = 32
    # And once more of campaigns.
    FAILURE = 26
    TRY = 27


class DomainOrder(IntEnum):
    """In which order a set walks its update domains."""

    RANDOM = 0
    SEQUENTIAL = 1
    LARGEST_FIRST = 2


class Decider(IntEnum):
    """Whose decision it is to start a maintenance in the window for customers."""

    SUBSCRIPTION = 0  # where the fleet has one, else as SET
    SET = 1  # and each single's own
    VM = 2


class HostOrder(IntEnum):
    """In which order hosts are tried."""

    AUTO = 0  # where hosts carry one domain each, domain by domain
    RANDOM = 1
    MOST_VMS_FIRST = 2
    FEWEST_CLAIMS_FIRST = 3
    RACK = 4  # rack by rack
    COLUMN = 5  # by a column of the fleet
    POLICY = 6  # by a function of the user's


class WaitedFor(IntEnum):
    """What kept a unit from starting earlier, when it last waited."""

    CLAIM = 0  # a unit of another domain of one of its sets
    GAP = 1  # the gap after that
    CAP = 2
    PAIR = 3
    WINDOW = 4
    WAVE = 5
    ROOM = 6
    HEALTH = 7
    ZONE = 8  # the last unit of the zone before


class StepState(IntEnum):
    """What is done in a step."""

    DRAIN = 0
    WORK = 1
    STOPPED = 2


class CapScope(IntEnum):
    """Of what a cap limits how much is worked on at once."""

    REGION = 0
    ZONE = 1
    CLUSTER = 2


class Walk(IntEnum):
    """By which of its domains a set is updated one at a time."""

    UPDATE_DOMAIN = 0
    FAULT_DOMAIN = 1


def words(codes: type[IntEnum]) -> list[str]:
    """Names of *codes* as files spell them, in code order: the values of the Arrow dictionary."""
    members = sorted(codes)
    assert [int(member) for member in members] == list(range(len(members))), f"{codes.__name__} has gaps"
    return [member.name.lower() for member in members]


def effect_names() -> list[str]:
    """Names of the bits of `effects`, from bit 0 up."""
    return [effect.name.lower() for effect in Effect if effect.name]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `dtype` is one of DTYPES; `codes` names an enumeration stored as a dictionary of words."""

    name: str
    dtype: str
    doc: str
    codes: type[IntEnum] | None = None
    is_nullable: bool = False
    is_required: bool = True


DTYPES = {
    "identity": "int64 or string: as the user knows it",
    "text": "string, dictionary-encoded",
    "code": "word of an enumeration, dictionary-encoded",
    "bool": "boolean",
    "u8": "unsigned 8-bit integer",
    "u16": "unsigned 16-bit integer",
    "u32": "unsigned 32-bit integer",
    "i64": "signed 64-bit integer",
    "f64": "64-bit float",
    "instant": "timestamp[ms, UTC]",
}
"""The types a column can have, and what they are in a file."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its rows in a sentence, and its columns in file order."""

    name: str
    doc: str
    columns: tuple[Column, ...]

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def names(self) -> list[str]:
        return [column.name for column in self.columns]


FLEET = Table(
    "fleet",
    "One row a VM. `vm` and `region` are needed; columns fleetsim does not know are kept.",
    (
        Column("vm", "identity", "the VM, unique in the fleet"),
        Column("region", "text", "the region it runs in"),
        Column("set", "identity", "its availability set; null for a single", is_nullable=True, is_required=False),
        Column("set_kind", "text", "availability_set or scale_set", is_nullable=True, is_required=False),
        Column("update_domain", "u8", "of its set, 0 .. 19; null for a single", is_nullable=True, is_required=False),
        Column("fault_domain", "u8", "of its set; shares power and network", is_nullable=True, is_required=False),
        Column("zone", "text", "availability zone of the region", is_nullable=True, is_required=False),
        Column("cluster", "text", "hosts managed together", is_nullable=True, is_required=False),
        Column("rack", "text", "hosts that share a switch", is_nullable=True, is_required=False),
        Column("host", "identity", "the server it sits on", is_nullable=True, is_required=False),
        Column("size", "text", "catalogue name of its size", is_nullable=True, is_required=False),
        Column("vcpus", "f64", "virtual processors", is_nullable=True, is_required=False),
        Column("memory_gib", "f64", "memory in GiB", is_nullable=True, is_required=False),
        Column("temp_disk_gib", "f64", "temporary disk in GiB", is_nullable=True, is_required=False),
        Column("dynamic_ip", "bool", "has a dynamic address", is_nullable=True, is_required=False),
        Column("workload", "text", "what runs in it", is_nullable=True, is_required=False),
        Column("pause_max_ms", "i64", "longest pause it tolerates, ms", is_nullable=True, is_required=False),
        Column("application", "text", "what it is part of", is_nullable=True, is_required=False),
        Column("subscription", "text", "who owns it", is_nullable=True, is_required=False),
        Column("created", "instant", "first instant it exists; null: always", is_nullable=True, is_required=False),
        Column("deleted", "instant", "first instant it is gone; null: never", is_nullable=True, is_required=False),
    ),
)

HOSTS = Table(
    "hosts",
    "One row a host, for `fleet place`, `fleet prepare` and `run`. `host` and `region` are needed; columns that are not"
    " known are ignored.",
    (
        Column("host", "identity", "the server, unique"),
        Column("region", "text", "the region it is in"),
        Column("zone", "text", "its availability zone", is_nullable=True, is_required=False),
        Column("cluster", "text", "hosts managed together", is_nullable=True, is_required=False),
        Column("rack", "text", "hosts of a cluster that share a switch", is_nullable=True, is_required=False),
        Column("vcpus", "f64", "virtual processors it has room for; null: any", is_nullable=True, is_required=False),
        Column("memory_gib", "f64", "memory for VMs in GiB; null: any", is_nullable=True, is_required=False),
        Column("is_spare", "bool", "kept free by `fleet place`, for moves", is_nullable=True, is_required=False),
    ),
)

PREPARED = Table(
    "prepared",
    "Columns a prepared fleet has besides those of the fleet it was made from.",
    (
        Column("vm_row", "u32", "position in the prepared fleet; events and outcomes join by it"),
        Column("vm_key", "i64", "what draws are addressed by, where `vm` is a string", is_required=False),
        Column("host_row", "u32", "row of its host in hosts; null without", is_nullable=True, is_required=False),
        Column(
            "takes_vcpus", "f64", "what it takes of a host, where an inventory says what hosts have", is_required=False
        ),
        Column("takes_memory_gib", "f64", "likewise, of its memory in GiB", is_required=False),
        Column("is_update_domain_assigned", "bool", "the fleet left it open: round robin by id", is_required=False),
        Column("is_fault_domain_assigned", "bool", "the fleet left it open: round robin by id", is_required=False),
    ),
)

PREPARED_HOSTS = Table(
    "prepared_hosts",
    "One row a host of a prepared fleet that has VMs or, by an inventory, is spare, of regions with hosts; `host_row`"
    " counts them, as in steps and events.",
    (
        Column("host_row", "u32", "from 0, by pair group, region and host"),
        Column("host", "identity", "the host, unique in the fleet"),
        Column("host_key", "i64", "what draws of the host are addressed by"),
        Column("region", "text", "the region it is in"),
        Column("zone", "text", "availability zone of the region", is_nullable=True, is_required=False),
        Column("cluster", "text", "hosts managed together", is_nullable=True, is_required=False),
        Column("rack", "text", "hosts that share a switch", is_nullable=True, is_required=False),
        Column("vm_count", "u32", "VMs on it, whatever their dates"),
        Column("vcpus", "f64", "of an inventory: what it has room for; null: any", is_nullable=True, is_required=False),
        Column("memory_gib", "f64", "likewise, in GiB", is_nullable=True, is_required=False),
        Column("is_spare", "bool", "of an inventory: updated before all others, and empty", is_required=False),
    ),
)

UNITS = Table(
    "units",
    "One row a populated (set, update domain), in vm_row order; singles are the rows of the part after the last unit.",
    (
        Column("set_row", "u32", "position of the set in its part"),
        Column("set_key", "i64", "what draws of the set are addressed by"),
        Column("update_domain", "u8", "the domain"),
        Column("vm_count", "u32", "VMs of the domain"),
    ),
)

PAIRS = Table(
    "pairs",
    "One row a region; the pair is an undirected edge, whichever side lists it.",
    (
        Column("region", "text", "a known region"),
        Column("paired_region", "text", "its pair; empty where there is none", is_nullable=True),
        Column("geography", "text", "the geography scenarios may name", is_nullable=True, is_required=False),
    ),
)

EVENTS = Table(
    "events",
    "One row an impact, a try of it that failed, or a refused or aborted request; in vm_row order within a part.",
    (
        Column("campaign", "text", "name of the campaign"),
        Column("phase", "code", "who started it, and when", Phase),
        Column("kind", "code", "what was done", Kind),
        Column("result", "code", "how it ended", Result),
        Column("iteration", "u8", "from 1"),
        Column("vm_row", "u32", "row of the VM in the prepared fleet"),
        Column("start_at", "instant", "first instant of the impact"),
        Column("duration_ms", "u32", "its length; the interval is half-open"),
        Column("effects", "u8", "bits, named by the metadata key fleetsim.effects"),
        Column(
            "host_from", "u32", "row of its host before, in a region with hosts", is_nullable=True, is_required=False
        ),
        Column("host_to", "u32", "row of its host after", is_nullable=True, is_required=False),
    ),
)

STEPS = Table(
    "steps",
    "One row a unit of a stage with hosts or caps, in unit_row order: when it was worked on, and what it waited for.",
    (
        Column("campaign", "text", "name of the campaign"),
        Column("iteration", "u8", "from 1"),
        Column("unit_row", "u32", "first vm_row of those it could hit"),
        Column("host_row", "u32", "its host's row in hosts; null without hosts", is_nullable=True),
        Column("set_row", "u32", "first vm_row of its set; null for a single or a host", is_nullable=True),
        Column("domain", "u8", "of that set; null for a single or a host", is_nullable=True),
        Column("state", "code", "what is done", StepState),
        Column("start_at", "instant", "when it starts"),
        Column("duration_ms", "i64", "how long it is held: its work, or its longest impact"),
        Column("waited_for", "code", "what opened last, if it waited for other units", WaitedFor, is_nullable=True),
        Column("waited_row", "u32", "unit_row of the unit it waited for last", is_nullable=True),
        Column("waited_ms", "i64", "from its earliest start, which `spread` draws, to its start"),
    ),
)

OUTCOMES = Table(
    "outcomes",
    "One row a VM, campaign and iteration in which it was in scope.",
    (
        Column("campaign", "text", "name of the campaign"),
        Column("iteration", "u8", "from 1"),
        Column("vm_row", "u32", "row of the VM in the prepared fleet"),
        Column("outcome", "code", "how it ended the iteration", Outcome),
        Column("reason", "code", "why, where the outcome alone does not say", Reason),
        Column("paused_ms", "u32", "sum of its pauses"),
        Column("down_ms", "u32", "sum of its down times"),
        Column("event_count", "u32", "its events"),
        Column("effects", "u8", "union of its events' effects"),
    ),
)

STAGES = Table(
    "stages",
    "One row a campaign, iteration and region that has VMs in scope.",
    (
        Column("campaign", "text", "name of the campaign"),
        Column("iteration", "u8", "from 1"),
        Column("region", "text", "the region"),
        Column("wave", "u16", "from 1"),
        Column("notice_at", "instant", "when customers are told", is_nullable=True),
        Column("self_service_start_at", "instant", "window of self-service, start", is_nullable=True),
        Column("self_service_end_at", "instant", "window of self-service, end", is_nullable=True),
        Column("scheduled_start_at", "instant", "scheduled window, start", is_nullable=True),
        Column("scheduled_end_at", "instant", "scheduled window, end", is_nullable=True),
        Column("first_start_at", "instant", "first unit's start", is_nullable=True),
        Column("last_end_at", "instant", "last unit's end", is_nullable=True),
        *(Column(f"{word}_count", "u32", f"VMs that ended it `{word}`") for word in words(Outcome)),
        Column("bottleneck", "code", "what took the largest part of its time", Bottleneck),
    ),
)

NO_GUARANTEE = Table(
    "no_guarantee",
    "One row a set in scope of a campaign that is not promised a VM that stays up.",
    (
        Column("region", "text", "the region"),
        Column("set", "identity", "the set"),
        Column("reason", "code", "why", NoGuarantee),
    ),
)

SUMMARY = Table(
    "summary",
    "Aggregates the engine keeps itself, one row a stage, figure and bin; `value` is exact up to 2^53.",
    (
        Column("campaign", "text", "name of the campaign"),
        Column("iteration", "u8", "from 1"),
        Column("region", "text", "the region"),
        Column("figure", "text", "one of SUMMARY_FIGURES"),
        Column("bin_start_ms", "i64", "lower bound of the bin; null for a single value", is_nullable=True),
        Column("value", "f64", "the value, in the figure's unit"),
    ),
)

SUMMARY_FIGURES = {
    "asked_ms": "when the stage was asked for, ms since scenario.start",
    "start_ms": "when its region was taken: it is at work from here",
    "end_ms": "its last unit's end",
    "free_ms": "when its region was free again: end_ms, or later where a waiting unit lost all its VMs; of a stage with"
    " windows the end of the scheduled one",
    "first_start_ms": "its first unit's start",
    "vm_hit_count": "VMs with an impact",
    "pending_vm_ms": "VM-ms until updated: from the campaign's start, or creation if later, to the last event's end, of"
    " VMs of which that was not a try that failed",
    "unavailable_ms": "VM-milliseconds paused or down",
    "set_count": "sets it walked",
    "single_count": "singles it updated",
    "set_down_ratio_max": "largest share of a set's living VMs out at once by the platform, over sets with a guarantee",
    "set_out_ms": "milliseconds in which all living VMs of a set were out, summed over sets",
    "no_guarantee_count": "sets with VMs in scope that are not promised a VM that stays up",
    "quorum_lost_ms": "milliseconds without quorum, summed over sets, or over applications (region `*`)",
    "application_out_ms": "milliseconds in which all living VMs of an application were out, summed (region `*`)",
    "longest_ms": "longest walk of a set or single, waits for caps left out: no order is shorter but where VMs go",
    "cap_bound_ms": "VM-milliseconds of work over what the tightest cap allows: no order is shorter but where VMs go",
    "last_vm_row": "first vm_row of the set, single or host that ended last",
    "last_domain_count": "units that led to its end, one after the other: its domains, or as `steps` says",
    "last_spread_ms": "of these: the first one's wait within `spread`",
    "last_work_ms": "of these: units held, but those that gave another room under a cap",
    "last_gap_ms": "of these: gaps after units",
    "last_cap_ms": "of these: units held until another had room under a cap",
    "hourly_start_count": "bins: impacts that start within the hour from bin_start_ms, all tries of a VM as one",
    "hourly_unavailable_ms": "bins: VM-milliseconds of the impacts that start within the hour",
    "paused_ms_histogram": "bins: VMs paused from bin_start_ms up to the next bin, which is 1/64 wider at most",
    "down_ms_histogram": "bins: the same of VMs that were down",
}
"""Figures of `summary`, each with its meaning."""

REPORT = Table(
    "report",
    "A report as a file: one row a figure, grain and key.",
    (
        Column("figure", "text", "name of the figure (`fleetsim schema figures`)"),
        Column("unit", "text", "its unit"),
        Column("grain", "text", "what a row is of: campaign, stage, or the columns asked for"),
        Column("key", "text", "which one"),
        Column("value", "f64", "the value; null where nothing was hit", is_nullable=True),
        Column("p05", "f64", "of replicas, the 5th percentile", is_nullable=True, is_required=False),
        Column("p95", "f64", "of replicas, the 95th percentile", is_nullable=True, is_required=False),
    ),
)

REPLICAS = Table(
    "replicas",
    "Figures of the replicas of a run, a file each: of campaigns, stages and lengths of pauses.",
    REPORT.columns[:5],
)
SWEEP = Table(
    "sweep",
    "A sweep as a file: one row a case, campaign and figure.",
    (
        Column("case", "u32", "the case, as `cases.parquet` numbers them"),
        Column("campaign", "text", "name of the campaign"),
        Column("figure", "text", "name of the figure (`fleetsim schema figures`)"),
        Column("unit", "text", "its unit"),
        Column("mean", "f64", "mean over the replicas; null where nothing was hit", is_nullable=True),
        Column("p05", "f64", "of replicas, the 5th percentile", is_nullable=True),
        Column("p95", "f64", "of replicas, the 95th percentile", is_nullable=True),
        Column("replica_count", "u32", "how many there are"),
    ),
)
COMPARISON = Table(
    "comparison",
    "A comparison as a file: one row a run compared with the first one, figure, grain and key.",
    (
        Column("run", "text", "which run, as the comparison names it"),
        Column("base", "text", "the first one"),
        Column("figure", "text", "name of the figure (`fleetsim schema figures`)"),
        Column("unit", "text", "its unit"),
        Column("grain", "text", "what a row is of, as in `report`"),
        Column("key", "text", "which one, by the run's name of the campaign"),
        Column("base_value", "f64", "the value in the base; null where it has none", is_nullable=True),
        Column("value", "f64", "the value in the run; null where it has none", is_nullable=True),
        Column("difference", "f64", "value - base_value", is_nullable=True),
        Column("ratio", "f64", "value / base_value; null of instants, and where the base is 0", is_nullable=True),
        Column(
            "better",
            "text",
            "which is better, `run` or `base`; null where it cannot be said, or they are 0.5 % apart at most",
            is_nullable=True,
        ),
    ),
)

TABLES = {
    table.name: table
    for table in (
        FLEET,
        HOSTS,
        PREPARED,
        PREPARED_HOSTS,
        UNITS,
        PAIRS,
        EVENTS,
        STEPS,
        OUTCOMES,
        STAGES,
        NO_GUARANTEE,
        SUMMARY,
        REPLICAS,
        REPORT,
        COMPARISON,
        SWEEP,
    )
}
