"""What a gateway makes of what others tell it of an endpoint."""

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stoker.core.occupants import TOLD_MAX, Occupants
from stoker.gateway.elsewhere import HEARD_S, Elsewhere, Standing, tenants
from stoker.gateway.siblings import ASK_TIMEOUT_S, Siblings
from stoker.protocol import frames


def standing(waiting: int = 0, **held: tuple[int, float, float]) -> Standing:
    return Standing("p", "e", waiting, held)


@given(st.lists(st.tuples(st.sampled_from(["g1", "g2"]), st.floats(0, 9)), max_size=20))
def test_what_was_given_elsewhere_is_counted_once_from_the_second_word_of_each_gateway(
    words: list[tuple[str, float]],
) -> None:
    elsewhere, units, heard = Elsewhere(), {"g1": 5.0, "g2": 0.0}, 0.0
    first: dict[str, float] = {}
    for number, (gateway, more) in enumerate(words):
        units[gateway] += more
        first.setdefault(gateway, units[gateway])
        heard += elsewhere.hear(gateway, standing(a=(1, 1.0, units[gateway])), number * 0.01).get("a", 0.0)
    assert abs(heard - sum(units[gateway] - began for gateway, began in first.items())) < 1e-6


def test_a_gateway_that_began_to_count_anew_is_taken_at_its_word() -> None:
    elsewhere = Elsewhere()
    elsewhere.hear("g1", standing(a=(1, 1.0, 100.0)), 0.0)
    assert elsewhere.hear("g1", standing(a=(1, 1.0, 3.0), b=(1, 1.0, 50.0)), 0.1) == {"a": 3.0}, "b is new"


def test_places_of_all_gateways_are_added_and_those_of_a_silent_one_forgotten() -> None:
    elsewhere = Elsewhere()
    assert not elsewhere.is_heard
    elsewhere.hear("g1", standing(2, a=(3, 1.0, 0.0), b=(0, 0.0, 9.0)), 0.0)
    elsewhere.hear("g2", standing(0, a=(2, 1.0, 0.0), c=(1, 2.0, 0.0)), HEARD_S)
    assert elsewhere.held() == {"a": (5, 1.0), "c": (1, 2.0)}
    assert elsewhere.waiting == 1
    assert not elsewhere.fade(HEARD_S)
    assert elsewhere.fade(HEARD_S * 1.5)
    assert elsewhere.held() == {"a": (2, 1.0), "c": (1, 2.0)}
    assert (elsewhere.is_heard, elsewhere.waiting) == (True, 0)
    assert elsewhere.fade(HEARD_S * 3)
    assert (elsewhere.is_heard, elsewhere.held()) == (False, {})


@given(st.integers(0, 3 * TOLD_MAX), st.integers(0, 3 * TOLD_MAX))
def test_who_holds_most_is_told_of_first_and_no_more_than_so_many_tenants(holding: int, idle: int) -> None:
    occupants = Occupants()
    for number in range(holding):
        for _ in range(number % 5 + 1):
            occupants.took(f"h{number}", 1.0)
    told = tenants(occupants, {f"i{number}": 1.0 for number in range(idle)})
    assert len(told) == min(holding + idle, TOLD_MAX)
    held = sorted((count for count, _, _ in told.values() if count), reverse=True)
    assert held == sorted((number % 5 + 1 for number in range(holding)), reverse=True)[:TOLD_MAX]


def test_a_gateway_that_does_not_answer_holds_up_for_half_a_second_and_its_connection_is_closed(tmp_path: Path) -> None:
    """One that is stopped: its socket takes what is sent."""

    async def work() -> None:
        ended = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frames.hello(frames.Hello(frames.WIRE_VERSION, "gateway-1", "gateway", 1, "boot")))
            while await reader.read(100):
                pass
            writer.close()
            ended.set()

        address = tmp_path / "gateway-1"
        server = await asyncio.start_unix_server(silent, address)
        siblings = Siblings([f"unix:{address}", f"unix:{tmp_path / 'nobody'}"])
        async with asyncio.timeout(20 * ASK_TIMEOUT_S):
            assert await siblings.tell(b"x") == []
            await ended.wait()
        server.close()

    asyncio.run(work())
