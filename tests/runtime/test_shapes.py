"""A replica tells the shapes of its engine calls; one that is given them has called each before its first request."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import Link
from stoker.runtime.engines.port import Array
from stoker.types.errors import EngineFailed
from stoker.types.models import Signature, TensorSpec
from stoker.types.shapes import METHOD, Shape, ShapeCost
from tests.runtime.models import spec_of
from tests.runtime.rig import hosted, infer

LENGTH_MAX = 50


class Free:
    """A PredictEngine that takes rows of any length up to LENGTH_MAX, and notes the shapes of its calls."""

    signature = Signature((TensorSpec("input", "FP64", (-1, -1)),), (TensorSpec("y", "FP64", (-1,)),))
    batches = True
    may_inline = True

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def predict(self, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        x = inputs["input"]
        if x.shape[1] > LENGTH_MAX:
            raise EngineFailed("too long")
        self.calls.append(x.shape)
        return {"y": x.sum(axis=1)}

    def close(self) -> None: ...


async def told(link: Link) -> dict[Shape, ShapeCost]:
    _, body = await link.call(RequestHead(METHOD), kind=Kind.CALL).answer()
    return {each.shape: each for each in msgspec.msgpack.decode(body, type=tuple[ShapeCost, ...])}


def test_a_replica_is_called_with_the_shapes_that_another_one_told_of(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    spec = spec_of(tmp_path, "onnx", max_rows=4)
    asked = Shape(3, ((7,),))

    async def main() -> None:
        async with hosted(tmp_path, Free(), spec) as (work, link):
            work.warm_up()
            assert await told(link) == {}, "nobody asked for the calls of a warm-up"
            for _ in range(3):
                await infer(link, np.ones((3, 7)))
            await infer(link, np.ones((2, 1)))  # which the warm-up had
            costs = await told(link)
            assert {shape: each.calls for shape, each in costs.items()} == {asked: 3, Shape(2, ((1,),)): 1}
            assert costs[asked].first_s > 0
            assert costs[asked].later_s > 0
            assert costs[Shape(2, ((1,),))].first_s == 0, "it was no first call"

        engine = Free()
        given = (Shape(5, ((7,),)), Shape(1, ((7,), (7,))), Shape(2, ((1,),)), asked)
        async with hosted(tmp_path, engine, msgspec.structs.replace(spec, shapes=given)) as (work, link):
            work.warm_up()
            grown = [(1, 1), (1, 1), (2, 1), (4, 1)]
            assert engine.calls == [*grown, (3, 7)], "what the model or this revision does not take is left out"
            await infer(link, np.ones((3, 7)))
            cost = (await told(link))[asked]
            assert (cost.calls, cost.first_s > 0, cost.later_s > 0) == (1, True, True)

    asyncio.run(main())


def test_a_model_that_refuses_a_recorded_shape_serves_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    spec = spec_of(tmp_path, "onnx", shapes=[{"rows": 1, "sizes": [[LENGTH_MAX + 1]]}, {"rows": 1, "sizes": [[9]]}])
    engine = Free()

    async def main() -> None:
        async with hosted(tmp_path, engine, spec) as (work, link):
            work.warm_up()
            assert (1, 9) not in engine.calls
            assert (await infer(link, np.ones((1, 9))))["y"].tolist() == [9.0]

    asyncio.run(main())
