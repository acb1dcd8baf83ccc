"""Columns of Arrow are run as tensors: every row has the outputs or the error that it has as a line of JSON."""

import io
import json
import math
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.ipc
import pytest

from tests.integration.streams import JSON_LINES, lines_of, stream, streaming
from tests.integration.supervised import until
from tests.serving import Server

ARROW = "application/vnd.apache.arrow.stream"
SOURCE = '''\
"""Answers what it got, or raises where it is told to."""

from penstock.worker import Tensor


class Model:
    inputs = {INPUTS}
    outputs = {OUTPUTS}

    def load(self):
        pass

    def predict(self, batch):
        if "f64" in batch and (batch["f64"] == 666).any():
            raise ValueError("the row asks for it")
        return {f"{name}_out": values for name, values in batch.items()}
'''
MIXED = {
    "flags": ("bool", (2,)),
    "i8": ("int8", ()),
    "u16": ("uint16", (3,)),
    "i64": ("int64", ()),
    "f16": ("float16", (2,)),
    "f32": ("float32", (2, 2)),
    "f64": ("float64", ()),
}
WORDS = {"word": ("str", ()), "pair": ("bytes", (2,)), "n": ("int32", ())}
TOKENS = {"ids": ("int64", (None,))}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("columns")
    settings = []
    for name, tensors in (("mixed", MIXED), ("words", WORDS), ("tokens", TOKENS)):
        inputs = ", ".join(f'"{each}": Tensor("{dtype}", {shape!r})' for each, (dtype, shape) in tensors.items())
        outputs = inputs.replace('": Tensor', '_out": Tensor')
        source = SOURCE.replace("{INPUTS}", f"{{{inputs}}}").replace("{OUTPUTS}", f"{{{outputs}}}")
        (folder / f"{name}.py").write_text(source)
        settings.append(f'[models.{name}]\npath = "{folder / name}.py"\nmax_batch_size = 512\n')
    settings[-1] += "lengths = [4, 16]\n"
    (folder / "penstock.toml").write_text("".join(settings))
    running = Server.start(["--config", str(folder / "penstock.toml")], folder)
    yield running
    running.stop()


def mixed(rows: int) -> dict[str, Any]:
    random = np.random.default_rng(5)
    return {
        "flags": pa.array(random.integers(0, 2, (rows, 2), np.int8).astype(bool).tolist()),
        "i8": pa.array(random.integers(-128, 128, rows), pa.int8()),
        "u16": pa.array(random.integers(0, 1 << 16, (rows, 3)).tolist(), pa.list_(pa.uint16(), 3)),
        "i64": pa.array(random.integers(-(1 << 62), 1 << 62, rows), pa.int64()),
        "f16": pa.array(random.standard_normal((rows, 2)).tolist(), pa.large_list(pa.float32())),
        "f32": pa.array(random.standard_normal((rows, 2, 2)).tolist(), pa.list_(pa.list_(pa.float64()))),
        "f64": pa.array(random.standard_normal(rows), pa.float64()),
    }


def arrow_of(columns: dict[str, Any], chunk: int = 300) -> bytes:
    table = pa.table(columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return sink.getvalue()


def as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def shown(name: str, value: Any) -> Any:
    """Floats of 32 bits have a text of their own."""
    if isinstance(value, list):
        return [shown(name, item) for item in value]
    is_short = isinstance(value, float) and name in ("f16_out", "f32_out")
    return float(np.float32(value)) if is_short and math.isfinite(value) else as_json(value)


def lines(columns: dict[str, Any]) -> bytes:
    rows = pa.table(columns).to_pylist()
    return b"".join(json.dumps({name: as_json(value) for name, value in row.items()}).encode() + b"\n" for row in rows)


def check(server: Server, model: str, columns: dict[str, Any], chunk: int = 300) -> list[Any]:
    """Send rows in all three ways; returns what they are answered with."""
    expected = lines_of(stream(server, JSON_LINES, f"model={model}", lines(columns)))
    body = arrow_of(columns, chunk)
    assert lines_of(stream(server, ARROW, f"model={model}", body, accept=JSON_LINES)) == expected
    response = stream(server, ARROW, f"model={model}", body)
    assert response.status == 200, response.content  # type: ignore[attr-defined]
    rows = pa.ipc.open_stream(response.content).read_all().to_pylist()  # type: ignore[attr-defined]
    assert len(rows) == len(expected)
    for row, line in zip(rows, expected, strict=True):
        error = row.pop("error")
        assert error == line.get("error")
        found = {name: shown(name, value) for name, value in row.items()}
        wanted = {name: shown(name, value) for name, value in line["outputs"].items()} if error is None else {}
        assert found == (wanted or dict.fromkeys(row))
    return expected


def test_every_type_comes_back_as_it_went(server: Server) -> None:
    answers = check(server, "mixed", mixed(1000))
    assert all("outputs" in answer for answer in answers)


@pytest.mark.parametrize("chunk", [1, 7, 700])
def test_record_batches_of_any_size_are_run(server: Server, chunk: int) -> None:
    check(server, "mixed", mixed(200 if chunk == 1 else 700), chunk)


def spoil(columns: dict[str, Any], name: str, at: dict[int, Any]) -> dict[str, Any]:
    kind = columns[name].type
    values = columns[name].to_pylist()
    for row, value in at.items():
        values[row] = value
    plain = pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind
    return {**columns, name: pa.array(values, plain)}


def test_rows_that_do_not_fit_fail_alone(server: Server) -> None:
    columns = mixed(900)
    columns = spoil(columns, "i64", {3: None, 400: None})
    columns = spoil(columns, "u16", {100: [1, 2], 101: None, 102: [1, None, 3], 103: [], 899: [1, 2, 3, 4]})
    columns = spoil(columns, "f32", {250: [[1.0, 2.0]], 251: [[1.0], [2.0, 3.0]], 252: [[1.0, 1e300], [0.0, 0.0]]})
    columns = spoil(columns, "f16", {600: [70000.0, 0.0], 601: [float("inf"), float("nan")]})
    columns = {**columns, "i8": columns["i8"].cast(pa.int32())}
    columns = spoil(columns, "i8", {0: 128, 700: -129, 701: 127})
    answers = check(server, "mixed", columns)
    failed = [row for row, answer in enumerate(answers) if "error" in answer]
    assert failed == [0, 3, 100, 101, 102, 103, 250, 251, 252, 400, 600, 700, 899]
    assert [answers[row]["error"]["row"] for row in failed] == failed
    assert {answers[row]["error"]["status"] for row in failed} == {422}


def test_rows_that_make_the_model_raise_fail_alone(server: Server) -> None:
    columns = spoil(mixed(800), "f64", {5: 666.0, 333: 666.0, 700: None})
    answers = check(server, "mixed", columns)
    assert {row: answer["error"]["code"] for row, answer in enumerate(answers) if "error" in answer} == {
        5: "model_error",
        333: "model_error",
        700: "invalid_input",
    }


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("i64", pa.array([1.0, 2.0, 3.0])),
        ("i64", pa.array([True, False, True])),
        ("i64", pa.array([1, None, 3], pa.uint64())),
        ("i64", pa.array([1, (1 << 64) - 1, 3], pa.uint64())),
        ("f64", pa.array([1, 2, 3], pa.int8())),
        ("f64", pa.array(["NaN", "1", "-Infinity"])),
        ("f64", pa.array([datetime(2024, 1, 1)] * 3, pa.timestamp("us"))),
        ("f64", pa.array([Decimal("1.5")] * 3)),
        ("f64", pa.array([None, None, None])),
        ("f64", pa.array([1.5, None, 2.5]).dictionary_encode()),
        ("i64", pa.array([7, 7, 8], pa.int32()).dictionary_encode()),
        ("flags", pa.array([[1, 0], [0, 1], [1, 1]])),
        ("flags", pa.array([[True, None], None, [True, False]])),
        ("f64", pa.array([[1.0], [2.0], [3.0]])),
        ("u16", pa.array([b"abcdef", b"ghi", None])),
    ],
    ids=str,
)
def test_columns_of_another_type_are_converted_or_refused_as_in_json(server: Server, name: str, values: Any) -> None:
    check(server, "mixed", {**mixed(3), name: values})


def test_strings_are_run_as_tensors_too(server: Server) -> None:
    rows = 500
    words = [["", "a", "na\u00efve", "\u65e5\u672c\u8a9e", 'q"\\'][row % 5] * (row % 3) for row in range(rows)]
    columns = {
        "word": pa.array(words),
        "pair": pa.array([[b"x", b"yy" * (row % 4)] for row in range(rows)], pa.list_(pa.large_binary())),
        "n": pa.array(range(rows), pa.int32()),
    }
    assert all("outputs" in answer for answer in check(server, "words", columns))
    columns["word"] = pa.array(words).dictionary_encode()
    check(server, "words", columns)
    columns["word"] = pa.array([None if row == 9 else "w" * (5000 if row == 10 else 1) for row in range(rows)])
    answers = check(server, "words", columns)
    assert [row for row, answer in enumerate(answers) if "error" in answer] == [9, 10]


def test_strings_that_are_no_utf8_are_refused(server: Server) -> None:
    offsets, text = pa.py_buffer(np.int32([0, 1, 2]).tobytes()), pa.py_buffer(b"a\xff")
    word = pa.Array.from_buffers(pa.utf8(), 2, [None, offsets, text])
    columns = {"word": word, "pair": pa.array([[b"x", b"y"]] * 2), "n": pa.array([1, 2], pa.int32())}
    response = stream(server, ARROW, "model=words", arrow_of(columns))
    assert response.status == 400
    assert "UTF8" in json.loads(response.content)["detail"]  # type: ignore[attr-defined]


def test_rows_of_several_lengths_are_answered_in_theirs(server: Server) -> None:
    same = {"ids": pa.array([[row, 2, 3] for row in range(300)], pa.list_(pa.int32()))}
    assert all("outputs" in answer for answer in check(server, "tokens", same))
    ragged = {"ids": pa.array([list(range(row % 18)) for row in range(300)] + [None])}
    answers = check(server, "tokens", ragged)
    assert [row for row, answer in enumerate(answers) if "error" in answer] == [
        *[row for row in range(300) if row % 18 in (0, 17)],
        300,
    ]


def test_a_stream_of_columns_without_rows_has_an_answer_without_rows(server: Server) -> None:
    table = pa.table(mixed(3)).slice(0, 0)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema):
        pass
    response = stream(server, ARROW, "model=mixed", sink.getvalue())
    assert pa.ipc.open_stream(response.content).read_all().num_rows == 0  # type: ignore[attr-defined]


def test_tensors_may_be_sent_to_a_batch_and_their_errors_be_told_by_row(server: Server) -> None:
    values = np.float64([1, 666, 3])
    tensors = {name: np.zeros((3, *shape), dtype) for name, (dtype, shape) in MIXED.items()} | {"f64": values}
    names = {"bool": "BOOL"}
    head: dict[str, Any] = {
        "inputs": [
            {
                "name": name,
                "datatype": names.get(str(each.dtype), str(each.dtype).upper().replace("FLOAT", "FP")),
                "shape": each.shape,
                "parameters": {"binary_data_size": each.nbytes},
            }
            for name, each in tensors.items()
        ]
    }
    content = b"".join(each.tobytes() for each in tensors.values())

    def send(path: str) -> Any:
        text = json.dumps(head).encode()
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
        return server.request("POST", path, text + content, headers)

    rows = send("/predict/batch?model=mixed").json()
    assert [row and row["f64_out"] for row in rows["outputs"]] == [1.0, None, 3.0]
    assert [error["row"] for error in rows["errors"]] == [1]
    assert send("/v2/models/mixed/infer").status == 500
    head |= {"parameters": {"row_errors": True}, "outputs": [{"name": "f64_out"}]}
    told = send("/v2/models/mixed/infer").json()
    assert told["outputs"][0]["data"] == [1.0, 0.0, 3.0]
    assert [(error["row"], error["code"]) for error in told["parameters"]["row_errors"]] == [(1, "model_error")]


def test_two_columns_of_an_inputs_name_are_refused(server: Server) -> None:
    columns = mixed(3)
    table = pa.Table.from_arrays([*columns.values(), columns["i64"]], names=[*columns, "i64"])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    response = stream(server, ARROW, "model=mixed", sink.getvalue())
    assert response.status == 422
    assert "several columns are called 'i64'" in json.loads(response.content)["detail"]  # type: ignore[attr-defined]
    others = pa.Table.from_arrays([*columns.values(), columns["i8"], columns["i8"]], names=[*columns, "x", "x"])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, others.schema) as writer:
        writer.write_table(others)
    assert stream(server, ARROW, "model=mixed", sink.getvalue()).status == 200


def test_values_that_python_does_not_have_are_named(server: Server) -> None:
    columns = {**mixed(3), "f64": pa.array([1 << 60] * 3, pa.timestamp("s"))}
    response = stream(server, ARROW, "model=mixed", arrow_of(columns))
    assert response.status == 400
    assert "a value that cannot be read" in json.loads(response.content)["detail"]  # type: ignore[attr-defined]


def test_a_reader_that_is_killed_is_not_the_clients_fault(server: Server) -> None:
    def readers() -> list[psutil.Process]:
        children = psutil.Process(server.process.pid).children(recursive=True)
        return [each for each in children if "penstock.jobs.columns" in each.cmdline()]

    with streaming(server, ARROW, "model=mixed") as request:
        request.send(arrow_of(mixed(3))[:100])
        until(lambda: bool(readers()), "a reader")
        for each in readers():
            each.kill()
        response = request.response
        assert response.status == 503
        assert json.loads(response.read())["code"] == "memory_exhausted"


def test_rows_that_are_only_claimed_are_not_run(server: Server) -> None:
    response = stream(server, ARROW, "model=tokens", arrow_of({"ids": pa.nulls((1 << 31) - 1)}, 1 << 31))
    assert response.status == 422
    assert "claims 2147483647 rows" in json.loads(response.content)["detail"]  # type: ignore[attr-defined]
    few = stream(server, ARROW, "model=tokens", arrow_of({"ids": pa.nulls(3)}), accept=JSON_LINES)
    assert [line["error"]["code"] for line in lines_of(few)] == ["invalid_input"] * 3


def test_what_does_not_begin_as_parquet_is_refused_at_once(server: Server) -> None:
    with streaming(server, "application/vnd.apache.parquet", "model=mixed") as request:
        request.send(b"PAR2" + bytes(100))
        assert request.response.status == 400  # and the body has not ended
        assert "not parquet" in json.loads(request.response.read())["detail"]
