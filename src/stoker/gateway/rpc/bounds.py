"""Every bound of the gRPC port, and how gRPC is told. Imports nothing of gRPC: the page of limits reads it too."""

from typing import Final

from stoker.gateway.http.connection import Limits
from stoker.gateway.relay import ANSWER_MAX_BYTES

# Endpoints say how much each takes (Limits.max_body), which is looked at once the message names one; this bounds what
# is read before. Endpoints with a larger limit take larger bodies over HTTP.
MESSAGE_MAX_BYTES: Final = 256 << 20
CALLS_MAX: Final = 8192  # a process, of all connections; more are refused
STREAMS_MAX: Final = 1024  # of one connection; a client's further calls wait in the client
STREAM_AHEAD_MAX: Final = 64  # requests of one stream in work or answered but not yet written; then it is not read
METADATA_BYTES: Final = 16 << 10  # of one call; over this some are refused, over the next all
METADATA_MAX_BYTES: Final = 32 << 10
IDLE_S: Final = 300
# Clients keep one connection for ever, so after a gateway's restart its siblings would keep all of them. After this
# (10 % around it) a client is told to connect anew; what runs on the old connection goes on.
AGE_S: Final = 600
PING_AFTER_S: Final = 60  # a client whose machine is gone holds nothing longer than these two
PONG_WITHIN_S: Final = 20
CLIENT_PING_S: Final = 10  # a client may ping so often
OPTIONS: Final = (
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),
    ("grpc.max_send_message_length", ANSWER_MAX_BYTES + (1 << 20)),
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_MAX_BYTES),
    ("grpc.max_allowed_incoming_connections", Limits().connections_max),
    ("grpc.server_handshake_timeout_ms", int(Limits().head_s * 1000)),  # for a connection's first bytes
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    ("grpc.max_connection_idle_ms", IDLE_S * 1000),
    ("grpc.max_connection_age_ms", AGE_S * 1000),
    ("grpc.keepalive_time_ms", PING_AFTER_S * 1000),
    ("grpc.keepalive_timeout_ms", PONG_WITHIN_S * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", CLIENT_PING_S * 1000),
)
