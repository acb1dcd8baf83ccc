"""Models that the tests of `penstock predict` and `penstock batch` ask, and the server that has them."""

import json
from pathlib import Path

from tests.serving import Server

__all__ = ["IRIS", "LOAN", "PERSON", "PICTURE", "SAYING", "serve_models"]

HEAD = "import numpy as np\nfrom penstock.worker import Tensor\n\n\nclass Model:\n"
IRIS = f"""{HEAD}
    inputs = {{"x": Tensor("float32", (4,))}}
    outputs = {{"species": Tensor("int64"), "score": Tensor("float32", (3,))}}

    def predict(self, batch):
        if (batch["x"] < 0).any():
            raise ValueError("a length below zero")
        score = np.exp(batch["x"][:, 2:3] * [0.1, 0.2, 0.3])
        return {{"species": score.argmax(axis=1), "score": score / score.sum(axis=1, keepdims=True)}}
"""
LOAN = f"""{HEAD}
    inputs = {{"age": Tensor("int64"), "income": Tensor("float32")}}
    outputs = {{"limit": Tensor("float32"), "terms": Tensor("int32", (2,))}}

    def predict(self, batch):
        return {{"limit": batch["income"] / 3, "terms": np.stack([batch["age"], batch["age"] + 1], axis=1)}}
"""
PICTURE = f"""{HEAD}
    inputs = {{"image": Tensor("uint8", (2, 3, 3))}}
    outputs = {{"brightest": Tensor("int64")}}

    def predict(self, batch):
        return {{"brightest": batch["image"].max(axis=(1, 2, 3))}}
"""
SAYING = f"""{HEAD}
    inputs = {{"text": Tensor("str")}}
    outputs = {{"loud": Tensor("str"), "words": Tensor("int64")}}

    def predict(self, batch):
        texts = batch["text"]
        return {{"loud": [text.upper() for text in texts], "words": [len(text.split()) for text in texts]}}
"""
PERSON = f"""{HEAD}
    inputs = {{"slots": Tensor("float64", (3,)), "comment": Tensor("str")}}
    outputs = {{"slots": Tensor("float64", (3,)), "comment": Tensor("str")}}

    def predict(self, batch):
        return dict(batch)
"""
PERSON_PLAN = {
    "format": 1,
    "record": {
        "type": "object",
        "properties": {
            "age": {"type": ["integer", "null"], "minimum": 0, "maximum": 120},
            "sex": {"enum": ["female", "male"]},
            "tall": {"type": "boolean", "default": False},
            "comment": {"type": "string"},
        },
        "required": ["age", "sex", "comment"],
    },
}
PHOTO = f"""{HEAD}
    inputs = {{"photo": Tensor("float32", (2, 3, 3))}}
    outputs = {{"brightest": Tensor("float32")}}

    def predict(self, batch):
        return {{"brightest": batch["photo"].max(axis=(1, 2, 3))}}
"""
PHOTO_PLAN = {
    "format": 1,
    "record": {"photo": {"type": "string", "contentMediaType": "image/*"}},
    "features": [
        {"column": "photo", "into": "photo", "steps": [{"image": "RGB", "resize": [2, 3], "layout": "channels-last"}]}
    ],
}


def serve_models(folder: Path, *arguments: str) -> Server:
    """Serve all of them."""
    sources = {"iris": IRIS, "loan": LOAN, "picture": PICTURE, "saying": SAYING, "person": PERSON, "photo": PHOTO}
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    (folder / "person.processing.json").write_text(json.dumps(PERSON_PLAN))
    (folder / "photo.processing.json").write_text(json.dumps(PHOTO_PLAN))
    return Server.start([*(f"{name}={folder / name}.py" for name in sources), *arguments], folder)
