"""The settings of a platform of several machines: where they reach control, how long their certificates hold."""

from typing import Annotated

import msgspec

from stoker.app.setting import setting


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """See the module; a part of Settings."""

    nodes: Annotated[
        str,
        setting(
            "STOKER_NODES",
            "HOST:PORT",
            "where other machines reach control to join this platform, such as 10.0.0.1:7443; empty: one machine alone",
            pattern=r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}",
        ),
    ] = ""
    node_certificate_s: Annotated[
        float,
        setting("STOKER_NODE_CERTIFICATE", "seconds", "how long a node's certificate holds", ge=10, le=7_776_000),
    ] = 86_400.0
