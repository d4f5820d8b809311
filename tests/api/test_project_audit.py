"""What the owner of a project reads in its audit, from a real control with two projects in it."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stoker.core.audit import views
from tests.control.rig import Rig, endpoint

OWN, OTHER = "shop", "shop-b"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, onnx_files: list[Path]) -> Iterator[Rig]:
    rig = Rig(tmp_path_factory.mktemp("owner") / "h")
    rig.start()
    rig.push("m", onnx_files[0])
    yield rig
    rig.close()


def resource(kind: str, name: str, project: str = "", **spec: Any) -> dict[str, Any]:
    where = {"project": project} if project else {}
    return {"apiVersion": "stoker/v1", "kind": kind, "metadata": {"name": name, **where}, "spec": spec}


def things(project: str) -> list[dict[str, Any]]:
    """Return something of everything that lies in a project."""
    member = {"subject": f"user:of-{project}", "role": "viewer"}
    rule = {"name": "r", "expression": "true", "message": f"of {project}"}
    return [
        resource("Project", project, description=f"of {project}", members=[member]),
        resource("Role", f"role-{project}", project, permissions=["logs:read"]),
        resource("Notifier", f"bell-{project}", project, type="webhook", url="http://127.0.0.1:9/x"),
        resource("Policy", f"rule-{project}", project, match={"kinds": ["Endpoint"]}, rules=[rule]),
        resource("Budget", f"money-{project}", project, amount="250.00"),
        endpoint(f"e-{project}", "m@1", project),
    ]


@pytest.fixture(scope="module")
def owners(rig: Rig) -> dict[str, str]:
    """Do in two projects what can be done, some of it in one transaction; return a key of each one's owner."""
    ask = rig.request
    assert ask("POST", "/api/v1/apply", [*things(OWN), *things(OTHER)])[0] == 200
    keys = {}
    for project, other in ((OWN, OTHER), (OTHER, OWN)):
        status, made, _ = ask(
            "POST", "/api/v1/keys", {"project": project, "name": f"k-{project}", "access": {"role": "owner"}}
        )
        assert status == 201, made
        keys[project], at, own = made["key"], f"/api/v1/projects/{project}", made["key"]
        samples = f"{at}/endpoints/e-{project}/samples"
        for key in (own, rig.key):  # the owner, and the platform's people
            assert ask("GET", samples, key=key)[0] == 200
        assert ask("PUT", f"/api/v1/keys/{made['id']}/limits", {"tokens_per_min": 7}, key=own)[0] == 200
        ask(
            "PUT",
            f"{at}/endpoints/e-{project}",
            endpoint(f"e-{project}", "m@1", project, replicas={"min": 0, "max": 3}),
            key=own,
        )
        ask("PUT", f"/api/v1/audit/holds/{project}", {"because": "case 27"})
        ask("PATCH", f"{at}/quota", {"endpoints": 30})
        ask("DELETE", f"{at}/samples", key=own)
        ask("DELETE", f"{at}/policies/rule-{project}", key=own)
        ask("DELETE", f"{at}/policies/rule-{project}", key="stk_aaaaaaaa_" + "x" * 43)  # a stranger
        ask("POST", f"/api/v1/projects/{other}/endpoints/e-{other}/rollback", {"to": 1}, key=own)  # of the other one
        assert ask("DELETE", f"{at}/budgets/money-{project}", key=rig.key)[0] < 300
    return keys


def page(rig: Rig, project: str, key: str, query: str = "") -> dict[str, Any]:
    status, found, _ = rig.request("GET", f"/api/v1/projects/{project}/audit?{query}", key=key)
    assert status == 200, found
    return found


def platform_rows(rig: Rig) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(f"file:{rig.home.database}?mode=ro", uri=True)) as database:
        found = database.execute("SELECT event, hash FROM audit ORDER BY sequence DESC")
        return [{**json.loads(event), "hash": hash_} for event, hash_ in found]


def test_an_owner_reads_who_did_what_in_their_project_with_before_and_after(rig: Rig, owners: dict[str, str]) -> None:
    seen = page(rig, OWN, owners[OWN], "limit=1000")["items"]
    own_id = owners[OWN].split("_")[1]
    kinds = {each.split()[0] for row in seen for each in row["resources"] if " " in each}
    assert kinds >= {"project", "role", "notifier", "policy", "budget", "endpoint", "key"}
    reads = [row["actor"] for row in seen if row["outcome"] == "read"]
    assert sorted(reads) == sorted([own_id, "outside"])
    limits = next(row for row in seen if row["action"] == "PUT /keys/{id}/limits")
    assert (limits["actor"], limits["origin"], bool(limits["request"])) == (own_id, "127.0.0.1", True)
    assert limits["changes"][0]["what"] == f"key {OWN}/{own_id}"
    assert any(each.get("after") == 7 for each in limits["changes"][0]["fields"])
    assert any(row["outcome"] == "refused" and row["actor"] == "unknown" for row in seen)
    status, one, _ = rig.request("GET", f"/api/v1/projects/{OWN}/audit/{limits['row']}", key=owners[OWN])
    assert (status, one) == (200, limits)


@pytest.mark.parametrize(("project", "other"), [(OWN, OTHER), (OTHER, OWN)])
def test_an_owner_sees_every_row_of_their_project_and_nothing_else(
    rig: Rig, owners: dict[str, str], project: str, other: str
) -> None:
    rows = platform_rows(rig)
    wanted = [row for row in rows if any(views.is_about(each, project) for each in row["resources"])]
    seen = page(rig, project, owners[project], "limit=1000")["items"]
    assert [each["receipt"] for each in seen] == [views.receipt(row["hash"]) for row in wanted]
    fields = {
        field["field"]
        for row in seen
        for each in row["changes"]
        if "budget" in each["what"]
        for field in each["fields"]
    }
    assert ("resource.spec.amount" in fields, "id" in fields) == (True, False)  # which counts everybody's budgets
    told = json.dumps(seen)
    marks = [f"-{OTHER}", f"{OTHER}/", f"of {OTHER}"] if project == OWN else [f'e-{OWN}"', f"{OWN}/"]
    marks += [
        owners[other].split("_")[1],
        "case 27",
        '"hold ',
        *rig.key_ids(admin_only=True),
        *(row["hash"] for row in rows),
    ]
    assert [mark for mark in marks if mark in told] == []
    assert {"sequence", "hash", "within"} & {name for each in seen for name in each} == set()
    for each in seen:
        if each["actor"] in ("outside", "unknown"):
            assert (each["origin"], each["request"], each["because"], each["subject"]) == ("", "", "", "")


def test_no_filter_tells_an_owner_of_what_is_hidden(rig: Rig, owners: dict[str, str]) -> None:
    """Each word that is anywhere in the audit, as a filter, finds what it finds in what is shown without one."""
    rows, seen = platform_rows(rig), page(rig, OWN, owners[OWN], "limit=1000")["items"]
    words = {("actor", row["actor"]) for row in rows} | {("actor", "outside")}
    words |= {("action", row["action"]) for row in rows}
    words |= {("resource", each) for row in rows for each in row["resources"]} | {
        ("resource", OTHER),
        ("resource", OWN),
    }
    assert len(words) > 40
    for name, value in sorted(words):
        found = page(
            rig,
            OWN,
            owners[OWN],
            f"limit=1000&{name}={value.replace('{', '%7B').replace('}', '%7D').replace(' ', '%20')}",
        )
        wanted = [
            each
            for each in seen
            if (each["actor"] == value if name == "actor" else False)
            or (name == "action" and value in each["action"])
            or (name == "resource" and any(value in about for about in each["resources"]))
        ]
        assert [each["row"] for each in found["items"]] == [each["row"] for each in wanted], (name, value)
    middle = seen[len(seen) // 2]["at_us"]
    since = page(rig, OWN, owners[OWN], f"limit=1000&since={(middle + 1) / 1e6:.6f}")["items"]
    until = page(rig, OWN, owners[OWN], f"limit=1000&until={(middle + 1) / 1e6:.6f}")["items"]
    assert [each["row"] for each in (*since, *until)] == [each["row"] for each in seen]


def test_pages_follow_one_another_without_a_gap_and_a_name_of_no_row_is_refused(
    rig: Rig, owners: dict[str, str]
) -> None:
    whole = page(rig, OWN, owners[OWN], "limit=1000")
    assert whole["next"] == ""
    found, before = [], ""
    while True:
        one = page(rig, OWN, owners[OWN], f"limit=3{f'&before={before}' if before else ''}")
        assert len(one["items"]) <= 3
        found += one["items"]
        before = one["next"]
        if not before:
            break
    assert found == whole["items"]
    theirs = page(rig, OTHER, owners[OTHER], "limit=1000")["items"]
    foreign = next(each["row"] for each in theirs if each["row"] not in {mine["row"] for mine in found})
    answers = [
        rig.request("GET", f"/api/v1/projects/{OWN}/audit{path}", key=owners[OWN])[:2]
        for path in (f"?before={foreign}", f"?before=5-{'0' * 16}", f"/{foreign}", f"/5-{'0' * 16}")
    ]
    assert {status for status, _ in answers} == {404}
    assert str(answers[0][1]).replace(foreign, "") == str(answers[1][1]).replace(f"5-{'0' * 16}", "")
    assert rig.request("GET", f"/api/v1/projects/{OWN}/audit?before=17", key=owners[OWN])[0] == 400
    assert rig.request("GET", f"/api/v1/projects/{OTHER}/audit", key=owners[OWN])[0] == 404
    assert rig.request("GET", "/api/v1/audit", key=owners[OWN])[0] == 403
    status, told, _ = rig.request("GET", "/api/v1/projects/shopp/audit")
    assert (status, told["error"]["message"]) == (404, "there is no project 'shopp'")


def test_a_project_made_anew_does_not_see_what_was_done_in_the_one_before_it(rig: Rig) -> None:
    for word in ("first", "second"):
        assert rig.request("POST", "/api/v1/apply", [resource("Project", "again", description=word)])[0] == 200
        if word == "first":
            assert rig.request("DELETE", "/api/v1/projects/again")[0] < 300
    (row,) = page(rig, "again", rig.key)["items"]
    assert [each.get("after") for each in row["changes"][0]["fields"] if each["field"].endswith("description")] == [
        "second"
    ]
