"""What a replica of an endpoint runs, as one immutable value, and the digest that tells two of them apart."""

from typing import Any, Final

import msgspec

from stoker.core.mapping import mapped, why_not
from stoker.core.padding import Fault, resolve
from stoker.types.engines import AUTO, Goal
from stoker.types.ids import Digest, ModelName, RevisionId
from stoker.types.mapping import SchemaMapping
from stoker.types.models import ANY_FORMAT, DEFAULT_ENGINE, ENGINES, ModelVersion, Signature, sha256_digest
from stoker.types.placement import DEFAULT_POOL
from stoker.types.resources import EndpointSpec, Pad, Task
from stoker.types.sandbox import Sandbox
from stoker.types.units import parse_bytes

TASKS: tuple[Task, ...] = ("predict", "embed", "chat")


class ServingConfig(msgspec.Struct, frozen=True):
    """All that decides how a replica behaves. Two endpoints' specs with equal configs need no new revision.

    What only the gateway uses (deadlines, queue lengths) is left out: changing it restarts nothing. A field that comes
    later has a default and does not count in the digest while it has it: nobody's revision changes with an upgrade.
    """

    model: ModelName
    number: int
    digest: Digest
    task: Task
    engine: str
    options: dict[str, Any]
    env: dict[str, str]
    cpu: float
    memory_bytes: int
    max_rows: int
    max_body_bytes: int
    concurrency: int
    max_bytes: int = 64 * 2**20
    pad: dict[str, Pad] = {}
    goal: Goal | None = None  # only with the engine `auto`
    pool: str = DEFAULT_POOL  # of the nodes that it runs on
    gpu: float = 0.0
    sandbox: Sandbox = Sandbox()
    mapping: SchemaMapping | None = None

    @property
    def ref(self) -> str:
        """`digits@3`."""
        return f"{self.model}@{self.number}"

    def seen(self, version: Signature) -> Signature:
        """Return what clients see of a version with this signature."""
        return mapped(version, self.mapping)


_FIELDS: Final = msgspec.structs.fields(ServingConfig)  # finding them out takes longer than a digest


class Unservable(msgspec.Struct, frozen=True):
    """Why a spec and a version do not make a serving configuration; `field` is the spec's."""

    message: str
    field: str


def serving_config(spec: EndpointSpec, version: ModelVersion) -> ServingConfig | Unservable:
    """Return what replicas of `spec` on `version` run. The endpoint's options win over the version's own."""
    manifest = version.manifest
    task = spec.task or next((able for able in TASKS if able in manifest.tasks[:1]), None)
    if task is None:
        known = ", ".join(TASKS)
        return Unservable(f"model {version.ref} does not say what it is for; set one of {known}", "spec.task")
    if manifest.tasks and task not in manifest.tasks:
        able = ", ".join(manifest.tasks)
        return Unservable(f"model {version.ref} cannot do {task!r}; it can do {able}", "spec.task")
    if spec.engine not in (None, AUTO, ANY_FORMAT, *ENGINES[manifest.format]):
        able = " and ".join(ENGINES[manifest.format])
        message = f"engine {spec.engine!r} cannot run {version.ref}, whose format is {manifest.format}"
        message = f"{message}; {able} can, and {AUTO} takes what fits"
        return Unservable(message, "spec.engine")
    if spec.mapping is not None:
        if task != "predict":
            return Unservable(f"it maps tensors, and requests of the task {task!r} have none", "spec.mapping")
        if wrong := why_not(spec.mapping, manifest.signature):
            return Unservable(f"it does not fit {version.ref}: {wrong.message}", wrong.field)
    pad = resolve(spec.batching.pad, mapped(manifest.signature, spec.mapping), None)
    if isinstance(pad, Fault):
        return Unservable(pad.message, pad.field)
    return ServingConfig(
        model=version.name,
        number=version.number,
        digest=version.digest,
        task=task,
        engine=spec.engine or DEFAULT_ENGINE[manifest.format],
        options={**manifest.options, **spec.options},
        env=spec.env,
        cpu=spec.resources.cpu,
        memory_bytes=parse_bytes(spec.resources.memory),
        max_rows=spec.batching.max_rows,
        max_body_bytes=parse_bytes(spec.limits.max_body),
        concurrency=spec.limits.concurrency,
        max_bytes=parse_bytes(spec.batching.max_bytes),
        pad=spec.batching.pad,
        goal=spec.goal if spec.engine == AUTO else None,
        pool=spec.placement.pool,
        gpu=spec.resources.gpu,
        sandbox=spec.sandbox,
        mapping=spec.mapping,
    )


def config_digest(config: ServingConfig) -> Digest:
    """Return the digest of `config`: sha256 over the canonical JSON of what it has that is no default."""
    values = {field.name: value for field in _FIELDS if (value := getattr(config, field.name)) != _default(field)}
    return sha256_digest(msgspec.json.encode(values, order="sorted"))


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def revision_id(project: str, endpoint: str, number: int) -> RevisionId:
    """Return the name of an endpoint's `number`-th revision: `default.digits-3`."""
    return RevisionId(f"{project}.{endpoint}-{number}")
