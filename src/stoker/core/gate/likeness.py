"""Whether a language model is surely worse than the one that it was made from, by what both say of texts. Pure.

A bound is broken where even the near end of the 95 % interval over texts is beyond it. Where only the measured value
is, other texts might have said otherwise: the version passes, and the sentence says so.
"""

import math
from typing import Final

from stoker.core.gate.metrics import WORSE_MAX
from stoker.core.gate.profile import Judgement
from stoker.types.likeness import Estimate, Likeness
from stoker.types.models import VersionManifest
from stoker.types.releases import GoldenGate, LikenessGate

QUANTIZED_FROM: Final = "quantized_from"  # in the metadata of a version that `stoker quantize` made: name@number
_CHANCE: Final = "but other texts may say otherwise; more of them would tell"


def is_asked(gate: LikenessGate, manifest: VersionManifest) -> bool:
    """Return whether a version is to be held to the one that it was made from."""
    return gate.when == "always" or (gate.when == "quantized" and QUANTIZED_FROM in manifest.metadata)


def origin(manifest: VersionManifest) -> str:
    """Return what a version says it was made from, name@number; "" where it does not say."""
    said = manifest.metadata.get(QUANTIZED_FROM)
    return said if isinstance(said, str) and said else manifest.lineage.parent


def judge(gate: LikenessGate, found: Likeness) -> Judgement:
    """Return whether the other version of `found` is as good as the gate wants it to be."""
    numbers = _numbers(found)
    perplexity, agreement = found.perplexity_ratio, found.agreement_ratio
    words = (
        f"its perplexity is {found.other.perplexity.value:.4g}, that of {found.base.ref} "
        f"{found.base.perplexity.value:.4g} ({_span(perplexity, -1.0, '+')}); same next token {_span(agreement)}; "
        f"{found.size_ratio:.2f} of its size, reads ×{found.read_speed_ratio.value:.2f}, writes "
        f"×{found.write_speed_ratio.value:.2f}; {found.texts} texts"
    )
    if not all(math.isfinite(each) for each in (perplexity.value, perplexity.low, agreement.value, agreement.high)):
        return Judgement(False, f"{words}: what it says of texts are no numbers", numbers)
    most = 1.0 + gate.perplexity_worse_max
    claims = [
        (perplexity.value > most, perplexity.low > most,
         f"its perplexity is more than {gate.perplexity_worse_max:.1%} higher"),
        (agreement.value < gate.agreement_min, agreement.high < gate.agreement_min,
         f"the same next token less than {gate.agreement_min:.1%} of the time"),
    ]  # fmt: skip
    if gate.slower_max is not None:
        least = 1.0 - gate.slower_max
        for doing, speed in (("reads", found.read_speed_ratio), ("writes", found.write_speed_ratio)):
            claims.append(
                (speed.value < least, speed.high < least, f"it {doing} more than {gate.slower_max:.1%} slower")
            )
    sure = [said for _, is_sure, said in claims if is_sure]
    if sure:
        return Judgement(False, f"{words}: {', and '.join(sure)}, and chance does not explain it", numbers)
    seen = [said for is_seen, _, said in claims if is_seen]
    return Judgement(True, f"{words}: {', and '.join(seen)}, {_CHANCE}" if seen else words, numbers)


def perplexity(gate: GoldenGate, found: Likeness, *, is_alone: bool) -> Judgement:
    """Return whether the other version of `found` finds texts as likely as the gate of examples wants it to.

    is_alone: nothing serves, and `found` compares the version with itself.
    """
    ratio, value = found.perplexity_ratio, found.other.perplexity.value
    numbers = {"rows": float(found.texts), "perplexity": value, "tokens": float(found.tokens)}
    numbers = {name: each for name, each in numbers.items() if math.isfinite(each)}
    words = f"perplexity {value:.4g} on {found.texts} examples"
    if not all(math.isfinite(each) for each in (value, ratio.value, ratio.low)):
        return Judgement(False, f"{words}: what it says of texts are no numbers", numbers)
    if gate.at_most is not None and value > gate.at_most:
        return Judgement(False, f"{words}; at most {gate.at_most:g} is asked", numbers)
    if is_alone:
        return Judgement(True, words if gate.at_most is not None else f"{words}; nothing to compare it with", numbers)
    bound = gate.worse_max if gate.worse_max is not None else WORSE_MAX["perplexity"]
    numbers |= {
        "perplexity_serving": found.base.perplexity.value,
        "worse": ratio.value - 1.0,
        "worse_max": bound,
        "worse_low": ratio.low - 1.0,
        "worse_high": ratio.high - 1.0,
    }
    words = f"{words}, {found.base.perplexity.value:.4g} by the serving revision ({_span(ratio, -1.0, '+')})"
    if ratio.value - 1.0 <= bound:
        return Judgement(True, words, numbers)
    said = f"worse by {ratio.value - 1.0:.1%}, at most {bound:g} is allowed"
    if ratio.low - 1.0 > bound:
        return Judgement(False, f"{words}: {said}, and chance does not explain it", numbers)
    return Judgement(True, f"{words}: {said}, {_CHANCE}", numbers)


def _numbers(found: Likeness) -> dict[str, float]:
    numbers = {
        "perplexity": found.other.perplexity.value,
        "perplexity_parent": found.base.perplexity.value,
        "perplexity_ratio": found.perplexity_ratio.value,
        "perplexity_ratio_low": found.perplexity_ratio.low,
        "perplexity_ratio_high": found.perplexity_ratio.high,
        "agreement_ratio": found.agreement_ratio.value,
        "agreement_ratio_low": found.agreement_ratio.low,
        "agreement_ratio_high": found.agreement_ratio.high,
        "read_speed_ratio": found.read_speed_ratio.value,
        "write_speed_ratio": found.write_speed_ratio.value,
        "size_ratio": found.size_ratio,
        "texts": float(found.texts),
        "tokens": float(found.tokens),
    }
    return {name: value for name, value in numbers.items() if math.isfinite(value)}  # JSON has no others


def _span(estimate: Estimate, shift: float = 0.0, sign: str = "") -> str:
    value, low, high = (100.0 * (each + shift) for each in (estimate.value, estimate.low, estimate.high))
    return f"{value:{sign}.1f}%, {low:{sign}.1f} to {high:{sign}.1f} at 95 %"
