"""Two endpoints on a real platform of which one fits: each sleeps for the other, and nobody is refused."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.control.rig import WAIT_S, Rig, conditions, endpoint, infer, python_model, until
from tests.control.test_platform import READY_S, apply, replica_processes


def test_two_endpoints_of_which_one_fits_take_turns_and_say_for_whom_they_sleep(rig: Rig, tmp_path: Path) -> None:
    rig.start_agent()
    free_bytes = rig.client.nodes()[0].memory_bytes
    memory = f"{int(free_bytes * 0.6) >> 20}Mi"
    for at, name in enumerate(("a", "b")):
        rig.push(f"m{name}", python_model(tmp_path / name, scale=at + 2))
        resources = {"cpu": 0.1, "memory": memory}
        apply(rig, endpoint(name, f"m{name}@1", replicas={"min": 0, "max": 1}, resources=resources))
    until(lambda: len(replica_processes(rig)) == 1, "one is loaded", READY_S)
    until(lambda: all(is_known(rig, name) for name in ("a", "b")), "the gateway knows both", READY_S)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(infer, rig, name) for name in ("a", "b", "a", "b")]
        assert [each.result()[0] for each in asked] == [2.0, 3.0, 2.0, 3.0]
    until(lambda: len(replica_processes(rig)) == 1, "only one fits", READY_S)
    slept = [each for each in rig.client.journal(limit=1000) if "asleep so that" in each.because]
    assert slept
    assert "requests/s x" in slept[0].because
    out = slept[0].endpoint.rpartition("/")[2]
    other = {"a": "b", "b": "a"}[out]
    ready = until(lambda: (found := conditions(rig, out).get("Ready")) and not found.status and found, "it is asleep")
    assert f"makes room for {other}" in until(
        lambda: (words := conditions(rig, out)["Ready"].message) and "makes room" in words and words, str(ready)
    )


def is_known(rig: Rig, name: str) -> bool:
    """Return whether the gateway has the key and the endpoint in its table, asleep or not."""
    connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=WAIT_S)
    try:
        connection.request("GET", f"/v2/models/{name}/ready", headers={"Authorization": f"Bearer {rig.key}"})
        return connection.getresponse().status not in (401, 404)
    except OSError:
        return False
    finally:
        connection.close()
