"""What the policies of the platform and the project say of a dossier (control/policies.py)."""

import msgspec

from stoker.control.policies import Admission
from stoker.control.releases.gates import Said
from stoker.control.releases.needs import Need
from stoker.core import policy
from stoker.types.releases import Dossier


class Asked:
    """Asks the policies about releases."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def __call__(self, need: Need, dossier: Dossier) -> Said:
        """Return what denies the release and what is only remarked. Raises Busy when too many wait."""
        found = await self._admission.release(need.state.resource, need.version, msgspec.to_builtins(dossier))
        denied = tuple(policy.said(each) for each in policy.denials(found))
        return Said(len(found), denied, tuple(policy.said(each) for each in policy.warnings(found)))
