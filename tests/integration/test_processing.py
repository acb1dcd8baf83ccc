"""Plans end to end: what a served model sees of records, texts and images is what the plan makes of them offline."""

import io
import json
import textwrap
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.core.errors import ConfigError, RequestError
from penstock.processing.offline import inputs_of, transform
from penstock.processing.plan import read_plan
from penstock.processing.tables import read_table
from penstock.processing.unfit import UnfitFeatureError
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
# Answers with what it sees.
ECHO = """
    from penstock.worker import Tensor

    class Model:
        inputs = {inputs}
        outputs = {outputs}

        def predict(self, batch):
            return {{name + "_seen": value.copy() for name, value in batch.items()}}
"""
TABLE = {
    "record": {
        "age": {"type": ["number", "null"], "minimum": 0},
        "sex": {"enum": ["female", "male"]},
        "born": {"type": "string", "format": "date"},
        "note": {"type": "string", "default": ""},
    },
    "features": [
        {"column": "age", "steps": [{"impute": "constant", "value": 30, "indicator": True}, {"log": 1}]},
        {"column": "sex", "steps": [{"encode": "one-hot", "numbers": [["female", 0], ["male", 1]], "width": 2}]},
        {"column": "born", "steps": [{"date": ["month"]}, {"cycle": 12}]},
        {"column": "note", "steps": [{"words": "counts", "vocabulary": ["fox", "straße"]}]},
    ],
}
PHOTO = {
    "record": {"photo": {"type": "string", "contentMediaType": "image/*"}, "age": {"type": "number", "default": 7}},
    "features": [
        {
            "column": "photo",
            "steps": [{"image": "RGB", "resize": 12, "crop": [10, 10], "mean": [0, 0, 0.5], "std": [1, 1, 0.5]}],
            "into": "x",
        },
        {"column": "age", "into": "age"},
    ],
}
# Features that end in integers, with and without what fills holes.
WHOLE = {
    "record": {
        "age": {"type": ["number", "null"]},
        "rooms": {"type": ["integer", "null"]},
        "price": {"type": "number", "default": 1},
    },
    "features": [
        {"column": "age", "into": "ids"},
        {"column": "rooms", "steps": [{"impute": "constant", "value": 2}], "into": "ids"},
        {"ratio": ["age", "price"], "name": "years a coin", "into": "ratio"},
        {"column": "age", "name": "real", "into": "real"},
    ],
}
# Yes and no as CSV has them; numbers 1 and 0 are something else.
FLAGS = {
    "record": {
        "member": {"type": "boolean"},
        "known": {"enum": [False, True]},
        "maybe": {"type": ["boolean", "null"]},
        "digit": {"enum": [1, 0]},
    }
}
MODELS = {
    "table": ({"x": ("float32", (8,))}, TABLE),
    "whole": ({"ids": ("int64", (2,)), "ratio": ("int32", (1,)), "real": ("float32", (1,))}, WHOLE),
    "flags": ({"x": ("float64", (4,))}, FLAGS),
    "photo": ({"x": ("float32", (3, 10, 10)), "age": ("float32", ())}, PHOTO),
}
ROWS = [
    {"age": 22, "sex": "male", "born": "1990-03-05", "note": "Fox, the fox"},
    {"age": None, "sex": "female", "born": "2001-12-31", "note": "eine STRASSE, die Straße"},
    {"age": 0.5, "sex": "female", "born": "1969-07-20", "note": ""},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("plans")
    arguments = []
    for name, (inputs, plan) in MODELS.items():
        (folder / name).mkdir()
        declared = ", ".join(f"{key!r}: Tensor({dtype!r}, {shape!r})" for key, (dtype, shape) in inputs.items())
        given = ", ".join(f"{key + '_seen'!r}: Tensor({dtype!r}, {shape!r})" for key, (dtype, shape) in inputs.items())
        source = textwrap.dedent(ECHO).format(inputs=f"{{{declared}}}", outputs=f"{{{given}}}")
        (folder / name / "model.py").write_text(source)
        (folder / name / "processing.json").write_text(json.dumps({"format": 1, **plan}))
        arguments.append(f"{name}={folder / name}")
    running = Server.start(arguments, folder)
    yield running
    running.stop()


def asked(server: Server, path: str, body: Any, headers: dict[str, str] = JSON) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = server.request("POST", path, content, headers)
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def test_features_online_are_those_offline(server: Server, tmp_path: Any) -> None:
    file = tmp_path / "processing.json"
    file.write_text(json.dumps({"format": 1, **TABLE}))
    plan = read_plan(file)
    table = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    ((_, expected),) = transform(plan, table, inputs_of(plan)).values()
    single = [asked(server, "/predict", {"model": "table", "inputs": row})["outputs"]["x_seen"] for row in ROWS]
    many = asked(server, "/predict/batch", {"model": "table", "inputs": ROWS})["outputs"]
    lines = (
        ",".join(ROWS[0])
        + "\n"
        + "".join(",".join("" if v is None else f'"{v}"' for v in row.values()) + "\n" for row in ROWS)
    )
    streamed = server.request(
        "POST",
        "/predict/batch?model=table",
        lines.encode(),
        {"Content-Type": "text/csv", "Accept": "application/x-ndjson"},
    )
    from_csv = [json.loads(line)["outputs"]["x_seen"] for line in streamed.body.splitlines()]
    assert expected.dtype == np.float32
    for found in (single, [row["x_seen"] for row in many], from_csv):
        assert np.array_equal(np.float32(found), expected)


def test_bools_of_csv_are_those_of_csv_offline(server: Server, tmp_path: Any) -> None:
    spelt = ["1", "0", "true", "False", " TRUE ", " 0 "]
    lines = [f"{text},{text},{text},1" for text in spelt] + ["true,false,,0"]
    wrong = [f"{text},true,,1" for text in ("2", "1.0", "yes")] + ["true,2,,1", "true,true,,true"]
    header = "member,known,maybe,digit"
    plan, table = tmp_path / "processing.json", tmp_path / "rows.csv"
    plan.write_text(json.dumps({"format": 1, **FLAGS}))
    read = read_plan(plan)
    assert read.record is not None
    table.write_text("\n".join([header, *lines]) + "\n")
    ((_, expected),) = transform(read, read_table(table, read.record), inputs_of(read, "float64")).values()
    kinds = {"Content-Type": "text/csv", "Accept": "application/x-ndjson"}
    body = "\n".join([header, *lines, *wrong]) + "\n"
    reply = server.request("POST", "/predict/batch?model=flags", body.encode(), kinds)
    answers = [json.loads(line) for line in reply.body.splitlines()]
    seen = [row["outputs"]["x_seen"] for row in answers[: len(lines)]]
    assert np.array_equal(
        np.array([[np.nan if of == "NaN" else of for of in row] for row in seen], float), expected, equal_nan=True
    )
    assert [row["error"]["code"] for row in answers[len(lines) :]] == ["invalid_input"] * len(wrong)
    for line in wrong:
        table.write_text(f"{header}\n{line}\n")
        with pytest.raises((ConfigError, RequestError)):
            transform(read, read_table(table, read.record), inputs_of(read, "float64"))


def test_all_faults_of_a_record_are_told(server: Server) -> None:
    wrong = {"age": -1, "sex": "other", "born": "yesterday", "note": "x"}
    reply = server.request("POST", "/predict", json.dumps({"model": "table", "inputs": wrong}).encode(), JSON)
    assert reply.status == 422
    assert [(fault["field"], fault["rule"]) for fault in json.loads(reply.body)["errors"]] == [
        ("age", "minimum"),
        ("sex", "enum"),
        ("born", "format"),
    ]


MISSING = "age: missing, and input 'ids' is int64: send a value, or let the plan impute one"
UNFIT = [
    ({"age": None, "rooms": 1}, MISSING),
    ({"age": 1e30, "rooms": 1}, "age: 1e+30 does not fit input 'ids', which is int64: let the plan clip it"),
    (
        {"age": 30, "rooms": None, "price": 1e-9},
        "years a coin: 3e+10 does not fit input 'ratio', which is int32: let the plan clip it",
    ),
]
FITS = {"age": 41.9, "rooms": None, "price": 2}


@pytest.mark.parametrize(("row", "detail"), UNFIT)
def test_a_feature_that_its_integer_input_does_not_hold_is_the_rows_fault(
    server: Server, row: dict[str, Any], detail: str
) -> None:
    body = json.dumps({"model": "whole", "inputs": row}).encode()
    reply = server.request("POST", "/predict", body, JSON)
    assert (reply.status, json.loads(reply.body)["code"]) == (422, "invalid_input")
    assert json.loads(reply.body)["detail"] == detail


@pytest.mark.parametrize(
    ("value", "told"),
    [(2147483648.0, "2147483648"), (-2147483649.5, "-2147483649.5"), (1e30, "1e+30"), (123456789e20, "1.23456789e+28")],
)
def test_a_number_that_does_not_fit_is_told_as_it_is(tmp_path: Any, value: float, told: str) -> None:
    file = tmp_path / "processing.json"
    file.write_text(json.dumps({"format": 1, "record": {"age": {"type": "number"}}}))
    with pytest.raises(UnfitFeatureError) as refused:
        transform(read_plan(file), {"age": [value]}, [("x", "int32", (1,))])
    assert refused.value.detail == f"age: {told} does not fit input 'x', which is int32: let the plan clip it"


@pytest.mark.parametrize("value", [None, -1.7976931348623157e308])
def test_long_names_leave_room_for_what_mends_it(tmp_path: Any, value: float | None) -> None:
    file = tmp_path / "processing.json"
    name = "straße" * 20
    file.write_text(json.dumps({"format": 1, "record": {name: {"type": ["number", "null"]}}}))
    with pytest.raises(UnfitFeatureError) as refused:
        transform(read_plan(file), {name: [value]}, [("input" * 30, "int32", (1,))])
    detail = refused.value.detail
    assert len(detail.encode()) <= 125
    assert detail.startswith("straße") and detail.endswith(("or let the plan impute one", "let the plan clip it"))


def test_neighbours_of_a_row_that_does_not_fit_are_answered(server: Server) -> None:
    rows = [FITS, *(row for row, _ in UNFIT), FITS]
    answer = asked(server, "/predict/batch", {"model": "whole", "inputs": rows})
    seen = {"ids_seen": [41, 2], "ratio_seen": [20], "real_seen": [pytest.approx(41.9)]}
    assert answer["outputs"] == [seen, None, None, None, seen]
    assert [(error["row"], error["code"], error["detail"]) for error in answer["errors"]] == [
        (number, "invalid_input", detail) for number, (_, detail) in enumerate(UNFIT, start=1)
    ]


def test_a_record_that_does_not_fit_is_refused_offline_as_online(tmp_path: Any) -> None:
    file = tmp_path / "processing.json"
    file.write_text(json.dumps({"format": 1, **WHOLE}))
    plan = read_plan(file)
    model = [(name, dtype, shape) for name, (dtype, shape) in MODELS["whole"][0].items()]
    for row, detail in UNFIT:
        rows = [FITS, {"price": 1, **row}]
        with pytest.raises(UnfitFeatureError) as refused:
            transform(plan, {name: [of[name] for of in rows] for name in FITS}, model)
        assert (refused.value.detail, str(refused.value)) == (detail, f"row 1: {detail}")


def picture(width: int, height: int, kind: str) -> tuple[bytes, np.ndarray]:
    """Return a file, and what the model should see of it."""
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    saved = io.BytesIO()
    Image.fromarray(pixels).save(saved, kind)
    image = Image.open(saved).convert("RGB")
    size = (12, 12 * height // width) if width <= height else (12 * width // height, 12)
    image = image.resize((size[0], height), Image.Resampling.BILINEAR).resize(size, Image.Resampling.BILINEAR)
    fitted = np.asarray(image)
    top, left = round((fitted.shape[0] - 10) / 2), round((fitted.shape[1] - 10) / 2)
    values = fitted[top : top + 10, left : left + 10] / 255
    return saved.getvalue(), ((values - [0, 0, 0.5]) / [1, 1, 0.5]).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("width", "height", "kind"), [(60, 40, "PNG"), (31, 77, "JPEG"), (12, 12, "WEBP"), (5, 9, "BMP")]
)
def test_images_of_any_size_are_fitted(server: Server, width: int, height: int, kind: str) -> None:
    file, expected = picture(width, height, kind)
    body = {"model": "photo", "inputs": {"photo": {"base64": b64encode(file).decode()}, "age": 3}}
    outputs = asked(server, "/predict", body)["outputs"]
    assert np.allclose(outputs["x_seen"], expected, atol=1e-6)
    assert outputs["age_seen"] == 3
    rows = [
        {"photo": {"base64": b64encode(file).decode()}},
        {"photo": {"base64": b64encode(b"\x89PNG\r\n\x1a\nno").decode()}},
    ]
    answer = asked(server, "/predict/batch", {"model": "photo", "inputs": rows})
    good, bad = answer["outputs"]
    assert np.allclose(good["x_seen"], expected, atol=1e-6)
    assert good["age_seen"] == 7
    assert bad is None
    assert [(error["row"], error["code"]) for error in answer["errors"]] == [(1, "malformed_body")]


def test_a_description_says_how_an_image_comes(server: Server) -> None:
    record = json.loads(server.request("GET", "/models/photo").body)["versions"][0]["record"]
    (example,) = record["examples"]
    assert record["properties"]["photo"]["required"] == ["base64"]
    outputs = asked(server, "/predict", {"model": "photo", "inputs": example})["outputs"]
    assert np.allclose(outputs["x_seen"], np.float32([[[0]], [[0]], [[-1]]]) * np.ones((3, 10, 10)))
