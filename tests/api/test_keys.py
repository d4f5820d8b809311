"""Keys for something and of somebody: who may give what, rotation, members, and the end of all of it."""

import time
from typing import Any

import pytest

from stoker.client import access
from stoker.types.access import KeyAccess
from stoker.types.errors import Forbidden, InvalidInput, NotFound
from tests.api.test_door import routes
from tests.control.rig import Rig

PATH = "/api/v1/projects/{}/endpoints/{}"


def project(name: str, *members: tuple[str, str]) -> dict[str, Any]:
    spec = {"members": [{"subject": subject, "role": role} for subject, role in members]}
    return {"apiVersion": "stoker/v1", "kind": "Project", "metadata": {"name": name}, "spec": spec}


def role(name: str, project: str, *permissions: str) -> dict[str, Any]:
    spec = {"permissions": list(permissions)}
    return {"apiVersion": "stoker/v1", "kind": "Role", "metadata": {"name": name, "project": project}, "spec": spec}


def apply(rig: Rig, *resources: dict[str, Any], key: str = "") -> tuple[int, Any]:
    return rig.request("POST", "/api/v1/apply", list(resources), key=key)[:2]


def test_a_role_of_ones_own_is_applied_given_and_gone(rig: Rig) -> None:
    assert apply(rig, project("own"), role("labeller", "own", "endpoints:read", "samples:read"))[0] == 200
    made = access.create_key(rig.client, "own", "l", KeyAccess(role="labeller"))
    assert rig.request("GET", "/api/v1/endpoints", key=made.key)[0] == 200
    assert rig.request("DELETE", PATH.format("own", "e"), key=made.key)[0] == 403
    assert [each.metadata.name for each in access.roles(rig.client)] == ["labeller"]
    access.delete_role(rig.client, "own", "labeller")
    assert rig.request("GET", "/api/v1/endpoints", key=made.key)[0] == 403
    status, said = apply(rig, role("owner", "own", "endpoints:read"))
    assert (status, "every project has" in said["error"]["message"]) == (400, True)


def test_nobody_gives_more_than_they_have(rig: Rig) -> None:
    giver = role("giver", "gives", "keys:write", "projects:write", "endpoints:read")
    assert apply(rig, project("gives"), giver)[0] == 200
    mine = access.create_key(rig.client, "gives", "g", KeyAccess(role="giver"))
    owner = access.create_key(rig.client, "gives", "o", KeyAccess(role="owner"))
    body: dict[str, Any] = {"project": "gives", "access": {"permissions": ["endpoints:read"]}}
    assert rig.request("POST", "/api/v1/keys", body, key=mine.key)[0] == 201
    for more in ({"role": "owner"}, {"permissions": ["samples:read"]}, {"role": "giver", "everywhere": True}):
        assert rig.request("POST", "/api/v1/keys", {**body, "access": more}, key=mine.key)[0] == 403, more
    assert rig.request("POST", "/api/v1/keys", {"project": "gives", "admin": True}, key=mine.key)[0] == 403
    assert rig.request("POST", f"/api/v1/keys/{owner.id}/rotate", {}, key=mine.key)[0] == 403
    assert apply(rig, project("gives", ("user:me", "owner")), key=mine.key)[0] == 403
    assert apply(rig, role("more", "gives", "samples:read"), key=mine.key)[0] == 403
    assert apply(rig, role("same", "gives", "endpoints:read"), key=mine.key)[0] == 200


def test_an_owner_does_not_lift_the_quota_of_the_project(rig: Rig) -> None:
    held = project("held")
    held["spec"]["quota"] = {"endpoints": 1}
    assert apply(rig, held)[0] == 200
    owner = access.create_key(rig.client, "held", "o", KeyAccess(role="owner")).key
    wider = {**held, "spec": {**held["spec"], "quota": {"endpoints": 2}}}
    assert apply(rig, wider, key=owner)[0] == 403
    assert apply(rig, {**held, "spec": {**held["spec"], "description": "ours"}}, key=owner)[0] == 200
    assert apply(rig, project("held"), key=owner)[0] == 403, "nor take it away"
    assert apply(rig, wider)[0] == 200


def test_keys_of_a_member_shrink_and_end_with_the_member(rig: Rig) -> None:
    assert apply(rig, project("staff", ("user:a@x.org", "deployer"), ("service:ci", "viewer")))[0] == 200
    with pytest.raises(InvalidInput, match="no member"):
        access.create_key(rig.client, "staff", "k", KeyAccess(role="viewer"), subject="user:b@x.org")
    made = access.create_key(rig.client, "staff", "k", KeyAccess(role="owner"), subject="user:a@x.org")
    kept = access.create_key(rig.client, "staff", "c", KeyAccess(role="viewer"), subject="service:ci")
    path = PATH.format("staff", "none")
    assert rig.request("DELETE", path, key=made.key)[0] == 404, "allowed, and not there"
    assert rig.request("GET", f"{path}/samples", key=made.key)[0] == 403, "an owner's key of a deployer"
    assert apply(rig, project("staff", ("user:a@x.org", "viewer"), ("service:ci", "viewer")))[0] == 200
    assert rig.request("DELETE", path, key=made.key)[0] == 403
    assert apply(rig, project("staff", ("service:ci", "viewer")))[0] == 200
    assert rig.request("GET", path, key=made.key)[0] == 401
    assert rig.request("GET", path, key=kept.key)[0] == 404
    assert access.remove_subject(rig.client, "service:ci") == access.Ended(("staff",), 1)
    assert rig.request("GET", path, key=kept.key)[0] == 401
    with pytest.raises(NotFound):
        access.remove_subject(rig.client, "service:ci")


def test_a_rotated_key_is_one_key_and_its_old_secret_ends_with_the_overlap(rig: Rig) -> None:
    old = access.create_key(rig.client, "default", "turns", KeyAccess(role="viewer"))
    new = access.rotate_key(rig.client, old.id, 3600.0)
    assert new.id == old.id
    assert new.key != old.key
    for text in (old.key, new.key):
        assert rig.request("GET", "/api/v1/endpoints", key=text)[0] == 200
    rows = [each for each in routes(rig)["keys"] if each["key"] == old.id]
    assert len(rows) == 2
    assert sorted(each["expires_at_s"] > time.time() for each in rows) == [False, True], "the old one ends by itself"
    last = access.rotate_key(rig.client, old.id, 0.0)
    answers = [rig.request("GET", "/api/v1/endpoints", key=text)[0] for text in (old.key, new.key, last.key)]
    assert answers == [401, 401, 200]


def test_a_key_for_some_endpoints_sees_and_changes_those_alone(rig: Rig) -> None:
    scoped = access.create_key(rig.client, "default", "s", KeyAccess(role="deployer", endpoints=("chat-*",)))
    listed = rig.client.keys()
    shown = next(each for each in listed if each.id == scoped.id)
    assert shown.access.endpoints == ("chat-*",)
    other = rig.request("GET", PATH.format("default", "digits"), key=scoped.key)[:2]
    assert other[0] == 404
    assert "that this key may see" in other[1]["error"]["message"]
    assert "no endpoint" in rig.request("GET", PATH.format("default", "chat-eu"), key=scoped.key)[1]["error"]["message"]
    with pytest.raises(InvalidInput, match="for some endpoints"):
        access.create_key(rig.client, "default", "s", KeyAccess(permissions=("logs:read",), endpoints=("a",)))
    route = next(each for each in routes(rig)["keys"] if each["key"] == scoped.id)
    assert (route["calls"], route["endpoints"]) == (True, ["chat-*"])


def test_a_model_that_a_project_pushed_is_its_own(rig: Rig, model: str) -> None:
    assert apply(rig, project("maker"), project("taker"))[0] == 200
    makes = access.create_key(rig.client, "maker", "m", KeyAccess(role="deployer")).key
    takes = access.create_key(rig.client, "taker", "t", KeyAccess(role="deployer")).key
    files = [
        {"path": each.path, "digest": each.digest, "size_bytes": each.size_bytes}
        for each in rig.client.version(model, "1").manifest.files
    ]
    push = ("POST", "/api/v1/models/made/versions", {"files": files})
    assert rig.request(*push, key=makes)[0] == 201
    assert rig.request(*push, key=takes)[0] == 403, "the name is taken"
    assert rig.request("POST", f"/api/v1/models/{model}/versions", {"files": files}, key=makes)[0] == 403
    paths = [f"/api/v1/models/{name}/versions/1" for name in ("made", "none")]
    unseen, missing = (rig.request("GET", path, key=takes)[:2] for path in paths)
    assert unseen[0] == missing[0] == 404
    assert str(unseen[1]).replace("made", "none") == str(missing[1])
    listed = {each["name"] for each in rig.request("GET", "/api/v1/models", key=takes)[1]["items"]}
    assert listed == {model}
    stolen = {"metadata": {"name": "e", "project": "taker"}, "spec": {"model": "made"}}
    status, said = apply(rig, {"apiVersion": "stoker/v1", "kind": "Endpoint", **stolen}, key=takes)
    assert (status, said["error"]["details"][0]["message"]) == (400, "no model 'made'; push it first")


def test_who_tries_keys_waits_and_who_has_a_good_one_does_not(rig: Rig) -> None:
    good = access.create_key(rig.client, "default", "good", KeyAccess(role="viewer")).key
    assert rig.request("GET", "/api/v1/endpoints", key=good)[0] == 200
    answers = [rig.request("GET", "/api/v1/endpoints", key=f"stk_aaaaaaaa_{number:043}") for number in range(40)]
    assert [answers[0][0], answers[-1][0]] == [401, 429]
    assert int(answers[-1][2]["retry-after"]) >= 1
    assert rig.request("GET", "/api/v1/endpoints", key=good)[0] == 200
    assert rig.client.keys(), "over the socket nobody waits"
    with pytest.raises(Forbidden):
        access.create_key(rig.client_of(good), "default", "x", KeyAccess(role="viewer"))
