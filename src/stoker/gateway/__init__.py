"""The data plane: HTTP in, frames to replicas."""
