"""The campaign all opponents work out, and its answer in closed form.

The fleet: N VMs 0 .. N-1, N a multiple of 200, in sets of 20 in order; VM i is in update domain i mod 5. Ten regions of
N / 10 VMs each, in order, are five pairs: the first and the second, the third and the fourth, and so on.

What happens: a freeze of 30 s for everybody. A set updates its domains 0 .. 4 one after the other, 30 min apart, all
VMs of a domain at once; the sets of a region side by side; the second region of a pair when the first is through.

Its length: a region takes 5 x 30 s + 4 x 30 min = 7,350 s, a pair twice that, whatever N: 14,700 s.

Its checksum, the sum over all VMs of (vm + 1) x start_s: domain d starts 1,830 d after its region does, hence
  1,830 x sum (vm + 1)(vm mod 5) = 1,830 (N^2 + 3 N), since with vm = 5 q + d and Q = N / 5 the sum is
          sum over q of (10 x 5 q + 40) = 25 Q (Q - 1) + 40 Q;
  7,350 x sum of vm + 1 over the second regions, r = 1, 3, 5, 7, 9 of M = N / 10 VMs each,
          = 7,350 (25 M^2 + 5 M (M + 1) / 2);
together 3,851.25 N^2 + 7,327.5 N, counted modulo 2^64, which it exceeds from N = 69.2 M on.

The same with random lengths, one a VM, lognormal with median 6 s and 99th percentile 9 s, has no closed form: there the
rule and the distribution are checked.

Nothing but the standard library is imported here: opponents measured as whole processes start with this module.
"""

import math
from dataclasses import dataclass
from pathlib import Path

SET_SIZE, DOMAIN_COUNT, REGION_COUNT = 20, 5, 10
DOMAIN_SIZE = SET_SIZE // DOMAIN_COUNT
VMS_STEP = SET_SIZE * REGION_COUNT
FREEZE_MS, GAP_MS = 30_000, 1_800_000
TURN_MS = FREEZE_MS + GAP_MS  # from the start of a domain to that of the next
REGION_MS = DOMAIN_COUNT * FREEZE_MS + (DOMAIN_COUNT - 1) * GAP_MS
LENGTH_S = 2 * REGION_MS / 1000

P50_MS, P99_MS = 6_000, 9_000
MU = math.log(P50_MS)
SIGMA = math.log(P99_MS / P50_MS) / 2.3263478740408408  # quantile 0.99 of the standard normal distribution
SEED = 7

START_MS_EPOCH = 1_796_083_200_000  # 2026-12-01T00:00:00Z
REGIONS = (
    *("eastus", "westus", "northeurope", "westeurope", "eastus2"),
    *("centralus", "southeastasia", "eastasia", "uksouth", "ukwest"),
)
"""The regions of the fleet in order, pair by pair."""

TABLES: dict[str, dict[str, str | int | None]] = {
    "events": {
        "campaign": "freeze", "phase": "platform", "kind": "freeze", "result": "completed", "iteration": 1,
        "vm_row": None, "start_at": None, "duration_ms": None, "effects": 16,
    },
    "outcomes": {
        "campaign": "freeze", "iteration": 1, "vm_row": None, "outcome": "updated", "reason": "none",
        "paused_ms": None, "down_ms": 0, "event_count": 1, "effects": 16,
    },
}  # fmt: skip
"""Columns of the two tables as fleetsim writes them: what is the same in every row, or None. Effects of 16: the clock
was synchronised. Words are strings or dictionaries of them, `start_at` is an instant in UTC."""
UINT8 = ("iteration", "effects")
"""Their columns of 8 bits; the other numbers have 32."""


def scenario(*, is_random: bool) -> str:
    """The campaign as fleetsim takes it. The order of the list makes the first region of each pair go first."""
    length = f'{{ p50 = "{P50_MS}ms", p99 = "{P99_MS}ms" }}' if is_random else f'"{FREEZE_MS}ms"'
    return f"""
name = "bench"
start = 2026-12-01T00:00:00Z
seed = {SEED}
[[campaign]]
name = "freeze"
kind = "freeze"
length = {length}
update_domain_gap = "{GAP_MS}ms"
update_domain_order = "sequential"
pair_order = {list(REGIONS)}
"""


def checksum(vms: int) -> int:
    """Sum over all VMs of (vm + 1) x start_s, modulo 2^64, of the campaign with constant lengths."""
    assert vms % VMS_STEP == 0
    region_vms = vms // REGION_COUNT
    by_domain = vms**2 + 3 * vms
    by_region = 25 * region_vms**2 + 5 * region_vms * (region_vms + 1) // 2
    return (TURN_MS // 1000 * by_domain + REGION_MS // 1000 * by_region) % 2**64


@dataclass(frozen=True)
class Given:
    """What an opponent is told.

    vms        VMs of the fleet
    prepared   the fleet as `fleetsim fleet prepare` leaves it, for those who read it
    folder     where to write
    threads    how many it may use, where it can be told
    is_random  whether lengths are drawn, or all are FREEZE_MS
    """

    vms: int
    prepared: Path
    folder: Path
    threads: int
    is_random: bool = False

    @classmethod
    def parse(cls, words: list[str]) -> "Given":
        """From what `words` made of it."""
        vms, prepared, folder, threads, is_random = words
        return cls(int(vms), Path(prepared), Path(folder), int(threads), is_random == "random")

    def words(self) -> list[str]:
        """As arguments of a command."""
        lengths = "random" if self.is_random else "constant"
        return [str(self.vms), str(self.prepared), str(self.folder), str(self.threads), lengths]

    def new_folder(self) -> Path:
        """A folder that is not there yet."""
        import tempfile

        return Path(tempfile.mkdtemp(dir=self.folder)) / "out"
