"""What the answer to `POST /v1/embeddings` looks like: numbers, or base64 of little-endian float32."""

from binascii import b2a_base64
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

_encode: Final = msgspec.json.Encoder().encode


def embedding_body(
    vectors: npt.NDArray[Any],
    tokens: Sequence[int],
    *,
    model: str,
    encoding: Literal["float", "base64"] | None,
) -> bytes:
    """Return the body.

    Args:
        vectors: float32 [n, dim], in the order of the inputs.
        tokens: how many tokens each input had, after truncation.
        model: the name the client called.
        encoding: the request's `encoding_format`; numbers when it is None.
    """
    if encoding == "base64":
        rows = np.ascontiguousarray(vectors, "<f4")
        texts = [b'"%b"' % b2a_base64(row.tobytes(), newline=False) for row in rows]
    else:
        texts = [_encode(row) for row in vectors.tolist()]
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (index, text) for index, text in enumerate(texts)
    )
    total = sum(tokens)
    usage = b'{"prompt_tokens":%d,"total_tokens":%d}' % (total, total)
    return b'{"object":"list","data":[%b],"model":%b,"usage":%b}' % (data, _encode(model), usage)
