"""Language-model engines: one conformance suite over every adapter, and what is particular to each."""
