"""Wire formats: frames between processes, OpenAI and Open Inference Protocol bodies, manifests."""
