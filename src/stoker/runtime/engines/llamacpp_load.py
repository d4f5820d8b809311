"""How llama.cpp is brought up inside a replica: options, threads, environment, and why a load failed.

Measured on two cores (SmolLM2-135M, Q4): with the default spin of OpenMP's threads and one busy neighbour, three tiny
requests did not finish in 140 s; with GOMP_SPINCOUNT=10000 they do, at 5 % less speed when alone. One thread fewer than
there are cores keeps its speed beside a neighbour. Both are the default here.

The binding holds Python's lock while it loads, so a replica answers no ping meanwhile: 0.7 s for 100 MB, whose bytes
the digest check has already brought into memory.
"""

import contextlib
import http.client
import importlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stoker.runtime.engines.cores import usable_cores
from stoker.runtime.engines.port import Progress
from stoker.types.errors import EngineFailed, InvalidInput, RefusedArtifact, Unsupported
from stoker.types.replica import ReplicaSpec

CONTEXT_DEFAULT = 4096
SPIN_COUNT = "10000"
# How much of a prompt a slot's last one must share for it to take that slot rather than the one idle longest.
# With the engine's default of 0.1, conversations with a common system prompt take the same slot in turns, each reading
# its whole text again, while the other slots lie idle.
SLOT_SIMILARITY = 0.5
TAIL_LINES_MAX = 200
LAST_WORDS_TIMEOUT_S = 2.0
_LAST_WORDS = "exiting due to"
_NOISE = re.compile(r"^[\d.]+ [EWI] +")


class LlamaOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Engine options of a GGUF endpoint."""

    # Tokens of prompt and answer together, for each request; by default 4096, or what the model was trained with.
    context: Annotated[int, Meta(ge=64, le=2**20)] | None = None
    slots: Annotated[int, Meta(ge=1, le=256)] = 4  # requests worked on at once; each takes `context` of memory
    threads: Annotated[int, Meta(ge=1, le=1024)] | None = None
    # Prompt tokens taken in one step. A step freezes every stream, and ends before an abort is seen: 2048 (the engine's
    # own default) froze them for 8.9 s where 64 took 1.1 s. 128 costs what 256 does (16 s of processor for a prompt of
    # 1,500 tokens and four answers) and freezes half as long (7 s against 13 on a machine five times overloaded); 64
    # costs a quarter more.
    batch_tokens: Annotated[int, Meta(ge=16, le=8192)] = 128
    # Host memory for prompts of past requests. The engine's own default is 8192 MiB, which no memory limit foresees.
    prompt_cache_mib: Annotated[int, Meta(ge=0, le=2**20)] = 0
    cache_type: Literal["f16", "q8_0", "q4_0"] = "f16"  # how attention keys and values are kept
    chat_template: str | None = None  # Jinja text, instead of the model's own


class Loaded(msgspec.Struct, frozen=True):
    """A running engine and what it said about its model."""

    server: Any
    module: Any
    path: Path
    slots: int
    context_tokens: int
    vocabulary: int


class _Meta(msgspec.Struct):
    n_vocab: int = 0
    n_ctx: int = 0
    n_ctx_train: int = 0


class _Entry(msgspec.Struct):
    meta: _Meta | None = None


class _Listing(msgspec.Struct):
    data: list[_Entry] = []


def bring_up(spec: ReplicaSpec, options: LlamaOptions, progress: Progress) -> Loaded:
    """Load the model and return the running engine; blocks. Raises RefusedArtifact with the engine's own reason."""
    progress("engine", 0.0)
    module = import_engine()
    path = Path(spec.model_dir) / spec.manifest.entry
    known = spec.manifest.metadata.get("context_length")
    context = _context(options, known if isinstance(known, int) else 0)
    progress("weights", 0.05)
    server, meta = _start(module, path, options, context, spec.cores)
    fitting = _context(options, meta.n_ctx_train)
    if fitting < context:  # what was registered did not say how long the model's context is
        del server
        context = fitting
        server, meta = _start(module, path, options, context, spec.cores)
    if meta.n_ctx and meta.n_ctx < context:
        raise EngineFailed(f"the engine gave each request {meta.n_ctx} tokens of context instead of {context}")
    return Loaded(server, module, path, options.slots, meta.n_ctx or context, meta.n_vocab)


def _context(options: LlamaOptions, trained: int) -> int:
    """Return each request's context, for a model trained with `trained` tokens (0: unknown). Raises InvalidInput."""
    if options.context is not None and 0 < trained < options.context:
        raise InvalidInput(
            f"context is {options.context} tokens, but the model was trained with {trained}; lower the option",
            field="options.context",
        )
    return options.context or min(CONTEXT_DEFAULT, trained or CONTEXT_DEFAULT)


def thread_count(wanted: int | None, spec_cores: float, usable: float) -> int:
    """Return the engine's threads: what the replica was given, and never the machine's last core unless asked to."""
    return wanted or max(1, min(int(spec_cores), int(usable) - 1))


def import_engine() -> Any:
    """Import llama.cpp with the spin bounded: OpenMP reads the variable once, when its library is loaded."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    try:
        return importlib.import_module("xllamacpp")
    except ImportError as missing:
        raise Unsupported(f"the engine llamacpp needs xllamacpp ({missing}); install stoker[llama]") from missing


def parameters(module: Any, path: Path, options: LlamaOptions, context: int, cores: float) -> Any:
    """Return the engine's parameters, all but where it listens and with which key."""
    params = module.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context * options.slots  # divided by the engine between its slots
    params.n_parallel = options.slots
    params.kv_unified = False
    params.slot_prompt_similarity = SLOT_SIMILARITY
    params.n_batch = params.n_ubatch = options.batch_tokens
    threads = thread_count(options.threads, cores, usable_cores())
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = options.prompt_cache_mib
    kind = getattr(module.ggml_type, f"GGML_TYPE_{options.cache_type.upper()}")
    params.cache_type_k = params.cache_type_v = kind
    if options.chat_template is not None:
        params.chat_template = options.chat_template
    # Calls and thoughts are read by us, in one way for every model; the engine's parsers differ by template.
    params.force_pure_content_parser = True
    params.reasoning_format = module.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    params.prefill_assistant = False  # a conversation that ends with the assistant gets a new answer, as at OpenAI
    params.verbosity = 1
    params.ui = False
    params.ui_mcp_proxy = False
    params.server_tools = []
    params.endpoint_slots = params.endpoint_props = params.endpoint_metrics = False
    params.cors_origins = params.cors_methods = params.cors_headers = ""
    params.cors_credentials = False
    params.n_threads_http = 1
    params.offline = True
    return params


def _start(module: Any, path: Path, options: LlamaOptions, context: int, cores: float) -> tuple[Any, _Meta]:
    # The engine always listens. It is given a socket in a private folder, asked one question, and the name is removed:
    # nobody can connect afterwards, and a kill leaves nothing behind.
    folder = tempfile.mkdtemp(prefix="stoker-llama-")
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    address = (
        f"/proc/self/fd/{handle}/engine.sock"  # a socket's path is 107 bytes long at most; the folder may lie deep
    )
    key = secrets.token_hex(32)
    try:
        params = parameters(module, path, options, context, cores)
        params.hostnames = [address]
        params.api_keys = [key]
        server, failure = None, None
        with stderr_tail() as tail:
            try:
                server = module.Server(params)
            except RuntimeError as failed:
                failure = failed
                _await_last_words(tail)
        if failure is not None:
            raise RefusedArtifact(f"llama.cpp cannot load {path.name}: {reason(tail) or failure}") from failure
        return server, _ask_meta(address, key)
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask_meta(path: str, key: str) -> _Meta:
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
        listing = msgspec.json.decode(connection.getresponse().read(), type=_Listing)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as failed:
        raise EngineFailed(f"the engine loaded the model but does not describe it: {failed}") from failed
    finally:
        connection.close()
    return (listing.data[0].meta if listing.data else None) or _Meta()


@contextlib.contextmanager
def stderr_tail() -> Iterator[deque[str]]:
    """Keep the last lines that anything in this process writes to file descriptor 2, and pass them on unchanged.

    Native code says why it failed only there. The lines are complete once the context is left.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES_MAX)
    original = os.dup(2)
    reading, writing = os.pipe()
    reader = threading.Thread(target=_copy_lines, args=(reading, original, tail), name="stderr-tail", daemon=True)
    os.dup2(writing, 2)
    os.close(writing)
    reader.start()
    try:
        yield tail
    finally:
        os.dup2(original, 2)  # closes the pipe's last writing end, which ends the reader
        reader.join(5)
        os.close(original)


def _await_last_words(tail: deque[str]) -> None:
    """Wait until the engine has said why it failed: it logs from a thread of its own, after it raised."""
    deadline_s = time.monotonic() + LAST_WORDS_TIMEOUT_S
    while time.monotonic() < deadline_s and not any(_LAST_WORDS in line for line in list(tail)):
        time.sleep(0.01)


def _copy_lines(reading: int, onward: int, tail: deque[str]) -> None:
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            tail.append(line.decode("utf-8", "replace").rstrip())
            with contextlib.suppress(OSError):
                os.write(onward, line)


def reason(tail: deque[str]) -> str:
    """Return what the engine's last words say of a failed load: its first two different errors."""
    words = dict.fromkeys(_NOISE.sub("", line) for line in tail if " E " in line)
    return "; ".join(list(words)[:2])
