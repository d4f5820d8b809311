"""Requests of different lengths through one engine call: each gets the answer it would have got alone."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, save

from stoker.protocol.frames import RequestHead
from stoker.protocol.link import Link
from stoker.runtime.engines import registry
from stoker.types.errors import EngineFailed, InvalidInput
from stoker.types.replica import EngineCalls, ReplicaSpec
from tests.runtime.models import spec_of
from tests.runtime.rig import hosted

FREE = ["batch", "sequence"]


def encoder(
    folder: Path,
    *,
    axes: list[Any] = FREE,
    made_up: str | None = None,
    twice: dict[str, Any] | None = None,
    **changes: Any,
) -> ReplicaSpec:
    """Lay out a model of two inputs: `twice` doubles every token, `total` is the sum of those under the mask."""
    twice = twice or {"op_type": "Add"}
    kind = TensorProto.INT64
    graph = helper.make_graph(
        [
            helper.make_node(inputs=["ids", "ids"], outputs=["twice"], **twice),
            helper.make_node("Mul", ["ids", "mask"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "axis"], ["total"], keepdims=0),
        ],
        "encoder",
        [helper.make_tensor_value_info(name, kind, axes) for name in ("ids", "mask")],
        [
            helper.make_tensor_value_info("twice", kind, [axes[0], made_up or axes[1]]),
            helper.make_tensor_value_info("total", kind, axes[:1]),
        ],
        [helper.make_tensor("axis", kind, [1], [1])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 9
    folder.mkdir(parents=True, exist_ok=True)
    save(made, folder / "model.onnx")
    return spec_of(folder, "onnx", **changes)


def engine_of(spec: ReplicaSpec) -> Any:
    return registry.load(spec, lambda stage, fraction: None)


async def ask(link: Link, ids: list[list[int]], mask_columns: int | None = None) -> tuple[Any, EngineCalls | None, int]:
    """Return the outputs by name, what the answer reports of engine calls, and the rows of its call."""
    shape = [len(ids), len(ids[0])]
    mask_shape = [len(ids), mask_columns or shape[1]]
    inputs = [
        {"name": "ids", "datatype": "INT64", "shape": shape, "data": ids},
        {"name": "mask", "datatype": "INT64", "shape": mask_shape, "data": [1] * (mask_shape[0] * mask_shape[1])},
    ]
    body = json.dumps({"inputs": inputs}).encode()
    end, answer = await link.call(RequestHead("infer", body_bytes=len(body)), body).answer()
    outputs = {each["name"]: (each["shape"], each["data"]) for each in json.loads(answer)["outputs"]}
    return outputs, end.timings.calls, end.timings.batch_rows


def right(ids: list[list[int]]) -> dict[str, tuple[list[int], list[int]]]:
    array = np.array(ids)
    return {
        "twice": (list(array.shape), (array * 2).reshape(-1).tolist()),
        "total": ([len(ids)], array.sum(axis=1).tolist()),
    }


requests = st.integers(1, 9).flatmap(
    lambda columns: st.lists(st.lists(st.integers(-9, 9), min_size=columns, max_size=columns), min_size=1, max_size=7)
)


@settings(max_examples=30)
@given(bursts=st.lists(st.lists(requests, min_size=1, max_size=10), min_size=1, max_size=3), sizes=st.booleans())
def test_every_request_gets_the_answer_it_would_get_alone(
    bursts: list[list[list[list[int]]]], sizes: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pad = {"sequence": {"to": [4, 6], "values": {"ids": 5}}} if sizes else {"sequence": {}}  # 7 to 9: as they are
    spec = encoder(tmp_path_factory.mktemp("m"), pad=pad, max_rows=5)
    engine = engine_of(spec)

    async def main() -> None:
        async with hosted(Path(spec.model_dir), engine, spec) as (_, link):
            for burst in bursts:
                found = await asyncio.gather(*(ask(link, ids) for ids in burst))
                for ids, (outputs, _, rows) in zip(burst, found, strict=True):
                    assert outputs == right(ids)
                    assert rows <= 5

    asyncio.run(main())


def test_different_lengths_go_through_one_call_only_when_padded(tmp_path: Path) -> None:
    burst = [[[1] * length] for length in (5, 6, 7, 8)]

    async def rows_of(spec: ReplicaSpec) -> tuple[set[int], list[EngineCalls]]:
        async with hosted(Path(spec.model_dir), engine_of(spec), spec) as (_, link):
            found = await asyncio.gather(*(ask(link, ids) for ids in burst))
            return {rows for _, _, rows in found}, [calls for _, calls, _ in found if calls is not None]

    rows, _ = asyncio.run(rows_of(encoder(tmp_path / "a")))
    assert rows == {1}
    rows, reports = asyncio.run(rows_of(encoder(tmp_path / "b", pad={"sequence": {"to": [8]}})))
    assert rows == {4}
    (report,) = reports  # one answer carries it for all
    assert report.by_reason == {"queue": 1}
    assert (report.values, report.padding) == (2 * 4 * 8, 2 * (3 + 2 + 1))


def test_a_model_that_names_nothing_is_padded_where_the_manifest_says(tmp_path: Path) -> None:
    pad = {"length": {"axes": {"ids": 1, "mask": 1, "twice": 1}}}
    spec = encoder(tmp_path, axes=[None, None], pad=pad)

    async def main() -> None:
        async with hosted(tmp_path, engine_of(spec), spec) as (_, link):
            found = await asyncio.gather(*(ask(link, [[1] * length]) for length in (5, 7, 8)))
            assert [outputs["twice"][0] for outputs, _, _ in found] == [[1, 5], [1, 7], [1, 8]]
            assert {rows for _, _, rows in found} == {3}

    asyncio.run(main())


def test_what_cannot_be_padded_or_cut_is_said_before_a_wrong_answer_is_given(tmp_path: Path) -> None:
    async def main() -> None:
        spec = encoder(tmp_path / "a", pad={"sequence": {}})
        async with hosted(Path(spec.model_dir), engine_of(spec), spec) as (_, link):
            with pytest.raises(InvalidInput, match="'mask' has 3 along 'sequence' where 'ids' has 5"):
                await ask(link, [[1] * 5], mask_columns=3)
        spec = encoder(tmp_path / "b", made_up="made_up", pad={"sequence": {}})
        with pytest.raises(InvalidInput, match=r"spec\.batching\.pad\.sequence\.axes: .*write twice: 1 when it is"):
            async with hosted(Path(spec.model_dir), engine_of(spec), spec):
                pass
        spec = encoder(tmp_path / "c", pad={"sequence": {"axes": {"mask": None}}})
        async with hosted(Path(spec.model_dir), engine_of(spec), spec) as (_, link):
            with pytest.raises(EngineFailed, match="ONNX Runtime"):  # ids padded, mask not: the model's own words
                await ask(link, [[1] * 5])

    asyncio.run(main())


def test_what_is_put_behind_is_what_the_manifest_says(tmp_path: Path) -> None:
    spec = encoder(tmp_path, pad={"sequence": {"to": [8], "values": {"ids": 100, "mask": 1}}})

    async def main() -> None:
        async with hosted(tmp_path, engine_of(spec), spec) as (_, link):
            outputs, _, _ = await ask(link, [[1, 2, 3]])
            assert outputs["total"] == ([1], [6 + 5 * 100])  # a model that sees its padding

    asyncio.run(main())


def test_an_output_that_has_another_size_than_was_claimed_is_not_cut(tmp_path: Path) -> None:
    doubled = {"op_type": "Concat", "axis": 1}
    spec = encoder(tmp_path, made_up="longer", twice=doubled, pad={"sequence": {"axes": {"twice": 1}}})

    async def main() -> None:
        async with hosted(tmp_path, engine_of(spec), spec) as (_, link):
            with pytest.raises(EngineFailed, match=r"'twice' has the shape \[1, 8\] for inputs padded to 4"):
                await ask(link, [[1, 2, 3]])

    asyncio.run(main())


def test_a_warm_up_measures_what_the_largest_size_takes(tmp_path: Path) -> None:
    spec = encoder(tmp_path, pad={"sequence": {"to": [4, 32]}})

    async def main() -> None:
        async with hosted(tmp_path, engine_of(spec), spec) as (work, _):
            work.warm_up()
            assert work._batcher.lines.of(((32,), (32,))).calls >= 4

    asyncio.run(main())
