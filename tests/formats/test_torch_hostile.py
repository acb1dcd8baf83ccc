"""PyTorch files that somebody has made to harm: each is a clear error, and nothing of it has run.

Where PyTorch itself would run the file's code the test shows it, by trusting the very digest.
"""

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions, open_backend
from penstock.worker.backends.trust import sha256_of
from tests.formats.networks import exported, net_in, write_schema

pytestmark = [
    pytest.mark.formats,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def refusal(path: Path, **options: Any) -> str:
    """What is said about a file that must not be loaded."""
    with pytest.raises(ModelLoadError) as caught:
        open_backend(path, "auto", LoadOptions(**options))
    text = str(caught.value)
    assert str(path) in text
    assert len(text) < 1500
    return text


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.proof),)


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """Copy an archive entry by entry through `change`, which gets the name inside the archive's folder."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            content = change(entry.partition("/")[2], old.read(entry))
            if content is not None:
                new.writestr(entry, content)
    return target


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return exported(tmp_path / "net.pt2", net_in(tmp_path), torch.zeros(3, 64))


def loaded_all_the_same(path: Path) -> None:
    """Load a file that is trusted, which may fail as long as it is after the file's code has run."""
    with contextlib.suppress(ModelLoadError):
        open_backend(path, "auto", LoadOptions(trusted_digests=(sha256_of(path),)))


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


# ---- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pt2"])
def test_a_bare_pickle(suffix: str, tmp_path: Path) -> None:
    path, proof = tmp_path / f"bomb{suffix}", tmp_path / "proof"
    path.write_bytes(pickle.dumps(Bomb(proof)))
    write_schema(tmp_path)
    said = refusal(path)
    assert "is a pickle" in said
    assert f'trusted_digests = ["{sha256_of(path)}"]' in said
    assert not proof.exists()


def test_a_pickle_where_weights_should_be(tmp_path: Path) -> None:
    path, proof = tmp_path / "bomb.pt", tmp_path / "proof"
    torch.save({"first.weight": Bomb(proof)}, path)
    write_schema(tmp_path)
    said = refusal(path)
    assert "holds more than tensors" in said
    assert sha256_of(path) in said
    assert not proof.exists()
    refusal(path, trusted_digests=(sha256_of(path),))  # no tensors, after all
    assert proof.exists()


# ---- archives --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_zip_bomb(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb{suffix}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("net/data.pkl", "w") as entry:
        for _ in range(1100):
            entry.write(bytes(1 << 20))
    assert "zip bombs" in refusal(path)


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/cron.d/x"])
def test_names_that_lead_out(suffix: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"")
        archive.writestr(name, b"")
    assert "leads out of the folder" in refusal(path)


@pytest.mark.parametrize("form", ["pt2", "pt", "script.pt", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_files_that_were_cut_off(form: str, share: float, tmp_path: Path) -> None:
    net = net_in(tmp_path)
    path = tmp_path / f"net.{form}"
    if form == "pt2":
        exported(path, net, torch.zeros(3, 64))
    elif form == "pt":
        torch.save(net.state_dict(), path)
    elif form == "safetensors":
        save_file(net.state_dict(), path)
    else:
        with torch.no_grad():
            torch.jit.trace(net, torch.zeros(3, 64)).save(path)
    write_schema(tmp_path, with_class=form in ("pt", "safetensors"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    said = refusal(path)
    assert "was cut off" in said or "Check that it is complete" in said


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/readme.txt", b"hello")
    assert "none that PyTorch writes" in refusal(path)


# ---- safetensors -----------------------------------------------------------------------------------------------------


def safetensors(path: Path, header: Mapping[str, Any] | bytes, data: bytes, size: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + data)
    return path


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"a": {"dtype": "F32", "shape": [1 << 40, 1 << 20], "data_offsets": [0, 16]}}, None),
        ({"a": {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}}, None),
        (
            {
                "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
                "b": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
            },
            None,
        ),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, None),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, 1 << 62),
        (b'{"a": [', None),
    ],
    ids=["huge", "beyond the end", "overlap", "backwards", "huge header", "no JSON"],
)
def test_safetensors_headers_that_lie(header: Mapping[str, Any] | bytes, size: int | None, tmp_path: Path) -> None:
    net_in(tmp_path)
    write_schema(tmp_path, with_class=True)
    path = safetensors(tmp_path / "net.safetensors", header, bytes(16), size)
    assert "Check that it is complete" in refusal(path)


# ---- weights and their class -----------------------------------------------------------------------------------------


def test_weights_of_another_class(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"third.weight": torch.zeros(3, 4)}, path)
    net_in(tmp_path)
    write_schema(tmp_path, with_class=True)
    said = refusal(path)
    assert "do not fit class Net" in said
    assert "Missing key(s)" in said
    torch.save(net_in(tmp_path, hidden=16).state_dict(), path)
    assert "size mismatch for first.weight" in refusal(path)
    torch.save([1, 2], path)
    assert "holds a list and no state dict" in refusal(path)
    torch.save({"epoch": 3, "model": {"first.weight": torch.zeros(1)}}, path)
    assert "holds a dict with 'epoch', 'model' and no state dict" in refusal(path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise RuntimeError('no')", r"cannot be imported: RuntimeError: no (line 1)"),
        ("import absent_library", "cannot be imported: ModuleNotFoundError"),
        ("def", "cannot be imported: SyntaxError"),
        ("class Net: pass", "has no class Net that is a torch.nn.Module"),
        (
            "import torch\nclass Net(torch.nn.Module):\n    def __init__(self, hidden):\n        raise SystemExit(3)",
            "raised for the arguments in",
        ),
    ],
)
def test_a_class_file_that_raises(source: str, said: str, tmp_path: Path) -> None:
    torch.save(net_in(tmp_path).state_dict(), tmp_path / "net.pt")
    write_schema(tmp_path, with_class=True)
    (tmp_path / "net.py").write_text(source)
    with pytest.raises(ModelLoadError) as caught:
        open_backend(tmp_path / "net.pt", "auto", LoadOptions())
    assert said in str(caught.value)


# ---- exported programs -----------------------------------------------------------------------------------------------


def in_program(program: Path, target: Path, old: str, new: str, count: int = -1) -> Path:
    """Replace text of the program's JSON."""

    def change(name: str, content: bytes) -> bytes:
        if name != "models/model.json":
            return content
        assert old.encode() in content, f"{old} is nowhere in {content[:2000]!r}"
        return content.replace(old.encode(), new.encode(), count)

    return rewritten(program, target, change)


def test_sizes_that_are_code(program: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    code = f"__import__('os').mkdir('{proof}') or 3"
    with zipfile.ZipFile(program) as archive:
        model = json.loads(archive.read("net/models/model.json"))
    symbol = model["graph_module"]["graph"]["tensor_values"]["pixels"]["sizes"][0]["as_expr"]["expr_str"]
    path = in_program(program, tmp_path / "bomb.pt2", json.dumps(symbol), json.dumps(code))
    assert "is no arithmetic" in refusal(path)
    assert not proof.exists()
    loaded_all_the_same(path)
    assert proof.exists(), "PyTorch does not evaluate sizes any more: the vetting may be less strict"


def test_example_inputs_that_are_a_pickle(program: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    bomb = pickled(((Bomb(proof),), {}))
    path = rewritten(
        program, tmp_path / "bomb.pt2", lambda name, old: bomb if name.startswith("data/sample_inputs/") else old
    )
    assert "example inputs that are more than tensors" in refusal(path)
    assert not proof.exists()
    loaded_all_the_same(path)
    assert proof.exists(), "PyTorch does not unpickle example inputs any more: the vetting may be less strict"


@pytest.mark.parametrize("kind", ["weights", "constants"])
def test_weights_that_are_a_pickle(kind: str, program: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    entry = {"path_name": "tensor_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    if kind == "weights":
        entry["path_name"] = "weight_0"

    def change(name: str, old: bytes) -> bytes:
        if name == f"data/{kind}/model_{kind}_config.json":
            return json.dumps({"config": {"first.weight": entry}}).encode()
        return pickled(Bomb(proof)) if name == f"data/{kind}/{entry['path_name']}" else old

    path = rewritten(program, tmp_path / "bomb.pt2", change)
    if kind == "constants":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("net/data/constants/tensor_0", pickled(Bomb(proof)))
    assert "pickled weights or constants" in refusal(path)
    assert not proof.exists()
    loaded_all_the_same(path)
    assert proof.exists()


@pytest.mark.parametrize(
    "name", ["constants/custom_obj_0", "constants/opaque_obj_0", "weights/model.pt", "constants/model.pt"]
)
def test_entries_that_are_pickles(name: str, program: Path, tmp_path: Path) -> None:
    path = rewritten(program, tmp_path / "bomb.pt2", lambda inside, old: old)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"net/data/{name}", pickled(Bomb(tmp_path / "proof")))
    assert f"has an entry 'data/{name}'" in refusal(path)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.load_library",
        "torch.ops.aten.__class__.default",
        "_operator.methodcaller",
        "math.__loader__.load_module",
        "#evil",
        "os.system",
    ],
)
def test_operators_that_do_more_than_compute(target: str, program: Path, tmp_path: Path) -> None:
    path = in_program(program, tmp_path / "bomb.pt2", "torch.ops.aten.linear.default", target, 1)
    assert f"calls {target!r}" in refusal(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"name": "pixels"', '"name": "pixels=__import__(\'os\')"', "which is no name"),
        ('"first.weight"', '"first\\"); print(1)"', "which is no name"),
        ('"stack_trace": "', '"stack_trace": "x\\rprint(1)', "control characters"),
        ("builtins.tuple", "collections.defaultdict", "something else than tensors in tuples"),
        ('\\"context\\": \\"null\\"', '\\"context\\": \\"[\\\\\\"x y\\\\\\"]\\"', "keys are no names"),
        ('"graph_module"', '"graph_module" graph', "is damaged"),
    ],
)
def test_text_that_would_become_source(old: str, new: str, said: str, program: Path, tmp_path: Path) -> None:
    path = in_program(program, tmp_path / "bomb.pt2", old, new)
    assert said in refusal(path)


# ---- TorchScript -----------------------------------------------------------------------------------------------------


class Writes(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "stolen.pt")
        return x


def test_a_script_that_writes_files(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.script(Writes()).save(path)
    write_schema(tmp_path)
    assert "which reads or writes files" in refusal(path)


def test_a_package_is_not_looked_into(program: Path, tmp_path: Path) -> None:
    path = rewritten(program, tmp_path / "bomb.pt2", lambda inside, old: old)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/aotinductor/model/evil.so", b"\x7fELF")
    assert "holds machine code" in refusal(path)
