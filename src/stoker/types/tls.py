"""Which files TLS on the data plane is made of."""

import msgspec


class Files(msgspec.Struct, frozen=True):
    """Paths of PEM files. `client_ca`: who signs the certificates that clients must show; "": they need none."""

    cert: str
    key: str
    client_ca: str = ""
