"""`penstock predict` as a person uses it: a real server, a process of its own, a terminal where one matters."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.integration.asked_models import serve_models
from tests.serving import Server
from tests.unit.test_cli import penstock

SECONDS = 300
Result = subprocess.CompletedProcess[bytes]
Predict = Callable[..., Result]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = serve_models(tmp_path_factory.mktemp("models"))
    yield running
    running.stop()


@pytest.fixture
def predict(server: Server, tmp_path: Path) -> Predict:
    """Run `penstock predict` in an empty folder: predict("iris", "1", "2", status=2, stdin=b"...")."""

    def run(*arguments: str, status: int = 0, stdin: bytes = b"") -> Result:
        result = subprocess.run(
            [sys.executable, "-m", "penstock", "predict", *arguments],
            input=stdin,
            capture_output=True,
            timeout=SECONDS,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PENSTOCK_URL": server.url},
        )
        assert result.returncode == status, result
        assert b"Traceback" not in result.stderr
        return result

    return run


def outputs(result: Result) -> dict[str, object]:
    document = json.loads(result.stdout)
    assert set(document) <= {"model", "version", "outputs", "request_id", "receipt"}
    found: dict[str, object] = document["outputs"]
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["loan", "41", "30"], {"limit": 10.0, "terms": [41, 42]}),
        (["loan", "age=41", "income=30"], {"limit": 10.0, "terms": [41, 42]}),
        (["loan", "income=-3e1", "age=-1"], {"limit": -10.0, "terms": [-1, 0]}),
        (["loan", '{"age": 41, "income": 30}'], {"limit": 10.0, "terms": [41, 42]}),
        (["loan", '{"inputs": {"age": 41, "income": 30}}'], {"limit": 10.0, "terms": [41, 42]}),
        (["loan", "-7", "-30.0"], {"limit": -10.0, "terms": [-7, -6]}),
        (["loan", "--", "-7", "-30.0"], {"limit": -10.0, "terms": [-7, -6]}),
        (["saying", "hello there"], {"loud": "HELLO THERE", "words": 2}),
        (["saying", "text=a=b"], {"loud": "A=B", "words": 1}),
        (["saying", "@@home"], {"loud": "@HOME", "words": 1}),
        (["saying", "--", "--loud"], {"loud": "--LOUD", "words": 1}),
        (["saying", "17"], {"loud": "17", "words": 1}),
        (["person", "age=null", "sex=female", "comment=null"], {"slots": ["NaN", 0.0, 0.0], "comment": "null"}),
        (["person", "age=7", "sex=male", "tall=true", "comment=x"], {"slots": [7.0, 1.0, 1.0], "comment": "x"}),
    ],
)
def test_values(predict: Predict, arguments: list[str], expected: object) -> None:
    assert outputs(predict("--json", *arguments)) == expected


@pytest.mark.parametrize(
    "values",
    [
        ["5", "3", "0", "0.25"],
        ["5,3,0,.25"],
        ["5 3 0 .25"],
        ["[5, 3, 0, 0.25]"],
        ["x=5,3,0,0.25"],
        ['{"x": [5, 3, 0, 0.25]}'],
    ],
)
def test_ways_to_write_a_vector(predict: Predict, values: list[str]) -> None:
    found = outputs(predict("iris", *values, "--json"))
    assert found["score"] == pytest.approx([1 / 3] * 3)


def test_lines_in_a_pipe(predict: Predict) -> None:
    assert predict("loan", "41", "30").stdout == b"limit  10.0\nterms  [41, 42]\n"


def test_receipt(predict: Predict) -> None:
    document = json.loads(predict("loan", "41", "30", "--receipt", "--json").stdout)
    assert document["receipt"]["batch_rows"] == 1
    assert b"batch rows  1\n" in predict("loan", "41", "30", "--receipt").stderr


def test_options_reach_the_server(predict: Predict) -> None:
    found = json.loads(
        predict("loan", "1", "3", "--version", "1", "--priority", "interactive", "--timeout", "300", "--json").stdout
    )
    assert (found["model"], found["version"]) == ("loan", "1")
    assert b"version_not_found" in predict("loan", "1", "3", "--version", "7", status=1).stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.json", '[{"age": 41, "income": 30}, {"age": "x", "income": 3}]'),
        ("rows.ndjson", '{"age": 41, "income": 30}\n{"age": "x", "income": 3}\n'),
        ("rows.csv", "income,age\n30,41\n3,x"),
        ("body.json", '{"model": "loan", "inputs": [{"age": 41, "income": 30}, {"age": "x", "income": 3}]}'),
    ],
)
def test_rows_of_a_file(predict: Predict, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    for arguments in ([f"@{name}"], ["--file", name], ["-"]):
        result = predict("loan", *arguments, "--json", status=1, stdin=text.encode())
        first, second = map(json.loads, result.stdout.splitlines())
        assert first == {"outputs": {"limit": 10.0, "terms": [41, 42]}}
        assert (second["error"]["row"], second["error"]["code"]) == (1, "invalid_input")
        assert b"penstock: row 1: inputs.age: expected an integer" in result.stderr
    shown = predict("loan", f"@{name}", status=1).stdout.splitlines()
    assert [line.split() for line in shown] == [[b"ROW", b"limit", b"terms"], [b"0", b"10", b"[41,", b"42]"]]


def test_more_rows_than_one_request(predict: Predict) -> None:
    text = "".join(f"{number},{number}\n" if number != 2500 else "1,x\n" for number in range(3000))
    result = predict("loan", "-", "--json", status=1, stdin=f"income,age\n{text}".encode())
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == 3000
    assert found[2999]["outputs"]["terms"] == [2999, 3000]
    assert [row["error"]["row"] for row in found if "error" in row] == [2500]


@pytest.mark.parametrize(
    ("text", "rows"),
    [("[5, 3, 0, 1]", None), ("[[5, 3, 0, 1], [1, 2, 3, 4]]", 2), ('{"inputs": [5, 3, 0, 1]}', None)],
)
def test_a_list_is_a_row_or_rows(predict: Predict, text: str, rows: int | None) -> None:
    found = predict("iris", "-", "--json", stdin=text.encode()).stdout.splitlines()
    assert len(found) == (rows or 1)
    assert ("model" in json.loads(found[0])) is (rows is None)


def test_texts_of_files(predict: Predict, tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("hello there\n")
    for arguments, stdin in ((["@said.txt"], b""), (["-"], b"hello there\n"), (["text=@said.txt"], b"")):
        found = outputs(predict("saying", *arguments, "--json", stdin=stdin))
        assert str(found["loud"]).strip() == "HELLO THERE"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF"])
def test_pictures(predict: Predict, tmp_path: Path, kind: str) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (3, 2), (7, 99, 8)).save(picture, kind)
    (tmp_path / f"small.{kind.lower()}").write_bytes(picture.getvalue())
    for arguments in ([f"@small.{kind.lower()}"], ["-"], [f"image=@small.{kind.lower()}"]):
        found = outputs(predict("picture", *arguments, "--json", stdin=picture.getvalue()))
        assert found == {"brightest": 99}


def test_pictures_of_records(predict: Predict, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), (7, 99, 8)).save(tmp_path / "large.png")
    for arguments in (["@large.png"], ["photo=@large.png"], ["-"]):
        found = outputs(predict("photo", *arguments, "--json", stdin=(tmp_path / "large.png").read_bytes()))
        assert found == {"brightest": 99.0}


def test_picture_of_another_size(predict: Predict, tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "large.png")
    said = predict("picture", "@large.png", status=1).stderr.decode()
    assert "picture takes image uint8[2, 3, 3]; for example:\n  penstock predict picture @picture.png\n" in said


def test_what_is_no_picture_is_no_pixels(predict: Predict, tmp_path: Path) -> None:
    pixels = b"A" * 2 * 3 * 3
    (tmp_path / "small.png").write_bytes(pixels)
    (tmp_path / "pixels.bin").write_bytes(pixels)
    for arguments in (["@small.png"], ["image=@small.png"], ["@pixels.bin", "--format", "image"]):
        said = predict("picture", *arguments, status=2).stderr.decode()
        assert f"{arguments[0].rpartition('@')[2]} is no picture (PNG, JPEG, WebP, GIF, BMP)" in said
    assert outputs(predict("picture", "@pixels.bin", "--format", "bytes", "--json")) == {"brightest": 65}


def test_a_first_line_of_numbers_is_warned_of(predict: Predict, tmp_path: Path) -> None:
    for header, warned in (("5.1,3.5,1.4,0.2", True), ("0,1,2,3", False), ("a,b,c,4", False)):
        (tmp_path / "rows.csv").write_text(f"{header}\n1,2,3,4\n")
        result = predict("iris", "@rows.csv", "--json")
        assert len(result.stdout.splitlines()) == 1
        assert (f"taken for the header, and it is numbers ({header})" in result.stderr.decode()) == warned


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["iris", "1", "2"], "x float32[4] has 4 values, and 2 were given"),
        (["iris"], "what to predict is missing"),
        (["iris", "1", "2", "3", "x"], "x: 'x' is no float32"),
        (["iris", "[1, 2"], "'[1, 2' is no JSON"),
        (["iris", "1", "2", "3", "4", "x=1"], "stands beside NAME=VALUE"),
        (["loan", "1"], "1 value without names, and loan has 2 inputs"),
        (["loan", "agee=1", "income=3"], "loan has no input 'agee'; did you mean 'age'?"),
        (["loan", "age=1", "age=3"], "age is given twice"),
        (["loan", "age=1,2", "income=3"], "age: '1,2' is no int64"),
        (["person", "7"], "1 value without names, and person takes a record: write NAME=VALUE for each"),
        (["saying", "two", "words"], "quote a text that has blanks"),
        (["iris", "--verison", "1"], "there is no option --verison"),
        (["iris", "@none.json"], "cannot read none.json: No such file or directory"),
        (["saying", "text=@none"], "a text that begins with @ is written @@none"),
        (["iris", "1", "--format", "xml"], "--format 'xml': expected one of json, ndjson"),
        (["iris", "1", "--file", "x"], "values are given, and --file"),
        (["iris", "1", "2", "3", "4", "--priority", "high"], "--priority 'high': expected one of interactive"),
    ],
)
def test_wrong_usage_is_2_and_a_sentence(predict: Predict, arguments: list[str], said: str) -> None:
    result = predict(*arguments, status=2)
    assert said in result.stderr.decode()
    assert result.stdout == b""


@pytest.mark.parametrize("model", ["iris", "loan", "saying", "person"])
def test_what_is_wrong_shows_a_call_that_works(predict: Predict, server: Server, model: str) -> None:
    command = predict(model, status=2).stderr.decode().splitlines()[-1].strip()
    assert command.startswith(f"penstock predict {model} ")
    shell = f'penstock() {{ "{sys.executable}" -m penstock "$@"; }}; {command} --json'
    done = subprocess.run(
        ["bash", "-c", shell], capture_output=True, check=True, env={**os.environ, "PENSTOCK_URL": server.url}
    )
    assert json.loads(done.stdout)["model"] == model


@pytest.mark.parametrize("model", ["iris", "loan", "saying", "person", "picture"])
def test_example_can_be_sent(predict: Predict, model: str) -> None:
    row = predict(model, "--example").stdout
    assert json.loads(predict(model, "-", "--format", "json", "--json", stdin=row).stdout)["model"] == model


def test_refusals_are_1(predict: Predict) -> None:
    said = predict("person", "age=-1", "sex=f", "comment=x", status=1).stderr.decode()
    assert "age: expected a whole number from 0 up to 120, or null, got -1; sex: expected one of" in said
    assert "penstock predict person age=0 sex=female" in said
    assert "(model_not_found)" in predict("none", "1", status=1).stderr.decode()
    assert "a length below zero (model_error)" in predict("iris", "--", "-1", "0", "0", "0", status=1).stderr.decode()


def test_no_server_is_3() -> None:
    result = penstock("predict", "iris", "1", "--url", "http://127.0.0.1:1")
    assert (result.returncode, result.stdout) == (3, "")
    assert "cannot connect to http://127.0.0.1:1" in result.stderr


def on_a_terminal(arguments: list[str], **env: str) -> str:
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", **env},
    )
    os.close(writer)
    shown = b""
    while True:
        try:
            piece = os.read(reader, 65536)
        except OSError:  # how a terminal says that nobody writes any more
            break
        if not piece:
            break
        shown += piece
    os.close(reader)
    assert process.wait(SECONDS) == 0, shown
    return shown.decode()


def test_table_on_a_terminal(server: Server) -> None:
    shown = on_a_terminal(["predict", "iris", "5", "3", "0", "1", "--url", server.url])
    assert "iris 1" in shown
    assert "\x1b[1mspecies" in shown
    assert " 1   33.3%  ████████" in shown
    plain = on_a_terminal(["predict", "iris", "5", "3", "0", "1", "--url", server.url], NO_COLOR="1")
    assert not re.search("\x1b\\[3[0-9]", plain)
    assert "species" in plain
