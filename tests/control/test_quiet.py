"""A rollout that nobody's requests come to: kept ones are sent to both arms, and judge it."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from stoker.client.releases import ReleaseClient
from stoker.client.rollouts import RolloutClient
from stoker.control import quiet
from stoker.control.releases import kept
from stoker.control.releases.ask import Answer
from stoker.types.rollouts import ArmCounts, Rollout
from stoker.types.samples import SampleRecord
from tests.control.rig import Rig, endpoint, infer, is_served, python_model, until
from tests.store.test_rollouts import state

REPLAY: dict[str, Any] = {
    "strategy": "canary",
    "steps": [10],
    "dwell": "1s",
    "requests_min": 40,
    "quiet": "replay",
    "first_failed": 0,
}


def record(method: str = "infer", request: Any = None, *, stream: bool = False) -> SampleRecord:
    return SampleRecord("id", 1.0, "default", "a", method, 200, ("drawn",), 0.1, request=request, stream=stream)


def test_only_a_step_that_waits_for_requests_alone_is_quiet() -> None:
    spec = Rollout(quiet="replay", dwell="60s", requests_min=50)
    waiting = state(spec=spec, since_s=0.0)
    assert quiet.is_quiet(waiting, 60.0)
    assert not quiet.is_quiet(waiting, 59.0)
    assert not quiet.is_quiet(msgspec.structs.replace(waiting, phase="paused"), 60.0)
    assert not quiet.is_quiet(msgspec.structs.replace(waiting, spec=Rollout(dwell="60s")), 60.0)


def test_a_sample_is_sent_as_it_came_but_never_as_a_stream() -> None:
    assert kept.request(record(request={"inputs": []})) == ("infer", b'{"inputs":[]}')
    streamed = kept.request(record("chat", {"messages": [], "stream": True}, stream=True))
    assert streamed == ("chat", b'{"messages":[],"stream":false}')
    assert kept.request(record(request=None)) is None
    killing = msgspec.structs.replace(record(request={"inputs": []}), code="replica_lost", status=503)
    assert kept.request(killing) is None  # no gateway is between it and the next replica
    assert kept.request(record("rerank", {})) is None


def test_of_a_language_models_samples_a_gate_asks_for_short_answers_and_only_what_its_task_answers() -> None:
    chat = record("chat", {"messages": [], "max_completion_tokens": 900, "stream": True}, stream=True)
    assert kept.shortened(chat, "chat", 32) == ("chat", b'{"messages":[],"stream":false,"max_tokens":32}')
    assert kept.shortened(chat, "predict", 32) is None
    assert kept.shortened(msgspec.structs.replace(chat, status=500), "chat", 32) is None


def test_an_answer_counts_as_a_gateway_would_count_it() -> None:
    arm = ArmCounts()
    quiet.counted(arm, Answer({}, 0.2), 0.1)
    quiet.counted(arm, Answer({}, 0.01), 0.1)
    quiet.counted(arm, Answer(None, 0.01, "the model raised"), 0.1)
    quiet.counted(arm, Answer(None, quiet.TIMEOUT_S, "no answer"), 0.0)
    assert arm.total == 4
    assert arm.bad == {"slow": 1, "error": 1, "timeout": 1}
    assert sum(arm.latencies.values()) == 2


def test_kept_requests_promote_a_good_version_and_end_a_bad_one_without_any_client(rig: Rig, tmp_path: Path) -> None:
    # Of 20 ms that they sleep a busy machine makes no time that is half as long again.
    for at, work in enumerate(("time.sleep(0.02)", "time.sleep(0.02)", "raise ValueError('a bad model')"), 1):
        rig.home.make()
        python_model(tmp_path / str(at), work=work, scale=at)
    rig.start_agent()
    for at in (1, 2, 3):
        rig.push("m", tmp_path / str(at), tasks=("predict",))
    client, releases = RolloutClient(rig.client.connection), ReleaseClient(rig.client.connection)

    def ask_for(version: int, quiet: str = "replay", **more: Any) -> None:
        spec = endpoint(model=f"m@{version}", samples={"rate": 1.0}, rollout={**REPLAY, "quiet": quiet}, **more)
        assert rig.request("POST", "/api/v1/apply", spec)[0] == 200

    def ends_as(number: int, phase: str) -> None:
        def found() -> bool:
            every = client.everything("default", "a")
            return any(each.number == number and each.is_ended for each in every)

        until(found, lambda: f"rollout {number} ends: {releases.all('default', 'a')}")
        assert client.numbered("default", number).phase == phase, client.numbered("default", number).because

    ask_for(1)
    until(lambda: is_served(rig), "the gateway knows a ready replica")
    # which it may before control has written down who serves: what is asked for until then replaces, with no rollout
    until(lambda: rig.client.endpoint("default", "a").status.serving, "the first revision serves")
    for _ in range(20):
        infer(rig)
    ask_for(2, gates={"profile": {"requests": 20}})
    ends_as(1, "promoted")
    results = releases.get("default", "a", 2).dossier.results
    (profile,) = [each for each in results if each.kind == "profile"]
    assert (profile.state, profile.because.rpartition("; ")[2]) == ("passed", "asked 1 kept request")
    assert infer(rig) == [2.0] * 4
    # Where no requests may be kept, its examples are sent. Their answers are the golden gate's, which is off here.
    examples = b'{"input": [1, 1, 1, 1], "expected": [9, 9, 9, 9]}\n{"input": [2, 2, 2, 2], "expected": [9, 9, 9, 9]}\n'
    digest = f"sha256:{hashlib.sha256(examples).hexdigest()}"
    assert rig.request("PUT", f"/api/v1/blobs/{digest}", examples)[0] < 300
    where = "/api/v1/projects/default/endpoints/a/golden"
    assert rig.request("PUT", where, {"digest": digest})[0] == 200
    ask_for(3, "examples", gates={"golden": {"set": "off"}})
    ends_as(2, "rolled-back")
    assert client.numbered("default", 2).because.startswith("error: ")
    assert infer(rig) == [2.0] * 4
