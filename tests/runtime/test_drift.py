"""What a replica counts of real requests, and what it says of itself when it cannot."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stoker.core.reference import bind
from stoker.observe.drift.reference import build
from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import Link
from stoker.runtime.drift import GATHER_MAX, Watch
from stoker.types.drift import Answer, Question, Reference
from stoker.types.errors import InvalidInput
from stoker.types.models import Signature, TensorSpec
from tests.runtime.models import spec_of
from tests.runtime.rig import ask, hosted, infer, infer_body

SIGNATURE = Signature((TensorSpec("input", "FP64", (-1, 2)),), (TensorSpec("y", "FP64", (-1, 2)),))


class InPlace:
    """A model that changes its inputs in place, as it may."""

    signature = SIGNATURE
    batches = True
    may_inline = True

    def predict(self, inputs, outputs):
        inputs["input"] *= 100.0
        return {"y": inputs["input"]}

    def close(self) -> None: ...


def reference() -> Reference:
    rows = np.random.default_rng(0).random((500, 2))
    found = bind(build({"a": rows[:, 0], "b": rows[:, 1], "y[0]": rows[:, 0] * 100}, source="", made_at_s=0), SIGNATURE)
    assert isinstance(found, Reference)
    return found


async def asked(link: Link, question: Question) -> Answer:
    body = msgspec.msgpack.encode(question)
    _, answer = await link.call(RequestHead("drift", body_bytes=len(body)), body, kind=Kind.CALL).answer()
    return msgspec.msgpack.decode(answer, type=Answer)


def test_what_is_counted_is_what_was_sent_and_what_was_refused(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "model.onnx").touch()
        async with hosted(tmp_path, InPlace(), spec_of(tmp_path, "onnx")) as (_, link):
            await infer(link, [[0.5, 0.5]])  # before anybody asked
            assert (await asked(link, Question("sha"))).counts is None
            first = (await asked(link, Question("sha", reference()))).counts
            assert first is not None
            assert first.rows == 0
            rows = np.random.default_rng(1).random((40, 2))
            await asyncio.gather(*(infer(link, row) for row in rows))
            await infer(link, [[7.0, np.nextafter(-0.0, -1)]] * 3)
            with pytest.raises(InvalidInput):
                await ask(link, "infer", b"{}")
            counts = (await asked(link, Question("sha"))).counts
            assert counts is not None
            assert (counts.rows, counts.refused, counts.since) == (43, 1, first.since)
            a, b, y = counts.slots
            assert (sum(a), a[-2], b[0]) == (43, 3, 3)  # above, and below
            assert y == a  # the prediction is a hundred times the input, as are its limits
            assert (await asked(link, Question(""))).counts is None
            await infer(link, [[0.5, 0.5]])
            again = (await asked(link, Question("sha", reference()))).counts
            assert again is not None
            assert again.rows == 0
            assert again.since != first.since
            with pytest.raises(InvalidInput):
                await link.call(RequestHead("drift", body_bytes=1), b"\xc1", kind=Kind.CALL).answer()

    asyncio.run(main())


def test_gathered_rows_are_bounded_and_drawn_from_all_that_passed() -> None:
    watch = Watch(SIGNATURE, batches=True)
    watch.answer(Question(gather=10 * GATHER_MAX))
    for start in range(0, 4 * GATHER_MAX, 1_000):
        x = np.arange(start, start + 1_000, dtype=np.float64)[:, None].repeat(2, axis=1)
        watch.seen({"input": x}, {"y": x}, 1_000)
    columns = watch.answer(Question(take=True)).columns
    assert sorted(columns) == ["input[0]", "input[1]", "y[0]", "y[1]"]
    assert len(columns["y[1]"]) == len(set(columns["y[1]"])) == GATHER_MAX
    assert np.mean(columns["input[0]"]) == pytest.approx(2 * GATHER_MAX, rel=0.05)  # its sd is 0.8 %
    assert not watch.is_on


def test_requests_of_gates_are_in_no_window_alone_or_beside_others_or_refused(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "model.onnx").touch()
        async with hosted(tmp_path, InPlace(), spec_of(tmp_path, "onnx")) as (_, link):
            await asked(link, Question("sha", reference()))
            await infer(link, [[0.5, 0.5]])
            body = infer_body([[7.0, 7.0]])
            probes = [ask(link, "infer", body, probe=True) for _ in range(20)]
            await asyncio.gather(*probes, *(infer(link, [[0.5, 0.5]]) for _ in range(20)))
            with pytest.raises(InvalidInput):
                await ask(link, "infer", b"{}", probe=True)
            counts = (await asked(link, Question("sha"))).counts
            assert counts is not None
            assert 1 <= counts.rows <= 21
            assert counts.refused == 0
            assert [slots[-2] for slots in counts.slots] == [0, 0, 0], "none above the reference's largest"

    asyncio.run(main())


def test_a_model_without_batches_says_that_it_is_not_watched() -> None:
    assert "no batches" in Watch(SIGNATURE, batches=False).answer(Question("sha", reference())).problem
