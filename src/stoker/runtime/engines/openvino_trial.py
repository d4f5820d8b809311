"""Whether the pipeline can hold an answer to a grammar, found out where nothing can break.

A grammar that does not compile raises out of the pipeline's `step`, and every request of that step is lost with it
(seen: "this function cannot be called when we are already in scheduling phase", for ever after). So each new grammar
is tried first in a pipeline of its own: the same tokenizer before a model of one layer that answers nothing sensible
(0.1 s to load, some MB; a trial takes 1 to 90 ms).
"""

import struct
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from stoker.runtime.engines.openvino_wire import Form, Grammar

PROOFS_MAX = 256
_HIDDEN = 64
_ALIGNMENT = 32
_F32, _F16 = 0, 1


def output_config(module: Any, grammar: Grammar) -> Any:
    """Return `grammar` as the pipeline takes it."""
    config = module.StructuredOutputConfig()
    kind = module.StructuredOutputConfig

    def part(form: Form) -> Any:
        return kind.EBNF(form.ebnf) if form.ebnf else kind.JSONSchema(form.schema)

    if grammar.form is not None:
        config.compound_grammar = part(grammar.form)
        return config
    answer = None
    for name, arguments in grammar.calls:
        begin = kind.ConstString(f'{{"name":"{name}","arguments":')
        call = begin + part(arguments) + kind.ConstString("}")
        answer = call if answer is None else answer | call
    if grammar.may_be_text:
        answer = answer | kind.Regex("[^{](.|\\n)*")
    config.compound_grammar = answer
    return config


class Trials:
    """Tries grammars; what was found out is remembered for the last PROOFS_MAX."""

    def __init__(self, module: Any, runtime: Any, tokenizer: Any, vocabulary: int) -> None:
        self._module = module
        self._runtime = runtime
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._pipeline: Any = None
        self._known: OrderedDict[Grammar, str] = OrderedDict()

    def problem(self, grammar: Grammar) -> str:
        """Return why `grammar` cannot be enforced, "" when it can; blocks."""
        if grammar not in self._known:
            if len(self._known) >= PROOFS_MAX:
                self._known.popitem(last=False)
            self._known[grammar] = self._try(grammar)
        self._known.move_to_end(grammar)
        return self._known[grammar]

    def _try(self, grammar: Grammar) -> str:
        if self._pipeline is None:
            self._pipeline = self._load()
        config = self._module.GenerationConfig()
        config.max_new_tokens = 1
        config.structured_output_config = output_config(self._module, grammar)
        prompt = self._runtime.Tensor(np.zeros((1, 1), np.int64))
        handle = self._pipeline.add_request(0, prompt, config)
        try:
            while self._pipeline.has_non_finished_requests():
                self._pipeline.step()
        except RuntimeError as refused:
            self._pipeline = None  # cheaper to make again than to trust
            return last_words(refused)
        return "" if handle.can_read() else "no answer is possible under it"

    def _load(self) -> Any:
        config = self._module.SchedulerConfig()
        config.num_kv_blocks, config.max_num_seqs, config.max_num_batched_tokens = 4, 1, 16
        with tempfile.TemporaryDirectory(prefix="stoker-trial-") as folder:
            path = Path(folder) / "trial.gguf"
            write_model(path, self._vocabulary)
            return self._module.ContinuousBatchingPipeline(str(path), self._tokenizer, config, "CPU", **on_threads(1))


def on_threads(count: int) -> dict[str, Any]:
    """Return the settings of a pipeline that computes with `count` threads.

    With bf16 or f16, to which processors with AMX default, OpenVINO 2026.4 joins the layers of an MLP in a node that
    gives one half of the work to half of the threads: with one thread it divides by zero, and the process is gone.
    """
    return {"INFERENCE_NUM_THREADS": count, **({"INFERENCE_PRECISION_HINT": "f32"} if count == 1 else {})}


def last_words(raised: Exception) -> str:
    """Return what a C++ exception says, without the places in its source."""
    lines = [line.strip() for line in str(raised).strip().splitlines() if line.strip()]
    words = lines[-1] if lines else type(raised).__name__
    for mark in (": Check failed: ", ".cc:", ".cpp:", ".hpp:"):
        if mark in words:
            words = words.partition(mark)[2]
            words = words.partition(": ")[2] or words
    return words[:300]


def write_model(path: Path, vocabulary: int) -> None:
    """Write a llama model of one layer and all zeros as GGUF (layout: ggml's docs/gguf.md); a sparse file."""
    sizes = {"block_count": 1, "context_length": 2048, "embedding_length": _HIDDEN, "feed_forward_length": _HIDDEN}
    sizes |= {"attention.head_count": 1, "attention.head_count_kv": 1, "rope.dimension_count": _HIDDEN}
    sizes |= {"vocab_size": vocabulary}
    pairs = [_text("general.architecture") + struct.pack("<I", 8) + _text("llama")]
    pairs += [_text("general.file_type") + struct.pack("<II", 4, 1)]
    pairs += [_text(f"llama.{name}") + struct.pack("<II", 4, value) for name, value in sizes.items()]
    pairs += [_text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5)]
    pairs += [_text("llama.rope.freq_base") + struct.pack("<If", 6, 10_000.0)]
    weights = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    tensors = [("token_embd", (_HIDDEN, vocabulary), _F16)]
    tensors += [(f"blk.0.{name}", (_HIDDEN, _HIDDEN), _F16) for name in weights]
    norms = ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")
    entries, offset = b"", 0
    for name, shape, kind in [*tensors, *((name, (_HIDDEN,), _F32) for name in norms)]:
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        entries += _text(f"{name}.weight") + dimensions + struct.pack("<IQ", kind, offset)
        offset += -(-int(np.prod(shape)) * (2 if kind == _F16 else 4) // _ALIGNMENT) * _ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors) + len(norms), len(pairs)) + b"".join(pairs) + entries
    head += bytes(-len(head) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + offset)


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()
