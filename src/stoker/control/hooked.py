"""Where a hook posts to and what signs it, of what its manifest names: for hooks of rollouts and of drift."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from stoker.core.secrets import is_reference
from stoker.types.errors import InvalidInput

SECRET_BYTES_MIN: Final = 16
SECRET_BYTES_MAX: Final = 4_096

Resolve = Callable[[str, str], Awaitable[str]]  # project, reference; raises SecretUnavailable, InvalidInput


async def address(receiver: str, project: str, resolve: Resolve) -> str:
    """Return the address that `receiver` is, or names. Raises SecretUnavailable, InvalidInput without the address."""
    if not is_reference(receiver):
        return receiver
    found = (await resolve(project, receiver)).strip()
    if not found.startswith(("http://", "https://")):
        raise InvalidInput(f"what {receiver} names is no http or https address")
    return found


async def key(sign_with: str, file: Path | None, project: str, resolve: Resolve) -> bytes:
    """Return what signs: of a reference, or of a file; b"" where neither is named. Raises as `address` does."""
    if sign_with:
        return _long_enough((await resolve(project, sign_with)).strip().encode(), sign_with)
    if file is None:
        return b""
    try:
        return _long_enough((await asyncio.to_thread(file.read_bytes)).strip(), f"hooks/{file.name}")
    except OSError as missing:
        raise InvalidInput(f"the secret {file.name!r} in hooks/ cannot be used: {missing.strerror}") from None


def _long_enough(secret: bytes, where: str) -> bytes:
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise InvalidInput(
            f"the secret in {where} has {len(secret)} bytes; {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are needed"
        )
    return secret
