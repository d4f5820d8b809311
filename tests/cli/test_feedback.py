"""`stoker feedback` and `stoker quality` against a real control, and what they print."""

import json
import time
from pathlib import Path

import pytest

from stoker.app.home import Home
from stoker.cli.exits import Exit
from stoker.cli.quality import described
from stoker.client.views import QualityPart, QualityView
from stoker.observe.feedback.store import FeedbackStore, Source
from stoker.types.feedback import Prediction
from tests.cli.conftest import Run
from tests.cli.run import stoker_here

ENDPOINT = """
apiVersion: stoker/v1
kind: Endpoint
metadata: {name: judged}
spec:
  model: scores@1
  feedback: {keep: 1d, segment: region}
"""


@pytest.fixture(scope="module")
def judged(home: Path, digits_model: str) -> None:
    """An endpoint that predicted three times."""
    stoker_here("push", "scores", digits_model, home=home)
    assert stoker_here("apply", "-f", "-", home=home, stdin=ENDPOINT).returncode == 0
    store = FeedbackStore(Home(home).feedback)
    now_s = time.time()
    rows = [Prediction(f"r{at}", now_s, "7", 0.9, "eu" if at else "us") for at in range(3)]
    store.put(Source("default", "judged", "default.judged-1", 86_400.0, 100), rows, now_s)
    store.close()


@pytest.mark.usefixtures("judged")
def test_labels_go_in_from_a_file_and_come_out_as_quality(run: Run, tmp_path: Path) -> None:
    table, lines = tmp_path / "labels.csv", tmp_path / "labels.jsonl"
    table.write_text("id,label,at\nr0,7,1\nr1,7.0,\nnobody,7,\n")
    lines.write_text('{"id": "r2", "label": "cat"}\n\n{"id": "r1", "label": 7}\n')
    assert run("feedback", "judged", "--file", table).stdout == "2 joined  0 duplicate  1 unknown\n"
    sent = run("feedback", "judged", "--file", lines, "--output", "json")
    assert json.loads(sent.stdout) == {"joined": 1, "duplicate": 1, "unknown": 0}
    shown = run("quality", "judged").stdout
    for words in (
        "3 predictions, 3 with a label",
        "66.7% right",
        "400 are needed",
        "SEGMENT",
        "eu",
        "default.judged-1",
    ):
        assert words in shown
    view = json.loads(run("quality", "judged", "--window", "1h", "--output", "json").stdout)
    assert (view["window_s"], view["whole"]["labelled"]) == (3600.0, 3)


@pytest.mark.usefixtures("judged")
def test_business_metrics_go_in_as_columns_or_objects_and_come_out_with_their_mean(run: Run, tmp_path: Path) -> None:
    table, lines = tmp_path / "worth.csv", tmp_path / "worth.jsonl"
    table.write_text("id,metrics.revenue,metrics.returned\nr0,39.9,0\nr1,,1\n")
    lines.write_text('{"id": "r1", "metrics": {"revenue": 10.1}}\n{"id": "nobody", "metrics": {"revenue": 1}}\n')
    assert run("feedback", "judged", "--file", table).stdout == "2 joined  0 duplicate  0 unknown\n"
    assert run("feedback", "judged", "--file", lines).stdout == "1 joined  0 duplicate  1 unknown\n"
    shown = [line.split() for line in run("quality", "judged").stdout.splitlines()]
    assert ["METRIC", "ANSWERS", "MEAN"] in shown
    assert ["revenue", "2", "25"] in shown
    assert ["returned", "2", "0.5"] in shown


@pytest.mark.usefixtures("judged")
@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "id,metrics.revenue\nr0,lots\n", "line 2: metrics.revenue 'lots' is no number"),
        ("a.csv", "id,truth\nr0,7\n", "the column 'truth'"),
        ("a.csv", "id,value\nr0,seven\n", "line 2: value 'seven' is no number"),
        ("a.jsonl", '{"id": "r0", "label": 7}\n[]\n', "line 2: expected an object"),
        ("a.jsonl", "{", "line 1"),
    ],
)
def test_a_line_that_is_no_label_is_named(run: Run, tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    found = run("feedback", "judged", "--file", tmp_path / name)
    assert (found.returncode, said in found.stderr) == (Exit.USAGE, True), found.stderr


def test_quality_over_time_is_a_line_with_gaps_and_the_estimate_stands_beside_it() -> None:
    windows = (QualityPart(accuracy=0.0), QualityPart(), QualityPart(accuracy=1.0))
    view = QualityView("p", "e", "classification", 3600.0, QualityPart(accuracy=0.5), 0.625, 40, windows=windows)
    text = described(view)
    assert "▁·█" in text
    assert "50.0% right" in text
    assert "62.5% expected of 40 without a label" in text
    errors = (QualityPart(mae=2.0), QualityPart(mae=4.0))
    assert "▄█" in described(QualityView("p", "e", "regression", 60.0, QualityPart(mae=3.0), windows=errors))
