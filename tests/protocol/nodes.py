"""Authorities and what nodes show, for tests: real keys, real certificates."""

import time
from pathlib import Path

import msgspec

from stoker.protocol import certificates, secure
from stoker.types.peers import Peer


class Platform:
    """One platform's authority, and folders of what its processes show."""

    def __init__(self, folder: Path, platform: str = "plat", name: str = "ca-1") -> None:
        self.folder = folder
        self.platform = platform
        self.name = name
        self.key = certificates.new_key()
        self.pem = certificates.authority(name, self.key, time.time())
        self.lives: dict[str, str] = {}

    def shows(self, node: str, role: str, begins_s: float = 0.0, until_s: float = 600.0, trust: str = "") -> Path:
        """Return a folder with a certificate that holds between these seconds from now."""
        now_s = time.time()
        life = self.lives.setdefault(node, certificates.new_life())
        who = Peer(self.platform, node, role, life, self.name, float(int(now_s + until_s)))
        key = certificates.new_key()
        made = certificates.issue(who, certificates.request(key), self.pem, self.key, now_s + begins_s)
        folder = self.folder / f"{node}-{role}"
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / secure.IDENTITY, secure.identity_file(who, key, made.pem))
        write(folder / secure.TRUST, (trust or self.pem).encode())
        return folder

    def revoke(self, folder: Path, *nodes: str) -> None:
        """Have who looks into `folder` refuse those nodes."""
        write(folder / secure.REVOKED, msgspec.json.encode([self.lives[each] for each in nodes]))


def write(path: Path, data: bytes) -> None:
    half = path.with_name(path.name + ".new")
    half.write_bytes(data)
    half.replace(path)
