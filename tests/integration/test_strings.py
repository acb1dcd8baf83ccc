"""Strings end to end: through the rings of ONNX and plain Python models, in JSON and msgpack, and what is refused."""

import json
import struct
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from onnx import TensorProto, helper
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from bench.wire import Reply, Wire
from tests import models
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
RAW = {"Content-Type": "application/octet-stream"}

# Answers with what came, turned round; some inputs make it answer something that is not right.
ECHO = """
    import numpy as np
    from penstock.worker import Tensor

    class Model:
        inputs = {"text": Tensor("str", (2,)), "blob": Tensor("bytes"), "times": Tensor("int32")}
        outputs = {"blob": Tensor("bytes"), "text": Tensor("str", (2,)), "length": Tensor("int64", (2,))}

        def predict(self, batch):
            texts = batch["text"]
            assert all(type(text) is str for text in texts.flat)
            assert all(type(blob) is bytes for blob in batch["blob"])
            assert not texts.flags.writeable
            if any(text == "raise" for text in texts.flat):
                raise ValueError("no such text")
            long = np.array([blob * times for blob, times in zip(batch["blob"], batch["times"])], object)
            long[texts[:, 0] == "number"] = 7
            return {"text": texts[:, ::-1], "blob": long, "length": [[len(text) for text in row] for row in texts]}
"""
# Rows of as many strings as they like.
JOIN = """
    from penstock.worker import Tensor

    class Model:
        inputs = {"words": Tensor("str", (None,))}
        outputs = {"words": Tensor("str", (None,)), "text": Tensor("str")}

        def predict(self, batch, lengths):
            rows = [row[:length] for row, length in zip(batch["words"], lengths)]
            return {"words": batch["words"], "text": [" ".join(row) for row in rows]}
"""


def upper(folder: Path) -> Path:
    """An ONNX graph with strings on both sides: capitals, and the place of a colour in a list."""
    scores = helper.make_node("Cast", ["colour"], ["place"], to=TensorProto.INT32)
    return models.save(
        folder / "upper.onnx",
        [
            helper.make_node("StringNormalizer", ["text"], ["upper"], case_change_action="UPPER", locale="C.UTF-8"),
            scores,
            helper.make_node("Cast", ["place"], ["again"], to=TensorProto.STRING),
        ],
        [
            helper.make_tensor_value_info("text", TensorProto.STRING, ["batch"]),
            models.tensor("colour", TensorProto.FLOAT, 2),
        ],
        [
            helper.make_tensor_value_info("upper", TensorProto.STRING, ["batch"]),
            models.tensor("again", TensorProto.STRING, 2),
        ],
        {},
    )


@pytest.fixture(scope="module")
def strings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("strings")
    for name, source in (("echo", ECHO), ("join", JOIN)):
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    upper(folder)
    config = [
        *("[[models]]", 'name = "echo"', f'path = "{folder / "echo.py"}"', "max_queue_delay_us = 2000"),
        *("[[models]]", 'name = "upper"', f'path = "{folder / "upper.onnx"}"', 'string_bytes_max = "64"'),
        *("[[models]]", 'name = "large"', f'path = "{folder / "upper.onnx"}"', 'string_bytes_max = "1MiB"'),
        *("[[models]]", 'name = "join"', f'path = "{folder / "join.py"}"', "lengths = [4, 40]"),
    ]
    (folder / "penstock.toml").write_text("\n".join(config))
    running = Server.start(["--config", str(folder / "penstock.toml")], folder)
    yield running
    running.stop()


@pytest.fixture
def wire(strings: Server, connect: Callable[..., Wire]) -> Wire:
    return connect(strings)


def post(wire: Wire, body: bytes, fields: dict[str, str], query: str = "") -> Reply:
    return wire.ask("POST", f"/predict{query}", body, fields)


def ask(wire: Wire, model: str, inputs: Any, encoding: str = "json") -> Any:
    """Return the outputs of a row."""
    members = {"model": model, "inputs": inputs}
    if encoding == "json":
        reply = post(wire, json.dumps(members).encode(), JSON)
    else:
        reply = post(wire, msgpack.packb(members), MSGPACK)
    assert reply.status == 200, reply.body
    read = reply.json() if encoding == "json" else msgpack.unpackb(reply.body)
    return read["outputs"]


def refusal(reply: Reply) -> tuple[int, str, str]:
    problem = reply.json()
    return reply.status, problem["code"], problem["detail"]


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_onnx_takes_and_gives_strings(wire: Wire, encoding: str) -> None:
    for text in ("", "plain", 'quote " and \\ and \n and \u00e9 \U0001f600', "x" * 60):
        outputs = ask(wire, "upper", {"text": text, "colour": [1.0, 2.0]}, encoding)
        assert outputs == {"upper": text.upper(), "again": ["1", "2"]}


def echoed(text: list[str], blob: bytes = b"b", times: int = 1) -> dict[str, Any]:
    return {"text": text, "blob": blob, "times": times}


def test_a_python_model_sees_str_and_bytes(wire: Wire) -> None:
    outputs = ask(wire, "echo", {"text": ["a\u00e9", "\u0000"], "blob": "xy", "times": 2})
    assert outputs == {"blob": "xyxy", "text": ["\u0000", "a\u00e9"], "length": [2, 1]}
    # Bytes that are no text stay what they are in msgpack; zeros at their end, too.
    outputs = ask(wire, "echo", echoed(["", "b"], b"\xff\x00"), "msgpack")
    assert outputs == {"blob": b"\xff\x00", "text": ["b", ""], "length": [0, 1]}
    # Text that is not UTF-8 reaches a model as Python's file names do, and comes back as it was.
    outputs = ask(wire, "echo", {"text": [b"\xffa", "b"], "blob": "", "times": 1}, "msgpack")
    assert outputs == {"blob": "", "text": ["b", b"\xffa"], "length": [2, 1]}


def test_every_row_of_a_batch_has_its_own_strings(strings: Server, connect: Callable[..., Wire]) -> None:
    def one(number: int) -> None:
        text = [f"row {number}", "x" * (number * 7 % 500)]
        outputs = ask(connect(strings), "echo", echoed(text, b"%d," % number, number), "msgpack")
        assert outputs["text"] == text[::-1]
        assert outputs["blob"] == f"{number}," * number

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(96)))


def test_a_row_that_fails_fails_alone(strings: Server, connect: Callable[..., Wire]) -> None:
    wrong = {
        "raise": (echoed(["raise", ""]), "no such text"),
        "number": (echoed(["number", ""]), "output 'blob' holds int where a string was expected"),
        "long": (echoed(["", ""], b"0123456789", 103), "output 'blob' has more than 1024 bytes of strings"),
    }

    def one(number: int) -> None:
        wire = connect(strings)
        if number % 4 == 3:
            inputs, detail = list(wrong.values())[number % 3]
            reply = post(wire, msgpack.packb({"model": "echo", "inputs": inputs}), MSGPACK)
            status, code, said = refusal(reply)
            assert (status, code) == (500, "model_error")
            assert detail in said
        else:
            assert ask(wire, "echo", echoed([str(number), "b"]), "msgpack")["text"] == ["b", str(number)]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(48)))


def test_json_says_that_it_cannot_carry_bytes(wire: Wire) -> None:
    body = msgpack.packb({"model": "echo", "inputs": echoed(["", ""], b"\xff")})
    reply = post(wire, body, {"Content-Type": "application/msgpack"})
    status, code, detail = refusal(reply)
    assert (status, code) == (500, "model_error")
    assert detail == "output 'blob' has bytes that are not UTF-8, which JSON cannot carry: accept application/msgpack"
    assert msgpack.unpackb(post(wire, body, MSGPACK).body)["outputs"]["blob"] == b"\xff"


@pytest.mark.parametrize(
    ("inputs", "detail"),
    [
        ({"text": 7, "colour": [1.0, 2.0]}, "inputs.text: expected a string, got a number (bytes scalar)"),
        ({"text": ["a"], "colour": [1.0, 2.0]}, "inputs.text: expected a string, got an array (bytes scalar)"),
        ({"text": None, "colour": [1.0, 2.0]}, "inputs.text: expected a string, got null (bytes scalar)"),
        (
            {"text": "x" * 65, "colour": [1.0, 2.0]},
            "inputs.text: expected strings of 64 bytes together (the model's setting string_bytes_max has more), "
            "got more (bytes scalar)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(wire: Wire, inputs: dict[str, Any], detail: str) -> None:
    reply = post(wire, json.dumps({"model": "upper", "inputs": inputs}).encode(), JSON)
    assert refusal(reply) == (422, "invalid_input", detail)


def test_raw_bodies_carry_no_strings(wire: Wire) -> None:
    status, code, detail = refusal(post(wire, b"abc", RAW, "?model=join"))
    assert (status, code) == (422, "invalid_input")
    assert "strings as application/json or application/msgpack" in detail
    body = json.dumps({"model": "upper", "inputs": {"text": "a", "colour": [1, 2]}}).encode()
    reply = post(wire, body, JSON | {"Accept": "application/octet-stream"}, "?output=upper")
    assert refusal(reply)[:2] == (406, "not_acceptable")


def test_rows_of_strings_may_vary_in_length(wire: Wire) -> None:
    for count in (1, 3, 4, 5, 17, 40):
        words = [f"{'w' * (place % 9)}{place}" for place in range(count)]
        for encoding in ("json", "msgpack"):
            assert ask(wire, "join", {"words": words}, encoding) == {"words": words, "text": " ".join(words)}
    reply = post(wire, json.dumps({"model": "join", "inputs": {"words": ["a"] * 41}}).encode(), JSON)
    assert refusal(reply)[:2] == (422, "invalid_input")


def test_large_strings_travel_beside_the_ring(wire: Wire) -> None:
    text = "abc \u00e9" * 100_000
    outputs = ask(wire, "large", {"text": text, "colour": [1.0, 2.0]})
    assert outputs["upper"] == text.upper()
    assert ask(wire, "large", {"text": text, "colour": [1.0, 2.0]}, "msgpack") == outputs


def test_many_rows_of_strings(wire: Wire) -> None:
    rows = [{"text": [f"a{number}", ""], "blob": "xy", "times": number} for number in range(40)]
    rows[7]["text"] = ["raise", ""]
    reply = wire.ask("POST", "/predict/batch", json.dumps({"model": "echo", "inputs": rows}).encode(), JSON)
    assert reply.status == 200, reply.body
    answer = reply.json()
    assert [(error["row"], error["code"]) for error in answer["errors"]] == [(7, "model_error")]
    for number, outputs in enumerate(answer["outputs"]):
        expected = {"blob": "xy" * number, "text": ["", f"a{number}"], "length": [len(f"a{number}"), 0]}
        assert outputs == (None if number == 7 else expected)


@pytest.mark.parametrize("binary", [False, True])
def test_strings_in_the_open_inference_protocol(wire: Wire, binary: bool) -> None:
    texts, colours = ["one", "\u00e9", ""], np.float32([[1, 2], [3, 4], [5, 6]])
    inputs: list[dict[str, Any]] = [
        {"name": "text", "datatype": "BYTES", "shape": [3]},
        {"name": "colour", "datatype": "FP32", "shape": [3, 2]},
    ]
    fields, data = dict(JSON), b""
    if binary:
        data = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
        inputs[0]["parameters"] = {"binary_data_size": len(data)}
        data += colours.tobytes()
        inputs[1]["parameters"] = {"binary_data_size": colours.nbytes}
    else:
        inputs[0]["data"], inputs[1]["data"] = texts, colours.ravel().tolist()
    document = {"inputs": inputs, "parameters": {"binary_data_output": binary}}
    head = json.dumps(document).encode()
    if binary:
        fields = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    reply = wire.ask("POST", "/v2/models/upper/infer", head + data, fields)
    assert reply.status == 200, reply.body
    if binary:
        rest = reply.body[int(reply.headers["inference-header-content-length"]) :]
        found = []
        while rest:
            (length,) = struct.unpack_from("<I", rest)
            found.append(rest[4 : 4 + length].decode())
            rest = rest[4 + length :]
    else:
        found = [item for output in reply.json()["outputs"] for item in output["data"]]
    assert found == ["ONE", "\u00c9", "", *"123456"]
    assert wire.ask("GET", "/v2/models/upper").json()["inputs"][0]["datatype"] == "BYTES"


@pytest.mark.formats
def test_scikit_learn_reads_text(tmp_path: Path, serve: Callable[..., Server], connect: Callable[..., Wire]) -> None:
    import skops.io

    texts = ["good and kind", "bad", "very good", "awful and bad"] * 5
    labels = np.array(["praise", "blame"] * 10)
    estimator = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)
    skops.io.dump(estimator, tmp_path / "mood.skops")
    schema = {"inputs": [{"name": "text", "dtype": "str", "shape": []}]}
    (tmp_path / "mood.schema.json").write_text(json.dumps(schema))
    wire = connect(serve(models={"mood": tmp_path / "mood.skops"}))
    for text in ("so good", "bad bad", ""):
        outputs = ask(wire, "mood", {"text": text})
        assert outputs["label"] == estimator.predict([text])[0]
        np.testing.assert_allclose(outputs["probabilities"], estimator.predict_proba([text])[0])
