"""Where a push comes from, as far as the machine knows: who, which machine or CI job, which commit of which code.

Git is read from its files and never run: a folder that somebody sent may have a configuration that makes it run things.
"""

import getpass
import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

GIT_FILE_BYTES_MAX: Final = 4 * 2**20  # packed-refs of a large repository
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REMOTE: Final = re.compile(r'^\[remote "origin"\][^\[]*?^\s*url\s*=\s*(\S+)', re.MULTILINE)


def pushed_by(environ: Mapping[str, str]) -> str:
    """Return who pushes: the account of the CI, else of this machine."""
    for name in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        if environ.get(name):
            return environ[name]
    with suppress(OSError, KeyError):  # a container without a passwd entry
        return getpass.getuser()
    return ""


def pushed_from(environ: Mapping[str, str]) -> str:
    """Return from where: the address of the CI job, else the name of this machine."""
    if environ.get("GITHUB_RUN_ID"):
        server, repository = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
        return f"{server}/{repository}/actions/runs/{environ['GITHUB_RUN_ID']}"
    return environ.get("CI_JOB_URL") or environ.get("BUILD_URL") or socket.gethostname()


def training_run(environ: Mapping[str, str]) -> str:
    """Return the training run that this push is part of, where its tracker says so."""
    return environ.get("MLFLOW_RUN_ID") or environ.get("WANDB_RUN_ID") or ""


def code_of(folder: Path) -> str:
    """Return the commit that is checked out around `folder`, with its repository; "" where there is none."""
    with suppress(OSError, ValueError):
        for above in (folder.resolve(), *folder.resolve().parents):
            if (above / ".git").exists():
                return _checked_out(above / ".git")
    return ""


def _checked_out(git: Path) -> str:
    if git.is_file():  # a worktree or a submodule
        git = (git.parent / _read(git).removeprefix("gitdir:").strip()).resolve()
    common = git / _read(git / "commondir").strip() if (git / "commondir").exists() else git
    head = _read(git / "HEAD").strip()
    commit = _commit(common, git, head.removeprefix("ref:").strip()) if head.startswith("ref:") else head
    if not _COMMIT.fullmatch(commit):
        return ""
    remote = _REMOTE.search(_read(common / "config")) if (common / "config").exists() else None
    where = _without_secrets(remote[1]) if remote is not None else ""
    return f"{where}@{commit}" if where else commit


def _commit(common: Path, git: Path, ref: str) -> str:
    for home in (git, common):
        file = home / ref
        if file.resolve().is_relative_to(home.resolve()) and file.is_file():
            return _read(file).strip()
    if (common / "packed-refs").exists():
        for line in _read(common / "packed-refs").splitlines():
            commit, _, name = line.partition(" ")
            if name == ref:
                return commit
    return ""


def _without_secrets(address: str) -> str:
    """Return an address without the user and the token that people leave in it."""
    parts = urlsplit(address)
    if not parts.scheme:
        return address  # git@host:path
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _read(file: Path) -> str:
    with file.open("rb") as opened:
        return opened.read(GIT_FILE_BYTES_MAX).decode("utf-8", "replace")


def said(
    given: Mapping[str, object], source: str, folder: Path | None, environ: Mapping[str, str] = os.environ
) -> dict[str, object]:
    """Return the lineage of a push: what was given on the command line, then what the machine knows."""
    return {
        "source": source,
        "pushed_by": pushed_by(environ),
        "pushed_from": pushed_from(environ),
        "parent": given["parent"] or "",
        "run": given["run"] or training_run(environ),
        "data": given["data"],
        "code": given["code"] or (code_of(folder) if folder is not None else ""),
    }
