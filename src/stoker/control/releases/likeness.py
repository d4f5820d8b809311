"""A language model beside the one that it was made from: both read the same texts on control's machine.

No replica is asked, so that neither the new one nor what serves is disturbed.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from stoker.control.compare import Comparer, check, everyday_texts
from stoker.control.releases.needs import Need
from stoker.core.gate import golden, likeness
from stoker.core.gate.golden import BadGolden
from stoker.core.gate.profile import Judgement
from stoker.protocol import signing
from stoker.types.errors import Busy, InvalidInput, StokerError, Unavailable, Unsupported
from stoker.types.likeness import Likeness
from stoker.types.models import ModelVersion
from stoker.types.releases import GateKind, GateResult, GateState

SECONDS_MAX: Final = 600.0  # of reading; then the texts that were read until then are judged
TEXTS_MAX: Final = 200  # of a set of examples whose perplexity is asked for
TRIES: Final = 40  # where other comparisons, or too little memory, are in the way, or a reader died
AGAIN_S: Final = 15.0

log = logging.getLogger(__name__)


async def judge(need: Need, comparer: Comparer, examples: bytes | None) -> GateResult:
    """Return how a version compares with the one that it was made from, or else with what serves.

    examples: those that are held, which are read where the gate says so; None: there are none.
    """
    began_s = time.perf_counter()
    base, gate = need.base, need.gates.likeness
    if base is None:
        return GateResult("likeness", "skipped", _alone(need))
    every = everyday_texts()
    texts: Sequence[str] = [every[at * len(every) // gate.texts] for at in range(gate.texts)]  # of every kind
    try:
        if gate.texts_of == "golden":
            texts = _texts(examples, gate.texts)
        check(base, need.version, texts)
        signing.demand(base.ref, base.manifest.files, need.base_signed)
        found = await _compared(comparer, base, need.version, texts)
    except Unsupported as unknown:
        return GateResult("likeness", "skipped", f"not compared with {base.ref}: {unknown.message}")
    except StokerError as wrong:
        because = f"it could not be compared with {base.ref}: {wrong.message}"
        return GateResult("likeness", "failed", because, seconds=time.perf_counter() - began_s)
    return _result("likeness", "", likeness.judge(gate, found), (found, len(texts)), began_s)


async def perplexity(need: Need, about: str, examples: bytes, comparer: Comparer) -> GateResult:
    """Return how likely a version finds examples, beside what serves; about: whose they are."""
    began_s = time.perf_counter()
    base = need.parent_version or need.version
    try:
        texts = _texts(examples, TEXTS_MAX)
        check(base, need.version, texts)
        found = await _compared(comparer, base, need.version, texts)
    except StokerError as wrong:
        seconds = time.perf_counter() - began_s
        return GateResult("golden", "failed", f"its perplexity cannot be told: {wrong.message}", about, seconds=seconds)
    judged = likeness.perplexity(need.gates.golden, found, is_alone=need.parent_version is None)
    return _result("golden", about, judged, (found, len(texts)), began_s)


def _result(kind: GateKind, about: str, judged: Judgement, read: tuple[Likeness, int], began_s: float) -> GateResult:
    """Return a judgement as a result; read: what was compared, and how many texts there were."""
    words, (found, texts) = judged.because, read
    if found.texts < texts:
        words += f"; only {found.texts} of {texts} texts were read within {SECONDS_MAX:g} s"
    state: GateState = "passed" if judged.is_passed else "failed"
    return GateResult(kind, state, words, about, judged.numbers, time.perf_counter() - began_s)


def _texts(examples: bytes | None, most: int) -> tuple[str, ...]:
    """Return texts of examples. Raises InvalidInput."""
    if examples is None:
        raise InvalidInput("there are no examples whose texts it could read (stoker golden set ENDPOINT FILE)")
    try:
        return golden.texts(golden.read(examples), most)
    except BadGolden as wrong:
        raise InvalidInput(f"the examples cannot be read: {wrong}") from wrong


async def _compared(comparer: Comparer, base: ModelVersion, other: ModelVersion, texts: Sequence[str]) -> Likeness:
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
