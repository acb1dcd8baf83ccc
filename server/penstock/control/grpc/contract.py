"""What sdk/contract/grpc says, as message types; the door to protobuf.

The types are made from the descriptors that protoc wrote (`make grpc-contract`), so no generated code has to fit the
protobuf that is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
from google.protobuf.json_format import ParseDict

from penstock.core.errors import RequestError

__all__ = ["describe", "extensions_of", "file_named", "file_with", "message_of", "read", "services"]

DESCRIPTORS = Path(__file__).with_name("contract.binpb")


def _load() -> tuple[Any, dict[str, bytes]]:
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    # A pool of its own: a process may have other descriptions of the same names.
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    return pool, {file.name: file.SerializeToString() for file in files}


_POOL, _FILES = _load()


def message_of(name: str) -> Any:
    """Return a new message of the type with this full name."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))()


def read(name: str, content: bytes) -> Any:
    """Read a message of the type; RequestError (`malformed_body`) when it is none."""
    found = message_of(name)
    try:
        found.ParseFromString(content)
    except message.DecodeError:
        raise RequestError("malformed_body", f"the message is no {name}") from None
    return found


def describe(name: str, values: dict[str, object]) -> bytes:
    """Write a message of the type, whose fields are given by their names; others are left out."""
    written: bytes = ParseDict(values, message_of(name), ignore_unknown_fields=True).SerializeToString()
    return written


def services() -> list[str]:
    """Return the full names of what is served."""
    return sorted(service for name in _FILES for service in (each.full_name for each in _services_of(name)))


def file_named(name: str) -> bytes | None:
    """Return a file's description, serialized; None for one that is not ours."""
    return _FILES.get(name)


def file_with(symbol: str) -> bytes | None:
    """Return the description of the file that declares a service, a method, a message, a field, an enum or so."""
    for find in (_file_of_type, _file_of_method, _file_of_field):
        try:
            return _FILES[find(symbol)]
        except KeyError:
            continue
    return None


def extensions_of(name: str) -> list[int] | None:
    """Return which fields extend a message: none, as nothing here is extended; None when there is no such message."""
    try:
        return [each.number for each in _POOL.FindAllExtensions(_POOL.FindMessageTypeByName(name))]
    except KeyError:
        return None


def _file_of_type(symbol: str) -> Any:
    return _POOL.FindFileContainingSymbol(symbol).name


def _file_of_method(symbol: str) -> Any:
    return _POOL.FindMethodByName(symbol).containing_service.file.name


def _file_of_field(symbol: str) -> Any:
    return _POOL.FindFieldByName(symbol).file.name


def _services_of(file: str) -> Any:
    return _POOL.FindFileByName(file).services_by_name.values()
