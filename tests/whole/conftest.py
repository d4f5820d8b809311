"""One platform with the demo endpoints for all tests that only talk to it; fresh ones for those that kill."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.whole.rig import Platform

HERE = Path(__file__).parent
# What hangs is ended; waits in these tests have a maximum of their own each, and some tests have many.
TIMEOUT_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for each in items:
        if each.path.is_relative_to(HERE) and each.get_closest_marker("timeout") is None:
            each.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The platform of `make up`: digits, minilm and smol."""
    platform = Platform(tmp_path_factory.mktemp("demo") / "home", gateways=2, grpc=True)
    try:
        platform.cli("up", "--detach", "--demo", "--gateways", "2", timeout_s=600)
        yield platform
    finally:
        try:
            platform.down()
        finally:
            left = platform.processes()
            platform.kill_everything()
    assert left == [], f"still running after `stoker down`: {left}"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[..., Platform]]:
    """Make platforms that end with the test, whatever it did to them."""
    made: list[Platform] = []

    def make(**settings: int) -> Platform:
        platform = Platform(tmp_path / f"home{len(made)}", **settings)
        made.append(platform)
        return platform

    yield make
    for platform in made:
        platform.kill_everything()
