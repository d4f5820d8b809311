"""Which mappings fit which versions, what clients see of them then, and what is said of those that do not fit."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.mapping import Constant, Fault, Plan, casts, mapped, plan, reshapes, why_not, words
from stoker.core.revisions import ServingConfig, Unservable, config_digest, serving_config
from stoker.types.ids import Digest, ModelName
from stoker.types.mapping import SchemaMapping
from stoker.types.models import ModelVersion, Signature, TensorSpec, VersionManifest
from stoker.types.resources import EndpointSpec, Task

FEATURES = TensorSpec("features", "FP32", (-1, 4))
FLAG = TensorSpec("flag", "INT64", (-1, 1))
SCORES = TensorSpec("scores", "FP32", (-1, 3))
LABEL = TensorSpec("label", "INT64", (-1,))
VERSION = Signature((FEATURES,), (SCORES, LABEL))
FLAGGED = Signature((FEATURES, FLAG), (SCORES, LABEL))
ONE_ROW = Signature((TensorSpec("image", "FP32", (1, 3, 8, 8)),), (TensorSpec("logits", "FP32", (1, 10)),))

FEWER = """
inputs: {features: {shape: [-1, 6], take: {axis: 1, indices: [5, 0, 1, 2]}}}
outputs: {best: {from: scores, take: {axis: 1, indices: [2]}, shape: [-1]}, scores: {}}
"""
SPLIT = """
inputs:
  a: {from: x, shape: [-1, 3], take: {axis: 1, indices: [0, 1]}}
  b: {from: x, shape: [-1, 3], take: {axis: 1, indices: [2]}}
"""


def mapping(text: str) -> SchemaMapping:
    return msgspec.yaml.decode(text, type=SchemaMapping)


def seen(signature: Signature, text: str) -> list[str]:
    """Return what clients see, inputs before outputs."""
    found = plan(signature, mapping(text))
    assert isinstance(found, Plan), found
    return [
        f"{each.name} {each.datatype}{list(each.shape)}" for each in (*found.signature.inputs, *found.signature.outputs)
    ]


@pytest.mark.parametrize(
    ("signature", "text", "wanted"),
    [
        (VERSION, "{}", ["features FP32[-1, 4]", "scores FP32[-1, 3]", "label INT64[-1]"]),
        (
            VERSION,
            "{inputs: {features: {from: x, datatype: FP64}}, outputs: {y: {from: scores}, label: null}}",
            ["x FP64[-1, 4]", "y FP32[-1, 3]"],
        ),
        (
            FLAGGED,
            "{inputs: {flag: {value: 7}}}",
            ["features FP32[-1, 4]", "scores FP32[-1, 3]", "label INT64[-1]"],
        ),
        (
            VERSION,
            "{inputs: {features: {shape: [-1, 2, 1, 2]}}, outputs: {label: {shape: [-1, 1]}}}",
            ["features FP32[-1, 2, 1, 2]", "scores FP32[-1, 3]", "label INT64[-1, 1]"],
        ),
        (
            VERSION,
            FEWER,
            ["features FP32[-1, 6]", "best FP32[-1]", "scores FP32[-1, 3]", "label INT64[-1]"],
        ),
        (
            VERSION,
            "{ignored: [{name: age, datatype: INT64, shape: [-1]}]}",
            ["features FP32[-1, 4]", "age INT64[-1]", "scores FP32[-1, 3]", "label INT64[-1]"],
        ),
        (
            ONE_ROW,
            "{rows: one-by-one, inputs: {image: {shape: [-1, 192]}}}",
            ["image FP32[-1, 192]", "logits FP32[-1, 10]"],
        ),
        (
            VERSION,
            "{rows: added, outputs: {scores: {take: {axis: 1, indices: [1, 0]}}}}",
            ["features FP32[4]", "scores FP32[2]", "label INT64[]"],
        ),
        (
            Signature((TensorSpec("a", "FP32", (-1, 2)), TensorSpec("b", "FP32", (-1, 1))), (LABEL,)),
            SPLIT,
            ["x FP32[-1, 3]", "label INT64[-1]"],
        ),
    ],
)
def test_what_clients_see_of_a_mapped_version(signature: Signature, text: str, wanted: list[str]) -> None:
    assert seen(signature, text) == wanted
    assert mapped(signature, mapping(text)).inputs[0].name == wanted[0].split()[0]


@pytest.mark.parametrize(
    ("signature", "text", "field", "said"),
    [
        (VERSION, "{inputs: {x: {}}}", "inputs.x", "the version has no input 'x'; it has features"),
        (VERSION, "{outputs: {y: {}}}", "outputs.y", "no output 'y'; it has scores, label; say with `from` which one"),
        (VERSION, "{outputs: {y: {from: z}}}", "outputs.y", "the version has no output 'z'"),
        (VERSION, "{outputs: {gone: null}}", "outputs.gone", "the version has no output 'gone'"),
        (VERSION, "{outputs: {scores: null, label: null}}", "outputs", "nothing is left of its outputs"),
        (VERSION, "{inputs: {features: {datatype: BYTES}}}", "inputs.features.datatype", "no FP32 is made of BYTES"),
        (VERSION, "{outputs: {label: {datatype: BOOL}}}", "outputs.label.datatype", "no BOOL is made of INT64"),
        (
            VERSION,
            "{inputs: {features: {shape: [-1, 5]}}}",
            "inputs.features.shape",
            "[-1, 5] of 'features' cannot become",
        ),
        (
            VERSION,
            "{inputs: {features: {shape: [-1, -1]}}}",
            "inputs.features.shape",
            "say in `shape` what clients send",
        ),
        (VERSION, "{inputs: {features: {shape: [-1, 0]}}}", "inputs.features.shape", "is no shape"),
        (VERSION, "{outputs: {scores: {shape: [-1, 2]}}}", "outputs.scores.shape", "of the version's 'scores' cannot"),
        (
            VERSION,
            "{inputs: {features: {take: {axis: 1, indices: [0, 1, 2, 4]}}}}",
            "inputs.features.take.indices",
            "there is no entry 4: clients send features FP32[-1, 4]; say in `shape`",
        ),
        (VERSION, "{outputs: {scores: {take: {axis: 0, indices: [0]}}}}", "outputs.scores.take", "axis 0 of"),
        (VERSION, "{outputs: {scores: {take: {axis: 2, indices: [0]}}}}", "outputs.scores.take.axis", "no axis 2"),
        (
            VERSION,
            "{rows: added, outputs: {scores: {take: {axis: 0, indices: [0]}}}}",
            "outputs.scores.take.axis",
            "axis 0 is the rows",
        ),
        (VERSION, "{inputs: {features: {value: [1, 2, 3, 4]}}}", "inputs", "every input is a constant"),
        (FLAGGED, "{inputs: {flag: {value: 0.5}}}", "inputs.flag.value", "0.5 is no INT64"),
        (FLAGGED, "{inputs: {flag: {value: [[1], [2, 3]]}}}", "inputs.flag.value", "not of one length"),
        (
            FLAGGED,
            "{inputs: {flag: {value: [1, 2]}}}",
            "inputs.flag.value",
            "it has the shape [2]; a row of the version's",
        ),
        (FLAGGED, "{inputs: {flag: {value: 1, from: x}}}", "inputs.flag", "a constant comes from no client"),
        (
            Signature((FEATURES, TensorSpec("ids", "INT64", (-1, -1))), (LABEL,)),
            "{inputs: {ids: {value: 1}}}",
            "inputs.ids.value",
            "has a free size; give all values as lists",
        ),
        (
            FLAGGED,
            "{inputs: {features: {from: x}, flag: {from: x}}}",
            "inputs.flag",
            "clients would send x FP32[-1, 4] and x INT64[-1, 1]",
        ),
        (
            VERSION,
            "{ignored: [{name: features, datatype: FP32, shape: [-1, 4]}]}",
            "ignored[0]",
            "'features' is not ignored",
        ),
        (ONE_ROW, "{rows: added, outputs: {logits: {shape: [1, 10, 2]}}}", "outputs.logits.shape", "cannot become"),
        (
            ONE_ROW,
            "{rows: one-by-one, inputs: {image: {shape: [3, 8, 8]}}}",
            "inputs.image.shape",
            "clients send rows, and [3, 8, 8] has no -1 in front",
        ),
        (
            Signature((TensorSpec("x", "FP32", (4,)),), (LABEL,)),
            "{rows: added}",
            "inputs.x",
            "`rows: added` needs rows in the version, and x FP32[4] has none in front",
        ),
    ],
)
def test_what_does_not_fit_names_its_field_and_says_what_to_do(
    signature: Signature, text: str, field: str, said: str
) -> None:
    found = plan(signature, mapping(text))
    assert isinstance(found, Fault)
    assert found.field.startswith(f"spec.mapping.{field}"), found
    assert said in found.message
    assert mapped(signature, mapping(text)) == signature
    assert why_not(mapping(text), Signature()) is None  # nobody knows yet; the replica that loads it does


shapes = st.lists(st.sampled_from([-1, 1, 2, 3, 6]), max_size=4).map(tuple)


@given(shapes, shapes, st.lists(st.integers(1, 3), min_size=4, max_size=4))
def test_a_shape_that_may_become_another_has_as_many_values_whatever_the_free_sizes_are(
    source: tuple[int, ...], target: tuple[int, ...], sizes: list[int]
) -> None:
    if not reshapes(source, target) or source.count(-1) != target.count(-1):
        return
    free, again = iter(sizes), iter(sizes)
    one = math.prod(next(free) if size == -1 else size for size in source)
    other = math.prod(next(again) if size == -1 else size for size in target)
    assert one == other


@given(shapes)
def test_units_come_and_go_anywhere(shape: tuple[int, ...]) -> None:
    assert reshapes(shape, shape)
    for at in range(len(shape) + 1):
        more = (*shape[:at], 1, *shape[at:])
        assert reshapes(shape, more)
        assert reshapes(more, shape)


def test_what_is_fixed_stays_on_its_side_of_a_free_size() -> None:
    assert reshapes((-1, 2, 3), (-1, 3, 2))
    assert not reshapes((-1, 2, -1, 3), (-1, 3, -1, 2))
    assert not reshapes((-1, 2), (2, -1))
    assert not reshapes((-1, 4), (4,))


def test_texts_and_truth_are_not_made_of_numbers() -> None:
    assert casts("BYTES", "BYTES")
    assert casts("BOOL", "INT8")
    assert casts("FP64", "UINT8")
    assert not casts("INT8", "BOOL")
    assert not casts("BYTES", "FP32")
    assert not casts("FP32", "BYTES")


def test_the_order_in_which_a_mapping_is_written_says_nothing() -> None:
    one = mapping("{outputs: {b: {from: scores}, a: {from: scores}, label: {}}}")
    other = mapping("{outputs: {label: {}, a: {from: scores}, b: {from: scores}}}")
    assert mapped(VERSION, one) == mapped(VERSION, other)


def test_a_constant_has_rows_where_clients_have() -> None:
    found = plan(FLAGGED, mapping("{inputs: {flag: {value: [3]}}}"))
    assert isinstance(found, Plan)
    assert found.inputs[1] == Constant(FLAG, [3], (1,), has_rows=True)


def test_a_long_mapping_is_told_short() -> None:
    many = SchemaMapping(ignored=tuple(TensorSpec(f"input_{at}", "FP32", (-1,)) for at in range(60)))
    assert len(words(many)) <= 600
    assert words(
        mapping("{inputs: {features: {from: x, datatype: FP64}, flag: {value: 1}}, outputs: {label: null}}")
    ) == ("input features = x as clients send it, FP64; input flag = the constant 1; output label is dropped")


def version(signature: Signature, *tasks: str) -> ModelVersion:
    manifest = VersionManifest("onnx", (), "model.onnx", signature, tasks)
    return ModelVersion(ModelName("m"), 2, Digest("sha256:" + "0" * 64), manifest, 0.0, 1)


def config(signature: Signature, text: str | None, task: Task = "predict") -> ServingConfig | Unservable:
    spec = EndpointSpec("m", mapping=None if text is None else mapping(text))
    return serving_config(spec, version(signature, task))


def test_a_mapping_makes_a_revision_of_its_own_and_what_does_not_fit_makes_none() -> None:
    plain, other = config(VERSION, None), config(VERSION, "{inputs: {features: {from: x}}}")
    assert isinstance(plain, ServingConfig)
    assert isinstance(other, ServingConfig)
    assert config_digest(plain) != config_digest(other)
    assert msgspec.json.decode(msgspec.json.encode(other), type=ServingConfig) == other
    assert other.seen(VERSION).inputs[0].name == "x"
    assert plain.seen(VERSION) is VERSION
    assert config(VERSION, "{inputs: {x: {}}}") == Unservable(
        "it does not fit m@2: the version has no input 'x'; it has features", "spec.mapping.inputs.x"
    )
    chat = config(Signature(), "{inputs: {x: {}}}", "chat")
    assert isinstance(chat, Unservable)
    assert chat.field == "spec.mapping"
