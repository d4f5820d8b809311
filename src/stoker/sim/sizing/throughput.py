"""What one replica does at the most, and the same on a faster pool."""

from dataclasses import replace
from typing import Final, assert_never

import numpy as np

from stoker.sim.arrivals import Arrivals
from stoker.sim.platform import plan
from stoker.sim.platform.world import ANSWER_TOKENS, PROMPT_TOKENS, SPREAD
from stoker.sim.service import ByTokens, Drawn, Measured, Service, seconds

_MEAN: Final = float(np.exp(SPREAD**2 / 2))  # of a lognormal, over its median


def per_s(engine: plan.Engine, arrivals: Arrivals) -> float:
    """Return the requests a second of one full replica, of requests such as these."""
    match engine:
        case plan.Places(places, service):
            taken = seconds(service, arrivals, 0)
            return places / max(float(np.mean(taken)) if len(taken) else 1.0, 1e-9)
        case plan.Batching():
            return engine.max_rows / max(engine.call_s(engine.max_rows), 1e-9)
        case plan.Generating():
            read, written = _tokens(arrivals)
            step_s = engine.pace_s(engine.slots)
            return 1.0 / max(read * engine.read_token_s + written * step_s / engine.slots, 1e-9)
        case _:
            assert_never(engine)


def _tokens(arrivals: Arrivals) -> tuple[float, float]:
    if len(arrivals.input_tokens):
        return float(np.mean(arrivals.input_tokens)), float(np.mean(arrivals.output_tokens))
    return PROMPT_TOKENS * _MEAN, ANSWER_TOKENS * _MEAN


def faster(engine: plan.Engine, times: float) -> plan.Engine:
    """Return the engine on a pool that is so many `times` as fast."""
    if times == 1.0:
        return engine
    match engine:
        case plan.Places():
            return replace(engine, service=_faster(engine.service, times))
        case plan.Batching():
            return replace(
                engine, base_s=engine.base_s / times, row_s=engine.row_s / times, least_s=engine.least_s / times
            )
        case plan.Generating():
            return replace(
                engine,
                step_s=engine.step_s / times,
                sequence_s=engine.sequence_s / times,
                read_token_s=engine.read_token_s / times,
                least_s=engine.least_s / times,
            )
        case _:
            assert_never(engine)


def _faster(service: Service, times: float) -> Service:
    match service:
        case Drawn():
            return replace(service, mean_s=service.mean_s / times)
        case ByTokens(base_s, read_s, write_s):
            return ByTokens(base_s / times, read_s / times, write_s / times)
        case Measured(quantiles):
            return Measured(tuple(each / times for each in quantiles))
        case _:
            assert_never(service)
