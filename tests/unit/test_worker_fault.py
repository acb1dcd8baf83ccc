"""What a client and the log are told about a model's exception."""

import logging
from pathlib import Path

import pytest

from penstock.worker.fault import DETAIL_BYTES_MAX, FaultLog, describe, without_paths


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad value"), "ValueError: bad value"),
        (ValueError(), "ValueError"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (KeyError("column"), "KeyError: 'column'"),
        (MemoryError(), "MemoryError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (UnprintableError(), "UnprintableError"),
        (
            FileNotFoundError(2, "No such file or directory", "/srv/secret.bin"),
            "FileNotFoundError: No such file or directory",
        ),
        (RuntimeError("cannot read /srv/models/a.bin, sorry"), "RuntimeError: cannot read <path>, sorry"),
        (RuntimeError("in ~/models/x and ../y.txt"), "RuntimeError: in <path> and <path>"),
        (RuntimeError("3/4 and/or 1 / 2"), "RuntimeError: 3/4 and/or 1 / 2"),
    ],
)
def test_description(error: BaseException, text: str) -> None:
    assert describe(error) == text


@pytest.mark.parametrize("character", ["x", "ü", "✓", "🙂"])
def test_a_long_message_is_cut_between_characters(character: str) -> None:
    text = describe(ValueError(character * 200))
    assert DETAIL_BYTES_MAX - 4 < len(text.encode()) <= DETAIL_BYTES_MAX
    assert set(text.removeprefix("ValueError: ")) == {character}


def test_lone_surrogates_do_not_break_it() -> None:
    assert describe(ValueError("\ud800")).startswith("ValueError")


def test_stacks_go_to_the_log_but_do_not_flood_it(caplog: pytest.LogCaptureFixture) -> None:
    log = FaultLog(logging.getLogger("penstock.test"))
    for number in range(50):
        try:
            raise ValueError(f"number {number}")
        except ValueError as error:
            log.write("it failed", error)
    assert 1 <= len(caplog.records) < 50
    assert "number 0" in caplog.text
    assert "Traceback" in caplog.text


def test_paths_are_left_out_of_longer_texts() -> None:
    text = "onnxruntime cannot load /srv/models/m.onnx: broken.\nCheck ./m.onnx"
    assert without_paths(text) == "onnxruntime cannot load <path>: broken.\nCheck <path>"


def test_files_of_the_model_keep_their_names() -> None:
    text = "/data/ab/net.pt needs /data/ab/net.schema.json, not /data/c/x, /srv2/y or /etc/data/ab/z"
    said = without_paths(text, [Path("/data/ab"), Path("/srv")])
    assert said == "net.pt needs net.schema.json, not <path>, <path> or <path>"
