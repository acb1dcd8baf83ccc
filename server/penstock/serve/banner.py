"""What a person sees when the server is ready: where it listens, what it serves, and how to ask."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock import __version__
from penstock.core.status import ModelStatus, Tensor

__all__ = ["curl_example", "public_url", "render_banner"]

# A row of more elements is not for reading; the example then makes it.
_ELEMENTS_SHOWN_MAX = 64
_LENGTH_SHOWN = 1  # of a row that varies in length: the only one that every such model takes


def public_url(host: str, port: int, scheme: str = "http") -> str:
    """Return the address to type on this machine; an unspecified address is reached by its loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def render_banner(
    url: str,
    models: Sequence[ModelStatus],
    *,
    unix_socket: Path | None = None,
    grpc_port: int | None = None,
    development: bool = False,
    color: bool = False,
) -> str:
    """Return the banner's lines. `color`: for a terminal that understands ANSI escapes."""
    bold, dim, plain = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if color else ("", "", "")
    lines = [f"{bold}Penstock {__version__}{plain} is ready on {bold}{url}{plain}"]
    if grpc_port is not None:
        lines.append(f"  and on port {grpc_port} for gRPC (--grpc-port chooses it)")
    if unix_socket is not None:
        lines.append(f"  and on unix:{unix_socket}")
    if development:
        lines.append("  development: whoever reaches it may administer it, without a key")
    width = max((len(_label(status)) for status in models), default=0)
    for status in models:
        signature = f"{_signature(status.inputs)} -> {_signature(status.outputs)}"
        lines.append(
            f"  {bold}{_label(status):<{width}}{plain}  {dim}{status.backend or status.state}{plain}  {signature}"
        )
    if models:
        lines += ["", f"  {dim}try{plain}  {curl_example(url, models[0])}"]
    else:
        lines.append("  no models: start it with penstock serve NAME=PATH, or penstock models register NAME PATH")
    return "\n".join(lines) + "\n"


def curl_example(url: str, status: ModelStatus) -> str:
    """Return a shell command that asks a model with a row of zeros."""
    request = f"curl {shlex.quote(url + '/predict')} -H 'Content-Type: application/json'"
    name = status.config.name
    if status.record is not None:
        body = json.dumps({"model": name, "inputs": status.record["examples"][0]}, separators=(",", ":"))
        return f"{request} -d {shlex.quote(body)}"
    if sum(math.prod(_row_shape(tensor)) for tensor in status.inputs) <= _ELEMENTS_SHOWN_MAX:
        values = {tensor[0]: _zeros(tensor) for tensor in status.inputs}
        body = json.dumps({"model": name, "inputs": _only(values)}, separators=(",", ":"))
        return f"{request} -d {shlex.quote(body)}"
    made = {tensor[0]: _zeros_expression(tensor) for tensor in status.inputs}
    inputs = _only(made)
    if isinstance(inputs, dict):
        inputs = "{" + ", ".join(f"{key!r}: {value}" for key, value in inputs.items()) + "}"
    program = f"import json; print(json.dumps({{'model': {name!r}, 'inputs': {inputs}}}))"
    return f"python3 -c {_double_quote(program)} | {request} -d @-"


def _label(status: ModelStatus) -> str:
    return f"{status.config.name} {status.config.version}"


def _signature(tensors: Sequence[Tensor]) -> str:
    return ", ".join(f"{name} {dtype}[{_sizes(shape)}]" for name, dtype, shape in tensors)


def _sizes(shape: Sequence[int | None]) -> str:
    return ", ".join("*" if size is None else str(size) for size in shape)


def _row_shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of a row that will do as an example: a short one where it varies in length."""
    return tuple(_LENGTH_SHOWN if size is None else size for size in tensor[2])


def _only(values: Mapping[str, object]) -> object:
    """A model with one input takes its value without the name."""
    return next(iter(values.values())) if len(values) == 1 else values


def _zeros(tensor: Tensor) -> object:
    value: object = False if tensor[1] == "bool" else 0
    for size in reversed(_row_shape(tensor)):
        value = [value] * size
    return value


def _zeros_expression(tensor: Tensor) -> str:
    """Return the same as a Python expression: [[0] * 224] * 224."""
    expression = "False" if tensor[1] == "bool" else "0"
    for size in reversed(_row_shape(tensor)):
        expression = f"[{expression}] * {size}"
    return expression


def _double_quote(text: str) -> str:
    for special in '\\"$`':
        text = text.replace(special, "\\" + special)
    return f'"{text}"'
