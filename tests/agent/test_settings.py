"""Settings: read from the environment, refused with the variable's name, documented."""

from pathlib import Path

import msgspec
import pytest

from stoker.app import settings
from stoker.app.agent_main import agent_argv, gateway_spec
from stoker.app.home import Home
from stoker.core import liveness
from stoker.types import tuning
from stoker.types.errors import InvalidInput
from stoker.types.replica import ReplicaStats
from stoker.types.tuning import Tuning


def test_what_is_given_comes_before_the_environment_before_the_default() -> None:
    found = settings.load({"PORT": "9000", "STOKER_GATEWAYS": "3", "STOKER_DRAIN": "1m"}, gateways=2, host=None)
    assert (found.port, found.api_port, found.gateways, found.drain_s) == (9000, 9001, 2, 60.0)
    assert found.host == "127.0.0.1"
    assert settings.load({"PORT": ""}).port == 8080
    assert settings.load({"STOKER_API_PORT": "1234"}).api_port == 1234
    assert settings.load({"STOKER_CACHE_MAX": "2Gi"}).cache_max_bytes == 2 << 30


@pytest.mark.parametrize(
    ("cores", "gateways"), [(0.5, 1), (1, 1), (1.9, 1), (2, 2), (3.9, 3), (4, 4), (7.5, 4), (8, 4), (64, 4), (512, 4)]
)
def test_there_are_as_many_gateways_as_cores_and_never_many(cores: float, gateways: int) -> None:
    assert settings.usual_gateways(cores) == gateways


def test_the_files_of_a_certificate_come_together_and_are_found_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = settings.load({"STOKER_TLS_CERT": "a.crt"}, tls_key="sub/a.key")
    assert (found.tls_cert, found.tls_key) == (str(tmp_path / "a.crt"), str(tmp_path / "sub" / "a.key"))
    assert found.gateway_url == "https://127.0.0.1:8080"
    told = settings.load({**found.environment(), "STOKER_TLS_CLIENT_CA": "ca.crt"})
    assert str(tmp_path / "ca.crt") in agent_argv(told), "the agent has another working folder"
    assert settings.load({"STOKER_HOST": "::1"}).gateway_url == "http://[::1]:8080"
    assert settings.load(found.environment()) == found
    with pytest.raises(InvalidInput, match="STOKER_TLS_KEY is not set"):
        settings.load({"STOKER_TLS_CERT": "a.crt"})
    with pytest.raises(InvalidInput, match="STOKER_TLS_CERT is not set"):
        settings.load({"STOKER_TLS_CLIENT_CA": "ca.crt"})


def test_the_state_folder_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.load({"STOKER_HOME": "here"}).home == tmp_path / "here"
    assert settings.load({}).home == Path.home() / ".stoker"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"PORT": "http"}, "PORT=http: expected a whole number"),
        ({"PORT": "70000"}, "PORT=70000: expected a number from 1 to 65535"),
        ({"PORT": "65535"}, "STOKER_API_PORT=65536"),
        ({"STOKER_DRAIN": "soon"}, "STOKER_DRAIN=soon: expected a time such as 30s"),
        ({"STOKER_CACHE_MAX": "much"}, "STOKER_CACHE_MAX=much: expected a size such as 512Mi"),
        ({"STOKER_LOG_LEVEL": "loud"}, "STOKER_LOG_LEVEL=loud: expected debug"),
        ({"PORT": "9000", "STOKER_API_PORT": "9000"}, "the gateways listen there"),
        ({"STOKER_GRPC_PORT": "8080"}, "STOKER_GRPC_PORT=8080: HTTP is served there"),
        ({"PORT": "9000", "STOKER_GRPC_PORT": "9001"}, "STOKER_GRPC_PORT=9001: HTTP is served there"),
        ({"STOKER_GATEWAYS": "0"}, "STOKER_GATEWAYS=0: expected a number from 1 to 64"),
    ],
)
def test_a_wrong_value_is_refused_with_its_variable(environ: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        settings.load(environ)
    assert f"{refused.value.field}=" in refused.value.message


def test_settings_reach_another_process_whole() -> None:
    first = settings.load({"PORT": "9000", "STOKER_DRAIN": "1500ms", "STOKER_LOG_LEVEL": "debug"})
    assert settings.load(first.environment()) == first


def test_the_page_of_the_settings_is_what_the_code_says() -> None:
    written = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
    assert written.read_text() == settings.page(), "run: python -m stoker.app.settings > docs/reference/settings.md"
    for variable in settings.load({}).environment():
        assert f"| `{variable}` |" in settings.page()


def test_a_gateway_that_always_has_something_in_flight_is_never_taken_for_stalled(tmp_path: Path) -> None:
    spec = gateway_spec(Home(tmp_path), settings.load({"STOKER_HOME": str(tmp_path)}), 0)
    limits = liveness.Limits(spec.start_timeout_s, spec.stall_s, spec.memory_bytes, spec.silent_s)
    memory = liveness.Liveness()
    for _ in range(2000):
        busy = liveness.Seen(True, ReplicaStats(state="ready", running=6))
        judgement = liveness.judge(memory, busy, limits, step_s=1.0)
        assert judgement.fault == ""
        memory = judgement.memory


def test_what_can_be_changed_while_it_runs_has_the_bounds_of_the_setting() -> None:
    told = {name: meta for name, meta in settings._metas().items() if name in tuning.NAMES}
    assert set(told) == set(tuning.NAMES)
    for name, meta in told.items():
        for bound, beyond in ((meta.ge, -1), (meta.le, 1)):
            if bound is None:
                continue
            assert dict(Tuning().changed({name: bound}).items())[name] == bound
            with pytest.raises(msgspec.ValidationError, match=name):
                Tuning().changed({name: bound + beyond})
    for level in settings.LOG_LEVELS:
        assert Tuning().changed({"log_level": level}).log_level == level


def test_what_is_set_is_over_what_was_started_with_until_it_is_undone() -> None:
    usual = settings.load({"STOKER_TRACE_RATIO": "0.2"}).tuning
    changed = Tuning().changed({"trace_ratio": 0.0, "log_level": "error"})
    assert (changed.over(usual).trace_ratio, changed.over(usual).log_level) == (0.0, "error")
    assert changed.over(usual).cache_max_bytes == usual.cache_max_bytes
    assert changed.changed({"trace_ratio": None}).over(usual).trace_ratio == 0.2
    with pytest.raises(msgspec.ValidationError, match="gateways"):
        Tuning().changed({"gateways": 3})
