"""How every webhook proves who sent it, when, and that it is not an old one: Standard Webhooks (standardwebhooks.com).

    webhook-id         the same for every try of one message: a receiver drops what it has seen
    webhook-timestamp  unix seconds of this try: a receiver refuses what is minutes old
    webhook-signature  v1,BASE64 of HMAC-SHA256 over ID.TIMESTAMP.BODY

Any library of that specification checks it. A secret that begins with `whsec_` is the specification's form, base64 of
the key; any other is the key itself.
"""

import base64
import binascii
import hmac
from typing import Final

from stoker.types.errors import InvalidInput

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
SECRET_PREFIX: Final = b"whsec_"


def sign(secret: bytes, id: str, at_s: float, body: bytes) -> dict[str, str]:  # noqa: A002 - the specification's word
    """Return the headers of one try. An empty secret signs nothing: the id and the time alone.

    `id` has no dot and no space. Raises InvalidInput, which never holds the secret.
    """
    stamp = str(int(at_s))
    headers = {ID: id, TIMESTAMP: stamp}
    if secret:
        signed = hmac.digest(_key(secret), f"{id}.{stamp}.".encode() + body, "sha256")
        headers[SIGNATURE] = f"v1,{base64.b64encode(signed).decode()}"
    return headers


def former(secret: bytes, at_s: float, body: bytes) -> str:
    """Return the value of the two headers that came before: `t=TIMESTAMP,v1=HEX` over TIMESTAMP.BODY.

    X-Stoker-Signature (alerts) and Stoker-Signature (drift) were on the pages, so receivers check them.
    """
    stamp = str(int(at_s))
    return f"t={stamp},v1={hmac.digest(secret, stamp.encode() + b'.' + body, 'sha256').hex()}"


def _key(secret: bytes) -> bytes:
    if not secret.startswith(SECRET_PREFIX):
        return secret
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise InvalidInput("the webhook's secret begins with whsec_ but what follows is not base64; copy it whole")
    return key
