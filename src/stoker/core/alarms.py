"""What is wrong though no objective says so: the alarms that every platform has, whoever watches it. Pure.

control watches them itself (observe/objectives/alarms.py asks the history); `stoker export prometheus-rules` gives
the same to people's own Prometheus. Both tell by one name, as urgently, after the same time, in the same words.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from stoker.core import conditions
from stoker.core.alerts import Alert, Signal
from stoker.core.snapshot import EndpointState
from stoker.core.statuses import PREEMPTED
from stoker.types.slos import Severity
from stoker.types.statuses import EndpointStatus


class Alarm(msgspec.Struct, frozen=True):
    """One alarm. summary: `{who}` is whose it is, `{value}` what was measured. holds_s: so long before it is told."""

    name: str
    severity: Severity
    holds_s: float
    summary: str
    do: str

    def signal(self, labels: dict[str, str], because: str, value: str = "") -> Signal:
        """Return that it holds for whom `labels` name."""
        who = (
            labels.get("secret")
            or labels.get("endpoint")
            or labels.get("node")
            or labels.get("process")
            or labels.get("provider")
            or labels.get("project")
            or "the platform"
        )
        return Signal(
            {"alertname": self.name, **labels},
            self.severity,
            summary=self.summary.format(who=who, value=value),
            because=because,
            runbook=f"docs/reference/alerts.md#{self.name.lower()}",
            holds_s=self.holds_s,
        )

    def to_do(self, labels: dict[str, str]) -> str:
        """Return what to do about it, with the commands of the endpoint that `labels` name."""
        return self.do.replace("ENDPOINT", labels.get("endpoint", "ENDPOINT"))

    def again(self, alert: Alert) -> Signal:
        """Return that `alert`, one of this alarm, goes on to hold, in its own words."""
        return Signal(alert.labels, alert.severity, alert.summary, alert.because, alert.runbook, self.holds_s)


ALARMS: Final = (
    Alarm(
        "EndpointDown", "page", 60.0, "no replica of {who} can serve",
        "`stoker describe ENDPOINT` has the replicas' last words; `stoker rollback ENDPOINT` if a change did it",
    ),
    Alarm(
        "EndpointFails", "page", 300.0, "{who} answers {value} of requests with an error of ours",
        "`stoker why ENDPOINT`; give it an objective, which finds this sooner and with its own limit",
    ),
    Alarm(
        "EndpointRefuses", "ticket", 600.0, "{who} refuses {value} of requests: it is full",
        "more replicas (`spec.replicas`), or hold the callers to limits (`stoker keys limit`)",
    ),
    Alarm(
        "ScalingAtMaximum", "ticket", 600.0, "{who} is called on for more replicas than it may have",
        "`stoker explain scale ENDPOINT` has the arithmetic; raise `replicas.max`, or see `stoker plan ENDPOINT`",
    ),
    Alarm(
        "BreakerOpen", "page", 60.0, "{who} fails, and is asked no more for a while",
        "`stoker why ENDPOINT`; its fallbacks serve meanwhile, where it has some",
    ),
    Alarm(
        "CrashLoop", "ticket", 0.0, "replicas of {who} die again and again",
        "`stoker logs ENDPOINT`; the condition in `stoker describe ENDPOINT` has their last words",
    ),
    Alarm(
        "NoCapacity", "ticket", 300.0, "no node has room for the replicas of {who}",
        "fewer replicas or smaller `spec.resources`; `stoker get nodes` shows what is free",
    ),
    Alarm(
        "Preempted", "ticket", 3600.0, "replicas of {who} gave their room to others and have none",
        "it is sheddable: wait, add a node, or raise its `placement.priority`; its condition names who has the room",
    ),
    Alarm(
        "Drifted", "ticket", 0.0, "what {who} sees is no longer what its model was made for",
        "`stoker drift ENDPOINT` shows which inputs moved",
    ),
    Alarm(
        "DutyNotKept", "ticket", 900.0, "the platform does not keep all of its duties about {who}",
        "`stoker boundary ENDPOINT` names each, with what was seen and what to do",
    ),
    Alarm(
        "InputsRefused", "ticket", 300.0, "{value} of what {who} is sent is not what its model takes",
        "`stoker samples ENDPOINT --errors` shows what comes; somebody's client or pipeline has changed",
    ),
    Alarm(
        "RequestsQuarantined", "ticket", 0.0, "requests for {who} kill its replicas",
        "`stoker why ENDPOINT` names the request; its like are refused for ten minutes",
    ),
    Alarm(
        "CostUnusual", "ticket", 0.0, "serving costs {value}",
        "`stoker costs --since 2d --by day,kind,endpoint,key` has the lines; a key can be held to a budget or a rate",
    ),
    Alarm(
        "ProcessesRestart", "ticket", 0.0, "processes of {who} died {value} times in 15 minutes",
        "`stoker logs ENDPOINT`; often it is memory (`spec.resources.memory`)",
    ),
    Alarm(
        "ReplicasEjected", "ticket", 0.0, "replicas of {who} were taken out of rotation {value} times in 15 minutes",
        "`stoker why ENDPOINT`: one replica or its node is worse than its peers",
    ),
    Alarm(
        "KeyValueCacheFull", "ticket", 600.0, "the key-value cache of {who} is full",
        "shorter prompts or answers, fewer slots, or more replicas",
    ),
    Alarm(
        "LoopBlocked", "ticket", 300.0, "something holds up the loop of {who}",
        "the node has no core to spare, or a defect: its log has what ran",
    ),
    Alarm(
        "ControlFails", "page", 0.0, "control's loop fails; nothing is repaired",
        "`stoker logs --process control`; what runs goes on",
    ),
    Alarm(
        "SettingsUnread", "ticket", 60.0, "{value} settings are kept that this version cannot read",
        "`stoker settings` names them: set them again, or go back to the version that set them",
    ),
    Alarm(
        "ControlGone", "page", 300.0, "control is not there; what runs goes on, nothing is repaired",
        "`stoker status`; only who watches from outside can see this one",
    ),
    Alarm(
        "CertificateExpires", "ticket", 0.0, "the certificate that {who} shows clients ends within a week",
        "put a new one in its place; it is read without a restart",
    ),
    Alarm(
        "DescriptorsShort", "ticket", 600.0, "{who} has most of its file descriptors open",
        "raise the limit (`ulimit -n`) that stoker is started with",
    ),
    Alarm(
        "NodeMemoryShort", "ticket", 300.0, "{who} has {value} of its memory left",
        "fewer or smaller replicas on that node",
    ),
    Alarm(
        "NodeDiskShort", "ticket", 300.0, "{who} has {value} left on the disk of its state folder",
        "make room: old logs, other people's files; or move `STOKER_HOME` to a larger disk",
    ),
    Alarm(
        "FilesRefused", "ticket", 60.0, "replicas of {who} can write to no file",
        "the disk is full, a quota is reached, or it hangs; `df -h` and `df -i` on the node",
    ),
    Alarm(
        "ClockStepped", "ticket", 0.0, "the clock of {who} was set by {value} s",
        "see that one time daemon, and only one, keeps the node's clock; certificates and tokens depend on it",
    ),
    Alarm(
        "NodeGone", "page", 60.0, "the agent of node {who} does not answer",
        "is the machine up, and can control reach it? `stoker describe node` has its address; replicas on it may serve",
    ),
    Alarm(
        "NodeCertificateExpires", "page", 0.0, "the certificates of node {who} are not renewed",
        "its agent must reach control: its log says why it does not; when they have ended it must join again",
    ),
    Alarm(
        "ClockApart", "ticket", 300.0, "the clock of {who} is {value} s from control's",
        "see that a time daemon keeps the clocks of all nodes",
    ),
    Alarm(
        "NoticesLost", "ticket", 0.0, "receivers could not be told of {value} notices",
        "`stoker alerts test NAME`; `stoker alerts` says who has yet to hear",
    ),
    Alarm(
        "UsageLost", "ticket", 0.0, "usage of {value} requests of {who} was not written down",
        "make room on the disk of its state folder, or see why control does not settle what gateways ship",
    ),
    Alarm(
        "UsageBroken", "ticket", 0.0, "{who} found {value} segments of usage that cannot be read to their end",
        "the disk breaks what is written, or lost its power; what is missing is `lost` in control's database",
    ),
    Alarm(
        "AuditFails", "ticket", 60.0, "the audit cannot be signed for, or copied to its second place",
        "control's log says which and why; rows that nobody signed for could be cut off unseen",
    ),
    Alarm(
        "AuditBroken", "page", 0.0, "the audit is not what was written",
        "`stoker audit verify` names the rows; keep the disk, and see who could write to it",
    ),
    Alarm(
        "IdentityProviderDown", "ticket", 900.0, "the identity provider {who} cannot be asked for its keys",
        "`stoker get providers` says why; who is signed in stays so, and its keys stay good for a day",
    ),
    Alarm(
        "SecretUnavailable", "ticket", 60.0, "the secret {who} cannot be read",
        "`stoker secrets list` says why; the last value is used on for `STOKER_SECRETS_STALE`",
    ),
    Alarm(
        "HistoryFails", "ticket", 60.0, "the history of metrics cannot be written",
        "most likely the disk is full; minutes wait in memory until it is not",
    ),
)  # fmt: skip
BY_NAME: Final = {each.name: each for each in ALARMS}


def of_endpoints(states: Iterable[EndpointState]) -> Iterable[Signal]:
    """Yield what the endpoints' own conditions say, and what only explains alerts and is none itself."""
    for state in states:
        status = state.status
        whose = {"project": str(state.project), "endpoint": str(state.name)}
        if status.serving and status.revision not in ("", status.serving):
            yield Signal({"alertname": "RolloutInProgress", **whose}, "none")
        if not state.is_deleting:
            for name, because in _conditions(status):
                yield BY_NAME[name].signal(whose, because)
            kept = conditions.find(status.conditions, conditions.BOUNDARY)
            # Of those that promise something; that it has no replicas is told sooner, by others.
            if kept is not None and not kept.status and kept.reason != "Replicas" and state.resource.spec.slos:
                yield BY_NAME["DutyNotKept"].signal(whose, kept.message)


def _conditions(status: EndpointStatus) -> Iterable[tuple[str, str]]:
    ready = conditions.find(status.conditions, conditions.READY)
    progressing = conditions.find(status.conditions, conditions.PROGRESSING)
    drifted = conditions.find(status.conditions, conditions.DRIFTED)
    is_preempted = progressing is not None and progressing.reason == PREEMPTED
    if status.serving and status.replicas_wanted and not status.replicas_ready and not is_preempted:
        yield "EndpointDown", ready.message if ready is not None else ""
    for reason in ("CrashLoop", "NoCapacity", PREEMPTED):
        said = [each.message for each in (progressing, ready) if each is not None and each.reason == reason]
        if said:
            yield reason, said[0]
    if drifted is not None and drifted.status:
        yield "Drifted", drifted.message
