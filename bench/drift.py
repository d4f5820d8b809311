"""Drift against known truth: false alarms without a shift, power with one, estimated against realised accuracy.

Everything is drawn or bundled with scikit-learn, with fixed seeds: the same numbers on every machine, times aside.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn import datasets
from sklearn.linear_model import LogisticRegression

from bench import drift_texts
from bench.figures import Figure
from bench.report import Section
from bench.rounds import say
from stoker.core.drift import DriftMemory, Judgement, Policy, judge
from stoker.core.reference import bind
from stoker.observe.drift.estimate import auc, calibrate, estimate, expected_accuracy
from stoker.observe.drift.reference import build
from stoker.telemetry.slots import ROWS_A_CALL, Counter
from stoker.types.drift import Reference
from stoker.types.models import Signature, TensorSpec

Columns = dict[str, NDArray[Any]]
POLICY: Final = Policy(rows_min=100)
WINDOWS_EACH: Final = 5  # of one reference
SIZES: Final = ((500, 300), (5_000, 300), (5_000, 1_000), (5_000, 10_000))  # rows of the reference, of a window


def mixed(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Columns:
    """Return 20 features of the kinds there are; the first of each kind is moved by `shift` standard deviations."""
    columns: Columns = {}
    for at in range(4):
        by = shift if at == 0 else 0.0
        columns[f"normal{at}"] = rng.normal(by, 1.0, rows)
        columns[f"skewed{at}"] = np.exp(rng.normal(by, 1.0, rows))
        columns[f"counted{at}"] = rng.poisson(3.0 + by * 3.0**0.5, rows).astype(float)
        columns[f"gaps{at}"] = np.where(rng.random(rows) < 0.1, np.nan, rng.normal(by, 1.0, rows))
        weights = np.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
        columns[f"kind{at}"] = np.array(rng.choice(list("abcdef"), rows, p=weights), object)
    return columns


def signature(columns: Mapping[str, NDArray[Any]]) -> Signature:
    """Return the signature of a model with an input for each column."""
    return Signature(
        tuple(TensorSpec(name, "BYTES" if one.dtype == object else "FP32", (-1, 1)) for name, one in columns.items())
    )


def reference_of(columns: Columns) -> Reference:
    """Return the reference of columns."""
    found = bind(build(columns, source="bench", made_at_s=0.0), signature(columns))
    assert isinstance(found, Reference)
    return found


def compared(reference: Reference, columns: Columns) -> Judgement:
    """Return the verdict over one window."""
    counter = Counter(reference)
    rows = len(next(iter(columns.values())))
    for start in range(0, rows, ROWS_A_CALL):
        piece = {name: one[start : start + ROWS_A_CALL] for name, one in columns.items()}
        counter.add(piece, {}, min(ROWS_A_CALL, rows - start))
    return judge(reference, counter.slots(), counter.rows, POLICY, DriftMemory())


def false_alarms(references: int) -> tuple[list[list[str]], list[Figure]]:
    """Return how many windows without drift were called moved or drifted, beside the usual rules."""
    rows = [["reference rows", "window rows", "windows", "moved", "drifted", "PSI > 0.1", "KS, χ² p < 0.05"]]
    every: list[tuple[bool, bool, bool, bool]] = []
    for reference_rows, window_rows in SIZES:
        seen = []
        for seed in range(references):
            rng = np.random.default_rng(seed)
            before = mixed(rng, reference_rows)
            reference = reference_of(before)
            for _ in range(WINDOWS_EACH):
                now = mixed(rng, window_rows)
                shifts = compared(reference, now).shifts
                levels = {one.level for one in shifts}
                seen.append(
                    (
                        levels != {"steady"},
                        "drifted" in levels,
                        any(one.psi > 0.1 for one in shifts),
                        any(_usual_p(before[name], now[name]) < 0.05 for name in before),
                    )
                )
        shown = [f"{np.mean([one[at] for one in seen]) * 100:.1f} %" for at in range(4)]
        rows.append([str(reference_rows), str(window_rows), str(len(seen)), *shown])
        every += seen
    moved, drifted = (float(np.mean([one[at] for one in every])) for at in (0, 1))
    note = f"{len(every)} windows of 20 features; references and windows drawn anew"
    return rows, [
        Figure("windows without drift called moved", moved * 100, "%", 1.0, "at most", note),
        Figure("windows without drift called drifted", drifted * 100, "%", 1.0, "at most", note),
    ]


def power(references: int) -> tuple[list[list[str]], list[Figure]]:
    """Return how often each kind of feature was found drifted, by shift and window."""
    kinds = ("normal0", "skewed0", "counted0", "gaps0")
    rows = [["shift in σ", "window rows", *(name[:-1] for name in kinds)]]
    figures = []
    for shift in (0.2, 0.3, 0.5, 1.0):
        for window_rows in (300, 1_000):
            found: dict[str, list[bool]] = {name: [] for name in kinds}
            for seed in range(references):
                rng = np.random.default_rng(seed)
                reference = reference_of(mixed(rng, 5_000))
                verdict = compared(reference, mixed(rng, window_rows, shift))
                level = {one.feature: one.level for one in verdict.shifts}
                for name in kinds:
                    found[name].append(level[name] == "drifted")
            rows.append([f"{shift:g}", str(window_rows), *(f"{np.mean(found[name]):.2f}" for name in kinds)])
            if shift == 0.5 and window_rows == 1_000:
                worst = min(float(np.mean(found[name])) for name in kinds)
                figures.append(Figure("power at 0.5 σ, 1,000 rows, worst kind", worst, "", 0.9, "at least"))
    return rows, figures


def bundled() -> tuple[list[list[str]], list[Figure]]:
    """Return the verdicts over the sets bundled with scikit-learn: one half against the other, and moved."""
    loaders: dict[str, Callable[[], Any]] = {
        "digits": datasets.load_digits,
        "breast cancer": datasets.load_breast_cancer,
        "diabetes": datasets.load_diabetes,
    }
    rows = [["set", "features", "window rows", "halves called drifted", "0.5 σ in one feature found"]]
    alarms, hits = [], []
    for name, load in loaders.items():
        data = load().data
        spread = np.flatnonzero([len(np.unique(column)) > 16 for column in data.T])
        calm, found = [], []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(data))
            before, now = data[order[: len(data) // 2]], data[order[len(data) // 2 :]]
            reference = reference_of(_columns(before))
            calm.append(any(one.level == "drifted" for one in compared(reference, _columns(now)).shifts))
            moved = now.copy()
            if len(spread):
                at = int(rng.choice(spread))
                moved[:, at] += 0.5 * data[:, at].std()
                level = {one.feature: one.level for one in compared(reference, _columns(moved)).shifts}
                found.append(level[f"f{at}"] == "drifted")
        rows.append([name, str(data.shape[1]), str(len(now)), f"{np.mean(calm):.2f}", f"{np.mean(found or [0]):.2f}"])
        alarms += calm
        hits += found
    note = "60 splits; the windows have 221 to 899 rows"
    return rows, [
        Figure("halves of bundled sets called drifted", float(np.mean(alarms)) * 100, "%", note=note),
        Figure("0.5 σ in one feature of them found", float(np.mean(hits)) * 100, "%", note=note),
    ]


def estimated() -> tuple[list[list[str]], list[Figure]]:
    """Return estimated beside realised accuracy, of windows whose inputs shifted more and more."""
    rows = [["set", "shift", "accuracy at training", "estimated", "realised", "error"]]
    errors = []
    rng = np.random.default_rng(1)
    truth = rng.normal(size=5)

    def draw(count: int, shift: float) -> tuple[NDArray[Any], NDArray[Any]]:
        x = rng.normal(shift, 1.0, (count, 5))
        return x, rng.random(count) < 1 / (1 + np.exp(-(x @ truth) - 0.5 * x[:, 0] * x[:, 1]))

    model = LogisticRegression().fit(*draw(5_000, 0.0))
    held, labels = draw(5_000, 0.0)
    curve = calibrate(model.predict_proba(held)[:, 1], labels)
    trained = float((model.predict(held) == labels).mean())
    for shift in (0.0, 0.25, 0.5, 1.0):
        x, y = draw(5_000, shift)
        chances = curve(model.predict_proba(x)[:, 1])
        guess, real = estimate(chances), float(((chances >= 0.5) == y).mean())
        errors.append(abs(guess.accuracy - real))
        area = auc(model.predict_proba(x)[:, 1], y)
        rows.append(_row("synthetic, binary", f"{shift:g} σ", trained, guess.accuracy, real))
        rows.append(_row("  its AUC", f"{shift:g} σ", auc(model.predict_proba(held)[:, 1], labels), guess.auc, area))
    data = datasets.load_digits()
    order = rng.permutation(len(data.data))
    fit, hold, test = np.split(order, [500, 1_150])
    digits = LogisticRegression(max_iter=2_000, C=0.001).fit(data.data[fit], data.target[fit])
    right = digits.predict(data.data[hold]) == data.target[hold]
    curve = calibrate(digits.predict_proba(data.data[hold]).max(axis=1), right)
    for noise in (0.0, 2.0, 3.0, 4.0):
        x = data.data[test] + rng.normal(0, noise, data.data[test].shape)
        guessed = expected_accuracy(curve(digits.predict_proba(x).max(axis=1)))
        real = float((digits.predict(x) == data.target[test]).mean())
        errors.append(abs(guessed - real))
        rows.append(_row("digits, 10 classes", f"noise {noise:g}", float(right.mean()), guessed, real))
    return rows, [
        Figure(
            "estimated against realised accuracy, largest error",
            max(errors),
            "",
            0.03,
            "at most",
            f"{len(errors)} windows",
        )
    ]


def counting() -> tuple[list[list[str]], list[Figure]]:
    """Return what counting costs, by features and rows a call."""
    rows = [["features", "rows a call", "µs a row"]]
    at_64 = 0.0
    for features in (8, 64, 256):
        rng = np.random.default_rng(0)
        data = {f"x[{at}]": rng.normal(size=2_000) for at in range(features)}
        model = Signature((TensorSpec("x", "FP32", (-1, features)),))
        reference = bind(build(data, source="", made_at_s=0.0), model)
        assert isinstance(reference, Reference)
        for batch in (1, 16, 64):
            counter, x = Counter(reference), rng.normal(size=(batch, features)).astype(np.float32)
            calls = max(20_000 // batch, 500)
            start_s = time.process_time()
            for _ in range(calls):
                counter.add({"x": x}, {}, batch)
            counter.slots()
            spent_us = (time.process_time() - start_s) / (calls * batch) * 1e6
            rows.append([str(features), str(batch), f"{spent_us:.2f}"])
            at_64 = spent_us if (features, batch) == (64, 16) else at_64
    return rows, [Figure("counting 64 features, 16 rows a call", at_64, "µs/row", 15.0, "at most")]


def measure(*, references: int = 200) -> Section:
    """Return the figures; `references` are drawn for each line of false alarms, a quarter of them for power."""
    figures: list[Figure] = []
    tables = {}
    parts: dict[str, Callable[[], tuple[list[list[str]], list[Figure]]]] = {
        "without drift": lambda: false_alarms(references),
        "with a shift": lambda: power(max(references // 4, 10)),
        "bundled sets": bundled,
        "estimated accuracy": estimated,
        "vectors": lambda: drift_texts.vectors(max(references // 5, 4)),
        "texts": lambda: drift_texts.texts(max(references // 5, 4)),
        "counting": counting,
        "counting texts and vectors": drift_texts.looking,
    }
    for name, part in parts.items():
        say(f"  {name}")
        tables[name], found = part()
        figures += found
    return Section("Drift", figures, tables)


def _columns(rows: NDArray[Any]) -> Columns:
    return {f"f{at}": rows[:, at] for at in range(rows.shape[1])}


def _row(name: str, shift: str, trained: float, guessed: float, real: float) -> list[str]:
    return [name, shift, f"{trained:.3f}", f"{guessed:.3f}", f"{real:.3f}", f"{abs(guessed - real):.3f}"]


def _usual_p(before: NDArray[Any], now: NDArray[Any]) -> float:
    """Return the p-value that a rule of thumb asks of one feature: KS of numbers, chi-square of categories."""
    if before.dtype != object:
        return float(stats.ks_2samp(before[~np.isnan(before)], now[~np.isnan(now)]).pvalue)
    kinds = sorted(set(before) | set(now))
    table = np.array([[np.sum(side == kind) for kind in kinds] for side in (before, now)])
    return float(stats.chi2_contingency(table).pvalue)
