"""Certificates for tests, made by openssl."""

import ssl
import subprocess
from pathlib import Path

NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1"


def self_signed(folder: Path, name: str, *, days: int = 30, kind: str = "ec") -> tuple[Path, Path]:
    """Make a certificate for this machine, and its key."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    new = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"] if kind == "ec" else ["rsa:2048"]
    openssl("req", "-x509", "-newkey", *new, "-nodes", "-keyout", key, "-out", cert, "-days", days,
            "-subj", f"/CN={name}", "-addext", NAMES)  # fmt: skip
    return cert, key


def signed(folder: Path, name: str, ca: tuple[Path, Path]) -> tuple[Path, Path]:
    """Make a certificate that `ca` signs, and its key."""
    cert, key, request = (folder / f"{name}.{kind}" for kind in ("crt", "key", "csr"))
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key,
            "-out", request, "-subj", f"/CN={name}")  # fmt: skip
    openssl("x509", "-req", "-in", request, "-CA", ca[0], "-CAkey", ca[1], "-out", cert, "-days", 30)
    return cert, key


def openssl(*arguments: object) -> str:
    """Run openssl and return what it says."""
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout


def trusting(*certs: Path) -> ssl.SSLContext:
    """Return how a client connects that believes `certs`."""
    context = ssl.create_default_context()
    for cert in certs:
        context.load_verify_locations(cert)
    return context
