"""Lines as an engine of known cost would teach them, and requests that wait for it."""

import random
from dataclasses import dataclass

from stoker.core.latency import NEVER, Line, Lines, Shapes, learned

MS = 0.001


@dataclass
class Waiting:
    rows: int = 1
    shapes: Shapes = ()
    deadline_s: float = NEVER
    alone: bool = False
    size_bytes: int = 100


def line_of(base_s: float, row_s: float, *, calls: int = 60, noise_s: float = 0.0, now_s: float = 0.0) -> Line:
    draw = random.Random(7)
    line = Line()
    for number in range(calls):
        rows = 1 + number % 32
        line = learned(line, rows, base_s + row_s * rows + draw.uniform(-noise_s, noise_s), now_s)
    return line


def teach(lines: Lines, shapes: Shapes, base_s: float, row_s: float, *, calls: int = 60, now_s: float = 0.0) -> Lines:
    for number in range(calls):
        rows = 1 + number % 32
        lines.learn(shapes, rows, base_s + row_s * rows, now_s)
    return lines
