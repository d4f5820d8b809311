"""How large a platform can be simulated: 1,000 replicas, 200 endpoints, 4 gateways and a million requests on one core.

`python -m bench --only simulated`. Also what one look of control decides for all of them, what a new route table costs
the gateways, and a turn of control's real loop (turn.py). Processor time, because others may use the machine.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from bench.figures import Figure
from bench.report import Section
from bench.rounds import say
from bench.turn import turn_ms
from stoker.core.capacity import Capacity
from stoker.sim import arrivals
from stoker.sim.endpoint import Terms
from stoker.sim.platform import plan
from stoker.sim.platform.world import World
from stoker.sim.policies import named
from stoker.sim.service import Drawn
from stoker.types.ids import NodeName

RATE: Final = 20_000.0  # requests/s of all
DURATION_S: Final = 50.0
REPLICAS_EACH: Final = 5  # of four places: 70 % of them are in use
SERVICE_S: Final = 0.14
CHAT_ENDPOINTS, CHATS_S, CHATS_PER_S = 20, 600.0, 17.5  # some 210,000; each of 5 replicas writes some 10 at once
ENDPOINTS: Final = 200
MANY: Final = 500
SECONDS_MAX, TICK_MS_MAX, TABLE_MS_MAX = 60.0, 200.0, 100.0
TIMES_MAX: Final = 2.6  # for twice the endpoints; linear is 2


def world(endpoints: int, duration_s: float) -> World:
    """Return a platform of `endpoints` at RATE / ENDPOINTS requests/s each."""
    per_s = RATE / ENDPOINTS
    kinds = tuple(
        plan.EndpointPlan(
            f"endpoint{number}",
            arrivals.poisson(
                lambda at_s: np.full_like(at_s, per_s), per_s, duration_s, np.random.default_rng((7, number))
            ),
            plan.Places(4, Drawn(SERVICE_S)),
            Terms(4, 40.0, 1, 2 * REPLICAS_EACH, REPLICAS_EACH),
            named("stoker"),
        )
        for number in range(endpoints)
    )
    nodes = tuple(Capacity(NodeName(f"node-{number}"), 16.0, 64 * plan.GIB) for number in range(endpoints // 2))
    return World(plan.PlatformPlan(kinds, 4, nodes))


def chats(endpoints: int, duration_s: float) -> World:
    """Return language models, each on replicas of 16 sequences, with chats of 50 to 600 tokens and answers to 200."""
    kinds = []
    for number in range(endpoints):
        draws = np.random.default_rng((8, number))
        came = arrivals.poisson(lambda at_s: np.full_like(at_s, CHATS_PER_S), CHATS_PER_S, duration_s, draws)
        read, written = draws.integers(50, 600, len(came)), draws.integers(10, 200, len(came))
        sized = replace(came, input_tokens=read, output_tokens=written)
        terms = Terms(1, 40.0, 1, 2 * REPLICAS_EACH, REPLICAS_EACH)
        kinds.append(plan.EndpointPlan(f"chat{number}", sized, plan.Generating(), terms, named("stoker")))
    return World(plan.PlatformPlan(tuple(kinds), 4))


def took_s(work: Callable[[], object]) -> float:
    """Return the processor seconds of `work`."""
    gc.collect()
    begun_s = time.process_time()
    work()
    return time.process_time() - begun_s


def measure() -> Section:
    """Run it, and half of it."""
    say("  half")
    half_s = took_s(world(ENDPOINTS // 2, DURATION_S / 2).run)
    double_s = took_s(world(ENDPOINTS, DURATION_S / 2).run)
    say("  whole")
    whole = world(ENDPOINTS, DURATION_S)
    outcomes = []
    all_s = took_s(lambda: outcomes.extend(whole.run()))
    requests = sum(each.requests for each in outcomes)
    unanswered = requests - sum(each.ends["ok"] for each in outcomes)
    sites = whole.sites.values()
    now_s = whole.clock.now_s + 2.0
    tick_s = took_s(lambda: [site.policy.tick(site.observe(now_s)) for site in sites])
    table_s = took_s(lambda: ([whole.control.publish(site) for site in sites], whole.clock.run(now_s)))
    say("  chats")
    talking, ended = chats(CHAT_ENDPOINTS, CHATS_S), []
    chats_s = took_s(lambda: ended.extend(talking.run()))
    chat_us = chats_s / sum(each.requests for each in ended) * 1e6
    figures = [
        Figure(f"{requests:,} requests", all_s, "s", SECONDS_MAX, "at most"),
        Figure("of a request", all_s / requests * 1e6, "µs"),
        Figure("of a chat, every step of its model simulated", chat_us, "µs", SECONDS_MAX, "at most"),
        Figure("not answered", float(unanswered), "", 0.0, "at most"),
        Figure(f"scaling decisions of one look at {ENDPOINTS} endpoints", tick_s * 1e3, "ms", TICK_MS_MAX, "at most"),
        Figure("a new route table of all of them in 4 gateways", table_s * 1e3, "ms", TABLE_MS_MAX, "at most"),
        *(
            Figure(
                f"a turn of control, {count} endpoints with {count * REPLICAS_EACH:,} replicas",
                turn_ms(count, REPLICAS_EACH),
                "ms",
                TICK_MS_MAX,
                "at most",
            )
            for count in (ENDPOINTS, MANY)
        ),
        Figure("twice the endpoints cost", double_s / half_s, "times", TIMES_MAX, "at most"),
    ]
    return Section("A large platform, simulated", figures)
