"""What names and ids look like, one type each, so that they cannot be swapped by mistake."""

import re
from typing import NewType

ProjectName = NewType("ProjectName", str)
EndpointName = NewType("EndpointName", str)
ModelName = NewType("ModelName", str)
RevisionId = NewType("RevisionId", str)  # "<project>.<endpoint>-<number>", for example "default.digits-3"
ReplicaId = NewType("ReplicaId", str)  # "<revision>-<5 base32 characters>"
NodeName = NewType("NodeName", str)
KeyId = NewType("KeyId", str)
Digest = NewType("Digest", str)  # "sha256:<64 hex digits>"

DEFAULT_PROJECT = ProjectName("default")

# DNS label, so that a name fits a URL, a file name, a metric label and, later, a host name.
# `$` alone would let a line's end through behind it: msgspec, as Python, searches.
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(?!\n)$"
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}(?!\n)$"

_NAME = re.compile(NAME_PATTERN)
_DIGEST = re.compile(DIGEST_PATTERN)


def is_name(text: str) -> bool:
    """Return whether `text` can name a project, an endpoint, a model, an alias or a node."""
    return _NAME.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Return whether `text` is a sha256 digest in the form this project writes it."""
    return _DIGEST.fullmatch(text) is not None
