"""Where replicas are put: drivers behind one port."""
