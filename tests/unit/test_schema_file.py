"""Schema files: what they say, and what is said about one that is wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import ModelLoadError
from penstock.worker.backends.schema_file import (
    DeclaredTensor,
    find_schema,
    read_schema,
    schema_name,
    specs_of,
    template,
)
from penstock.worker.model import TensorSpec

INPUT = {"name": "x", "dtype": "float32", "shape": [4]}
OUTPUT = {"name": "y", "dtype": "int64", "shape": []}


def written(folder: Path, members: Mapping[str, Any] | str) -> Path:
    file = folder / "schema.json"
    file.write_text(members if isinstance(members, str) else json.dumps(members))
    return file


def test_everything_that_a_file_can_say(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("class Net: ...")
    colour = {"name": "colour", "dtype": "int64", "shape": [], "categories": ["red", "green", 3]}
    tokens = {"name": "ids", "dtype": "int32", "shape": [None, 2]}
    file = written(
        tmp_path,
        {"inputs": [INPUT, colour, tokens], "outputs": [OUTPUT], "class": "net.py:Net", "arguments": {"hidden": 8}},
    )
    schema = read_schema(file)
    assert schema.inputs == (
        DeclaredTensor("x", "float32", (4,)),
        DeclaredTensor("colour", "int64", (), ("red", "green", 3)),
        DeclaredTensor("ids", "int32", (None, 2)),
    )
    assert schema.outputs == (DeclaredTensor("y", "int64"),)
    assert (schema.class_file, schema.class_name) == (tmp_path / "net.py", "Net")
    assert schema.arguments == {"hidden": 8}
    assert specs_of(schema.inputs[1:], (8, 32), file) == (
        TensorSpec("colour", "int64", ()),
        TensorSpec("ids", "int32", (32, 2), True),
    )
    with pytest.raises(ModelLoadError, match=r"'ids' in .*schema\.json varies in length: set lengths"):
        specs_of(schema.inputs, (), file)


def test_outputs_and_class_may_be_left_out(tmp_path: Path) -> None:
    schema = read_schema(written(tmp_path, {"inputs": [INPUT]}))
    assert (schema.outputs, schema.class_file, schema.class_name, schema.arguments) == ((), None, "", {})


def test_where_a_schema_is_looked_for(tmp_path: Path) -> None:
    model = tmp_path / "net.pt"
    assert find_schema(model) is None
    assert find_schema(tmp_path) is None
    assert schema_name(model) == tmp_path / "net.schema.json"
    assert schema_name(tmp_path) == tmp_path / "schema.json"
    shared = written(tmp_path, {})
    assert find_schema(model) == find_schema(tmp_path) == shared
    own = tmp_path / "net.schema.json"
    own.write_text("{}")
    assert find_schema(model) == own
    assert find_schema(tmp_path) == shared


def test_the_template_is_a_schema(tmp_path: Path) -> None:
    assert read_schema(written(tmp_path, template())).inputs == (DeclaredTensor("features", "float32", (4,)),)
    (tmp_path / "net.py").write_text("")
    inputs = (DeclaredTensor("ids", "int64", (None,)), DeclaredTensor("c", "int8", (), ("a", "b")))
    text = template(inputs, (), {"class": "net.py:Net", "arguments": {}})
    schema = read_schema(written(tmp_path, text))
    assert (schema.inputs, schema.outputs, schema.class_name) == (inputs, (), "Net")


def tensor(**members: Any) -> dict[str, Any]:
    return {"inputs": [INPUT | members]}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ("{", r"schema\.json: is no JSON in UTF-8"),
        ("[]", r"schema\.json: is \[\]: it must be an object"),
        ('{"inputs": 1, "inputs": 2}', "member 'inputs' occurs twice"),
        ('{"inputs": [{"name": "x", "dtype": "int8", "shape": [NaN]}]}', "NaN is no number in JSON"),
        ("[" * 100_000, "is no JSON"),
        ({}, "has no member 'inputs'. A schema looks like this"),
        ({"inputs": [INPUT], "output": []}, "has a member 'output', which means nothing: it can be inputs, outputs"),
        ({"inputs": []}, r"inputs is \[\]: it must be a list of one tensor"),
        ({"inputs": [INPUT, 3]}, r"inputs\[1\] is 3: it must be an object"),
        ({"inputs": [INPUT, INPUT]}, r"inputs\[1\]\.name is 'x' for the second time"),
        ({"inputs": [INPUT], "outputs": [{"name": "y", "dtype": "int8"}]}, r"outputs\[0\] has no member 'shape'"),
        (tensor(size=3), r"inputs\[0\] has a member 'size'"),
        (tensor(name=""), r'inputs\[0\]\.name is ""'),
        (tensor(dtype="float"), r'inputs\[0\]\.dtype is "float": it must be one of bool, bytes, float16'),
        (tensor(dtype=[]), r"inputs\[0\]\.dtype is \[\]"),
        (tensor(shape=4), r"inputs\[0\]\.shape is 4: it must be the shape of one row without the batch"),
        (tensor(shape=[1] * 7), r"inputs\[0\]\.shape is .* at most 6 sizes"),
        (tensor(shape=[0]), r"inputs\[0\]\.shape\[0\] is 0: it must be a whole number from 1 on"),
        (tensor(shape=[True]), r"inputs\[0\]\.shape\[0\] is true"),
        (tensor(shape=[1 << 40]), r"inputs\[0\]\.shape\[0\] is 1099511627776"),
        (tensor(shape=[4, None]), r"inputs\[0\]\.shape\[1\] is null.*may only come first"),
        (tensor(categories=["a"]), r"inputs\[0\]\.dtype is 'float32': an index into categories is a whole number"),
        (tensor(dtype="int8", categories="ab"), r'inputs\[0\]\.categories is "ab"'),
        (tensor(dtype="int8", categories=["a", None]), r"inputs\[0\]\.categories\[1\] is null"),
        (tensor(dtype="int8", categories=["a", "a"]), r"inputs\[0\]\.categories has a category twice"),
        ({"inputs": [INPUT], "class": "Net"}, r'class is "Net": it must be "FILE\.py:CLASS"'),
        ({"inputs": [INPUT], "class": 3}, "class is 3"),
        ({"inputs": [INPUT], "class": "../net.py:Net"}, "must lie in the folder"),
        ({"inputs": [INPUT], "class": "/etc/net.py:Net"}, "must lie in the folder"),
        ({"inputs": [INPUT], "class": "link.py:Net"}, "must lie in the folder"),
        ({"inputs": [INPUT], "class": "absent.py:Net"}, r"there is no file absent\.py"),
        ({"inputs": [INPUT], "arguments": {}}, "arguments is for the class, and there is none"),
        ({"inputs": [INPUT], "class": "net.py:Net", "arguments": [1]}, r"arguments is \[1\]: it must be an object"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, members: Mapping[str, Any] | str, said: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "net.py").write_text("")
    (folder / "net.py").write_text("")
    (folder / "link.py").symlink_to(tmp_path / "net.py")
    with pytest.raises(ModelLoadError, match=said) as caught:
        read_schema(written(folder, members))
    assert str(folder / "schema.json") in str(caught.value)


def test_a_file_that_is_no_schema_by_its_size(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    with file.open("wb") as sparse:
        sparse.truncate(17 << 20)
    with pytest.raises(ModelLoadError, match="it can be no schema"):
        read_schema(file)
