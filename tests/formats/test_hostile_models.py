"""Models that mean harm beside one that is served: the formats that need frameworks.

Each format's own tests say in detail what is refused and why; here all of them come to one server, in real workers.
tests/integration/test_hostile_models.py has ONNX and plain Python.
"""

import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.worker.backends.tensorflow.runtime import start_tensorflow
from tests.formats.networks import exported, net_in, write_schema
from tests.hostile import Hostile, check_refusals

pytestmark = [pytest.mark.formats, pytest.mark.filterwarnings("ignore")]


class Bomb:
    """A pickle of it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "pwned"))


def folder_of(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


def bombs(folder: Path, names: list[str], member: str) -> Iterator[Hostile]:
    """Yield archives that would unpack to more than a gigabyte, and archives that would unpack elsewhere."""
    for name in names:
        path = folder / f"bomb-{name}"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(member, "w") as entry:
            for _ in range(1100):
                entry.write(bytes(1 << 20))
        yield Hostile(path.name, path, "would unpack to .* zip bombs")
        path = folder / f"out-{name}"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"")
            archive.writestr("a/../../../pwned", "pwned")
        yield Hostile(path.name, path, "leads out of the folder")


def cut_off(path: Path, reason: str = "cut off|complete") -> Hostile:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return Hostile(f"cut-off-{path.name}", path, reason)


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def torch_models(folder: Path) -> Iterator[Hostile]:
    import torch
    from safetensors.torch import save_file

    home = folder_of(folder, "torch")
    net = net_in(home)
    write_schema(home, with_class=True)
    for suffix in ("pt", "pt2"):
        path = home / f"pickle.{suffix}"
        path.write_bytes(pickle.dumps(Bomb(folder.parent / "pwned")))
        yield Hostile(f"torch-{path.name}", path, "is a pickle.*trusted_digests")
    path = home / "weights.pt"
    torch.save({"first.weight": Bomb(folder.parent / "pwned")}, path)
    yield Hostile("torch-weights", path, "holds more than tensors.*trusted_digests")
    yield from bombs(home, ["net.pt", "net.pt2"], "net/data.pkl")
    yield cut_off(exported(home / "net.pt2", net, torch.zeros(3, 64)))
    save_file(net.state_dict(), home / "net.safetensors")
    yield cut_off(home / "net.safetensors")
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 16]}}).encode()
    for name, size in (("declared", len(header)), ("header", 1 << 62)):
        path = home / f"{name}.safetensors"
        path.write_bytes(struct.pack("<Q", size) + header + bytes(16))
        yield Hostile(f"torch-{name}", path, "Check that it is complete")


# --- scikit-learn -----------------------------------------------------------------------------------------------------


def sklearn_models(folder: Path) -> Iterator[Hostile]:
    import skops.io
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    home = folder_of(folder, "sklearn")
    for suffix in ("pkl", "joblib"):
        path = home / f"bomb.{suffix}"
        path.write_bytes(pickle.dumps(Bomb(folder.parent / "pwned")))
        yield Hostile(f"sklearn-{path.name}", path, "is a pickle.*trusted_digests")
    rows, kinds = [[0.0, 1.0], [1.0, 0.0]] * 4, [0, 1] * 4
    path = home / "forest.skops"
    skops.io.dump(RandomForestClassifier(3).fit(rows, kinds), path)
    yield Hostile("sklearn-forest", path, "not trusted: .*trusted_types")
    yield from bombs(home, ["model.skops"], "schema.json")
    path = home / "code.skops"
    with zipfile.ZipFile(path, "w") as archive:
        content = {"__module__": "builtins", "__class__": "eval", "__loader__": "FunctionNode", "content": "eval"}
        archive.writestr("schema.json", json.dumps(content))
    yield Hostile("sklearn-code", path, "cannot be read by skops|not trusted")
    path = home / "model.skops"
    skops.io.dump(LogisticRegression().fit(rows, kinds), path)
    yield cut_off(path)


# --- XGBoost and MLflow -----------------------------------------------------------------------------------------------


def xgboost_models(folder: Path) -> Iterator[Hostile]:
    import xgboost

    home = folder_of(folder, "xgboost")
    rows, kinds = [[float(row), 1.0] for row in range(16)], [0, 1] * 8
    made = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(rows, kinds), 3)
    for name, content in (
        ("noise.ubj", bytes(range(256)) * 64),
        ("nested.json", b'{"a":' * 1_000_000),
        ("none.json", b"{}"),
    ):
        (home / name).write_bytes(content)
        yield Hostile(f"xgboost-{name}", home / name, "is no XGBoost model|signal SIGSEGV while it loaded")
    made.save_model(home / "cut.ubj")
    yield cut_off(home / "cut.ubj")
    made.save_model(home / "petabyte.ubj")
    whole = (home / "petabyte.ubj").read_bytes()
    at = whole.index(b"[$l#L") + 5
    (home / "petabyte.ubj").write_bytes(whole[:at] + struct.pack(">q", 1 << 48) + whole[at + 8 :])
    yield Hostile("xgboost-petabyte", home / "petabyte.ubj", "memory")
    made.save_model(home / "astray.json")
    model = json.loads((home / "astray.json").read_text())
    for tree in model["learner"]["gradient_booster"]["model"]["trees"]:
        if len(tree["left_children"]) > 1:
            tree["left_children"][0] = tree["right_children"][0] = 1 << 28
    (home / "astray.json").write_text(json.dumps(model))
    yield Hostile("xgboost-astray", home / "astray.json", "signal SIGSEGV while it loaded: the file may be damaged")


def mlflow_models(folder: Path) -> Iterator[Hostile]:
    home = folder_of(folder, "mlflow")
    (home / "elsewhere.onnx").write_bytes(b"")
    aliases = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    aliases += [f"a{place}: &a{place} [{', '.join([f'*a{place - 1}'] * 10)}]" for place in range(1, 30)]
    described = {
        "code": ("flavors: {python_function: {loader_module: os, code: .}}", "python_function only: it is code"),
        "out": ("flavors: {onnx: {data: ../elsewhere.onnx}}", "leads out of the folder"),
        "tag": ("a: !!python/object/apply:os.system ['touch pwned']", "is no YAML"),
        "aliases": ("\n".join([*aliases, "flavors: *a29", ""]), "flavors is no mapping"),
        "nested": ("[" * 100_000, "is no YAML"),
    }
    for name, (text, reason) in described.items():
        (folder_of(home, name) / "MLmodel").write_text(text)
        yield Hostile(f"mlflow-{name}", home / name, reason)


# --- TensorFlow and Keras ---------------------------------------------------------------------------------------------


def saved_models(folder: Path) -> Iterator[Hostile]:
    import tensorflow as tf

    from tests.formats import tensorflow_models as made

    home, target = folder_of(folder, "saved-models"), str(folder.parent / "pwned")
    row = tf.TensorSpec((None,), tf.float32, "x")

    def writing(x: Any) -> Any:
        with tf.control_dependencies([tf.raw_ops.WriteFile(filename=target, contents="pwned")]):
            return tf.identity(x)

    def filling(x: Any) -> Any:
        return x + tf.reduce_sum(tf.random.uniform([1 << 18, 1 << 18]))

    def endless(x: Any) -> Any:
        return tf.while_loop(lambda value: tf.reduce_all(value < 1), lambda value: (tf.sin(value),), (x,))[0]

    path = made.save_function(home / "writing", writing, row)
    yield Hostile("saved-model-writing", path, r"reaches out of its process \(WriteFile\).*trusted_digests")
    path = made.save_function(home / "filling", filling, row)
    yield Hostile("saved-model-filling", path, "needs more memory .* raise memory_bytes")
    path = made.save_function(home / "endless", endless, row)
    yield Hostile("saved-model-endless", path, "not ready within 20 s", load_timeout_s=20)
    path = made.export(made.classifier(), home / "noise")
    (path / "saved_model.pb").write_bytes(bytes(range(256)) * 64)
    yield Hostile("saved-model-noise", path, "no complete SavedModel|holds no graph")
    path = made.export(made.classifier(), home / "short")
    (path / "variables" / "variables.data-00000-of-00001").write_bytes(b"short")
    yield Hostile("saved-model-short", path, "cannot load .* Check that the folder is complete")


def keras_models(folder: Path) -> Iterator[Hostile]:
    import h5py

    from tests.formats import tensorflow_models as made

    home = folder_of(folder, "keras")

    def saved(name: str) -> Path:
        made.classifier().save(home / name)
        return home / name

    def as_lambda(config: dict[str, Any]) -> None:
        layer = config["config"]["layers"][1]
        code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
        layer.update(class_name="Lambda", config={"name": "evil", "function": code})

    def as_huge(config: dict[str, Any]) -> None:
        config["config"]["layers"][1]["config"]["units"] = 1 << 32

    path = made.archive_with(saved("lambda.keras"), as_lambda)
    yield Hostile("keras-lambda", path, "which is Python code.*trusted_digests")
    path = made.archive_with(saved("huge.keras"), as_huge)
    yield Hostile("keras-huge", path, "cannot load|needs more memory|memory_bytes")
    link = made.h5_with(lambda file: file.__setitem__("layers", h5py.ExternalLink("/etc/passwd", "/")))
    path = made.archive_with(saved("link.keras"), model__weights__h5=link)
    yield Hostile("keras-link", path, "lie in another file")
    weights = made.h5_with(lambda file: file.create_dataset("layers", (1 << 40,), "f4", chunks=(1 << 20,)))
    path = made.archive_with(saved("declared.keras"), model__weights__h5=weights)
    yield Hostile("keras-declared", path, "would unpack to")
    yield cut_off(saved("cut.keras"))
    yield cut_off(saved("cut.h5"))
    yield from bombs(home, ["model.keras"], "config.json")


@pytest.mark.parametrize(
    "models", [torch_models, sklearn_models, xgboost_models, mlflow_models, saved_models, keras_models]
)
def test_models_that_mean_harm_are_refused_and_others_do_not_notice(models: Any, tmp_path: Path) -> None:
    start_tensorflow(1)
    folder = tmp_path / "hostile"
    folder.mkdir()
    check_refusals(list(models(folder)), folder)
