"""The control API under schemathesis: what its published document says against what it does, with keys of every role.

A real platform with an endpoint that serves; every check of schemathesis, generated requests that fit the document and
such that do not, and sequences of operations (stateful). The tool lives in a folder of its own, as the peers do.
"""

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import msgspec

from bench.figures import Figure
from bench.peers.install import Package, place
from bench.report import Section
from bench.rounds import say
from bench.up import Platform
from stoker.app.demo import DemoModel

SCHEMATHESIS: Final = Package("schemathesis", "4.32.5")
ADMIN, NOBODY = "admin", "nobody"
ROLES: Final = ("owner", "operator", "deployer", "caller", "viewer")
SEED: Final = 20261129
TIMEOUT_S: Final = 3600.0
SETTINGS: Final = Path(__file__).with_name("apifuzz.toml")
_CASES: Final = re.compile(r"([\d,]+) generated")
_CASE: Final = re.compile(r"^\d+\. Test Case ID:", re.MULTILINE)
_WAITS: Final = "Expected 401 or 403, got `429 Too Many Requests`"
_FAILURE: Final = re.compile(r"^- (?P<what>[A-Z][^\n]*)$", re.MULTILINE)


class Found(msgspec.Struct, frozen=True):
    """What a run with one key came to: how many requests, and each thing that is wrong, by operation."""

    who: str
    cases: int
    failures: tuple[tuple[str, str], ...]
    said: str


def measure(model: DemoModel, *, examples: int) -> Section:
    """Return how many requests were sent, and what of their answers was wrong."""
    found, command = [], tool()
    for who in (ADMIN, *ROLES, NOBODY):
        with Platform() as platform:  # of its own: what one may do, such as a quota of no keys, would stop the next
            platform.up()
            platform.deploy(model)
            found.append(run(command, base(platform), who, key_of(platform, who), examples=examples))
        say(f"  {who}: {found[-1].cases:,} requests, {len(found[-1].failures)} wrong")
    return Section("The control API under schemathesis", figures(found), {"": table(found)})


def figures(found: Sequence[Found]) -> list[Figure]:
    """Return the figures that hold or not."""
    failures = [what for one in found for _, what in one.failures]
    errors = sum("server error" in what.lower() for what in failures)
    return [
        Figure("requests of generated cases", sum(one.cases for one in found)),
        Figure("server errors", errors, "", 0, "at most"),
        Figure("answers that are not as published", len(failures) - errors, "", 0, "at most"),
    ]


def table(found: Sequence[Found]) -> list[list[str]]:
    """Return each kind of failure, and where it was first."""
    rows = [["key", "what", "how often", "such as"]]
    for one in found:
        counted = Counter(what for _, what in one.failures)
        for what, count in counted.most_common():
            rows.append([one.who, what, str(count), next(where for where, each in one.failures if each == what)])
    return rows


def base(platform: Platform) -> str:
    """Return where the control API listens."""
    said: str = json.loads(platform.home.credentials.read_text())["api"]
    return said


def key_of(platform: Platform, who: str) -> str:
    """Return a key that may do everything, one of a role in its project, or one that is none."""
    if who == NOBODY:
        return "stk_aaaaaaaa_" + "x" * 43
    access = ("--admin",) if who == ADMIN else ("--role", who)
    return platform.cli("keys", "create", f"fuzz-{who}", *access, "--quiet").strip()


def tool() -> list[str]:
    """Return the command, installed if it was not. Raises NotHere."""
    return [str(place(SCHEMATHESIS) / "bin" / "st")]


def run(
    command: Sequence[str],
    url: str,
    who: str,
    key: str,
    *,
    examples: int,
    phases: str = "",
    methods: Sequence[str] = (),
) -> Found:
    """Return what schemathesis, called as `command`, finds with `key`."""
    with tempfile.TemporaryDirectory(prefix="stoker-apifuzz-") as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [
                *(*command, "--config-file", str(SETTINGS), "--no-color", "run", f"{url}/api/v1/openapi.json"),
                *("--checks", "all", "--mode", "all", "--seed", str(SEED), "--max-examples", str(examples)),
                *("--continue-on-failure", "--suppress-health-check", "all", "--generation-database", "none"),
                *("--header", f"Authorization: Bearer {key}", "--report", "junit", "--report-junit-path", str(report)),
                *(("--phases", phases) if phases else ()),
                *(part for method in methods for part in ("--include-method", method)),
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        said = done.stdout + done.stderr
        if not report.exists():
            raise RuntimeError(f"schemathesis: exit {done.returncode}\n{said[-4000:]}")
        cases = _CASES.search(said)
        count = int(cases[1].replace(",", "")) if cases is not None else 0
        return Found(who, count, tuple(_failures(report)), said)


def _failures(report: Path) -> Iterator[tuple[str, str]]:
    """Yield the operation and what is wrong. A wrong key that is told to wait, after many others, is refused too."""
    for case in ElementTree.parse(report).iter("testcase"):
        for failure in (*case.iter("failure"), *case.iter("error")):
            text = f"{failure.get('message') or ''}\n{failure.text or ''}"
            for each in _CASE.split(text)[1:] or [text]:
                if _WAITS not in each:
                    for what in _FAILURE.findall(each) or ["an error of the tool"]:
                        yield str(case.get("name")), what
