"""Signatures of webhooks: the published example, and what a change of anything does."""

import base64
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.protocol.webhooks import former, sign
from stoker.types.errors import InvalidInput


def test_the_example_that_every_library_of_the_specification_is_tested_with() -> None:
    secret = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330.9, b'{"test": 2432232314}') == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


KEYS = st.binary(min_size=1).filter(lambda key: not key.startswith(b"whsec_"))


@given(KEYS, st.binary(), st.binary())
def test_a_key_is_the_same_written_out_or_in_the_specifications_form(key: bytes, body: bytes, other: bytes) -> None:
    written = b"whsec_" + base64.b64encode(key)
    signed = sign(written, "id", 1.0, body)
    assert sign(key, "id", 1.0, body) == signed
    assert (sign(written, "id", 1.0, other) == signed) == (other == body)
    for changed in (sign(written, "ie", 1.0, body), sign(written, "id", 2.0, body), sign(key + b"!", "id", 1.0, body)):
        assert changed["webhook-signature"] != signed["webhook-signature"]


def test_without_a_secret_the_id_and_the_time_are_told_and_nothing_is_signed() -> None:
    assert sign(b"", "id", 5.0, b"body") == {"webhook-id": "id", "webhook-timestamp": "5"}


@pytest.mark.parametrize("secret", [b"whsec_", b"whsec_n0t.b64", b"whsec_q7c"])
def test_half_a_secret_is_refused_and_not_shown(secret: bytes) -> None:
    with pytest.raises(InvalidInput, match="copy it whole") as refused:
        sign(secret, "id", 1.0, b"")
    assert secret == b"whsec_" or secret.decode() not in refused.value.message


def test_the_headers_that_came_before_are_what_receivers_know() -> None:
    expected = hmac.new(b"hunter2", b"1790000000.{}", "sha256").hexdigest()
    assert former(b"hunter2", 1_790_000_000.7, b"{}") == f"t=1790000000,v1={expected}"
