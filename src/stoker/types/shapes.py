"""What shapes a predict model's engine calls have and what they take: sizes and seconds, never a value."""

from typing import Final

import msgspec

METHOD: Final = "shapes"  # of the CALL that asks a replica; the answer is a tuple of ShapeCost, as msgpack


class Shape(msgspec.Struct, frozen=True):
    """What one engine call is given.

    sizes: of one row of each input, in the order of the signature; () where the model fixes them all.
    """

    rows: int
    sizes: tuple[tuple[int, ...], ...] = ()


class ShapeCost(msgspec.Struct, frozen=True):
    """How often a shape is called, and how much longer its first call in a process takes."""

    shape: Shape
    calls: float
    first_s: float = 0.0  # of the first call in a process; 0: none was timed
    later_s: float = 0.0  # mean of the calls after it; 0: there was none


class ShapeUse(ShapeCost, frozen=True):
    """What is known of a shape, and whether the next replica is warmed up with it."""

    is_warmed: bool = False
