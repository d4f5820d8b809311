"""What one project may see of the audit, which is everybody's.

Of a row: its own resources and what changed in them, never those that the same transaction changed elsewhere. Who acts
by a right in the project is named; of everybody else only that it was somebody from outside. Row numbers count what all
projects did, so a row has another name here: its moment and a part of its receipt. The hash itself stays hidden: with
the hash of the row before it, which may be the project's too, the few things that are not told could be tried out.

Filters look at what is shown, never at what is hidden: else who asks whether a hidden word is there would be told.
"""

import hashlib
import re
from typing import Final

import msgspec

from stoker.core.audit import chain
from stoker.types.audit import EVERY_PROJECT, OUTSIDE, PLATFORM, UNKNOWN, AuditEvent, ProjectEvent, ResourceChange, Row

# What lies in a project, by the words that rows have for it (store/recording.py, api/audited.py). A test asks of every
# kind whether it is here or is the platform's. `hold`, though it names a project, is the platform's: who is looked
# into is not told by this.
KINDS: Final = (
    "project", "endpoint", "key", "role", "trust", "rollout", "notifier", "policy", "budget", "incident", "golden",
)  # fmt: skip
REVISION: Final = "revision"  # `revision PROJECT.ENDPOINT-NUMBER`
NAME: Final = re.compile(r"([0-9]{1,16})-([0-9a-f]{16})")  # of a row

_RECEIPT: Final = b"stoker audit receipt v1\n"
_COUNTED: Final = re.compile(r"; [0-9]+ attempts before it were not written down$")  # of all projects together


def receipt(hash_: str) -> str:
    """Return what a project is given of a row's hash (hex)."""
    return hashlib.sha256(_RECEIPT + bytes.fromhex(hash_)).hexdigest()


def name(row: Row) -> str:
    """Return what a row is called in every project."""
    return f"{row.at_us}-{receipt(row.hash)[:16]}"


def moment_us(called: str) -> int | None:
    """Return when the row was written that is called so; None for what is no such name."""
    found = NAME.fullmatch(called)
    return int(found[1]) if found else None


def beginnings(project: str) -> tuple[str, ...]:
    """Return how the lines begin that are about a project; `project NAME` and the like are whole lines, too."""
    return (*(f"{kind} {project}/" for kind in KINDS), f"{REVISION} {project}.", f"projects/{project}/")


def is_about(resource: str, project: str) -> bool:
    """Return whether a resource is the project itself or lies in it."""
    kind, _, rest = resource.partition(" ")
    return (kind in KINDS and rest == project) or resource.startswith(beginnings(project))


def shown(row: Row, project: str) -> ProjectEvent | None:
    """Return what a project may see of a row; None for a row that is not about it."""
    event = chain.event_of(row)
    about = tuple(_printable(each) for each in event.resources if is_about(each, project))
    changes = tuple(_uncounted(each) for each in event.changes if is_about(each.what, project))
    if not about and not changes:
        return None
    is_own = event.within == project
    is_alone = _is_alone(event, project)
    return ProjectEvent(
        row=name(row),
        at_us=event.at_us,
        actor=_actor(event, is_own=is_own),
        origin=event.origin if is_own else "",
        request=event.request if is_own else "",
        action=event.action,
        outcome=event.outcome,
        because=_COUNTED.sub("", event.because) if is_alone and (is_own or event.actor == PLATFORM) else "",
        resources=about,
        changes=changes,
        subject=event.subject if is_own else "",
        receipt=receipt(row.hash),
    )


def is_wanted(event: ProjectEvent, *, actor: str = "", action: str = "", resource: str = "") -> bool:
    """Return whether filters mean a row, by what is shown of it."""
    return (
        actor in ("", event.actor)
        and action.lower() in event.action.lower()
        and (not resource or any(resource.lower() in each.lower() for each in event.resources))
    )


def _is_alone(event: AuditEvent, project: str) -> bool:
    """Return whether its reasons can be of nothing but the project: nothing else changed or is named.

    Beside its own changes may stand the path of the request, such as `keys/a1b2c3d4/limits`, which names no project.
    """
    others = [each for each in event.resources if not is_about(each, project)]
    if any(" " in each or each.startswith("projects/") for each in others):
        return False
    return all(is_about(each.what, project) for each in event.changes) and (bool(event.changes) or not others)


def _uncounted(change: ResourceChange) -> ResourceChange:
    """Return a change without the field that counts the budgets of all projects. Numbers that name something stay."""
    if not change.what.startswith("budget "):
        return change
    return msgspec.structs.replace(change, fields=tuple(each for each in change.fields if each.field != "id"))


def _actor(event: AuditEvent, *, is_own: bool) -> str:
    if is_own or event.actor == PLATFORM or (event.actor == UNKNOWN and event.within != EVERY_PROJECT):
        return event.actor
    return OUTSIDE


def _printable(text: str) -> str:
    """Return a text for a screen: what a stranger asked for may have anything in it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
