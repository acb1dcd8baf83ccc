"""Texts and pictures in records: how much room they have, and every form in which pictures are taken."""

import io
import json
import textwrap
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from PIL import Image

from tests.serving import Server

JSON = {"Content-Type": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
LINES = {"Content-Type": "application/x-ndjson"}
CSV = {"Content-Type": "text/csv", "Accept": "application/x-ndjson"}
BOUNDARY = "----part"

NOTE = """
    from penstock.worker import Tensor

    class Model:
        inputs = {"note": Tensor("str")}
        outputs = {"length": Tensor("int64")}

        def predict(self, batch):
            import numpy as np
            return {"length": np.array([len(note) for note in batch["note"]])}
"""
FILE = """
    from penstock.worker import Tensor

    class Model:
        inputs = {"picture": Tensor("bytes")}
        outputs = {"length": Tensor("int64")}

        def predict(self, batch):
            import numpy as np
            return {"length": np.array([len(file) for file in batch["picture"]])}
"""
PIXELS = """
    from penstock.worker import Tensor

    class Model:
        inputs = {"pixels": Tensor("float32", (1, 8, 8)), "age": Tensor("float32")}
        outputs = {"seen": Tensor("float32", (1, 8, 8)), "age_seen": Tensor("float32")}

        def predict(self, batch):
            return {"seen": batch["pixels"].copy(), "age_seen": batch["age"].copy()}
"""
NUMBERS = """
    from penstock.worker import Tensor

    class Model:
        inputs = {"x": Tensor("float64", (3,))}
        outputs = {"seen": Tensor("float64", (3,))}

        def predict(self, batch):
            return {"seen": batch["x"].copy()}
"""
PICTURE = {"type": "string", "contentMediaType": "image/png"}
STEPS = [{"image": "L", "resize": [8, 8], "mean": [0], "std": [1]}]
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "note": (NOTE, {"record": {"note": {"type": "string", "maxLength": 20000}}}),
    "file": (FILE, {"record": {"picture": PICTURE}}),
    "trip": (
        NUMBERS,
        {
            "record": {
                "age": {"type": ["number", "null"], "minimum": 0, "maximum": 120},
                "port": {"type": "string", "x-penstock": {"categories": ["Cork", "Riga"]}},
                "deck": {"x-penstock": {"categories": ["A", 1, True]}},
            }
        },
    ),
    "digits": (
        PIXELS,
        {
            "record": {"picture": PICTURE, "age": {"type": "number", "default": 7}},
            "features": [
                {"column": "picture", "steps": STEPS, "into": "pixels"},
                {"column": "age", "into": "age"},
            ],
        },
    ),
    "nested": (
        PIXELS,
        {
            "record": {
                "type": "object",
                "properties": {
                    "person": {"type": "object", "properties": {"photo": PICTURE}, "required": ["photo"]},
                    "age": {"type": "number"},
                },
                "required": ["person", "age"],
            },
            "features": [
                {"column": "person.photo", "steps": STEPS, "into": "pixels"},
                {"column": "age", "into": "age"},
            ],
        },
    ),
}


def written(folder: Path, name: str, source: str, plan: dict[str, Any]) -> str:
    (folder / name).mkdir()
    (folder / name / "model.py").write_text(textwrap.dedent(source))
    (folder / name / "processing.json").write_text(json.dumps({"format": 1, **plan}))
    return f"{name}={folder / name}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("forms")
    running = Server.start([written(folder, name, *of) for name, of in MODELS.items()], folder)
    yield running
    running.stop()


def picture(seed: int = 1, side: int = 8) -> tuple[bytes, np.ndarray]:
    """Return a file of PNG, and what a model should see of it."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)
    saved = io.BytesIO()
    Image.fromarray(pixels).save(saved, "PNG")
    return saved.getvalue(), pixels[None] / np.float32(255)


FILE_1, SEEN_1 = picture(1)
TEXT_1 = b64encode(FILE_1).decode()


def answered(server: Server, path: str, body: Any, headers: dict[str, str] = JSON) -> tuple[int, Any]:
    packed = "msgpack" in headers["Content-Type"]
    if not isinstance(body, bytes):
        body = msgpack.packb(body) if packed else json.dumps(body).encode()
    reply = server.request("POST", path, body, headers)
    if reply.headers["content-type"].startswith("application/msgpack"):
        return reply.status, msgpack.unpackb(reply.body)
    return reply.status, json.loads(reply.body)


def form(name: str, content: bytes, media_type: str) -> tuple[bytes, dict[str, str]]:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="x.png"\r\n'
    body = f"{head}Content-Type: {media_type}\r\n\r\n".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


# --- room ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [JSON, MSGPACK])
@pytest.mark.parametrize("text", ["x" * 1100, "x" * 20000, "ß" * 20000, "\N{GRINNING FACE}" * 20000])
def test_a_record_has_room_for_what_it_promises(server: Server, text: str, headers: dict[str, str]) -> None:
    status, answer = answered(server, "/predict", {"model": "note", "inputs": {"note": text}}, headers)
    assert (status, answer.get("detail")) == (200, None)
    assert answer["outputs"]["length"] == len(text)


@pytest.mark.parametrize("text", ["x" * 20001, "\N{GRINNING FACE}" * 20001, "x" * 90000])
def test_what_is_too_long_is_too_many_characters(server: Server, text: str) -> None:
    for headers in (JSON, MSGPACK):
        status, answer = answered(server, "/predict", {"model": "note", "inputs": {"note": text}}, headers)
        assert status == 422
        assert "expected a string" in answer["detail"]
        assert "20000 characters" in answer["detail"]


def test_a_picture_that_the_model_decodes_has_room(server: Server) -> None:
    for content in (b"x" * 200_000, FILE_1):
        inputs = {"picture": b64encode(content).decode()}
        status, answer = answered(server, "/predict", {"model": "file", "inputs": inputs})
        assert (status, answer["outputs"]["length"]) == (200, len(content))
    status, answer = answered(server, "/predict", {"model": "file", "inputs": {"picture": "AAAA" * 100_000}})
    assert status == 422
    room = "more bytes than the 262144 that there is room for; the model's setting string_bytes_max makes more"
    assert answer["detail"] == f"picture: {room}"


def test_a_promise_that_no_ring_can_keep_is_refused_at_once(serve: Callable[..., Server], tmp_path: Path) -> None:
    argument = written(tmp_path, "long", NOTE, {"record": {"note": {"type": "string", "maxLength": 10**8}}})
    with pytest.raises(AssertionError, match="lower maxLength"):
        serve(argument)


@pytest.mark.parametrize(("length", "text"), [(5, ""), (4, "row 1, output 'length': expected 4, got 5")])
def test_golden_rows_are_records(serve: Callable[..., Server], tmp_path: Path, length: int, text: str) -> None:
    argument = written(tmp_path, "proven", NOTE, {"record": {"note": {"type": "string"}}})
    golden = {"inputs": [{"note": ""}, {"note": "hello"}], "outputs": {"length": [0, length]}}
    (tmp_path / "proven" / "golden.json").write_text(json.dumps(golden))
    if text:
        with pytest.raises(AssertionError, match=text):
            serve(argument)
    else:
        status, answer = answered(serve(argument), "/predict", {"model": "proven", "inputs": {"note": "abc"}})
        assert (status, answer["outputs"]["length"]) == (200, 3)


# --- pictures that the model decodes ------------------------------------------------------------------------------


def test_files_are_taken_as_they_are(server: Server) -> None:
    status, answer = answered(server, "/predict?model=file", FILE_1, {"Content-Type": "image/png"})
    assert (status, answer.get("detail")) == (200, None)
    assert answer["outputs"]["length"] == len(FILE_1)
    for media_type in ("image/png", "application/octet-stream"):
        status, answer = answered(server, "/predict?model=file", *form("picture", FILE_1, media_type))
        assert (status, answer["outputs"]["length"]) == (200, len(FILE_1))
    for inputs in ({"picture": TEXT_1}, {"picture": {"base64": TEXT_1}}):
        status, answer = answered(server, "/predict", {"model": "file", "inputs": inputs})
        assert (status, answer["outputs"]["length"]) == (200, len(FILE_1))
    table = f"picture\n{TEXT_1}\n".encode()
    reply = server.request("POST", "/predict/batch?model=file", table, CSV)
    assert json.loads(reply.body)["outputs"]["length"] == len(FILE_1)


# --- pictures with an image step ----------------------------------------------------------------------------------

AS_JSON = [TEXT_1, {"base64": TEXT_1}]


@pytest.mark.parametrize("value", AS_JSON)
def test_pictures_come_as_base64_in_json(server: Server, value: Any) -> None:
    status, answer = answered(server, "/predict", {"model": "digits", "inputs": {"picture": value, "age": 3}})
    assert (status, answer.get("detail")) == (200, None)
    assert np.allclose(answer["outputs"]["seen"], SEEN_1)
    assert answer["outputs"]["age_seen"] == 3


@pytest.mark.parametrize("value", [FILE_1, TEXT_1])
def test_pictures_come_as_bytes_in_msgpack(server: Server, value: Any) -> None:
    status, answer = answered(server, "/predict", {"model": "digits", "inputs": {"picture": value, "age": 3}}, MSGPACK)
    assert (status, answer.get("detail")) == (200, None)
    assert np.allclose(answer["outputs"]["seen"], SEEN_1)
    rows = [{"picture": value, "age": 2.5}, {"picture": b"\x89PNG\r\n\x1a\nno", "age": 1}]
    status, answer = answered(server, "/predict/batch", {"model": "digits", "inputs": rows}, MSGPACK)
    assert status == 200
    good, bad = answer["outputs"]
    assert bad is None
    assert np.allclose(good["seen"], SEEN_1)
    (error,) = answer["errors"]
    assert (error["row"], error["code"]) == (1, "malformed_body")
    assert "no image that can be read" in error["detail"]


def test_pixels_are_taken_still(server: Server) -> None:
    pixels = np.round(SEEN_1 * 255).astype(np.uint8).reshape(8, 8, 1)
    for value in (pixels.tolist(), {"base64": b64encode(pixels.tobytes()).decode()}):
        status, answer = answered(server, "/predict", {"model": "digits", "inputs": {"picture": value}})
        assert (status, answer.get("detail")) == (200, None)
        assert np.allclose(answer["outputs"]["seen"], SEEN_1)
    status, answer = answered(server, "/predict", {"model": "digits", "inputs": {"picture": pixels.tobytes()}}, MSGPACK)
    assert (status, answer.get("detail")) == (200, None)
    assert np.allclose(answer["outputs"]["seen"], SEEN_1)


def test_pictures_stand_in_objects(server: Server) -> None:
    for inputs in ({"person": {"photo": TEXT_1}, "age": 1}, {"person.photo": TEXT_1, "age": 1}):
        status, answer = answered(server, "/predict", {"model": "nested", "inputs": inputs})
        assert (status, answer.get("detail")) == (200, None)
        assert np.allclose(answer["outputs"]["seen"], SEEN_1)


def test_a_picture_may_be_large(server: Server) -> None:
    file, _ = picture(2, 900)
    for value in (b64encode(file).decode(), {"base64": b64encode(file).decode()}):
        status, answer = answered(server, "/predict", {"model": "digits", "inputs": {"picture": value}})
        assert (status, answer.get("detail")) == (200, None)


def test_lines_have_pictures(server: Server) -> None:
    rows = [{"picture": TEXT_1}, {"picture": {"base64": TEXT_1}}, {"picture": "bm8="}, {"picture": TEXT_1, "age": 1}]
    body = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    reply = server.request("POST", "/predict/batch?model=digits", body, LINES)
    answers = [json.loads(line) for line in reply.body.splitlines()]
    assert ["outputs" in answer for answer in answers] == [True, True, False, True], answers
    assert np.allclose(answers[3]["outputs"]["seen"], SEEN_1)
    assert "no image that can be read" in answers[2]["error"]["detail"]
    table = f"picture,age\n{TEXT_1},3\nbm8=,4\n".encode()
    reply = server.request("POST", "/predict/batch?model=digits", table, CSV)
    first, second = [json.loads(line) for line in reply.body.splitlines()]
    assert np.allclose(first["outputs"]["seen"], SEEN_1)
    assert "no image that can be read" in second["error"]["detail"]


@pytest.mark.parametrize("value", ["bm8gcGljdHVyZQ==", "", "not base64"])
def test_what_is_no_picture_is_told_so(server: Server, value: str) -> None:
    for inputs in ({"picture": value}, {"picture": {"base64": value}}):
        status, answer = answered(server, "/predict", {"model": "digits", "inputs": inputs})
        assert status in (400, 422)
        assert "image" in answer["detail"]
        assert "!" not in answer["detail"]
    status, answer = answered(server, "/predict", {"model": "digits", "inputs": {"picture": b"no picture"}}, MSGPACK)
    assert status == 422
    assert "no image of PNG" in answer["detail"]


def test_errors_of_a_row_are_those_of_its_picture(server: Server) -> None:
    broken = b64encode(FILE_1[:60]).decode()
    for value in (broken, {"base64": broken}):
        rows = [{"picture": TEXT_1}, {"picture": value, "age": "old"}]
        status, answer = answered(server, "/predict/batch", {"model": "digits", "inputs": rows})
        assert status == 200
        (error,) = answer["errors"]
        assert [(each["field"], each["rule"]) for each in error["errors"]] == [
            ("picture", "contentMediaType"),
            ("age", "type"),
        ]
        assert "no image that can be read" in error["errors"][0]["detail"]
        assert "no image that can be read" in error["detail"]
        assert "age: expected a number" in error["detail"]
        assert "got !" not in json.dumps(error)
        status, problem = answered(server, "/predict", {"model": "digits", "inputs": rows[1]})
        told = {name: problem[name] for name in ("code", "status", "detail", "errors")}
        assert told == {name: error[name] for name in told}
        assert (status, problem["type"]) == (problem["status"], "/problems/malformed_body")


def test_the_open_inference_protocol_takes_pixels(server: Server) -> None:
    inputs = [{"name": "picture", "shape": [1], "datatype": "BYTES", "data": [TEXT_1]}]
    status, answer = answered(server, "/v2/models/digits/infer", {"inputs": inputs})
    assert status == 422
    assert "expected UINT8, its pixels" in answer["detail"]


# --- what is said of faults ---------------------------------------------------------------------------------------


def faults_of(server: Server, inputs: Any, headers: dict[str, str] = JSON) -> dict[str, str]:
    status, answer = answered(server, "/predict", {"model": "trip", "inputs": inputs}, headers)
    assert status == 422
    return {error["field"]: error["detail"] for error in answer["errors"]}


def test_faults_say_what_is_expected(server: Server) -> None:
    faults = faults_of(server, {"port": 3, "deck": None})
    assert faults == {
        "age": "missing; expected a number from 0 up to 120, or null",
        "port": "expected a category, which is a string, got 3",
        "deck": "expected a category, which is a string or a boolean or a number, got null",
    }
    faults = faults_of(server, {"age": float("nan")}, {**MSGPACK, "Accept": "application/json"})
    assert faults["age"] == "expected a number from 0 up to 120, or null, got NaN; a missing number is nil"
    assert faults["port"] == "missing; expected a category, which is a string"


@pytest.mark.parametrize(
    ("model", "header", "text"),
    [
        ("note", "text", "the header's column 'text' is no input; expected note"),
        ("note", "text,topic", "the header's column 'text' is no input; expected note"),
        ("note", "note,topic", "the header's column 'topic' is no input; expected note"),
        ("digits", "picture.0,age", "the header: "),
    ],
)
def test_a_header_of_csv_is_told_what_is_wrong(server: Server, model: str, header: str, text: str) -> None:
    reply = server.request("POST", f"/predict/batch?model={model}", f"{header}\na,b\n".encode(), CSV)
    assert reply.status == 422
    assert text in json.loads(reply.body)["detail"]
