"""The banner: short, plain on a pipe, and its example runs."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from penstock.core.config import ModelConfig
from penstock.core.status import ModelState, ModelStatus, Tensor
from penstock.serve.banner import curl_example, public_url, render_banner


def status(name: str, *inputs: Tensor) -> ModelStatus:
    return ModelStatus(
        config=ModelConfig(name=name, path=Path("m.onnx")),
        state=ModelState.READY,
        latest=True,
        inputs=inputs,
        outputs=(("y", "int64", ()),),
        backend="onnx",
    )


DIGITS = status("digits", ("pixels", "float32", (4,)))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("example.org", "http://example.org:80"),
    ],
)
def test_url_can_be_typed(host: str, url: str) -> None:
    assert public_url(host, 80) == url


def test_banner_shows_address_models_and_an_example() -> None:
    text = render_banner("http://127.0.0.1:8000", [DIGITS], unix_socket=Path("/run/p.sock"), grpc_port=8001)
    assert "and on port 8001 for gRPC" in text
    assert "ready on http://127.0.0.1:8000" in text
    assert "unix:/run/p.sock" in text
    assert "digits 1  onnx  pixels float32[4] -> y int64[]" in text
    assert curl_example("http://127.0.0.1:8000", DIGITS) in text
    assert "\x1b" not in text


def test_what_varies_is_a_star_and_short_in_the_example() -> None:
    tokens = status("tokens", ("ids", "int64", (None,)), ("at", "float32", (None, 2)))
    assert "ids int64[*], at float32[*, 2] -> y int64[]" in render_banner("http://127.0.0.1:8000", [tokens])
    assert '{"model":"tokens","inputs":{"ids":[0],"at":[[0,0]]}}' in curl_example("http://127.0.0.1:8000", tokens)


def test_banner_is_coloured_for_a_terminal() -> None:
    assert "\x1b[1m" in render_banner("http://x", [DIGITS], color=True)


def test_banner_without_models_says_how_to_get_one() -> None:
    assert "penstock serve NAME=PATH" in render_banner("http://x", [])


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (DIGITS, [0, 0, 0, 0]),
        (status("scalar", ("x", "float64", ())), 0),
        (status("flags", ("x", "bool", (2, 2))), [[False, False], [False, False]]),
        (status("pair", ("a", "float32", (2,)), ("it's b", "bool", ())), {"a": [0, 0], "it's b": False}),
        (status("image", ("x", "uint8", (3, 8, 8))), [[[0] * 8] * 8] * 3),
        (
            status("big pair", ("a", "float32", (100,)), ('"b" $HOME `ls`', "bool", (2,))),
            {"a": [0] * 100, '"b" $HOME `ls`': [False, False]},
        ),
    ],
    ids=lambda value: value.config.name if isinstance(value, ModelStatus) else "",
)
def test_example_sends_a_row_that_fits(model: ModelStatus, inputs: object, tmp_path: Path) -> None:
    # A curl that writes down what it was told to send.
    fake = tmp_path / "curl"
    fake.write_text('#!/bin/sh\nwhile [ "$1" != -d ]; do shift; done\n[ "$2" = @- ] && exec cat\nprintf %s "$2"\n')
    fake.chmod(0o755)
    command = curl_example("http://127.0.0.1:8000", model)
    assert "\n" not in command
    sent = subprocess.run(
        ["sh", "-c", f"PATH={shlex.quote(str(tmp_path))}:$PATH; {command}"], capture_output=True, check=True
    )
    assert json.loads(sent.stdout) == {"model": model.config.name, "inputs": inputs}
