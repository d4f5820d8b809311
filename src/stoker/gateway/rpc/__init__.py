"""The Open Inference Protocol over gRPC, through the same layers as HTTP; loaded only where a port for it is set."""
