"""What a GGUF model says of a given text: the probability of each token after those before it, by llama.cpp itself.

llama.cpp's server, which the engine embeds, tells the probabilities of what it writes and not of what it reads, and of
those only the most probable. Its C functions, which are in the same library, give all of them for every place in one
pass; so this loads the model beside the engine, as llama.h declares, and nothing else of the replica is used.

The structures of llama.h grow with its versions. Only their first members are named here, which have been the same
since 2024, the rest is room for what the library puts there; that it understood them is asked after.
"""

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stoker.runtime.engines.llamacpp_load import import_engine, reason, stderr_tail
from stoker.types.errors import EngineFailed, InvalidInput, RefusedArtifact, Unsupported
from stoker.types.likeness import Scored

TOKENS_MAX: Final = 1024  # of a text; what is longer is cut
WRITTEN_TOKENS: Final = 8  # written after each text, to time it
BATCH_TOKENS: Final = 256
ROWS_AT_ONCE: Final = 32  # of logits made probabilities: 32 rows of 256,000 tokens are 32 MiB
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int32


class _ModelParams(ctypes.Structure):
    """llama.h, struct llama_model_params, as the library fills it in."""

    _fields_ = (("all", ctypes.c_uint64 * 64),)


class _ContextParams(ctypes.Structure):
    """llama.h, struct llama_context_params."""

    _fields_ = (
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("n_seq_max", ctypes.c_uint32),
        ("rest", ctypes.c_uint64 * 64),
    )


class _Batch(ctypes.Structure):
    """llama.h, struct llama_batch."""

    _fields_ = (
        ("n_tokens", _INT),
        ("token", ctypes.POINTER(_INT)),
        ("embd", _POINTER),
        ("pos", ctypes.POINTER(_INT)),
        ("n_seq_id", ctypes.POINTER(_INT)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(_INT))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


_FUNCTIONS: Final[dict[str, tuple[Any, tuple[Any, ...]]]] = {
    "llama_backend_init": (None, ()),
    "llama_model_default_params": (_ModelParams, ()),
    "llama_context_default_params": (_ContextParams, ()),
    "llama_model_load_from_file": (_POINTER, (ctypes.c_char_p, _ModelParams)),
    "llama_init_from_model": (_POINTER, (_POINTER, _ContextParams)),
    "llama_model_get_vocab": (_POINTER, (_POINTER,)),
    "llama_model_n_ctx_train": (_INT, (_POINTER,)),
    "llama_n_ctx": (ctypes.c_uint32, (_POINTER,)),
    "llama_n_batch": (ctypes.c_uint32, (_POINTER,)),
    "llama_n_ubatch": (ctypes.c_uint32, (_POINTER,)),
    "llama_vocab_n_tokens": (_INT, (_POINTER,)),
    "llama_set_n_threads": (None, (_POINTER, _INT, _INT)),
    "llama_tokenize": (
        _INT,
        (_POINTER, ctypes.c_char_p, _INT, ctypes.POINTER(_INT), _INT, ctypes.c_bool, ctypes.c_bool),
    ),
    "llama_batch_init": (_Batch, (_INT, _INT, _INT)),
    "llama_decode": (_INT, (_POINTER, _Batch)),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), (_POINTER, _INT)),
    "llama_get_memory": (_POINTER, (_POINTER,)),
    "llama_memory_clear": (None, (_POINTER, ctypes.c_bool)),
}


class Scorer:
    """A loaded model. Every call blocks; one thread at a time."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load it. Raises RefusedArtifact with llama.cpp's own reason, Unsupported, EngineFailed."""
        self._llama = _library()
        with stderr_tail() as tail:
            self._model = self._llama.llama_model_load_from_file(
                str(path).encode(), self._llama.llama_model_default_params()
            )
        if not self._model:
            raise RefusedArtifact(f"llama.cpp cannot load {path.name}: {reason(tail) or 'it does not say why'}")
        trained = int(self._llama.llama_model_n_ctx_train(self._model))
        self._tokens_max = min(TOKENS_MAX, trained - WRITTEN_TOKENS if trained > WRITTEN_TOKENS else TOKENS_MAX)
        self._context = self._opened(threads)
        self._vocabulary = self._llama.llama_model_get_vocab(self._model)
        self._width = int(self._llama.llama_vocab_n_tokens(self._vocabulary))
        self._batch = self._llama.llama_batch_init(BATCH_TOKENS, 0, 1)

    def _opened(self, threads: int) -> Any:
        params = self._llama.llama_context_default_params()
        # The library rounds a context up to a whole number of its own.
        wanted = -(-(self._tokens_max + WRITTEN_TOKENS) // 256) * 256
        params.n_ctx, params.n_batch, params.n_ubatch = wanted, BATCH_TOKENS, BATCH_TOKENS
        context = self._llama.llama_init_from_model(self._model, params)
        if not context:
            raise EngineFailed("llama.cpp made no context for this model")
        got = tuple(int(ask(context)) for ask in (self._llama.llama_n_ctx, self._llama.llama_n_batch))
        if got != (wanted, BATCH_TOKENS) or int(self._llama.llama_n_ubatch(context)) != BATCH_TOKENS:
            raise Unsupported(f"this llama.cpp understands contexts in another way: {got} for {wanted}")
        self._llama.llama_set_n_threads(context, threads, threads)
        return context

    def score(self, text: str) -> Scored:
        """Return what the model says of `text`, cut after TOKENS_MAX tokens. Raises InvalidInput, EngineFailed."""
        tokens = self._tokens(text)
        self._llama.llama_memory_clear(self._llama.llama_get_memory(self._context), True)
        losses: list[float] = []
        best: list[int] = []
        read_s = 0.0
        for first in range(0, len(tokens), BATCH_TOKENS):
            batch = tokens[first : first + BATCH_TOKENS]
            read_s += self._decode(batch, first)
            # The last place of the text asks for a token that is not there.
            following = tokens[first + 1 : first + 1 + len(batch)]
            for row in range(0, len(following), ROWS_AT_ONCE):
                wanted = following[row : row + ROWS_AT_ONCE]
                logits = np.stack([self._logits(at) for at in range(row, row + len(wanted))])
                losses += _losses(logits, wanted)
                best += [int(token) for token in logits.argmax(axis=1)]
        written, write_s = self._write(len(tokens))
        return Scored(tokens, losses, best, round(read_s, 6), written, round(write_s, 6))

    def _tokens(self, text: str) -> list[int]:
        data = text.encode()
        room = len(data) + 16  # a token is a byte at least; a few mark the beginning
        found = (_INT * room)()
        count = int(self._llama.llama_tokenize(self._vocabulary, data, len(data), found, room, True, False))
        if count < 0:
            raise InvalidInput(f"llama.cpp cannot cut a text of {len(data)} bytes into tokens")
        return [int(token) for token in found[: min(count, self._tokens_max)]]

    def _write(self, position: int) -> tuple[int, float]:
        """Go on after the text, the most probable token each time; returns how many and the seconds."""
        if not position:
            return 0, 0.0
        spent_s = 0.0
        at = (position - 1) % BATCH_TOKENS  # the last place of the last batch
        for step in range(WRITTEN_TOKENS):
            token = int(self._logits(at).argmax())
            spent_s += self._decode([token], position + step)
            at = 0
        return WRITTEN_TOKENS, spent_s

    def _decode(self, tokens: Sequence[int], position: int) -> float:
        """Run the model over `tokens`; the logits of all are there until the next call. Returns seconds."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for at, token in enumerate(tokens):
            batch.token[at], batch.pos[at] = token, position + at
            batch.n_seq_id[at], batch.seq_id[at][0], batch.logits[at] = 1, 0, 1
        start_s = time.perf_counter()
        code = int(self._llama.llama_decode(self._context, batch))
        spent_s = time.perf_counter() - start_s
        if code:
            raise EngineFailed(f"llama.cpp could not read {len(tokens)} tokens at {position} (code {code})")
        return spent_s

    def _logits(self, at: int) -> npt.NDArray[np.float32]:
        """Return float32 [vocabulary]; it is the library's own memory."""
        pointer = self._llama.llama_get_logits_ith(self._context, at)
        if not pointer:
            raise EngineFailed("llama.cpp gave no probabilities: the model makes embeddings, or it is another kind")
        return np.ctypeslib.as_array(pointer, (self._width,))


def _losses(logits: npt.NDArray[np.float32], wanted: Sequence[int]) -> list[float]:
    """Return -ln p of the wanted token of each row; sums in double precision."""
    top = logits.max(axis=1, keepdims=True)
    whole = np.exp(logits - top).sum(axis=1, dtype=np.float64)
    chosen = logits[np.arange(len(wanted)), wanted] - top[:, 0]
    return [round(float(one), 6) for one in np.log(whole) - chosen]


def _library() -> Any:
    """Return the functions of the library that the engine is. Raises Unsupported."""
    import_engine()
    module = __import__("xllamacpp.xllamacpp", fromlist=["Server"])
    library = ctypes.CDLL(str(module.__file__))
    try:
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as missing:
        raise Unsupported(f"this llama.cpp has another set of functions: {missing}") from missing
    library.llama_backend_init()
    return library
