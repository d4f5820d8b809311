"""What a replica keeps of real requests until control has it."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.protocol.frames import Kind, RequestHead
from stoker.protocol.link import Link
from stoker.runtime import predictions
from stoker.runtime.predictions import Predictions, Rows
from stoker.types.errors import InvalidInput
from stoker.types.feedback import HANDED_MAX, ROWS_MAX, Demand, Handover, Prediction, Wish
from stoker.types.models import Signature, TensorSpec
from tests.runtime.models import spec_of
from tests.runtime.rig import hosted, infer_body

SIGNATURE = Signature(
    (TensorSpec("input", "FP64", (-1, 2)),), (TensorSpec("y", "FP64", (-1, 2)), TensorSpec("sum", "FP64", (-1, 1)))
)
CLASSES = Wish("classification")


class Model:
    """Says its inputs as probabilities, and their weighted sum."""

    signature = SIGNATURE
    batches = True
    may_inline = True

    def predict(self, inputs: Any, outputs: Any) -> Any:
        x = inputs["input"]
        return {"y": x, "sum": x @ np.array([[1.0], [2.0]])}

    def close(self) -> None: ...


async def asked(link: Link, demand: Demand) -> Handover:
    body = msgspec.msgpack.encode(demand)
    _, answer = await link.call(RequestHead("predictions", body_bytes=len(body)), body, kind=Kind.CALL).answer()
    return msgspec.msgpack.decode(answer, type=Handover)


async def sent(link: Link, rows: Any, id_: str, body: bytes = b"", **head: Any) -> None:
    body = body or infer_body(rows)
    await link.call(RequestHead("infer", request=id_, body_bytes=len(body), **head), body).answer()


def essence(found: Handover) -> list[tuple[Any, ...]]:
    return [(one.id, one.said, one.confidence, one.segment) for one in found.predictions]


def test_each_row_is_handed_over_by_its_request_until_it_is_taken(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "model.onnx").touch()
        async with hosted(tmp_path, Model(), spec_of(tmp_path, "onnx", max_rows=4)) as (_, link):
            await sent(link, [[0.2, 0.8]], "before")
            assert not (await asked(link, Demand(CLASSES))).predictions
            await asyncio.gather(*(sent(link, [[0.25, 0.75]], f"r{at}") for at in range(9)))
            await sent(link, [[0.9, 0.1], [0.5, 0.6]] * 3, "many", segment="eu")  # larger than an engine call
            found = await asked(link, Demand(CLASSES))
            assert sorted(essence(found))[:6] == [
                ("many", "0", None, "eu"),  # 0.5 and 0.6 are no probabilities, so nothing of that call is
                ("many#1", "1", None, "eu"),
                ("many#2", "0", None, "eu"),
                ("many#3", "1", None, "eu"),
                ("many#4", "0", None, "eu"),
                ("many#5", "1", None, "eu"),
            ]
            assert ("r8", "1", 0.75, "") in essence(found)
            assert len(found.predictions) == 15
            assert await asked(link, Demand(CLASSES, found.since, 0)) == found
            assert await asked(link, Demand(CLASSES, "another", 15)) == found
            rest = await asked(link, Demand(CLASSES, found.since, 14))
            assert (rest.first, rest.predictions) == (14, found.predictions[14:])
            assert not (await asked(link, Demand(None))).predictions
            await sent(link, [[0.2, 0.8]], "after")
            assert not (await asked(link, Demand(CLASSES))).predictions
            with pytest.raises(InvalidInput):
                await link.call(RequestHead("predictions", body_bytes=1), b"\xc1", kind=Kind.CALL).answer()

    asyncio.run(main())


def test_requests_of_gates_are_no_predictions(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "model.onnx").touch()
        async with hosted(tmp_path, Model(), spec_of(tmp_path, "onnx")) as (_, link):
            await asked(link, Demand(CLASSES))
            probes = [sent(link, [[0.2, 0.8]], f"gate{at}", probe=True) for at in range(9)]
            await asyncio.gather(*probes, sent(link, [[0.75, 0.25]], "client"))
            assert essence(await asked(link, Demand(CLASSES))) == [("client", "0", 0.75, "")]

    asyncio.run(main())


def test_the_segment_is_the_header_or_else_the_named_parameter(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "model.onnx").touch()
        wish = Wish("regression", "sum", "region")
        async with hosted(tmp_path, Model(), spec_of(tmp_path, "onnx")) as (_, link):
            await asked(link, Demand(wish))
            body = infer_body([[1.0, 2.0]])[:-1] + b', "parameters": {"region": "eu", "other": [1]}}'
            await sent(link, None, "a", body)
            await sent(link, None, "b", body, segment="us")
            await sent(link, None, "c", body.replace(b'"eu"', b'{"deep": 1}'))
            assert essence(await asked(link, Demand(wish))) == [
                ("a", 5.0, None, "eu"),
                ("b", 5.0, None, "us"),
                ("c", 5.0, None, ""),
            ]
            assert "no output 'z'" in (await asked(link, Demand(Wish("regression", "z")))).problem

    asyncio.run(main())


def said(outputs: dict[str, Any], wish: Wish = CLASSES, *, batches: bool = True) -> list[Prediction]:
    signature = Signature((), tuple(TensorSpec(name, "FP32", (-1,)) for name in outputs))
    kept = Predictions(signature, batches=batches)
    kept.answer(Demand(wish))
    arrays = {name: np.array(values) for name, values in outputs.items()}
    kept.add(arrays, [Rows("r", "", 0, 0, len(next(iter(arrays.values()))) if batches else 1)])
    return list(kept.answer(Demand(wish)).predictions)


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ({"y": [[3], [4]], "p": [[0.1, 0.9], [0.5, 0.5]]}, [("3", 0.9), ("4", 0.5)]),
        ({"y": [b"cat", b"dog"]}, [("cat", None), ("dog", None)]),
        ({"y": [0.25, 0.75]}, [("0", 0.75), ("1", 0.75)]),
        ({"y": [0.0, 2.0]}, [("0", None), ("2", None)]),
        ({"y": [[1.0, 3.0, 2.0]]}, [("1", None)]),
        ({"y": [True, False]}, [("1", None), ("0", None)]),
        ({"y": np.zeros((0, 3))}, []),
        ({"y": [[b"a", b"b"]]}, []),
    ],
)
def test_a_class_is_found_in_whatever_a_model_says(outputs: dict[str, Any], expected: list[Any]) -> None:
    assert [(one.said, one.confidence) for one in said(outputs)] == expected


def test_values_that_are_no_numbers_leave_the_others_their_row() -> None:
    found = said({"y": [1.5, float("nan"), 2.5]}, Wish("regression"))
    assert [(one.id, one.said) for one in found] == [("r", 1.5), ("r#2", 2.5)]
    assert [one.said for one in said({"y": [0.1, 0.7, 0.2]}, batches=False)] == ["1"]


LAYOUTS = [
    lambda rows: {"y": np.arange(rows), "p": np.tile(np.float32([0.25, 0.75]), (rows, 1))},
    lambda rows: {"y": np.arange(rows) + 2**60, "p": np.ones((rows, 2), np.float32)},
    lambda rows: {"y": np.linspace(0, 1, rows), "p": np.zeros((rows, 0))},
    lambda rows: {"y": np.eye(3)[np.arange(rows) % 3]},
    lambda rows: {"y": np.array([b"cat"] * rows, object), "p": np.tile([0.5, 0.5], (rows, 1))},
    lambda rows: {"y": np.array([[b"a", b"b"]] * rows, object)},
    lambda rows: {"p": np.ones((rows, 1))},
]  # fmt: skip
calls = st.lists(st.tuples(st.sampled_from(LAYOUTS), st.integers(1, 9)), max_size=40)


@given(calls, st.sampled_from([CLASSES, Wish("regression")]), st.booleans())
def test_what_is_read_together_is_what_each_call_said(calls: Any, wish: Wish, batches: bool) -> None:
    signature = Signature((), (TensorSpec("y", "FP32", (-1,)), TensorSpec("p", "FP32", (-1, -1))))
    found = []
    for rows_max in (1, 16, predictions.GATHERED_ROWS):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(predictions, "GATHERED_ROWS", rows_max)
            kept = Predictions(signature, batches=batches)
            kept.answer(Demand(wish))
            for at, (layout, rows) in enumerate(calls):
                kept.add(layout(rows), [Rows(f"r{at}", "eu", 0, 0, rows if batches else 1)])
            handed = kept.answer(Demand(wish))
        found.append((essence(handed), handed.dropped))
    assert found[0] == found[1] == found[2]


def test_a_row_that_is_no_probability_takes_the_confidence_of_its_own_call_only() -> None:
    kept = Predictions(SIGNATURE, batches=True)
    kept.answer(Demand(CLASSES))
    for at, rows in enumerate(([[0.25, 0.75]], [[0.9, 0.1], [0.5, 0.6]], [[1.0, 0.0]])):
        kept.add({"y": np.array(rows)}, [Rows(f"r{at}", "", 0, 0, len(rows))])
    assert [one.confidence for one in kept.answer(Demand(CLASSES)).predictions] == [0.75, None, None, 1.0]


def test_an_engine_may_write_its_next_answer_where_the_last_one_was() -> None:
    kept, array = Predictions(SIGNATURE, batches=True), np.empty((1, 2))
    kept.answer(Demand(CLASSES))
    for at in range(4):
        array[:] = [[at % 2, 1 - at % 2]]
        kept.add({"y": array}, [Rows(f"r{at}", "", 0, 0, 1)])
    assert [one.said for one in kept.answer(Demand(CLASSES)).predictions] == ["1", "0", "1", "0"]


def test_what_is_held_unread_is_bounded_in_rows_and_bytes() -> None:
    kept = Predictions(Signature((), (TensorSpec("y", "BYTES", (-1,)),)), batches=True)
    kept.answer(Demand(CLASSES))
    for size in (1, 1, predictions.GATHERED_BYTES, 1, 2 * predictions.GATHERED_BYTES, 1):
        kept.add({"y": np.array([b"x" * size], object)}, [Rows("r", "", 0, 0, 1)])
        assert kept._gathered_bytes <= predictions.GATHERED_BYTES
    for _ in range(predictions.GATHERED_ROWS + 1):
        kept.add({"y": np.array([b"x"], object)}, [Rows("r", "", 0, 0, 1)])
        assert kept._gathered_rows < predictions.GATHERED_ROWS
    assert len(kept.answer(Demand(CLASSES)).predictions) == predictions.GATHERED_ROWS + 7


def test_what_is_kept_is_bounded_and_what_is_dropped_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "KEPT_MAX", HANDED_MAX + 10)
    kept = Predictions(Signature((), (TensorSpec("y", "FP32", (-1, 1)),)), batches=True)
    since = kept.answer(Demand(CLASSES)).since
    kept.add({"y": np.ones((100, 1))}, [Rows("large", "", 0, 0, 100)])
    assert kept.answer(Demand(CLASSES)).dropped == 100 - ROWS_MAX
    kept.add({"other": np.ones((1, 1))}, [Rows("asked-for-another", "", 0, 0, 1)])
    for at in range(HANDED_MAX):
        kept.add({"y": np.ones((1, 1))}, [Rows(f"r{at}", "", 0, 0, 1)])
    found = kept.answer(Demand(CLASSES, since, 0))
    assert (len(found.predictions), found.first) == (HANDED_MAX, ROWS_MAX - 10)
    assert found.dropped == 100 - ROWS_MAX + 1 + ROWS_MAX - 10
    rest = kept.answer(Demand(CLASSES, since, found.first + HANDED_MAX))
    assert [one.id for one in rest.predictions] == [f"r{at}" for at in range(HANDED_MAX - 10, HANDED_MAX)]


def test_nothing_is_kept_for_a_control_that_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Predictions(Signature((), (TensorSpec("y", "FP32", (-1, 1)),)), batches=True)
    kept.answer(Demand(CLASSES))
    monkeypatch.setattr(predictions, "LAPSE_S", -1.0)
    kept.add({"y": np.ones((1, 1))}, [Rows("r", "", 0, 0, 1)])
    assert not kept.is_on
    assert not kept.answer(Demand(CLASSES)).predictions


def test_what_came_before_it_was_asked_is_not_kept_under_a_segment_it_did_not_say() -> None:
    kept = Predictions(SIGNATURE, batches=True)
    early = kept.segment_of(RequestHead("infer", request="early", segment="eu"), b"")
    kept.answer(Demand(CLASSES))
    late = kept.segment_of(RequestHead("infer", request="late", segment="eu"), b"")
    outputs = {"y": np.array([[0.2, 0.8], [0.3, 0.7]])}
    kept.add(outputs, [Rows("early", early, 0, 0, 1), Rows("late", late, 0, 1, 1)])
    assert [(one.id, one.segment) for one in kept.answer(Demand(CLASSES)).predictions] == [("late", "eu")]
