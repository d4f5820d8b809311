"""Every route of the control API as a typed call.

Synchronous and on the standard library's HTTP client, because the command line must start in a few milliseconds.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from stoker.client.connection import Connection, Method, Query, decode
from stoker.client.registration import Registration
from stoker.client.views import (
    ApplyResult,
    Chart,
    DriftView,
    EndpointDetail,
    FeedbackResult,
    JournalEntry,
    KeyView,
    NewKey,
    ProjectView,
    PushedVersion,
    QualityView,
    SignatureView,
    SloView,
    Stats,
    TracedRequest,
)
from stoker.core.diagnose.incident import Incident
from stoker.core.diagnose.verdict import Explanation
from stoker.types.errors import NotFound, StokerError
from stoker.types.faults import Fault
from stoker.types.keys import UNLIMITED, KeyLimits
from stoker.types.models import ModelVersion
from stoker.types.process import NodeStatus
from stoker.types.samples import SampleRecord
from stoker.types.signing import Keyless, ProjectTrust, SignaturePolicy, TrustRoot
from stoker.types.statuses import EndpointView
from stoker.types.traces import Trace

_T = TypeVar("_T")

FOREVER: Final = float("inf")
# Control reads and scans the whole model before it answers; gigabytes take minutes on a slow disk.
REGISTER_TIMEOUT_S: Final = 900.0
_JSON: Final = {"Content-Type": "application/json"}


class _Items(msgspec.Struct, frozen=True):
    items: msgspec.Raw


class _Results(msgspec.Struct, frozen=True):
    results: tuple[ApplyResult, ...]


@dataclass(frozen=True, slots=True)
class ControlClient:
    """Calls of the control API. Every call raises the StokerError that control answered, or NotReachable."""

    connection: Connection

    # ── platform ─────────────────────────────────────────────────────────────────────────────────────────────────

    def is_ready(self) -> bool:
        """Return whether control answers and is ready."""
        try:
            self.connection.exchange("GET", "/readyz", timeout_s=2.0)
        except StokerError:
            return False
        return True

    def stats(self) -> Stats:
        """Return what every endpoint and gateway did in the last seconds."""
        return self._get("/api/v1/stats", Stats)

    def query(self, text: str, *, since_s: float = 0, step_s: float | None = None, at_s: float | None = None) -> Chart:
        """Return what an expression over the history gives: at `at_s` (now), or at each step since `since_s` before."""
        asked = {"query": text, "at": None if at_s is None else f"{at_s:.0f}"}
        if not since_s:
            return self._get("/api/v1/query", Chart, asked)
        return self._get("/api/v1/query_range", Chart, {**asked, "since": since_s, "step": step_s})

    def nodes(self) -> tuple[NodeStatus, ...]:
        """Return the nodes with their processes."""
        return self._items("/api/v1/nodes", NodeStatus)

    def journal(self, *, endpoint: str | None = None, limit: int | None = None) -> tuple[JournalEntry, ...]:
        """Return the last decisions, newest first."""
        return self._items("/api/v1/journal", JournalEntry, {"endpoint": endpoint, "limit": limit})

    def why(self, project: str, name: str, since_s: float | None = None, until_s: float | None = None) -> Explanation:
        """Return why an endpoint is worse than before. It began `since_s` ago at most, and ended `until_s` ago."""
        asked = {"since_s": since_s, "until_s": until_s}
        return self._get(f"/api/v1/projects/{project}/endpoints/{name}/why", Explanation, asked)

    def incidents(self, *, only_open: bool = False, limit: int | None = None) -> tuple[Incident, ...]:
        """Return incidents, newest first."""
        return self._items("/api/v1/incidents", Incident, {"open": 1 if only_open else None, "limit": limit})

    def incident(self, number: int) -> Incident:
        """Return one incident."""
        return self._get(f"/api/v1/incidents/{number}", Incident)

    def postmortem(self, number: int) -> str:
        """Return the draft of an incident's post-mortem, in Markdown."""
        return self.connection.exchange("GET", f"/api/v1/incidents/{number}/markdown").body.decode()

    def raise_incident(self, project: str, name: str, reason: str) -> Incident:
        """Open an incident, or add `reason` to the open one."""
        return self._send(
            "POST", "/api/v1/incidents", {"project": project, "endpoint": name, "reason": reason}, Incident
        )

    def close_incident(self, number: int, resolution: str) -> Incident:
        """End an incident."""
        return self._send("POST", f"/api/v1/incidents/{number}/close", {"text": resolution}, Incident)

    def traces(
        self, *, endpoint: str | None = None, is_slow: bool = False, is_error: bool = False, limit: int | None = None
    ) -> tuple[Trace, ...]:
        """Return the newest kept traces, newest first. `endpoint` is NAME or PROJECT/NAME."""
        query = {"endpoint": endpoint, "slow": is_slow, "errors": is_error, "limit": limit}
        return self._items("/api/v1/traces", Trace, query)

    def trace(self, name: str) -> tuple[TracedRequest, ...]:
        """Return what is kept of a trace or a request, by its id. Raises NotFound."""
        return self._items(f"/api/v1/traces/{quote(name, safe='')}", TracedRequest)

    def begin_gameday(
        self,
        project: str,
        name: str,
        scenario: str,
        *,
        seconds: float,
        replicas: Sequence[str] = (),
        fault: Fault | None = None,
        bad_revision: bool = False,
        force: bool = False,
    ) -> None:
        """Put a fault into replicas, have a bad revision go out, or announce load, for at most `seconds`.

        Raises Conflict.
        """
        body = {
            "scenario": scenario,
            "seconds": seconds,
            "replicas": replicas,
            "fault": fault,
            "bad_revision": bad_revision,
            "force": force,
        }
        where = f"/api/v1/projects/{project}/endpoints/{name}/gameday"
        self.connection.exchange("POST", where, body=msgspec.json.encode(body), headers=_JSON)

    def end_gameday(self, project: str, name: str, because: str) -> None:
        """End every fault in an endpoint's replicas, and take a bad revision back."""
        where = f"/api/v1/projects/{project}/endpoints/{name}/gameday"
        self.connection.exchange("DELETE", where, query={"because": because})

    def replica_log(self, replica: str, *, tail: int = 200, follow: bool = False) -> Generator[bytes, None, None]:
        """Yield the log of a replica: its last `tail` lines, then, when following, what comes until closed."""
        return self.connection.stream(
            "GET",
            f"/api/v1/replicas/{replica}/logs",
            query={"tail": tail, "follow": follow},
            timeout_s=FOREVER if follow else None,
        )

    # ── endpoints and projects ───────────────────────────────────────────────────────────────────────────────────

    def apply(
        self, manifests: bytes, *, dry_run: bool = False, over_budget: bool = False, tags: Iterable[str] = ()
    ) -> tuple[ApplyResult, ...]:
        """Write manifests (YAML or JSON, several documents), all or none. A dry run only says what would change.

        over_budget: also make revisions that the policy of an error budget freezes. tags: of every endpoint among them,
        as they were read; raises PreconditionFailed when one is something else meanwhile.
        """
        matches = ", ".join(tags)
        answer = self.connection.exchange(
            "POST",
            "/api/v1/apply",
            query={"dry_run": dry_run, "over_budget": over_budget},
            body=manifests,
            headers={"Content-Type": "application/yaml"} | ({"If-Match": matches} if matches else {}),
        )
        return decode(answer.body, _Results).results

    def endpoints(self, project: str | None = None) -> tuple[EndpointView, ...]:
        """Return the endpoints of one project, or of all."""
        return self._items("/api/v1/endpoints", EndpointView, {"project": project})

    def endpoint(self, project: str, name: str) -> EndpointDetail:
        """Return an endpoint with revisions, replicas and its last decisions."""
        return self._get(f"/api/v1/projects/{project}/endpoints/{name}", EndpointDetail)

    def delete_endpoint(self, project: str, name: str) -> None:
        """Ask for the end of an endpoint; its replicas finish what they hold first."""
        self.connection.exchange("DELETE", f"/api/v1/projects/{project}/endpoints/{name}")

    def rollback(self, project: str, name: str, to: int | None = None) -> EndpointView:
        """Return the endpoint to an earlier revision (by default the one before)."""
        where = f"/api/v1/projects/{project}/endpoints/{name}/rollback"
        return self._send("POST", where, {"to": to}, EndpointView)

    def samples(self, project: str, name: str, **wanted: str | float | None) -> tuple[SampleRecord, ...]:
        """Return samples of an endpoint, newest first; `wanted` are the operation's parameters."""
        return self._items(f"/api/v1/projects/{project}/endpoints/{name}/samples", SampleRecord, wanted)

    def delete_samples(self, project: str, name: str) -> None:
        """Delete every sample of an endpoint."""
        self.connection.exchange("DELETE", f"/api/v1/projects/{project}/endpoints/{name}/samples")

    def drift(self, project: str, name: str) -> DriftView:
        """Return how an endpoint's data compares with its reference."""
        return self._get(f"/api/v1/projects/{project}/endpoints/{name}/drift", DriftView)

    def quality(self, project: str, name: str, window_s: float) -> QualityView:
        """Return how good an endpoint's predictions were. Raises Conflict when it keeps none."""
        where = f"/api/v1/projects/{project}/endpoints/{name}/quality"
        return self._get(where, QualityView, {"window_s": window_s})

    def feedback(self, project: str, items: Sequence[object]) -> tuple[FeedbackResult, ...]:
        """Send labels, at most 1,000; return what became of each, in their order."""
        body, query = msgspec.json.encode({"items": items}), {"project": project}
        answer = self.connection.exchange("POST", "/api/v1/feedback", body=body, headers=_JSON, query=query)
        found: tuple[FeedbackResult, ...] = decode(bytes(decode(answer.body, _Items).items), tuple[FeedbackResult, ...])
        return found

    def learn_drift(self, project: str, name: str, window_s: float) -> None:
        """Have a reference made of the rows that pass in the next `window_s`."""
        where = f"/api/v1/projects/{project}/endpoints/{name}/drift/learn"
        self.connection.exchange("POST", where, body=msgspec.json.encode({"window_s": window_s}), headers=_JSON)

    def projects(self) -> tuple[ProjectView, ...]:
        """Return all projects."""
        return self._items("/api/v1/projects", ProjectView)

    def delete_project(self, name: str) -> None:
        """Delete a project. Raises Conflict unless it is empty."""
        self.connection.exchange("DELETE", f"/api/v1/projects/{name}")

    # ── objectives ───────────────────────────────────────────────────────────────────────────────────────────────

    def slos(self, endpoint: str | None = None) -> tuple[SloView, ...]:
        """Return how objectives stand, of every endpoint or of one (NAME or PROJECT/NAME)."""
        return self._items("/api/v1/slos", SloView, {"endpoint": endpoint})

    # ── models ───────────────────────────────────────────────────────────────────────────────────────────────────

    def has_blob(self, digest: str) -> bool:
        """Return whether the content is in the registry."""
        try:
            self.connection.exchange("HEAD", f"/api/v1/blobs/{digest}")
        except NotFound:
            return False
        return True

    def put_blob(self, digest: str, size_bytes: int, content: Iterable[bytes]) -> None:
        """Upload content in pieces; control checks the digest before the blob exists."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        self.connection.exchange(
            "PUT", f"/api/v1/blobs/{digest}", body=content, headers=headers, timeout_s=REGISTER_TIMEOUT_S
        )

    def register(self, name: str, what: Registration) -> PushedVersion:
        """Make a version of uploaded blobs. The same content again gives the same version."""
        answer = self.connection.exchange(
            "POST",
            f"/api/v1/models/{name}/versions",
            body=msgspec.json.encode(what.body()),
            headers=_JSON,
            timeout_s=REGISTER_TIMEOUT_S,
        )
        return PushedVersion(decode(answer.body, ModelVersion), is_new=answer.status == 201)

    def models(self) -> tuple[ModelVersion, ...]:
        """Return every version of every model."""
        return self._items("/api/v1/models", ModelVersion)

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """Return the versions of one model."""
        return self._items(f"/api/v1/models/{name}", ModelVersion)

    def version(self, name: str, reference: str) -> ModelVersion:
        """Return one version by number, alias or digest."""
        return self._get(f"/api/v1/models/{name}/versions/{reference}", ModelVersion)

    def delete_version(self, name: str, number: int) -> None:
        """Delete a version. Raises Conflict while a revision uses it."""
        self.connection.exchange("DELETE", f"/api/v1/models/{name}/versions/{number}")

    def signatures(self, name: str, reference: str, project: str) -> tuple[SignatureView, ...]:
        """Return a version's signatures and what they are worth to `project`."""
        where = f"/api/v1/models/{name}/versions/{reference}/signatures"
        return self._items(where, SignatureView, {"project": project})

    def sign(self, name: str, reference: str, bundle: str) -> None:
        """Add a signature to a version. Raises SignatureRefused when it is not of its files."""
        body = msgspec.json.encode({"bundle": bundle})
        where = f"/api/v1/models/{name}/versions/{reference}/signatures"
        self.connection.exchange("PUT", where, body=body, headers=_JSON)

    def trust(self, project: str) -> ProjectTrust:
        """Return whom a project trusts, and what it demands."""
        return self._get(f"/api/v1/projects/{project}/trust", ProjectTrust)

    def set_policy(self, project: str, policy: SignaturePolicy) -> ProjectTrust:
        """Say what a project demands of the versions it serves."""
        return self._send("PUT", f"/api/v1/projects/{project}/trust", {"policy": policy}, ProjectTrust)

    def trust_key(self, project: str, name: str, public_key: str, keyless: Keyless | None = None) -> TrustRoot:
        """Trust a public key (PEM), or somebody who signs without one, under a name."""
        body = {"public_key": public_key, "keyless": keyless}
        return self._send("PUT", f"/api/v1/projects/{project}/trust/{name}", body, TrustRoot)

    def distrust(self, project: str, name: str) -> None:
        """Trust a key no longer."""
        self.connection.exchange("DELETE", f"/api/v1/projects/{project}/trust/{name}")

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point an alias at a version."""
        body = msgspec.json.encode({"number": number})
        self.connection.exchange("PUT", f"/api/v1/models/{name}/aliases/{alias}", body=body, headers=_JSON)

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; the version stays."""
        self.connection.exchange("DELETE", f"/api/v1/models/{name}/aliases/{alias}")

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def create_key(
        self, project: str, name: str, *, admin: bool, expires_in_s: float | None, limits: KeyLimits = UNLIMITED
    ) -> NewKey:
        """Make a key; its text is in this answer and nowhere else."""
        body = {"project": project, "name": name, "admin": admin, "expires_in_s": expires_in_s, "limits": limits}
        return self._send("POST", "/api/v1/keys", body, NewKey)

    def limit_key(self, key: str, limits: KeyLimits) -> KeyView:
        """Hold a key to `limits` from now on."""
        return self._send("PUT", f"/api/v1/keys/{key}/limits", limits, KeyView)

    def keys(self) -> tuple[KeyView, ...]:
        """Return all keys, without their secrets."""
        return self._items("/api/v1/keys", KeyView)

    def revoke_key(self, key: str) -> None:
        """End a key by its id."""
        self.connection.exchange("DELETE", f"/api/v1/keys/{key}")

    def _get(self, path: str, kind: type[_T], query: Query | None = None) -> _T:
        return decode(self.connection.exchange("GET", path, query=query).body, kind)

    def _items(self, path: str, kind: type[_T], query: Query | None = None) -> tuple[_T, ...]:
        items = self._get(path, _Items, query).items
        found: tuple[_T, ...] = decode(bytes(items), tuple[kind, ...])  # type: ignore[valid-type]
        return found

    def _send(self, method: Method, path: str, body: object, kind: type[_T]) -> _T:
        return decode(self.connection.exchange(method, path, body=msgspec.json.encode(body), headers=_JSON).body, kind)
