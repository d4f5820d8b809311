"""The platform's own key, which signs dossiers: made at its first use, in the state folder."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from stoker.control.files import write_whole
from stoker.protocol import signing
from stoker.protocol.signing import PrivateKey
from stoker.types.releases import PlatformKey


class Signer:
    """Holds the key. Only the control that holds the state folder's lock may use it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: PrivateKey | None = None

    def key(self) -> PrivateKey:
        """Return the key; blocks. Raises OSError, or InvalidInput when the file holds none."""
        if self._key is None:
            if not self._path.exists():
                form = serialization.PrivateFormat.PKCS8
                made = ed25519.Ed25519PrivateKey.generate()
                pem = made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
                write_whole(self._path, pem)
            self._key = signing.private_key(self._path.read_bytes())
        return self._key

    def public(self) -> PlatformKey:
        """Return what others check statements with. Raises as `key`."""
        public = self.key().public_key()
        return PlatformKey(signing.public_pem(public), signing.fingerprint(public))
