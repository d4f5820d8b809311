"""Models from elsewhere: `hf:ORG/NAME[@REVISION][/FILE]` from a model hub, or an https address, into a folder.

Speaks the hub's own paths (`/api/models/…/revision/…`, `/…/resolve/…`) with the standard library: no telemetry, no
cache elsewhere, and any mirror that speaks them works by HF_ENDPOINT.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

import msgspec

from stoker.registry.download import Progress, PullSettings, Remote, download, get_json
from stoker.registry.formats import detect
from stoker.registry.paths import FILES_MAX, unsafe_reason
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact, TooLarge, Unavailable
from stoker.types.units import format_bytes

_HUB_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
# What an ONNX model of the hub needs besides its own file.
_COMPANIONS = (
    "config.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
)


class HubSource(NamedTuple):
    """A repository of a model hub, at a revision; `file` is "" for what the repository is for."""

    repo: str
    revision: str
    file: str


class Pull(msgspec.Struct, frozen=True):
    """What is to be fetched. `origin` names it for good, with the commit where there is one."""

    origin: str
    files: tuple[Remote, ...]


class _Lfs(msgspec.Struct):
    sha256: str = ""
    size: int = -1


class _Sibling(msgspec.Struct):
    rfilename: str
    size: int | None = None
    blob_id: str | None = msgspec.field(default=None, name="blobId")
    lfs: _Lfs | None = None


class _Repository(msgspec.Struct):
    siblings: list[_Sibling]
    sha: str = ""


def settings_from(environ: Mapping[str, str]) -> PullSettings:
    """Return the settings that HF_ENDPOINT and HF_TOKEN ask for."""
    endpoint = environ.get("HF_ENDPOINT", "").rstrip("/") or PullSettings().endpoint
    token = environ.get("HF_TOKEN", "")
    return PullSettings(endpoint=endpoint, authorization=f"Bearer {token}" if token else "")


def is_remote(source: str) -> bool:
    """Return whether `source` is to be fetched rather than read from the disk."""
    return source.startswith(("hf:", "https://", "http://"))


def fetch(
    source: str, folder: Path, progress: Progress | None = None, settings: PullSettings | None = None
) -> list[Path]:
    """Return the files of `source`, fetched into `folder` under their own paths; blocks.

    Called again with the same folder it goes on where it was stopped.

    Raises:
        InvalidInput: `source` is not one, or does not say which of several models.
        NotFound, Unauthenticated, Forbidden, Unavailable: the server's answer.
        RefusedArtifact: damaged bytes. TooLarge: over the limit.
    """
    chosen = settings or settings_from(os.environ)
    return run(resolve(source, chosen), folder, progress, chosen)


def resolve(source: str, settings: PullSettings) -> Pull:
    """Return which files `source` means, asking the hub where it is one. Raises as `fetch`."""
    if source.startswith("hf:"):
        return _resolve_hub(parse_hub(source), settings)
    parts = urlsplit(source)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise InvalidInput(f"{source[:200]!r} is no source; write hf:ORG/NAME, hf:ORG/NAME/FILE or an https address")
    name = PurePosixPath(unquote(parts.path)).name
    if reason := unsafe_reason(name):
        raise InvalidInput(f"the address does not end in a file name: {reason}")
    kind, _, digest = parts.fragment.partition("=")
    if parts.fragment and (kind != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", digest)):
        raise InvalidInput("after # only sha256=<64 hex digits> is known")
    return Pull(source, (Remote(parts._replace(fragment="").geturl(), name, sha256=digest),))


def run(pull: Pull, folder: Path, progress: Progress | None, settings: PullSettings) -> list[Path]:
    """Fetch what `resolve` found. Raises as `fetch`."""
    total = sum(max(remote.size_bytes, 0) for remote in pull.files)
    if total > settings.limit_bytes:
        raise TooLarge(f"{pull.origin} has {format_bytes(total)}, over {format_bytes(settings.limit_bytes)}")
    folder.mkdir(parents=True, exist_ok=True)
    return [download(remote, folder, progress or _silent, settings) for remote in pull.files]


def parse_hub(source: str) -> HubSource:
    """Return the parts of `hf:ORG/NAME[@REVISION][/FILE]`. Raises InvalidInput."""
    organisation, _, rest = source.removeprefix("hf:").partition("/")
    named, _, file = rest.partition("/")
    if not named:
        organisation, named = "", organisation
    name, at, revision = named.partition("@")
    parts = [organisation, name] if organisation else [name]
    if not all(_HUB_PART.fullmatch(part) for part in parts) or (at and not _HUB_PART.fullmatch(revision)):
        raise InvalidInput(f"{source[:200]!r} is no model of a hub; write hf:ORG/NAME, hf:ORG/NAME@REVISION/FILE")
    if file and (reason := unsafe_reason(file)):
        raise InvalidInput(f"the file {file[:200]!r} is refused: {reason}")
    return HubSource("/".join(parts), revision or "main", file)


def choose(paths: Sequence[str], file: str) -> list[str]:
    """Return which files of a repository to fetch: `file` or the one model in it, and what it needs.

    Raises NotFound for a file that is not there, InvalidInput when there are several models or none.
    """
    if file and file not in paths:
        raise NotFound(f"no file {file!r} in it; there are: {', '.join(sorted(paths)[:20])}")
    if file and not file.lower().endswith((".onnx", ".gguf")):
        return [file]
    found = detect(paths, entry=file or None)
    if found.format is None:
        raise InvalidInput(f"{found.problem.replace('name the entry, or push one file', 'name one: hf:ORG/NAME/FILE')}")
    match found.format:
        case "onnx":
            home = PurePosixPath(found.entry).parent
            wanted = {found.entry, *_COMPANIONS, *((home / name).as_posix() for name in _COMPANIONS)}
            data = (f"{found.entry}_data", f"{found.entry}.data")
            return [path for path in paths if path in wanted or path.startswith(data)]
        case "gguf":
            stem = re.sub(r"00001-of-\d{5}\.gguf$", "", found.entry)
            return [path for path in paths if path == found.entry or (stem != found.entry and path.startswith(stem))]
        case "skops":
            return [found.entry]
        case _:
            return [path for path in paths if not path.startswith(".git")]


def _resolve_hub(source: HubSource, settings: PullSettings) -> Pull:
    url = f"{settings.endpoint}/api/models/{source.repo}/revision/{quote(source.revision, safe='')}?blobs=true"
    listing = _repository(get_json(url, settings), settings)
    files = {sibling.rfilename: sibling for sibling in listing.siblings}
    if len(files) > FILES_MAX:
        raise InvalidInput(f"{source.repo} has more than {FILES_MAX} files; name one")
    commit = listing.sha if re.fullmatch(r"[0-9a-f]{40}", listing.sha) else source.revision
    remotes = []
    for path in choose(list(files), source.file):
        if reason := unsafe_reason(path):
            raise RefusedArtifact(f"{source.repo} has a file {path[:200]!r}: {reason}")
        remotes.append(_remote(files[path], f"{settings.endpoint}/{source.repo}/resolve/{commit}/{quote(path)}"))
    origin = f"hf:{source.repo}@{commit}" + (f"/{source.file}" if source.file else "")
    return Pull(origin, tuple(remotes))


def _repository(found: Any, settings: PullSettings) -> _Repository:
    try:
        return msgspec.convert(found, _Repository)
    except msgspec.ValidationError as error:
        raise Unavailable(f"{settings.endpoint} answered in a form that is not a hub's: {error}") from error


def _remote(sibling: _Sibling, url: str) -> Remote:
    if sibling.lfs is not None:
        return Remote(url, sibling.rfilename, sibling.lfs.size, sibling.lfs.sha256)
    size = -1 if sibling.size is None else sibling.size
    return Remote(url, sibling.rfilename, size, git_sha1=sibling.blob_id or "")


def _silent(file: str, done: int, total: int) -> None:
    """Show nothing."""
