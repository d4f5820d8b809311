"""Signatures of the audit's checkpoints: made by the platform's key, checked by whoever has its public part."""

import msgspec

from stoker.core.audit import chain
from stoker.protocol import signing
from stoker.protocol.signing import PrivateKey, PublicKey
from stoker.types.audit import Checkpoint


def signed(made: Checkpoint, key: PrivateKey) -> Checkpoint:
    """Return a checkpoint with its signature."""
    return msgspec.structs.replace(made, signature=signing.sign_bytes(chain.signed_bytes(made), key).hex())


def is_signed(made: Checkpoint, key: PublicKey) -> bool:
    """Return whether a checkpoint that was read (core/audit/chain.py) is signed by `key`."""
    return signing.is_signed(chain.signed_bytes(made), bytes.fromhex(made.signature), key)
