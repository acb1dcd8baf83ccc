"""Models with a plan: what goes in is a record, and what the model sees are its features."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from penstock.core.errors import ModelLoadError
from penstock.core.status import ImageFit
from penstock.worker.arrays import Array, blank_rows, room
from penstock.worker.backends import Backend, LoadOptions, find_artefact, open_backend
from penstock.worker.model import TensorSpec
from penstock.worker.planned import with_plan

ECHO = """
from penstock.worker import Tensor


class Model:
    inputs = {inputs}
    outputs = {outputs}

    def predict(self, batch):
        return {{name + "_seen": value.copy() for name, value in batch.items()}}
"""
RECORD = {
    "age": {"type": ["number", "null"]},
    "sex": {"enum": ["female", "male"]},
    "pixels": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    "note": {"type": "string"},
}
FEATURES = [
    {"column": "age", "steps": [{"impute": "constant", "value": 30}, {"scale": "standard", "center": 30, "width": 10}]},
    {"column": "sex", "steps": [{"encode": "one-hot", "numbers": [["female", 0], ["male", 1]], "width": 2}]},
]


def model(
    tmp_path: Path, inputs: dict[str, tuple[str, tuple[int | None, ...]]], plan: dict[str, Any], *beside: str
) -> Backend:
    """Open a model that answers with what it sees, with a plan beside it and files that are there already."""
    folder = tmp_path / "echo"
    folder.mkdir()
    for name in beside:
        (tmp_path / name).rename(folder / name)
    declared = {name: f"Tensor({dtype!r}, {shape!r})" for name, (dtype, shape) in inputs.items()}
    text = "{" + ", ".join(f"{name!r}: {of}" for name, of in declared.items()) + "}"
    seen = "{" + ", ".join(f"{name + '_seen'!r}: {of}" for name, of in declared.items()) + "}"
    (folder / "model.py").write_text(ECHO.format(inputs=text, outputs=seen))
    (folder / "processing.json").write_text(json.dumps({"format": 1, **plan}))
    lengths = (4, 8) if any(None in shape for _, shape in inputs.values()) else ()
    return with_plan(open_backend(folder, "auto", LoadOptions(lengths=lengths)), folder)


def seen(backend: Backend, *inputs: Array) -> list[list[Any]]:
    for array in inputs:
        array.flags.writeable = False
    outputs = [room((len(inputs[0]), *tensor.shape), tensor.dtype) for tensor in backend.spec.outputs]
    backend.run(inputs, outputs)
    return [output.tolist() for output in outputs]


def test_features_numbers_and_text_reach_the_model(tmp_path: Path) -> None:
    inputs = {"x": ("float32", (3,)), "note": ("str", ()), "pixels": ("float32", (2,))}
    backend = model(tmp_path, inputs, {"record": RECORD, "features": FEATURES})
    assert backend.name == "python"
    assert backend.spec.inputs == (
        TensorSpec("$record", "float64", (2,)),
        TensorSpec("pixels", "float32", (2,)),
        TensorSpec("note", "str", ()),
    )
    slots = np.array([[np.nan, 1], [50, 0], [20, -1]])
    pixels = np.arange(6, dtype=np.float32).reshape(3, 2)
    notes = np.array(["a", "b", ""], object)
    for rows in (3, 1, 2, 3):
        x, note, seen_pixels = seen(backend, slots[:rows].copy(), pixels[:rows].copy(), notes[:rows].copy())
        assert x == [[0, 0, 1], [2, 1, 0], [-1, 0, 0]][:rows]
        assert note == ["a", "b", ""][:rows]
        assert seen_pixels == pixels[:rows].tolist()


def test_without_features_fields_are_inputs_of_their_name(tmp_path: Path) -> None:
    record = {"a": {"type": "number"}, "b": {"type": "boolean"}}
    backend = model(tmp_path, {"b": ("int64", ()), "a": ("float32", (1,))}, {"record": record})
    b, a = seen(backend, np.array([[1.5, 1], [2.5, 0]]))
    assert (b, a) == ([1, 0], [[1.5], [2.5]])


def test_without_features_fields_are_the_only_input(tmp_path: Path) -> None:
    record = {"a": {"type": "number"}, "b": {"type": "boolean"}}
    backend = model(tmp_path, {"x": ("float32", (2,))}, {"record": record})
    assert seen(backend, np.array([[1.5, 1], [2.5, 0]])) == [[[1.5, 1], [2.5, 0]]]


def test_elements_of_a_tensor_can_be_features(tmp_path: Path) -> None:
    record = {"x": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}}
    features = [{"column": "x", "steps": [{"scale": "min-max", "factor": 2, "offset": 1}], "into": "x"}]
    backend = model(tmp_path, {"x": ("float64", (2,))}, {"record": record, "features": features})
    assert backend.spec.inputs == (TensorSpec("x", "float32", (2,)),)
    assert seen(backend, np.array([[1, 2], [3, 4]], np.float32)) == [[[3, 5], [7, 9]]]


@pytest.mark.parametrize(
    ("inputs", "plan", "reason"),
    [
        ({"x": ("float32", (4,))}, {"record": RECORD, "features": FEATURES}, "make 3 columns, and input 'x' has 4"),
        ({"x": ("str", (3,))}, {"record": RECORD, "features": FEATURES}, "input 'x' is bytes: features can be float32"),
        (
            {"x": ("float32", (3,)), "y": ("float32", ())},
            {"record": RECORD, "features": FEATURES},
            "say with into which of them",
        ),
        (
            {"x": ("float32", (3,)), "pixels": ("float32", (3,))},
            {"record": RECORD, "features": FEATURES},
            r"nothing goes into input 'pixels' \(float32, shape \[3\]\)",
        ),
        ({"x": ("float32", (None,))}, {"record": RECORD, "features": FEATURES}, "vary in length"),
    ],
)
def test_plans_that_do_not_fit_the_model(
    tmp_path: Path, inputs: dict[str, tuple[str, tuple[int | None, ...]]], plan: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        model(tmp_path, inputs, plan)


def tokenizer(folder: Path) -> Tokenizer:
    library = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1, "the": 2, "fox": 3}, unk_token="[UNK]"))
    library.pre_tokenizer = Whitespace()
    library.enable_padding(pad_id=0, pad_token="[PAD]")
    library.save(str(folder / "tokenizer.json"))
    return library


TOKENS = {"tokens": "tokenizer.json", "length": 4, "mask": "mask"}


def test_texts_become_tokens(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    inputs = {"mask": ("int64", (4,)), "ids": ("int32", (4,)), "x": ("float32", (1,))}
    record = {"note": {"type": "string"}, "age": {"type": "number"}}
    features = [{"column": "note", "steps": [TOKENS]}, {"column": "age", "into": "x"}]
    backend = model(tmp_path, inputs, {"record": record, "features": features}, "tokenizer.json")
    assert backend.spec.inputs == (TensorSpec("$record", "float64", (1,)), TensorSpec("note", "str", ()))
    mask, ids, x = seen(backend, np.array([[1.0], [2.0]]), np.array(["the fox", "a b c the fox"], object))
    assert ids == [[2, 3, 0, 0], [1, 1, 1, 2]]
    assert mask == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert x == [[1], [2]]


@pytest.mark.parametrize(
    ("inputs", "step", "reason"),
    [
        ({"ids": ("int64", (5,)), "mask": ("int64", (4,))}, TOKENS, "makes 4 tokens, and input 'ids' is int64"),
        ({"ids": ("int64", (4,))}, TOKENS, "fills ids, mask, and the model has not all of them"),
        ({"ids": ("int64", (4,))}, {"tokens": "../t.json", "length": 4}, "must lie in the plan's folder"),
        ({"ids": ("int64", (4,))}, {"tokens": "t.json", "length": 4}, "t.json: is no tokenizer that can be read"),
    ],
)
def test_tokens_that_do_not_fit(
    tmp_path: Path, inputs: dict[str, tuple[str, tuple[int | None, ...]]], step: dict[str, Any], reason: str
) -> None:
    tokenizer(tmp_path)
    plan = {"record": {"note": {"type": "string"}}, "features": [{"column": "note", "steps": [step]}]}
    with pytest.raises(ModelLoadError, match=reason):
        model(tmp_path, inputs, plan, "tokenizer.json")


PICTURE = {"image": "RGB", "resize": 4, "crop": [2, 3], "mean": [0.5, 0.25, 0], "std": [0.5, 1, 2]}


def test_pixels_become_planes_of_floats(tmp_path: Path) -> None:
    record = {"photo": {"type": "string", "contentMediaType": "image/*"}, "age": {"type": "number"}}
    features = [{"column": "photo", "steps": [PICTURE], "into": "x"}, {"column": "age", "into": "y"}]
    inputs = {"x": ("float32", (3, 2, 3)), "y": ("float32", ())}
    backend = model(tmp_path, inputs, {"record": record, "features": features})
    slots, photo = backend.spec.inputs
    assert slots == TensorSpec("$record", "float64", (1,))
    assert photo == TensorSpec("photo", "uint8", (2, 3, 3), fit=ImageFit((4,), (2, 3), "bilinear"))
    pixels = np.random.default_rng(1).integers(0, 256, (5, 2, 3, 3), np.uint8)
    x, y = seen(backend, np.arange(5, dtype=np.float64)[:, None], pixels.copy())
    expected = (pixels / 255 - [0.5, 0.25, 0]) / [0.5, 1, 2]
    assert np.allclose(x, expected.transpose(0, 3, 1, 2), atol=1e-6)
    assert y == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("layout", ["channels-first", "channels-last"])
def test_pixels_may_stay_bytes(tmp_path: Path, layout: str) -> None:
    shape = (1, 2, 3) if layout == "channels-first" else (2, 3, 1)
    record = {"photo": {"type": "string", "contentMediaType": "image/*"}}
    features = [{"column": "photo", "steps": [{"image": "L", "resize": [2, 3], "layout": layout}]}]
    backend = model(tmp_path, {"x": ("uint8", shape)}, {"record": record, "features": features})
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3, 1)
    (x,) = seen(backend, pixels.copy())
    assert x == (pixels.transpose(0, 3, 1, 2) if layout == "channels-first" else pixels).tolist()


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"image": "CMYK", "crop": [2, 2]}, 'image is "CMYK": it must be one of L, RGB, RGBA'),
        ({"image": "RGB", "resize": 4}, "does not say how large images become"),
        ({"image": "RGB", "resize": [4, 4], "crop": [5, 2]}, "more than resize"),
        ({"image": "RGB", "resize": 4, "crop": [5, 2]}, "more than the short side 4"),
        ({"image": "RGB", "crop": [2]}, r"crop must be \[HEIGHT, WIDTH\]"),
        ({"image": "RGB", "crop": [2, 2], "mean": [1, 2], "std": [1, 2]}, "a mean and a std for each of 3 channels"),
        ({"image": "RGB", "crop": [2, 2], "mean": [1, 2, 3], "std": [1, 0, 1]}, "std has a 0"),
        ({"image": "RGB", "crop": [2, 2]}, "makes uint8 of shape \\[3, 2, 2\\], and input 'x' is float32 of shape"),
        ({"scale": "standard"}, "is made of 'photo', which is no field with a number"),
    ],
)
def test_image_steps_that_are_refused(tmp_path: Path, step: dict[str, Any], reason: str) -> None:
    record = {"photo": {"type": "string", "contentMediaType": "image/*"}}
    plan = {"record": record, "features": [{"column": "photo", "steps": [step]}]}
    with pytest.raises(ModelLoadError, match=reason):
        model(tmp_path, {"x": ("float32", (3, 2, 3))}, plan)


def test_a_warm_up_runs_a_record_that_is_taken(tmp_path: Path) -> None:
    record = {
        "fare": {"type": "number", "exclusiveMinimum": 0},
        "place": {"type": "object", "properties": {"zone": {"type": "integer", "minimum": 3}}, "required": ["zone"]},
        "note": {"type": "string"},
    }
    features = [{"column": "fare", "steps": [{"log": 0}]}, {"column": "place.zone"}]
    inputs: dict[str, tuple[str, tuple[int | None, ...]]] = {"x": ("float32", (2,)), "note": ("bytes", ())}
    backend = model(tmp_path, inputs, {"record": {"properties": record, "required": [*record]}, "features": features})
    slots, note = (blank_rows(tensor, 3, 0) for tensor in backend.spec.inputs)
    assert slots.tolist() == [[1, 3]] * 3
    seen = [room((3, *tensor.shape), tensor.dtype) for tensor in backend.spec.outputs]
    backend.run([slots, note], seen)
    assert seen[0].tolist() == [[0, 3]] * 3


def test_what_a_plan_names_is_not_the_model(tmp_path: Path) -> None:
    for name in ("net.onnx", "words.json", "processing.json"):
        (tmp_path / name).write_text("")
    assert find_artefact(tmp_path) is None
    steps = [{"tokens": "words.json", "length": 4}]
    (tmp_path / "processing.json").write_text(json.dumps({"features": [{"column": "note", "steps": steps}]}))
    assert find_artefact(tmp_path) == tmp_path / "net.onnx"
