"""The choice of an engine by a replica: measured once, remembered, one at a time, and said."""

import fcntl
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stoker.runtime import measure
from stoker.runtime.engines import registry
from stoker.runtime.measure import Table, resolve, table_key
from stoker.types.engines import EngineChoice, EngineMeasurement
from stoker.types.errors import EngineFailed
from stoker.types.models import ANY_FORMAT, DEFAULT_ENGINE, ENGINES
from stoker.types.replica import ReplicaSpec
from tests.engines_llm.support import packaged_model, spec

ROWS = (
    EngineMeasurement("llamacpp", answer_s=0.5, tokens_per_s=60, slots=4),
    EngineMeasurement("openvino", answer_s=0.9, tokens_per_s=150, slots=4),
)


def auto(folder: Path, goal: Any = "throughput", **options: Any) -> ReplicaSpec:
    return msgspec.structs.replace(
        spec("auto", gguf=packaged_model(), **options),
        goal=goal,
        measurements=str(folder / "measurements"),
        choice_file=str(folder / "engine.json"),
    )


def path_of(wanted: ReplicaSpec) -> Path:
    engines = registry.candidates("gguf", "chat")
    folder = Path(wanted.measurements)
    folder.mkdir(exist_ok=True)
    return folder / f"{table_key(wanted, {name: registry.version(name) for name in engines})}.json"


def remember(wanted: ReplicaSpec, rows: tuple[EngineMeasurement, ...] = ROWS) -> None:
    path_of(wanted).write_bytes(msgspec.json.encode(Table(rows, 1.0)))


def silent(_stage: str, _fraction: float) -> None:
    pass


def choice_of(wanted: ReplicaSpec) -> EngineChoice:
    return msgspec.json.decode(Path(wanted.choice_file).read_bytes(), type=EngineChoice)


def test_both_engines_are_measured_once_and_the_choice_is_written(tmp_path: Path) -> None:
    wanted = auto(tmp_path, context=192, slots=2)
    stages: list[str] = []
    chosen = resolve(wanted, lambda stage, _fraction: stages.append(stage))
    assert stages == ["measuring llamacpp 1/2", "measuring openvino 2/2"]
    choice = choice_of(wanted)
    assert chosen.engine == choice.engine
    assert [row.engine for row in choice.rows] == ["llamacpp", "openvino"]
    for row in choice.rows:
        assert not row.error
        assert row.version
        assert 0 < row.first_token_s < row.answer_s
        assert row.tokens_per_s > 0
        assert row.slots == 2
    stages.clear()
    assert resolve(wanted, lambda stage, _fraction: stages.append(stage)) == chosen
    assert stages == []


@pytest.mark.parametrize(("goal", "engine"), [("throughput", "openvino"), ("latency", "llamacpp")])
def test_one_table_serves_either_goal(tmp_path: Path, goal: str, engine: str) -> None:
    wanted = auto(tmp_path, goal)
    remember(wanted)
    assert resolve(wanted, silent).engine == engine
    assert choice_of(wanted).goal == goal


def test_who_waits_for_another_takes_what_that_one_measured(tmp_path: Path) -> None:
    wanted = auto(tmp_path)
    path_of(wanted)
    waiting = threading.Event()
    with (Path(wanted.measurements) / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        chosen: list[str] = []
        other = threading.Thread(
            target=lambda: chosen.append(resolve(wanted, lambda *_: waiting.set()).engine), daemon=True
        )
        other.start()
        assert waiting.wait(60)
        remember(wanted)
    other.join(60)
    assert chosen == ["openvino"]


def test_who_waits_too_long_takes_the_preferred_one_unmeasured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "WAIT_S", 0.3)
    wanted = auto(tmp_path)
    path = path_of(wanted)
    with (Path(wanted.measurements) / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert resolve(wanted, silent).engine == "llamacpp"
    assert "still measured" in choice_of(wanted).because
    assert not path.exists()


def test_an_engine_that_fails_is_a_row_with_its_words_and_failures_are_not_remembered(tmp_path: Path) -> None:
    wanted = auto(tmp_path, nonsense=1)
    start_s = time.monotonic()
    with pytest.raises(EngineFailed, match=r"llamacpp: .*nonsense.*; openvino: .*nonsense"):
        resolve(wanted, silent)
    assert time.monotonic() - start_s < 30
    assert not path_of(wanted).exists()


def test_a_failure_is_believed_for_a_day(tmp_path: Path) -> None:
    failed = (ROWS[0], EngineMeasurement("openvino", error="it took longer than 100 s"))
    path = tmp_path / "table.json"
    path.write_bytes(msgspec.json.encode(Table(failed, time.time() - 3600)))
    assert measure._read(path) is not None
    path.write_bytes(msgspec.json.encode(Table(failed, time.time() - 25 * 3600)))
    assert measure._read(path) is None


@pytest.mark.parametrize(
    "change",
    [{"cores": 2.0}, {"options": {"slots": 2}}, {"memory_bytes": 2**31}],
    ids=str,
)
def test_what_could_change_the_numbers_makes_another_table(tmp_path: Path, change: dict[str, Any]) -> None:
    wanted = auto(tmp_path)
    assert table_key(wanted, {"a": "1"}) != table_key(msgspec.structs.replace(wanted, **change), {"a": "1"})
    assert table_key(wanted, {"a": "1"}) != table_key(wanted, {"a": "2"})
    renamed = msgspec.structs.replace(wanted, address="unix:/elsewhere", goal="latency")
    assert table_key(wanted, {"a": "1"}) == table_key(renamed, {"a": "1"})


def test_what_is_not_installed_is_not_measured_but_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._PACKAGES, "openvino", "a-package-that-is-not-there")
    wanted = auto(tmp_path)
    assert resolve(wanted, silent).engine == "llamacpp"
    assert "stoker[openvino]" in choice_of(wanted).because


def test_a_format_with_one_engine_measures_nothing(tmp_path: Path) -> None:
    wanted = auto(tmp_path)
    onnx = msgspec.structs.replace(wanted, manifest=msgspec.structs.replace(wanted.manifest, format="onnx"))
    assert resolve(onnx, silent).engine == "onnx"
    assert choice_of(wanted).because == "no other engine can run this model"


def test_the_folder_keeps_a_written_number_of_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "TABLES_MAX", 3)
    for number in range(6):
        (tmp_path / f"{number}.json").write_text("{}")
    measure._forget_old(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_every_engine_is_known_to_run_a_format_or_it_could_not_be_asked_for() -> None:
    assert {engine for able in ENGINES.values() for engine in able} | {ANY_FORMAT} == set(registry._MODULES)
    for kind, default in DEFAULT_ENGINE.items():
        assert default == ENGINES[kind][0]
        assert set(registry.candidates(kind, "chat")) <= set(ENGINES[kind])  # type: ignore[arg-type]
