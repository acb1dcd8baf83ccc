"""Files of pictures as inputs: the server decodes them, so they travel as bytes in JSON."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock_client import ArgumentError
from penstock_client.problems import InvalidInputError
from tests.sdk.asking import Ask, async_asker, sync_asker
from tests.serving import Server

COLOURS = """
from penstock.worker import Tensor

class Model:
    inputs = {"picture": Tensor("uint8", (6, 8, 3))INPUTS}
    outputs = {"red": Tensor("float32", ())}

    def load(self):
        pass

    def predict(self, batch):
        return {"red": batch["picture"][..., 0].mean(axis=(1, 2), dtype="float32")}
"""


def png(red: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (red, 0, 0)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(params=[sync_asker, async_asker], ids=["blocking", "asyncio"])
def colours(request: pytest.FixtureRequest, serve: Callable[..., Server], tmp_path: Path) -> Ask:
    (tmp_path / "one.py").write_text(COLOURS.replace("INPUTS", ""))
    (tmp_path / "two.py").write_text(COLOURS.replace("INPUTS", ', "n": Tensor("int64", ())'))
    made: Ask = request.param(serve(models={"one": tmp_path / "one.py", "two": tmp_path / "two.py"}).url)
    return made


def test_pictures_are_decoded(colours: Ask) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(png(200))))
    given: list[Any] = [png(200), bytearray(png(200)), memoryview(png(200)), {"picture": png(200)}, pixels]
    assert [float(colours("predict", "one", picture).output) for picture in given] == [200.0] * 5
    rows = [png(1), {"picture": png(2)}, b"no picture", png(4)]
    result = colours("predict_batch", "one", rows, chunk_rows=3)
    assert result.outputs["red"] == [1.0, 2.0, None, 4.0]
    assert set(result.errors) == {2}


def test_pictures_that_do_not_fit(colours: Ask) -> None:
    assert colours("predict", "two", {"picture": png(7), "n": 1}).output == 7.0
    for call, inputs in (("predict", png(7)), ("predict_batch", [png(7)])):
        with pytest.raises(ArgumentError, match="model two has the inputs picture, n: give a dict"):
            colours(call, "two", inputs)
    with pytest.raises(InvalidInputError):
        colours("predict", "one", b"no picture")
    # In msgpack the bytes are those of the tensor.
    assert colours("predict", "one", bytes(6 * 8 * 3), encoding="msgpack").output == 0.0
    with pytest.raises(InvalidInputError, match="expected 144 bytes"):
        colours("predict", "one", png(7), encoding="msgpack")
