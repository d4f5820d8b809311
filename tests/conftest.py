"""What every room's tests run in, and small models that are made once a session."""

import compileall
import gc
import importlib
import os
import re
import signal
import sys
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path

# Before numpy is there: threads of linear algebra wait for each other by spinning, which a busy machine pays for.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from stoker.app import demo as demo_models

# How long an example takes says how busy the machine is, and nothing of the property.
# The suite draws the same examples each time: what it says of a change is of that change. `make chaos` draws others.
ANY_MACHINE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("suite", derandomize=True, **ANY_MACHINE)
settings.register_profile("chaos", **ANY_MACHINE)
settings.load_profile(os.environ.get("STOKER_EXAMPLES", "suite"))

# Rooms whose tests share what is dear to start, loaded engines or the demo's platform: each goes to one worker, whole.
ENGINES, WHOLE = "tests/engines_llm/", "tests/whole/"
# What begins first, by room or file: what takes 20 s and more, then the rooms that start processes. The workers meet
# among the short files of the last ones, so that none waits long for another at the end.
FIRST = (
    WHOLE,
    *(f"tests/control/test_{name}.py" for name in ("recreate", "releases")),
    ENGINES,
    *(f"tests/gateway/test_{name}.py" for name in ("failures", "arms", "full_server", "routing")),
    *(
        f"tests/control/test_{name}.py"
        for name in ("platform", "quantize", "process", "objectives", "alerts", "policies")
    ),
    *(f"tests/agent/test_{name}.py" for name in ("up", "forks", "adoption", "processes")),
    "tests/gateway/",
    "tests/control/",
    *("tests/agent/", "tests/cli/", "tests/runtime/", "tests/api/"),
)
ROOT = Path(__file__).parent.parent


WRITES_NO_BYTECODE = sys.dont_write_bytecode


def pytest_configure(config: pytest.Config) -> None:
    """Have Ctrl-C end what the tests start: what a shell runs in the background ignores it, as do all below it."""
    config.option.loadscopereorder = False  # the order below is one of time; the plugin's own counts tests
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.dont_write_bytecode = False
    if not hasattr(config, "workerinput"):
        _compile_what_processes_import()


def _compile_what_processes_import() -> None:
    """Write the bytecode of all that the tests' processes import.

    Where PYTHONDONTWRITEBYTECODE is set, as in many images, each of a thousand of them would compile all of it again:
    half a second of processor time for control alone.
    """
    compileall.compile_dir(ROOT / "src", quiet=2)
    compileall.compile_dir(ROOT / "tests", quiet=2, rx=re.compile("/test_"))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have each worker of the whole suite begin to import its tests elsewhere, and find the others' bytecode after.

    Every worker collects every test, and to rewrite their assertions is most of that.
    """
    own = getattr(session.config, "workerinput", None)
    if own is None or session.config.args != session.config.getini("testpaths"):
        return
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    at = len(files) * int(own["workerid"].removeprefix("gw")) // own["workercount"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as when they are collected, which finds again what fails here and says so
        for file in (*files[at:], *files[:at]):
            with suppress(Exception, pytest.skip.Exception):
                importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Read no file for the few tests that run alone that has none."""
    if config.option.markexpr == "alone" and collection_path.name.startswith("test_"):
        return ("mark." + "alone" not in collection_path.read_text()) or None
    return None


def pytest_collection_finish() -> None:
    """Write bytecode no more, if so it was told, and have no collection of garbage look at all the tests again."""
    sys.dont_write_bytecode = WRITES_NO_BYTECODE
    gc.collect()
    gc.freeze()


class ByWhatIsShared(LoadScopeScheduling):
    """Gives a worker a file at a time, because its tests share processes, or one of the rooms that share more.

    Every other worker begins at the end: beside platforms of many processes runs what only computes, in one.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        if list(self.assigned_work).index(node) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file.startswith(ENGINES):
            return ENGINES
        return WHOLE if file.startswith(WHOLE) and _is_of_the_demo(file) else file


@cache
def _is_of_the_demo(file: str) -> bool:
    return "demo: Platform" in (ROOT / file).read_text()


@pytest.hookimpl(optionalhook=True)  # there is none with `-p no:xdist`
def pytest_xdist_auto_num_workers() -> int:
    """Return half as many workers again as cores: tests of processes wait for them about half of the time."""
    return max(len(os.sched_getaffinity(0)) * 3 // 2, 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ByWhatIsShared(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest; what is of the demo comes last in its room, so that it is ended with it."""

    def rank(item: pytest.Item) -> tuple[int, bool]:
        at = next((at for at, name in enumerate(FIRST) if item.nodeid.startswith(name)), len(FIRST))
        file = item.nodeid.partition("::")[0]
        return at, file.startswith(WHOLE) and _is_of_the_demo(file)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def digits_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the demo's classifier as ONNX."""
    model = demo_models.prepare("digits", tmp_path_factory.mktemp("digits"))
    paths: tuple[Path, ...] = tuple(model.paths)
    return str(paths[0])
