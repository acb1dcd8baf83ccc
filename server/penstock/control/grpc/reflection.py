"""Server reflection: what there is, told to clients that have no files.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

from typing import Any

from penstock.control.grpc import contract

__all__ = ["answer"]

_INVALID_ARGUMENT = 3
_NOT_FOUND = 5


def answer(package: str, content: bytes) -> bytes:
    """Answer one request of the stream. `package` is that of the service: v1 and v1alpha differ in nothing else."""
    request = contract.read(f"{package}.ServerReflectionRequest", content)
    response = contract.message_of(f"{package}.ServerReflectionResponse")
    response.valid_host = request.host
    response.original_request.CopyFrom(request)
    _fill(request, response)
    written: bytes = response.SerializeToString()
    return written


def _fill(request: Any, response: Any) -> None:
    asked = request.WhichOneof("message_request")
    if asked == "list_services":
        for service in contract.services():
            response.list_services_response.service.add(name=service)
    elif asked == "file_by_filename":
        _add_file(response, contract.file_named(request.file_by_filename), request.file_by_filename)
    elif asked == "file_containing_symbol":
        _add_file(response, contract.file_with(request.file_containing_symbol), request.file_containing_symbol)
    elif asked == "all_extension_numbers_of_type":
        name = request.all_extension_numbers_of_type
        numbers = contract.extensions_of(name)
        if numbers is None:
            _refuse(response, _NOT_FOUND, f"there is no message {name[:200]!r}")
        else:
            response.all_extension_numbers_response.base_type_name = name
            response.all_extension_numbers_response.extension_number.extend(numbers)
    elif asked == "file_containing_extension":
        _refuse(response, _NOT_FOUND, "no message is extended")
    else:
        _refuse(response, _INVALID_ARGUMENT, "the request asks for nothing")


def _add_file(response: Any, file: bytes | None, what: str) -> None:
    if file is None:
        _refuse(response, _NOT_FOUND, f"there is no {what[:200]!r}; list_services says what there is")
    else:
        response.file_descriptor_response.file_descriptor_proto.append(file)


def _refuse(response: Any, code: int, text: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = text
