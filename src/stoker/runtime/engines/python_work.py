"""The three shapes of work behind the `python` engine: the user's object, with its answers checked."""

import inspect
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from time import monotonic
from typing import Any

import msgspec
import numpy as np

from stoker.core.failover import tokens_left
from stoker.protocol.oip_binary import DTYPES
from stoker.protocol.openai import ChatRequest, CompletionRequest, texts_or_tokens
from stoker.runtime.engines.port import Array, Embeddings
from stoker.runtime.engines.python_stream import SideLoop
from stoker.types.errors import EngineFailed, Unsupported
from stoker.types.generation import Delta, Final, Finish, Resume
from stoker.types.models import Signature
from stoker.types.replica import Usage

_log = logging.getLogger(__name__)


class PythonPredict:
    """A PredictEngine over the user's `predict`."""

    may_inline = False  # it may wait for anything

    def __init__(self, model: Any, signature: Signature, *, batches: bool) -> None:
        self.signature = signature
        self.batches = batches
        self._model = model
        self._dtypes = {spec.name: DTYPES[spec.datatype] for spec in signature.outputs}

    def predict(self, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> dict[str, Array]:
        """See PredictEngine."""
        # Some arrays lie in the request's own bytes and cannot be written to; a model may want to.
        given = {name: array if array.flags.writeable else array.copy() for name, array in inputs.items()}
        found = _called(self._model.predict, given)
        if not isinstance(found, Mapping):
            raise EngineFailed(f"predict returned {type(found).__name__}; expected a dict of output names to arrays")
        missing = self._dtypes.keys() - found.keys()
        if missing:
            raise EngineFailed(f"predict returned {sorted(found)}; {sorted(missing)} missing")
        return {name: _as(name, found[name], self._dtypes[name]) for name in outputs or self._dtypes}

    def close(self) -> None:
        """See PredictEngine."""
        _closed(self._model)


class PythonEmbed:
    """An EmbedEngine over the user's `embed`. Tokens are counted in words, as no tokenizer is known."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.dimensions = 0
        self.dimensions = int(self.embed(["dimensions"]).vectors.shape[1])

    def embed(self, texts: list[str]) -> Embeddings:
        """See EmbedEngine."""
        vectors = _as("vectors", _called(self._model.embed, texts), DTYPES["FP32"])
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise EngineFailed(f"embed returned the shape {list(vectors.shape)} for {len(texts)} texts")
        return Embeddings(vectors, [len(text.split()) for text in texts])

    def close(self) -> None:
        """See EmbedEngine."""
        _closed(self._model)


class PythonGenerate:
    """A GenerateEngine over the user's async `generate`. Each piece counts as one token."""

    context_tokens = 0

    def __init__(self, model: Any, slots: int) -> None:
        self.slots = slots
        self._model = model
        self._side = SideLoop()

    def generate(self, request: ChatRequest | CompletionRequest) -> AsyncIterator[Delta | Finish | Final]:
        """See GenerateEngine."""
        return self._answer(request, lambda: self._model.generate(request), 0)

    async def _answer(
        self, request: ChatRequest | CompletionRequest, ask: Callable[[], Any], count: int
    ) -> AsyncIterator[Delta | Finish | Final]:
        if (request.n or 1) > 1:
            raise Unsupported("this model gives one choice a request", field="n")
        if isinstance(request, CompletionRequest) and len(texts_or_tokens(request.prompt, "prompt")) > 1:
            raise Unsupported("this model takes one prompt a request", field="prompt")
        start_s = monotonic()
        first_s = 0.0
        source = _called(ask)
        if not hasattr(source, "__aiter__"):
            if inspect.iscoroutine(source):
                source.close()
            raise EngineFailed(f"generate returned a {type(source).__name__}; expected an async generator (yield text)")
        pieces = self._side.iterate(source)
        try:
            async for piece in pieces:
                if not isinstance(piece, str):
                    raise EngineFailed(f"generate yielded {type(piece).__name__}; expected str")
                first_s = first_s or monotonic()
                count += 1
                yield Delta(text=piece)
        except EngineFailed:
            raise
        except Exception as problem:  # the user's own code
            _log.exception("generate raised")
            raise EngineFailed(f"{type(problem).__name__}: {problem}") from problem
        finally:
            await pieces.aclose()
        first_s = first_s or monotonic()
        yield Finish(0, "stop")
        yield Final(Usage(output_tokens=count), prefill_s=first_s - start_s, decode_s=monotonic() - first_s)

    def kv_used_ratio(self) -> float:
        """See GenerateEngine."""
        return 0.0

    def close(self) -> None:
        """See GenerateEngine."""
        self._side.close()
        _closed(self._model)


class PythonResume(PythonGenerate):
    """A CanResume over the user's `resume`, which is given the request, with what is left of max_tokens, and a text."""

    def resume(self, request: ChatRequest | CompletionRequest, so_far: Resume) -> AsyncIterator[Delta | Finish | Final]:
        """See CanResume."""
        made = len(so_far.pieces)
        changed: dict[str, Any] = {}
        for name in ("max_tokens", "max_completion_tokens"):
            left = tokens_left(getattr(request, name, None), made)
            if left is not None:
                changed[name] = left
        if 0 in changed.values():
            return _ended(made)
        rest = msgspec.structs.replace(request, **changed)
        return self._answer(rest, lambda: self._model.resume(rest, so_far.text), made)


async def _ended(made: int) -> AsyncIterator[Delta | Finish | Final]:
    """Yield the end of an answer that has all its tokens."""
    yield Finish(0, "length")
    yield Final(Usage(output_tokens=made))


def _called(method: Any, *arguments: Any) -> Any:
    """Call the user's code; raise EngineFailed with its words, and log its traceback."""
    try:
        return method(*arguments)
    except (Exception, SystemExit) as problem:  # the user's own code
        _log.exception("the model raised")
        raise EngineFailed(f"{type(problem).__name__}: {problem}") from problem


def _closed(model: Any) -> None:
    close = getattr(model, "close", None)
    if callable(close):
        try:
            close()
        except Exception:  # the user's own code, at the process' end
            _log.exception("closing the model raised")


def _as(name: str, value: Any, dtype: np.dtype[Any]) -> Array:
    """Return what the model gave for one output in the signature's type."""
    try:
        array = np.asarray(value)
        if dtype.kind != "O":
            return array.astype(dtype, casting="same_kind", copy=False)
    except (TypeError, ValueError) as wrong:
        raise EngineFailed(f"{name!r} does not become {dtype}: {wrong}") from wrong
    found = np.empty(array.size, object)
    found[:] = [item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1)]
    return found.reshape(array.shape)
