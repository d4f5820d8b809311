"""Which endpoint serves: the one that was asked, one of its backends, or a fallback. Rules: core/fallback.py, tiers.py.

Outside of admit, so that a refusal for a full queue can fall back too; inside of meter and deadline, so that the
endpoint that was asked counts the request once and one deadline holds for all. An endpoint that serves for another
meters its part itself. The caller's right to the endpoint he asked is his right to those that serve for it.

The exchange's lane changes with each step. All that a step took (a place in a replica or a queue, the turn of a trial)
is given back by the layers inside before it ends, because each of them keeps the lane it began with.
"""

import asyncio
import time
from functools import partial
from typing import Final

from stoker.core import fallback as rule
from stoker.core.fallback import Step
from stoker.gateway import trail
from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange, Handler, Work
from stoker.gateway.fleet import suspicion
from stoker.gateway.lane import Lane
from stoker.gateway.layers.admit import refuse_shed
from stoker.gateway.layers.meter import meter
from stoker.gateway.protocols.openai_http import wish
from stoker.gateway.relay import Relay
from stoker.types.errors import DeadlineExceeded, StokerError, TooLarge, Unavailable, UnprocessableInput
from stoker.types.replica import Usage
from stoker.types.resources import FallbackReason
from stoker.types.routes import EndpointRoute

LEFT_MIN_S: Final = 0.005  # with less left of the deadline no further endpoint is tried


def fallback(directory: Directory, inner: Handler) -> Handler:
    """Go through the endpoints that may serve until one answers. Costs a look at a flag where there is only one."""
    part = meter(inner)

    def handle(exchange: Exchange) -> Work:
        lane = exchange.lane
        assert lane is not None
        if lane.tier is not None:
            refuse_shed(lane, exchange)  # admit sees only who serves
        # The own callers of an endpoint that others fall back to probe it too, while its breaker is open.
        # A version is asked for by name: no other endpoint has it.
        if not (lane.is_chained or lane.circuit.is_open) or exchange.version:
            return inner(exchange)
        return _Chain(directory, exchange, lane).run(inner, part)

    return handle


class _Chain:
    """One request's way through the endpoints that may serve it."""

    def __init__(self, directory: Directory, exchange: Exchange, first: Lane) -> None:
        self._directory = directory
        self._exchange = exchange
        self._first = first
        self._expires_s = exchange.deadline_s
        self._has_chosen = False  # a tier chose, for this request alone
        self._late: StokerError | None = None  # the step was interrupted for taking too long

    async def run(self, inner: Handler, part: Handler) -> None:
        """Serve the exchange. Raises what the first endpoint said when none answers."""
        exchange, first = self._exchange, self._first
        steps, lanes = self._plan()
        kept: StokerError | None = None
        why = ""
        own: tuple[Relay | None, str] = (None, "")  # what the endpoint that was asked came to
        try:
            for at, (step, lane) in enumerate(zip(steps, lanes, strict=True)):
                if kept is not None and _listed(why) not in step.reasons:
                    continue
                problem, skipped = self._skip(at, steps, lanes), True
                if problem is None:
                    if kept is not None:
                        if self._expires_s - time.monotonic() < LEFT_MIN_S:
                            break
                        first.meters.fallback(why, step.endpoint)
                    exchange.can_move = _any_up(steps[at + 1 :], lanes[at + 1 :])
                    exchange.can_spill = _any_up(steps[at + 1 :], lanes[at + 1 :], "overload")
                    problem, skipped = await self._step(lane, steps[at + 1 :], inner if lane is first else part), False
                    if problem is None:
                        return
                    own = (exchange.relay, exchange.revision) if lane is first else own
                    if rule.ends_all(problem):
                        raise problem
                trail.note_step(exchange, lane, problem.code, time.monotonic())
                kept = kept or problem
                is_open = skipped and lane.ready_count > 0
                found = "open" if is_open else rule.reason(problem)
                if found is None and at == 0:
                    raise problem
                why = found or why
            exchange.served_by = ""
            exchange.relay, exchange.revision = own
            raise kept or Unavailable(f"{first.route.endpoint} has no backend that can serve", retry_after_s=10.0)
        finally:
            exchange.lane, exchange.deadline_s = first, self._expires_s
            exchange.began_s = exchange.request.started_s
            if exchange.served_by not in ("", first.route.endpoint):
                exchange.revision = ""

    # ---- one step

    async def _step(self, lane: Lane, later: list[Step], call: Handler) -> StokerError | None:
        """Send the exchange to `lane`. Returns what went wrong before the first byte; raises what did after it."""
        exchange = self._exchange
        began_s = time.monotonic()
        limit_s = rule.try_s(later, self._expires_s - began_s)
        refused = self._begin(lane, began_s, limit_s)
        if refused is not None:
            return refused
        entered = lane.circuit.enter(began_s)
        if entered == "open" and lane.route.breaker.refuse:
            return _broken(lane, began_s)
        timer = None
        if limit_s is not None:
            timer = asyncio.get_running_loop().call_later(limit_s, self._expire, limit_s)
        if entered == "probe":  # a stream that begins has shown that it works; it may go on for minutes
            exchange.on_start = partial(self._passed, lane)
        succeeded: bool | None = None
        try:
            await call(exchange)
            succeeded = True
        except StokerError as problem:
            succeeded = self._verdict(lane, problem, began_s)
            if exchange.is_started:
                raise
            problem.__traceback__ = problem.__context__ = problem.__cause__ = None  # they hold the body (see rescue)
            return problem
        except asyncio.CancelledError:
            late = self._take_late()
            succeeded = exchange.is_started or self._verdict(lane, late or exchange.cause, began_s)
            if late is None:
                raise
            return late
        finally:
            if timer is not None:
                timer.cancel()
            if entered != "probe" or exchange.on_start is not None:
                lane.circuit.leave(entered, succeeded, time.monotonic())
            exchange.on_start = None
        return None

    def _passed(self, lane: Lane) -> None:
        self._exchange.on_start = None
        lane.circuit.leave("probe", True, time.monotonic())

    def _begin(self, lane: Lane, now_s: float, limit_s: float | None) -> StokerError | None:
        """Make the exchange one of `lane`; return why it cannot be."""
        exchange, source = self._exchange, self._exchange.lane
        assert source is not None
        try:
            if source is not lane and source.book:
                suspicion.carry(exchange, source, lane)
        except UnprocessableInput as convicted:
            return convicted
        exchange.lane = lane
        exchange.served_by = lane.route.endpoint
        exchange.began_s = exchange.request.started_s if lane is self._first else now_s
        exchange.relay = exchange.avoid = None
        exchange.revision = exchange.arm = ""
        exchange.usage = Usage()
        exchange.tries = 0
        exchange.admitted_s = 0.0
        if lane is not self._first:
            exchange.arrived_s = exchange.known_s = now_s
        exchange.on_trial = exchange.is_copied = False
        exchange.share = 1.0
        if lane is not self._first:
            exchange.wish = wish(exchange, lane.choice)
        # The first byte of what is not streamed is its last too, so its replica may know the limit.
        is_whole = limit_s is not None and not exchange.stream
        exchange.deadline_s = min(self._expires_s, now_s + (limit_s or 0.0)) if is_whole else self._expires_s
        if len(exchange.body) > lane.route.max_body_bytes:
            return TooLarge(f"the body is over the {lane.route.max_body_bytes} bytes that {exchange.served_by} takes")
        return None

    def _expire(self, limit_s: float) -> None:
        """End the step: it took too long without a first byte."""
        exchange = self._exchange
        if not exchange.is_started and exchange.cause is None:
            self._late = DeadlineExceeded(f"{exchange.served_by} sent nothing in {limit_s:g} s")
            exchange.interrupt(self._late)

    def _take_late(self) -> StokerError | None:
        """Return the step's own timeout if that is what cancelled the task, and nothing else did."""
        exchange, late = self._exchange, self._late
        self._late = None
        if late is None or exchange.cause is not late or exchange.task is None:
            return None
        exchange.cause = None
        return late if exchange.task.uncancel() == 0 else None

    def _verdict(self, lane: Lane, problem: StokerError | None, began_s: float) -> bool | None:
        """Return what `problem` says of the endpoint: it works, it does not, or nothing (a full queue, no replica)."""
        if problem is None:
            return None
        found = rule.reason(problem)
        if found is None:
            return True
        was_seen = self._exchange.relay is not None or lane.ready_count > 0
        if found == "overload" or not was_seen:
            return None
        allowed_s = lane.route.fallback_after_s or lane.route.timeout_s
        return None if found == "timeout" and not rule.is_fair(time.monotonic() - began_s, allowed_s) else False

    # ---- who may serve

    def _skip(self, at: int, steps: list[Step], lanes: list[Lane]) -> StokerError | None:
        """Return why the step is passed over: it cannot serve now, as far as known, and a later one can."""
        lane, now_s = lanes[at], time.monotonic()
        if _is_up(lane, now_s) or not _any_up(steps[at + 1 :], lanes[at + 1 :]):
            return None
        return _broken(lane, now_s) if lane.ready_count else lane.unavailable()

    def _plan(self) -> tuple[list[Step], list[Lane]]:
        """Return the steps and their lanes; the same for every request of a route table where no tier chooses."""
        first, version = self._first, self._directory.version
        if first.plan is not None and first.plan[0] == version:
            return first.plan[1], first.plan[2]
        steps = rule.steps(first.route.endpoint, self._route, self._choose)
        lanes = [self._lane(step.endpoint) for step in steps]
        if not self._has_chosen:
            first.plan = (version, steps, lanes)
        return steps, lanes

    def _lane(self, name: str) -> Lane:
        lane = self._directory.lane(self._first.route.project, name)
        assert lane is not None
        return lane

    def _route(self, name: str) -> EndpointRoute | None:
        lane = self._directory.lane(self._first.route.project, name)
        return lane.route if lane is not None and lane.task == self._first.task else None

    def _choose(self, route: EndpointRoute) -> str | None:
        lane = self._lane(route.endpoint)
        self._has_chosen = True
        assert lane.tier is not None
        chosen = lane.tier.choose(self._exchange, self._is_up, lane.meters.rule_error)
        return chosen.endpoint if chosen is not None else None

    def _is_up(self, name: str) -> bool:
        lane = self._directory.lane(self._first.route.project, name)
        now_s = time.monotonic()
        return lane is not None and any(_is_up(leaf, now_s) for leaf in self._directory.leaves(lane))


def _any_up(steps: list[Step], lanes: list[Lane], why: FallbackReason = "unavailable") -> bool:
    """Return whether any of `steps` can serve now what the one before them cannot."""
    now_s = time.monotonic()
    return any(why in step.reasons and _is_up(lane, now_s) for step, lane in zip(steps, lanes, strict=True))


def _is_up(lane: Lane, now_s: float) -> bool:
    return lane.ready_count > 0 and lane.circuit.admits(now_s)


def _listed(why: str) -> str:
    """Return the reason that a manifest lists for `why`: an open breaker is a kind of unavailable."""
    return "unavailable" if why == "open" else why


def _broken(lane: Lane, now_s: float) -> StokerError:
    again_s = max(lane.circuit.left_s(now_s), 1.0)
    return Unavailable(f"{lane.route.endpoint} failed too often; it is tried again soon", retry_after_s=again_s)
