"""Files, texts, forms and base64 as inputs of a prediction."""

import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Reply, Server

SOURCE = '''\
"""Says what it got."""

import numpy as np

from penstock.worker import Tensor


class Model:
    inputs = {INPUTS}
    outputs = {"seen": Tensor("str", ())}

    def load(self):
        pass

    def predict(self, batch):
        seen = [repr({name: show(values[row]) for name, values in batch.items()}) for row in range(rows(batch))]
        return {"seen": np.array(seen, object)}


def rows(batch):
    return len(next(iter(batch.values())))


def show(value):
    return value.tolist() if hasattr(value, "tolist") else value
'''
MODELS = {
    "text": '{"words": Tensor("str", ())}',
    "blob": '{"file": Tensor("bytes", ())}',
    "pixels": '{"file": Tensor("uint8", (4,))}',
    "number": '{"x": Tensor("float32", (2,))}',
    "form": '{"words": Tensor("str", (1,)), "file": Tensor("uint8", (4,)), '
    '"x": Tensor("float32", (2,)), "n": Tensor("int64", ())}',
}
FORM = "multipart/form-data; boundary=line"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("files")
    for name, inputs in MODELS.items():
        (folder / f"{name}.py").write_text(SOURCE.replace("{INPUTS}", inputs))
    running = Server.start([f"{name}={folder / name}.py" for name in MODELS], folder)
    yield running
    running.stop()


def send(server: Server, model: str, body: bytes, media_type: str, **headers: str) -> Reply:
    return server.request("POST", f"/predict?model={model}", body, {"Content-Type": media_type, **headers})


def seen(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    return eval(reply.json()["outputs"]["seen"])


def form(*parts: tuple[str, str, bytes]) -> bytes:
    """Parts of a disposition, a media type and a content."""
    return (
        b"".join(
            f"--line\r\nContent-Disposition: form-data; {disposition}\r\n".encode()
            + (f"Content-Type: {media_type}\r\n".encode() if media_type else b"")
            + b"\r\n"
            + content
            + b"\r\n"
            for disposition, media_type, content in parts
        )
        + b"--line--\r\n"
    )


def test_text_is_the_value_of_a_string(files: Server) -> None:
    assert seen(send(files, "text", 'na\u00efve "x"\n'.encode(), "text/plain")) == {"words": 'na\u00efve "x"\n'}
    assert seen(send(files, "text", b"na\xefve", "text/plain; charset=ISO-8859-1")) == {"words": "na\u00efve"}


def test_a_file_is_the_value_of_bytes_and_of_a_vector_of_them(files: Server) -> None:
    content = bytes([0, 255, 137, 80])
    assert seen(send(files, "blob", content, "image/png")) == {"file": content}
    assert seen(send(files, "pixels", content, "image/png")) == {"file": list(content)}


def test_a_form_has_a_part_for_each_input(files: Server) -> None:
    body = form(
        ('name="words"', "", "gr\u00fc\u00df".encode()),
        ('name="file"; filename="a.png"', "image/png", bytes([1, 2, 3, 4])),
        ('name="x"', "application/json", b"[0.5, 1]"),
        ('name="n"', "", b"41"),
    )
    assert seen(send(files, "form", body, FORM)) == {
        "words": ["gr\u00fc\u00df"],
        "file": [1, 2, 3, 4],
        "x": [0.5, 1.0],
        "n": 41,
    }
    raw = ('name="x"; filename="x"', "application/octet-stream", bytes([0, 0, 128, 63, 0, 0, 0, 64]))
    assert seen(send(files, "number", form(raw), FORM)) == {"x": [1.0, 2.0]}


@pytest.mark.parametrize("content", [b"", b"a", b"ab", b"abc", b"\xff\xfe\xfd\xfc", bytes(range(256))])
def test_base64_stands_for_bytes(files: Server, content: bytes) -> None:
    for text in (b64encode(content).decode(), b64encode(content).decode().rstrip("=")):
        for written in (text, text.replace("/", "\\/")):
            body = f'{{"inputs":{{"file":{{"base64":"{written}"}}}}}}'.encode()
            assert seen(send(files, "blob", body, "application/json")) == {"file": content}


def test_base64_stands_for_tensors(files: Server) -> None:
    inputs = {
        "words": [{"base64": b64encode(b"abc").decode()}],
        "file": {"base64": "AQIDBA=="},
        "x": {"base64": b64encode(bytes([0, 0, 128, 63, 0, 0, 0, 64])).decode()},
        "n": 1,
    }
    assert seen(files.predict(model="form", inputs=inputs)) == {
        "words": ["abc"],
        "file": [1, 2, 3, 4],
        "x": [1.0, 2.0],
        "n": 1,
    }


@pytest.mark.parametrize(
    "digits", ["A", "AQIDBA=", "AQID BA==", "AQIDB!==", "AQIDBB==", "AQID\\\\BA=", "=AQI", "AQIDBAU="]
)
def test_what_is_no_base64_of_the_tensor_is_refused(files: Server, digits: str) -> None:
    body = f'{{"inputs":{{"file":{{"base64":"{digits}"}}}}}}'.encode()
    reply = send(files, "pixels", body, "application/json")
    assert reply.status == 422, reply.body
    assert "inputs.file" in reply.json()["detail"]


@pytest.mark.parametrize(
    "value", ['{"base32":"A"}', "{}", '{"base64":3}', '{"base64":"AQIDBA==","x":1}', '{"base64":"AQ']
)
def test_another_object_is_no_tensor(files: Server, value: str) -> None:
    for model in ("pixels", "blob"):
        assert send(files, model, f'{{"inputs":{{"file":{value}}}}}'.encode(), "application/json").status in (400, 422)


@pytest.mark.parametrize(
    ("model", "body", "media_type", "status", "detail"),
    [
        ("number", b"12345678", "image/png", 415, "application/octet-stream"),
        ("number", b"1", "text/plain", 415, "text by strings"),
        ("text", b"\x89PNG", "image/png", 415, "str of shape []"),
        ("text", b"\xff", "text/plain", 400, "byte 0 of the text is not utf-8"),
        ("text", b"a", "text/plain; charset=klingon", 415, "klingon"),
        ("pixels", b"12345", "image/png", 422, "inputs.file"),
        ("form", b"a", "text/plain", 415, "4 inputs"),
        ("form", form(('name="other"', "", b"1")), FORM, 422, "no such input"),
        ("form", form(('name="n"', "", b"1"), ('name="n"', "", b"1")), FORM, 400, "twice"),
        ("form", form(('name="n"', "", b"one")), FORM, 400, "not valid JSON"),
        ("form", form(('name="n"', "", b"1")), FORM, 422, ""),
        ("form", b"--line\r\n", FORM, 400, ""),
        ("form", b"", "multipart/form-data", 400, "boundary"),
        ("nobody", b"a", "text/plain", 404, "nobody"),
        ("text", b"a,b", "text/csv", 415, "text/csv"),
    ],
)
def test_what_fits_no_input_is_refused(
    files: Server, model: str, body: bytes, media_type: str, status: int, detail: str
) -> None:
    reply = send(files, model, body, media_type, **{"X-Request-Id": "mine"})
    assert reply.status == status, reply.body
    problem = json.loads(reply.body)
    assert detail in problem["detail"]
    assert problem["request_id"] == "mine"


def test_an_answer_may_be_raw(files: Server, tmp_path: Path) -> None:
    reply = send(files, "text", b"a", "text/plain", Accept="application/msgpack")
    assert reply.headers["content-type"] == "application/msgpack"
