"""How a version stands with a project, by all of its signatures together."""

from collections.abc import Sequence

from stoker.types.signing import Finding, SignatureState

# Best first: one signature that holds is enough, and one that does not takes nothing from it.
_ORDER: tuple[SignatureState, ...] = ("verified", "bad", "unknown", "unsigned")


def standing(findings: Sequence[Finding]) -> Finding:
    """Return the finding that counts: a signature that holds, else one that is wrong, else one by an unknown key."""
    unsigned = Finding("unsigned", why="it has no signature")
    return min((*findings, unsigned), key=lambda finding: _ORDER.index(finding.state))
