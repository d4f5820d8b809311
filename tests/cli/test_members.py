"""`stoker members` and roles as a person types them: who may do what in a project, and the end of it."""

from stoker.cli.exits import Exit
from tests.cli.conftest import Run

ROLE = """
apiVersion: stoker/v1
kind: Role
metadata: {name: labeller}
spec: {permissions: ["endpoints:read", "samples:read"]}
"""


def test_somebody_is_made_a_member_given_another_role_and_taken_out_again(run: Run) -> None:
    assert run("members", "add", "user:ann@example.org", "--role", "viewer").returncode == 0
    done = run("members", "add", "user:ann@example.org", "--role", "deployer")
    assert done.returncode == 0, done.stderr
    (line,) = [each for each in run("members", "list").stdout.splitlines() if "user:ann@example.org" in each]
    assert "deployer" in line
    assert "viewer" not in line
    refused = run("members", "add", "user:ann@example.org", "--role", "emperor")
    assert refused.returncode != 0
    assert "emperor" in refused.stderr
    assert run("members", "remove", "user:ann@example.org").returncode == 0
    assert "user:ann@example.org" not in run("members", "list").stdout


def test_a_project_that_is_made_again_keeps_what_is_said_of_it(run: Run) -> None:
    assert run("projects", "create", "kept", "--description", "Search team").returncode == 0
    assert "project kept unchanged" in run("projects", "create", "kept").stdout
    assert "Search team" in run("projects").stdout
    assert run("projects", "create", "kept", "--description", "").returncode == 0
    assert "Search team" not in run("projects").stdout


def test_who_leaves_is_told_of_in_numbers_that_are_right(run: Run) -> None:
    assert run("members", "add", "user:bob@example.org", "--role", "viewer").returncode == 0
    assert run("keys", "create", "b", "--subject", "user:bob@example.org", "--role", "viewer").returncode == 0
    said = run("members", "leave", "user:bob@example.org").stdout
    assert said == "user:bob@example.org is no member of 1 project any more, and 1 key has ended\n"


def test_a_role_of_ones_own_is_applied_listed_given_and_deleted(run: Run) -> None:
    done = run("apply", "-f", "-", stdin=ROLE)
    assert done.returncode == 0, done.stderr
    lines = run("get", "role", "labeller").stdout.splitlines()
    assert [line.split() for line in lines[1:]] == [["default", "labeller", "endpoints:read", "samples:read"]]
    assert "labeller" in run("members", "roles").stdout
    assert run("members", "add", "service:labels", "--role", "labeller").returncode == 0
    done = run("delete", "role", "labeller")
    assert done.returncode == 0, done.stderr
    assert "role default/labeller deleted" in done.stdout
    missing = run("get", "role", "labeller")
    assert missing.returncode == Exit.NOT_FOUND
    assert "stoker members roles" in missing.stderr
