"""Which type each tensor gets: llama.cpp's own mixtures, and nothing that would make a model larger."""

from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.quantization import (
    BLOCKS,
    GAIN_MIN_RATIO,
    MIXTURES,
    ModelFacts,
    Plan,
    Refused,
    Tensor,
    may_change,
    plan,
    size_of,
)
from stoker.types.quantization import GgufQuantization

SMOL = ModelFacts("llama", 30, heads_sharing=3.0)
LARGE = ModelFacts("llama", 32, heads_sharing=4.0)


def tensor(name: str, *shape: int, kind: str = "F16") -> Tensor:
    elements = 1
    for size in shape:
        elements *= size
    sizes = {"F32": elements * 4, "F16": elements * 2, "BF16": elements * 2, "Q4_1": elements // 32 * 20}
    return Tensor(name, shape, kind, sizes[kind] if kind in sizes else size_of(shape, kind))


def model(layers: int, hidden: int, wide: int, shared: int, *, kind: str = "F16", is_tied: bool = True) -> list[Tensor]:
    """The tensors of a llama in a file's order, which is not that of its layers."""
    found = [tensor("token_embd.weight", hidden, 49152, kind=kind), tensor("output_norm.weight", hidden, kind="F32")]
    if not is_tied:
        found.append(tensor("output.weight", hidden, 49152, kind=kind))
    for layer in reversed(range(layers)):
        at = f"blk.{layer}."
        found += [
            tensor(at + "attn_norm.weight", hidden, kind="F32"),
            tensor(at + "ffn_norm.weight", hidden, kind="F32"),
            tensor(at + "ffn_down.weight", wide, hidden, kind=kind),
            tensor(at + "ffn_gate.weight", hidden, wide, kind=kind),
            tensor(at + "ffn_up.weight", hidden, wide, kind=kind),
            tensor(at + "attn_k.weight", hidden, shared, kind=kind),
            tensor(at + "attn_v.weight", hidden, shared, kind=kind),
            tensor(at + "attn_q.weight", hidden, hidden, kind=kind),
            tensor(at + "attn_output.weight", hidden, hidden, kind=kind),
        ]
    return found


def bytes_by_type(tensors: list[Tensor], made: Plan | Refused) -> dict[str, int]:
    assert isinstance(made, Plan), made
    found: Counter[str] = Counter()
    for each in tensors:
        kind = made.types.get(each.name)
        found[kind or each.type] += size_of(each.shape, kind) if kind else each.size_bytes
    return dict(found)


# What llama-quantize itself made of SmolLM2-135M in float16, summed by type; its files were compared byte by byte.
BY_LLAMA_QUANTIZE: dict[GgufQuantization, dict[str, int]] = {
    "q8_0": {"Q8_0": 142884864},
    "q6_k": {"Q8_0": 114683904, "Q6_K": 21772800},
    "q5_k_m": {"Q8_0": 31726080, "Q6_K": 10160640, "Q5_1": 58558464, "Q5_K": 9732096},
    "q5_k_s": {"Q8_0": 30081024, "Q5_K": 18247680, "Q5_1": 59719680},
    "q4_k_m": {"Q8_0": 31726080, "Q6_K": 10160640, "Q5_0": 53678592, "Q4_K": 7962624},
    "q4_k_s": {"Q8_0": 30081024, "Q5_K": 1824768, "Q5_0": 54438912, "Q5_1": 331776, "Q4_K": 13436928},
    "q4_0": {"Q8_0": 30081024, "Q4_0": 59719680},
    "q3_k_m": {
        "Q8_0": 30081024,
        "Q5_K": 608256,
        "Q4_0": 37324800,
        "Q5_0": 8971776,
        "Q5_1": 165888,
        "Q4_K": 14432256,
    },
    "q2_k": {"Q8_0": 30081024, "Q3_K": 11404800, "Q4_0": 44789760},
}


@pytest.mark.parametrize("to", get_args(GgufQuantization))
def test_a_small_llama_gets_the_types_that_llama_quantize_gives_it(to: GgufQuantization) -> None:
    tensors = model(30, 576, 1536, 192)
    found = bytes_by_type(tensors, plan(tensors, SMOL, to))
    assert found.pop("F32") == 61 * 576 * 4
    assert found == BY_LLAMA_QUANTIZE[to]


def test_the_first_the_last_and_every_third_layer_between_get_more_bits() -> None:
    tensors = model(32, 4096, 14336, 1024, is_tied=False)
    made = plan(tensors, LARGE, "q4_k_m")
    assert isinstance(made, Plan)
    more = [at for at in range(32) if made.types[f"blk.{at}.ffn_down.weight"] == "Q6_K"]
    # As in every q4_k_m of an 8B llama.
    assert more == [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert more == [at for at in range(32) if made.types[f"blk.{at}.attn_v.weight"] == "Q6_K"]
    assert (made.types["output.weight"], made.types["token_embd.weight"]) == ("Q6_K", "Q4_K")


@pytest.mark.parametrize(
    ("facts", "to", "name", "kind"),
    [
        (ModelFacts("llama", 80, heads_sharing=8.0), "q4_k_m", "blk.13.attn_v.weight", "Q5_K"),
        (ModelFacts("llama", 32, experts=8), "q4_k_m", "blk.9.attn_k.weight", "Q8_0"),
        (ModelFacts("llama", 32, experts=8), "q4_k_m", "blk.9.attn_output.weight", "Q5_K"),
        (ModelFacts("falcon", 32), "q4_k_m", "blk.1.ffn_down.weight", "Q6_K"),
        (ModelFacts("falcon", 32), "q3_k_m", "output.weight", "Q8_0"),
        (LARGE, "q2_k", "blk.9.attn_v.weight", "Q4_K"),
        (LARGE, "q4_k_s", "blk.3.attn_v.weight", "Q5_K"),
    ],
)
def test_kinds_of_models_have_rules_of_their_own(facts: ModelFacts, to: GgufQuantization, name: str, kind: str) -> None:
    made = plan(model(facts.layers, 4096, 14336, 1024, is_tied=False), facts, to)
    assert isinstance(made, Plan)
    assert made.types[name] == kind


def test_what_is_quantized_already_is_refused_unless_one_insists_and_never_grows() -> None:
    tensors = model(30, 576, 1536, 192, kind="Q4_1")
    refused = plan(tensors, SMOL, "q3_k_m")
    assert isinstance(refused, Refused)
    assert "quantized already (Q4_1)" in refused.because
    made = plan(tensors, SMOL, "q3_k_m", requantize=True)
    assert isinstance(made, Plan)
    sizes = {each.name: each for each in tensors}
    assert all(size_of(sizes[name].shape, kind) < sizes[name].size_bytes for name, kind in made.types.items())


def test_more_bits_than_it_has_are_refused() -> None:
    refused = plan(model(30, 576, 1536, 192, kind="Q4_0"), SMOL, "q8_0", requantize=True)
    assert isinstance(refused, Refused)
    assert "hardly smaller" in refused.because


def test_a_model_of_vectors_alone_has_nothing_to_quantize() -> None:
    assert isinstance(plan([tensor("output_norm.weight", 64, kind="F32")], SMOL, "q8_0"), Refused)


@pytest.mark.parametrize(
    ("name", "shape", "is_changed"),
    [
        ("blk.0.attn_norm.weight", (64, 64), False),
        ("blk.0.attn_q.bias", (64, 64), False),
        ("blk.0.attn_q.weight", (64,), False),
        ("blk.0.attn_q.weight", (64, 1, 1, 1), False),
        ("blk.0.ffn_gate_inp.weight", (64, 8), False),
        ("blk.0.ffn_gate_exps.weight", (64, 64, 8), True),
        ("position_embd.weight", (64, 64), False),
        ("blk.0.time_mix_w1.weight", (64, 64), False),
        ("blk.0.time_mix_key.weight", (64, 64), True),
        ("blk.0.ssm_conv1d.weight", (4, 64), False),
    ],
)
def test_small_tensors_that_much_depends_on_stay_as_they_are(
    name: str, shape: tuple[int, ...], is_changed: bool
) -> None:
    assert may_change(Tensor(name, shape, "F16", 0)) is is_changed


@given(
    layers=st.integers(1, 90),
    hidden=st.integers(1, 80).map(lambda count: count * 16),
    experts=st.sampled_from([0, 4, 8]),
    sharing=st.sampled_from([1.0, 4.0, 8.0]),
    architecture=st.sampled_from(["llama", "falcon", "qwen2"]),
    to=st.sampled_from(get_args(GgufQuantization)),
    is_tied=st.booleans(),
)
def test_every_row_is_whole_blocks_and_the_promised_size_is_that_of_the_types(
    layers: int,
    hidden: int,
    experts: int,
    sharing: float,
    architecture: str,
    to: GgufQuantization,
    is_tied: bool,
) -> None:
    tensors = model(layers, hidden, hidden * 3, hidden, is_tied=is_tied)
    made = plan(tensors, ModelFacts(architecture, layers, experts, sharing), to)
    if isinstance(made, Refused):  # rows that fit no block stay in 16 bits
        assert hidden % 32
        return
    shapes = {each.name: each.shape for each in tensors}
    assert all(shapes[name][0] % BLOCKS[kind][0] == 0 for name, kind in made.types.items())
    assert made.size_bytes == sum(bytes_by_type(tensors, made).values())
    assert made.size_bytes < sum(each.size_bytes for each in tensors) * (1 - GAIN_MIN_RATIO)


def test_every_mixture_that_can_be_asked_for_is_known() -> None:
    assert set(MIXTURES) == set(get_args(GgufQuantization))
