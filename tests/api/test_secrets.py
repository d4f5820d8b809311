"""Secrets through the API: who may name which, what is refused, how they stand, and that no value is anywhere."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.api.test_policies import apply, project
from tests.api.test_samples import ids, keep
from tests.control.rig import Rig, endpoint, until

WHERE = "/api/v1/secrets"
PLANTED = "planted-Swordfish-9"


def notifier(name: str, in_project: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "project": in_project}
    return {"apiVersion": "stoker/v1", "kind": "Notifier", "metadata": metadata, "spec": {"type": "webhook", **spec}}


def own(rig: Rig, in_project: str, name: str, value: str = PLANTED) -> str:
    path = rig.home.root / "secrets" / in_project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value)
    return f"file:{path}"


def key_of(rig: Rig, in_project: str, role: str) -> str:
    body = {"project": in_project, "name": role, "access": {"role": role}}
    status, made, _ = rig.request("POST", "/api/v1/keys", body)
    assert status < 300, made
    return str(made["key"])


def refused(rig: Rig, resource: dict[str, Any]) -> str:
    status, body, _ = rig.request("POST", "/api/v1/apply", [resource])
    assert status == 400, body
    return json.dumps(body)


def items(rig: Rig, in_project: str, key: str = "") -> dict[str, Any]:
    status, body, _ = rig.request("POST", f"{WHERE}/check?project={in_project}", {}, key=key)
    assert status == 200, body
    return {each["use"]["name"]: each for each in body["items"]}


@pytest.mark.parametrize(
    "reference", ["file:/etc/shadow", "env:STOKER_SECRET_OTHER__KEY", "env:HOME", "vault:secret/stoker/other/x#key"]
)
def test_nobody_names_what_is_not_their_projects(rig: Rig, model: str, reference: str) -> None:
    apply(rig, project("names"))
    told = refused(rig, endpoint("thief", f"{model}@1", "names", env={"STOLEN": reference}))
    assert "spec.env.STOLEN" in told
    assert "may not name" in told or "reach the platform" in told
    assert "spec.sign_with" in refused(rig, notifier("thief", "names", url="https://x.example", sign_with=reference))


def test_a_literal_secret_is_refused_and_not_repeated(rig: Rig, model: str) -> None:
    literal = "sk-" + "Swordfish" * 3
    for spec in ({"env": {"OPENAI_API_KEY": "hunter2"}}, {"options": {"api_key": literal}}, {"env": {"A": literal}}):
        told = refused(rig, endpoint("literal", f"{model}@1", **spec))
        assert "name it" in told or "is named, never written" in told
        assert literal not in told
        assert "hunter2" not in told
    slack = notifier("chat", "default", type="slack", url="https://hooks.slack.com/services/T0/B0/abcdef")
    assert "url_from" in refused(rig, slack)
    with closing(sqlite3.connect(rig.home.database)) as database:
        assert not any("Swordfish" in line for line in database.iterdump())


def test_hooks_name_addresses_and_keys_of_their_own_project_which_control_resolves(rig: Rig, model: str) -> None:
    apply(rig, project("hooked"))
    url, key = own(rig, "hooked", "url", "http://127.0.0.1:9/planted-Swordfish-9"), own(rig, "hooked", "key")

    def hooked(name: str, **hook: Any) -> dict[str, Any]:
        drift = {"trigger": hook}
        return endpoint(
            name, f"{model}@1", "hooked", rollout={"hooks": [hook]}, drift=drift, replicas={"min": 0, "max": 0}
        )

    for wrong in ({"webhook_from": "file:/etc/shadow"}, {"webhook_from": url, "sign_with": "env:HOME"}):
        told = refused(rig, hooked("thief", **wrong))
        assert "spec.rollout.hooks[0]" in told
        assert "spec.drift.trigger" in told
    chat = "https://hooks.slack.com/services/T0/B0/abcdef"
    told = refused(rig, hooked("chat", webhook=chat))
    assert "webhook_from" in told
    assert "abcdef" not in told
    apply(rig, hooked("good", webhook_from=url, sign_with=key))
    until(lambda: "good" in items(rig, "hooked"), "control has seen it")
    _, body, _ = rig.request("POST", f"{WHERE}/check?project=hooked", {})
    assert {(each["use"]["field"], each["health"], each["states"][0]["process"]) for each in body["items"]} == {
        ("spec.rollout.hooks[0].webhook_from", "good", "control"),
        ("spec.rollout.hooks[0].sign_with", "good", "control"),
        ("spec.drift.trigger.webhook_from", "good", "control"),
        ("spec.drift.trigger.sign_with", "good", "control"),
    }


def test_what_the_platform_lists_may_be_named_until_it_is_taken_off(rig: Rig) -> None:
    elsewhere = rig.home.root.parent / "elsewhere"
    elsewhere.write_text(PLANTED)
    named = notifier("pager", "listed", url="https://x.example", sign_with=f"file:{elsewhere}")
    apply(rig, project("listed"))
    refused(rig, named)
    apply(rig, project("listed", secrets=[f"file:{elsewhere}"]), named)
    assert items(rig, "listed")["pager"]["health"] == "good"
    owner = key_of(rig, "listed", "owner")
    for mine in ([], ["file:/etc/*"]):
        status, body, _ = rig.request("POST", "/api/v1/apply", [project("listed", secrets=mine)], key=owner)
        assert status == 403, body
    apply(rig, project("listed"))
    found = items(rig, "listed")["pager"]
    assert (found["health"], found["states"]) == ("refused", [])


def test_how_a_secret_stands_is_seen_in_its_project_and_no_value_is_anywhere(rig: Rig) -> None:
    apply(rig, project("seen"), project("unseen"))
    for where in ("seen", "unseen"):
        apply(rig, notifier(f"of-{where}", where, url="https://x.example", sign_with=own(rig, where, "hook")))
    apply(rig, notifier("lost", "seen", url="https://x.example", sign_with=f"file:{rig.home.root}/secrets/seen/none"))
    reader = key_of(rig, "seen", "operator")
    found = items(rig, "", reader)
    assert {name: each["health"] for name, each in found.items()} == {"of-seen": "good", "lost": "missing"}
    assert "No such file" in found["lost"]["message"]
    (state,) = found["of-seen"]["states"]
    assert state["process"] == "control"
    assert state["read"] == 1
    own(rig, "seen", "hook", PLANTED + "-2")
    assert items(rig, "seen")["of-seen"]["states"][0]["read"] == 2
    caller = rig.client.create_key("seen", "caller", admin=False, expires_in_s=None)
    assert rig.request("GET", WHERE, key=caller.key)[0] == 403

    def audited() -> list[str]:
        with closing(sqlite3.connect(f"file:{rig.home.database}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT event FROM audit WHERE event LIKE '%read secrets%'").fetchall()
        return [event for (event,) in found]

    until(lambda: any("secrets/seen/hook" in event for event in audited()), "the audit has the readings")
    count = len(audited())
    items(rig, "seen")  # the same value again is no row
    until(lambda: "stoker_secret_failing" in rig.request("GET", "/metrics")[1].decode(), "the metric is there")
    assert len(audited()) == count
    places = {rig.home.root / "secrets", rig.home.root.parent / "elsewhere"}
    for path in (*rig.home.root.rglob("*"), rig.log):
        if not places.intersection((path, *path.parents)):
            assert PLANTED.encode() not in content(path), path


def content(path: Path) -> bytes:
    """Return what is in a file, nothing if it is none, or was there for a moment."""
    try:
        return path.read_bytes() if path.is_file() else b""
    except FileNotFoundError:
        return b""


def test_samples_of_a_project_are_forgotten_and_keys_turned_over(rig: Rig) -> None:
    folder = rig.home.samples
    keep(folder, "gone", "r1", "drawn")
    keep(folder, "kept", "r2", "drawn")
    status, body, _ = rig.request("POST", "/api/v1/samples/rotate", {})
    assert status == 200, body
    assert {"gone", "kept"} <= set(body["rotated"])
    assert (ids(rig, "gone"), ids(rig, "kept")) == (["r1"], ["r2"])
    assert rig.request("POST", "/api/v1/samples/rotate", {"project": "kept"})[1]["rotated"] == ["kept"]
    assert rig.request("POST", "/api/v1/samples/rotate", {"project": "none"})[0] == 404
    assert rig.request("DELETE", "/api/v1/projects/gone/samples")[0] == 204
    assert (ids(rig, "gone"), ids(rig, "kept")) == ([], ["r2"])
    assert not (folder / "gone" / "project.key").exists()
    apply(rig, project("leaves"))
    keep(folder, "leaves", "r3", "drawn")
    assert rig.request("DELETE", "/api/v1/projects/leaves")[0] == 204
    assert not (folder / "leaves" / "project.key").exists()


def test_an_endpoint_says_that_its_secret_may_not_be_named_any_more(rig: Rig, model: str) -> None:
    elsewhere = rig.home.root.parent / "elsewhere"
    named = endpoint("e", f"{model}@1", "told", env={"TOKEN": f"file:{elsewhere}"})
    apply(rig, project("told", secrets=["file:" + str(elsewhere)]), named)
    apply(rig, project("told"))

    def said() -> str:
        items(rig, "told")  # looks, as control does by itself every few seconds
        found = {each.type: each for each in rig.client.endpoint("told", "e").status.conditions}
        return found["SecretsAvailable"].reason if "SecretsAvailable" in found else ""

    until(lambda: said() == "SecretRefused", "the condition says so")
    apply(rig, endpoint("e", f"{model}@1", "told"))
    until(lambda: not said(), "nothing is named any more")
