"""Planted bugs: each is one edit of the engine, and some test must fail under it.

    python -m tests.mutants --all        every one of them
    python -m tests.mutants --share 17   a fifteenth: those whose place in the list is 17 modulo 15
    python -m tests.mutants --bug gap    those with this in their name

The edited package is a copy, run without compilation on the nets' tiny fleets. A bug that survives is a hole in the
nets: find the test that should have seen it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHARES = 15
"""One of so many parts of the list is planted at a commit: a ninth took a third of all that a commit must pass."""
NETS = ("tests/test_kernels.py", "tests/test_engine.py")
PLACING_NETS = ("tests/test_placing.py",)
"""Nets for what no run uses."""


@dataclass(frozen=True)
class Mutant:
    """*old*, which stands once in *file*, becomes *new*."""

    bug: str
    file: str
    old: str
    new: str


STRETCHES = "kernels/stretches.py"
WALK, IMPACT, RNG, OUTAGE = "kernels/walk.py", "kernels/impact.py", "kernels/rng.py", "kernels/outage.py"
GATE, BITS = "kernels/gate.py", "kernels/bits.py"
HOSTS, HOST_KERNELS = "hosts.py", "kernels/hosts.py"
PLACEMENT, PLACING = "kernels/placement.py", "fleet/placing.py"
FIT = "kernels/fit.py"
ENGINE, BLOCKS, STAGES, DRIVING = "engine.py", "blocks.py", "stages.py", "driving.py"
SELF_SERVICE, CUSTOMERS = "kernels/self_service.py", "customers.py"
TRIES, RECORDS = "tries.py", "records.py"
MUTANTS = (
    Mutant("no gap", WALK, "clock_ms += held_ms + gap_ms", "clock_ms += held_ms"),
    Mutant("work ignored", WALK, "held_ms = max(unit_ms[unit], work_ms)", "held_ms = unit_ms[unit]"),
    Mutant("order reversed", WALK, "_priority[other] < unit_priority[unit]", "_priority[other] > unit_priority[unit]"),
    Mutant("ties by the later domain", WALK, "is_tie & (other < unit)", "is_tie & (other > unit)"),
    Mutant("smallest domain first", "engine.py", "np.iinfo(np.uint64).max - np.diff", "np.diff"),
    Mutant("domain drawn by row", WALK, "address + np.uint64(update_domain[unit])", "address + np.uint64(unit)"),
    Mutant("gap after the last domain", WALK, "end_ms = clock_ms - gap_ms", "end_ms = clock_ms"),
    Mutant("one gap too many", WALK, "(domain_count - 1) * gap_ms", "domain_count * gap_ms"),
    Mutant("down ratio of one domain", WALK, "elif unit_vm_count_max * down_of", "if unit_vm_count_max * down_of"),
    Mutant("later of equal ends", WALK, "if clock_ms - gap_ms > end_ms:", "if clock_ms - gap_ms >= end_ms:"),
    Mutant("out until the last is back", WALK, "shortest_ms = min(shortest_ms, d", "shortest_ms = max(shortest_ms, d"),
    Mutant("two domains are out as well", WALK, "[set_row + 1] - unit == 1", "[set_row + 1] - unit <= 2"),
    Mutant(
        "single held by its length alone",
        WALK,
        "held_ms = max(np.int64(duration_ms[row]), work_ms)",
        "held_ms = np.int64(duration_ms[row])",
    ),
    Mutant(
        "last VM of a unit left out",
        WALK,
        "rows_of(unit_offsets, unit):\n            start_ms[row] = at_ms",
        "rows_of(unit_offsets, unit)[:-1]:\n            start_ms[row] = at_ms",
    ),
    Mutant(
        "sum for longest",
        IMPACT,
        "longest_ms = max(longest_ms, np.int64(duration_ms[row]))",
        "longest_ms = longest_ms + np.int64(duration_ms[row])",
    ),
    Mutant("interpolation rounds down", IMPACT, "fraction + 32768) >> 16", "fraction) >> 16"),
    Mutant(
        "entry off by one",
        IMPACT,
        "entry = np.int64(duration_ms[row] >> _16)",
        "entry = np.int64(duration_ms[row] >> _16) + (duration_ms[row] > 7)",
    ),
    Mutant(
        "bins off by one", IMPACT, "_FLOAT_BIAS = (1023 + 7 - 2) * _HALF", "_FLOAT_BIAS = (1023 + 7 - 2) * _HALF + 1"
    ),
    Mutant(
        "hours drift", IMPACT, "np.uint64(unit_start_ms[unit] // HOUR", "np.uint64((unit_start_ms[unit] + 1) // HOUR"
    ),
    Mutant("nine rounds", RNG, "range(10)", "range(9)"),
    Mutant("high word of the key lost", RNG, "entity_key >> _32, address", "entity_key >> _32 >> _32, address"),
    Mutant("carry lost", RNG, "carry = (draw_low * bound_low) >> _32", "carry = _32 ^ _32"),
    Mutant(
        "strings by their first byte",
        RNG,
        "range(offsets[row], offsets[row + 1])",
        "range(offsets[row], min(offsets[row] + 1, offsets[row + 1]))",
    ),
    Mutant(
        "one stream for sets and singles",
        ENGINE,
        "draws = course.draws(Stream.SINGLE_SPREAD)",
        "draws = course.draws(Stream.SET_SPREAD)",
    ),
    Mutant(
        "one stream for sets and singles that all are hit",
        ENGINE,
        "*spread, *course.draws(Stream.SINGLE_SPREAD)",
        "*spread, *course.draws(Stream.SET_SPREAD)",
    ),
    Mutant("a set of one VM is of one domain too", WALK, "np.int64(vm_count > 1)", "1"),
    Mutant("every set of one domain is of one VM", WALK, "np.int64(vm_count == 1)", "1"),
    Mutant("constant lengths are one VM's", ENGINE, "sums.histogram *= len(duration_ms)", "pass"),
    Mutant(
        "each stretch starts at the first domain",
        STRETCHES,
        "unit, unit_stop = set_offsets[first]",
        "unit, unit_stop = 0",
    ),
    Mutant(
        "starts of a stretch are the first ones", STRETCHES, "set_key[first:last], own", "set_key[:last - first], own"
    ),
    Mutant(
        "lengths of a stretch are the first ones", STRETCHES, "vm_key[row:row_stop], d", "vm_key[: row_stop - row], d"
    ),
    Mutant("sets that are out in the last stretch", STRETCHES, "out_ms += walk", "out_ms = walk"),
    Mutant("priorities of none fall", WALK, "in_order += _1\n        return", "in_order += _1"),
    Mutant("name without seed", "course.py", 'seed.to_bytes(8, "little") + name', '(0).to_bytes(8, "little") + name'),
    Mutant(
        "own lag alone",
        STAGES,
        "max(self.pair_ended_ms[other] + stage.pair_lag_ms, self.lagged_ms[other])",
        "self.pair_ended_ms[other] + stage.pair_lag_ms",
    ),
    Mutant(
        "lag of the last alone",
        STAGES,
        "max(self.lagged_ms.get(stage.region, 0), now_ms + stage.pair_lag_ms)",
        "now_ms + stage.pair_lag_ms",
    ),
    Mutant("lag within a region", STAGES, "own_ms = self.ended_ms.get(", "own_ms = self.lagged_ms.get("),
    Mutant("no exclusion in a region", STAGES, "if stage.region == other.region:", "if False:"),
    Mutant("pairs one way", "regions.py", "found[other].add(region)", "found[other].add(other)"),
    Mutant("rank forgotten", STAGES, "self.rank, self.region)", "0, self.region)"),
    Mutant("campaigns out of order", "stages.py", "(self.asked_ms, self.place,", "(self.asked_ms, -self.place,"),
    Mutant("most first for fewest", "stages.py", "(-vm_counts[region], region)", "(vm_counts[region], region)"),
    # VMs that come and go.
    Mutant("hit in the instant it is deleted", WALK, "deleted_ms[row] > begin_ms", "deleted_ms[row] >= begin_ms"),
    Mutant(
        "a gap for a domain nobody is left in",
        WALK,
        "turn_ms = max(turn_ms, last_del",
        "clock_ms += gap_ms\n                turn_ms = max(turn_ms, last_del",
    ),
    Mutant("free at the turn of who waits in vain", WALK, "turn_ms = max(turn_ms, last_deleted_ms)", "turn_ms += 0"),
    Mutant(
        "free after the gap of who waits in vain", WALK, "turn_ms = max(turn_ms, last_deleted_ms)", "turn_ms = clock_ms"
    ),
    Mutant(
        "held for those gone", WALK, "if deleted_ms[row] > begin_ms:", "if deleted_ms[row] > set_start_ms[set_row]:"
    ),
    Mutant("domains nobody is left in are counted", WALK, "= hit_domain_count\n", "= unit_stop - unit_start\n"),
    Mutant(
        "gaps of the living walk lost", WALK, "walk_end_ms - walk_start_ms - set_work_ms", "(hit_domain_count - 1) * 0"
    ),
    Mutant(
        "free when the last is back", ENGINE, "max(start_ms, int(totals[walk.FREE_MS]))", "max(start_ms, sums.end_ms)"
    ),
    Mutant(
        "singles that are gone keep nobody",
        ENGINE,
        "max(totals[walk.FREE_MS], single_start_ms.max())",
        "totals[walk.FREE_MS]",
    ),
    Mutant("cut by a deletion at its end", ENGINE, "is_cut = deleted_ms < start_ms", "is_cut = deleted_ms <= start_ms"),
    Mutant("impacts outlive their VMs", ENGINE, "duration_ms[is_cut] = (deleted_ms - start_ms)[is_cut]", "pass"),
    Mutant("gone during its impact and updated", ENGINE, "fates.outcome[rows[is_cut]] = Outcome.DELETED", "pass"),
    Mutant(
        "gone before its start and updated",
        ENGINE,
        "updated, Outcome.DELETED)",
        "updated, updated)",
    ),
    Mutant("pending before it was there", ENGINE, "np.maximum(vms.created_ms[hit_rows], asked_ms)", "asked_ms"),
    Mutant("the last row of who ended last", ENGINE, "offsets[place]].min()", "offsets[place]].max()"),
    Mutant(
        "created in the instant of the start is late",
        BLOCKS,
        "(self.created_ms <= instant_ms)",
        "(self.created_ms < instant_ms)",
    ),
    Mutant(
        "already updated a tick too soon",
        BLOCKS,
        "settle(vms.created_ms > start_ms",
        "settle(vms.created_ms >= start_ms",
    ),
    Mutant("deleted a tick too late", BLOCKS, "settle(vms.deleted_ms <= start_ms", "settle(vms.deleted_ms < start_ms"),
    Mutant(
        "judged at the campaign's start",
        "driving.py",
        "self._load(parts, stage), scope, at_ms)",
        "self._load(parts, stage), scope, scope.campaign.start_ms)",
    ),
    # Who is selected.
    Mutant("any column matches", BLOCKS, "else is_selected & matches", "else is_selected | matches"),
    Mutant("the first value alone", BLOCKS, "wanted = pa.array(values, words)", "wanted = pa.array(values[:1], words)"),
    Mutant(
        "a null matches",
        BLOCKS,
        "joined = pa.chunked_array(chunks, pa.bool_()).fill_null(False)",
        "joined = pc.or_(pc.is_null(column), pa.chunked_array(chunks, pa.bool_()))",
    ),
    Mutant("all of the region have outcomes", BLOCKS, "outcome[~vms.is_selected] = NOT_SELECTED", "pass"),
    Mutant(
        "pairs ordered by everybody",
        "driving.py",
        "stages.ranks(campaign.pair_order, vm_counts)",
        "stages.ranks(campaign.pair_order, {region: self.regions[region].vm_count for region in vm_counts})",
    ),
    Mutant(
        "sizes that cannot be frozen are",
        BLOCKS,
        "can = vms.lives_at(instant_ms)\n    for mask in (vms.is_selected, vms.keeps_memory_at(instant_ms))",
        "can = vms.lives_at(instant_ms)\n    for mask in (vms.is_selected,)",
    ),
    Mutant("not there and unaffected", BLOCKS, "~keeps & vms.lives_at(start_ms)", "~keeps"),
    Mutant("no family differs", BLOCKS, "*(profile_of_size.get(word, 0)", "*(0"),
    Mutant(
        "without a size in a family", BLOCKS, "for word in words.to_pylist()), 0]", "for word in words.to_pylist()), 1]"
    ),
    Mutant(
        "families interpolate down",
        IMPACT,
        "np.int64(draw & _LOW_16) + 32768) >> 16",
        "np.int64(draw & _LOW_16)) >> 16",
    ),
    # Who cannot be frozen reboots.
    Mutant(
        "left alone where they must reboot",
        "driving.py",
        "campaign.kind == Kind.FREEZE and campaign.reboot_length is None",
        "campaign.kind == Kind.FREEZE",
    ),
    Mutant(
        "a reboot as long as the pause of its family",
        "driving.py",
        "resolved.cannot_freeze_sizes if campaign.reboot_length else ()",
        "set(resolved.cannot_freeze_sizes).difference(*resolved.family_sizes[place]) if campaign.reboot_length else ()",
    ),
    Mutant(
        "reboots as long as pauses", BLOCKS, "*families, *reboots]", "*families, *[campaign.length] * len(reboots)]"
    ),
    Mutant(
        "whoever is beside a reboot reboots",
        ENGINE,
        "scope.is_rebooted(None if vms.profile is None else vms.profile[rows])\n",
        "scope.is_rebooted(None if vms.profile is None else vms.profile[rows])\n"
        "    if is_rebooted is not None and vms.host is not None:\n"
        "        is_rebooted = np.isin(vms.host[0][rows], vms.host[0][rows[is_rebooted]])\n",
    ),
    Mutant("a reboot keeps the memory", ENGINE, 'KINDS["reboot"].effects', 'KINDS["freeze"].effects'),
    Mutant("reboots in both histograms", ENGINE, "duration_ms = duration_ms[~is_rebooted]", "pass"),
    Mutant("reboots of the last block alone", ENGINE, "0 if self.reboot_histogram is None else self.r", "0 and self.r"),
    Mutant(
        "stages as short as their pauses",
        ENGINE,
        "for profile in profiles_of(campaign)",
        "for profile in [campaign.length]",
    ),
    Mutant(
        "a reboot is told as a freeze",
        "records.py",
        "np.where(impacts.is_rebooted, Kind.REBOOT, ",
        "np.where(False, Kind.REBOOT, ",
    ),
    Mutant(
        "a reboot counts as a pause",
        "records.py",
        "selected(np.where(impacts.is_rebooted, 0, impacts.duration_ms)",
        "selected(np.where(False, 0, impacts.duration_ms)",
    ),
    Mutant(
        "a pause counts as down",
        "records.py",
        "np.where(impacts.is_rebooted, impacts.duration_ms, 0)",
        "np.where(True, impacts.duration_ms, 0)",
    ),
    # How sets walk.
    Mutant(
        "fault domains are not walked",
        BLOCKS,
        "if self.fault_domain is not None:\n            domain",
        "if False:\n            domain",
    ),
    Mutant(
        "fault domains over five",
        "fleet/order.py",
        '"fault_domain": FAULT_DOMAIN_COUNT_DEFAULT',
        '"fault_domain": UPDATE_DOMAIN_COUNT_DEFAULT',
    ),
    Mutant(
        "placement groups one VM late",
        "fleet/order.py",
        "place // PLACEMENT_GROUP_VMS",
        "(place - 1) // PLACEMENT_GROUP_VMS",
    ),
    Mutant("a set walks with one of its clusters", BLOCKS, "np.where(lowest == highest, lowest, -1)", "lowest"),
    Mutant("a set walks with each of its clusters", BLOCKS, "if len(starts) > 1:", "if len(starts) > 10**9:"),
    Mutant("the first cluster is none", BLOCKS, "np.where(cluster >= 0,", "np.where(cluster > 0,"),
    Mutant("no cluster is one", BLOCKS, "np.where(cluster >= 0,", "np.where(cluster >= -1,"),
    Mutant(
        "clusters part by part",
        BLOCKS,
        "waits = self.campaign.sets_in_step or bool(",
        "waits = bool(",
    ),
    # Waves and the horizon.
    Mutant("no bake", STAGES, "over_ms + self.rollout.bake_ms", "over_ms"),
    Mutant("a wave is over with its first stage", STAGES, "if self.open_count == 0:", "if self.open_count >= 0:"),
    Mutant(
        "an empty wave is never over",
        STAGES,
        "            self._end(self.release_ms)\n",
        "            self.release_ms = NEVER_MS\n",
    ),
    Mutant(
        "what just fits does not",
        STAGES,
        "if end_ms > self.horizon_ms:",
        "if end_ms >= self.horizon_ms:",
    ),
    Mutant("no horizon", STAGES, "if end_ms > self.horizon_ms:", "if False:"),
    Mutant("the bound forgets the spread", ENGINE, "return campaign.spread_ms + UPDATE", "return UPDATE"),
    Mutant("late ones are updated already", BLOCKS, "if not is_overdue:", "if True:"),
    Mutant("freezes exclude whatever is asked", "driving.py", 'campaign.pair_exclusion == "all" or', "True or"),
    Mutant(
        "one that excludes is enough",
        STAGES,
        "stage.excludes_pair and other.excludes_pair and",
        "stage.excludes_pair and",
    ),
    # Outages.
    Mutant("the majority is half", OUTAGE, "living_count // 2 + 1", "(living_count + 1) // 2"),
    Mutant("a quorum of more than there are", OUTAGE, "< up_min <= living_count:", "< up_min:"),
    Mutant("a quorum of more than there are, turn by turn", OUTAGE, "< up_min <= living_count\n", "< up_min\n"),
    Mutant("turns that overlap", OUTAGE, "if not is_apart:", "if False:"),
    Mutant("out until the last is back", OUTAGE, "ends_ms[0] - turn_start", "ends_ms[size - 1] - turn_start"),
    Mutant(
        "no quorum until the last is back", OUTAGE, "ends_ms[size - 1 - (living_count - up_min)]", "ends_ms[size - 1]"
    ),
    Mutant("who is created does not count", OUTAGE, "(created_ms[row] >= last_ms)\n", "True\n"),
    Mutant("who is deleted counts on", OUTAGE, "(deleted_ms[row] >= last_ms)\n", "True\n"),
    Mutant("ratios round down", OUTAGE, "-((-living_count * need[1]) // need[2])", "living_count * need[1] // need[2]"),
    Mutant("sets without guarantee have a ratio", OUTAGE, "if is_guaranteed and out", "if out"),
    Mutant("sets without guarantee have a ratio, turn by turn", OUTAGE, "if is_guaranteed and size", "if size"),
    Mutant("weighed by those hit", OUTAGE, "if is_living[row]:", "if is_hit[row]:"),
    Mutant(
        "one VM hit is one VM",
        OUTAGE,
        "elif living_count == 1:",
        "elif is_hit[vm_offsets[set_row] : vm_offsets[set_row + 1]].sum() == 1:",
    ),
    Mutant("deletions do not shrink a set", OUTAGE, "if first_ms < deleted_ms[row] and", "if False and"),
    Mutant("creations do not make it grow", OUTAGE, "if first_ms < created_ms[row] and", "if False and"),
    # Caps.
    Mutant(
        "parts have caps of their own", BLOCKS, "or bool(self.campaign.caps) or self.has_hosts", "or self.has_hosts"
    ),
    Mutant(
        "a cap below one VM",
        BLOCKS,
        "np.maximum(1, counts * cap.most.numerator",
        "np.maximum(0, counts * cap.most.numerator",
    ),
    Mutant("one VM over the cap", GATE, "+ needed > limit[group]:", "+ needed > limit[group] + 1:"),
    Mutant("smaller ones do not pass", GATE, "needed = place - place_offsets[resource] + 1\n", "needed = 10**6\n"),
    Mutant("none larger than its cap", GATE, "and needed and used[group] and", "and needed and"),
    Mutant(
        "a start takes no room",
        GATE,
        "used[group] += min(need_left[need], 1) if counts_one[group] else need_left[need]",
        "used[group] += 0",
    ),
    Mutant(
        "an end frees no room",
        GATE,
        "used[group] -= min(need_left[need], 1) if counts_one[group] else need_left[need]",
        "used[group] -= 0",
    ),
    Mutant("who is gone needs room", GATE, "need_left[need] += by", "need_left[need] += 0 * by"),
    Mutant(
        "who is gone holds its unit",
        GATE,
        "if created_ms[row] <= now < deleted_ms[row]:\n                            held",
        "if created_ms[row] <= now:\n                            held",
    ),
    Mutant(
        "nobody looks again when a VM goes",
        GATE,
        "bits.add(ready, ready_levels, rank)\n                    lowest = min(lowest, rank)\n            while opened",
        "pass\n            while opened",
    ),
    Mutant("no gap under caps", GATE, "resting_ms[resting_stop] = now + gap_ms", "resting_ms[resting_stop] = now"),
    Mutant(
        "a gap in which others joined", GATE, "at_work[set_] == 0 and release_ms[set_] == now", "at_work[set_] == 0"
    ),
    Mutant("sets at work are free", GATE, "at_work[set_] == 0 and release_ms[set_] == now", "release_ms[set_] == now"),
    Mutant("sets trade turns", "gating.py", "is_ordered = is_ordered[set_order]", "pass"),
    Mutant("a claim for ever shorter", GATE, "if gap_ms == 0:", "if gap_ms >= 0:"),
    Mutant("the next domain does not wait", GATE, "if closed == NONE and front[set_] != NONE and", "if False and"),
    Mutant(
        "only the first that waits",
        GATE,
        "if place != NONE:\n                    # The next",
        "if False:\n                    # The next",
    ),
    Mutant("walks later first", GATE, "for walker in walker_order:", "for walker in walker_order[::-1]:"),
    Mutant(
        "every walk at its first domain",
        GATE,
        "cell[unit] * position_count + position[unit]\n            order",
        "cell[unit] * position_count\n            order",
    ),
    Mutant(
        "cells cut apart",
        GATE,
        "if root != NONE:\n        parent[root] = other\n    return other",
        "return other",
    ),
    Mutant(
        "cells by the caps of first VMs",
        GATE,
        "is_new = row == vm_offsets[unit] or group != vm_group[cap, row - 1]",
        "is_new = row == vm_offsets[unit]",
    ),
    Mutant(
        "what units waited for by rank",
        GATE,
        "new_waited_for[unit] = waited_for[rank]",
        "new_waited_for[rank] = waited_for[rank]",
    ),
    Mutant("held for the longest alone", GATE, "held_ms = np.int64(work_ms)", "held_ms = np.int64(0)"),
    Mutant(
        "draws of the start are those of the spread",
        ENGINE,
        "course.draws(Stream.START_PRIORITY), walker_key",
        "course.draws(Stream.SET_SPREAD), walker_key",
    ),
    Mutant("claims are counted over hosts", HOSTS, " | (np.diff(unit_of_row, prepend=-1) != 0)", ""),
    Mutant("hosts wait for nobody", HOSTS, "turns = _aligned(vms, taken, course)", "pass"),
    Mutant(
        "domains of hosts by number",
        HOSTS,
        "walk.number_turns(zones, draws,",
        "walk.number_turns(zones, draws * 0,",
    ),
    Mutant(
        "zones of hosts share turns",
        HOSTS,
        "drawn[first, domains] = zones[owners(zones)] - components[owners(components)] + turn",
        "drawn[first, domains] = turn",
    ),
    Mutant(
        "any hosts are aligned",
        HOSTS,
        "lowest[has_sets] != highest[has_sets]",
        "lowest[has_sets] > highest[has_sets]",
    ),
    Mutant(
        "most VMs last", HOSTS, "turns.position[:] = -np.diff(vm_offsets)", "turns.position[:] = np.diff(vm_offsets)"
    ),
    Mutant("hosts wait as sets do", HOSTS, "Stream.HOST_SPREAD", "Stream.SET_SPREAD"),
    Mutant(
        "hosts are no order of their own", HOSTS, "course.draws(Stream.START_PRIORITY)", "course.draws(Stream.LENGTH)"
    ),
    Mutant("no host is shared", HOST_KERNELS, "is_shared[set_] = True", "pass"),
    Mutant("the dead share a host", HOST_KERNELS, "if not is_living[row]:", "if False:"),
    Mutant(
        "two domains take the time of one", HOST_KERNELS, "has_several |= first not in", "has_several &= first not in"
    ),
    Mutant("no gap in the bound of a set", HOST_KERNELS, "(turn_count[set_] - 1) * gap_ms", "0 * gap_ms"),
    Mutant("VMs of a host are selected one by one", BLOCKS, "is_selected = is_host_selected[host[0]]", "pass"),
    Mutant("the dead keep a host alone", BLOCKS, "~self.can_freeze & self.lives_at(instant_ms)", "~self.can_freeze"),
    Mutant("nobody comes", BLOCKS, "comes = vms.created_ms > start_ms", "comes = vms.created_ms > NEVER_MS"),
    Mutant("who comes after all went is frozen", ENGINE, "never_starts=not taken.is_hit.any()", "never_starts=False"),
    Mutant("who comes too late is deleted", ENGINE, "fates.outcome[rows[comes_late]] =", "_ ="),
    Mutant("a cap of hosts counts VMs", BLOCKS, 'np.repeat([cap.of == "hosts" for cap', "np.repeat([False for cap"),
    Mutant("a cap of hosts is a share of VMs", BLOCKS, 'if cap.of == "hosts" and host is not None:', "if False:"),
    Mutant("a host claims one domain of several", GATE, "if is_first else place_offsets[set_]\n", "\n"),
    Mutant(
        "no turn where nobody is left",
        GATE,
        "if closed == NONE and front[set_] != NONE",
        "if claim_left[claim] and front[set_] != NONE",
    ),
    Mutant("a single is a claim", GATE, "claims += np.int64(vm_place[row] != NONE)", "claims += 1"),
    Mutant(
        "who comes is no part of its unit",
        GATE,
        "row, by = creations[created], np.int64(1)",
        "row, by = creations[created], np.int64(0)",
    ),
    Mutant(
        "who is to come holds its unit",
        GATE,
        "created_ms[row] <= now < deleted_ms[row]:\n                            held",
        "now < deleted_ms[row]:\n                            held",
    ),
    Mutant(
        "one waits for its own domain",
        GATE,
        "is_other = last_place[set_] != claim_place[claim] or",
        "is_other = True or",
    ),
    Mutant(
        "the last that ended is told",
        GATE,
        "if last_end_ms[group] != now or first_row[unit] < first_row[last_unit[group]]:",
        "if True:",
    ),
    Mutant("waits for caps are work", GATE, "caps_ms += unit_start_ms[unit] - unit_start_ms[before]", "caps_ms += 0"),
    Mutant(
        "waited from the start of the stage",
        ENGINE,
        "passed.start_ms[hit] - units.earliest_ms[hit]",
        "passed.start_ms[hit] - 0",
    ),
    Mutant("a horizon that caps fit", ENGINE, "return NEVER_MS // 2", "return 0"),
    Mutant("a level is not told", BITS, "if before:\n            return", "if True:\n            return"),
    # Placing.
    Mutant("a host takes one vCPU more", FIT, "most[node, 0] >= vcpus and", "most[node, 0] >= vcpus - 1e6 and"),
    Mutant("memory is not looked at", PLACEMENT, "most[drawn, 1] >= need[vm, 1]", "True"),
    Mutant(
        "the first with room for the next",
        PLACEMENT,
        "next_with_room(most, leaf_count, drawn, ",
        "next_with_room(most, leaf_count, np.int64(1), ",
    ),
    Mutant("every VM draws like the first", PLACEMENT, "np.uint64(vm_key[vm])", "np.uint64(vm_key[vms[0]])"),
    Mutant("one try", PLACEMENT, "range(1, TRIES + 1)", "range(1, 2)"),
    Mutant("the emptiest that fits", PLACEMENT, "_settle(by_room, room, full_count, low, host, is_full)", "pass"),
    Mutant("ties by the later host", PLACEMENT, "memory == 0 and other < host", "memory == 0 and other > host"),
    Mutant(
        "what one host lacks goes to the first", PLACEMENT, "given[chosen] += supply[host]", "given[0] += supply[host]"
    ),
    Mutant("spare hosts to the largest", PLACEMENT, "given[class_] * demand[chosen] <", "given[class_] <"),
    Mutant(
        "singles have numbers", PLACING, "singles = np.full(single_count, -1)", "singles = np.full(single_count, 0)"
    ),
    Mutant(
        "racks are of no cluster",
        PLACING,
        "np.stack([*(self.inventory.place(name)[hosts] for name in PLACES), rack])",
        "np.stack([rack])",
    ),
    Mutant("any cluster", PLACING, "(of_host == of_vm) | (of_host == -1)", "(of_host == of_host) | (of_host == -1)"),
    Mutant(
        "smaller VMs first",
        PLACING,
        "np.lexsort((draws, -need[:, 1], -need[:, 0]))",
        "np.lexsort((draws, need[:, 1], need[:, 0]))",
    ),
    # Windows.
    Mutant("a unit may end after its window", WALK, "if clock_ms + held_ms > until_ms:", "if clock_ms > until_ms:"),
    Mutant(
        "a unit that just fits does not",
        WALK,
        "if clock_ms + held_ms > until_ms:",
        "if clock_ms + held_ms >= until_ms:",
    ),
    Mutant(
        "the next domain passes",
        WALK,
        "            is_overdue |= clock_ms >= until_ms\n",
        "            is_overdue = clock_ms >= until_ms\n",
    ),
    Mutant(
        "overdue from its turn on",
        WALK,
        "NEVER_MS, min(clock_ms, until_ms)\n                continue\n            held_ms",
        "NEVER_MS, clock_ms\n                continue\n            held_ms",
    ),
    Mutant(
        "singles start with the window", WALK, "start_ms + np.int64(scaled(draw, np.uint64(room_ms + 1)))", "start_ms"
    ),
    Mutant("a single never starts last", WALK, "np.uint64(room_ms + 1)", "np.uint64(room_ms)"),
    Mutant(
        "singles too long start", ENGINE, "single_start_ms = np.where(is_too_long, NEVER_MS, single_start_ms)", "pass"
    ),
    Mutant(
        "whoever goes is not overdue", ENGINE, "unit_sizes) < lives.deleted_ms", "unit_sizes) + 1 < lives.deleted_ms"
    ),
    Mutant(
        "windows are not announced",
        STAGES,
        "self.windows[stage] = opens_ms",
        "self.at_work[stage] = opens_ms + stage.length_ms_max",
    ),
    Mutant(
        "windows of a pair meet",
        STAGES,
        "if opens_ms >= first_ms\n            and all(",
        "if opens_ms >= first_ms\n            and 1 or all(",
    ),
    Mutant("windows without the lag", STAGES, "(start_ms - lag_ms, end_ms + lag_ms)", "(start_ms, end_ms)"),
    Mutant("a freeze runs into a window", STAGES, "if end_ms > window_ms and end_ms <= self.horizon_ms:", "if False:"),
    Mutant(
        "a freeze does not fit before a window",
        STAGES,
        "if end_ms > window_ms and end_ms <=",
        "if end_ms >= window_ms and end_ms <=",
    ),
    Mutant(
        "barred stages are tried all the time",
        STAGES,
        "if stage in self.barred and not self._ended_at(stage, now_ms):",
        "if False:",
    ),
    Mutant("a window after the horizon", STAGES, "if opens_ms + stage.length_ms_max > self.horizon_ms:", "if False:"),
    Mutant(
        "windows last as long as their work",
        STAGES,
        "self.at_work[stage] = now_ms + stage.length_ms_max",
        "self.at_work[stage] = now_ms + 1",
    ),
    Mutant("a level is not cleared", BITS, "if words[place]:\n            return", "if True:\n            return"),
    # Customers.
    Mutant(
        "a slot comes back with the move's end",
        SELF_SERVICE,
        "busy_until_ms[row] + recycle_ms[of], slots",
        "busy_until_ms[row], slots",
    ),
    Mutant("a slot comes back an instant late", SELF_SERVICE, "heap_ms[0] <= now_ms", "heap_ms[0] < now_ms"),
    Mutant("refusals without end", SELF_SERVICE, "asks = refusal_count[of, row] <= REFUSALS_MAX", "asks = True"),
    Mutant("one refusal less", SELF_SERVICE, "[of, row] <= REFUSALS_MAX", "[of, row] < REFUSALS_MAX"),
    Mutant(
        "a failure takes a slot",
        SELF_SERVICE,
        "failure_count[of, row] += 1\n",
        "failure_count[of, row] += 1\n                free_count[slots] -= 1\n",
    ),
    Mutant(
        "each attempt draws the same", SELF_SERVICE, "[of] + np.uint64(failure_count[of, row])", "[of] + np.uint64(0)"
    ),
    Mutant("who asks again goes last", SELF_SERVICE, "later_ms > 0 or (later_ms == 0 and goes_before)", "later_ms > 0"),
    Mutant(
        "who asks again goes first", SELF_SERVICE, "later_ms > 0 or (later_ms == 0 and goes_before)", "later_ms >= 0"
    ),
    Mutant("a heap the wrong way round", SELF_SERVICE, "hole > 0 and until_ms <", "hole > 0 and until_ms >"),
    Mutant(
        "the later child goes up",
        SELF_SERVICE,
        "heap_ms[child + 1] < heap_ms[child]",
        "heap_ms[child + 1] > heap_ms[child]",
    ),
    Mutant("the window's end is in it", SELF_SERVICE, "if now_ms >= closes_ms[of] or", "if now_ms > closes_ms[of] or"),
    Mutant("asks in the instant it is deleted", SELF_SERVICE, "now_ms >= deleted_ms[row]", "now_ms > deleted_ms[row]"),
    Mutant("asks only after it is created", SELF_SERVICE, "now_ms < created_ms[row]", "now_ms <= created_ms[row]"),
    Mutant(
        "requests at once by row",
        CUSTOMERS,
        "np.lexsort((place, customers.rank[rows], at_ms))",
        "np.lexsort((place, rows, at_ms))",
    ),
    Mutant("last minute is early", CUSTOMERS, 'early if asked.timing == "early" else', "early if asked.timing else"),
    Mutant("customers work on Saturdays", CUSTOMERS, "range(5)  # from Monday", "range(6)  # from Monday"),
    Mutant("customers work on Sundays", CUSTOMERS, "range(5)  # from Monday", "(*range(5), 6)  # from Monday"),
    Mutant("all work by UTC", CUSTOMERS, "longitudes().get(region, Fraction(0))", "Fraction(0)"),
    Mutant(
        "subscriptions do not decide",
        CUSTOMERS,
        "np.where(has_one, keys, own_key)",
        "np.where(has_one, own_key, own_key)",
    ),
    Mutant("sets decide for each VM", CUSTOMERS, "if asked.by != Decider.VM:", "if True:"),
    Mutant("a slot begun is a slot", CUSTOMERS, "// spare.denominator for", "// spare.denominator + 1 for"),
    Mutant(
        "cut by a deletion at the move's end",
        CUSTOMERS,
        "at_ms + took_ms > deleted_ms",
        "at_ms + took_ms >= deleted_ms",
    ),
    Mutant("moves outlive their VMs", CUSTOMERS, "took_ms[is_cut] = (deleted_ms[rows] - at_ms)[is_cut]", "pass"),
    Mutant("room in any cluster", BLOCKS, '_coded(column["cluster"])[0] + 1 if', '_coded(column["cluster"])[0] * 0 if'),
    Mutant(
        "a unit does not wait for a move", WALK, "begin_ms = max(begin_ms, min(busy_until_ms[row], until_ms))", "pass"
    ),
    Mutant("hit after its move", WALK, "if is_moved[row]:", "if False:"),
    Mutant("a single is hit in its move", ENGINE, " & ~is_moved[single_row:])", ")"),
    Mutant(
        "busy in the instant its move ends", ENGINE, "is_busy = until_ms > opens_ms", "is_busy = until_ms >= opens_ms"
    ),
    Mutant("a failure settles nothing", ENGINE, "requests.is_move | ((", "requests.is_move & (("),
    Mutant("a failure settles though tried again", ENGINE, "Result.ABORTED) & (not retries)", "Result.ABORTED) & True"),
    Mutant("refusals hit", ENGINE, "moves = requests.of(requests.is_move)", "moves = requests"),
    Mutant("waits for a move beyond the window", WALK, "min(busy_until_ms[row], until_ms)", "busy_until_ms[row]"),
    Mutant("a unit that waited is held from its turn on", WALK, "            clock_ms = begin_ms\n", ""),
    Mutant("who moves is not waited for", ENGINE, "(outcome != NOT_SELECTED) & ~is_busy", "outcome != NOT_SELECTED"),
    Mutant("hit and moved", ENGINE, "is_left &= settled.busy_until_ms[rows] == 0", "pass"),
    Mutant(
        "moves after all others",
        ENGINE,
        "by_row = np.argsort(rows)\n    start_ms",
        "by_row = np.arange(len(rows))\n    start_ms",
    ),
    Mutant(
        "sets out by moves alone",
        ENGINE,
        "if (vms.host is not None or vms.customers is not None) and",
        "if vms.host is not None and",
    ),
    Mutant(
        "requests after the window",
        CUSTOMERS,
        "np.minimum(asked.timing.table.astype(np.int64), last_ms)",
        "asked.timing.table.astype(np.int64)",
    ),
    Mutant("moments round down", CUSTOMERS, "* fraction + 2**15 >> 16", "* fraction >> 16"),
    Mutant("a cut move leaves its effects", CUSTOMERS, "np.where(is_move & ~is_cut, as", "np.where(is_move, as"),
    # Who comes back.
    Mutant("draws of the first iteration", "course.py", "iteration << 18)", "1 << 18)"),
    Mutant("slots come back with each iteration", BLOCKS, "and left.taken is not None", "and left.taken is None"),
    Mutant("slots of the last iteration alone", CUSTOMERS, "[vms.customers.taken, [", "[np.empty((2, 0)), ["),
    # Customers beside other campaigns.
    Mutant("requests whatever is at work", SELF_SERVICE, " or now_ms < busy_until_ms[row]:", ":"),
    Mutant(
        "barred in the instant of the end",
        SELF_SERVICE,
        "now_ms < busy_until_ms[row]:",
        "now_ms <= busy_until_ms[row]:",
    ),
    Mutant(
        "not barred in the instant of the start", SELF_SERVICE, "bar_ms[barred] <= now_ms", "bar_ms[barred] < now_ms"
    ),
    Mutant(
        "known moves bar nobody",
        SELF_SERVICE,
        "if known_until_ms[turn - 1] > 0:",
        "if known_until_ms[turn - 1] > 0:\n                continue\n            if False:",
    ),
    Mutant("the last in the file is first", CUSTOMERS, "np.lexsort((place, customers", "np.lexsort((-place, customers"),
    Mutant(
        "who asks again goes before the first in the file",
        SELF_SERVICE,
        "place[again_of[again_turn]] < request",
        "place[again_of[again_turn]] > request",
    ),
    Mutant("slots of all campaigns", SELF_SERVICE, "of * pool_count + pool[row], np", "pool[row], np"),
    Mutant("the future is known", CUSTOMERS, "min(each.closes_ms, until_ms) for", "each.closes_ms for"),
    Mutant(
        "moves are forgotten", CUSTOMERS, "moves = (each.after(instant_ms) for each in self.moves)", "moves = iter(())"
    ),
    Mutant("bars are forgotten", CUSTOMERS, "bars = (bar.after(instant_ms) for bar in self.bars)", "bars = iter(())"),
    Mutant("known no longer than now", DRIVING, "min([decided.at_ms, *map(opens_ms, self.asking)])", "decided.at_ms"),
    Mutant("computed when announced", STAGES, "if is_settled_later and announced.at_ms > now_ms:", "if False:"),
    Mutant("nobody waits for moves of others", ENGINE, "until_ms[under_way.rows] = under_way.until_ms", "pass"),
    Mutant(
        "known moves are not waited for", ENGINE, "for each in (*moves, *beside.known.moves):", "for each in moves:"
    ),
    Mutant(
        "moves of others are over",
        CUSTOMERS,
        "return Moves(place, of.rows, of.at_ms, of.at_ms + of.duration_ms)",
        "return Moves(place, of.rows, of.at_ms, of.at_ms)",
    ),
    Mutant(
        "singles do not wait for others",
        ENGINE,
        "single_start_ms = np.maximum(single_start_ms, waits_ms[single_row:])",
        "pass",
    ),
    Mutant(
        "seen to be overdue at once",
        ENGINE,
        "np.minimum(single_start_ms, course.until_ms)[is_too_long]",
        "course.start_ms",
    ),
    Mutant(
        "barred until it is seen to be overdue",
        ENGINE,
        "np.minimum(overdue_ms[late] + 1, course",
        "np.minimum(overdue_ms[late], course",
    ),
    Mutant(
        "barred beyond the window", ENGINE, "np.minimum(overdue_ms[late] + 1, course.until_ms)", "overdue_ms[late] + 1"
    ),
    Mutant(
        "the overdue are not barred",
        ENGINE,
        "late = np.flatnonzero(fates.outcome[taken.rows] == Outcome.OVERDUE)",
        "late = np.empty(0, np.int64)",
    ),
    Mutant("under a cap nobody waits for moves", ENGINE, "np.maximum(earliest_ms, unit_busy_ms)", "earliest_ms"),
    Mutant("under a cap turns go before moves", ENGINE, "waits_turn & (unit_busy_ms == 0)", "waits_turn"),
    Mutant("not tried though it waits", DRIVING, "if region in self._shared and campaign.windows is None", "if False"),
    Mutant("part by part beside customers", DRIVING, "needs_region or stage.meets_customers", "needs_region"),
    Mutant("nobody meets anybody", DRIVING, "place != campaign.place)\n", "place == -1)\n"),
    Mutant("the skipped stay away", "schema.py", "COME_BACK = (Outcome.SKIPPED, ", "COME_BACK = (Outcome.FAILED, "),
    Mutant("waves wait for who comes back", STAGES, "if stage.iteration > FIRST_ITERATION:", "if False:"),
    Mutant("one iteration more", STAGES, "stage.iteration < rollout.iterations_max", "True"),
    Mutant("anew from the notice", STAGES, "over_ms + rollout.resch", "stage.asked_ms + 1 + rollout.resch"),
    Mutant("who has a plan asks again", CUSTOMERS, "np.array([each.plan is None for", "np.array([True for"),
    Mutant("a plan whatever the window", CUSTOMERS, "is_open = (each.opens_ms <= at_ms)", "is_open = (at_ms >= 0)"),
    Mutant("all come back", BLOCKS, "is_selected[left.rows] = True", "is_selected[:] = True"),
    Mutant("who comes back goes first", STAGES, "self.place, self.iteration, self.rank", "self.place, 0, self.rank"),
    Mutant("who is not selected asks", CUSTOMERS, "if selected is not None:", "if False:"),
    # Windows, moves and zones at the gate.
    Mutant("no unit may end with the window", GATE, "now + held_ms > until_ms", "now + held_ms >= until_ms"),
    Mutant("any unit has room at the gate", GATE, "now + held_ms > until_ms", "now > until_ms"),
    Mutant(
        "domains pass one without room",
        GATE,
        "for each in range(walker_offsets[walker[unit]], walker_offsets[walker[unit] + 1])",
        "for each in range(unit, unit + 1)",
    ),
    Mutant("a set without room is claimed", GATE, "if claim_left[claim] and not is_overdue:", "if claim_left[claim]:"),
    Mutant("who waits to the close is not overdue", GATE, "= until_ms, until_ms", "= until_ms, NEVER_MS"),
    Mutant(
        "who comes to a host without room is updated",
        ENGINE,
        "np.where(passed.overdue_ms < NEVER_MS, NEVER_MS, passed.end_ms)",
        "passed.end_ms",
    ),
    Mutant(
        "a region is free when its last unit is",
        ENGINE,
        "if campaign.windows is None else course.until_ms\n    h",
        "\n    h",
    ),
    Mutant(
        "singles of a window under caps all at once",
        ENGINE,
        "_first_instants(block, campaign, course, held_ms))\n    w",
        "_first_instants(block, campaign, course))\n    w",
    ),
    Mutant(
        "who moves has a place in its unit",
        ENGINE,
        "np.where(is_moved, moved_until_ms, lives.deleted_ms)",
        "lives.deleted_ms",
    ),
    Mutant("all zones at once", GATE, "if zone_of[unit] > zone:", "if zone_of[unit] > zone + 9:"),
    Mutant("zones in the order of rows", BLOCKS, "place[pc.sort_indices(words).to_numpy()] =", "place[:-1] ="),
    Mutant(
        "one domain over zones",
        BLOCKS,
        "(self.zone[:single_row] * UPDATE_DOMAIN_COUNT_MAX + domain)",
        "(self.zone[:single_row] * 0 + domain)",
    ),
    Mutant(
        "sets walk zones in any order",
        ENGINE,
        "*in_zone, zone[:unit_count], walker",
        "*in_zone, zone[:unit_count] * 0, walker",
    ),
    Mutant("each zone an order of its own", ENGINE, "number = frozen(number % UPDATE_DOMAIN_COUNT_MAX)", "pass"),
    Mutant("singles of zones over the window", ENGINE, "None if vms.zone is not None else _held", "_held"),
    Mutant(
        "nobody left keeps zones waiting", GATE, "zone_left[zone] == 0 and zone_ranks[zone + 1] < unit_count", "False"
    ),
    Mutant("zones are none to wait for", GATE, "if is_late and zone_open_ms == now and", "if False and"),
    Mutant("a gap between zones", GATE, "elif waited_for[unit] != _ZONE:", "else:"),
    Mutant(
        "hosts of any zone",
        "hosts.py",
        "vms.zone[taken.rows[vm_offsets[:-1]]],\n    )",
        "vms.zone[taken.rows[vm_offsets[:-1]]] * 0,\n    )",
    ),
    Mutant("units told by who moves", ENGINE, "np.where(is_moved, NEVER_MS, taken.rows)", "taken.rows"),
    Mutant("who comes to a host that has failed is updated", ENGINE, "if is_failed is not None:  # ", "if False:  # "),
    Mutant("domains with zones in steps", ENGINE, "domain % UPDATE_DOMAIN_COUNT_MAX, -1)", "domain, -1)"),
    # Tries that fail.
    Mutant("time-out off by one", IMPACT, "and sum_ms <= timeout_ms:", "and sum_ms < timeout_ms:"),
    Mutant("a thousand tries and one", IMPACT, "number < TRIES_MAX and", "number <= TRIES_MAX and"),
    Mutant("down for the last try alone", IMPACT, "sum_ms += _length_at(", "sum_ms = _length_at("),
    Mutant(
        "length of the first try repeated",
        IMPACT,
        "            sum_ms += _length_at(\n                quantile_ms, profile[row], draw64(key, entity,"
        " length_address + np.uint64(number)",
        "            sum_ms += _length_at(\n                quantile_ms, profile[row], draw64(key, entity,"
        " length_address + np.uint64(0)",
    ),
    Mutant(
        "rows as long as the first try",
        IMPACT,
        "            length_ms = _length_at(\n                quantile_ms, profile[row], draw64(key, entity,"
        " length_address + np.uint64(number)",
        "            length_ms = _length_at(\n                quantile_ms, profile[row], draw64(key, entity,"
        " length_address + np.uint64(0)",
    ),
    Mutant("one draw for all tries", IMPACT, "try_address + np.uint64(number)", "try_address + np.uint64(0)"),
    Mutant("tries fail by customers' draws", TRIES, "course.draws(Stream.TRY)", "course.draws(Stream.FAILURE)"),
    Mutant("half as many tries fail", TRIES, "_RATIO_BITS = 63", "_RATIO_BITS = 62"),
    Mutant("a cut try has failed", IMPACT, "length_ms <= left_ms and (number", "(number"),
    Mutant("cut in the instant it fails", IMPACT, "length_ms <= left_ms and", "length_ms < left_ms and"),
    Mutant("the last try never fails", IMPACT, "try_count[row] or is_failed[row])", "try_count[row])"),
    Mutant(
        "failed told updated", ENGINE, "fates.outcome[rows[is_left & attempted.is_failed]] = Outcome.FAILED", "pass"
    ),
    Mutant("the failed stay away", "schema.py", "Outcome.OVERDUE, Outcome.FAILED)", "Outcome.OVERDUE)"),
    Mutant("tries in the order of the walk", ENGINE, "else attempted.of(by_row)", "else attempted"),
    Mutant("impacts counted for tries", ENGINE, "len(rows) if tries is None else len(tries.duration_ms)", "len(rows)"),
    Mutant("all families are tried alike", TRIES, "np.uint8) if profile is None else profile", "np.uint8)"),
    Mutant("tries start with others", TRIES, "np.repeat(start_ms - of_impact,", "np.repeat(start_ms,"),
    Mutant("tries of the VMs before", TRIES, "Tries(offsets - offsets[0], self", "Tries(offsets, self"),
    Mutant("moved by a try in vain", RECORDS, "np.where(tries.is_aborted, Effect.MEMORY_LOST, effects)", "effects"),
    Mutant("failures without effect", RECORDS, "Effect.MEMORY_LOST, 0)).astype", "0, 0)).astype"),
    Mutant("a failed move is one", RECORDS, "np.where(impacts.tries.ends_aborted, 0, effects)", "effects"),
    Mutant("one event a VM", RECORDS, "1 if impacts.tries is None else impacts.tries.counts", "1"),
    # Room on hosts.
    Mutant(
        "moves take no room", SELF_SERVICE, "_change(housed, host, -housed.need[row, 0], -housed.need[row, 1])", "pass"
    ),
    Mutant("moves take no memory", SELF_SERVICE, "-housed.need[row, 1])", "0)"),
    Mutant("memory of hosts is not looked at", FIT, "and most[node, 1] >= memory", ""),
    Mutant("deletions empty hosts", SELF_SERVICE, " and housed.is_moved_from[host]:", ":"),
    Mutant("emptied is updated", SELF_SERVICE, "_UPDATED]] + recycle_ms <= now_ms", "_UPDATED]] <= now_ms"),
    Mutant("updated an instant late", SELF_SERVICE, "_UPDATED]] + recycle_ms <= now", "_UPDATED]] + recycle_ms < now"),
    Mutant("emptied when all but one have left", SELF_SERVICE, "vms_left[host] == 0 and", "vms_left[host] == 1 and"),
    Mutant("no host is spare", SELF_SERVICE, "        if is_spare[host]:", "        if False:"),
    Mutant("every host is spare", SELF_SERVICE, "        if is_spare[host]:", "        if True:"),
    Mutant(
        "the place of who is deleted stays taken",
        SELF_SERVICE,
        "_change(housed, housed.target[row], housed.need[row, 0], housed.need[row, 1])",
        "pass",
    ),
    Mutant("a move cut short has emptied a host", SELF_SERVICE, "|= moved_ms[row] <= deleted_ms[row]", "|= True"),
    Mutant(
        "a move that ends with its VM is cut short", SELF_SERVICE, "moved_ms[row] <= deleted", "moved_ms[row] < deleted"
    ),
    Mutant("who moves has left", SELF_SERVICE, "min(busy_until_ms[row], deleted_ms[row]), row", "now_ms, row"),
    Mutant(
        "who is deleted on the move leaves later",
        SELF_SERVICE,
        "min(busy_until_ms[row], deleted_ms[row]), row",
        "busy_until_ms[row], row",
    ),
    Mutant(
        "moves of iterations before are forgotten",
        CUSTOMERS,
        "if customers.hosts is not None:  # of",
        "if False:  # of",
    ),
    Mutant("hosts of all clusters", BLOCKS, 'if "cluster" in hosts.column_names else', "if False else"),
    Mutant("VMs take nothing", BLOCKS, "[_millionths(column[name]) for", "[0 * _millionths(column[name]) for"),
    Mutant("hosts given up are gone to", CUSTOMERS, "is_given_up = asking", "is_given_up = False and asking"),
    Mutant(
        "no host is left out",
        ENGINE,
        "        if vms.host is not None:\n            settled",
        "        if False:\n            settled",
    ),
    Mutant("who was gone is left out", ENGINE, "shares &= vms.deleted_ms > opens_ms", "pass"),
    Mutant(
        "who is gone as the window opens is left out", ENGINE, "vms.deleted_ms > opens_ms", "vms.deleted_ms >= opens_ms"
    ),
    Mutant("who comes to a host left out is updated", BLOCKS, "comes &= ~settled.is_over", "pass"),
    Mutant("a host waits for nobody who moves", "hosts.py", "if busy_ms is not None and host_count:", "if False:"),
    Mutant("a move is to the next host", CUSTOMERS, "hosts.first_row + target)", "hosts.first_row + target + 1)"),
    Mutant("who is refused has moved", RECORDS, "np.where(host_to < NO_ROW, host_to, host_from)", "host_to"),
    Mutant(
        "tries in vain lead away", RECORDS, "pa.array(tries.is_aborted), by_try", "pa.array(~tries.is_aborted), by_try"
    ),
    Mutant("a redeploy stays", RECORDS, "leaves = campaign.kind == Kind.REDEPLOY", "leaves = False"),
)


def survives(mutant: Mutant, profile: str) -> bool:
    """Whether all nets pass under *mutant*, drawn by *profile* of Hypothesis."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("fleetsim", "tests"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "datasets").symlink_to(ROOT / "datasets")
        shutil.copy(ROOT / "pyproject.toml", root)
        plant(mutant, root)
        # Uncompiled integers of numpy warn where they wrap around; compiled ones just do.
        options = ("-x", "-q", "-W", "ignore::RuntimeWarning", "-p", "no:cacheprovider")
        options += (f"--hypothesis-profile={profile}",)
        # That a test fails is all that is asked: to tell two long logs apart may take minutes and all memory.
        options += ("--assert=plain", "--tb=line")
        environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(root)}
        command = (sys.executable, "-m", "pytest", *options, *nets_of(mutant))
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), f"{mutant.bug}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.returncode == 0


def nets_of(mutant: Mutant) -> tuple[str, ...]:
    """The nets that *mutant* must be caught in."""
    if mutant.file in (FIT, PLACEMENT, PLACING):
        return PLACING_NETS
    return NETS


def plant(mutant: Mutant, root: Path) -> None:
    """Edit the copy of the package in *root*."""
    path = root / "fleetsim" / mutant.file
    text = path.read_text("utf-8")
    assert text.count(mutant.old) == 1, f"{mutant.bug}: {mutant.old!r} stands {text.count(mutant.old)} times"
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--all", action="store_true")
    chosen.add_argument("--share", type=int, metavar="N", help=f"those whose place is N modulo {SHARES}")
    chosen.add_argument("--bug", metavar="WORDS", help="those with these words in their name")
    arguments = parser.parse_args()
    sound = [
        Mutant("none at all", "schema.py", "FIRST_ITERATION = 1\n", "FIRST_ITERATION = 1\n"),
        Mutant("none at all in placing", PLACEMENT, "TRIES = 8\n", "TRIES = 8\n"),
    ]
    mutants = MUTANTS if arguments.share is None else MUTANTS[arguments.share % SHARES :: SHARES]
    mutants = [mutant for mutant in mutants if (arguments.bug or "") in mutant.bug]
    # That the nets pass without a bug takes longest, since no failure ends them: beside few bugs, with fewer examples.
    profiles = ["mutants" if arguments.all else "quick"] * len(sound) + ["mutants"] * len(mutants)
    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(survives, [*sound, *mutants], profiles)
        for mutant, is_alive in zip([*sound, *mutants], found, strict=True):
            is_right = is_alive == (mutant in sound)
            failed += not is_right
            print(f"{'passes' if is_alive else 'caught'}  {'' if is_right else 'WRONG  '}{mutant.bug}", flush=True)
    print(f"{len(mutants) + len(sound) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
