"""Tell which S3 operation a request is, by the same model that boto3 builds its requests from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import parse_qsl, urlsplit

import botocore.session
from botocore.model import OperationModel

UNKNOWN = "Unknown"
_LEVELS = {"/": (False, False), "/{Bucket}": (True, False), "/{Bucket}/{Key+}": (True, True)}


@dataclass(frozen=True)
class _Operation:
    """What a request must have to be of this kind; an empty value in `query` stands for any."""

    name: str
    method: str
    level: tuple[bool, bool]
    query: tuple[tuple[str, str], ...]
    headers: tuple[str, ...]
    deprecated: bool


def recognise(
    method: str, has_bucket: bool, has_key: bool, query: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    """Return the name of the operation, such as PutObject; `UNKNOWN` where S3 has none like that."""
    for operation in _operations():
        if (
            (operation.method, operation.level) == (method, (has_bucket, has_key))
            and all(name in query and value in ("", query[name]) for name, value in operation.query)
            and all(name in headers for name in operation.headers)
        ):
            return operation.name
    return UNKNOWN


def names() -> frozenset[str]:
    """Return the names of all operations."""
    return frozenset(operation.name for operation in _operations()) | {UNKNOWN}


@cache
def _operations() -> tuple[_Operation, ...]:
    """Return all operations, those that ask for more of a request first: UploadPart before PutObject."""
    model = botocore.session.get_session().get_service_model("s3")
    found = (_operation(model.operation_model(name)) for name in model.operation_names)
    known = [operation for operation in found if operation]
    return tuple(sorted(known, key=lambda each: (-len(each.query) - len(each.headers), each.deprecated)))


def _operation(model: OperationModel) -> _Operation | None:
    uri = urlsplit(model.http["requestUri"])
    if uri.path not in _LEVELS:
        return None
    query = (*parse_qsl(uri.query, keep_blank_values=True), *((name, "") for name in _required(model, "querystring")))
    headers = tuple(name.lower() for name in _required(model, "header"))
    return _Operation(model.name, model.http["method"], _LEVELS[uri.path], query, headers, model.deprecated)


def _required(model: OperationModel, location: str) -> Iterator[str]:
    if model.input_shape is None:
        return
    for name in model.input_shape.required_members:
        serialization = model.input_shape.members[name].serialization
        if serialization.get("location") == location:
            yield serialization["name"]
