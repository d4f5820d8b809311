"""Every error that leaves a room, as one tree; each class fixes code, HTTP status and whether a retry can help.

StokerError
├── InvalidInput            400 invalid_input          the caller's request is wrong; names the field
│   ├── UnprocessableInput  422 poison_request         this request killed replicas; it will not be tried again
│   └── TooLarge            413 body_too_large
├── Unauthenticated         401 unauthenticated
├── Forbidden               403 forbidden
├── NotFound                404 not_found
├── MethodNotAllowed        405 method_not_allowed
├── Conflict                409 conflict
│   ├── OverQuota           409 over_quota             a project or the platform has all that its quota allows of it
│   └── PreconditionFailed  412 precondition_failed    it is not what the caller saw (If-Match): read it again
├── RefusedArtifact         422 refused_artifact       a model file that is corrupt, hostile or not what it says
│   └── SignatureRefused    422 signature_refused      a version whose signature is wrong, or not the one demanded
├── PolicyDenied            422 policy_denied          an admission policy refuses the change; names policy and rule
├── Busy                    429 busy                   a queue or limit is full; carries retry_after_s
│   ├── QueueFull           429 queue_full             as many wait as may, and none that should rather go
│   ├── Shed                429 shed                   it had to go for a more urgent or rarer one, or by policy
│   ├── OutOfTime           429 out_of_time            it would wait longer than its deadline allows
│   ├── RateLimited         429 rate_limit_exceeded    its key, project or the platform asked for more than it may
│   └── TooManyAtOnce       429 concurrency_exceeded   as many of its key's or project's requests run as may
├── BudgetExceeded          429 budget_exceeded        a budget has no room for it; says which, and until when
│   └── QuotaExceeded       429 quota_exceeded         a budget of requests or tokens, likewise
├── Unavailable             503 unavailable            nothing can serve this now; carries retry_after_s
│   ├── NotReachable        503 not_reachable          nobody answers where a process should be (client side)
│   ├── StillLoading        503 loading                its replica is ready later than the caller can wait
│   ├── ReplicaLost         503 replica_lost           the connection to a replica broke mid-request
│   ├── UsageJournalFull    503 usage_journal_full     what must be paid cannot be written down
│   ├── SecretUnavailable   503 secret_unavailable     a value that is only named cannot be had where it is
│   └── Draining            503 draining
├── DeadlineExceeded        504 deadline_exceeded
├── ClientTooSlow           408 client_too_slow
├── Unsupported             501 unsupported
├── NoticeRefused           502 notice_refused         a receiver of alerts will never take this
└── EngineFailed            500 engine_failed          the engine raised; its own message is kept
"""

from typing import ClassVar


class StokerError(Exception):
    """Base of every error with a code. `message` says what is wrong, the value, and what to do."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


class InvalidInput(StokerError):
    """The request is wrong; `field` names where, the message what was expected."""

    code = "invalid_input"
    status = 400


class UnprocessableInput(InvalidInput):
    """A request whose shape killed two replicas; it is refused before it reaches a third."""

    code = "poison_request"
    status = 422


class TooLarge(InvalidInput):
    """A body, header or file over its written maximum."""

    code = "body_too_large"
    status = 413


class Unauthenticated(StokerError):
    """No key, or one that is unknown, expired or revoked."""

    code = "unauthenticated"
    status = 401


class Forbidden(StokerError):
    """A known caller without the right to do this."""

    code = "forbidden"
    status = 403


class NotFound(StokerError):
    """A name that does not exist, or that this caller may not see."""

    code = "not_found"
    status = 404


class MethodNotAllowed(StokerError):
    """The path exists, with other methods."""

    code = "method_not_allowed"
    status = 405
    allow = ""  # the other methods, as the header has them


class Conflict(StokerError):
    """The state changed under the caller, or forbids the change (in use, already there)."""

    code = "conflict"
    status = 409


class OverQuota(Conflict):
    """A project, or the platform, has as many keys or bytes, or used as many GPU-hours, as its quota allows."""

    code = "over_quota"


class PreconditionFailed(Conflict):
    """What is there is not what the caller saw, as their If-Match or If-None-Match says; nothing was changed."""

    code = "precondition_failed"
    status = 412


class RefusedArtifact(StokerError):
    """A model file that is corrupt, hostile, or does not match its digest."""

    code = "refused_artifact"
    status = 422


class SignatureRefused(RefusedArtifact):
    """A version whose signature does not hold, or that nobody its project trusts has signed."""

    code = "signature_refused"


class PolicyDenied(StokerError):
    """A change that an admission policy refuses; the message names policy and rule, `field` what it is about."""

    code = "policy_denied"
    status = 422


class Busy(StokerError):
    """A queue or limit is full. Retry after `retry_after_s`."""

    code = "busy"
    status = 429
    retryable = True


class QueueFull(Busy):
    """As many requests wait for the endpoint as may."""

    code = "queue_full"


class Shed(Busy):
    """A more urgent request, or a tenant with fewer waiting, needed its place; or a policy sheds its band."""

    code = "shed"


class OutOfTime(Busy):
    """Those ahead will take longer than this request's deadline allows; it is told so at once."""

    code = "out_of_time"


class RateLimited(Busy):
    """The key, its project or the platform asked for more requests or tokens than its limits allow."""

    code = "rate_limit_exceeded"


class TooManyAtOnce(Busy):
    """As many requests of the key, its project or the platform run as may run at once."""

    code = "concurrency_exceeded"


class BudgetExceeded(StokerError):
    """A budget has no room for what the request may cost. Asking again helps when its period is over, or it is raised.

    `falls_back`: an endpoint that costs less may serve it. `told`: which budget it is and how it stands, as the header
    x-stoker-budget says it; "" where none does.
    """

    code = "budget_exceeded"
    status = 429

    def __init__(
        self, message: str, *, falls_back: bool = False, retry_after_s: float | None = None, told: str = ""
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.falls_back = falls_back
        self.told = told


class QuotaExceeded(BudgetExceeded):
    """A budget of requests or tokens has no room for the request. Asking again helps when its period is over."""

    code = "quota_exceeded"


class Unavailable(StokerError):
    """Nothing can serve this now. Retry after `retry_after_s`."""

    code = "unavailable"
    status = 503
    retryable = True


class NotReachable(Unavailable):
    """Nobody answers at an address, or the connection broke; no process said anything."""

    code = "not_reachable"


class SecretUnavailable(Unavailable):
    """A secret that a manifest names cannot be read; the message never holds what could be a value."""

    code = "secret_unavailable"


class StillLoading(Unavailable):
    """What would serve is being loaded, for longer than the caller can wait; `retry_after_s` is when it is ready."""

    code = "loading"


class ReplicaLost(Unavailable):
    """The connection to a replica broke while it held the request."""

    code = "replica_lost"


class UsageJournalFull(Unavailable):
    """A request that must be paid is not served: its usage record would have no room on the disk."""

    code = "usage_journal_full"


class Draining(Unavailable):
    """This process takes no new work; another one does."""

    code = "draining"


class DeadlineExceeded(StokerError):
    """The deadline passed, or would pass before the work could finish."""

    code = "deadline_exceeded"
    status = 504


class ClientTooSlow(StokerError):
    """The client did not send or read its bytes in time."""

    code = "client_too_slow"
    status = 408


class Unsupported(StokerError):
    """This endpoint or engine cannot do what was asked, now or later."""

    code = "unsupported"
    status = 501


class NoticeRefused(StokerError):
    """A receiver of alerts answered that it will never take a notice; sending it again does not help."""

    code = "notice_refused"
    status = 502


class EngineFailed(StokerError):
    """The engine raised while it worked; the message is the engine's own."""

    code = "engine_failed"
    status = 500


def all_codes() -> dict[str, type[StokerError]]:
    """Return the error class of every code (the wire between processes carries the code).

    A room may refine a class without a code of its own (with more arguments); the code still means the class here.
    """
    found: dict[str, type[StokerError]] = {}
    stack: list[type[StokerError]] = [StokerError]
    while stack:
        kind = stack.pop()
        found.setdefault(kind.code, kind)
        stack.extend(kind.__subclasses__())
    return found
