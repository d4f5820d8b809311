"""An Open Inference Protocol body whose tensors are raw bytes, as the JSON that means the same.

So a sample of it can be read by people, looked through for what must be hidden, and sent again. Without numpy: a
gateway has none, and samples are small.
"""

import struct
from typing import Any, Final

_CODES: Final = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b", "INT16": "h", "INT32": "i",
    "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
_LENGTH: Final = struct.Struct("<I")
_SIZE: Final = "binary_data_size"


class NotRaw(ValueError):
    """The bytes are not what the JSON part says; or have no form in JSON (other types, texts that are none)."""


def plain(head: Any, raw: bytes) -> dict[str, Any]:
    """Return the JSON part `head` with the values of `raw` in it, in row-major order. Raises NotRaw."""
    if not isinstance(head, dict):
        raise NotRaw("no object")
    made: dict[str, Any] = dict(head)
    at = 0
    for name in ("inputs", "outputs"):
        tensors = head.get(name)
        if not isinstance(tensors, list):
            continue
        made[name] = []
        for tensor in tensors:
            shown, at = _plain(tensor, raw, at)
            made[name].append(shown)
    if at != len(raw):
        raise NotRaw(f"{len(raw) - at} bytes belong to no tensor")
    return made


def _plain(tensor: Any, raw: bytes, at: int) -> tuple[Any, int]:
    parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
    if not isinstance(parameters, dict) or _SIZE not in parameters:
        return tensor, at
    size = parameters[_SIZE]
    if type(size) is not int or not 0 <= size <= len(raw) - at:
        raise NotRaw(f"no tensor has {size} bytes here")
    left = {name: value for name, value in parameters.items() if name != _SIZE}
    shown = {name: value for name, value in tensor.items() if name != "parameters"}
    shown |= {"parameters": left} if left else {}
    return shown | {"data": _values(tensor.get("datatype"), raw[at : at + size])}, at + size


def _values(datatype: Any, raw: bytes) -> list[Any]:
    if datatype == "BYTES":
        return _texts(raw)
    code = _CODES.get(datatype) if isinstance(datatype, str) else None
    if code is None or len(raw) % struct.calcsize(code):
        raise NotRaw(f"{len(raw)} bytes are no {datatype}")
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))


def _texts(raw: bytes) -> list[str]:
    made: list[str] = []
    at = 0
    while at < len(raw):
        if len(raw) - at < _LENGTH.size:
            raise NotRaw("a text without its length")
        (size,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if size > len(raw) - at:
            raise NotRaw("a text that is cut off")
        try:
            made.append(raw[at : at + size].decode())
        except UnicodeDecodeError as binary:
            raise NotRaw("a text that is none") from binary
        at += size
    return made
