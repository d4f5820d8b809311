"""Tests that mostly wait run beside each other: the first one starts all of its module, each in a thread of its own.

Each has processes of its own, so nothing is shared but the machine; how long anything takes must not matter to them.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

Work = Callable[[Path], None]


class Beside:
    """The tests of one module that were selected, under way."""

    def __init__(self, works: list[Work], folder: Path) -> None:
        self._pool = ThreadPoolExecutor(max(len(works), 1))
        self._ends = {work: self._pool.submit(work, _made(folder / str(at))) for at, work in enumerate(works)}

    def end(self, work: Work) -> None:
        """Wait until `work` has ended, and raise what it raised."""
        end: Future[None] = self._ends[work]
        end.result()

    def close(self) -> None:
        self._pool.shutdown()


def beside(work: Work) -> Callable[[Beside], None]:
    """Make `work`, which is given a folder, a test that runs beside the others of its module that are marked so."""

    def test(together: Beside) -> None:
        together.end(work)

    test.__name__, test.__qualname__, test.__doc__ = work.__name__, work.__qualname__, work.__doc__
    test.__module__ = work.__module__
    test.work = work  # type: ignore[attr-defined]
    return test


@pytest.fixture(scope="module")
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """Start what the module has of such tests."""
    mine = [each for each in request.session.items if isinstance(each, pytest.Function)]
    works = [each.function.work for each in mine if each.module is request.module and hasattr(each.function, "work")]
    made = Beside(works, tmp_path_factory.mktemp("beside"))
    yield made
    made.close()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
