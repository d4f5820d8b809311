"""Makes every struct known to msgspec while there is one thread.

How a struct is decoded is worked out when it is decoded first. With msgspec 0.22 a second thread that decodes the same
one at that very moment sees half of it, and the process ends with a segmentation fault: control did at a start, whose
first turns read rows in several threads.
"""

from contextlib import suppress

import msgspec


def know() -> int:
    """Work out every struct of stoker that was imported; return how many there are. Takes 12 ms in control."""
    kinds: list[type] = []
    stack: list[type] = [msgspec.Struct]
    while stack:
        kind = stack.pop()
        stack.extend(kind.__subclasses__())
        if kind.__module__.startswith("stoker."):
            kinds.append(kind)
    for kind in kinds:
        with suppress(TypeError, NameError):  # one that is only ever encoded
            msgspec.json.Decoder(kind)
    return len(kinds)
