"""What a machine knows of where a push comes from; git's files are made here as git writes them."""

from pathlib import Path

import pytest

from stoker.cli import lineage

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GIVEN: dict[str, object] = {"parent": None, "run": None, "data": (), "code": None}


def checkout(folder: Path, head: str = "ref: refs/heads/main\n", url: str = "") -> Path:
    git = folder / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text(head)
    (git / "refs" / "heads" / "main").write_text(f"{COMMIT}\n")
    if url:
        (git / "config").write_text(
            f'[core]\n\tbare = false\n[remote "up"]\n\turl = no\n[remote "origin"]\n\turl = {url}\n'
        )
    return folder


def test_the_commit_around_a_model_is_found_with_its_repository(tmp_path: Path) -> None:
    inner = checkout(tmp_path, url="https://ana:token@example.com/team/digits.git") / "models" / "digits"
    inner.mkdir(parents=True)
    assert lineage.code_of(inner) == f"https://example.com/team/digits.git@{COMMIT}"


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("ref: refs/heads/main\n", COMMIT),
        (f"{COMMIT}\n", COMMIT),
        ("ref: refs/heads/none\n", ""),
        ("ref: ../../../secret\n", ""),
        ("nonsense", ""),
    ],
)
def test_a_head_of_any_kind_is_a_commit_or_nothing(tmp_path: Path, head: str, code: str) -> None:
    (tmp_path / "secret").write_text(COMMIT)
    assert lineage.code_of(checkout(tmp_path / "a" / "b", head)) == code


def test_packed_branches_and_worktrees_are_read(tmp_path: Path) -> None:
    git = checkout(tmp_path / "main") / ".git"
    (git / "refs" / "heads" / "main").unlink()
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{'f' * 40} refs/tags/v1\n{COMMIT} refs/heads/main\n")
    assert lineage.code_of(tmp_path / "main") == COMMIT
    own = git / "worktrees" / "other"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/main\n")
    (own / "commondir").write_text("../..\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / ".git").write_text(f"gitdir: {own}\n")
    assert lineage.code_of(tmp_path / "other") == COMMIT


def test_without_a_checkout_there_is_no_code(tmp_path: Path) -> None:
    assert lineage.code_of(tmp_path) == ""


def test_what_was_given_comes_before_what_the_machine_knows(tmp_path: Path) -> None:
    ci = {
        "GITHUB_ACTOR": "ana",
        "GITHUB_RUN_ID": "7",
        "GITHUB_SERVER_URL": "https://example.com",
        "GITHUB_REPOSITORY": "team/digits",
        "MLFLOW_RUN_ID": "abc",
    }
    found = lineage.said(GIVEN, "model.onnx", checkout(tmp_path), ci)
    assert (found["pushed_by"], found["run"], found["code"]) == ("ana", "abc", COMMIT)
    assert found["pushed_from"] == "https://example.com/team/digits/actions/runs/7"
    found = lineage.said(GIVEN | {"run": "mine", "code": "v2", "parent": "digits@2"}, "m", tmp_path, ci)
    assert (found["run"], found["code"], found["parent"]) == ("mine", "v2", "digits@2")
