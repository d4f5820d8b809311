"""Models of an MLflow tracking server, over its REST API, into a folder that registry/mlflow.py reads.

    mlflow:RUN_ID[/ARTIFACT]                 a run's model
    mlflow:models:/NAME/VERSION, …@ALIAS     a version of the server's registry

Files come through the server's artifact proxy (`mlflow-artifacts:`, how a server keeps them unless told otherwise), or
from this disk where that was allowed: a server that could name any folder of this machine could have anything pushed.
What lies in a store of its own, such as S3, is told and not fetched. The description is read before anything large.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec

from stoker.registry.download import Progress, PullSettings, Remote, download, get_json
from stoker.registry.mlflow import DESCRIPTION, DESCRIPTION_BYTES_MAX, PREFIX, RUN, served
from stoker.registry.paths import FILES_MAX, unsafe_reason
from stoker.registry.pull import Pull, run
from stoker.types.errors import InvalidInput, NotFound, RefusedArtifact, Unavailable, Unsupported

FOLDERS_MAX: Final = 1_000  # that are listed of one model
MODELS_MAX: Final = 100  # of a run that are looked at
REGISTERED: Final = "models:/"
_PROXY: Final = "mlflow-artifacts"
# What knows the stores that MLflow keeps artifacts in, by the beginning of their addresses.
_STORES: Final = {
    "s3": "S3",
    "gs": "Google Cloud Storage",
    "wasbs": "Azure",
    "wasb": "Azure",
    "abfss": "Azure",
    "abfs": "Azure",
    "dbfs": "Databricks",
    "hdfs": "HDFS",
}
_VERSION: Final = re.compile(r"(?P<name>[^/@]+)(?:/(?P<version>\d{1,9})|@(?P<alias>[^/@]+))")
_LOGGED: Final = re.compile(r"m-[0-9a-f]{32}")

_T = TypeVar("_T")


class Found(NamedTuple):
    """What was found: the file that is served, the run ("" when none is named), the address for good, and the folder
    where it lies: the one that it was fetched into, or its own on this disk.
    """

    entry: str
    run: str
    origin: str
    folder: Path


class _File(msgspec.Struct):
    path: str
    is_dir: bool = False
    file_size: int | str | None = None


class _Listing(msgspec.Struct):
    files: list[_File] = []


class _Output(msgspec.Struct):
    model_id: str = ""


class _Outputs(msgspec.Struct):
    model_outputs: list[_Output] = []


class _Info(msgspec.Struct):
    artifact_uri: str = ""
    name: str = ""
    source_run_id: str = ""


class _Run(msgspec.Struct):
    info: _Info
    outputs: _Outputs = msgspec.field(default_factory=_Outputs)


class _RunAnswer(msgspec.Struct):
    run: _Run


class _Logged(msgspec.Struct):
    info: _Info


class _LoggedAnswer(msgspec.Struct):
    model: _Logged


class _Version(msgspec.Struct):
    version: str | int = ""
    run_id: str = ""


class _VersionAnswer(msgspec.Struct):
    model_version: _Version


class _Address(msgspec.Struct):
    artifact_uri: str = ""


class _Place(NamedTuple):
    """A folder of artifacts as the server addresses it, and the run that made it."""

    uri: str
    run: str


def is_on_server(source: str, environ: Mapping[str, str], here: Path) -> bool:
    """Return whether `source` is to be asked of a tracking server."""
    named = source.removeprefix(PREFIX)
    is_named = named.startswith(REGISTERED) or RUN.fullmatch(named.partition("/")[0]) is not None
    if named.startswith(REGISTERED) and not _address(environ):
        raise InvalidInput(f"{named[:200]!r} is of a tracking server: set MLFLOW_TRACKING_URI to its address")
    return is_named and bool(_address(environ)) and not (here / named / DESCRIPTION).is_file()


def settings_from(environ: Mapping[str, str]) -> PullSettings:
    """Return how the tracking server that MLFLOW_TRACKING_URI names is asked. Raises InvalidInput."""
    endpoint = _address(environ)
    if urlsplit(endpoint).username is not None:
        raise InvalidInput(
            "MLFLOW_TRACKING_URI has a name or password in it; give them in MLFLOW_TRACKING_USERNAME and _PASSWORD"
        )
    token, user = environ.get("MLFLOW_TRACKING_TOKEN", ""), environ.get("MLFLOW_TRACKING_USERNAME", "")
    authorization = f"Bearer {token}" if token else ""
    if user and not token:
        pair = f"{user}:{environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return PullSettings(
        endpoint=endpoint,
        authorization=authorization,
        kind="an MLflow tracking server",
        who="set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        terms="",
    )


def fetch(source: str, folder: Path, progress: Progress, settings: PullSettings, allowed: Path | None = None) -> Found:
    """Return what `mlflow:…` means, fetched into `folder`; blocks. Called again it goes on where it stopped.

    allowed: the folder of this disk below which artifacts may lie; None: nowhere.

    Raises:
        InvalidInput: `source` is not one, or the run has several models.
        NotFound, Unauthenticated, Forbidden, Unavailable: the server's answer.
        RefusedArtifact: no flavor that can be served, or hostile names. TooLarge: over the limit.
        Unsupported: its files lie where the server does not give them out, nor does `allowed` allow them.
    """
    named = source.removeprefix(PREFIX)
    server = _Server(settings, allowed)
    place = server.registered(named) if named.startswith(REGISTERED) else server.of_run(*_run_of(named))
    origin = f"{settings.endpoint}/#{named}"
    here = server.on_disk(place.uri)
    if here is not None:
        if not (here / DESCRIPTION).is_file():
            raise NotFound(f"{named} has no {DESCRIPTION} in {here}")
        entry, run_id = served(here / DESCRIPTION)
        return Found(entry, place.run or run_id, origin, here)
    root = server.proxied(place.uri)
    folder.mkdir(parents=True, exist_ok=True)
    described = download(server.remote(root, DESCRIPTION), folder, progress, server.small)
    entry, run_id = served(described)
    files = tuple(server.walk(root))
    if entry not in {each.path for each in files}:
        raise NotFound(f"{DESCRIPTION} of {named} names {entry}, which is not there")
    run(Pull(origin, files), folder, progress, settings)
    return Found(entry, place.run or run_id, origin, folder)


class _Server:
    """The answers of one tracking server, as values."""

    def __init__(self, settings: PullSettings, allowed: Path | None) -> None:
        self._settings = settings
        self._allowed = allowed
        self.small = msgspec.structs.replace(settings, limit_bytes=DESCRIPTION_BYTES_MAX)

    def registered(self, named: str) -> _Place:
        """Return where a version of the server's registry lies. Raises NotFound, InvalidInput."""
        match = _VERSION.fullmatch(named.removeprefix(REGISTERED))
        if match is None:
            raise InvalidInput(
                f"{named[:200]!r} is no version; write mlflow:models:/NAME/VERSION or models:/NAME@ALIAS"
            )
        name = match["name"]
        if match["alias"]:
            asked = self._ask("registered-models/alias", _VersionAnswer, named, name=name, alias=match["alias"])
        else:
            asked = self._ask("model-versions/get", _VersionAnswer, named, name=name, version=match["version"])
        version = str(asked.model_version.version or match["version"])
        found = self._ask("model-versions/get-download-uri", _Address, named, name=name, version=version)
        return self._settled(_Place(found.artifact_uri, asked.model_version.run_id))

    def of_run(self, run_id: str, artifact: str) -> _Place:
        """Return where the one model of a run lies, or the one at `artifact`. Raises NotFound, InvalidInput."""
        found = self._ask("runs/get", _RunAnswer, f"run {run_id}", run_id=run_id).run
        models = {
            name: _Place(f"{found.info.artifact_uri}/{quote(name)}", run_id) for name in self._models(found, artifact)
        }
        for each in found.outputs.model_outputs[:MODELS_MAX]:  # where MLflow 3 keeps them
            logged = self._logged(each.model_id)
            if not artifact or artifact in (logged.name, each.model_id):
                models.setdefault(logged.name or each.model_id, _Place(logged.artifact_uri, run_id))
        if not models and artifact:
            raise NotFound(f"run {run_id} has no model at {artifact!r}")
        if len(models) != 1:
            names = ", ".join(sorted(models)[:8]) or "none"
            raise InvalidInput(f"run {run_id} has not exactly one model: {names}; write mlflow:{run_id}/ARTIFACT")
        return next(iter(models.values()))

    def proxied(self, uri: str) -> str:
        """Return the path below the server's artifact proxy that `uri` means. Raises Unsupported."""
        parts = urlsplit(uri)
        if parts.scheme != _PROXY or parts.netloc not in ("", urlsplit(self._settings.endpoint).netloc):
            box = f"{parts.username}@" if parts.username and not parts.password else ""  # how Azure's name a container
            where = f"{parts.scheme}://{box}{parts.hostname or ''}{parts.path}"[:500]
            store = _STORES.get(parts.scheme, "that store")
            raise Unsupported(
                f"its files lie at {where}, and the tracking server does not give them out: fetch them with the "
                f"credentials of {store} (mlflow artifacts download --artifact-uri {where} -d FOLDER), then push "
                "mlflow:FOLDER. For runs to come, start the server with --serve-artifacts and --artifacts-destination"
            )
        return parts.path.strip("/")

    def on_disk(self, uri: str) -> Path | None:
        """Return the folder of this disk that `uri` means; None where it means none. Raises Unsupported."""
        parts = urlsplit(uri)
        if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            return None
        path = Path(unquote(parts.path))
        if self._allowed is None:
            raise Unsupported(
                f"its files lie in {path}, on the tracking server's disk: where that is this machine's, or mounted "
                "here, allow the folder (stoker push --artifacts FOLDER); else fetch them there with `mlflow artifacts "
                "download`, then push mlflow:FOLDER"
            )
        found, allowed = path.resolve(), self._allowed.resolve()
        if not found.is_relative_to(allowed):
            raise Unsupported(f"its files lie in {path}, which is not below {self._allowed} (--artifacts)")
        if not found.is_dir():
            raise NotFound(f"its files lie in {path}, which is no folder here; the server's disk is another")
        return found

    def remote(self, root: str, path: str, size_bytes: int = -1) -> Remote:
        """Return a file below a folder of the proxy."""
        base = f"{self._settings.endpoint}/api/2.0/mlflow-artifacts/artifacts"
        return Remote(f"{base}/{quote(f'{root}/{path}')}", path, size_bytes)

    def walk(self, root: str) -> Iterator[Remote]:
        """Yield every file below a folder of the proxy. Raises RefusedArtifact for what no version could hold."""
        waiting, listed, count = [""], 0, 0
        while waiting:
            below = waiting.pop()
            listed += 1
            if listed > FOLDERS_MAX:
                raise RefusedArtifact(f"it has more than {FOLDERS_MAX} folders; push the model's own folder only")
            for each in self._list(f"{root}/{below}".rstrip("/")):
                path = f"{below}/{each.path}" if below else each.path
                if reason := unsafe_reason(path):
                    raise RefusedArtifact(f"it has a file {path[:200]!r}: {reason}")
                if each.is_dir:
                    waiting.append(path)
                    continue
                count += 1
                if count > FILES_MAX:
                    raise RefusedArtifact(f"it has more than {FILES_MAX} files; push the model's own folder only")
                size = str(each.file_size or "")
                yield self.remote(root, path, int(size) if size.isdigit() else -1)

    def _models(self, found: _Run, artifact: str) -> list[str]:
        """Return the folders of a run's artifacts that have a description."""
        if artifact and (reason := unsafe_reason(artifact)):
            raise InvalidInput(f"the artifact {artifact[:200]!r} is refused: {reason}")
        if (here := self.on_disk(found.info.artifact_uri)) is not None:
            held = [artifact] if artifact else sorted(each.parent.name for each in here.glob(f"*/{DESCRIPTION}"))
            return [name for name in held[:MODELS_MAX] if (here / name / DESCRIPTION).is_file()]
        root = self.proxied(found.info.artifact_uri)
        names = [artifact] if artifact else [each.path for each in self._list(root) if each.is_dir][:MODELS_MAX]
        return [name for name in names if any(each.path == DESCRIPTION for each in self._list(f"{root}/{name}"))]

    def _settled(self, place: _Place) -> _Place:
        """Return where the files of a version are: that may be another name for a logged model."""
        model_id = place.uri.removeprefix(REGISTERED).strip("/")
        if not _LOGGED.fullmatch(model_id):
            return place
        found = self._logged(model_id)
        return _Place(found.artifact_uri, place.run or found.source_run_id)

    def _logged(self, model_id: str) -> _Info:
        if not _LOGGED.fullmatch(model_id):
            raise Unavailable(f"the tracking server names a model {model_id[:100]!r}, which is none")
        return self._ask(f"logged-models/{model_id}", _LoggedAnswer, f"model {model_id}").model.info

    def _list(self, path: str) -> list[_File]:
        url = f"{self._settings.endpoint}/api/2.0/mlflow-artifacts/artifacts?{urlencode({'path': path})}"
        return self._converted(get_json(url, self._settings), _Listing).files

    def _ask(self, what: str, kind: type[_T], whom: str, **query: str) -> _T:
        url = f"{self._settings.endpoint}/api/2.0/mlflow/{what}"
        try:
            return self._converted(get_json(f"{url}?{urlencode(query)}" if query else url, self._settings), kind)
        except NotFound as gone:
            raise NotFound(f"{self._settings.endpoint} has no {whom}") from gone

    def _converted(self, found: Any, kind: type[_T]) -> _T:
        try:
            return msgspec.convert(found, kind)
        except msgspec.ValidationError as odd:
            raise Unavailable(f"{self._settings.endpoint} answered in a form that is not MLflow's: {odd}") from odd


def _address(environ: Mapping[str, str]) -> str:
    """Return the address of the tracking server, "" where the store is none."""
    address = environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    return address if urlsplit(address).scheme in ("http", "https") else ""


def _run_of(named: str) -> tuple[str, str]:
    run_id, _, artifact = named.partition("/")
    return run_id, artifact.strip("/")
