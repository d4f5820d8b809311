"""How long an engine has worked on anything: what its machine's price is divided by (core/cost)."""

from time import monotonic


class BusyClock:
    """Runs while at least one piece of work does; all in one thread."""

    __slots__ = ("_running", "_since_s", "_sum_s")

    def __init__(self) -> None:
        self._running = 0
        self._since_s = 0.0
        self._sum_s = 0.0

    @property
    def seconds(self) -> float:
        """Return the time so far, with that of what runs now."""
        return self._sum_s + (monotonic() - self._since_s if self._running else 0.0)

    def begin(self) -> None:
        """A piece of work begins."""
        if not self._running:
            self._since_s = monotonic()
        self._running += 1

    def end(self) -> None:
        """A piece of work ends."""
        self._running -= 1
        if not self._running:
            self._sum_s += monotonic() - self._since_s

    def add(self, seconds: float) -> None:
        """Count work that is over, while which nothing else ran."""
        self._sum_s += seconds
