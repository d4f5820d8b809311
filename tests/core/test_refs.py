"""How versions are named in text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.refs import ModelRef, is_alias, parse_ref
from stoker.types.ids import Digest, ModelName

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("digits", ModelRef(ModelName("digits"))),
        ("digits@3", ModelRef(ModelName("digits"), number=3)),
        ("digits@prod", ModelRef(ModelName("digits"), alias="prod")),
        (f"digits@{DIGEST}", ModelRef(ModelName("digits"), digest=Digest(DIGEST))),
        ("digits@v2", ModelRef(ModelName("digits"), alias="v2")),
    ],
)
def test_reads_every_form(text: str, meaning: ModelRef) -> None:
    assert parse_ref(text) == meaning


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@3",
        "Digits",
        "digits@",
        "digits@0",
        "digits@-1",
        "digits@99999999999",
        "digits@a@b",
        "digits@sha256:00",
        "a\n",
    ],
)
def test_refuses_what_is_none_of_them(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_ref(text)


def test_an_alias_is_never_a_number() -> None:
    assert is_alias("prod")
    assert not is_alias("12")


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        ref = parse_ref(text)
    except ValueError:
        return
    assert text.startswith(ref.name)
