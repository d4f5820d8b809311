"""Which type each tensor of a GGUF model gets, and whether quantizing it gains anything. Pure.

Source: llama.cpp's own mixtures as they are without an importance matrix (src/llama-quant.cpp: which tensors may be
quantized, which get more bits, what a row that fits no block falls back to). A model made here has the same type in
each tensor as one by `llama-quantize`. Beyond it: a tensor that is quantized already never gets more bytes than it has.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from stoker.types.quantization import GgufQuantization

# Elements in a block, and its bytes.
BLOCKS: Final[dict[str, tuple[int, int]]] = {
    "F16": (1, 2),
    "Q4_0": (32, 18),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q8_0": (32, 34),
    "Q2_K": (256, 84),
    "Q3_K": (256, 110),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}
FLOATS: Final = frozenset({"F32", "F16", "BF16"})
# The type of most tensors, and the number that `general.file_type` has (llama.h).
MIXTURES: Final[dict[GgufQuantization, tuple[str, int]]] = {
    "q8_0": ("Q8_0", 7),
    "q6_k": ("Q6_K", 18),
    "q5_k_m": ("Q5_K", 17),
    "q5_k_s": ("Q5_K", 16),
    "q4_k_m": ("Q4_K", 15),
    "q4_k_s": ("Q4_K", 14),
    "q4_0": ("Q4_0", 2),
    "q3_k_m": ("Q3_K", 12),
    "q2_k": ("Q2_K", 10),
}
# For rows that are no whole number of blocks of 256.
_FALLBACK: Final = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
# Small, or what everything else depends on: as they are.
_KEPT: Final = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_",
    "attn_rel_b.weight",
    "position_embd",
    "token_types",
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
)
# Of RWKV's, these are large.
_QUANTIZED_TIME_MIX: Final = re.compile(r"time_mix_(key|value|receptance|gate|output)\.weight")
_ROLES: Final[tuple[tuple[str, str], ...]] = (
    ("attn_qkv.weight", "value"),
    ("attn_kv_b.weight", "value"),
    ("attn_v.weight", "value"),
    ("attn_k.weight", "key"),
    ("attn_output.weight", "attention_output"),
    ("ffn_down", "down"),
)
_LAYER: Final = re.compile(r"blk\.(\d+)\.")
GAIN_MIN_RATIO: Final = 0.02  # of its bytes; for less nobody gives up precision
_DEEP_LAYERS: Final = 80  # as 70B models have: eight heads share a value there, so that its bits are cheap
_MANY_EXPERTS: Final = 8
_SHARED_HEADS: Final = 4


class Tensor(msgspec.Struct, frozen=True):
    """One tensor as the file has it; `shape` begins with the length of a row."""

    name: str
    shape: tuple[int, ...]
    type: str
    size_bytes: int


class ModelFacts(msgspec.Struct, frozen=True):
    """What the mixtures ask of a model. heads_sharing: query heads for each key-value head."""

    architecture: str
    layers: int
    experts: int = 0
    heads_sharing: float = 1.0


class Plan(msgspec.Struct, frozen=True):
    """The new type of each tensor that changes, and the bytes of all tensors then."""

    types: dict[str, str]
    size_bytes: int


class Refused(msgspec.Struct, frozen=True):
    """Why it is not done."""

    because: str


def plan(
    tensors: Sequence[Tensor], facts: ModelFacts, to: GgufQuantization, *, requantize: bool = False
) -> Plan | Refused:
    """Return the type of each tensor in the mixture `to`, or why there is nothing to gain.

    Args:
        tensors: all of the model.
        facts: of the model.
        to: the mixture.
        requantize: also what is quantized already, which loses more than from the original.
    """
    quantizable = [tensor for tensor in tensors if may_change(tensor)]
    if not quantizable:
        return Refused("it has no tensor that can be quantized")
    already = Counter[str]()
    for tensor in quantizable:
        if tensor.type not in FLOATS:
            already[tensor.type] += tensor.size_bytes
    if already and not requantize:
        kind = already.most_common(1)[0][0]
        return Refused(
            f"it is quantized already ({kind}); from the original less is lost: push that and quantize it, or "
            "insist with --requantize"
        )
    types: dict[str, str] = {}
    before = after = sum(tensor.size_bytes for tensor in tensors)
    mixture = _Mixture(facts, to, is_tied=all(tensor.name != "output.weight" for tensor in tensors))
    mixture.values = sum(_role(tensor.name) == "value" for tensor in tensors)
    for tensor in sorted(quantizable, key=_in_order):
        kind = mixture.type_of(tensor)
        size_bytes = size_of(tensor.shape, kind)
        if kind == tensor.type or (tensor.type not in FLOATS and size_bytes >= tensor.size_bytes):
            continue
        types[tensor.name] = kind
        after += size_bytes - tensor.size_bytes
    if after >= before * (1 - GAIN_MIN_RATIO):
        return Refused(f"{to} would make it hardly smaller: {after} bytes where it has {before}")
    return Plan(types, after)


def may_change(tensor: Tensor) -> bool:
    """Return whether llama.cpp quantizes this tensor at all: matrices, but for small ones that much depends on."""
    name = tensor.name
    if sum(size > 1 for size in tensor.shape[1:]) < 1 or not name.endswith("weight"):
        return False
    if "time_mix_" in name and _QUANTIZED_TIME_MIX.search(name):
        return True
    return not any(part in name for part in _KEPT)


def size_of(shape: Sequence[int], kind: str) -> int:
    """Return the bytes of a tensor of `shape` in the type `kind`, whose blocks must fit its rows."""
    block, block_bytes = BLOCKS[kind]
    elements = 1
    for size in shape:
        elements *= size
    return elements // block * block_bytes


def _in_order(tensor: Tensor) -> tuple[int, str]:
    layer = _LAYER.match(tensor.name)
    return int(layer[1]) if layer is not None else -1, tensor.name


def _role(name: str) -> str:
    return next((role for part, role in _ROLES if part in name), "")


def _gets_more(at: int, count: int) -> bool:
    """Return whether a layer is among those that get more bits: the first, the last, and one in three between."""
    return at < count // 8 or at >= 7 * count // 8 or (at - count // 8) % 3 == 2


class _Mixture:
    """The rules of one mixture over one model; tensors come layer by layer, for some rules count them."""

    def __init__(self, facts: ModelFacts, to: GgufQuantization, *, is_tied: bool) -> None:
        self.facts = facts
        self.to = to
        self.most = MIXTURES[to][0]
        self.is_tied = is_tied
        self.values = 0
        self._seen: Counter[str] = Counter()
        self._rules: dict[str, Callable[[Tensor], str]] = {
            "value": self._value,
            "key": self._key,
            "attention_output": self._attention_output,
            "down": self._down,
        }

    def type_of(self, tensor: Tensor) -> str:
        """Return the type for the next tensor."""
        if tensor.name == "output.weight" or (self.is_tied and _is_embedding(tensor.name)):
            kind = self._output(tensor)
        else:
            role = _role(tensor.name)
            kind = self._rules[role](tensor) if role else self.most
            self._seen[role] += 1
        return _fitting(kind, tensor.shape[0])

    def _output(self, tensor: Tensor) -> str:
        if self.facts.architecture == "falcon" or tensor.shape[0] % BLOCKS[self.most][0]:
            return "Q8_0"
        return self.most if self.most == "Q8_0" else "Q6_K"

    def _value(self, _tensor: Tensor) -> str:
        at, kind = self._seen["value"], self.most
        if self.facts.experts == _MANY_EXPERTS:
            return "Q8_0"
        match self.to:
            case "q2_k":
                kind = "Q4_K" if self.facts.heads_sharing >= _SHARED_HEADS else "Q3_K"
            case "q3_k_m":
                kind = "Q5_K" if at < 2 else "Q4_K"
            case "q4_k_m" | "q5_k_m" if _gets_more(at, self.values):
                kind = "Q6_K"
            case "q4_k_s" if at < 4:
                kind = "Q5_K"
        is_deep = self.facts.layers == _DEEP_LAYERS
        return "Q5_K" if is_deep and kind in ("Q3_K", "Q4_K") else kind

    def _key(self, _tensor: Tensor) -> str:
        return "Q8_0" if self.facts.experts == _MANY_EXPERTS else self.most

    def _attention_output(self, _tensor: Tensor) -> str:
        if self.facts.architecture == "falcon":
            return self.most
        if self.facts.experts == _MANY_EXPERTS:
            return "Q5_K" if self.to in ("q2_k", "q3_k_m", "q4_k_s", "q4_k_m") else self.most
        return {"q2_k": "Q3_K", "q3_k_m": "Q4_K"}.get(self.to, self.most)

    def _down(self, tensor: Tensor) -> str:
        layers, is_falcon = self.facts.layers, self.facts.architecture == "falcon"
        at = self._seen["down"]
        if self.facts.experts > 1:  # a layer has several, and not all layers have
            at = _in_order(tensor)[0]
        more = _gets_more(at, layers)
        match self.to:
            case "q2_k":
                return "Q3_K"
            case "q3_k_m":
                if at < layers // 16:
                    return "Q5_K"
                return "Q4_K" if more or not is_falcon else "Q3_K"
            case "q4_k_m" if is_falcon:
                return "Q6_K" if at < layers // 16 else "Q5_K" if more else "Q4_K"
            case "q4_k_m" | "q5_k_m" if more:
                return "Q6_K"
            case "q4_k_s" if at < layers // 8 and not is_falcon:
                return "Q5_K"
        return self.most


def _is_embedding(name: str) -> bool:
    return name in ("token_embd.weight", "per_layer_token_embd.weight")


def _fitting(kind: str, row: int) -> str:
    """Return `kind`, or what takes its place where a row is no whole number of its blocks."""
    if row % BLOCKS[kind][0] == 0:
        return kind
    instead = _FALLBACK.get(kind, "F16")
    return instead if row % BLOCKS[instead][0] == 0 else "F16"
