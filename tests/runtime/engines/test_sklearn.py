"""The sklearn engine beyond what all predict engines share: other estimators, untrusted types, pickles."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from stoker.runtime.engines import registry
from stoker.types.errors import InvalidInput, RefusedArtifact
from stoker.types.models import TensorSpec
from tests.runtime.models import spec_of

X = np.random.default_rng(0).normal(size=(40, 3))


def loaded(folder: Path, model: Any) -> Any:
    skops.io.dump(model, folder / "model.skops")
    return registry.load(spec_of(folder, "sklearn"), lambda stage, fraction: None)


def test_a_regressor_gives_a_prediction(tmp_path: Path) -> None:
    engine = loaded(tmp_path, LinearRegression().fit(X, X @ [1.0, 2.0, 3.0]))
    assert engine.signature.outputs == (TensorSpec("prediction", "FP64", (-1,)),)
    assert np.allclose(engine.predict({"input": X[:2]}, ())["prediction"], X[:2] @ [1.0, 2.0, 3.0])


def test_labels_that_are_words_are_bytes(tmp_path: Path) -> None:
    words = np.where(X[:, 0] > 0, "up", "down")
    engine = loaded(tmp_path, LogisticRegression().fit(X, words))
    assert engine.signature.outputs[0] == TensorSpec("label", "BYTES", (-1,))
    assert engine.predict({"input": X[:9]}, ())["label"].tolist() == [word.encode() for word in words[:9].tolist()]


def test_trees_load_though_skops_alone_does_not_trust_them(tmp_path: Path) -> None:
    engine = loaded(tmp_path, RandomForestClassifier(3, random_state=0).fit(X, X[:, 0] > 0))
    assert engine.predict({"input": X[:4]}, ())["probabilities"].shape == (4, 2)


def test_values_that_the_estimator_refuses_are_the_callers_error(tmp_path: Path) -> None:
    engine = loaded(tmp_path, LogisticRegression().fit(X, X[:, 0] > 0))
    with pytest.raises(InvalidInput, match="NaN") as raised:
        engine.predict({"input": np.full((1, 3), np.nan)}, ())
    assert raised.value.field == "input"


class Evil:
    """What a hostile file would bring along."""

    def fit(self) -> "Evil":
        return self


def test_types_that_are_not_trusted_are_named(tmp_path: Path) -> None:
    with pytest.raises(RefusedArtifact, match=r"test_sklearn\.Evil"):
        loaded(tmp_path, FunctionTransformer(kw_args={"a": Evil()}))


@pytest.mark.parametrize("name", ["model.pkl", "model.joblib"])
def test_a_pickle_is_refused_unread_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(RefusedArtifact, match=r"skops\.io\.dump"):
        registry.load(spec_of(tmp_path, "sklearn", entry=name), lambda stage, fraction: None)


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps([1])])
def test_a_file_that_is_no_skops_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model.skops").write_bytes(data)
    with pytest.raises(RefusedArtifact, match="no skops file"):
        registry.load(spec_of(tmp_path, "sklearn"), lambda stage, fraction: None)
