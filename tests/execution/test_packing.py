"""Packing, over cards that need not be there: never over-committed, never idle with a request that fits."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.execution.packing import WHOLE, Card, Cards, Request, pack
from hpo.failures import BadStudy

GIB = st.integers(0, 80).map(float)
SHARES = st.one_of(st.sampled_from([1 / n for n in range(1, 9)]), st.floats(0.01, 1.0), st.integers(1, 3).map(float))
REQUESTS = st.builds(Request, SHARES, st.one_of(st.just(0.0), st.floats(0.5, 60.0)))
CARDS = st.lists(
    st.one_of(
        st.builds(lambda free, more: Card("x", free + more, free), GIB, GIB),
        st.just(Card("x")),
    ),
    min_size=1,
    max_size=6,
)


def left(cards, i):
    """(millionths, GiB) of card i that nobody has, counted anew."""
    on = [one for one in cards.placed if i in one.cards]
    return WHOLE - sum(one.share for one in on), cards.all[i].free - sum(one.memory for one in on)


def check(cards):
    for i in range(len(cards.all)):
        share, memory = left(cards, i)
        assert share >= 0
        assert memory >= -1e-9
        whole = [one for one in cards.placed if i in one.cards and one.share == WHOLE]
        assert len(whole) <= 1
        assert not whole or share == 0, "whoever asks for a whole card has it alone"


def fits(cards, request):
    room = [left(cards, i) for i in range(len(cards.all))]
    return sum(share >= request.share and memory >= request.memory for share, memory in room) >= request.cards


@given(CARDS, st.lists(st.one_of(REQUESTS, st.integers(0, 30)), max_size=40))
def test_never_over_committed_and_never_idle_with_a_request_that_fits(given_cards, events):
    """`events`: requests, and numbers of those placed that are given back."""
    cards = Cards.of(given_cards)
    for event in events:
        if isinstance(event, int):
            if cards.placed:
                cards = cards.give_back(cards.placed[event % len(cards.placed)])
        else:
            could, taken = fits(cards, event), cards.take(event)
            assert (taken is not None) == could
            if taken is not None:
                assert len(set(taken.placement.cards)) == event.cards, (
                    "a share is on one card, whole ones are different"
                )
                cards = taken.cards
        check(cards)


@given(CARDS, st.lists(REQUESTS, max_size=20), st.randoms())
def test_everything_given_back_in_any_order_leaves_the_cards_as_they_were(given_cards, requests, random):
    empty = cards = Cards.of(given_cards)
    placed = []
    for request in requests:
        if (taken := cards.take(request)) is not None:
            cards = taken.cards
            placed.append(taken.placement)
    random.shuffle(placed)
    for placement in placed:
        cards = cards.give_back(placement)
    assert cards == empty
    with pytest.raises(ValueError, match="not in tuple"):
        cards.give_back((0, 0, 0))


@given(st.integers(1, 8), st.integers(1, 12), st.integers(1, 200))
def test_a_share_of_one_nth_lets_n_on_each_card(cards, n, workers):
    room = cards * n
    if workers > room:
        with pytest.raises(BadStudy, match=f"use at most {room} workers"):
            pack([Card(str(i)) for i in range(cards)], Request(1 / n), workers)
    else:
        found = pack([Card(str(i)) for i in range(cards)], Request(1 / n), workers)
        loads = [sum(one == (i,) for one in found) for i in range(cards)]
        assert sum(loads) == workers
        assert max(loads) - min(loads) <= 1


def test_memory_that_is_free_decides_as_well():
    cards = [Card("0", 80.0, 79.0), Card("1", 80.0, 21.0)]
    assert pack(cards, Request(0.25, 20.0), 4) == [(0,), (1,), (0,), (0,)]
    with pytest.raises(
        BadStudy, match=r"5 workers of 0\.25 GPUs and 20 GiB need more than the 2 cards here.*at most 4"
    ):
        pack(cards, Request(0.25, 20.0), 5)
    with pytest.raises(
        BadStudy, match=r"gpu_memory 80: no card has so much free \(79\.0 of 80\.0 GiB of card 0, 21\.0"
    ):
        pack(cards, Request(1.0, 80.0), 1)
    with pytest.raises(BadStudy, match="1 workers of 3 GPUs need more than the 2 cards here: ask for less"):
        pack(cards, Request(3.0), 1)


def test_whole_cards_are_for_one_alone():
    cards = Cards.of([Card("0"), Card("1")])
    shared = cards.take(Request(0.1))
    assert shared is not None
    assert shared.cards.take(Request(2.0)) is None
    alone = shared.cards.take(Request(1.0))
    assert alone is not None
    assert alone.placement.cards == (1,)
    assert alone.cards.take(Request(0.95)) is None
    assert alone.cards.take(Request(0.9)) is not None


def test_memory_that_is_not_known_is_no_limit():
    assert pack([Card("MIG-1", inf, inf)], Request(0.5, 500.0), 2) == [(0,), (0,)]
