"""What a request costs, and that no request costs more than its bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import pricing
from stoker.core.pricing import Work
from stoker.types.prices import Card, DatedCard, DefaultPrice, Price, format_dollars, parse_dollars

RATES = st.integers(0, 10**12)
CARDS = st.builds(Card, RATES, RATES, RATES, RATES, RATES)
COUNTS = st.integers(0, 10**7)


@pytest.mark.parametrize(
    ("price", "work", "nano_usd"),
    [
        (Price(input="0.15", output="0.60"), Work(input_tokens=1000, output_tokens=500), 450_000),
        (Price(input="0.01"), Work(input_tokens=1), 10),
        (Price(input="0.15", cached="0.0375"), Work(input_tokens=3, cached_tokens=1), 338),  # 337.5, rounded up
        (Price(input="0.15"), Work(input_tokens=3, cached_tokens=2), 450),  # cached ones cost as the others
        (Price(requests="0.10"), Work(), 100_000),
        (Price(compute="0.00002"), Work(compute_us=1_500_000), 30_000),
        (Price(), Work(10**6, 0, 10**6, 10**9), 0),
    ],
)
def test_prices_a_request_by_its_card(price: Price, work: Work, nano_usd: int) -> None:
    assert pricing.price(price.card(), work) == nano_usd


@given(cards=st.lists(CARDS, min_size=1, max_size=3), most=st.tuples(COUNTS, COUNTS, COUNTS), data=st.data())
def test_no_request_costs_more_than_its_bound(
    cards: list[Card], most: tuple[int, int, int], data: st.DataObject
) -> None:
    took = [data.draw(st.integers(0, each)) for each in most]
    cached = data.draw(st.integers(0, took[0]))
    bound = pricing.bound(cards, Work(most[0], 0, most[1], most[2]))
    card = data.draw(st.sampled_from(cards))
    assert pricing.price(card, Work(took[0], cached, took[1], took[2])) <= bound


@given(
    card=CARDS,
    body=st.text(max_size=200),
    template=st.integers(0, pricing.TEMPLATE_TOKENS_MAX),
    max_tokens=st.integers(1, 10_000),
    left_s=st.floats(0, 600),
    data=st.data(),
)
def test_the_bound_of_a_request_holds_when_its_engine_keeps_within_max_tokens_and_the_deadline(
    card: Card, body: str, template: int, max_tokens: int, left_s: float, data: st.DataObject
) -> None:
    given_bytes = len(body.encode())
    most = pricing.at_most(body_bytes=given_bytes, max_tokens=max_tokens, left_s=left_s, writes=True)
    input_tokens = data.draw(st.integers(0, given_bytes)) + template  # a token of a text has at least a byte of it
    took = Work(
        input_tokens=input_tokens,
        cached_tokens=data.draw(st.integers(0, input_tokens)),
        output_tokens=data.draw(st.integers(0, max_tokens)),
        compute_us=int(data.draw(st.floats(0, left_s)) * 1e6),
    )
    assert pricing.price(card, took) <= pricing.bound([card], most)


@given(nano_usd=st.integers(0, 10**15))
def test_dollars_are_read_as_they_are_written(nano_usd: int) -> None:
    assert parse_dollars(format_dollars(nano_usd)) == nano_usd


def test_reads_numbers_of_a_manifest_as_they_stand_there() -> None:
    assert parse_dollars(0.15) == 150_000_000
    assert parse_dollars(3) == 3 * 10**9
    assert parse_dollars("$0.000000001") == 1
    assert format_dollars(-1) == "-0.000000001"


@pytest.mark.parametrize("text", ["-1", "free", "0.0000000001", "1000001", "NaN", "inf", ""])
def test_refuses_what_is_no_price(text: str) -> None:
    with pytest.raises(ValueError, match="is no price"):
        parse_dollars(text)


def test_the_most_exact_default_holds_from_its_day_on() -> None:
    book = (
        DefaultPrice(Price(input=1)),
        DefaultPrice(Price(input=2), task="chat"),
        DefaultPrice(Price(input=3), engine="openai"),
        DefaultPrice(Price(input=5), model="gpt-*", since="2026-02-01"),
        DefaultPrice(Price(input=4), model="gpt-*"),
        DefaultPrice(Price(input=6), model="gpt-5-mini"),
    )

    def dollars(model: str, engine: str, task: str, now_s: float) -> float:
        cards = pricing.cards_of(book, models=[model], engine=engine, task=task)
        return pricing.card_at(cards, now_s).input / 10**9

    assert dollars("digits", "onnx", "predict", 0) == 1
    assert dollars("qwen", "llamacpp", "chat", 0) == 2
    assert dollars("claude", "openai", "chat", 0) == 3
    assert dollars("gpt-4o", "openai", "chat", 1_769_903_999) == 4
    assert dollars("gpt-4o", "openai", "chat", 1_769_904_000) == 5
    assert dollars("gpt-5-mini", "openai", "chat", 0) == 6


def test_a_price_that_is_announced_leaves_the_less_exact_one_until_it_begins() -> None:
    book = (
        DefaultPrice(Price(input=1)),
        DefaultPrice(Price(input=2), engine="llamacpp"),
        DefaultPrice(Price(input=3), engine="llamacpp", since="2027-06-01"),
        DefaultPrice(Price(input=4), model="smol", since="2027-01-01"),
    )
    cards = pricing.cards_of(book, models=["smol"], engine="llamacpp", task="chat")
    at = {"2026-12-31": 2, "2027-01-01": 4, "2027-06-02": 4}
    seen = {day: pricing.card_at(cards, DefaultPrice(Price(), since=day).from_s()).input // 10**9 for day in at}
    assert seen == at


def test_costs_nothing_before_the_first_card_holds() -> None:
    assert pricing.card_at([DatedCard(Card(input=7), 100.0)], 99.0) == pricing.FREE
    assert pricing.card_at((), 99.0) == pricing.FREE


def test_a_day_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="is no day"):
        pricing.cards_of((DefaultPrice(Price(), since="2026-02-30"),), models=(), engine="", task="")
