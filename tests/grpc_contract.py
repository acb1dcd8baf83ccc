"""The committed descriptors of sdk/contract/grpc: `python -m tests.grpc_contract` writes them anew."""

import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_tools import protoc

from penstock.control.grpc.contract import DESCRIPTORS

__all__ = ["OURS", "PROTOS", "compiled", "files_of", "messages_of", "methods_of", "shape_of"]

PROTOS = sorted((Path(__file__).resolve().parents[1] / "sdk/contract/grpc").glob("*.proto"))


def compiled(protos: list[Path] = PROTOS) -> bytes:
    """Return what protoc makes of the files."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "contract.binpb"
        known = resources.files("grpc_tools") / "_proto"
        words = [f"-I{protos[0].parent}", f"-I{known}", f"--descriptor_set_out={out}", *(path.name for path in protos)]
        assert protoc.main(["protoc", *words]) == 0
        return out.read_bytes()


def files_of(content: bytes) -> dict[str, Any]:
    """The files of a set of descriptors."""
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(content).file}


def methods_of(service: Any) -> set[tuple[str, str, str, bool, bool]]:
    """Each method with its messages, and which of them are streams."""
    return {
        (
            method.name,
            method.input_type.full_name,
            method.output_type.full_name,
            method.client_streaming,
            method.server_streaming,
        )
        for method in service.methods
    }


def shape_of(field: Any) -> tuple[Any, ...]:
    """What two descriptions of a field must have in common, beside its number."""
    kind = field.message_type or field.enum_type
    oneof = field.containing_oneof.name if field.containing_oneof else None
    return field.name, field.type, field.is_repeated, kind.full_name if kind else None, oneof


def messages_of(parent: Any) -> Iterator[Any]:
    """The messages of a file or in a message, and those in them."""
    inside = parent.message_types_by_name if hasattr(parent, "package") else parent.nested_types_by_name
    for message in inside.values():
        yield message
        yield from messages_of(message)


OURS = descriptor_pool.DescriptorPool()
for _file in files_of(DESCRIPTORS.read_bytes()).values():
    OURS.Add(_file)

if __name__ == "__main__":
    DESCRIPTORS.write_bytes(compiled())
