"""The example on the page about prices is what a request costs."""

import re
from pathlib import Path

from stoker.core.pricing import Work, cards_of, price
from stoker.protocol import manifest
from stoker.types.prices import Card, PriceBook, format_dollars
from stoker.types.resources import Endpoint

PAGE = Path(__file__).parent.parent.parent / "docs" / "explanation" / "usage-and-prices.md"


def test_the_worked_example_is_what_the_code_reckons() -> None:
    page = PAGE.read_text()
    block = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert block is not None
    (endpoint,) = manifest.load(block[1])
    assert isinstance(endpoint, Endpoint)
    assert endpoint.spec.price is not None
    card = endpoint.spec.price.card()
    work = Work(input_tokens=1200, cached_tokens=200, output_tokens=350, compute_us=1_500_000)
    lines = re.findall(r"^\| (\w+) \|.*\| ([\d,]+) \|$", page, re.MULTILINE)
    rows = {name: int(cost.replace(",", "")) for name, cost in lines}
    own = {
        "input": price(Card(input=card.input), Work(input_tokens=1000)),
        "cached": price(Card(cached=card.cached), Work(input_tokens=200, cached_tokens=200)),
        "output": price(Card(output=card.output), Work(output_tokens=350)),
        "requests": price(Card(requests=card.requests), Work()),
        "compute": price(Card(compute=card.compute), Work(compute_us=1_500_000)),
        "together": price(card, work),
    }
    assert rows == own
    assert sum(own.values()) == 2 * own["together"]
    assert page.count(format_dollars(own["together"])) == 3


def test_the_list_of_default_prices_is_one_and_the_most_exact_counts() -> None:
    block = re.search(r"<<'EOF'\n(prices:\n.*?)EOF\n", PAGE.read_text(), re.DOTALL)
    assert block is not None
    book = manifest.load_struct(block[1].encode(), PriceBook)
    smol = cards_of(book.prices, models=["smol"], engine="llamacpp", task="chat")
    assert [each.card.input for each in smol] == [100_000_000, 120_000_000]
    (other,) = cards_of(book.prices, models=["other"], engine="llamacpp", task="chat")
    assert other.card.input == 150_000_000
    (rest,) = cards_of(book.prices, models=["other"], engine="onnx", task="predict")
    assert rest.card == Card(requests=20_000_000)
