"""One sampled request, as it is kept and as it is shown."""

from typing import Any

import msgspec


class SampleRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request and what became of it. Texts have pseudonyms for what was recognised in them; `hidden` counts those."""

    id: str  # the request's; a client may choose it
    at_s: float  # unix time of its arrival
    project: str
    endpoint: str
    method: str  # infer, chat, completions, embeddings
    status: int  # of the answer; 499: the client left
    reasons: tuple[str, ...]  # drawn, flagged, error, slow
    took_s: float
    revision: str = ""
    flag: str = ""  # what flagged it: its caller's word, or "empty answer"
    served_by: str = ""  # another endpoint that answered for it
    stream: bool = False
    code: str = ""  # of the error
    message: str = ""
    first_token_s: float = 0.0
    key: str = ""
    tenant: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    request: Any = None
    response: Any = None
    hidden: dict[str, int] = {}


class Rotated(msgspec.Struct, frozen=True):
    """Projects whose samples are sealed with new keys, and those whose keys cannot be opened."""

    rotated: tuple[str, ...]
    broken: tuple[str, ...] = ()
