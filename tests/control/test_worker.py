"""A process for one piece of work: however it ends, its asker hears why, and nothing of it goes on running."""

import asyncio
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from stoker.control.worker import started
from stoker.types.errors import Conflict, DeadlineExceeded, Unavailable
from stoker.types.work import Step
from tests.control.rig import until

HEAD = "import json, os, signal, subprocess, sys, time\n"


def run(code: str, folder: Path, within_s: float = 30.0, tell: Any = "x") -> Any:
    (folder / "work_of_a_test.py").write_text(HEAD + code)

    async def ask() -> Any:
        env = {"PYTHONPATH": str(folder)}
        async with started("work_of_a_test", "testing", folder / "stderr", env) as worker:
            await worker.tell(tell)
            return await worker.hear(Step, within_s)

    return asyncio.run(asyncio.wait_for(ask(), 100))


def test_a_line_goes_in_and_a_line_comes_out(tmp_path: Path) -> None:
    code = 'print(json.dumps({"type": "step", "stage": json.loads(input())}), flush=True); time.sleep(60)'
    assert run(code, tmp_path, tell="hello") == Step("hello")


def test_what_it_says_went_wrong_is_raised_as_that(tmp_path: Path) -> None:
    code = (
        'print(json.dumps({"type": "problem", "code": "conflict", "message": "it is so"}), flush=True); time.sleep(60)'
    )
    with pytest.raises(Conflict, match="it is so"):
        run(code, tmp_path)


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("time.sleep(60)", DeadlineExceeded, "testing said nothing for 0 s"),
        ("print('{', flush=True); time.sleep(60)", Unavailable, "answered what cannot be read"),
        ("sys.exit('the last words')", Unavailable, "ended with code 1: the last words"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", Unavailable, "SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", Unavailable, "no memory left"),
        ("os.kill(os.getpid(), signal.SIGALRM)", DeadlineExceeded, "took longer than it may"),
        ("raise MemoryError", Unavailable, "more memory than it may have"),
        ("print('x' * 9_000_000, flush=True); time.sleep(60)", Unavailable, "more than 8388608 bytes"),
    ],
)
def test_every_end_is_told(code: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        run(code, tmp_path, 0.3 if error is DeadlineExceeded and "sleep" in code else 30.0)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_one_that_died_before_it_was_told_is_told_as_any_death(loop: Any, tmp_path: Path) -> None:
    (tmp_path / "work_of_a_test.py").write_text(HEAD + "sys.exit('at once')")

    async def ask() -> None:
        env = {"PYTHONPATH": str(tmp_path)}
        async with started("work_of_a_test", "testing", tmp_path / "stderr", env) as worker:
            while "at once" not in (tmp_path / "stderr").read_text():
                await asyncio.sleep(0.01)
            for _ in range(50):  # the pipe is known to be closed once the loop has seen it
                await worker.tell("x")
                await asyncio.sleep(0.01)

    with asyncio.Runner(loop_factory=loop) as runner, pytest.raises(Unavailable, match="ended with code 1: at once"):
        runner.run(asyncio.wait_for(ask(), 100))


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    code = (
        "child = subprocess.Popen(['sleep', '600'])\n"
        'print(json.dumps({"type": "step", "stage": str(child.pid)}), flush=True); time.sleep(60)'
    )
    pid = int(run(code, tmp_path).stage)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "it is gone")
