"""Progress of anything longer than a moment: a bar on a terminal, plain lines elsewhere, on standard error.

Nothing appears within the first `QUIET_S` on a terminal, so that quick steps do not flicker.
"""

import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

import click

from stoker.cli.output import is_live
from stoker.types.units import format_bytes

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

QUIET_S: Final = 0.3
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
        self._began_s = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._note = ""
        self._said = ""
        self._said_at_s = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, note: str) -> None:
        """Begin a step (or go on with it, when it is the same)."""
        if note == self._note:
            return
        self._note = note
        self.update(0, 0)

    def update(self, done: float, total: float) -> None:
        """Show how far the step is."""
        if self._live:
            self._draw(done, total)
        else:
            self._say(done, total)

    def _draw(self, done: float, total: float) -> None:
        if self._bar is None:
            if time.monotonic() - self._began_s < QUIET_S:
                return
            self._bar = _rich_progress(self._is_bytes)
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        assert self._task is not None
        self._bar.update(
            self._task, description=f"{self._title}  [dim]{self._note}[/]", completed=done, total=total or None
        )

    def _say(self, done: float, total: float) -> None:
        now_s = time.monotonic()
        is_new = self._said != self._note
        if not self._note or (not is_new and now_s - self._said_at_s < LINE_EVERY_S):
            return
        how_far = f" {done / total:.0%}" if total and done and not is_new else ""
        size = f" of {format_bytes(int(total))}" if how_far and self._is_bytes else ""
        click.echo(f"{self._title}: {self._note}{how_far}{size}", err=True)
        self._said, self._said_at_s = self._note, now_s


def _rich_progress(is_bytes: bool) -> "RichProgress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        ProgressColumn,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as RichProgress

    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28, complete_style="cyan", finished_style="green"),
    ]
    columns += [DownloadColumn(), TransferSpeedColumn()] if is_bytes else [TaskProgressColumn(), TimeElapsedColumn()]
    return RichProgress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=12)
