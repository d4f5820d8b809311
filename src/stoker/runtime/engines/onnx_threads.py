"""How many threads an ONNX model gets: measured on the model itself while it loads, within MEASURE_S.

Each count needs a session of its own, so a model that takes long to open, or too much memory to be there twice, gets
all cores of its replica unmeasured.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from stoker.core.threads import candidates, choose
from stoker.runtime.engines.cores import whole_cores
from stoker.runtime.engines.onnx_session import SessionOptions, first_line, is_on_gpu, open_session
from stoker.runtime.engines.port import Array
from stoker.types.errors import StokerError
from stoker.types.replica import ReplicaSpec

MEASURE_S: Final = 1.0  # besides the first opening: at most half for opening it again, the rest for calls
MEMORY_SHARE: Final = 8  # a model over this fraction of the replica's memory is not opened twice
CALL_MIN_S: Final = 50e-6  # a call this short is over before a second thread has begun
CALL_LARGE_S: Final = 0.025  # rows are doubled until a call takes this long
CALL_MAX_S: Final = 0.1  # a longer one cannot be repeated often enough
CALLS_MIN: Final = 3  # the best of them counts: the machine does other things meanwhile

Feeds = Callable[[int], dict[str, Array]]  # inputs of so many rows; nothing when a call cannot have so many


def open_fitting(
    path: Path, spec: ReplicaSpec, options: SessionOptions, feeds_of: Callable[[Any], Feeds | None]
) -> tuple[Any, str]:
    """Open the model with the threads that suit it; return the session and what was chosen, for people.

    feeds_of: returns what makes inputs for a session to measure with, None when nothing is known of their size.
    Raises as open_session.
    """
    cores = whole_cores(spec.cores)
    began_s = perf_counter()
    session = open_session(path, options, options.threads or cores, cores)
    opened_s = perf_counter() - began_s
    if is_on_gpu(session):
        return session, f"cuda:{options.device_id}"
    if options.threads:
        return session, _told(options.threads, f"as asked, of {_counted(cores, 'core')}")
    if cores == 1:
        return session, _told(1, "the replica has 1 core")
    openings = len(candidates(cores)) - 1
    weights = sum(file.size_bytes for file in spec.manifest.files)
    if opened_s * openings > MEASURE_S / 2 or (spec.memory_bytes and weights > spec.memory_bytes // MEMORY_SHARE):
        return session, _told(cores, "all cores; the model is too large to be opened again and measured")
    feeds = feeds_of(session)
    if feeds is None:
        return session, _told(cores, "all cores; its inputs have free sizes, so nothing could be measured")
    try:
        return _measured(path, cores, options, _Sizes(feeds, session), perf_counter())
    except StokerError:
        raise
    except Exception as refused:  # the runtime raises a dozen unrelated types
        return session, _told(cores, f"all cores; the model does not take zeros: {first_line(refused)}")


class _Sizes:
    """The two sizes that are measured: one row, and as many as a call may have or CALL_LARGE_S allows."""

    def __init__(self, feeds: Feeds, session: Any) -> None:
        self.session = session
        self.rows = 1
        self.one = self.many = feeds(1)
        self.many_s = _best_s(session, self.one, 0.0)
        while self.many_s < CALL_LARGE_S and (more := feeds(self.rows * 2)):
            self.rows, self.many = self.rows * 2, more
            self.many_s = _best_s(session, more, 0.0, calls=1)


def _measured(path: Path, cores: int, options: SessionOptions, sizes: _Sizes, began_s: float) -> tuple[Any, str]:
    if sizes.many_s > CALL_MAX_S:
        return sizes.session, _told(cores, f"all cores; a call takes {sizes.many_s:.2g} s, too long to be measured")
    counts = candidates(cores) if sizes.many_s >= CALL_MIN_S else (1,)
    seconds: dict[int, tuple[float, float]] = {}
    last: tuple[int, Any] = (cores, sizes.session)
    for at, threads in enumerate(counts):
        left_s = MEASURE_S - (perf_counter() - began_s)
        if left_s <= 0 and seconds:
            break
        if threads != cores:
            last = threads, open_session(path, options, threads, cores)
        share_s = max(left_s, 0.0) / (len(counts) - at) / 4  # half for the calls, of two sizes; half for opening
        seconds[threads] = _best_s(last[1], sizes.one, share_s), _best_s(last[1], sizes.many, share_s)
    chosen = choose(seconds)
    if chosen != last[0]:
        last = chosen, sizes.session if chosen == cores else open_session(path, options, chosen, cores)
    table = ", ".join(f"{count}: {one * 1e3:.3g} and {many * 1e3:.3g} ms" for count, (one, many) in seconds.items())
    return last[1], _told(chosen, f"of {cores} cores; calls of 1 and of {sizes.rows} rows took with {table}")


def _best_s(session: Any, inputs: dict[str, Array], limit_s: float, calls: int = CALLS_MIN) -> float:
    """Return the shortest of at least `calls` calls, and of more while `limit_s` lasts."""
    best_s, ends_s = float("inf"), perf_counter() + limit_s
    while calls > 0 or perf_counter() < ends_s:
        start_s = perf_counter()
        session.run(None, inputs)
        best_s = min(best_s, perf_counter() - start_s)
        calls -= 1
    return best_s


def _told(threads: int, why: str) -> str:
    return f"{_counted(threads, 'thread')} ({why})"


def _counted(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
