"""The catalogue of maintenance kinds: what each does to a VM, as data.

Kinds differ in phases, effects and windows, not in control flow: adding a kind that needs no new effect is
adding a row here. How long an impact lasts is the scenario's business.
"""

from dataclasses import dataclass

from fleetsim.schema import Effect, Kind, Phase


@dataclass(frozen=True, slots=True)
class MaintenanceKind:
    """One row of the catalogue. `scheduled_event` is what guests see; None: they see nothing."""

    code: Kind
    doc: str
    phases: tuple[Phase, ...]
    effects: Effect
    has_windows: bool
    scheduled_event: str | None
    is_available: bool = False
    """Whether the engine runs it, so that a scenario may ask for it."""

    @property
    def name(self) -> str:
        """The kind as scenarios and files spell it."""
        return self.code.name.lower()

    @property
    def has_impact(self) -> bool:
        """Whether a guest can notice anything: a kind without impact makes no unit."""
        return bool(self.phases)

    @property
    def is_paused(self) -> bool:
        """Whether its impacts count as `paused_ms`: memory is kept. All others count as `down_ms`."""
        return self.has_impact and Effect.MEMORY_LOST not in self.effects


KINDS = {
    kind.name: kind
    for kind in (
        MaintenanceKind(
            Kind.NO_IMPACT,
            "The host is updated under the VMs; nobody notices.",
            phases=(),
            effects=Effect(0),
            has_windows=False,
            scheduled_event=None,
            is_available=True,
        ),
        MaintenanceKind(
            Kind.FREEZE,
            "The VM is paused, its memory kept; the host is patched, the VM resumed.",
            phases=(Phase.PLATFORM,),
            effects=Effect.CLOCK_SYNCHRONISED,
            has_windows=False,
            scheduled_event="Freeze",
            is_available=True,
        ),
        MaintenanceKind(
            Kind.LIVE_MIGRATION,
            "The VM is moved running to another host, with a short pause.",
            phases=(Phase.PLATFORM,),
            effects=Effect.HOST_CHANGED | Effect.CLOCK_SYNCHRONISED,
            has_windows=False,
            scheduled_event="Freeze",
        ),
        MaintenanceKind(
            Kind.REBOOT,
            "The VM goes down with its host and boots again in place.",
            phases=(Phase.SELF_SERVICE, Phase.SCHEDULED),
            effects=Effect.MEMORY_LOST,
            has_windows=True,
            scheduled_event="Reboot",
            is_available=True,
        ),
        MaintenanceKind(
            Kind.REDEPLOY,
            "The VM is stopped and started on another host, without its temporary disk.",
            phases=(Phase.SELF_SERVICE, Phase.SCHEDULED),
            effects=Effect.MEMORY_LOST | Effect.TEMP_DISK_LOST | Effect.ADDRESS_CHANGED | Effect.HOST_CHANGED,
            has_windows=True,
            scheduled_event="Redeploy",
            is_available=True,
        ),
    )
}
"""All kinds, by name, in the order of their codes."""
