"""Engines as clients know them: what reaches the model and what comes back, whatever the mapping is."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, save

from stoker.protocol.frames import RequestHead
from stoker.protocol.oip_binary import DTYPES, datatype_of
from stoker.runtime.engines import registry
from stoker.runtime.engines.port import Array
from stoker.runtime.mapping import mapped
from stoker.types.errors import EngineFailed, InvalidInput
from stoker.types.mapping import MappedInput, MappedOutput, Rows, SchemaMapping, Take
from stoker.types.models import Signature, TensorSpec
from stoker.types.replica import ReplicaSpec
from tests.runtime.models import spec_of
from tests.runtime.rig import hosted

NUMBERS = [name for name in DTYPES if name not in ("BYTES", "BOOL")]


class Echo:
    """A PredictEngine that gives each input back as the output of the same place, and keeps what it was given."""

    may_inline = True

    def __init__(self, signature: Signature, *, batches: bool = True) -> None:
        self.signature = signature
        self.batches = batches
        self.given: list[dict[str, Array]] = []

    def predict(self, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        self.given.append(dict(inputs))
        names = [each.name for each in self.signature.outputs]
        every = {name: inputs[each.name] for name, each in zip(names, self.signature.inputs, strict=True)}
        return {name: every[name] for name in outputs or names}

    def close(self) -> None:
        pass


def echo(*tensors: TensorSpec, batches: bool = True) -> Echo:
    outputs = tuple(msgspec.structs.replace(each, name=f"{each.name}_out") for each in tensors)
    return Echo(Signature(tensors, outputs), batches=batches)


def mapping(text: str) -> SchemaMapping:
    return msgspec.yaml.decode(text, type=SchemaMapping)


class Case(msgspec.Struct):
    """One tensor of the version (`row` without its rows), and how clients send and read it."""

    row: tuple[int, ...]
    datatype: Any
    sent_row: tuple[int, ...]
    sent: Any
    order: tuple[int, ...]  # of the last axis of what is sent; () where nothing is taken


@st.composite
def cases(draw: st.DrawFn) -> Case:
    row = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    sent_row = tuple(size for size in row if size != 1 or draw(st.booleans()))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(sent_row)))
        sent_row = (*sent_row[:at], 1, *sent_row[at:])
    order = draw(st.permutations(range(sent_row[-1]))) if sent_row and draw(st.booleans()) else ()
    return Case(row, draw(st.sampled_from(NUMBERS)), sent_row, draw(st.sampled_from(NUMBERS)), tuple(order))


@settings(max_examples=150)
@given(
    tensors=st.lists(cases(), min_size=1, max_size=3),
    rows=st.sampled_from(["same", "one-by-one", "added"]),
    count=st.integers(1, 3),
    constant=st.booleans(),
    data=st.data(),
)
def test_a_model_gets_exactly_what_its_signature_says_and_clients_what_theirs_does(
    tensors: list[Case], rows: Rows, count: int, constant: bool, data: st.DataObject
) -> None:
    front = {"same": (-1,), "one-by-one": (1,), "added": (-1,)}[rows]
    known_front = () if rows == "added" else (-1,)
    specs = [TensorSpec(f"v{at}", each.datatype, (*front, *each.row)) for at, each in enumerate(tensors)]
    entries, back = {}, {}
    for at, each in enumerate(tensors):
        shape = (*known_front, *each.sent_row)
        take = Take(len(shape) - 1, each.order) if each.order else None
        entries[f"v{at}"] = MappedInput(f"c{at}", each.sent, shape, take)
        back[f"r{at}"] = MappedOutput(f"v{at}_out", each.sent, shape)
    if constant:
        specs.append(TensorSpec("k", "INT16", (*front, 2)))
        entries["k"] = MappedInput(value=[[5, 6]] if rows == "one-by-one" else [5, 6])
        back["k_out"] = None  # type: ignore[assignment]
    engine = echo(*specs, batches=rows == "same")
    outside = mapped(engine, SchemaMapping(entries, back, rows=rows))  # type: ignore[arg-type]
    assert outside.batches == (rows != "added")
    values = st.lists(st.integers(0, 100), min_size=1, max_size=64)
    sent = {}
    for at, each in enumerate(tensors):
        shape = (() if rows == "added" else (count,)) + each.sent_row
        sent[f"c{at}"] = np.resize(np.array(data.draw(values)), shape).astype(DTYPES[each.sent])
    found = outside.predict(sent, ())
    for given_ in engine.given:
        many = count if rows == "same" else 1
        for spec in specs:
            assert datatype_of(given_[spec.name]) == spec.datatype
            assert given_[spec.name].shape == (many, *spec.shape[1:])
        if constant:
            assert (given_["k"] == [5, 6]).all()
    assert len(engine.given) == (count if rows == "one-by-one" else 1)
    assert list(found) == [each.name for each in outside.signature.outputs]
    for at, each in enumerate(tensors):
        given_back, original = found[f"r{at}"], sent[f"c{at}"]
        assert datatype_of(given_back) == each.sent
        assert given_back.shape == original.shape
        expected = original[..., list(each.order)] if each.order else original
        assert given_back.tolist() == expected.tolist()


def test_an_engine_without_a_mapping_is_left_alone() -> None:
    engine = echo(TensorSpec("x", "FP32", (-1,)))
    assert mapped(engine, None) is engine


def test_a_mapping_that_does_not_fit_what_was_loaded_is_refused_with_its_field() -> None:
    with pytest.raises(InvalidInput, match="no input 'y'; it has x") as refused:
        mapped(echo(TensorSpec("x", "FP32", (-1,))), mapping("{inputs: {y: {}}}"))
    assert refused.value.field == "spec.mapping.inputs.y"


@pytest.mark.parametrize(
    ("taken", "sent", "value", "said"),
    [
        ("FP32", "FP64", 1e300, "'c' has a value out of the range of FP32"),
        ("INT8", "INT64", 200, "'c' has a value out of the range of INT8"),
        ("UINT8", "INT64", -1, "'c' has a value out of the range of UINT8"),
        ("INT64", "UINT64", 2**63, "'c' has a value out of the range of INT64"),
        ("UINT64", "FP64", 2.0**64, "'c' has a value out of the range of UINT64"),
        ("INT64", "FP32", 0.5, "'c' has a value that is no whole number, as INT64 needs"),
        ("INT64", "FP32", float("nan"), "'c' has a value out of the range of INT64"),
        ("INT64", "FP32", float("inf"), "'c' has a value out of the range of INT64"),
    ],
)
def test_a_number_that_is_none_in_the_other_type_is_refused_and_never_bent(
    taken: Any, sent: Any, value: float, said: str
) -> None:
    spec = TensorSpec("v", taken, (-1,))
    entry = {"v": MappedInput("c", sent)}
    outside = mapped(echo(spec), SchemaMapping(entry))
    with pytest.raises(InvalidInput, match=said) as refused:
        outside.predict({"c": np.array([1, value], DTYPES[sent])}, ())
    assert refused.value.field == "c"
    # The same in what a model gives is the model's own failure.
    behind = mapped(
        echo(TensorSpec("v", sent, (-1,))), SchemaMapping(outputs={"r": MappedOutput("v_out", datatype=taken)})
    )
    with pytest.raises(EngineFailed, match="output 'r' cannot be made: the version's 'v_out' has a value"):
        behind.predict({"v": np.array([1, value], DTYPES[sent])}, ())


def test_infinity_stays_what_it_is_between_floats() -> None:
    outside = mapped(echo(TensorSpec("v", "FP32", (-1,))), mapping("{inputs: {v: {datatype: FP64}}}"))
    found = outside.predict({"v": np.array([np.inf, np.nan, 1.0])}, ())
    assert str(found["v_out"].tolist()) == "[inf, nan, 1.0]"


def test_texts_are_renamed_reshaped_and_constant_too() -> None:
    engine = echo(
        TensorSpec("v", "BYTES", (-1, 1)), TensorSpec("k", "BYTES", (-1, 2)), TensorSpec("e", "BYTES", (-1, 2))
    )
    outside = mapped(
        engine,
        mapping("{inputs: {v: {from: c, shape: [-1]}, k: {value: [ä, b]}, e: {value: x}}, outputs: {k_out: null}}"),
    )
    outside.predict({"c": np.array([b"1", b"2"], object)}, ())
    assert engine.given[0]["v"].tolist() == [[b"1"], [b"2"]]
    assert engine.given[0]["k"].tolist() == [["ä".encode(), b"b"]] * 2
    assert engine.given[0]["e"].tolist() == [[b"x", b"x"]] * 2


def test_rows_of_no_shape_are_asked_one_by_one_as_arrays() -> None:
    engine = echo(TensorSpec("v", "INT64", ()), TensorSpec("t", "BYTES", (1,)), batches=False)
    outside = mapped(engine, mapping("{rows: one-by-one}"))
    sent = {"v": np.array([3, 4]), "t": np.array([b"a", b"b"], object)}
    assert [each.shape for each in outside.signature.inputs] == [(-1,), (-1,)]
    found = outside.predict(sent, ())
    assert found["v_out"].tolist() == [3, 4]
    assert found["t_out"].tolist() == [b"a", b"b"]
    assert all(isinstance(each["v"], np.ndarray) and each["t"].shape == (1,) for each in engine.given)


class Odd(Echo):
    """Gives outputs of a shape that its signature does not have, or refuses in its own words."""

    problem: Exception | None = None

    def predict(self, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        if self.problem is not None:
            raise self.problem
        return {each.name: np.zeros((2, 7), np.float32) for each in self.signature.outputs}


def test_what_a_model_gives_in_another_shape_than_it_says_is_its_own_failure() -> None:
    signature = Signature((TensorSpec("v", "FP32", (-1, 4)),), (TensorSpec("s", "FP32", (-1, 4)),))
    sent = {"v": np.zeros((2, 4), np.float32)}
    taken = mapped(Odd(signature), mapping("{outputs: {r: {from: s, take: {axis: 1, indices: [3, 0]}}}}"))
    with pytest.raises(EngineFailed, match=r"'r' cannot be made: the version's 's' came with the shape \[2, 7\]"):
        taken.predict(sent, ())
    single = mapped(Odd(signature), mapping("{rows: added}"))
    with pytest.raises(EngineFailed, match=r"the version's output 's' has the shape \[2, 7\] for one row"):
        single.predict({"v": np.zeros(4, np.float32)}, ())


def test_what_a_model_refuses_is_told_in_the_names_that_clients_know() -> None:
    engine = Odd(Signature((TensorSpec("v", "FP32", (-1,)),), (TensorSpec("s", "FP32", (-1,)),)))
    engine.problem = InvalidInput("'v' takes no such thing", field="v")
    with pytest.raises(InvalidInput, match="'c' takes no such thing") as refused:
        mapped(engine, mapping("{inputs: {v: {from: c}}}")).predict({"c": np.zeros(1, np.float32)}, ())
    assert refused.value.field == "c"


def fixed(folder: Path) -> ReplicaSpec:
    """Lay out an ONNX model that was exported for one row of four: `y` is twice `x`."""
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "fixed",
        [helper.make_tensor_value_info("x", kind, [1, 4])],
        [helper.make_tensor_value_info("y", kind, [1, 4])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    folder.mkdir(parents=True, exist_ok=True)
    save(made, folder / "model.onnx")
    return spec_of(folder, "onnx")


def test_requests_are_joined_padded_out_and_refused_alone_behind_a_mapping(tmp_path: Path) -> None:
    """A model of one row serves clients that send many; a neighbour's bad number is the neighbour's."""
    spec = fixed(tmp_path / "m")
    inner = registry.load(spec, lambda stage, fraction: None)
    told = mapping("{rows: one-by-one, inputs: {x: {from: pixels, datatype: FP64}}, outputs: {twice: {from: y}}}")
    engine = mapped(inner, told)  # type: ignore[arg-type]

    async def main() -> None:
        async with hosted(tmp_path, engine, spec) as (work, link):
            work.warm_up()

            async def ask(rows: list[list[float]], name: str = "pixels") -> Any:
                tensor = {"name": name, "datatype": "FP64", "shape": [len(rows), 4], "data": rows}
                body = json.dumps({"inputs": [tensor]}).encode()
                end, answer = await link.call(RequestHead("infer", body_bytes=len(body)), body).answer()
                return json.loads(answer)["outputs"], end

            asked = [ask([[1, 2, 3, 4], [5, 6, 7, 8]]), ask([[1e300, 0, 0, 0]]), ask([[0, 0, 0, 0.5]])]
            first, bad, last = await asyncio.gather(*asked, return_exceptions=True)
            assert first[0] == [
                {"name": "twice", "datatype": "FP32", "shape": [2, 4], "data": [2, 4, 6, 8, 10, 12, 14, 16]}
            ]
            assert first[1].usage.rows == 2
            assert last[0][0]["data"] == [0, 0, 0, 1]
            assert isinstance(bad, InvalidInput)
            assert "'pixels' has a value out of the range of FP32" in bad.message
            with pytest.raises(InvalidInput, match=r"no input is called 'x'; this model takes \['pixels'\]"):
                await ask([[1, 2, 3, 4]], name="x")

    asyncio.run(main())
