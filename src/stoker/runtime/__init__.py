"""The replica process: frames in, batches through an engine, frames out."""
