"""The oracle against published answers, campaigns worked out by hand, and the promises it must keep."""

import itertools
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given

from tests import oracle, strategies
from tests.oracle import Campaign, Cap, Vm, simulate
from tests.strategies import Scene, scenes

SECOND = 1_000
ALL_ONES = 2**32 - 1


def freeze(name="c", length_ms=30 * SECOND, **asked):
    """A campaign of constant length in which domains go in sequence, unless asked otherwise."""
    return Campaign(name, strategies.constant(length_ms), **{"update_domain_order": "sequential"} | asked)


def starts(log):
    """(campaign, vm) -> start of its event, ms."""
    return {(event.campaign, event.vm): event.start_ms for event in log.events}


def spans(log):
    """(campaign, region) -> (first start, last end) of its stage, ms."""
    return {(stage.campaign, stage.region): (stage.first_start_ms, stage.last_end_ms) for stage in log.stages}


def singles(**count_by_region):
    """Singles with ids from 0 up: so many a region."""
    ids = itertools.count()
    return [Vm(next(ids), region) for region, count in count_by_region.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("word", "key", "expected"),
    [
        (0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (ALL_ONES, ALL_ONES, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_philox_gives_its_published_answers(word, key, expected):
    assert oracle.philox4x32_10((word,) * 4, (key,) * 2) == expected


@pytest.mark.parametrize(
    ("octets", "expected"),
    [(b"", 0xCBF29CE484222325), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)],
)
def test_fnv_gives_its_published_answers(octets, expected):
    assert oracle.fnv1a_64(octets) == expected


def test_integers_are_their_own_keys_in_two_s_complement():
    assert [oracle.entity_key(vm) for vm in (0, 7, -1, -(2**63))] == [0, 7, 2**64 - 1, 2**63]


def test_a_vm_and_a_set_of_one_key_draw_apart():
    streams = (oracle.LENGTH, oracle.UPDATE_DOMAIN_ORDER, oracle.SET_SPREAD, oracle.SINGLE_SPREAD)

    assert len({oracle.draw64(7, "c", 1, stream) for stream in streams}) == len(streams)


def test_draws_hang_on_seed_campaign_entity_and_number():
    draws = {
        oracle.draw64(seed, name, entity, oracle.UPDATE_DOMAIN_ORDER, number)
        for seed, name, entity, number in itertools.product((0, 2**63 - 1), "ab", (1, 2**32 + 1, "1"), (0, 1))
    }

    assert len(draws) == 24


@pytest.mark.parametrize(
    ("draw", "length_ms"),
    [
        (0, 100),  # entry 0 itself
        (1 << 48, 103),  # entry 1 itself
        (0x8000 << 32, 102),  # halfway from 100 to 103: halves round up
        (0x5555 << 32, 101),  # a third of the way
        (0x8000 << 32 | 0xFFFFFFFF, 102),  # the lower half of the draw says nothing
        (2**64 - 1, 9_000),  # all but the last quantile, rounded to it
    ],
)
def test_a_length_is_looked_up_and_interpolated(draw, length_ms):
    table = [100, 103, *[103] * 65_533, 8_999, 9_000]

    assert len(table) == 65_537
    assert oracle.length_at(table, draw) == length_ms


@pytest.mark.parametrize(
    ("domain_count", "length_ms", "work_ms", "gap_ms"),
    [
        (1, 30_000, 0, 600_000),
        (5, 30_000, 0, 0),
        (5, 30_000, 0, 1),
        (20, 10_000, 9_999, 600_000),
        (3, 10_000, 10_001, 7),
    ],
)
def test_a_set_takes_its_domains_and_the_gaps_between_them(domain_count, length_ms, work_ms, gap_ms):
    vms = [Vm(i, "italynorth", "s", i % domain_count) for i in range(2 * domain_count)]
    log = simulate(vms, [freeze(length_ms=length_ms, work_ms=work_ms, update_domain_gap_ms=gap_ms)], (), seed=1)

    held_ms = max(length_ms, work_ms)
    assert starts(log) == {("c", vm.vm): vm.update_domain * (held_ms + gap_ms) for vm in vms}
    assert spans(log) == {("c", "italynorth"): (0, domain_count * held_ms + (domain_count - 1) * gap_ms)}


def test_an_empty_domain_costs_no_time_and_no_gap():
    vms = [
        Vm("first", "italynorth", 1, 0),
        Vm("second", "italynorth", 1, 7),
        Vm("third", "italynorth", 1, 19),
    ]
    log = simulate(vms, [freeze(length_ms=10, update_domain_gap_ms=5)], (), seed=1)

    assert starts(log) == {("c", "first"): 0, ("c", "second"): 15, ("c", "third"): 30}


def test_largest_domains_go_first_and_ties_by_domain():
    domains = [4, 2, 2, 9, 9, 0]
    vms = [Vm(i, "italynorth", "s", domain) for i, domain in enumerate(domains)]
    log = simulate(vms, [freeze(length_ms=10, update_domain_order="largest_first")], (), seed=1)

    assert {vm.update_domain: starts(log)["c", vm.vm] for vm in vms} == {2: 0, 9: 10, 0: 20, 4: 30}


def test_a_random_order_is_that_of_the_draws():
    vms = [Vm(i, "italynorth", "s", i) for i in range(20)]
    log = simulate(vms, [freeze(length_ms=10, update_domain_order="random")], (), seed=3)

    order = sorted(range(20), key=lambda i: starts(log)["c", i])
    draws = [oracle.draw64(3, "c", "s", oracle.UPDATE_DOMAIN_ORDER, domain) for domain in order]
    assert draws == sorted(draws)
    assert order != list(range(20))


def test_the_next_domain_waits_for_the_longest_of_this_one():
    vms = [Vm(i, "italynorth", "s", i // 4) for i in range(8)]
    campaign = Campaign(
        "c", strategies.uniform(9_000, 10_000), update_domain_order="sequential", update_domain_gap_ms=3
    )
    log = simulate(vms, [campaign], (), seed=5)

    length_ms = [oracle.length_at(campaign.lengths, oracle.draw64(5, "c", vm, oracle.LENGTH)) for vm in range(8)]
    assert len(set(length_ms)) > 4
    assert starts(log) == {("c", vm): 0 if vm < 4 else max(length_ms[:4]) + 3 for vm in range(8)}
    assert {event.vm: event.duration_ms for event in log.events} == dict(enumerate(length_ms))
    assert spans(log) == {("c", "italynorth"): (0, max(length_ms[:4]) + 3 + max(length_ms[4:]))}


def test_default_domains_count_the_vms_of_a_set_by_key():
    in_order = [-7, -1, 0, 3, 10, 11, 200]
    vms = [Vm(vm, "italynorth", "s") for vm in (10, -1, 200, 0, 11, -7, 3)]
    log = simulate(vms, [freeze(length_ms=10)], (), seed=1)

    assert [starts(log)["c", vm] for vm in in_order] == [0, 10, 20, 30, 40, 0, 10]


def test_words_sort_by_their_utf_8_bytes():
    wide, astral = "Ａ", "\U0001f600"  # by UTF-16 units it would be the other way round  # noqa: RUF001
    log = simulate([Vm(vm, "italynorth", "s") for vm in (astral, "b", wide)], [freeze(length_ms=10)], (), seed=1)

    assert starts(log) == {("c", "b"): 0, ("c", wide): 10, ("c", astral): 20}


def test_sets_and_singles_do_not_wait_for_one_another():
    vms = [
        Vm(1, "italynorth", 1, 0),
        Vm(2, "italynorth", 1, 1),
        Vm(3, "italynorth", 2, 1),
        Vm(4, "italynorth"),
    ]
    log = simulate(vms, [freeze(length_ms=10)], (), seed=1)

    assert starts(log) == {("c", 1): 0, ("c", 2): 10, ("c", 3): 0, ("c", 4): 0}


def test_a_set_is_known_by_region_and_id_together():
    vms = [Vm(1, "italynorth", "s", 0), Vm(2, "polandcentral", "s", 1)]

    assert starts(simulate(vms, [freeze()], (), seed=1)) == {("c", 1): 0, ("c", 2): 0}


def test_spread_is_a_wait_drawn_for_each_set_and_single():
    spread_ms = 1_000_000
    vms = [Vm(1, "italynorth", 9, 0), Vm(2, "italynorth", 9, 1), Vm(9, "italynorth"), Vm(3, "italynorth")]
    log = simulate(vms, [freeze(length_ms=10, spread_ms=spread_ms, start_ms=5)], (), seed=1)

    def wait_ms(identity, stream):
        return oracle.draw64(1, "c", identity, stream) * spread_ms // 2**64

    of_set_ms = 5 + wait_ms(9, oracle.SET_SPREAD)
    of_singles_ms = [5 + wait_ms(vm, oracle.SINGLE_SPREAD) for vm in (9, 3)]
    assert len({of_set_ms, *of_singles_ms}) == 3
    assert starts(log) == {
        ("c", 1): of_set_ms,
        ("c", 2): of_set_ms + 10,
        ("c", 9): of_singles_ms[0],
        ("c", 3): of_singles_ms[1],
    }


def test_a_spread_of_one_ms_is_no_wait():
    vms = [Vm(i, "italynorth") for i in range(50)]

    assert set(starts(simulate(vms, [freeze(spread_ms=1)], (), seed=1)).values()) == {0}


def test_every_vm_in_scope_ends_updated_and_no_other_is_touched():
    vms = singles(italynorth=2, polandcentral=1)
    log = simulate(vms, [freeze(length_ms=10, regions=("italynorth",))], (), seed=1)

    told = {"paused_ms": 10, "outcome": "updated", "event_count": 1, "effects": oracle.CLOCK_SYNCHRONISED}
    outcomes = sorted(log.outcomes, key=lambda outcome: outcome.vm)
    assert outcomes == [oracle.Outcome("c", 0, **told), oracle.Outcome("c", 1, **told)]
    assert [stage.counts for stage in log.stages] == [{"updated": 2}]


def test_sets_without_guarantee_are_told_with_the_reason():
    vms = [
        *(Vm(i, "italynorth", "two domains", i) for i in (0, 1)),
        *(Vm(i, "italynorth", "one domain", 4) for i in (2, 3)),
        Vm(4, "italynorth", "one vm", 0),
        Vm(5, "polandcentral", "two domains"),
        Vm(6, "polandcentral"),
        Vm(7, "eastus", "not concerned"),
    ]
    log = simulate(vms, [freeze(regions=("italynorth", "polandcentral"))], (), seed=1)

    assert log.no_guarantee == {
        ("italynorth", "one domain", "one_domain"),
        ("italynorth", "one vm", "one_vm"),
        ("polandcentral", "two domains", "one_vm"),
    }
    assert log.figures["c", 1, "italynorth"]["no_guarantee_count"] == 2


@pytest.mark.parametrize("edge", [("northeurope", "westeurope"), ("westeurope", "northeurope")])
@pytest.mark.parametrize(("lag_ms", "second_start_ms"), [(0, 10), (1, 11), (600, 610)])
def test_a_pair_takes_turns_the_smaller_first_with_a_lag_between(edge, lag_ms, second_start_ms):
    vms = singles(northeurope=2, westeurope=1, italynorth=3)
    log = simulate(vms, [freeze(length_ms=10, pair_lag_ms=lag_ms)], [edge], seed=1)

    assert spans(log) == {
        ("c", "westeurope"): (0, 10),
        ("c", "italynorth"): (0, 10),
        ("c", "northeurope"): (second_start_ms, second_start_ms + 10),
    }


AMERICAN = [("eastus", "westus"), ("westus3", "eastus")]


@pytest.mark.parametrize(
    ("pair_order", "expected_ms"),
    [
        # One VM each in eastus and westus3: the tie goes to eastus by name; its two partners follow together.
        ("fewest_vms_first", {"eastus": 0, "westus": 10, "westus3": 10}),
        # westus goes first and bars eastus; westus3, no neighbour of westus, need not wait behind it.
        ("most_vms_first", {"eastus": 10, "westus": 0, "westus3": 0}),
        ("name", {"eastus": 0, "westus": 10, "westus3": 10}),
        (("westus3",), {"eastus": 10, "westus": 0, "westus3": 0}),
        (("westus", "eastus"), {"eastus": 10, "westus": 0, "westus3": 0}),
        (("italynorth", "eastus"), {"eastus": 0, "westus": 10, "westus3": 10}),
    ],
)
def test_pair_order_decides_who_of_three_goes_first(pair_order, expected_ms):
    vms = singles(westus3=1, westus=2, eastus=1)
    log = simulate(vms, [freeze(length_ms=10, pair_order=pair_order)], AMERICAN, seed=1)

    assert {stage.region: stage.start_ms for stage in log.stages} == expected_ms


def test_a_waiting_stage_reserves_nothing():
    # eastus is barred by westus until 10; westus3 comes at 4 and bars it again until 14.
    vms = singles(eastus=1, westus=1, westus3=1)
    campaigns = [
        freeze("first", 10, regions=("westus",)),
        freeze("barred", 10, regions=("eastus",), start_ms=2),
        freeze("passing", 10, regions=("westus3",), start_ms=4),
    ]
    log = simulate(vms, campaigns, AMERICAN, seed=1)

    assert spans(log) == {
        ("first", "westus"): (0, 10),
        ("passing", "westus3"): (4, 14),
        ("barred", "eastus"): (14, 24),
    }


def test_campaigns_of_one_region_go_by_the_instant_asked_then_by_place_in_the_file():
    campaigns = [freeze("late", 10, start_ms=1), freeze("b", 10), freeze("a", 10)]
    log = simulate(singles(italynorth=1), campaigns, (), seed=1)

    assert spans(log) == {
        ("b", "italynorth"): (0, 10),
        ("a", "italynorth"): (10, 20),
        ("late", "italynorth"): (20, 30),
    }


def test_the_instant_asked_goes_before_place_and_rank():
    # At 10 both wait. The second campaign asked first, so its stage in the larger region goes first.
    vms = singles(northeurope=2, westeurope=1)
    campaigns = [
        freeze("running", 10, regions=("westeurope",)),
        freeze("later", 10, start_ms=2, regions=("westeurope",)),
        freeze("sooner", 10, start_ms=1, regions=("northeurope",)),
    ]
    log = simulate(vms, campaigns, [("northeurope", "westeurope")], seed=1)

    assert spans(log) == {
        ("running", "westeurope"): (0, 10),
        ("sooner", "northeurope"): (10, 20),
        ("later", "westeurope"): (20, 30),
    }


def test_the_larger_lag_of_two_campaigns_counts_and_none_within_a_region():
    vms = singles(northeurope=1, westeurope=1)
    campaigns = [
        freeze("patient", 10, regions=("northeurope",), pair_lag_ms=100),
        freeze("hasty", 10, regions=("westeurope",), pair_lag_ms=7),
        freeze("again", 10, regions=("northeurope",), pair_lag_ms=3),
    ]
    log = simulate(vms, campaigns, [("northeurope", "westeurope")], seed=1)

    # `again` follows `patient` at once, in its own region; `hasty` waits 100 from the end of `patient`, which
    # is longer than 7 from the end of `again`.
    assert spans(log) == {
        ("patient", "northeurope"): (0, 10),
        ("again", "northeurope"): (10, 20),
        ("hasty", "westeurope"): (110, 120),
    }


def test_a_start_that_fits_the_lag_exactly_does_not_wait():
    vms = singles(northeurope=1, westeurope=1)
    campaigns = [
        freeze("first", 10, regions=("northeurope",)),
        freeze("second", 10, regions=("westeurope",), start_ms=17, pair_lag_ms=7),
    ]

    log = simulate(vms, campaigns, [("northeurope", "westeurope")], seed=1)
    assert spans(log)["second", "westeurope"] == (17, 27)


def test_the_gap_after_the_last_unit_does_not_keep_the_region():
    vms = [Vm(i, "northeurope", "s", i) for i in (0, 1)] + [Vm(2, "westeurope"), Vm(3, "westeurope")]
    order = ("northeurope", "westeurope")
    campaigns = [freeze(length_ms=10, update_domain_gap_ms=100, pair_order=order), freeze("next", 10)]
    log = simulate(vms, campaigns, [("northeurope", "westeurope")], seed=1)

    assert spans(log) == {
        ("c", "northeurope"): (0, 120),
        ("c", "westeurope"): (120, 130),
        ("next", "northeurope"): (130, 150),
        ("next", "westeurope"): (150, 160),
    }


def test_a_region_is_taken_through_the_spread():
    # The pair waits for the last single, and for it alone: the region stays taken while nobody is frozen.
    vms = [*(Vm(i, "northeurope") for i in range(3)), *(Vm(i, "westeurope") for i in range(3, 7))]
    log = simulate(vms, [freeze(length_ms=10, spread_ms=10_000)], [("northeurope", "westeurope")], seed=1)

    waits_ms = [oracle.draw64(1, "c", vm, oracle.SINGLE_SPREAD) * 10_000 // 2**64 for vm in range(3)]
    taken_ms = {stage.region: stage.start_ms for stage in log.stages}
    assert taken_ms == {"northeurope": 0, "westeurope": max(waits_ms) + 10}


# ---- VMs that come and go ----


def told(log):
    """vm -> (outcome, paused) of a log with one campaign."""
    return {outcome.vm: (outcome.outcome, outcome.paused_ms) for outcome in log.outcomes}


def test_who_is_there_when_the_stage_starts_is_in_scope():
    vms = [
        Vm("was", "italynorth", created_ms=-50, deleted_ms=99),
        Vm("gone", "italynorth", created_ms=-50, deleted_ms=100),
        Vm("just", "italynorth", created_ms=100),
        Vm("late", "italynorth", created_ms=101, deleted_ms=102),
        Vm("here", "italynorth", deleted_ms=101),
    ]
    log = simulate(vms, [freeze(length_ms=10, start_ms=100)], (), seed=1)

    assert starts(log) == {("c", "just"): 100, ("c", "here"): 100}
    assert told(log) == {
        "was": ("deleted", 0),
        "gone": ("deleted", 0),
        "just": ("updated", 10),
        "late": ("already_updated", 0),
        "here": ("deleted", 1),
    }
    assert spans(log) == {("c", "italynorth"): (100, 110)}


def test_an_impact_ends_with_its_vm_and_leaves_no_effect():
    vms = [Vm("cut", "italynorth", deleted_ms=4), Vm("whole", "italynorth", deleted_ms=10)]
    log = simulate(vms, [freeze(length_ms=10)], (), seed=1)

    # An end goes before a deletion of the same instant: the second one was frozen to the end.
    assert log.events == [
        oracle.Event("c", "cut", 0, 4, effects=0),
        oracle.Event("c", "whole", 0, 10),
    ]
    assert log.outcomes == [
        oracle.Outcome("c", "cut", 4, "deleted", event_count=1),
        oracle.Outcome("c", "whole", 10, "updated", event_count=1, effects=oracle.CLOCK_SYNCHRONISED),
    ]


def test_a_unit_ends_as_if_nobody_had_gone():
    vms = [Vm(0, "italynorth", "s", 0, deleted_ms=4), Vm(1, "italynorth", "s", 1)]
    log = simulate(vms, [freeze(length_ms=10, work_ms=13, update_domain_gap_ms=5)], (), seed=1)

    assert starts(log) == {("c", 0): 0, ("c", 1): 18}


@pytest.mark.parametrize(
    ("deleted_ms", "expected_ms", "free_ms"),
    [
        (9, {0: 0, 2: 15}, 25),  # before its turn: its place costs nothing, and the gap is that of the first
        (10, {0: 0, 2: 15}, 25),
        (12, {0: 0, 2: 15}, 25),  # in the gap before it
        (15, {0: 0, 2: 15}, 25),  # at its start: deletions go first
        (16, {0: 0, 1: 15, 2: 30}, 40),
    ],
)
def test_a_domain_that_lost_its_vms_costs_no_time_and_no_gap(deleted_ms, expected_ms, free_ms):
    vms = [Vm(i, "italynorth", "s", i, deleted_ms=deleted_ms if i == 1 else None) for i in range(3)]
    log = simulate(vms, [freeze(length_ms=10, update_domain_gap_ms=5)], (), seed=1)

    assert {vm: start_ms for (_, vm), start_ms in starts(log).items()} == expected_ms
    assert log.stages[0].free_ms == free_ms


def test_the_last_domain_is_done_while_the_gap_still_bars_it():
    # It would start at 110; its only VM goes at 60, and that frees the region for the next campaign.
    vms = [Vm(0, "italynorth", "s", 0), Vm(1, "italynorth", "s", 1, deleted_ms=60)]
    log = simulate(vms, [freeze(length_ms=10, update_domain_gap_ms=100), freeze("next", 10)], (), seed=1)

    first, following = log.stages
    assert (first.first_start_ms, first.last_end_ms, first.free_ms) == (0, 10, 60)
    assert (following.start_ms, following.counts) == (60, {"updated": 1, "deleted": 1})


def test_domains_lost_one_after_the_other_are_done_in_turn():
    # Domain 1 is done when its turn comes at 10, its VM being gone since 3; domain 2 in its turn at 40; 3 at 40 too.
    lost_ms = {1: 3, 2: 40, 3: 20}
    vms = [Vm(i, "italynorth", "s", i, deleted_ms=lost_ms.get(i)) for i in range(4)]
    log = simulate(vms, [freeze(length_ms=10, update_domain_gap_ms=1_000)], (), seed=1)

    assert starts(log) == {("c", 0): 0}
    assert log.stages[0].free_ms == 40


def test_who_is_gone_before_the_spread_lets_it_start_is_done_at_its_start():
    vms = [Vm(3, "italynorth", deleted_ms=1), Vm(1, "italynorth", 9, 0, deleted_ms=1)]
    log = simulate(vms, [freeze(length_ms=10, spread_ms=1_000)], (), seed=1)

    waits_ms = [
        oracle.draw64(1, "c", identity, stream) * 1_000 // 2**64
        for identity, stream in ((3, oracle.SINGLE_SPREAD), (9, oracle.SET_SPREAD))
    ]
    assert min(waits_ms) > 1
    assert log.events == []
    assert log.stages == [
        oracle.StageSpan("c", "italynorth", 0, 0, None, None, free_ms=max(waits_ms), counts={"deleted": 2})
    ]


def test_a_stage_with_nobody_to_hit_is_never_at_work():
    vms = [Vm(0, "northeurope", created_ms=1), *(Vm(i, "westeurope") for i in (1, 2))]
    log = simulate(vms, [freeze(length_ms=10, pair_lag_ms=50)], [("northeurope", "westeurope")], seed=1)

    # It is judged when it is asked for, and neither bars its neighbour nor makes it wait for the lag.
    assert spans(log) == {("c", "northeurope"): (None, None), ("c", "westeurope"): (0, 10)}
    assert log.stages[0] == oracle.StageSpan("c", "northeurope", 0, None, None, None, None, {"already_updated": 1})


def test_a_stage_that_lost_all_its_vms_while_it_waited_starts_and_is_free_at_once():
    vms = [*singles(westeurope=1), Vm(1, "northeurope", deleted_ms=9), Vm(2, "northeurope", deleted_ms=10)]
    campaigns = [freeze("c", 10, pair_lag_ms=7), freeze("again", 10, start_ms=1, regions=("westeurope",))]
    log = simulate(vms, campaigns, [("northeurope", "westeurope")], seed=1)

    # `again` follows at 10 in its own region, and keeps northeurope out until 27: all its VMs are gone by then.
    assert [(stage.campaign, stage.region, stage.start_ms, stage.free_ms) for stage in log.stages] == [
        ("c", "westeurope", 0, 10),
        ("c", "northeurope", 27, 27),
        ("again", "westeurope", 10, 20),
    ]


def test_the_lag_counts_from_a_stage_that_was_free_at_once():
    vms = [*singles(westeurope=1), Vm(1, "northeurope", deleted_ms=9)]
    campaigns = [
        freeze("c", 10, pair_lag_ms=7, pair_order=("westeurope",)),
        freeze("late", 10, start_ms=18, regions=("westeurope",)),
    ]
    log = simulate(vms, campaigns, [("northeurope", "westeurope")], seed=1)

    # northeurope is taken at 17 and free at 17: westeurope may follow 7 later.
    assert spans(log)["late", "westeurope"] == (24, 34)


# ---- Who is selected ----


def test_where_takes_all_columns_and_any_value_and_never_a_null():
    vms = [
        Vm(0, "italynorth", size="A", attributes={"workload": "web"}),
        Vm(1, "italynorth", size="B", attributes={"workload": "web"}),
        Vm(2, "italynorth", size="B", attributes={"workload": "db"}),
        Vm(3, "italynorth", size="A", attributes={"workload": None}),
        Vm(4, "italynorth", size="A", attributes={"workload": "batch"}),
    ]
    log = simulate(vms, [freeze(where={"size": ["A"], "workload": ["web", "db"]})], (), seed=1)

    assert told(log) == {0: ("updated", 30_000)}


def test_who_is_not_selected_leaves_no_gap():
    vms = [Vm(i, "italynorth", "s", i) for i in range(3)]
    log = simulate(vms, [freeze(length_ms=10, update_domain_gap_ms=5, where=lambda vm: vm.vm != 1)], (), seed=1)

    assert starts(log) == {("c", 0): 0, ("c", 2): 15}


def test_pair_order_counts_who_is_selected_and_a_region_without_any_is_no_stage():
    vms = singles(northeurope=2, westeurope=3, italynorth=1)
    log = simulate(
        vms, [freeze(length_ms=10, where=lambda vm: vm.vm in (0, 1, 2))], [("northeurope", "westeurope")], seed=1
    )

    assert spans(log) == {("c", "westeurope"): (0, 10), ("c", "northeurope"): (10, 20)}


def test_sizes_that_cannot_be_frozen_are_left_alone():
    sizes = {"cannot_freeze": frozenset({"M"})}
    vms = [
        Vm(0, "italynorth", "s", 0, size="M"),
        Vm(1, "italynorth", "s", 1, size="D"),
        Vm(2, "italynorth", size="M", deleted_ms=0),
        Vm(3, "italynorth", size="M", created_ms=1),
        Vm(4, "polandcentral", size="M"),
    ]
    log = simulate(vms, [freeze(length_ms=10, **sizes)], (), seed=1)

    assert starts(log) == {("c", 1): 0}
    assert {outcome.vm: (outcome.outcome, outcome.reason) for outcome in log.outcomes} == {
        0: ("unaffected", "cannot_freeze"),
        1: ("updated", "none"),
        2: ("deleted", "none"),
        3: ("already_updated", "none"),
        4: ("unaffected", "cannot_freeze"),
    }
    assert [stage.start_ms for stage in log.stages] == [0, None]


def rebooting(length_ms=30, **asked):
    """A freeze of 10 ms that reboots the size M for *length_ms*."""
    return freeze(length_ms=10, cannot_freeze=frozenset({"M"}), reboot_lengths=strategies.constant(length_ms), **asked)


def impacts(log):
    """VM -> start, length, kind, effects of its impact."""
    return {event.vm: (event.start_ms, event.duration_ms, event.kind, event.effects) for event in log.events}


def test_sizes_that_cannot_be_frozen_may_be_rebooted_instead():
    # Domain 1 waits for the reboot in domain 0, at 30, not for the pause beside it, and for the gap.
    vms = [
        Vm(0, "italynorth", "s", 0, size="M"),
        Vm(1, "italynorth", "s", 0, size="D"),
        Vm(2, "italynorth", "s", 1),
        Vm(3, "italynorth", size="M", deleted_ms=25),
        Vm(4, "italynorth", size="M", created_ms=1),
        Vm(5, "polandcentral", size="M"),
    ]
    log = simulate(vms, [rebooting(update_domain_gap_ms=5)], (), seed=1)

    assert impacts(log) == {
        0: (0, 30, "reboot", oracle.MEMORY_LOST),
        1: (0, 10, "freeze", oracle.CLOCK_SYNCHRONISED),
        2: (35, 10, "freeze", oracle.CLOCK_SYNCHRONISED),
        3: (0, 25, "reboot", 0),
        5: (0, 30, "reboot", oracle.MEMORY_LOST),
    }
    assert {(event.phase, event.result) for event in log.events} == {("platform", "completed")}
    assert {outcome.vm: (outcome.outcome, outcome.paused_ms, outcome.down_ms) for outcome in log.outcomes} == {
        0: ("updated", 0, 30),
        1: ("updated", 10, 0),
        2: ("updated", 10, 0),
        3: ("deleted", 0, 25),
        4: ("already_updated", 0, 0),
        5: ("updated", 0, 30),
    }
    assert [(stage.start_ms, stage.free_ms) for stage in log.stages] == [(0, 45), (0, 30)]


def test_the_length_of_a_reboot_is_looked_up_by_the_draw_of_the_pause():
    table, other = strategies.uniform(1, 60_000), strategies.uniform(100_000, 900_000)
    families = {"M": strategies.constant(7)}  # of pauses: whoever reboots has none
    campaign = Campaign("c", table, cannot_freeze=frozenset({"M"}), reboot_lengths=other, family_lengths=families)
    vms = [Vm(0, "italynorth", size="M"), Vm(1, "italynorth", size="D"), Vm(2, "polandcentral", size="M", host=9)]
    log = simulate(vms, [campaign], (), seed=1)

    draws = {vm: oracle.draw64(1, "c", drawn_for, oracle.LENGTH) for vm, drawn_for in ((0, 0), (1, 1), (2, 9))}
    assert {event.vm: event.duration_ms for event in log.events} == {
        0: oracle.length_at(other, draws[0]),
        1: oracle.length_at(table, draws[1]),
        2: oracle.length_at(other, draws[2]),
    }


def test_a_host_is_held_until_the_last_that_reboots_on_it_is_back():
    # Nobody on a host is left alone for another's size: all start together. Host b waits for the reboot on a.
    vms = [
        Vm(0, "italynorth", "s", 0, size="D", host="a"),
        Vm(1, "italynorth", size="M", host="a"),
        Vm(2, "italynorth", "s", 1, size="D", host="b"),
        Vm(3, "italynorth", size="M", host="b", created_ms=29),
        Vm(4, "italynorth", size="D", host="a"),
    ]
    log = simulate(vms, [rebooting(host_order="most_vms_first")], (), seed=1)

    assert {vm: impact[:3] for vm, impact in impacts(log).items()} == {
        0: (0, 10, "freeze"),
        1: (0, 30, "reboot"),
        2: (30, 10, "freeze"),
        3: (30, 30, "reboot"),
        4: (0, 10, "freeze"),
    }


def test_pairs_do_not_keep_clear_of_freezes_that_reboot_some_if_only_reboots_exclude():
    # What is announced as a reboot is of a kind that reboots; who is rebooted in a freeze makes it none.
    vms = [Vm(0, "northeurope", size="M"), Vm(1, "westeurope", size="M")]
    for exclusion, expected_ms in (("all", [0, 30]), ("reboots", [0, 0])):
        log = simulate(vms, [rebooting(pair_exclusion=exclusion)], [("northeurope", "westeurope")], seed=1)
        assert sorted(event.start_ms for event in log.events) == expected_ms


def test_a_campaign_without_impact_hits_nobody_and_bars_nobody():
    vms = [Vm(0, "italynorth"), Vm(1, "italynorth", deleted_ms=0), Vm(2, "italynorth", created_ms=1)]
    log = simulate(vms, [freeze("quiet", kind="no_impact"), freeze("c", 10)], (), seed=1)

    assert {outcome.vm: (outcome.outcome, outcome.reason) for outcome in log.outcomes[:3]} == {
        0: ("unaffected", "no_impact"),
        1: ("deleted", "none"),
        2: ("already_updated", "none"),
    }
    assert spans(log) == {("quiet", "italynorth"): (None, None), ("c", "italynorth"): (0, 10)}


def test_families_have_lengths_of_their_own():
    lengths = {"family_lengths": {"D": strategies.constant(7), "E": strategies.constant(12)}}
    vms = [Vm(i, "italynorth", "s", 0, size=size) for i, size in enumerate(["D", "E", "X", None])]
    log = simulate([*vms, Vm(9, "italynorth", "s", 1)], [freeze(length_ms=10, **lengths)], (), seed=1)

    assert {event.vm: (event.start_ms, event.duration_ms) for event in log.events} == {
        0: (0, 7),
        1: (0, 12),
        2: (0, 10),
        3: (0, 10),
        9: (12, 10),
    }


# ---- How sets walk ----


def test_a_set_may_walk_its_fault_domains():
    vms = [Vm(i, "italynorth", "s", update_domain=i, fault_domain=i // 2) for i in range(4)]
    log = simulate(vms, [freeze(length_ms=10, walk_by="fault_domain")], (), seed=1)

    assert starts(log) == {("c", 0): 0, ("c", 1): 0, ("c", 2): 10, ("c", 3): 10}


def test_default_fault_domains_are_three():
    log = simulate(
        [Vm(i, "italynorth", "s", 0) for i in range(5)], [freeze(length_ms=10, walk_by="fault_domain")], (), seed=1
    )

    assert [starts(log)["c", vm] for vm in range(5)] == [0, 10, 20, 0, 10]


def test_a_scale_set_is_cut_into_groups_of_a_hundred_by_id():
    vms = [Vm(i, "italynorth", "s", set_kind="scale_set") for i in reversed(range(201))]
    groups = {vm.vm: (vm.set, vm.update_domain, vm.fault_domain) for vm in oracle.as_prepared(vms)}

    assert [groups[vm] for vm in (0, 99, 100, 104, 199, 200)] == [
        ("s/pg-0", 0, 0),
        ("s/pg-0", 4, 0),
        ("s/pg-1", 0, 0),
        ("s/pg-1", 4, 1),
        ("s/pg-1", 4, 0),
        ("s/pg-2", 0, 0),
    ]
    assert {vm.set for vm in oracle.as_prepared(vms[:100])} == {"s"}


def test_all_sets_of_a_cluster_walk_a_domain_together():
    # The slower domain 0 of the second set keeps the first waiting; the third set is elsewhere, the fourth alone.
    vms = [
        Vm(0, "italynorth", "a", 0, cluster="x", size="D"),
        Vm(1, "italynorth", "a", 1, cluster="x", size="D"),
        Vm(2, "italynorth", "b", 0, cluster="x"),
        Vm(3, "italynorth", "b", 2, cluster="x"),
        Vm(4, "italynorth", "c", 0, cluster="y", size="D"),
        Vm(5, "italynorth", "c", 1, cluster="y"),
        Vm(6, "italynorth", "d", 1),
        Vm(7, "italynorth", cluster="x"),
    ]
    lengths = {"family_lengths": {"D": strategies.constant(4)}}
    log = simulate(vms, [freeze(length_ms=10, sets_in_step=True, update_domain_gap_ms=1, **lengths)], (), seed=1)

    assert {vm: start_ms for (_, vm), start_ms in starts(log).items()} == {
        0: 0, 2: 0,
        1: 11, 3: 16,
        4: 0, 5: 5,
        6: 0,
        7: 0,
    }  # fmt: skip
    assert log.figures["c", 1, "italynorth"]["longest_ms"] == 26


@pytest.mark.parametrize("others", ["y", None])
def test_a_set_in_several_clusters_walks_alone(others):
    # With its clusters, VM 2 would wait for the slow domain 0 of the other set, and be hit together with VM 1.
    vms = [
        Vm(0, "italynorth", "a", 0, cluster="x", size="D"),
        Vm(1, "italynorth", "b", 0, cluster=others),
        Vm(2, "italynorth", "b", 1, cluster="x"),
    ]
    lengths = {"family_lengths": {"D": strategies.constant(40)}}
    log = simulate(vms, [freeze(length_ms=10, sets_in_step=True, update_domain_order="sequential", **lengths)], (), 1)

    assert {vm: start_ms for (_, vm), start_ms in starts(log).items()} == {0: 0, 1: 0, 2: 10}


def test_a_cluster_draws_by_its_name():
    vms = [Vm(i, "italynorth", f"s{i % 2}", i // 2, cluster="x") for i in range(40)]
    campaign = freeze(length_ms=10, sets_in_step=True, update_domain_order="random", spread_ms=1_000)
    log = simulate(vms, [campaign], (), seed=1)

    order = sorted(range(20), key=lambda domain: starts(log)["c", 2 * domain])
    draws = [oracle.draw64(1, "c", "x", oracle.UPDATE_DOMAIN_ORDER, domain) for domain in order]
    assert draws == sorted(draws)
    assert min(starts(log).values()) == oracle.draw64(1, "c", "x", oracle.SET_SPREAD) * 1_000 // 2**64


# ---- Caps ----


def capped(*caps, **asked):
    return freeze(length_ms=10, caps=caps, **asked)


def by_priority(*walkers):
    """*walkers* in the order in which a cap lets them start."""
    return sorted(walkers, key=lambda walker: oracle.draw64(1, "c", walker, oracle.START_PRIORITY))


def test_no_more_vms_than_the_cap_are_out_and_the_draw_says_who_is_first():
    log = simulate(singles(italynorth=5), [capped(Cap("region", 2))], (), seed=1)

    first_to_last = by_priority(*range(5))
    assert [starts(log)["c", vm] for vm in first_to_last] == [0, 0, 10, 10, 20]


@pytest.mark.parametrize(("ratio", "together"), [("0.05", 1), ("0.39", 1), ("0.4", 2), ("0.79", 3), ("1", 5)])
def test_a_ratio_is_of_all_vms_of_the_fleet_there_and_at_least_one(ratio, together):
    vms = [*singles(italynorth=4), Vm(4, "italynorth", created_ms=1)]
    log = simulate(vms, [capped(Cap("region", ratio))], (), seed=1)

    assert Counter(starts(log).values())[0] == min(together, 4)


def test_a_unit_larger_than_its_cap_runs_alone_and_a_smaller_one_passes():
    vms = [*(Vm(i, "italynorth", "wide", 0) for i in range(3)), Vm(3, "italynorth", "narrow", 0), Vm(4, "italynorth")]
    log = simulate(vms, [capped(Cap("region", 2))], (), seed=1)

    at_ms = {name: starts(log)["c", vm] for name, vm in (("wide", 0), ("narrow", 3), (4, 4))}
    order = by_priority("wide", "narrow", 4)
    if order[0] == "wide":
        assert at_ms == {"wide": 0, "narrow": 10, 4: 10}
    else:
        assert at_ms == {"wide": 10, "narrow": 0, 4: 0}


def test_caps_of_clusters_and_zones_bind_each_on_its_own():
    vms = [
        Vm(0, "italynorth", cluster="x", zone="1"),
        Vm(1, "italynorth", cluster="x", zone="2"),
        Vm(2, "italynorth", cluster="y", zone="1"),
        Vm(3, "italynorth", zone="3"),
        Vm(4, "polandcentral", cluster="x", zone="1"),
    ]
    log = simulate(vms, [capped(Cap("cluster", 1), Cap("zone", 1))], (), seed=1)

    at_ms = {vm: at for (_, vm), at in starts(log).items()}
    assert (at_ms[3], at_ms[4]) == (0, 0)
    assert at_ms[0] not in (at_ms[1], at_ms[2])
    assert sorted(at_ms[vm] for vm in (0, 1, 2)) in ([0, 0, 10], [0, 10, 10])


def test_a_later_domain_waits_for_the_first_ones_of_all_sets():
    vms = [Vm(2 * i + domain, "italynorth", f"s{i}", domain) for i in range(3) for domain in range(2)]
    campaign = capped(Cap("region", 1), update_domain_order="sequential")
    log = simulate(vms, [campaign], (), seed=1)

    order = [int(name[1]) for name in by_priority("s0", "s1", "s2")]
    assert [starts(log)["c", 2 * i] for i in order] == [0, 10, 20]
    assert [starts(log)["c", 2 * i + 1] for i in order] == [30, 40, 50]


def test_a_blocked_unit_that_loses_its_vms_fits_sooner_or_is_done():
    vms = [
        Vm(0, "italynorth", "first", 0), Vm(1, "italynorth", "first", 0),
        Vm(2, "italynorth", "shrinks", 0), Vm(3, "italynorth", "shrinks", 0, deleted_ms=4),
        Vm(4, "italynorth", "goes", 0, deleted_ms=3),
    ]  # fmt: skip
    seed = next(
        seed for seed in range(100)
        if sorted(("first", "shrinks", "goes"), key=lambda name: oracle.draw64(seed, "c", name, oracle.START_PRIORITY))
        == ["first", "shrinks", "goes"]
    )  # fmt: skip
    log = simulate(vms, [capped(Cap("region", 3))], (), seed=seed)

    # At first there is room for one more VM: the third set's. The second fits when it has lost one and that is gone.
    assert {vm: at for (_, vm), at in starts(log).items()} == {0: 0, 1: 0, 4: 0, 2: 10}


# ---- Waves, pairs and the horizon ----


def waves(*names, **asked):
    return freeze(length_ms=10, waves=names, **asked)


@pytest.mark.parametrize(("bake_ms", "second_ms"), [(0, 10), (5, 15)])
def test_the_next_wave_goes_when_the_last_one_has_baked(bake_ms, second_ms):
    vms = singles(eastus=1, italynorth=1, polandcentral=1)
    log = simulate(vms, [waves(("italynorth",), ("*",), bake_ms=bake_ms, start_ms=0)], (), seed=1)

    assert {stage.region: (stage.wave, stage.asked_ms, stage.start_ms) for stage in log.stages} == {
        "italynorth": (1, 0, 0),
        "eastus": (2, second_ms, second_ms),
        "polandcentral": (2, second_ms, second_ms),
    }


def test_a_wave_waits_for_all_its_regions_and_pairs_in_it_follow_each_other():
    vms = singles(northeurope=1, westeurope=2, italynorth=1)
    campaign = waves(("northeurope", "westeurope"), ("italynorth",), bake_ms=5)
    log = simulate(vms, [campaign], [("northeurope", "westeurope")], seed=1)

    assert spans(log) == {("c", "northeurope"): (0, 10), ("c", "westeurope"): (10, 20), ("c", "italynorth"): (25, 35)}


def test_an_empty_wave_and_one_with_nobody_to_hit_only_bake():
    vms = [*singles(italynorth=1), Vm(9, "polandcentral", created_ms=100)]
    log = simulate(vms, [waves(("eastus",), ("polandcentral",), ("*",), bake_ms=5, start_ms=3)], (), seed=1)

    # Released at 3, empty; at 8, nobody there; at 13.
    assert {stage.region: (stage.wave, stage.asked_ms, stage.start_ms) for stage in log.stages} == {
        "polandcentral": (2, 8, None),
        "italynorth": (3, 13, 13),
    }


def test_a_wave_released_in_an_instant_takes_part_in_that_instant():
    # At 10 the wave after italynorth is released; its stage goes before that of the later campaign in the file.
    vms = singles(italynorth=1, polandcentral=1)
    campaigns = [waves(("italynorth",), ("polandcentral",)), freeze("b", 10, start_ms=10)]
    log = simulate(vms, campaigns, (), seed=1)

    assert spans(log) == {
        ("c", "italynorth"): (0, 10),
        ("c", "polandcentral"): (10, 20),
        ("b", "italynorth"): (10, 20),
        ("b", "polandcentral"): (20, 30),
    }


def test_a_stage_kept_by_a_waiting_unit_keeps_its_wave():
    vms = [Vm(0, "italynorth", "s", 0), Vm(1, "italynorth", "s", 1, deleted_ms=60), Vm(2, "polandcentral")]
    log = simulate(vms, [waves(("italynorth",), ("*",), bake_ms=5, update_domain_gap_ms=100)], (), seed=1)

    assert spans(log) == {("c", "italynorth"): (0, 10), ("c", "polandcentral"): (65, 75)}


@pytest.mark.parametrize(
    ("exclusions", "second_ms"), [(("all", "all"), 17), (("all", "reboots"), 0), (("reboots", "reboots"), 0)]
)
def test_freezes_exclude_each_other_over_a_pair_only_where_both_are_told_to(exclusions, second_ms):
    vms = singles(northeurope=1, westeurope=1)
    campaigns = [
        freeze("a", 10, regions=("northeurope",), pair_exclusion=exclusions[0], pair_lag_ms=7),
        freeze("b", 10, regions=("westeurope",), pair_exclusion=exclusions[1]),
        freeze("here", 10, regions=("northeurope",), pair_exclusion="reboots"),
    ]
    log = simulate(vms, campaigns, [("northeurope", "westeurope")], seed=1)

    assert spans(log)["b", "westeurope"] == (second_ms, second_ms + 10)
    assert spans(log)["here", "northeurope"] == (10, 20)


@pytest.mark.parametrize(("horizon_ms", "is_run"), [(24, False), (25, True)])
def test_a_stage_that_would_end_after_the_horizon_never_starts(horizon_ms, is_run):
    vms = [
        Vm(0, "italynorth", "s", 0),
        Vm(1, "italynorth", "s", 1),
        Vm(2, "italynorth", created_ms=20),
        Vm(3, "italynorth", deleted_ms=0),
        Vm(4, "italynorth", size="M"),
        Vm(5, "italynorth", size="M", created_ms=1),
    ]
    asked = {"update_domain_gap_ms": 5, "cannot_freeze": frozenset({"M"})}
    log = simulate(vms, [freeze(length_ms=10, **asked)], (), seed=1, horizon_ms=horizon_ms)

    overdue = ("overdue", "no_room_in_calendar")
    assert [(stage.start_ms, stage.free_ms) for stage in log.stages] == [(0, 25) if is_run else (None, None)]
    assert {outcome.vm: (outcome.outcome, outcome.reason) for outcome in log.outcomes} == {
        0: ("updated", "none") if is_run else overdue,
        1: ("updated", "none") if is_run else overdue,
        2: ("already_updated", "none") if is_run else overdue,
        3: ("deleted", "none"),
        4: ("unaffected", "cannot_freeze"),
        5: ("already_updated", "none") if is_run else overdue,
    }


def test_the_horizon_is_judged_when_nothing_else_keeps_the_stage():
    # At 10 eastus would end at 20: it is overdue, its wave over, and italynorth asked for, which is late as well.
    # The shorter campaign goes on with westus at 10, and at 15 it is too late for eastus.
    vms = singles(westus=1, eastus=2, italynorth=3)
    campaign = waves(("westus", "eastus"), ("italynorth",), bake_ms=0)
    log = simulate(vms, [campaign, freeze("b", 5)], AMERICAN, seed=1, horizon_ms=19)

    assert {(stage.campaign, stage.region): (stage.asked_ms, stage.start_ms) for stage in log.stages} == {
        ("c", "westus"): (0, 0),
        ("c", "eastus"): (0, None),
        ("c", "italynorth"): (10, None),
        ("b", "westus"): (0, 10),
        ("b", "eastus"): (0, None),
        ("b", "italynorth"): (0, 0),
    }


def test_a_unit_nobody_is_left_for_counts_for_the_horizon():
    vms = [Vm(0, "italynorth", "s", 0), Vm(1, "italynorth", "s", 1, deleted_ms=60)]
    for horizon_ms, start_ms in ((59, None), (60, 0)):
        log = simulate(vms, [freeze(length_ms=10, update_domain_gap_ms=100)], (), seed=1, horizon_ms=horizon_ms)
        assert [stage.start_ms for stage in log.stages] == [start_ms]


# ---- Tries ----


def tried(failure, timeout_ms, scheduled_ms=1_000, lengths=(10, 10), **asked):
    """A reboot of one window, in which so many of the tries fail."""
    asked = {"update_domain_order": "sequential", "kind": "reboot", "iterations_max": 1} | asked
    windows = oracle.Windows(0, 0, 0, scheduled_ms)
    retries = {"windows": windows, "try_failure": failure, "retry_timeout_ms": timeout_ms}
    return Campaign("c", strategies.uniform(*lengths), **retries, **asked)


def rows_of(log, vm):
    return [(event.start_ms, event.end_ms, event.result, event.effects) for event in log.events if event.vm == vm]


def outcome_of(log, vm):
    (found,) = [outcome for outcome in log.outcomes if outcome.vm == vm]
    return found.outcome, found.down_ms, found.event_count, found.effects


ONE_DOMAIN = Vm(3, "italynorth", "s", 0)


@pytest.mark.parametrize(("timeout_ms", "try_count"), [(0, 1), (9, 1), (10, 2), (19, 2), (20, 3), (21, 3)])
def test_no_try_begins_after_the_time_out(timeout_ms, try_count):
    log = simulate([ONE_DOMAIN], [tried("1.0", timeout_ms)], (), seed=1)

    assert rows_of(log, 3) == [(10 * i, 10 * i + 10, "aborted", oracle.MEMORY_LOST) for i in range(try_count)]
    assert outcome_of(log, 3) == ("failed", 10 * try_count, try_count, oracle.MEMORY_LOST)
    assert log.stages[0].last_end_ms == 10 * try_count


def test_each_try_has_a_length_of_its_own_and_ends_all_if_it_succeeds():
    # By their draws 2 succeeds at once, 0 at the second try, 1 at the fourth.
    vms = [Vm(vm, "italynorth", "s", 0) for vm in (2, 0, 1)]
    log = simulate(vms, [tried("0.5", 1_000, lengths=(10, 20))], (), seed=1)

    assert [[end - start for start, end, _, _ in rows_of(log, vm)] for vm in (2, 0, 1)] == [
        [15],
        [10, 18],
        [20, 15, 10, 14],
    ]
    assert [result for _, _, result, _ in rows_of(log, 1)] == ["aborted"] * 3 + ["completed"]
    assert [outcome_of(log, vm)[:3] for vm in (2, 0, 1)] == [
        ("updated_scheduled", 15, 1),
        ("updated_scheduled", 28, 2),
        ("updated_scheduled", 59, 4),
    ]
    figures = log.figures["c", 1, "italynorth"]
    assert (figures["vm_hit_count"], figures["unavailable_ms"], figures["pending_vm_ms"]) == (3, 102, 102)
    assert figures["set_out_ms"] == 15


def test_a_domain_waits_for_the_last_try_of_all_its_vms():
    # 1 and 0 as above; 59 ms, then the gap.
    vms = [Vm(0, "italynorth", "s", 0), Vm(1, "italynorth", "s", 0), Vm(2, "italynorth", "s", 1)]
    log = simulate(vms, [tried("0.5", 1_000, lengths=(10, 20), update_domain_gap_ms=5)], (), seed=1)

    assert rows_of(log, 2)[0][:2] == (64, 79)
    assert log.figures["c", 1, "italynorth"]["longest_ms"] == 79


@pytest.mark.parametrize(("scheduled_ms", "outcomes"), [(60, ("failed",) * 2), (59, ("failed", "overdue"))])
def test_a_domain_starts_only_if_all_its_tries_fit_into_the_window(scheduled_ms, outcomes):
    vms = [ONE_DOMAIN, Vm(4, "italynorth", "s", 1)]
    log = simulate(vms, [tried("1.0", 20, scheduled_ms)], (), seed=1)

    assert tuple(outcome_of(log, vm.vm)[0] for vm in vms) == outcomes


def test_a_single_starts_where_all_its_tries_fit_into_the_window():
    for scheduled_ms, starts_ms in ((30, {0}), (31, {0, 1}), (29, set())):
        log = simulate(singles(italynorth=40), [tried("1.0", 20, scheduled_ms)], (), seed=1)
        assert {rows_of(log, vm)[0][0] for vm in range(40) if rows_of(log, vm)} == starts_ms
        assert {outcome.outcome for outcome in log.outcomes} == ({"failed"} if starts_ms else {"overdue"})


@pytest.mark.parametrize(
    ("deleted_ms", "last", "outcome"),
    [
        (7, (0, 7, "completed", 0), ("deleted", 7, 1, 0)),
        (10, (0, 10, "aborted", 1), ("deleted", 10, 1, 1)),  # and not tried again
        (17, (10, 17, "completed", 0), ("deleted", 17, 2, 1)),
        (30, (20, 30, "aborted", 1), ("failed", 30, 3, 1)),  # ends come first
    ],
)
def test_a_deletion_ends_the_try_that_goes_on_and_all_later_ones(deleted_ms, last, outcome):
    vms = [Vm(3, "italynorth", "s", 0, deleted_ms=deleted_ms), Vm(4, "italynorth", "s", 1)]
    log = simulate(vms, [tried("1.0", 20)], (), seed=1)

    assert rows_of(log, 3)[-1] == last
    assert outcome_of(log, 3) == outcome
    assert rows_of(log, 4)[0][0] == 30  # the unit ends as if nobody had gone


def test_who_is_moved_in_vain_stays_where_it_was():
    # By its draws 0 is moved at the second try, 3 never.
    log = simulate([Vm(0, "italynorth"), Vm(3, "italynorth")], [tried("0.5", 10, kind="redeploy")], (), seed=1)
    moved = oracle.MEMORY_LOST | oracle.HOST_CHANGED | oracle.TEMP_DISK_LOST | oracle.ADDRESS_CHANGED

    assert [effects for *_, effects in rows_of(log, 0)] == [oracle.MEMORY_LOST, moved]
    assert [effects for *_, effects in rows_of(log, 3)] == [oracle.MEMORY_LOST] * 2
    assert outcome_of(log, 0) == ("updated_scheduled", 20, 2, moved)


def test_whoever_has_failed_comes_back_until_there_were_enough_iterations():
    log = simulate([ONE_DOMAIN], [tried("1.0", 10, 50, iterations_max=2, reschedule_delay_ms=7)], (), seed=1)

    assert [(start_ms, result) for start_ms, _, result, _ in rows_of(log, 3)] == [
        (start_ms, "aborted") for start_ms in (0, 10, 57, 67)
    ]
    assert [(outcome.iteration, outcome.outcome) for outcome in log.outcomes] == [(1, "failed"), (2, "failed")]


def test_a_vm_has_a_thousand_tries_at_most():
    log = simulate([ONE_DOMAIN], [tried("1.0", 7_200_000, 7_200_000, lengths=(1, 1))], (), seed=1)

    assert outcome_of(log, 3) == ("failed", 1_000, 1_000, oracle.MEMORY_LOST)


# ---- Customers beside other campaigns ----


def moved(*plan, name="m", length_ms=30, self_service_ms=1_000, scheduled_ms=1_000, **asked):
    """A reboot whose customers ask by a *plan*, right before its scheduled window; there is room for all."""
    windows = oracle.Windows(0, self_service_ms, 0, scheduled_ms)
    customers = oracle.SelfService(spare="1.0", requests=plan, recycle_ms=0)
    told = {"kind": "reboot", "windows": windows, "self_service": customers, "iterations_max": 1} | asked
    return Campaign(name, [length_ms] * strategies.ENTRY_COUNT, update_domain_order="sequential", **told)


def asked_for(log, name="m"):
    """What came of each request of a campaign."""
    return {(event.vm, event.start_ms): event.result for event in log.events if event.phase == "self_service"
            and event.campaign == name}  # fmt: skip


PAIR_OF_DOMAINS = [Vm(0, "italynorth", "s", 0), Vm(1, "italynorth", "s", 1), Vm(2, "italynorth"), Vm(3, "italynorth")]


def test_units_wait_for_moves_under_other_campaigns_and_hit_their_vms_then():
    plan = (0, 10), (2, 15), (3, 20), (3, 25), (3, 30), (1, 40), (1, 64), (1, 65)
    freezes = freeze("f", 10, start_ms=20, update_domain_gap_ms=5, update_domain_order="sequential")
    log = simulate(PAIR_OF_DOMAINS, [moved(*plan), freezes], (), seed=1)

    # Of the set one domain waits till 40, so the other has its turn at 55; one of the singles waits till 45.
    assert {vm: starts(log)["f", vm] for vm in range(4)} == {0: 40, 1: 55, 2: 45, 3: 20}
    # Nobody gets a move from the instant the freeze takes the region on, until it is done with the VM.
    assert asked_for(log) == {
        (0, 10): "completed",
        (2, 15): "completed",
        (3, 20): "retry_later",
        (3, 25): "retry_later",
        (3, 30): "completed",
        (1, 40): "retry_later",
        (1, 64): "retry_later",
        (1, 65): "completed",
    }
    assert spans(log)["f", "italynorth"] == (20, 65)
    (walk,) = [walk for walk in log.walks if walk.campaign == "f" and len(walk.vms) == 2]
    assert (walk.wait_ms, walk.held_ms, walk.gap_ms) == (20, 20, 5)


@pytest.mark.parametrize(("deleted_ms", "second_ms"), [(30, 30), (40, 55), (41, 55)])
def test_a_move_that_a_deletion_ends_lets_the_next_domain_start(deleted_ms, second_ms):
    vms = [replace(PAIR_OF_DOMAINS[0], deleted_ms=deleted_ms), *PAIR_OF_DOMAINS[1:]]
    freezes = freeze("f", 10, start_ms=20, update_domain_gap_ms=5, update_domain_order="sequential")
    log = simulate(vms, [moved((0, 10)), freezes], (), seed=1)

    # Gone in the instant in which its move would have ended, it is not hit; an instant later it has begun to be.
    second_ms = 40 if deleted_ms == 40 else second_ms
    assert starts(log)["f", 1] == second_ms
    assert (("f", 0) in starts(log)) == (deleted_ms > 40)


def test_of_two_customers_of_one_vm_the_first_in_the_file_is_first():
    campaigns = [moved((0, 10), (1, 39), (1, 40)), moved((0, 10), (1, 10), name="n", self_service_ms=3_000)]
    log = simulate(PAIR_OF_DOMAINS, campaigns, (), seed=1)

    assert asked_for(log) == {(0, 10): "completed", (1, 39): "retry_later", (1, 40): "completed"}
    assert asked_for(log, "n") == {(0, 10): "retry_later", (1, 10): "completed"}


@pytest.mark.parametrize(("gap_ms", "refused_ms", "granted_ms"), [(0, 130, 131), (15, 139, 140)])
def test_who_is_overdue_may_be_moved_as_soon_as_that_is_seen(gap_ms, refused_ms, granted_ms):
    # In a window from 100 to 140 one domain of 30 ms finds room. That there is none for the other is seen when its
    # turn has come, after the requests of that instant; or when the window closes, before them.
    windows = oracle.Windows(100, 0, 0, 40)
    reboot = freeze("r", 30, kind="reboot", windows=windows, update_domain_gap_ms=gap_ms, iterations_max=1)
    reboot = replace(reboot, update_domain_order="sequential")
    log = simulate(PAIR_OF_DOMAINS[:2], [reboot, moved((1, refused_ms), (1, granted_ms))], (), seed=1)

    assert asked_for(log) == {(1, refused_ms): "retry_later", (1, granted_ms): "completed"}
    ends = {outcome.vm: outcome.outcome for outcome in log.outcomes if outcome.campaign == "r"}
    assert ends == {0: "updated_scheduled", 1: "overdue"}


@pytest.mark.parametrize(("horizon_ms", "start_ms"), [(114, None), (115, 20)])
def test_a_stage_is_tried_with_the_moves_that_are_under_way(horizon_ms, start_ms):
    # Nobody is rebooted in a window from 10 to 20, but one is on the move from 5 to 105: till 115 for the freeze.
    first = moved((2, 5), length_ms=100, self_service_ms=10, scheduled_ms=10)
    log = simulate(PAIR_OF_DOMAINS[2:], [first, freeze("f", 10, start_ms=11)], (), seed=1, horizon_ms=horizon_ms)

    (stage,) = [stage for stage in log.stages if stage.campaign == "f"]
    assert (stage.start_ms, stage.free_ms) == (start_ms, None if start_ms is None else 115)


@pytest.mark.parametrize(("opens_ms", "start_ms"), [(114, 124), (115, 20)])
def test_a_stage_that_would_wait_for_moves_into_a_window_goes_after_it(opens_ms, start_ms):
    first = moved((2, 5), length_ms=100, self_service_ms=10, scheduled_ms=10)
    last = freeze("r", 1, kind="reboot", windows=oracle.Windows(opens_ms, 0, 0, 10), iterations_max=1)
    log = simulate(PAIR_OF_DOMAINS[2:], [first, last, freeze("f", 10, start_ms=11)], (), seed=1)

    assert spans(log)["f", "italynorth"][0] == start_ms


@pytest.mark.parametrize("second_ms", [105, 104])
def test_a_window_announced_keeps_clear_of_a_stage_that_waits_for_moves(second_ms):
    # The freeze that began at 20 is known to be at work till 115: the window asked for at 30 opens then.
    first = moved((2, 5), length_ms=100, self_service_ms=10, scheduled_ms=10)
    windows = oracle.Windows(second_ms - 30, 0, 0, 10)
    last = freeze("r", 1, kind="reboot", windows=windows, iterations_max=1, start_ms=30)
    log = simulate(PAIR_OF_DOMAINS[2:], [first, freeze("f", 10, start_ms=11), last], (), seed=1)

    (stage,) = [stage for stage in log.stages if stage.campaign == "r"]
    assert stage.start_ms == 115


def test_under_a_cap_the_room_is_for_who_does_not_wait_for_a_move():
    vms = [Vm(0, "italynorth"), Vm(1, "italynorth"), Vm(2, "italynorth")]
    log = simulate(vms, [moved((0, 5), (1, 5)), capped(Cap("region", 1), start_ms=10)], (), seed=1)

    # The moves end at 35; whichever of the two is first then, the other is next.
    assert starts(log)["c", 2] == 10
    assert sorted(starts(log)["c", vm] for vm in (0, 1)) == [35, 45]


# ---- What it comes to ----


def test_a_set_is_out_while_all_its_living_vms_are():
    # Domain 0: 0 and 1 from 0 to 10, domain 1: 2 from 10 to 20. The third VM comes at 4 and goes at 16.
    vms = [
        Vm(0, "italynorth", "s", 0),
        Vm(1, "italynorth", "s", 0, deleted_ms=13),
        Vm(2, "italynorth", "s", 1, deleted_ms=16),
        Vm(3, "italynorth", "t", 0),
        Vm(4, "italynorth", "t", 0, deleted_ms=2),
    ]
    log = simulate(vms, [freeze(length_ms=10)], (), seed=1, quorum=oracle.Quorum("set", "majority"))
    figures = log.figures["c", 1, "italynorth"]

    # s: two of three to 10 (no majority), then one of three, from 13 one of two (no majority), out never.
    # t: one domain, out to 10; without guarantee, so its ratio does not count.
    assert figures["set_out_ms"] == 10
    assert figures["set_down_ratio_max"] == oracle.Fraction(2, 3)
    assert figures["quorum_lost_ms"] == 10 + 3 + 10
    assert figures["unavailable_ms"] == 10 + 10 + 6 + 10 + 2
    assert figures["pending_vm_ms"] == 10 + 10 + 16 + 10 + 2
    assert (figures["set_count"], figures["single_count"], figures["vm_hit_count"]) == (2, 0, 5)
    assert log.no_guarantee == {("italynorth", "t", "one_domain")}


def test_vms_out_of_scope_hold_a_set_up():
    vms = [Vm(0, "italynorth", "s", 0), Vm(1, "italynorth", "s", 1, created_ms=7)]
    log = simulate(vms, [freeze(length_ms=10, where={"update_domain": [0]})], (), seed=1)

    # Alone when the stage starts, so nothing is promised; from 7 on somebody is up.
    assert log.figures["c", 1, "italynorth"]["set_out_ms"] == 7
    assert log.no_guarantee == {("italynorth", "s", "one_vm")}


@pytest.mark.parametrize(
    ("min_up", "living_count", "need"),
    [("majority", 1, 1), ("majority", 4, 3), ("majority", 5, 3), (2, 7, 2), (0.5, 5, 3), (1.0, 4, 4), (0.07, 100, 7)],
)
def test_a_quorum_is_a_majority_a_count_or_a_ratio(min_up, living_count, need):
    assert oracle.Quorum("set", min_up).need(living_count) == need


def test_a_group_smaller_than_the_count_has_no_quorum_to_lose():
    vms = [Vm(i, "italynorth", "s", i) for i in range(2)]
    for min_up, lost_ms in ((3, 0), (2, 20), (1, 0)):
        log = simulate(vms, [freeze(length_ms=10)], (), seed=1, quorum=oracle.Quorum("set", min_up))
        assert log.figures["c", 1, "italynorth"]["quorum_lost_ms"] == lost_ms


def test_an_application_goes_over_regions():
    vms = [
        Vm(0, "italynorth", application="shop"),
        Vm(1, "polandcentral", application="shop"),
        Vm(2, "polandcentral", application="mail"),
        Vm(3, "polandcentral"),
    ]
    campaigns = [
        freeze("together", 10),
        freeze("apart", 10, start_ms=100, waves=(("italynorth",), ("*",)), bake_ms=0),
    ]
    log = simulate(vms, campaigns, (), seed=1, quorum=oracle.Quorum("application", 2))

    assert log.campaign_figures == {
        ("together", "application_out_ms"): 20,
        ("together", "quorum_lost_ms"): 10,
        ("apart", "application_out_ms"): 10,
        ("apart", "quorum_lost_ms"): 20,
    }


def test_pending_counts_from_the_campaign_or_from_the_creation():
    vms = [Vm(0, "italynorth", created_ms=-5), Vm(1, "italynorth", created_ms=4)]
    campaigns = [freeze("first", 10), freeze("c", 10, start_ms=1)]
    log = simulate(vms, campaigns, (), seed=1)

    # The second campaign starts at 10 and ends at 20: 19 ms after its start, 16 ms after the creation of VM 1.
    assert log.figures["c", 1, "italynorth"]["pending_vm_ms"] == 19 + 16


def test_the_walk_that_ended_last_is_taken_apart():
    vms = [Vm(i, "italynorth", "s", i, deleted_ms=3 if i == 1 else None) for i in range(3)]
    log = simulate([*vms, Vm(9, "italynorth")], [freeze(length_ms=10, work_ms=12, update_domain_gap_ms=5)], (), seed=1)

    (of_set,) = [walk for walk in log.walks if len(walk.vms) == 3]
    assert (of_set.wait_ms, of_set.end_ms, of_set.held_ms, of_set.unit_count) == (0, 29, 24, 2)
    assert log.figures["c", 1, "italynorth"]["longest_ms"] == 29


# ---- Promises over drawn scenes ----


@given(scenes(without=["hosts"]))  # which bring in who shares them
def test_everybody_selected_has_one_outcome_and_an_event_if_hit(scene: Scene):
    log = scene.log()

    selected = [
        (request.meant.name, 1, vm.vm) for request in scene.requests for vm in scene.vms if request.meant.selects(vm)
    ]
    # And whoever an announced window has left comes back, as often as that may be.
    region_of, asked = {vm.vm: vm.region for vm in scene.vms}, {each.meant.name: each.meant for each in scene.requests}
    announced = {(stage.campaign, stage.iteration, stage.region) for stage in log.stages if stage.windows}
    come_back = [
        (outcome.campaign, outcome.iteration + 1, outcome.vm)
        for outcome in log.outcomes
        if outcome.outcome in ("skipped", "overdue", "failed")
        and (outcome.campaign, outcome.iteration, region_of[outcome.vm]) in announced
        and outcome.iteration < asked[outcome.campaign].iterations_max
    ]
    hit = Counter((event.campaign, event.iteration, event.vm) for event in log.events)
    # Who was tried in vain was down for that, whatever came of it.
    in_vain = {
        (event.campaign, event.iteration, event.vm): oracle.MEMORY_LOST
        for event in log.events
        if (event.phase, event.result) == ("scheduled", "aborted")
    }
    ended = Counter((outcome.campaign, outcome.iteration, outcome.vm) for outcome in log.outcomes)
    assert ended == Counter([*selected, *come_back])
    assert all(
        hit[outcome.campaign, outcome.iteration, outcome.vm] == outcome.event_count
        and (
            bool(outcome.event_count)
            if outcome.outcome.startswith("updated")
            else outcome.effects == in_vain.get((outcome.campaign, outcome.iteration, outcome.vm), 0)
        )
        for outcome in log.outcomes
    )
    assert hit.total() == sum(outcome.event_count for outcome in log.outcomes)


@given(scenes())
def test_nobody_is_hit_who_is_not_there(scene: Scene):
    vm_by_id = {vm.vm: vm for vm in scene.vms}
    for event in scene.log().events:
        vm = vm_by_id[event.vm]
        assert vm.lives(event.start_ms)
        assert vm.lives(max(event.start_ms, event.end_ms - 1))
        assert (event.duration_ms > 0) == (event.result == "completed" or event.phase == "scheduled")


@given(scenes(without=["caps", "hosts", "customers", "zones", "tries"]))
def test_a_set_is_walked_one_domain_at_a_time_with_the_gap_between(scene: Scene):
    asked = {request.meant.name: request.meant for request in scene.requests}
    vm_by_id = {vm.vm: vm for vm in oracle.as_prepared(scene.vms)}
    starts_ms = defaultdict(set)
    for event in scene.log().events:
        campaign, vm = asked[event.campaign], vm_by_id[event.vm]
        if vm.set is not None:
            domain = campaign.walked_domain(vm)
            stage = event.campaign, event.iteration, vm.region
            starts_ms[stage, campaign.walker(vm), domain].add((event.start_ms, vm))
    walks = defaultdict(list)
    for (stage, walker, _), hits in starts_ms.items():
        ((start_ms, vms),) = _by_first(hits).items()
        name, iteration, _ = stage
        walks[stage, walker].append((start_ms, start_ms + _held_ms(scene, asked[name], vms, iteration)))
    for ((name, _, _), _), walk in walks.items():
        for (_, end_ms), (next_start_ms, _) in itertools.pairwise(sorted(walk)):
            assert next_start_ms == end_ms + asked[name].update_domain_gap_ms


@given(scenes())
def test_regions_of_a_pair_are_never_at_work_together(scene: Scene):
    pairs = {frozenset(edge) for edge in scene.edges()}
    asked = {request.meant.name: request.meant for request in scene.requests}
    at_work = [stage for stage in scene.log().stages if stage.start_ms is not None]
    for one, other in itertools.combinations(at_work, 2):
        quiet_ms = max(other.start_ms - one.free_ms, one.start_ms - other.free_ms)
        campaigns = asked[one.campaign], asked[other.campaign]
        if one.region == other.region:
            assert quiet_ms >= 0
        elif frozenset((one.region, other.region)) in pairs and all(each.pair_exclusion == "all" for each in campaigns):
            assert quiet_ms >= max(each.pair_lag_ms for each in campaigns)


@given(scenes())
def test_a_stage_starts_when_asked_or_when_a_neighbour_lets_it(scene: Scene):
    pairs = {frozenset(edge) for edge in scene.edges()}
    lag_ms = {request.meant.name: request.meant.pair_lag_ms for request in scene.requests}
    at_work = [stage for stage in scene.log().stages if stage.start_ms is not None]
    for stage in at_work:
        let_ms = {
            other.free_ms + (other.region != stage.region and max(lag_ms[other.campaign], lag_ms[stage.campaign]))
            for other in at_work
            if other.region == stage.region or frozenset((other.region, stage.region)) in pairs
        }
        lead_ms = 0 if stage.windows is None else stage.windows[3] - stage.windows[0]
        assert stage.start_ms == stage.asked_ms + lead_ms or stage.start_ms in let_ms


@given(scenes())
def test_no_stage_is_free_after_the_horizon(scene: Scene):
    if scene.horizon_ms is not None:
        assert all(stage.free_ms is None or stage.free_ms <= scene.horizon_ms for stage in scene.log().stages)


@given(scenes())
def test_waves_follow_each_other(scene: Scene):
    stages = scene.log().stages
    for request in scene.requests:
        campaign = request.meant
        own = [stage for stage in stages if stage.campaign == campaign.name and stage.iteration == 1]
        for one, other in itertools.permutations(own, 2):
            if one.wave == other.wave:
                assert one.asked_ms == other.asked_ms
            elif one.wave < other.wave:
                over_ms = one.asked_ms if one.free_ms is None else one.free_ms
                assert other.asked_ms >= over_ms + campaign.bake_ms


def _by_first(pairs):
    found = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return found


def _held_ms(scene, campaign, vms, iteration):
    """How long the unit of *vms* was held: for `work`, or for the longest of their draws."""
    draws = [oracle.draw64(scene.seed, campaign.name, vm.vm, oracle.LENGTH, iteration=iteration) for vm in vms]
    lengths_ms = [oracle.length_at(campaign.quantiles_of(vm), draw) for vm, draw in zip(vms, draws, strict=True)]
    return max(campaign.work_ms, *lengths_ms)
