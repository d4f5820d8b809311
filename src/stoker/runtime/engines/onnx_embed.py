"""The `onnx` engine for `embed`: an encoder with its tokenizer, pooled into one vector a text.

Texts are run in groups of about one length, so that short ones are not padded to the longest, and in at most
TOKENS_MAX padded tokens a run, because attention memory grows with the square of the length.
"""

import os
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
from tokenizers import Encoding, Tokenizer

from stoker.runtime.engines.onnx_session import SessionOptions, first_line
from stoker.runtime.engines.onnx_threads import Feeds, open_fitting
from stoker.runtime.engines.port import Array, Embeddings, Progress
from stoker.runtime.options import read
from stoker.types.errors import EngineFailed, InvalidInput, RefusedArtifact
from stoker.types.replica import ReplicaSpec

TOKENS_MAX: Final = 4096  # padded tokens in one run; at 512 tokens a text attention then takes about 100 MB
GROUP_MIN: Final = 16  # tokens; texts up to this length share a group
DEFAULT_TOKENS: Final = 512
MEASURE_TOKENS: Final = 32  # of a text that thread counts are measured with: a question, a title
PARALLEL_CORES: Final = 4  # the tokenizer's own threads pay from here on
KNOWN_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")


class Options(SessionOptions, frozen=True, forbid_unknown_fields=True):
    """What can be set, over what the model's own files say and what all ONNX models take.

    pooling: how token vectors become one; none when the model does it. normalize: to length 1. max_tokens: of one
    text, special ones counted. truncate: whether longer texts are cut (and counted as cut) or refused. tokenizer: its
    file.
    """

    pooling: Literal["mean", "cls", "none"] = "mean"
    normalize: bool = True
    max_tokens: int = 0
    truncate: bool = True
    tokenizer: str = "tokenizer.json"


class OnnxEmbedEngine:
    """An EmbedEngine over one session."""

    def __init__(self, session: Any, tokenizer: Tokenizer, options: Options, max_tokens: int, about: str = "") -> None:
        self.about = about
        self._session = session
        self._tokenizer = tokenizer
        self._options = options
        self._max_tokens = max_tokens
        self._dtypes = {
            node.name: np.int32 if node.type == "tensor(int32)" else np.int64 for node in session.get_inputs()
        }
        outputs = session.get_outputs()
        pooled = [node for node in outputs if len(node.shape) == 2]
        token_level = [node for node in outputs if len(node.shape) == 3]
        self._is_pooled = not token_level
        self._output = (token_level or pooled)[0].name
        probe = tokenizer.encode("dimensions")
        self.dimensions = int(self._run([probe], len(probe.ids)).shape[1])

    def embed(self, texts: list[str]) -> Embeddings:
        """See EmbedEngine."""
        encodings = self._tokenizer.encode_batch(texts)
        tokens = [len(encoding.ids) for encoding in encodings]
        if not self._options.truncate:
            for at, count in enumerate(tokens):
                if count > self._max_tokens:
                    raise InvalidInput(
                        f"a text of {count} tokens; this model takes {self._max_tokens}", field=f"input[{at}]"
                    )
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for group in _groups(tokens):
            vectors[group] = self._run([encodings[at] for at in group], max(tokens[at] for at in group))
        return Embeddings(vectors, tokens)

    def close(self) -> None:
        """See EmbedEngine."""

    def _run(self, encodings: list[Encoding], length: int) -> Array:
        """Return one vector for each encoding, padded to `length`: float32 [n, dim]."""
        ids = np.zeros((len(encodings), length), np.int64)
        mask = np.zeros((len(encodings), length), np.int64)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        inputs = {name: given[name].astype(dtype, copy=False) for name, dtype in self._dtypes.items()}
        try:
            (found,) = self._session.run([self._output], inputs)
        except Exception as failed:  # the runtime raises a dozen unrelated types
            raise EngineFailed(f"ONNX Runtime: {first_line(failed)}") from failed
        vectors: Array = found
        if not self._is_pooled and self._options.pooling == "cls":
            vectors = found[:, 0]
        elif not self._is_pooled:
            weights = mask[:, :, None].astype(np.float32)
            vectors = (found * weights).sum(axis=1) / weights.sum(axis=1)
        if self._options.normalize:
            # A vector of zeros has no direction; it stays as it is.
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors.astype(np.float32, copy=False)


def load(spec: ReplicaSpec, progress: Progress) -> OnnxEmbedEngine:
    """See engines.port."""
    options = read(spec, Options)
    folder = Path(spec.model_dir)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if spec.cores >= PARALLEL_CORES else "false"
    progress("tokenizer", 0.0)
    tokenizer, of_tokenizer = _open_tokenizer(folder / options.tokenizer)
    max_tokens = options.max_tokens or _config_tokens(folder) or of_tokenizer or DEFAULT_TOKENS
    tokenizer.no_padding()
    if options.truncate:
        tokenizer.enable_truncation(max_tokens)
    else:
        tokenizer.no_truncation()
    progress("weights", 0.0)
    session, about = open_fitting(folder / spec.manifest.entry, spec, options, _texts)
    _check(session)
    try:
        engine = OnnxEmbedEngine(session, tokenizer, options, max_tokens, about)
    except EngineFailed as failed:
        raise RefusedArtifact(f"the model does not embed: {failed.message}") from failed
    progress("weights", 1.0)
    return engine


def _texts(session: Any) -> Feeds:
    """Return what makes inputs to measure with: texts of MEASURE_TOKENS."""
    dtypes = {node.name: np.int32 if node.type == "tensor(int32)" else np.int64 for node in session.get_inputs()}

    def feeds(rows: int) -> dict[str, Array]:
        if rows * MEASURE_TOKENS > TOKENS_MAX:
            return {}
        return {name: np.ones((rows, MEASURE_TOKENS), dtype) for name, dtype in dtypes.items()}

    return feeds


def _groups(tokens: list[int]) -> list[list[int]]:
    """Return the positions of texts that run together: lengths within a factor of two, at most TOKENS_MAX a run."""
    groups: list[list[int]] = []
    limit = 0  # longest text the current group takes
    for at in sorted(range(len(tokens)), key=tokens.__getitem__):
        count = tokens[at]
        if not groups or count > limit or (len(groups[-1]) + 1) * count > TOKENS_MAX:
            groups.append([])
            limit = max(GROUP_MIN, 1 << (count - 1).bit_length())
        groups[-1].append(at)
    return groups


def _open_tokenizer(path: Path) -> tuple[Tokenizer, int]:
    """Return the tokenizer and the length it truncates to by itself, 0 for none."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as broken:  # the binding raises bare Exception
        raise RefusedArtifact(
            f"{path.name}: {broken}; an embedding model needs its tokenizer.json beside it"
        ) from broken
    truncation = tokenizer.truncation
    return tokenizer, int(truncation["max_length"]) if truncation else 0


class _SentenceConfig(msgspec.Struct):
    max_seq_length: int = 0


def _config_tokens(folder: Path) -> int:
    """Return the length that sentence-transformers was told to use, 0 when it is not said."""
    try:
        data = (folder / "sentence_bert_config.json").read_bytes()
        return msgspec.json.decode(data, type=_SentenceConfig).max_seq_length
    except (OSError, msgspec.DecodeError):
        return 0


def _check(session: Any) -> None:
    unknown = [node.name for node in session.get_inputs() if node.name not in KNOWN_INPUTS]
    if unknown:
        raise RefusedArtifact(f"the model takes {unknown}; an embedding model takes {list(KNOWN_INPUTS)}")
    if not any(len(node.shape) in (2, 3) for node in session.get_outputs()):
        raise RefusedArtifact("the model has no output of token vectors or of one vector a text")
