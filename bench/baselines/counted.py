"""A gateway of this build that counts its own calls: `python -m bench.baselines.counted FILE`, then gateway_main's
arguments.

With each SIGUSR1 it writes what was called since the last into FILE: a line a function, the count before it.
"""

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from stoker.app import gateway_main


def main() -> None:
    """Count from the moment the loop runs."""
    path = Path(sys.argv.pop(1))
    python: Counter[Any] = Counter()
    native: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            python[frame.f_code] += 1
        elif event == "c_call":
            native[f"{getattr(argument, '__qualname__', argument)} <- {frame.f_code.co_qualname}"] += 1

    def write() -> None:
        sys.setprofile(None)
        lines = [
            (number, f"{code.co_filename.rpartition('/stoker/')[2]} {code.co_qualname}")
            for code, number in python.items()
        ]
        lines += [(number, f"[native] {name}") for name, number in native.items()]
        python.clear()
        native.clear()
        written = path.with_suffix(".part")
        written.write_text("".join(f"{number} {name}\n" for number, name in sorted(lines, reverse=True)))
        written.rename(path)
        sys.setprofile(count)

    run = gateway_main.run

    async def counted(*arguments: Any) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, write)
        sys.setprofile(count)
        await run(*arguments)

    gateway_main.run = counted  # type: ignore[assignment]
    gateway_main.main()


if __name__ == "__main__":
    main()
