"""Which route table gateways follow: who waits for them waits for the living, and no longer than it said."""

import asyncio

from stoker.control.bell import WAITERS_MAX, Bell
from stoker.control.followers import GATEWAYS_MAX, LOST_S, Followers


def test_who_follows_is_told_as_soon_as_the_last_gateway_asks_for_the_next_table() -> None:
    async def work() -> None:
        made = Followers()
        asked = {name: made.asks(name, 6) for name in ("gateway-0", "gateway-1")}
        following = asyncio.create_task(made.follow(7, 30.0))
        for name in ("gateway-0", "gateway-1"):
            await asyncio.sleep(0)
            assert not following.done()
            made.takes(asked[name])
            made.asks(name, 7)
        assert await asyncio.wait_for(following, 10.0) == ()

    asyncio.run(work())


def test_one_that_does_not_follow_is_named_when_the_wait_is_over() -> None:
    async def work() -> None:
        made = Followers()
        made.asks("gateway-0", 7)
        made.asks("gateway-1", 6)
        assert await made.follow(7, 0.01) == ("gateway-1",)

    asyncio.run(work())


def test_one_that_took_a_table_and_never_asked_again_is_waited_for_no_more() -> None:
    now_s = 0.0
    made = Followers(lambda: now_s)
    made.takes(made.asks("gateway-0", 6))
    now_s = LOST_S
    assert made.behind(7) == ("gateway-0",)
    now_s += 0.1
    assert made.behind(7) == ()
    made.asks("gateway-0", 6)  # it was only slow
    assert made.behind(7) == ("gateway-0",)


def test_one_that_asks_is_connected_however_long_it_waits() -> None:
    now_s = 0.0
    made = Followers(lambda: now_s)
    made.asks("gateway-0", 6)
    now_s = 10 * LOST_S
    assert made.behind(7) == ("gateway-0",)


def test_one_whose_connection_was_lost_and_that_asks_on_another_is_still_waited_for() -> None:
    now_s = 0.0
    made = Followers(lambda: now_s)
    lost = made.asks("gateway-0", 6)
    made.asks("gateway-0", 6)
    made.takes(lost)
    now_s = 10 * LOST_S
    assert made.behind(7) == ("gateway-0",)


def test_who_waits_for_a_gateway_goes_on_when_control_ends() -> None:
    async def work() -> None:
        made = Followers()
        made.asks("gateway-0", 6)
        following = asyncio.create_task(made.follow(7, 600.0))
        await asyncio.sleep(0)
        made.release()
        assert await asyncio.wait_for(following, 10.0) == ("gateway-0",)

    asyncio.run(work())


def test_no_more_wait_than_may() -> None:
    async def work() -> None:
        bell = Bell()
        waiting = [asyncio.create_task(bell.wait(600.0)) for _ in range(WAITERS_MAX)]
        await asyncio.sleep(0)
        assert not await bell.wait(600.0)
        bell.ring()
        assert await asyncio.gather(*waiting) == [True] * WAITERS_MAX

    asyncio.run(work())


def test_as_many_gateways_are_known_as_there_may_be() -> None:
    made = Followers(lambda: 0.0)
    for number in range(GATEWAYS_MAX + 5):
        made.asks(f"gateway-{number}", 1)
    assert len(made.behind(2)) == GATEWAYS_MAX
