"""What the profile gate makes of kept requests: both are asked, and what neither answers says nothing of either."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from stoker.control.releases import profile
from stoker.control.releases.ask import Fleet
from stoker.control.releases.kept import Asking
from stoker.control.releases.profile import ROUNDS, WARM_UP, Bodies, Measuring, Sides
from stoker.protocol import link
from stoker.types.errors import InvalidInput
from stoker.types.ids import RevisionId
from stoker.types.process import NodeStatus, ProcessStatus
from stoker.types.releases import GateResult, ProfileGate
from tests.protocol.test_link import Worker

CALLS: tuple[Asking, ...] = tuple(("echo", b'{"at":%d}' % at) for at in range(4))


class Choosy(Worker):
    """A replica that answers nothing of what it is told to refuse."""

    def __init__(self, refused: Sequence[Asking]) -> None:
        super().__init__()
        self.refused = {body for _, body in refused}

    def request(self, exchange: link.Exchange) -> None:
        if exchange.body in self.refused:
            raise InvalidInput("this is no request any more")
        super().request(exchange)


def measured(
    folder: Path, new: Sequence[Asking], old: Sequence[Asking] | None, *, is_kept: bool
) -> tuple[str, int, int]:
    """Return why a new replica that refuses `new` failed, and how many answers of both were measured.

    old: what the serving one refuses; None where nothing serves.
    """

    async def work() -> tuple[str, int, int]:
        async with AsyncExitStack() as both:
            links: list[link.Link | None] = [None, None]
            for at, refused in enumerate((new, old)):
                if refused is not None:
                    server = await link.serve(f"unix:{folder / str(at)}", Choosy(refused))
                    both.push_async_callback(server.close)
                    links[at] = opened = await link.connect(f"unix:{folder / str(at)}")
                    both.callback(opened.close)
            here, there = links
            assert here is not None
            measuring = Measuring(here, there, Bodies(CALLS, "4 requests", is_kept=is_kept))
            failed = await measuring.run(20)
            return failed, len(measuring.new), len(measuring.old)

    return asyncio.run(work())


def test_a_kept_request_that_neither_answers_is_left_out_and_the_others_are_measured(tmp_path: Path) -> None:
    assert measured(tmp_path, CALLS[1:3], CALLS[1:3], is_kept=True) == ("", 20, 20)
    assert measured(tmp_path, CALLS[1:3], None, is_kept=True) == ("", 20, 0)


def test_one_that_the_serving_revision_answers_and_the_new_one_does_not_fails_it(tmp_path: Path) -> None:
    failed, new, _ = measured(tmp_path, CALLS[1:2], (), is_kept=True)
    assert failed == "this is no request any more"
    assert new < WARM_UP


def test_where_nothing_kept_is_answered_and_where_an_example_is_not_it_fails(tmp_path: Path) -> None:
    failed, *_ = measured(tmp_path, CALLS, CALLS, is_kept=True)
    assert failed == "none of the kept requests, the last: this is no request any more"
    assert measured(tmp_path, CALLS[1:2], CALLS[1:2], is_kept=False)[0] == "this is no request any more"


class Slow(Worker):
    """A replica that takes its time for so many requests, and none for those after them."""

    def __init__(self, slow: int) -> None:
        super().__init__()
        self.asked = 0
        self.slow = slow

    def request(self, exchange: link.Exchange) -> None:
        self.asked += 1
        if self.asked <= self.slow:
            time.sleep(0.02)  # both are in this process: nothing but this makes one slower than the other
        super().request(exchange)


def judged(folder: Path, new: Worker, serving: Worker) -> GateResult:
    """Return what the gate says of two replicas, each on its own socket."""

    async def work() -> GateResult:
        async with AsyncExitStack() as both:
            for name, worker in (("new", new), ("serving", serving)):
                server = await link.serve(f"unix:{folder / name}", worker)
                both.push_async_callback(server.close)
            replicas = tuple(
                ProcessStatus(name, "replica", "ready", labels={"revision": name}) for name in ("new", "serving")
            )
            fleet = Fleet(lambda: [NodeStatus("n", 1, 2, 1, 1, replicas)], lambda name: f"unix:{folder / name}")
            sides = Sides(RevisionId("new"), RevisionId("serving"))
            bodies = Bodies(CALLS, "4 requests")
            gate = ProfileGate(latency_worse_max=4.0, requests=20)  # far beyond what a busy machine makes of equal ones
            return await profile.judge(sides, gate, bodies, fleet, pause_s=0.0)

    return asyncio.run(work())


def test_who_was_slow_for_a_moment_only_is_measured_again_and_passes(tmp_path: Path) -> None:
    disturbed = Slow(WARM_UP + 20)  # the whole first round: no statistics of that moment alone could tell
    found = judged(tmp_path, disturbed, Slow(0))
    assert (found.state, disturbed.asked) == ("passed", 2 * (WARM_UP + 20)), found.because
    assert "(2 times measured)" in found.because


def test_who_is_slow_in_every_round_fails(tmp_path: Path) -> None:
    found = judged(tmp_path, Slow(1_000), Slow(0))
    assert found.state == "failed"
    assert f"({ROUNDS} times measured)" in found.because
