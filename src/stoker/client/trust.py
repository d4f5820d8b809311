"""Whose certificates a client believes, and which it shows."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stoker.types.errors import InvalidInput

_END: Final = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Trust:
    """Files (PEM). Without any, the system's authorities are believed.

    ca: who may have signed the server's certificate, instead of the system's authorities.
    pinned: the server's own certificate, first in the file; that one and no other is believed, whatever its names:
        for the platform of this machine, whose certificate lies beside it.
    own: a certificate with its key, for a server that asks for one.
    """

    ca: str = ""
    pinned: str = ""
    own: str = ""

    def context(self) -> ssl.SSLContext:
        """Return what a client connects with. Raises InvalidInput for a file that cannot be used."""
        file = self.ca or self.pinned
        try:
            if self.pinned and not self.ca:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                first, end, _ = Path(self.pinned).read_text("ascii").partition(_END)
                context.load_verify_locations(cadata=first + end)
            else:
                context = ssl.create_default_context(cafile=self.ca or None)
            if file:  # may hold the server's own certificate, or one between it and the root
                context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            file = self.own
            if self.own:
                context.load_cert_chain(self.own)
        except (OSError, ValueError) as wrong:
            raise InvalidInput(f"{file or 'the system’s authorities'} cannot be used: {wrong}") from wrong
        return context


SYSTEM: Final = Trust()
