"""Which folders a rule is made for, where one below them is to stay shut."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stoker.confine.landlock import without


def test_all_beside_the_way_to_what_is_kept_out_is_let_in_and_nothing_on_it(tmp_path: Path) -> None:
    for folder in ("a/b/kept", "a/b/beside", "a/c", "d"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a/file").touch()
    (tmp_path / "a/link").symlink_to(tmp_path / "a/b/kept")
    found = set(without(str(tmp_path), (str(tmp_path / "a/b/kept"), "/nowhere")))
    assert found == {str(tmp_path / each) for each in ("a/b/beside", "a/c", "a/file", "d")}


@given(st.sampled_from(("/nowhere", "/", "/usr/lib-not")))
def test_what_holds_nothing_kept_out_is_one_rule(kept: str) -> None:
    assert list(without("/usr/lib", (kept,))) == [str(Path("/usr/lib").resolve())]
