"""Resources as rows for people; the same words and colours in `get`, `describe`, `status` and the live view."""

import time
from collections.abc import Sequence
from typing import Final

import click

from stoker.cli.output import age, columns, duration, rate
from stoker.cli.rollout_page import brief
from stoker.client.views import EndpointStats, KeyView, ProjectView, ReplicaView, RevisionView
from stoker.core import allowance
from stoker.core.access import ROLES
from stoker.core.conditions import newer, under_way
from stoker.types.access import USUAL, KeyAccess, Member
from stoker.types.keys import KeyLimits
from stoker.types.models import ModelVersion, Signature
from stoker.types.process import NodeStatus
from stoker.types.quotas import Use
from stoker.types.resources import EndpointSpec, Notifier, Policy, Role
from stoker.types.statuses import EndpointStatus, EndpointView
from stoker.types.units import format_bytes

_PHASE_COLOURS: Final = {
    "ready": "green",
    "loading": "yellow",
    "starting": "yellow",
    "draining": "cyan",
    "stopping": "cyan",
    "backoff": "red",
}


def endpoints_table(views: Sequence[EndpointView]) -> str:
    """Return endpoints with model, readiness and revision."""
    header = ("PROJECT", "NAME", "MODEL", "REPLICAS", "REVISION", "STATE")
    rows = [
        (
            view.project,
            view.name,
            serves(view.resource.spec),
            f"{view.status.replicas_ready}/{view.status.replicas_wanted}",
            short_revision(view.status.serving) or "-",
            state_words(view),
        )
        for view in views
    ]
    return columns(header, rows, empty="no endpoints; make one with `stoker deploy NAME --model MODEL`")


def serves(spec: EndpointSpec) -> str:
    """Return the model of an endpoint, or the endpoints that serve for it."""
    names = dict.fromkeys(backend.endpoint for backend in spec.backends)
    return spec.model or f"→ {', '.join(names)}"


def stats_table(stats: Sequence[EndpointStats]) -> str:
    """Return what endpoints do, a line each."""
    header = ("ENDPOINT", "TASK", "REPLICAS", "REQ/S", "P50", "P99", "TOKENS/S", "ERRORS/S", "STATE")
    rows = [
        (
            endpoint_title(one),
            one.task,
            f"{one.replicas_ready}/{one.replicas_wanted}",
            rate(one.requests_per_s),
            duration(one.p50_s),
            duration(one.p99_s),
            rate(one.tokens_per_s) if one.task != "predict" else "-",
            click.style(rate(one.errors_per_s), fg="red") if one.errors_per_s > 0 else "0",
            _stats_state(one),
        )
        for one in stats
    ]
    return columns(header, rows, empty="no endpoints; make one with `stoker deploy NAME --model MODEL`")


def _stats_state(one: EndpointStats) -> str:
    words = "Ready" if one.ready else one.progress.words or one.reason or "NotReady"
    ready = click.style(words, fg="green" if one.ready else "yellow")
    coming = one.newer or (brief(one.rollout) if one.rollout is not None else "")
    return f"{ready}  {click.style(coming, fg='cyan')}" if coming else ready


def versions_table(versions: Sequence[ModelVersion]) -> str:
    """Return model versions, newest first within a name."""
    header = ("MODEL", "FORMAT", "TASKS", "SIZE", "ALIASES", "AGE", "DIGEST")
    rows = [
        (
            one.ref,
            one.manifest.format,
            ", ".join(one.manifest.tasks) or "-",
            format_bytes(one.size_bytes),
            ", ".join(one.aliases) or "-",
            age(one.created_at_s),
            one.digest.removeprefix("sha256:")[:12],
        )
        for one in sorted(versions, key=lambda one: (one.name, -one.number))
    ]
    return columns(header, rows, empty="no models; register one with `stoker push NAME PATH`")


def notifiers_table(notifiers: Sequence[Notifier]) -> str:
    """Return receivers with what they get."""
    header = ("PROJECT", "NAME", "TYPE", "GETS", "LABELS", "REPEAT")
    rows = [
        (
            one.metadata.project,
            one.metadata.name,
            one.spec.type,
            ("pages" if one.spec.min_severity == "page" else "pages and tickets")
            + (" of every project" if one.spec.all_projects else ""),
            ", ".join(f"{name}={value}" for name, value in one.spec.match.items()) or "any",
            str(one.spec.repeat),
        )
        for one in notifiers
    ]
    return columns(header, rows, empty="no notifiers; apply a manifest of kind Notifier")


def policies_table(policies: Sequence[Policy]) -> str:
    """Return admission policies with what they look at and what each of their rules does."""
    header = ("PROJECT", "NAME", "HOLDS IN", "LOOKS AT", "RULES", "STATE")
    rows = [
        (
            one.metadata.project,
            one.metadata.name,
            policy_reach(one),
            f"{', '.join(one.spec.match.operations)} of {', '.join(one.spec.match.kinds)}",
            ", ".join(f"{rule.name} ({rule.enforcement})" for rule in one.spec.rules),
            click.style("enabled", fg="green") if one.spec.enabled else click.style("disabled", dim=True),
        )
        for one in policies
    ]
    return columns(header, rows, empty="no policies; `stoker policy starter` prints some to begin with")


def policy_reach(policy: Policy) -> str:
    """Return the projects in which a policy holds."""
    if not policy.spec.all_projects:
        return "its project"
    return ", ".join(policy.spec.match.projects) or "every project"


def replicas_table(replicas: Sequence[ReplicaView]) -> str:
    """Return replicas with phase, restarts, memory and last error."""
    header = ("REPLICA", "PHASE", "NODE", "RESTARTS", "MEMORY", "LAST ERROR")
    return columns(
        header,
        [
            (
                one.replica,
                phase_words(one),
                _place(one),
                str(one.restarts),
                format_bytes(one.rss_bytes) if one.rss_bytes else "-",
                last_line(one.last_error) or "-",
            )
            for one in replicas
        ],
        empty="none",
    )


def _place(replica: ReplicaView) -> str:
    gpus = f" GPU {','.join(map(str, replica.gpus))}" if replica.gpus else ""
    return f"{replica.node}{gpus}" if replica.node else "-"


def revisions_table(revisions: Sequence[RevisionView], status: EndpointStatus) -> str:
    """Return revisions, newest first, and what keeps the one that is asked for from traffic."""
    header = ("REVISION", "MODEL", "AGE", "")
    number, _, held = newer(status).partition(" ")
    rows = [
        (
            str(one.number),
            one.model,
            age(one.created_at_s),
            click.style("serving", fg="green")
            if one.serving
            else click.style(held, fg="cyan")
            if number == f"#{one.number}"
            else "",
        )
        for one in sorted(revisions, key=lambda one: -one.number)
    ]
    return columns(header, rows, empty="none")


def projects_table(projects: Sequence[ProjectView]) -> str:
    """Return projects."""
    rows = [
        (one.name, str(one.endpoints), ", ".join(map(_use, one.uses)) or "-", one.description or "-")
        for one in projects
    ]
    return columns(("PROJECT", "ENDPOINTS", "QUOTA", "DESCRIPTION"), rows)


def _use(use: Use) -> str:
    """Return `3 of 4 replicas`, in red where that is all, or more."""
    count = use.used or 0.0
    used = format_bytes(int(count)) if use.name in ("memory", "storage") else f"{count:g}"
    text = f"{used} of {allowance.said(use.name, use.limit)}"
    return click.style(text, fg="red") if count >= use.limit else text


def keys_table(keys: Sequence[KeyView]) -> str:
    """Return keys without their secrets."""
    header = ("ID", "PROJECT", "NAME", "SUBJECT", "MAY", "LIMITS", "AGE", "USED", "EXPIRES")
    rows = [
        (
            one.id,
            "all" if one.access.everywhere else one.project,
            one.name or "-",
            one.subject or "-",
            "admin" if one.admin else _may(one.access),
            _limits(one.limits),
            age(one.created_at_s),
            age(one.last_used_at_s) if one.last_used_at_s else "-",
            _expiry(one.expires_at_s) + (" (rotated)" if one.old_until_s > time.time() else ""),
        )
        for one in keys
    ]
    return columns(header, rows, empty="no keys")


def _may(access: KeyAccess) -> str:
    """Return what a key may do: `call`, `viewer`, `chat-*: endpoints:call`."""
    words = "call" if access.permissions == USUAL.permissions and access.role == USUAL.role else ""
    words = words or " ".join(filter(None, (access.role, *access.permissions)))
    return f"{','.join(access.endpoints)}: {words}" if access.endpoints else words


def members_table(members: Sequence[Member]) -> str:
    """Return who is in a project."""
    return columns(("SUBJECT", "ROLE"), [(one.subject, one.role) for one in members], empty="no members")


def roles_table(roles: Sequence[Role], *, with_usual: bool = True) -> str:
    """Return roles: those that every project has, then its own."""
    usual = ROLES if with_usual else {}
    rows = [("all", name, " ".join(sorted(found))) for name, found in usual.items()]
    for one in roles:
        where = "all" if one.spec.all_projects else str(one.metadata.project)
        rows.append((where, one.metadata.name, " ".join(one.spec.permissions)))
    return columns(("PROJECT", "ROLE", "PERMISSIONS"), rows)


def _limits(limits: KeyLimits) -> str:
    """Return what differs from no limits: `20/s 60k tok/min sheddable ×2 acme`."""
    words = []
    if limits.requests_per_s:
        words.append(f"{limits.requests_per_s:g}/s")
    if limits.tokens_per_min:
        words.append(f"{limits.tokens_per_min / 1000:g}k tok/min")
    if limits.requests_at_once:
        words.append(f"{limits.requests_at_once} at once")
    if limits.priority != "standard":
        words.append(limits.priority)
    words += [f"{name}={value}" for name, value in limits.tags.items()]
    if limits.weight != 1:
        words.append(f"×{limits.weight:g}")
    if limits.tenant:
        words.append(limits.tenant)
    if not limits.samples:
        words.append("no samples")
    return " ".join(words) or "-"


def nodes_table(nodes: Sequence[NodeStatus]) -> str:
    """Return nodes with what they have and run."""
    header = ("NODE", "STATE", "POOL", "CORES", "GPUS", "MEMORY", "FREE", "PROCESSES", "AGE")
    rows = [
        (
            one.node,
            node_words(one),
            one.pool,
            f"{one.cores:g}",
            str(one.gpus),
            format_bytes(one.memory_bytes),
            format_bytes(one.memory_free_bytes),
            str(len(one.processes)),
            age(one.started_at_s) if one.started_at_s else "",
        )
        for one in nodes
    ]
    return columns(header, rows, empty="no nodes")


def node_words(node: NodeStatus) -> str:
    """Return `Ready`, or what is wrong with a node."""
    wrong = [one.reason for one in node.conditions if one.status == (one.type != "NodeReady")]
    return click.style(" ".join(wrong), fg="red") if wrong else click.style("Ready", fg="green")


def signature_lines(signature: Signature) -> list[tuple[str, str]]:
    """Return `inputs` and `outputs` as people read tensors: `pixels FP32[-1, 64]`."""
    return [
        (side, ", ".join(f"{one.name} {one.datatype}{list(one.shape)}" for one in specs))
        for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs))
    ]


def state_words(view: EndpointView) -> str:
    """Return `Ready` and what keeps a newer revision, or why it is not with a sentence, or how far its start is."""
    ready = next((one for one in view.status.conditions if one.type == "Ready"), None)
    if ready is None:
        return click.style("Pending", fg="yellow")
    if ready.status:
        coming = newer(view.status) or under_way(view.status)
        return click.style("Ready", fg="green") + (f"  {click.style(coming, fg='cyan')}" if coming else "")
    is_failed = ready.reason in ("CrashLoop", "Unservable", "NoCapacity")
    if view.progress.words and not is_failed:
        return click.style(view.progress.words, fg="yellow")
    return f"{click.style(ready.reason, fg='red' if is_failed else 'yellow')}: {last_line(ready.message)}"


def phase_words(replica: ReplicaView) -> str:
    """Return a replica's phase in its colour, or how far its start is."""
    return click.style(start_words(replica), fg=_PHASE_COLOURS.get(replica.phase))


def start_words(replica: ReplicaView) -> str:
    """Return how far a replica's start is, `loading 62 %, about 9 s (weights)`; its phase when it does not start."""
    if not replica.progress.words:
        return replica.phase
    return f"{replica.progress.words} ({replica.progress.stage})" if replica.progress.stage else replica.progress.words


def endpoint_title(stats: EndpointStats) -> str:
    """Return an endpoint's name; with its project unless that is the default one."""
    return stats.endpoint if stats.project == "default" else f"{stats.project}/{stats.endpoint}"


def short_revision(revision: str) -> str:
    """Return `#3` for `default.digits-3`."""
    return f"#{revision.rpartition('-')[2]}" if revision else ""


def counted(count: int, what: str) -> str:
    """Return `1 file`, `3 files`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def last_line(text: str) -> str:
    """Return the last line of a message: where a log ends, the reason is."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _expiry(expires_at_s: float) -> str:
    if not expires_at_s:
        return "never"
    left_s = expires_at_s - time.time()
    return click.style("expired", fg="red") if left_s <= 0 else f"in {age(1.0, 1.0 + left_s)}"
