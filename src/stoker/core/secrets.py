"""Which secrets who may name, when one is read again, and what is no reference but a secret itself. Pure.

A project names what is in its own area, and what the platform lists for it: else whoever may write an endpoint could
have the platform read any file or variable of its own, and send it to a server of theirs.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, cast

import msgspec

from stoker.core import conditions
from stoker.core.recognise import secrets as recognised
from stoker.types.errors import InvalidInput
from stoker.types.secrets import (
    ENV_PREFIX,
    REFERENCE_MAX,
    REFERENCE_PATTERN,
    Health,
    Kind,
    Reference,
    SecretState,
    SecretUse,
    SecretView,
)
from stoker.types.statuses import Condition

KINDS: Final = ("env:", "file:", "vault:")
OPTION: Final = "options.api_key"  # the place of a remote server's key
FORMS: Final = "env:STOKER_SECRET_…, file:/path[#field] or vault:MOUNT/PATH#field"
SCRUBBED: Final = "(not kept)"  # for a secret that stood in an old revision
HOOKED: Final = ("spec.rollout.hooks[", "spec.drift.trigger.")  # fields of an endpoint that control resolves
LOCAL_TTL_S: Final = 5.0  # files are read again so often: it costs microseconds
BACKOFF_FIRST_S: Final = 1.0
BACKOFF_MAX_S: Final = 20.0
REREAD_S: Final = 1.0  # between two readings that a refused request asks for
_KEY_FILE: Final = "spec.options.api_key_file"
_REFERENCE: Final = re.compile(REFERENCE_PATTERN)
_REST: Final = re.compile(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*")  # of a variable, behind the project: no `__` in it
_TELLING: Final = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(?:$|_)", re.IGNORECASE
)
# What a variable may be that is called so and is none: a number, a switch, a path.
_PLAIN: Final = re.compile(r"(?:[0-9.]{1,16}|true|false|on|off|yes|no|none|null|/[^\s]{0,1000})?", re.IGNORECASE)
_USERINFO: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]{0,20}://[^/\s?#]*@")
# Addresses that are secrets themselves: who knows one may post.
_POSTING: Final = re.compile(
    r"^https?://(?:hooks\.slack\.com/|(?:\w+\.)?discord(?:app)?\.com/api/webhooks/|[\w.-]+\.webhook\.office\.com/)"
)


def is_reference(text: str) -> bool:
    """Return whether `text` is meant as one: it begins so."""
    return text.startswith(KINDS)


def parse(text: str) -> Reference:
    """Return a reference taken apart. Raises InvalidInput, which never holds what may be a secret."""
    if not is_reference(text):
        raise InvalidInput(f"a secret is named, never written: {FORMS}")
    if len(text) > REFERENCE_MAX or not _REFERENCE.fullmatch(text):
        form = {"env": "env:STOKER_SECRET_NAME", "file": "file:/path or file:/path#field"}
        kind = text.partition(":")[0]
        raise InvalidInput(f"no such reference; write {form.get(kind, 'vault:MOUNT/PATH#field')}")
    kind, _, rest = text.partition(":")
    name, _, field = rest.partition("#")
    if kind != "env" and any(part in ("", ".", "..") for part in name.removeprefix("/").split("/")):
        raise InvalidInput(f"{kind}:{name} goes by `..`, `.` or `//`; write the plain path")
    return Reference(cast(Kind, kind), name, field)


def own_area(project: str, folder: str, vault: str) -> tuple[str, ...]:
    """Return what a project may name without being asked: its own area. folder: of all projects' secret files.

    vault: a path with `{project}` in it; "": there is none.
    """
    found = [f"env:{ENV_PREFIX}{project.upper().replace('-', '_')}__*", f"file:{folder}/{project}/*"]
    if vault:
        found.append(f"vault:{vault.replace('{project}', project)}/*")
    return tuple(found)


def refusal(reference: str, project: str, folder: str, vault: str, listed: Iterable[str]) -> str:
    """Return why `project` may not name `reference`; "" where it may. listed: what the platform allows it besides."""
    try:
        found = parse(reference)
    except InvalidInput as wrong:
        return wrong.message
    if found.kind == "env" and not found.name.startswith(ENV_PREFIX):
        return f"{found.place}: only variables that begin with {ENV_PREFIX} reach the platform's processes"
    own = own_area(project, folder, vault)
    if any(_matches(found, each, is_own=True) for each in own):
        return ""
    if any(_matches(found, each, is_own=False) for each in listed):
        return ""
    return (
        f"project {project!r} may not name {found.place}: its own are {', '.join(own)}; the platform's operator can "
        "list more in the project (`spec.secrets`)"
    )


class Rules(msgspec.Struct, frozen=True):
    """Where the own areas of projects are. See own_area."""

    folder: str
    vault: str

    def refusal(self, reference: str, project: str, listed: Iterable[str] = ()) -> str:
        """See refusal."""
        return refusal(reference, project, self.folder, self.vault, listed)


def _matches(found: Reference, pattern: str, *, is_own: bool) -> bool:
    if not pattern.endswith("*"):
        return found.place == pattern
    begin = pattern[:-1]
    if not found.place.startswith(begin) or len(found.place) == len(begin):
        return False
    # `A__B__C` is a variable of project a--b, not of a, whose prefix it has too.
    return not (is_own and found.kind == "env") or _REST.fullmatch(found.place[len(begin) :]) is not None


def named(options: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """Return the references of an endpoint, by their place: `options.api_key`, `env.NAME`.

    `options.api_key_file` and a variable that `api_key_env` names are older ways to say `api_key`.
    """
    found = {f"env.{name}": value for name, value in sorted(env.items()) if is_reference(value)}
    key = options.get("api_key", "")
    file, variable = options.get("api_key_file", ""), options.get("api_key_env", "")
    if isinstance(key, str) and is_reference(key):
        found[OPTION] = key
    elif isinstance(file, str) and file:
        found[OPTION] = f"file:{file}"
    elif isinstance(variable, str) and f"env.{variable}" in found:
        found[OPTION] = found[f"env.{variable}"]
    return found


def literals(options: Mapping[str, Any], env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield fields of an endpoint that hold a secret where a reference belongs, and what to write instead."""
    for name, value in env.items():
        yield from _in_env(name, value)
    for path, value in _texts(options, "spec.options"):
        if path == _KEY_FILE:
            yield path, f"write `api_key: file:{value}`"
        else:
            yield from _in_option(path, value)


def scrubbed(options: Mapping[str, Any], env: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return both with SCRUBBED for each secret that stands there in clear."""
    kept = {name: SCRUBBED if any(_in_env(name, value)) else value for name, value in env.items()}
    return {name: _scrubbed(value, f"spec.options.{name}") for name, value in options.items()}, kept


def is_scrubbed(options: Mapping[str, Any], env: Mapping[str, str]) -> bool:
    """Return whether a secret stood there that was not kept."""
    return SCRUBBED in env.values() or any(value == SCRUBBED for _, value in _texts(dict(options), ""))


def restored(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return options or variables of `then`, with what stands `now` in the place of each secret that was not kept.

    Where nothing stands there now, it is left out.
    """
    found: dict[str, Any] = {}
    for name, value in then.items():
        if isinstance(value, dict):
            inner = now.get(name)
            found[name] = restored(value, inner if isinstance(inner, dict) else {})
        elif value == SCRUBBED or (isinstance(value, list) and any(each == SCRUBBED for _, each in _texts(value, ""))):
            if name in now:
                found[name] = now[name]
        else:
            found[name] = value
    return found


def has_userinfo(url: str) -> bool:
    """Return whether an address holds a user or a password."""
    return _USERINFO.match(url) is not None


def literal_address(url: str, instead: str = "url_from") -> str:
    """Return why an address may not stand in a manifest; "" for one that may. instead: the field that names one."""
    if has_userinfo(url):
        return f"the address holds a user or a password; name it with `{instead}`: {FORMS}"
    if _POSTING.match(url) or _looks_secret(url):
        return f"who knows this address may post there, so it is a secret; name it with `{instead}`: {FORMS}"
    return ""


def is_controls(use: SecretUse) -> bool:
    """Return whether control resolves it: what receivers of alerts and hooks name. Gateways resolve the rest."""
    return use.kind == "Notifier" or use.field.startswith(HOOKED)


def _in_env(name: str, value: str) -> Iterator[tuple[str, str]]:
    if is_reference(value):
        yield from _wrong(f"spec.env.{name}", value)
    elif _looks_secret(value) or (_TELLING.search(name) and not _PLAIN.fullmatch(value)):
        yield f"spec.env.{name}", f"this looks like a secret, which no manifest may hold; name it: {FORMS}"


def _in_option(path: str, value: str) -> Iterator[tuple[str, str]]:
    if path == "spec.options.api_key" and value:
        yield from _wrong(path, value)
    elif _USERINFO.match(value):
        yield path, "the address holds a user or a password; write it without, and the key as `api_key`"
    elif _looks_secret(value):
        yield path, f"this looks like a secret, which no manifest may hold; name it as `api_key`: {FORMS}"


def _scrubbed(value: object, path: str) -> object:
    match value:
        case str():
            return SCRUBBED if path != _KEY_FILE and any(_in_option(path, value)) else value
        case dict():
            return {name: _scrubbed(inner, f"{path}.{name}") for name, inner in value.items()}
        case list() | tuple():
            return [_scrubbed(inner, f"{path}[{number}]") for number, inner in enumerate(value)]
        case _:
            return value


def _wrong(path: str, value: str) -> Iterator[tuple[str, str]]:
    try:
        parse(value)
    except InvalidInput as wrong:
        yield path, wrong.message


def _looks_secret(text: str) -> bool:
    return recognised.is_issued(text)


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield path, value
        case dict():
            for name, inner in value.items():
                yield from _texts(inner, f"{path}.{name}")
        case list() | tuple():
            for number, inner in enumerate(value):
                yield from _texts(inner, f"{path}[{number}]")


class Reading(msgspec.Struct, frozen=True):
    """How the readings of one secret stand. Seconds, of one clock. read_s: of the last good one; None: there is none.

    failures: in a row since then. tried_s: of the last, good or not. wait_s: what the source asked to wait.
    """

    read_s: float | None = None
    tried_s: float | None = None
    failures: int = 0
    wait_s: float = 0.0

    def good(self, now_s: float) -> "Reading":
        """Return how it stands after a good reading."""
        return Reading(read_s=now_s, tried_s=now_s)

    def failed(self, now_s: float, wait_s: float = 0.0) -> "Reading":
        """Return how it stands after a failed one."""
        return Reading(self.read_s, now_s, self.failures + 1, min(max(wait_s, 0.0), BACKOFF_MAX_S))

    def due_s(self, ttl_s: float) -> float:
        """Return when it is read again."""
        if self.tried_s is None:
            return -float("inf")
        if not self.failures:
            return self.tried_s + ttl_s
        backoff_s: float = min(BACKOFF_FIRST_S * 2.0 ** min(self.failures - 1, 16), BACKOFF_MAX_S)
        return self.tried_s + max(backoff_s, self.wait_s)

    def is_usable(self, now_s: float, ttl_s: float, stale_s: float) -> bool:
        """Return whether the last good value still counts: in time, or no longer stale than `stale_s`."""
        return self.read_s is not None and now_s - self.read_s <= ttl_s + stale_s

    def may_reread(self, now_s: float) -> bool:
        """Return whether a request that was refused may have it read at once."""
        return self.tried_s is None or now_s - self.tried_s >= REREAD_S or now_s < self.tried_s


def ttl_s(kind: Literal["env", "file", "vault"], vault_ttl_s: float) -> float:
    """Return how long a value of that kind is used before it is read again."""
    return vault_ttl_s if kind == "vault" else min(LOCAL_TTL_S, vault_ttl_s)


_BAD: Final[Mapping[Health, str]] = {
    "refused": "SecretRefused",
    "missing": "SecretUnavailable",
    "stale": "SecretStale",
}


def condition(views: Iterable[SecretView], now_s: float) -> Condition | None:
    """Return what is said of an endpoint by how its secrets stand; None while no process has needed any."""
    found = sorted(views, key=lambda each: each.use.field)
    for bad, reason in _BAD.items():
        said = [each for each in found if each.health == bad]
        if said:
            words = "; ".join(f"{each.use.field}: {each.message}" for each in said)
            return Condition(conditions.SECRETS, False, reason, words, now_s)
    if any(each.health == "unread" for each in found):
        return None
    return Condition(conditions.SECRETS, True, "Resolved", f"{len(found)} named, all resolved", now_s)


def is_news(before: Condition | None, said: Condition) -> bool:
    """Return whether `said` is another claim."""
    return before is None or (before.status, before.reason, before.message) != (said.status, said.reason, said.message)


def health(use: SecretUse, states: Iterable[SecretState]) -> tuple[Health, str]:
    """Return how a secret stands, by the worst of the processes that resolve it, and in a sentence."""
    if use.refusal:
        return "refused", use.refusal
    known = [each for each in states if each.tried_at_s]
    if not known:
        return "unread", "no process has needed it yet"
    worst = min(known, key=lambda each: (each.is_usable, not each.problem))
    if not worst.is_usable:
        return "missing", worst.problem or "there is no value"
    if worst.problem:
        return "stale", f"the last value is used on, for a while: {worst.problem}"
    return "good", "resolved"
