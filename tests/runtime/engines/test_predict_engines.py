"""What every predict engine must do, run over each of them with the same classifier inside."""

from typing import Any

import msgspec
import numpy as np
import pytest

from stoker.protocol.oip_binary import DTYPES
from stoker.runtime.engines import registry
from stoker.runtime.engines.port import PredictEngine
from stoker.types.errors import InvalidInput, StokerError
from tests.runtime.models import Digits

ENGINES = ["onnx", "sklearn", "python"]


@pytest.fixture(params=ENGINES, scope="module")
def engine(request: pytest.FixtureRequest, digits: Digits) -> Any:
    stages: list[tuple[str, float]] = []
    found = registry.load(digits.spec(request.param), lambda stage, fraction: stages.append((stage, fraction)))
    assert stages
    assert all(0 <= fraction <= 1 for _, fraction in stages)
    yield found
    found.close()


def ask(engine: PredictEngine, rows: Any, outputs: tuple[str, ...] = ()) -> dict[str, Any]:
    (spec,) = engine.signature.inputs
    return engine.predict({spec.name: np.array(rows, DTYPES[spec.datatype])}, outputs)


def test_it_says_what_goes_in_and_out(engine: PredictEngine) -> None:
    (given,) = engine.signature.inputs
    assert (given.datatype, given.shape) == ("FP64", (-1, 64))
    label, probabilities = engine.signature.outputs
    assert (label.name, label.datatype, label.shape) == ("label", "INT64", (-1,))
    assert (probabilities.name, probabilities.datatype, probabilities.shape) == ("probabilities", "FP64", (-1, 10))
    assert engine.batches


def test_it_answers_as_the_model_it_was_made_of(engine: PredictEngine, digits: Digits) -> None:
    found = ask(engine, digits.rows[:50])
    assert found["label"].tolist() == digits.model.predict(digits.rows[:50]).tolist()
    assert np.allclose(found["probabilities"], digits.model.predict_proba(digits.rows[:50]), atol=1e-6)
    for spec in engine.signature.outputs:
        assert found[spec.name].dtype == DTYPES[spec.datatype]


def test_a_batch_gives_every_row_what_it_gets_alone(engine: PredictEngine, digits: Digits) -> None:
    together = ask(engine, digits.rows[:33])["probabilities"]
    alone = np.vstack([ask(engine, digits.rows[at : at + 1])["probabilities"] for at in range(33)])
    assert np.allclose(together, alone, atol=1e-12)


def test_only_the_outputs_asked_for_come_back(engine: PredictEngine, digits: Digits) -> None:
    assert list(ask(engine, digits.rows[:2], ("probabilities",))) == ["probabilities"]
    assert list(ask(engine, digits.rows[:2], ("label",))) == ["label"]


def test_inputs_that_cannot_be_written_to_are_fine_and_stay_as_they_are(engine: PredictEngine, digits: Digits) -> None:
    (spec,) = engine.signature.inputs
    raw = digits.rows[:3].astype(np.float64).tobytes()
    array = np.frombuffer(raw, np.float64).reshape(3, 64)
    assert engine.predict({spec.name: array}, ())["label"].shape == (3,)
    assert array.tobytes() == raw


def test_nothing_but_a_stoker_error_comes_out_of_a_failing_call(engine: PredictEngine) -> None:
    (spec,) = engine.signature.inputs
    with pytest.raises(StokerError):
        engine.predict({spec.name: np.zeros((2, 3))}, ())


@pytest.mark.parametrize("name", ENGINES)
def test_unknown_options_are_refused_by_name(name: str, digits: Digits) -> None:
    with pytest.raises(InvalidInput, match="no_such_option"):
        registry.load(digits.spec(name, options={"no_such_option": 1}), lambda stage, fraction: None)


def test_an_unknown_engine_and_a_task_it_does_not_do_are_told_apart(digits: Digits) -> None:
    with pytest.raises(InvalidInput, match="no engine is called"):
        registry.load(msgspec.structs.replace(digits.spec("onnx"), engine="tensorflow"), lambda stage, fraction: None)
    with pytest.raises(InvalidInput, match="predict"):
        registry.load(digits.spec("sklearn", task="embed"), lambda stage, fraction: None)
