"""Files as inputs: which value of a JSON body a file, a text or a part of a form stands for."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from penstock.control.reading import parse_json
from penstock.core.errors import RequestError
from penstock.core.status import Tensor

__all__ = ["FORM", "Decode", "Part", "inputs_of", "parts_of"]

FORM = "multipart/form-data"
_PARTS_MAX = 256
_CHARSETS = ("utf-8", "us-ascii", "ascii", "iso-8859-1", "latin-1", "utf-16")


@dataclass(frozen=True, slots=True)
class Part:
    """A file, a text or a field: its bytes, what they are, and the input it is for, which only a form says."""

    content: bytes
    media_type: str
    charset: str = "utf-8"
    name: str | None = None


# Returns the bytes of the tensor that an image is; None for a tensor that takes no images.
Decode = Callable[[Part, Tensor], bytes | None]


def parts_of(content: bytes, content_type: str) -> list[Part]:
    """Take a body apart: a form has many parts, anything else is one."""
    media_type, options = parse_options_header(content_type)
    if media_type != FORM:
        return [_part(content, content_type)]
    boundary = options.get("boundary", "")
    if not boundary:
        raise RequestError("malformed_body", f"{FORM} has a boundary, which its Content-Type says; this one does not")
    try:
        return list(_form_parts(content, boundary.encode()))
    except (ValueError, LookupError) as error:
        raise RequestError("malformed_body", f"not a form: {error}") from None


def inputs_of(parts: Sequence[Part], inputs: Sequence[Tensor], decode: Decode) -> bytes:
    """Return the JSON body for a model's inputs. RequestError when the parts are not theirs, or no images."""
    by_name = {name: (name, dtype, shape) for name, dtype, shape in inputs}
    values: dict[str, bytes] = {}
    for part in parts:
        name = part.name
        if name is None:
            if len(inputs) != 1:
                raise RequestError(
                    "unsupported_media_type",
                    f"the model has {len(inputs)} inputs: send {FORM} with a part for each of {', '.join(by_name)}",
                )
            name = inputs[0][0]
        if name not in by_name:
            raise RequestError("invalid_input", f"inputs.{name[:100]}: no such input; known are {', '.join(by_name)}")
        if name in values:
            raise RequestError("malformed_body", f"inputs.{name[:100]}: the form has it twice")
        values[name] = _value(part, by_name[name], decode)
    members = b",".join(json.dumps(name).encode() + b":" + value for name, value in values.items())
    return b'{"inputs":{' + members + b"}}"


def _form_parts(content: bytes, boundary: bytes) -> Iterator[Part]:
    decoder = MultipartDecoder(boundary, max_parts=_PARTS_MAX)
    decoder.receive_data(content)
    decoder.receive_data(None)
    opened: Field | File | None = None
    data = bytearray()
    while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
        if isinstance(event, Field | File):
            opened, data = event, bytearray()
        elif isinstance(event, Data):
            data += event.data
            if not event.more_data and opened is not None:
                # A field without a type is text (RFC 7578 4.4), a file without one is bytes.
                otherwise = "application/octet-stream" if isinstance(opened, File) else "text/plain"
                yield _part(bytes(data), opened.headers.get("content-type") or otherwise, opened.name)


def _part(content: bytes, content_type: str, name: str | None = None) -> Part:
    media_type, options = parse_options_header(content_type)
    return Part(content, media_type.lower(), options.get("charset", "utf-8").lower(), name)


def _value(part: Part, tensor: Tensor, decode: Decode) -> bytes:
    name, dtype, shape = tensor
    is_text = dtype in ("str", "bytes")
    is_field = part.name is not None and part.media_type == "text/plain"
    if part.media_type == "application/json" or (is_field and not is_text):
        try:
            parse_json(part.content)
        except RequestError as error:
            raise RequestError("malformed_body", f"inputs.{name}: {error.detail}") from None
        return part.content
    if is_text and all(extent == 1 for extent in shape):
        value = _text(part, tensor)
        return b"[" * len(shape) + value + b"]" * len(shape)
    takes_bytes = dtype == "uint8" and len(shape) == 1
    if not is_text and (part.media_type == "application/octet-stream" or (takes_bytes and not is_field)):
        return _base64(part.content)
    if part.media_type.startswith("image/") and (pixels := decode(part, tensor)) is not None:
        return _base64(pixels)
    raise _unsupported(part, tensor)


def _text(part: Part, tensor: Tensor) -> bytes:
    if not part.media_type.startswith("text/"):
        if tensor[1] == "str":
            raise _unsupported(part, tensor)
        return _base64(part.content)
    if part.charset not in _CHARSETS:
        raise RequestError(
            "unsupported_media_type", f"the charset {part.charset[:40]!r} is not read here; send the text as utf-8"
        )
    try:
        return json.dumps(part.content.decode(part.charset)).encode()
    except UnicodeDecodeError as error:
        raise RequestError(
            "malformed_body", f"inputs.{tensor[0]}: byte {error.start} of the text is not {part.charset}"
        ) from None


def _base64(content: bytes) -> bytes:
    return b'{"base64":"' + b64encode(content) + b'"}'


def _unsupported(part: Part, tensor: Tensor) -> RequestError:
    name, dtype, shape = tensor
    extents = ", ".join("any" if extent is None else str(extent) for extent in shape)
    return RequestError(
        "unsupported_media_type",
        f"inputs.{name}: {part.media_type[:80]!r} is no value for {dtype} of shape [{extents}]; files are taken by "
        "inputs of uint8 with one dimension and by bytes, images by uint8 of [height, width, channels], too, text by "
        "strings; send the tensor as application/json, or its bytes as application/octet-stream",
    )
