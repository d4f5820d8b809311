"""How many replicas the engines themselves call for: room in their caches, their queues, their pace, their processors.

These are one step each way: one replica more while a limit is near and none is on its way, and as many as keep the same
limit at a distance when one goes. Thresholds of cache and queue are llm-d's (docs/saturation-scaling-config.md), the
look at the load after one has gone is Dynamo's planner's.
"""

from collections.abc import Iterator
from typing import Final

from stoker.core.scale.reading import Reading
from stoker.core.scale.sight import Sight
from stoker.types.scaling import Signal

KV_FREE_MIN: Final = 0.10
WAITING_MAX: Final = 3.0
SLO_UP_RATIO: Final = 0.9  # of what an objective promises: later is too late, with a slow start
SLO_DOWN_RATIO: Final = 0.8  # of the same limit may be used after one has gone
BUSY_MAX: Final = 0.85  # of cores, or of the accelerator


def readings(sight: Sight) -> Iterator[Reading]:
    """Yield what each signal calls for, of those that are measured."""
    said = sight.language
    if said.kv_free_ratio is not None:
        used = 1.0 - said.kv_free_ratio
        yield _one(sight, "kv", used, 1.0 - KV_FREE_MIN, f"{100 * said.kv_free_ratio:.0f} % of the cache is free")
    if said.waiting is not None:
        yield _one(sight, "engine-queue", said.waiting, WAITING_MAX, f"{said.waiting:.2g} wait in each engine")
    if said.tokens_per_s is not None and said.replica_tokens_per_s:
        share = said.tokens_per_s / (said.replica_tokens_per_s * BUSY_MAX)
        words = f"{said.tokens_per_s:.3g} tokens/s ÷ ({said.replica_tokens_per_s:.3g} of one x {BUSY_MAX})"
        yield Reading("tokens", share, share / SLO_DOWN_RATIO, f"{words} = {share:.2f}")
    if said.ttft_s is not None and said.ttft_target_s:
        limit = SLO_UP_RATIO * said.ttft_target_s
        yield _one(
            sight, "ttft", said.ttft_s, limit, f"first token after {said.ttft_s:.2g} s of {said.ttft_target_s:g}"
        )
    if said.inter_token_s is not None and said.inter_token_target_s:
        limit = SLO_UP_RATIO * said.inter_token_target_s
        words = f"{1e3 * said.inter_token_s:.3g} ms between tokens of {1e3 * said.inter_token_target_s:.3g}"
        yield _one(sight, "inter-token", said.inter_token_s, limit, words)
    if sight.cpu_ratio is not None:
        yield _one(sight, "cpu", sight.cpu_ratio, BUSY_MAX, f"{100 * sight.cpu_ratio:.0f} % of its cores are busy")
    if sight.gpu_ratio is not None:
        yield _one(sight, "gpu", sight.gpu_ratio, BUSY_MAX, f"{100 * sight.gpu_ratio:.0f} % of its GPUs are busy")


def _one(sight: Sight, signal: Signal, used: float, limit: float, words: str) -> Reading:
    """Return one more than are ready while `used` is over `limit`, else as many as keep it below when one goes."""
    if not sight.ready:
        return Reading(signal, 0.0, 0.0, f"{words}, and none is ready")
    if used > limit:
        more = float(sight.ready + max(sight.pending, 1))
        return Reading(signal, more, more, f"{words}, over {limit:.3g}: one more than {sight.ready}")
    stay = sight.ready * used / (limit * SLO_DOWN_RATIO)
    return Reading(signal, 0.0, min(stay, float(sight.ready)), f"{words}, below {limit:.3g}")
