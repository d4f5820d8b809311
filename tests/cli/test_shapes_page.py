"""The table of warm-up calls that `stoker describe` shows."""

from stoker.cli.shapes_page import shapes_table
from stoker.types.shapes import Shape, ShapeUse


def test_only_what_the_next_replica_is_called_with_is_shown() -> None:
    uses = (
        ShapeUse(Shape(16, ((3, 224, 224), ())), 1204.4, 0.144, 0.11, is_warmed=True),
        ShapeUse(Shape(1), 1000, 0.0, 0.001),
        ShapeUse(Shape(64), 10, 0.5, 0.1, is_warmed=True),
    )
    _, image, fixed = (line.split() for line in shapes_table(uses).splitlines())
    assert image == ["16", "3×224×224,", "1", "1204", "144", "ms", "110", "ms"]
    assert fixed == ["64", "fixed", "10", "500", "ms", "100", "ms"]
    assert shapes_table(uses[1:2]) == ""
