"""The server that clients talk to: sockets, HTTP/1.1, TLS, limits."""
