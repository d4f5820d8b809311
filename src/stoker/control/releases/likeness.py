"""A language model beside the one that it was made from: both read the same texts on control's machine.

No replica is asked, so that neither the new one nor what serves is disturbed.
"""

import asyncio
import logging
import time
from typing import Final

from stoker.control.compare import Comparer, check, everyday_texts
from stoker.control.releases.needs import Need
from stoker.core.gate import likeness
from stoker.protocol import signing
from stoker.types.errors import Busy, StokerError, Unavailable, Unsupported
from stoker.types.likeness import Likeness
from stoker.types.models import ModelVersion
from stoker.types.releases import GateResult, GateState

SECONDS_MAX: Final = 600.0  # of reading; then the texts that were read until then are judged
TRIES: Final = 40  # where other comparisons, or too little memory, are in the way, or a reader died
AGAIN_S: Final = 15.0

log = logging.getLogger(__name__)


async def judge(need: Need, comparer: Comparer) -> GateResult:
    """Return how a version compares with the one that it was made from, or else with what serves."""
    began_s = time.perf_counter()
    base, gate = need.base, need.gates.likeness
    if base is None:
        return GateResult("likeness", "skipped", _alone(need))
    every = everyday_texts()
    texts = [every[at * len(every) // gate.texts] for at in range(gate.texts)]  # of every kind, however few
    try:
        check(base, need.version, texts)
        signing.demand(base.ref, base.manifest.files, need.base_signed)
        found = await _compared(comparer, base, need.version, texts)
    except Unsupported as unknown:
        return GateResult("likeness", "skipped", f"not compared with {base.ref}: {unknown.message}")
    except StokerError as wrong:
        because = f"it could not be compared with {base.ref}: {wrong.message}"
        return GateResult("likeness", "failed", because, seconds=time.perf_counter() - began_s)
    judged = likeness.judge(gate, found)
    words = judged.because
    if found.texts < len(texts):
        words += f"; only {found.texts} of {len(texts)} texts were read within {SECONDS_MAX:g} s"
    state: GateState = "passed" if judged.is_passed else "failed"
    return GateResult("likeness", state, words, numbers=judged.numbers, seconds=time.perf_counter() - began_s)


async def _compared(comparer: Comparer, base: ModelVersion, other: ModelVersion, texts: list[str]) -> Likeness:
    """Return the comparison, once there is a turn and memory for it. Raises what the comparer does."""
    for _ in range(TRIES - 1):
        try:
            return await comparer.likeness(base, other, texts, seconds=SECONDS_MAX)
        except (Busy, Unavailable) as full:
            log.warning("a comparison waits: %s", full, extra={"version": other.ref})
            await asyncio.sleep(AGAIN_S)
    return await comparer.likeness(base, other, texts, seconds=SECONDS_MAX)


def _alone(need: Need) -> str:
    ref = likeness.origin(need.version.manifest)
    if ref:
        return f"{ref}, which it was made from, is not in the registry"
    return "nothing serves, and it does not say what it was made from"
