"""What reaches a process of the environment that the platform was started in."""

import msgspec

from stoker.agent.spawn import environment
from stoker.types.process import ProcessKind, ProcessSpec

OWN = {
    "PATH": "/bin",
    "AWS_SECRET_ACCESS_KEY": "nobodys",
    "STOKER_SECRET_TEAM__KEY": "planted",
    "STOKER_VAULT_TOKEN": "hvs.planted",
}


def of(kind: ProcessKind) -> dict[str, str]:
    spec = ProcessSpec(
        name="x", kind=kind, argv=("x",), env={"A": "1"}, address="unix:/x", work_dir="/tmp", drain_s=1.0
    )
    found = environment(spec, "home", OWN)
    assert b"planted" not in msgspec.json.encode(spec)  # which is what the agent writes down
    return found


def test_secrets_reach_who_resolves_them_and_no_replica() -> None:
    for kind in ("control", "gateway"):
        assert of(kind)["STOKER_SECRET_TEAM__KEY"] == "planted"
        assert of(kind)["STOKER_VAULT_TOKEN"] == "hvs.planted"
    assert not [value for value in of("replica").values() if "planted" in value]
    assert not any("AWS_SECRET_ACCESS_KEY" in of(kind) for kind in ("control", "gateway", "replica"))
