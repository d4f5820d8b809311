"""Every setting of the platform: its unit, its default, the variable that sets it, and why one would.

A setting reaches the processes by their environment (`environment`), so that each reads the same values with `load`.
"""

import os
import re
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

from msgspec import Meta

from stoker.agent import kernel
from stoker.app.secret_settings import SECRET_FILES, SecretSettings, check_secrets
from stoker.app.setting import setting
from stoker.types.errors import InvalidInput
from stoker.types.ids import NAME_PATTERN
from stoker.types.placement import DEFAULT_POOL
from stoker.types.tls import Files
from stoker.types.tuning import NAMES, Tuning
from stoker.types.units import parse_bytes, parse_seconds

LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_WORDS: Final = {"log_level": LOG_LEVELS, "access_log": ("on", "off"), "forks": ("on", "off")}
DEFAULT_PORT: Final = 8080
USAGE_JOURNAL_MAX_BYTES: Final = 256 << 20  # a million records
# One that is killed is then invisible to the clients of the others, and whatever core is free for a moment can be used:
# on two cores the second one brings 17 % more small requests a second, for 10 % more processor time each (`python -m
# bench --only peers`). Four of them, at 40 MB each, leave an idle platform under 300 MB; who wants more says so.
GATEWAYS_USUAL_MAX: Final = 4
_FILES: Final = ("tls_cert", "tls_key", "tls_client_ca", "samples_key", "otlp_headers", *SECRET_FILES)


class Settings(SecretSettings, frozen=True, kw_only=True):
    """What one platform runs with. `home` is absolute."""

    home: Annotated[Path, setting("STOKER_HOME", "folder", "all state of the platform: database, models, logs")]
    host: Annotated[
        str, setting("STOKER_HOST", "address", "where gateways listen; 0.0.0.0 for every interface of the machine")
    ] = "127.0.0.1"
    port: Annotated[
        int, setting("PORT", "TCP port", "the data plane: OpenAI and Open Inference Protocol", ge=1, le=65535)
    ] = DEFAULT_PORT
    api_port: Annotated[
        int,
        setting("STOKER_API_PORT", "TCP port", "the control API, on loopback; by default PORT + 1", ge=1, le=65535),
    ] = DEFAULT_PORT + 1
    grpc_port: Annotated[
        int,
        setting(
            "STOKER_GRPC_PORT",
            "TCP port",
            "the Open Inference Protocol over gRPC, on the same address as the data plane; 0 for none. "
            "Needs `pip install 'stoker[grpc]'`",
            ge=0,
            le=65535,
        ),
    ] = 0
    gateways: Annotated[
        int,
        setting("STOKER_GATEWAYS", "processes", "gateways on the port: each a core, queues and a cache", ge=1, le=64),
    ] = 1  # `load` makes it `usual_gateways`
    pool: Annotated[
        str,
        setting(
            "STOKER_POOL", "name", "the pool this node is in: endpoints with this `placement.pool` run here, no others"
        ),
    ] = DEFAULT_POOL
    connections_per_address: Annotated[
        int,
        setting(
            "STOKER_CONNECTIONS_PER_ADDRESS",
            "connections",
            "how many one client address may have open at one gateway; 0: no limit, for behind a proxy",
            ge=0,
            le=65535,
        ),
    ] = 2048
    tls_cert: Annotated[
        str,
        setting("STOKER_TLS_CERT", "file", "certificate (PEM, with those that signed it) for HTTPS on the data plane"),
    ] = ""
    tls_key: Annotated[str, setting("STOKER_TLS_KEY", "file", "the certificate's key (PEM)")] = ""
    tls_client_ca: Annotated[
        str,
        setting("STOKER_TLS_CLIENT_CA", "file", "who signs the certificates (PEM) that clients must show to be served"),
    ] = ""
    log_level: Annotated[str, setting("STOKER_LOG_LEVEL", "debug, info, warning or error", "how much is logged")] = (
        "info"
    )
    access_log: Annotated[
        str,
        setting(
            "STOKER_ACCESS_LOG", "on or off", "a JSON line for each request for inference, in the folder logs/access"
        ),
    ] = "off"
    cache_max_bytes: Annotated[
        int,
        setting(
            "STOKER_CACHE_MAX",
            "bytes",
            "what the kept answers of all endpoints may take in one gateway",
            ge=0,
            le=1 << 40,
        ),
    ] = 512 << 20
    usage_journal_max_bytes: Annotated[
        int,
        setting(
            "STOKER_USAGE_JOURNAL_MAX",
            "bytes",
            "what one gateway's records of usage may take while control does not settle them; over it requests with a "
            "price or a budget are refused",
            ge=16 << 20,
            le=1 << 40,
        ),
    ] = USAGE_JOURNAL_MAX_BYTES
    usage_records_days: Annotated[
        int,
        setting("STOKER_USAGE_RECORDS_DAYS", "days", "how long usage is kept request by request", ge=1, le=400),
    ] = 35
    usage_records_max_bytes: Annotated[
        int,
        setting("STOKER_USAGE_RECORDS_MAX", "bytes", "what that may take, compressed; 0: none", ge=0, le=1 << 40),
    ] = 256 << 20
    samples_max_bytes: Annotated[
        int,
        setting(
            "STOKER_SAMPLES_MAX",
            "bytes",
            "what the samples of all endpoints may take on the disk; the oldest hours go first",
            ge=0,
            le=1 << 50,
        ),
    ] = 1 << 30
    samples_key: Annotated[
        str,
        setting(
            "STOKER_SAMPLES_KEY_FILE",
            "file",
            "64 hex digits: the master key of samples, when it is not to lie in the state folder",
        ),
    ] = ""
    audit_days: Annotated[
        int,
        setting("STOKER_AUDIT_DAYS", "days", "how long rows of the audit are kept; 0: for ever", ge=0, le=36_500),
    ] = 400
    audit_copy: Annotated[
        str,
        setting(
            "STOKER_AUDIT_COPY",
            "file or URL",
            "a second place for the audit's signed checkpoints: a file that is appended to, best on another machine's "
            "disk, or an http(s) address that gets each by POST",
        ),
    ] = ""
    metrics_max_bytes: Annotated[
        int,
        setting(
            "STOKER_METRICS_MAX",
            "bytes",
            "what the history of metrics may take on disk; over it the oldest hours go first",
            ge=16 << 20,
            le=1 << 40,
        ),
    ] = 1 << 30
    trace_ratio: Annotated[
        float,
        setting(
            "STOKER_TRACE_RATIO",
            "0 to 1",
            "the share of all requests that leave a trace; those that fail, are slow or are tried again do anyway",
            ge=0,
            le=1,
        ),
    ] = 0.01
    trace_slow_s: Annotated[
        float,
        setting(
            "STOKER_TRACE_SLOW",
            "seconds",
            "a request that takes longer leaves a trace; 0: one that is slower than 99 in 100 of its endpoint",
            ge=0,
            le=86_400,
        ),
    ] = 0.0
    otlp_endpoint: Annotated[
        str,
        setting(
            "STOKER_OTLP_ENDPOINT", "URL", "an OTLP/HTTP receiver that all metrics and traces are sent to; empty: none"
        ),
    ] = ""
    otlp_headers: Annotated[
        str,
        setting(
            "STOKER_OTLP_HEADERS_FILE", "file", "`name: value` lines sent with them, such as the receiver's secret"
        ),
    ] = ""
    otlp_interval_s: Annotated[
        float, setting("STOKER_OTLP_INTERVAL", "seconds", "how often they are sent", ge=1, le=3600)
    ] = 15.0
    drain_s: Annotated[
        float,
        setting("STOKER_DRAIN", "seconds", "what runs may take to finish at a stop; then it is cut", ge=0, le=3600),
    ] = 30.0
    forks: Annotated[
        str,
        setting(
            "STOKER_FORKS",
            "on or off",
            "replicas are forked from a process that has their modules; it takes 45 MB, for scikit-learn 150 MB",
        ),
    ] = "on"
    # The kernel goes on giving new connections to a gateway that hangs, and starting it again loads no model. Its
    # answers to PING are late by milliseconds under full load, so ten seconds are far from a false alarm.
    gateway_silent_s: Annotated[
        float,
        setting("STOKER_GATEWAY_SILENT", "seconds", "a gateway that hangs for so long is started again", ge=2, le=3600),
    ] = 10.0
    start_timeout_s: Annotated[
        float,
        setting(
            "STOKER_START_TIMEOUT", "seconds", "how long `stoker up` waits for the platform to answer", ge=1, le=3600
        ),
    ] = 60.0

    @property
    def gateway_url(self) -> str:
        """Return where clients on this machine call the data plane."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        scheme = "https" if self.tls_cert else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def tls_files(self) -> Files | None:
        """Return what HTTPS is made of; None: the data plane speaks HTTP."""
        if not self.tls_cert:
            return None
        return Files(self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def tuning(self) -> Tuning:
        """Return those that can be changed while the platform runs."""
        return Tuning(**{name: getattr(self, name) for name in NAMES})

    def environment(self) -> dict[str, str]:
        """Return the variables that make `load` return these settings again."""
        return {meta.extra["variable"]: _written(getattr(self, name)) for name, meta in _metas().items() if meta.extra}


def load(environ: Mapping[str, str], **given: Any) -> Settings:
    """Return the settings: what is `given` (None: not given), else what `environ` says, else the default.

    Raises:
        InvalidInput: a value that cannot be; `field` is the variable that sets it.
    """
    values: dict[str, Any] = {}
    for name, meta in _metas().items():
        variable = (meta.extra or {})["variable"]
        value = given.get(name)
        if value is None and environ.get(variable, "") != "":
            value = _read(name, variable, environ[variable])
        if value is not None:
            values[name] = value
    values["home"] = Path(os.path.abspath(Path(values.get("home") or "~/.stoker").expanduser()))  # noqa: PTH100
    for name in _FILES:
        if values.get(name):
            values[name] = os.path.abspath(Path(values[name]).expanduser())  # noqa: PTH100
    values.setdefault("gateways", usual_gateways(kernel.usable_cores()))
    if "port" in values and "api_port" not in values:
        values["api_port"] = values["port"] + 1
    _check(values)
    return Settings(**values)


def check_grpc(chosen: Settings) -> None:
    """Raise InvalidInput when gRPC is asked for and not installed."""
    needed = ("grpc", "google", "google.protobuf")  # a parent first: looking inside one that is not there raises
    if chosen.grpc_port and not all(find_spec(name) for name in needed):
        raise InvalidInput(
            f"STOKER_GRPC_PORT={chosen.grpc_port}: gRPC is not installed here; pip install 'stoker[grpc]', "
            "or leave the setting out",
            field="STOKER_GRPC_PORT",
        )


def usual_gateways(cores: float) -> int:
    """Return how many gateways a machine has where nobody says."""
    return max(1, min(GATEWAYS_USUAL_MAX, int(cores)))


def page() -> str:
    """Return the page of the documentation with every setting."""
    lines = [
        "# Settings",
        "",
        "Set them in the environment of `stoker up`; the most used are options of the command too.",
        "",
        "What has a name for `stoker settings` can be changed while the platform runs.",
        "",
        "This page is made by `python -m stoker.app.settings > docs/reference/settings.md`.",
        "",
        "| variable | unit | default | `stoker settings` | what for |",
        "|---|---|---|---|---|",
    ]
    defaults = dict(zip(reversed(Settings.__struct_fields__), reversed(Settings.__struct_defaults__), strict=False))
    defaults["home"] = "~/.stoker"
    metas = _metas()
    for name in sorted(metas, key=SecretSettings.__struct_fields__.__contains__):  # what most set comes first
        meta = metas[name]
        extra = meta.extra or {}
        default = _USUAL.get(name) or _written(defaults[name]) or "none"
        live = f"`{name}`" if name in NAMES else ""
        lines.append(f"| `{extra['variable']}` | {extra['unit']} | `{default}` | {live} | {meta.description} |")
    return "\n".join(lines) + "\n"


_USUAL: Final = {"api_port": "PORT + 1", "gateways": f"as many as cores, from 1 to {GATEWAYS_USUAL_MAX}"}


def _metas() -> dict[str, Meta]:
    hints = get_type_hints(Settings, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in Settings.__struct_fields__}


def _read(name: str, variable: str, text: str) -> Any:
    kind = get_type_hints(Settings)[name]
    try:
        if kind is int:
            return parse_bytes(text) if name.endswith("_bytes") else int(text)
        if kind is float:
            return parse_seconds(text)
    except ValueError as wrong:
        if name.endswith("_bytes"):
            expected = "a size such as 512Mi"
        elif name.endswith("_ratio"):
            expected = "a number such as 0.01"
        else:
            expected = "a whole number" if kind is int else "a time such as 30s"
        raise InvalidInput(f"{variable}={text}: expected {expected}", field=variable) from wrong
    return Path(text) if kind is Path else text


def _check(values: Mapping[str, Any]) -> None:
    for name, meta in _metas().items():
        value = values.get(name)
        variable = (meta.extra or {})["variable"]
        if value is None:
            continue
        if meta.ge is not None and meta.le is not None and not meta.ge <= value <= meta.le:
            raise InvalidInput(f"{variable}={value}: expected a number from {meta.ge} to {meta.le}", field=variable)
        if meta.pattern and value and not re.fullmatch(meta.pattern, value):
            raise InvalidInput(f"{variable}={value}: expected {(meta.extra or {})['unit']}", field=variable)
        if name in _WORDS and value not in _WORDS[name]:
            raise InvalidInput(f"{variable}={value}: expected {', '.join(_WORDS[name])}", field=variable)
    if values.get("port", 0) == values.get("api_port", -1):
        raise InvalidInput(
            f"STOKER_API_PORT={values['api_port']}: the gateways listen there (PORT)", field="STOKER_API_PORT"
        )
    grpc_port = values.get("grpc_port", 0)
    port = values.get("port", DEFAULT_PORT)
    if grpc_port and grpc_port in (port, values.get("api_port", port + 1)):
        raise InvalidInput(
            f"STOKER_GRPC_PORT={grpc_port}: HTTP is served there (PORT, STOKER_API_PORT)", field="STOKER_GRPC_PORT"
        )
    pool = values.get("pool", DEFAULT_POOL)
    if not re.fullmatch(NAME_PATTERN, pool):
        raise InvalidInput(
            f"STOKER_POOL={pool}: expected lower-case letters, digits and dashes, 1 to 63 long", field="STOKER_POOL"
        )
    _check_tls(values)
    check_secrets(values)
    endpoint = values.get("otlp_endpoint", "")
    if endpoint and not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", endpoint):
        raise InvalidInput(
            f"STOKER_OTLP_ENDPOINT={endpoint}: expected a URL such as http://collector:4318; secrets go into "
            "STOKER_OTLP_HEADERS_FILE",
            field="STOKER_OTLP_ENDPOINT",
        )


def _check_tls(values: Mapping[str, Any]) -> None:
    cert, key = values.get("tls_cert"), values.get("tls_key")
    if bool(cert) != bool(key) or (values.get("tls_client_ca") and not cert):
        missing = "STOKER_TLS_CERT" if not cert else "STOKER_TLS_KEY"
        raise InvalidInput(f"{missing} is not set: HTTPS needs a certificate and its key", field=missing)


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(page())
