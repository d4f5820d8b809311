"""The Open Inference Protocol (v2) over the data plane; bodies of `infer` go to the replica unread."""

from stoker.gateway.directory import Directory
from stoker.gateway.exchange import Exchange
from stoker.gateway.http import replies
from stoker.gateway.lane import Lane
from stoker.gateway.protocols import prefix
from stoker.gateway.protocols.openai_http import answer
from stoker.protocol import oip
from stoker.types.errors import InvalidInput, NotFound, StokerError, TooLarge, Unavailable
from stoker.types.models import Signature


class OipShapes:
    """Errors as the protocol has them."""

    def error_body(self, problem: StokerError) -> bytes:
        """See Shapes."""
        return oip.error_body(problem)

    def error_event(self, problem: StokerError) -> bytes:
        """See Shapes; the protocol has no streams over HTTP."""
        return b""


def prepare_infer(exchange: Exchange, directory: Directory) -> None:
    """Read `POST …/infer`: where its JSON part ends. What is in it, the replica judges."""
    lane = exchange.lane = find_lane(exchange, directory)
    limit = lane.route.max_body_bytes
    if len(exchange.body) > limit:
        raise TooLarge(f"the body is over the {limit} bytes that {exchange.name} takes", field="body")
    length = exchange.request.headers.get(oip.HEADER_LENGTH.encode())
    if length is not None:
        if not length.isdigit() or len(length) > 12:
            raise InvalidInput("Inference-Header-Content-Length is no number", field=oip.HEADER_LENGTH)
        exchange.header_bytes = int(length)
        if exchange.header_bytes > len(exchange.body):
            raise InvalidInput(
                f"Inference-Header-Content-Length is {exchange.header_bytes}, the body has {len(exchange.body)} bytes",
                field=oip.HEADER_LENGTH,
            )
    prepare_lane(exchange, lane)


def prepare_lane(exchange: Exchange, lane: Lane) -> None:
    """Read what infer requests, over HTTP or gRPC, wish of their endpoint. Raises InvalidInput for one of chat."""
    if lane.task == "chat":
        raise InvalidInput(f"{exchange.name} serves chat; call it at /v1/chat/completions", field="model")
    if lane.choice.affinity != "none":
        exchange.wish = prefix.of_session(exchange)


async def server_metadata(exchange: Exchange) -> None:
    """Answer `GET /v2`."""
    exchange.send(200, replies.JSON, oip.server_metadata())


async def live(exchange: Exchange) -> None:
    """Answer `GET /v2/health/live`. JSON, because KServe's client insists."""
    exchange.send(200, replies.JSON, b'{"live":true}')


async def ready(exchange: Exchange, directory: Directory) -> None:
    """Answer `GET /v2/health/ready`."""
    is_ready = directory.version >= 0
    exchange.send(200 if is_ready else 503, replies.JSON, b'{"ready":true}' if is_ready else b'{"ready":false}')


async def model_metadata(exchange: Exchange, directory: Directory) -> None:
    """Answer `GET /v2/models/M[/versions/V]`."""
    lane = find_lane(exchange, directory)
    signature, platform = Signature(), ""
    for revision in _shown(lane, directory).route.revisions:
        if revision.version == exchange.version or (not exchange.version and revision.weight):
            signature, platform = revision.signature, revision.platform
    exchange.send(200, replies.JSON, oip.model_metadata(exchange.name, _versions(lane), platform, signature))


async def model_ready(exchange: Exchange, directory: Directory) -> None:
    """Answer `GET /v2/models/M[/versions/V]/ready`."""
    lane = find_lane(exchange, directory)
    versions = lane.versions()
    is_ready = exchange.version in versions if exchange.version else _is_ready(lane, directory)
    body = {"name": exchange.name, "ready": is_ready}
    if not is_ready:
        raise Unavailable(f"{exchange.name} is not ready", retry_after_s=1.0)
    answer(exchange, body)


async def model_config(exchange: Exchange, directory: Directory) -> None:
    """Answer `GET /v2/models/M[/versions/V]/config`, an extension that Triton's clients ask for."""
    lane = find_lane(exchange, directory)
    revisions = _shown(lane, directory).route.revisions
    signature = revisions[-1].signature if revisions else Signature()
    platform = revisions[-1].platform if revisions else ""
    answer(
        exchange,
        {
            "name": exchange.name,
            "platform": platform,
            "backend": platform,
            "max_batch_size": 0,
            "input": [_config(spec.name, spec.datatype, spec.shape) for spec in signature.inputs],
            "output": [_config(spec.name, spec.datatype, spec.shape) for spec in signature.outputs],
        },
    )


async def model_stats(exchange: Exchange, directory: Directory) -> None:
    """Answer `GET /v2/models/M[/versions/V]/stats`: counts of this gateway process (the others have their own)."""
    lane = find_lane(exchange, directory)
    done, took_s = lane.meters.served("infer")
    duration = {"count": done, "ns": int(took_s * 1e9)}
    versions = [exchange.version] if exchange.version else _versions(lane)
    answer(
        exchange,
        {
            "model_stats": [
                {
                    "name": exchange.name,
                    "version": version,
                    "inference_count": done,
                    "execution_count": done,
                    "inference_stats": {"success": duration},
                }
                for version in versions[-1:]
            ]
        },
    )


async def repository_index(exchange: Exchange, directory: Directory) -> None:
    """Answer `POST /v2/repository/index`."""
    assert exchange.key is not None
    answer(
        exchange,
        [
            {"name": name, "version": version, "state": "READY" if version in lane.versions() else "UNAVAILABLE"}
            for name, lane in directory.visible(exchange.project, exchange.key)
            for version in _versions(lane)
        ]
        + [
            {"name": name, "version": "", "state": "READY" if _is_ready(lane, directory) else "UNAVAILABLE"}
            for name, lane in directory.visible(exchange.project, exchange.key)
            if lane.tier is not None
        ],
    )


def find_lane(exchange: Exchange, directory: Directory) -> Lane:
    """Return the lane of the model that the request names. Raises NotFound."""
    assert exchange.key is not None
    lane = directory.find(exchange.project, exchange.name, exchange.key)
    if exchange.version and not lane.has_version(exchange.version):
        raise NotFound(f"{exchange.name} has no version {exchange.version[:64]!r}", field="version")
    return lane


def _shown(lane: Lane, directory: Directory) -> Lane:
    """Return the lane whose model describes `lane`: its own, or its first backend's."""
    return lane if lane.tier is None else next(iter(directory.leaves(lane)), lane)


def _is_ready(lane: Lane, directory: Directory) -> bool:
    return any(leaf.ready_count > 0 for leaf in directory.leaves(lane))


def _versions(lane: Lane) -> list[str]:
    return sorted({revision.version for revision in lane.route.revisions}, key=lambda version: (len(version), version))


def _config(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, object]:
    triton = {"BYTES": "STRING"}.get(datatype, datatype)
    return {"name": name, "data_type": f"TYPE_{triton}", "dims": list(shape)}
