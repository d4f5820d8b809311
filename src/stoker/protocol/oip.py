"""What the Open Inference Protocol (v2, REST) says about servers, models and errors: the answers that need no tensor.

Requests are read in `protocol/oip_request.py`, answers written in `protocol/oip_reply.py`; this file imports no numpy,
because a gateway needs only what is here.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

import stoker
from stoker.types.errors import StokerError
from stoker.types.models import Signature

BINARY_CONTENT_TYPE: Final = "application/octet-stream"
HEADER_LENGTH: Final = "inference-header-content-length"  # of a binary body: how many bytes its JSON part has
# Names of the extensions as Triton's clients and KServe's look for them.
EXTENSIONS: Final = ("binary_tensor_data", "model_metadata")


def server_metadata() -> bytes:
    """Return the body of `GET /v2`."""
    return msgspec.json.encode({"name": "stoker", "version": stoker.__version__, "extensions": EXTENSIONS})


def model_metadata(name: str, versions: Sequence[str], platform: str, signature: Signature) -> bytes:
    """Return the body of `GET /v2/models/{name}`; `versions` are those that serve now."""
    return msgspec.json.encode(
        {
            "name": name,
            "versions": list(versions),
            "platform": platform,
            "inputs": signature.inputs,
            "outputs": signature.outputs,
        }
    )


def error_text(problem: StokerError) -> str:
    """Return one sentence that also names the field, for protocols whose errors are one string."""
    if problem.field is None or problem.field in problem.message:
        return problem.message
    return f"{problem.field}: {problem.message}"


def error_body(problem: StokerError) -> bytes:
    """Return the error in the protocol's shape, `{"error": "<string>"}`."""
    return msgspec.json.encode({"error": error_text(problem)})
