"""The OpenAPI 3.1 document of the API, made of the operations and the structs they name."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from stoker.api import queries
from stoker.api.operations import Operation
from stoker.api.refusals import ErrorBody
from stoker.types.access import SUBJECT_PATTERN
from stoker.types.ids import DIGEST_PATTERN, NAME_PATTERN

REF_TEMPLATE: Final = "#/components/schemas/{name}"
_PATH_PARAMETER: Final = re.compile(r"{(\w+)}")
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}
_TAG: Final = {"type": "string"}
_NAME: Final = {"type": "string", "pattern": NAME_PATTERN}
# What the parts of paths look like; others are any text.
_PARTS: Final[dict[str, dict[str, Any]]] = {
    **dict.fromkeys(queries.NAMED, _NAME),
    "alias": {"type": "string", "pattern": f"^(?![0-9]+$){NAME_PATTERN[1:]}"},  # a number is a version's
    "digest": {"type": "string", "pattern": DIGEST_PATTERN},
    "subject": {"type": "string", "pattern": SUBJECT_PATTERN},
    "number": _NUMBER,
    "sequence": _NUMBER,
}


def document(operations: Iterable[Operation], version: str) -> dict[str, Any]:
    """Return the document; internal operations are left out."""
    public = [operation for operation in operations if operation.access != "socket"]
    structs: list[type] = [ErrorBody]
    for operation in public:
        structs += [each for each in (operation.body, operation.answer) if isinstance(each, type)]
    kinds = list(dict.fromkeys(structs))
    references, components = msgspec.json.schema_components(kinds, schema_hook=_any, ref_template=REF_TEMPLATE)
    schemas = dict(zip(kinds, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in public:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "stoker control API", "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "stk_…"}},
        },
    }


def _any(_kind: type) -> dict[str, Any]:
    """Return the schema of a field that may hold any JSON value."""
    return {"description": "any JSON value"}


def _operation(operation: Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.summary}
    if operation.answer is not None:
        answer["content"] = {"application/json": {"schema": schemas[operation.answer]}}
    elif operation.media != "application/json":
        answer["content"] = {operation.media: {"schema": {"type": "string"}}}
    if operation.is_tagged:
        tag = {"description": "what was asked for last, for If-Match; not the status beside it", "schema": _TAG}
        answer["headers"] = {"ETag": tag}
    statuses = [each for each in (operation.status, operation.also) if each is not None]
    error = {
        "description": "What went wrong; text for what is no request of HTTP: too long a path",
        "content": {
            "application/json": {"schema": schemas[ErrorBody]},
            "text/plain": {"schema": {"type": "string"}},
        },
    }
    shown: dict[str, Any] = {
        "operationId": operation.handler.__name__.lstrip("_"),
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": {str(status): answer for status in statuses} | {"default": error},
    }
    if operation.body is not None:
        shown["requestBody"] = {"required": True, "content": _body(operation.body, schemas)}
    if operation.access != "open":
        shown["security"] = [{"key": []}, {}] if operation.is_local else [{"key": []}]
    if operation.permissions:
        shown["x-permission"] = " or ".join(operation.permissions)
    return shown


def _body(body: Any, schemas: dict[Any, Any]) -> dict[str, Any]:
    if isinstance(body, str):
        return {body: {"schema": {"type": "string"}}}
    return {"application/json": {"schema": schemas[body]}}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    inside = [
        {"name": name, "in": "path", "required": True, "schema": _PARTS.get(name, {"type": "string", "minLength": 1})}
        for name in _PATH_PARAMETER.findall(operation.path)
    ]
    given = [
        {
            "name": each.name,
            "in": where,
            "required": each.is_required,
            "description": each.meaning,
            "schema": queries.schema(each),
        }
        for where, parameters in (("query", operation.query), ("header", operation.headers))
        for each in parameters
    ]
    return inside + given
