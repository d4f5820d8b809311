"""The language-model engine without the platform: llama.cpp's own HTTP server, with the settings stoker gives it.

python -m bench.baselines.llamacpp MODEL.gguf [--port N] [--context N] [--slots N] [--threads N] [--own-defaults]

The same engine, model and settings, so that what a comparison shows is the platform and nothing else.
"""

import argparse
import json
import signal
from pathlib import Path

from stoker.runtime.engines.llamacpp_load import CONTEXT_DEFAULT, LlamaOptions, import_engine, parameters, usable_cores


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--context", type=int, default=CONTEXT_DEFAULT)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--own-defaults", action="store_true", help="steps, threads and caches as the engine has them")
    chosen = parser.parse_args()
    options = LlamaOptions(context=chosen.context, slots=chosen.slots, threads=chosen.threads)
    module = import_engine()
    params = parameters(module, chosen.model, options, chosen.context, usable_cores())
    if chosen.own_defaults:
        as_it_comes = module.CommonParams()
        params.n_batch, params.n_ubatch = as_it_comes.n_batch, as_it_comes.n_ubatch
        params.cache_ram_mib = as_it_comes.cache_ram_mib
        threads = chosen.threads or max(1, int(usable_cores()))  # the engine's own: one a core
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.hostnames, params.port = ["127.0.0.1"], chosen.port
    # What only makes sense with stoker in front of it is as the engine has it: without its own parser it would ignore
    # response_format.
    params.n_threads_http = -1
    params.force_pure_content_parser = False
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    server = module.Server(params)
    print(json.dumps({"port": int(server.listening_address.rpartition(":")[2])}), flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
