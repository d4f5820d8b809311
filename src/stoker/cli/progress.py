"""Progress of anything longer than a moment: a bar on a terminal, plain lines elsewhere, on standard error.

Nothing appears at first, so that quick work stays quiet: no flicker on a terminal, no lines elsewhere.
"""

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import click

from stoker.cli.output import is_live
from stoker.types.units import format_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

QUIET_S: Final = 0.3
QUIET_LINES_S: Final = 1.0
# Without a terminal, the same step says how far it is at most this often.
LINE_EVERY_S: Final = 10.0


class Progress:
    """One piece of work with steps one after the other; a context manager.

    `step("upload")` begins a step, `update(done, total)` says how far it is; `total` 0 means nobody knows.
    """

    def __init__(self, title: str, *, is_bytes: bool = False, live: bool | None = None) -> None:
        self._title = title
        self._is_bytes = is_bytes
        self._live = is_live() if live is None else live
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._note = ""
        self._done = self._total = 0.0
        self._said = ""
        self._said_at_s = 0.0
        # Also work that says nothing for a while is to be seen, so the quiet ends by itself.
        self._quiet = threading.Timer(QUIET_S if self._live else QUIET_LINES_S, self._end_quiet)
        self._quiet.daemon = True
        self._lock = threading.Lock()
        self._is_quiet = True
        self._is_over = False

    def __enter__(self) -> "Progress":
        self._quiet.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._quiet.cancel()
        with self._lock:
            self._is_over = True
            if self._bar is not None:
                self._bar.stop()

    def step(self, note: str) -> None:
        """Begin a step (or go on with it, when it is the same)."""
        if note != self._note:
            self._note = note
            self.update(0, 0)

    def update(self, done: float, total: float) -> None:
        """Show how far the step is."""
        with self._lock:
            self._done, self._total = done, total
            if not self._is_quiet:
                self._show()

    def _end_quiet(self) -> None:
        with self._lock:
            if self._is_over:
                return
            self._is_quiet = False
            if self._live:
                self._bar = _rich_progress(self._is_bytes)
                self._task = self._bar.add_task("", total=None)
            self._show()
            if self._bar is not None:
                self._bar.start()

    def _show(self) -> None:
        if self._bar is not None and self._task is not None:
            from rich.markup import escape

            words = f"{escape(self._title)}  [dim]{escape(self._note)}[/]"
            self._bar.update(self._task, description=words, completed=self._done, total=self._total or None)
        else:
            self._say()

    def _say(self) -> None:
        now_s = time.monotonic()
        is_new = self._said != self._note
        if not self._note or (not is_new and now_s - self._said_at_s < LINE_EVERY_S):
            return
        how_far = f" {self._done / self._total:.0%}" if self._total and self._done and not is_new else ""
        size = f" of {format_bytes(int(self._total))}" if how_far and self._is_bytes else ""
        click.echo(f"{self._title}: {self._note}{how_far}{size}", err=True)
        self._said, self._said_at_s = self._note, now_s


def _rich_progress(is_bytes: bool) -> "RichProgress":
    """Return a display that shows a bar where the end is known, and only time where it is not."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.table import Column
    from rich.text import Text

    class Known(ProgressColumn):
        """Another column, once the task has an end."""

        def __init__(self, inner: ProgressColumn) -> None:
            super().__init__(Column(no_wrap=True))
            self._inner = inner

        def render(self, task: Task) -> Any:
            return self._inner(task) if task.total else Text()

    bar = BarColumn(bar_width=28, complete_style="cyan", finished_style="green")
    numbers = [DownloadColumn(), TransferSpeedColumn()] if is_bytes else [TaskProgressColumn()]
    return RichProgress(
        SpinnerColumn(),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        Known(bar),
        *(Known(column) for column in numbers),
        TimeElapsedColumn(Column(no_wrap=True, min_width=7)),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=12,
    )
