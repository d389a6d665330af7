"""The oracle against published answers, campaigns worked out by hand, and the promises it must keep."""

import itertools
from collections import Counter, defaultdict

import pytest
from hypothesis import given

from tests import oracle, strategies
from tests.oracle import Campaign, Vm, simulate
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

    assert log.outcomes == [oracle.Outcome("c", 0, paused_ms=10), oracle.Outcome("c", 1, paused_ms=10)]
    assert [stage.updated_count for stage in log.stages] == [2]


def test_sets_without_guarantee_are_told_with_the_reason():
    vms = [
        *(Vm(i, "italynorth", "two domains", i) for i in (0, 1)),
        *(Vm(i, "italynorth", "one domain", 4) for i in (2, 3)),
        Vm(4, "italynorth", "one vm", 0),
        Vm(5, "polandcentral", "two domains"),
        Vm(6, "polandcentral"),
    ]

    assert oracle.no_guarantee(vms) == {
        ("italynorth", "one domain", "one_domain"),
        ("italynorth", "one vm", "one_vm"),
        ("polandcentral", "two domains", "one_vm"),
    }


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


@given(scenes())
def test_every_vm_in_scope_is_frozen_once_a_campaign(scene: Scene):
    log = scene.log()

    expected = Counter(
        (request.meant.name, vm.vm)
        for request in scene.requests
        for vm in scene.vms
        if request.meant.regions is None or vm.region in request.meant.regions
    )
    assert Counter((event.campaign, event.vm) for event in log.events) == expected
    assert Counter((outcome.campaign, outcome.vm) for outcome in log.outcomes) == expected


@given(scenes())
def test_a_set_is_walked_one_domain_at_a_time_with_the_gap_between(scene: Scene):
    held_ms = _held_ms(scene)
    by_set = defaultdict(list)
    for (campaign, region, set_id, _), span_ms in held_ms.items():
        by_set[campaign, region, set_id].append(span_ms)
    gap_ms = {request.meant.name: request.meant.update_domain_gap_ms for request in scene.requests}
    for (campaign, _, _), walk in by_set.items():
        for (_, end_ms), (next_start_ms, _) in itertools.pairwise(sorted(walk)):
            assert next_start_ms == end_ms + gap_ms[campaign]


@given(scenes())
def test_regions_of_a_pair_are_never_at_work_together(scene: Scene):
    pairs = {frozenset(edge) for edge in scene.edges()}
    lag_ms = {request.meant.name: request.meant.pair_lag_ms for request in scene.requests}
    for one, other in itertools.combinations(scene.log().stages, 2):
        quiet_ms = max(other.start_ms - one.last_end_ms, one.start_ms - other.last_end_ms)
        if one.region == other.region:
            assert quiet_ms >= 0
        elif frozenset((one.region, other.region)) in pairs:
            assert quiet_ms >= max(lag_ms[one.campaign], lag_ms[other.campaign])


@given(scenes())
def test_a_stage_starts_when_asked_or_when_a_neighbour_lets_it(scene: Scene):
    pairs = {frozenset(edge) for edge in scene.edges()}
    lag_ms = {request.meant.name: request.meant.pair_lag_ms for request in scene.requests}
    stages = scene.log().stages
    for stage in stages:
        let_ms = {
            other.last_end_ms + (other.region != stage.region and max(lag_ms[other.campaign], lag_ms[stage.campaign]))
            for other in stages
            if other.region == stage.region or frozenset((other.region, stage.region)) in pairs
        }
        assert stage.start_ms == stage.asked_ms or stage.start_ms in let_ms


def _held_ms(scene):
    """(campaign, region, set, domain) -> [start, end) of its unit, worked out from the events."""
    vm_by_id = {vm.vm: vm for vm in oracle.with_domains(scene.vms)}
    work_ms = {request.meant.name: request.meant.work_ms for request in scene.requests}
    units = defaultdict(list)
    for event in scene.log().events:
        vm = vm_by_id[event.vm]
        if vm.set is not None:
            units[event.campaign, vm.region, vm.set, vm.update_domain].append(event)
    held_ms = {}
    for unit, events in units.items():
        (start_ms,) = {event.start_ms for event in events}
        held_ms[unit] = (start_ms, start_ms + max(work_ms[unit[0]], *(event.duration_ms for event in events)))
    return held_ms
