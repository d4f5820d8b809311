"""How tensors become the answer to an Open Inference Protocol infer request: JSON, raw bytes, or some of each.

A batch of many requests is turned into Python numbers once (`ReplyWriter.batch`); each request's answer is then cut
out of it. Not-a-number and infinities are `null` in JSON, which has no word for them; raw bytes carry them as they are.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from stoker.protocol.oip_binary import Array, datatype_of, write_tensor
from stoker.protocol.oip_request import InferRequest
from stoker.types.errors import EngineFailed

FORMS_MAX: Final = 256

_encode: Final = msgspec.json.Encoder().encode


class _Form:
    """What all arrays of one output name, datatype and row shape have in common."""

    __slots__ = ("head", "is_batched", "tail", "width")

    def __init__(self, name: str, array: Array, *, is_batched: bool) -> None:
        shape = array.shape[1:] if is_batched else array.shape
        self.is_batched = is_batched
        self.width = math.prod(shape)
        self.head = b'{"name":%b,"datatype":"%b","shape":[' % (_encode(name), datatype_of(array).encode())
        sizes = ",".join(map(str, shape)).encode()
        self.tail = b"," + sizes if is_batched and shape else sizes


class _Column:
    """One output of a batch."""

    __slots__ = ("_flat", "array", "head", "is_batched", "is_text", "tail", "width")

    def __init__(self, form: _Form, array: Array) -> None:
        self.array = array
        self.head = form.head
        self.is_batched = form.is_batched
        self.is_text = array.dtype.kind in "OS"
        self.tail = form.tail
        self.width = form.width
        self._flat: list[Any] | None = None

    def as_json(self, start: int, rows: int) -> bytes:
        if self.is_text and self.is_batched:
            # Bytes that are no text fail the request whose rows they are, not the batch it happened to be in.
            values = _plain(self.array[start : start + rows])
            return b"".join((self.head, b"%d" % rows, self.tail, b'],"data":', _encode(values), b"}"))
        if self._flat is None:
            self._flat = _plain(self.array)
        if not self.is_batched:
            return b"".join((self.head, self.tail, b'],"data":', _encode(self._flat), b"}"))
        values = self._flat[start * self.width : (start + rows) * self.width]
        return b"".join((self.head, b"%d" % rows, self.tail, b'],"data":', _encode(values), b"}"))

    def as_binary(self, start: int, rows: int) -> tuple[bytes, bytes]:
        data = write_tensor(self.array[start : start + rows] if self.is_batched else self.array)
        count = b"%d" % rows if self.is_batched else b""
        size = b'],"parameters":{"binary_data_size":%d}}' % len(data)
        return b"".join((self.head, count, self.tail, size)), data


class BatchReply:
    """The answers of one engine call, cut out one request at a time."""

    __slots__ = ("_columns", "_prefix")

    def __init__(self, prefix: bytes, columns: dict[str, _Column]) -> None:
        self._prefix = prefix
        self._columns = columns

    def write(self, request: InferRequest, start: int) -> tuple[bytes, int]:
        """Return the answer to `request`, whose rows begin at `start`: body and length of its JSON part, -1 for all."""
        rows = request.rows
        names = request.outputs or self._columns
        prefix = self._prefix
        if request.id is not None:
            prefix += b'"id":%b,' % _encode(request.id)
        prefix += b'"outputs":['
        if not request.binary_all and not request.binary:
            texts = [self._columns[name].as_json(start, rows) for name in names]
            return b"".join((prefix, b",".join(texts), b"]}")), -1
        texts, raws = [], []
        for name in names:
            if request.binary.get(name, request.binary_all):
                text, raw = self._columns[name].as_binary(start, rows)
                raws.append(raw)
            else:
                text = self._columns[name].as_json(start, rows)
            texts.append(text)
        head = b"".join((prefix, b",".join(texts), b"]}"))
        return (b"".join((head, *raws)), len(head)) if raws else (head, -1)


class ReplyWriter:
    """Writes the answers of one model. `batches`: outputs are cut along their first dimension."""

    def __init__(self, model_name: str, model_version: str, *, batches: bool) -> None:
        self._prefix = b'{"model_name":%b,"model_version":%b,' % (_encode(model_name), _encode(model_version))
        self._batches = batches
        self._forms: dict[tuple[str, str, tuple[int, ...]], _Form] = {}

    def batch(self, outputs: Mapping[str, Array]) -> BatchReply:
        """Prepare the answers to the requests that went through the engine together."""
        return BatchReply(self._prefix, {name: self._column(name, array) for name, array in outputs.items()})

    def _column(self, name: str, array: Array) -> _Column:
        key = (name, array.dtype.str, array.shape[1:] if self._batches else array.shape)
        form = self._forms.get(key)
        if form is None:
            if len(self._forms) >= FORMS_MAX:  # a model whose outputs change their shape with every call
                self._forms.clear()
            form = self._forms[key] = _Form(name, array, is_batched=self._batches)
        return _Column(form, array)


def _plain(array: Array) -> list[Any]:
    """Return `array` as a flat list of what JSON has. Raises EngineFailed for bytes that are no text."""
    values: list[Any] = array.reshape(-1).tolist()
    if array.dtype.kind not in "OS":
        return values
    try:
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
    except UnicodeDecodeError as wrong:
        raise EngineFailed("an output holds bytes that are not UTF-8; ask for binary_data") from wrong
