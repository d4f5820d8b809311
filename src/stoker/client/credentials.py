"""Where control and the gateways answer and with which key, as the state folder holds it for the command line."""

from pathlib import Path

import msgspec

from stoker.client.connection import Connection
from stoker.types.errors import InvalidInput, NotReachable


class Credentials(msgspec.Struct, frozen=True):
    """The file `credentials.json` (mode 600), written by control at its first start."""

    api: str  # http://127.0.0.1:PORT+1
    gateway: str  # http://127.0.0.1:PORT
    key: str
    api_socket: str = ""
    key_id: str = ""
    gateway_cert: str = ""  # the file with the certificate that the gateways show; "": they speak HTTP

    def control_base(self) -> str:
        """Return the address of control: its socket where that is on this machine, else its port."""
        if self.api_socket and Path(self.api_socket).is_socket():
            return f"unix:{self.api_socket}"
        return self.api


def read_credentials(path: Path) -> Credentials:
    """Return the credentials in `path`.

    Raises:
        NotReachable: there are none, so nothing was ever started from this state folder.
        InvalidInput: the file cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except FileNotFoundError as missing:
        raise NotReachable(f"no stoker was started from {path.parent}") from missing
    except OSError as refused:
        raise InvalidInput(f"{path} cannot be read: {refused.strerror}") from refused
    except msgspec.MsgspecError as wrong:
        raise InvalidInput(f"{path} is not a credentials file: {wrong}") from wrong


def control_connection(credentials: Credentials) -> Connection:
    """Return the connection to control that these credentials open."""
    return Connection(credentials.control_base(), credentials.key)
