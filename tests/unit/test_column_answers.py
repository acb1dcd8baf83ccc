"""Answers of columns are read as what they say they are, not as what they were when the stream began."""

import io
import json

import numpy as np
import pytest

from penstock.core.errors import RequestError

pytest.importorskip("pyarrow")

from penstock.jobs.answers import ArrowWriter, Rows, columns_of  # needs Arrow


def reply(dtype: str, datatype: str) -> tuple[bytes, int]:
    content = np.array([1, 2, 3], dtype).tobytes()
    output = {"name": "y", "datatype": datatype, "shape": [3], "parameters": {"binary_data_size": len(content)}}
    head = json.dumps({"outputs": [output], "parameters": {"row_errors": []}}).encode()
    return head + content, len(head)


@pytest.mark.parametrize(
    ("dtype", "datatype"), [("float32", "FP32"), ("float16", "FP16"), ("int64", "INT64"), ("bool", "BOOL")]
)
def test_tensors_are_read_as_the_type_that_was_asked_for(dtype: str, datatype: str) -> None:
    found = columns_of(*reply(dtype, datatype), {"y": dtype}).outputs["y"]
    assert found.dtype == dtype and found.tolist() == np.array([1, 2, 3], dtype).tolist()


def test_a_version_with_other_types_does_not_go_on_with_a_stream() -> None:
    with pytest.raises(RequestError, match="y is INT32 now") as caught:
        columns_of(*reply("int32", "INT32"), {"y": "float32"})
    assert caught.value.code == "model_unavailable"


def test_a_version_with_other_outputs_does_not_go_on_with_a_stream() -> None:
    writer = ArrowWriter(io.BytesIO(), [("y", "float32", ())])
    writer.begin()
    writer.write(Rows([{"y": 1.0}]), 0)
    with pytest.raises(RequestError, match="its outputs are z"):
        writer.write(Rows([{"z": 1.0}]), 1)
