"""Each form of a PyTorch model, beside PyTorch's own predictions for the digits."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.backends.trust import sha256_of
from penstock.worker.model import BadOutputError, TensorSpec
from tests.formats.networks import answers, digits, exported, net_in, run, write_schema
from tests.serving import Server

pytestmark = [
    pytest.mark.formats,
    # PyTorch's own, about itself.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]

# The same operators on the same rows; sums may be split otherwise for another number of rows.
SAME = {"rtol": 1e-6, "atol": 1e-6}


def opened(path: Path, **options: Any) -> Backend:
    return open_backend(path, "auto", LoadOptions(**options))


def check_digits(backend: Backend, net: Any, rtol: float = 1e-6, atol: float = 1e-6) -> None:
    rows = digits()
    for count in (1, 2, 7, 64, 1000):
        for found, expected in zip(run(backend, rows[:count]), answers(net, rows[:count]), strict=True):
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


DIGITS_INPUT = (TensorSpec("pixels", "float32", (64,)),)
DIGITS_OUTPUTS = (TensorSpec("probabilities", "float32", (10,)), TensorSpec("ink", "float32", ()))


def saved(form: str, folder: Path) -> tuple[Path, Any]:
    """Save the digits' network in one of its forms, with the schema that the form needs."""
    net = net_in(folder)
    if form == "exported":
        return exported(folder / "digits.pt2", net, torch.zeros(3, 64)), net
    if form == "script":
        with torch.no_grad():
            torch.jit.trace(net, torch.zeros(3, 64)).save(folder / "digits.pt")
        (folder / "net.py").unlink()
        write_schema(folder)
        return folder / "digits.pt", net
    write_schema(folder, with_class=True)
    if form == "safetensors":
        save_file(net.state_dict(), folder / "digits.safetensors")
        return folder / "digits.safetensors", net
    path = folder / f"digits.{form}"
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=True)
    return path, net


@pytest.mark.parametrize("form", ["exported", "script", "pt", "pth", "safetensors"])
def test_each_form_says_what_pytorch_says(form: str, tmp_path: Path) -> None:
    path, net = saved(form, tmp_path)
    backend = opened(path)
    assert (backend.name, backend.rerun, backend.may_refuse_zeros) == ("torch", True, False)
    assert backend.spec.inputs == DIGITS_INPUT
    assert backend.spec.max_batch_size is None
    if form == "exported":
        assert [spec.name for spec in backend.spec.outputs] == ["output_0", "output_1"]
    else:
        assert backend.spec.outputs == DIGITS_OUTPUTS
    check_digits(backend, net, **SAME)
    if form == "exported":
        (tmp_path / "net.py").unlink()
    check_digits(opened(tmp_path), net, **SAME)  # the folder with the file in it is the model, too


def test_threads_are_those_of_the_settings(tmp_path: Path) -> None:
    path, _ = saved("exported", tmp_path)
    for threads in (2, 1):
        opened(path, threads=threads)
        assert torch.get_num_threads() == threads
        assert torch.get_num_interop_threads() == 1


def test_names_of_a_program_can_be_given_beside_it(tmp_path: Path) -> None:
    path, net = saved("exported", tmp_path)
    write_schema(tmp_path)
    backend = opened(path)
    assert (backend.spec.inputs, backend.spec.outputs) == (DIGITS_INPUT, DIGITS_OUTPUTS)
    check_digits(backend, net)
    schema = json.loads((tmp_path / "schema.json").read_text())
    schema["outputs"][0]["shape"] = [9]
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    with pytest.raises(ModelLoadError, match=r"the outputs in .*schema\.json are not those of .*digits\.pt2") as caught:
        opened(path)
    assert '{"name": "output_0", "dtype": "float32", "shape": [10]}' in str(caught.value)


@pytest.mark.parametrize("form", ["script", "pt", "safetensors"])
def test_a_missing_schema_is_shown(form: str, tmp_path: Path) -> None:
    path, net = saved(form, tmp_path)
    (tmp_path / "schema.json").unlink()
    with pytest.raises(ModelLoadError, match=r"Write .*digits\.schema\.json") as caught:
        opened(path)
    text = str(caught.value).partition("\n")[2]
    shown = json.loads(text)
    assert shown["inputs"][0]["shape"] == [64]
    assert shown["outputs"][0]["shape"] == [10]
    if form != "script":
        assert shown["class"] == "net.py:Net"
        shown["arguments"] = {"hidden": 24}
    # The template is nearly right: it cannot know that there is a second output.
    shown["outputs"].append({"name": "ink", "dtype": "float32", "shape": []})
    (tmp_path / "digits.schema.json").write_text(json.dumps(shown))
    check_digits(opened(path), net)


def test_what_a_schema_must_say(tmp_path: Path) -> None:
    path, _ = saved("pt", tmp_path)
    schema = json.loads((tmp_path / "schema.json").read_text())

    def refusal(**members: Any) -> str:
        text = {name: value for name, value in {**schema, **members}.items() if value is not None}
        (tmp_path / "schema.json").write_text(json.dumps(text))
        with pytest.raises(ModelLoadError) as caught:
            opened(path)
        return str(caught.value)

    assert "declares no outputs. Add them" in refusal(outputs=None)
    assert "names no class" in refusal(**{"class": None, "arguments": None})
    assert "has no class Other that is a torch.nn.Module" in refusal(**{"class": "net.py:Other"})
    assert "raised for the arguments" in refusal(arguments={"width": 3})
    assert "PyTorch has tensors of numbers only" in refusal(inputs=[{"name": "pixels", "dtype": "str", "shape": [64]}])
    assert "has categories" in refusal(
        inputs=[{"name": "pixels", "dtype": "int64", "shape": [64], "categories": ["a", "b"]}]
    )


def test_a_result_that_is_not_what_was_declared(tmp_path: Path) -> None:
    path, _ = saved("pt", tmp_path)
    schema = json.loads((tmp_path / "schema.json").read_text())

    def fault(outputs: list[dict[str, Any]]) -> str:
        (tmp_path / "schema.json").write_text(json.dumps({**schema, "outputs": outputs}))
        with pytest.raises(BadOutputError) as caught:
            run(opened(path), digits()[:2])
        return str(caught.value)

    first, second = schema["outputs"]
    assert fault([first]) == "the model gave 2 outputs, expected 1"
    assert fault([{**first, "shape": [9]}, second]) == "output 'probabilities' has shape (2, 10), expected (2, 9)"
    assert fault([{**first, "dtype": "float64"}, second]) == "output 'probabilities' is float32, expected float64"


@pytest.mark.parametrize("form", ["exported", "pt"])
def test_compiled_models_agree(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, net = saved(form, tmp_path)
    with caplog.at_level(logging.WARNING, "penstock.worker.torch"):
        backend = opened(path, convert="compile")
        check_digits(backend, net, rtol=1e-4, atol=1e-5)
    assert not [record for record in caplog.records if record.name.startswith("penstock")]


def test_aot_inductor_makes_a_package_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    path, net = saved("pt", model)
    check_digits(opened(path, convert="aot-inductor"), net, rtol=1e-4, atol=1e-5)
    kept = tmp_path / "cache/penstock/aot-inductor"
    (package,) = kept.iterdir()
    made = package.stat().st_mtime_ns
    check_digits(opened(path, convert="aot-inductor"), net, rtol=1e-4, atol=1e-5)
    assert package.stat().st_mtime_ns == made

    # The same package as a model of its own: machine code, so it must be trusted.
    given = tmp_path / "given.pt2"
    given.write_bytes(package.read_bytes())
    with pytest.raises(ModelLoadError, match="holds machine code") as caught:
        opened(given)
    trusted = {"trusted_digests": (sha256_of(given),)}
    assert sha256_of(given) in str(caught.value)
    with pytest.raises(ModelLoadError, match=r"Write .*given\.schema\.json"):
        opened(given, **trusted)
    write_schema(tmp_path)
    check_digits(opened(given, **trusted), net, rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelLoadError, match="has been compiled already"):
        opened(given, convert="compile", **trusted)

    kept.chmod(0o777)
    with pytest.raises(ModelLoadError, match="can be written by others"):
        opened(path, convert="aot-inductor")


def test_conversions_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = saved("exported", tmp_path)
    with pytest.raises(ModelLoadError, match="'onnx' is not for PyTorch models: use compile or aot-inductor"):
        opened(path, convert="onnx")
    script, _ = saved("script", tmp_path)
    with pytest.raises(ModelLoadError, match="is not for TorchScript: export the model"):
        opened(script, convert="compile")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelLoadError, match=r"needs a C\+\+ compiler"):
        opened(path, convert="compile")


UNSTEADY = """
import torch


class Net(torch.nn.Module):
    def forward(self, x):
        if torch.compiler.is_compiling():
            return x * 2
        return x * 3
"""


def test_a_compiled_model_that_disagrees_is_not_served(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "net.py").write_text(UNSTEADY)
    tensor = {"dtype": "float32", "shape": [4]}
    (tmp_path / "schema.json").write_text(
        json.dumps({"inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}], "class": "net.py:Net"})
    )
    torch.save({}, tmp_path / "net.pt")
    with pytest.raises(ModelLoadError, match="and no state dict"):  # nothing in it
        opened(tmp_path / "net.pt")
    (tmp_path / "net.py").write_text(
        UNSTEADY.replace(
            "    def forward",
            "    def __init__(self):\n        super().__init__()\n"
            "        self.unused = torch.nn.Parameter(torch.zeros(1))\n\n    def forward",
        )
    )
    torch.save({"unused": torch.zeros(1)}, tmp_path / "net.pt")
    with caplog.at_level(logging.WARNING, "penstock.worker.torch"):
        backend = opened(tmp_path / "net.pt", convert="compile")
    assert "convert = 'compile' is left out: the compiled model differs, output 'y'" in caplog.text
    rows = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(run(backend, rows)[0], rows * 3)


def test_a_model_that_writes_into_its_inputs_gets_copies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Doubles(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(2)

    path = exported(tmp_path / "doubles.pt2", Doubles(), torch.ones(3, 4))
    with caplog.at_level(logging.WARNING, "penstock.worker.torch"):
        backend = opened(path)
    assert "writes into its inputs" in caplog.text
    rows = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(run(backend, rows)[0], rows * 2)  # run() checks that the rows are as they were


def test_a_trusted_pickle_may_be_a_whole_module(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(64, 10))
    path = tmp_path / "whole.pt"
    torch.save(net, path)
    (tmp_path / "schema.json").write_text(
        '{"inputs": [{"name": "x", "dtype": "float32", "shape": [64]}],'
        ' "outputs": [{"name": "y", "dtype": "float32", "shape": [10]}]}'
    )
    with pytest.raises(ModelLoadError, match="holds more than tensors"):
        opened(path)
    backend = opened(path, trusted_digests=(sha256_of(path),))
    with torch.inference_mode():
        expected = net(torch.from_numpy(digits()[:5])).numpy()
    np.testing.assert_allclose(run(backend, digits()[:5])[0], expected, **SAME)


def test_a_package_for_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(net_in(tmp_path), (torch.zeros(8, 64),))
    path = tmp_path / "fixed.pt2"
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    write_schema(tmp_path)
    with pytest.raises(ModelLoadError, match="exported with a batch of any size"):
        opened(path, trusted_digests=(sha256_of(path),))


def test_programs_with_a_fixed_batch_are_compiled_for_it(tmp_path: Path) -> None:
    net = net_in(tmp_path)
    torch.export.save(torch.export.export(net, (torch.zeros(8, 64),)), tmp_path / "fixed.pt2")
    backend = opened(tmp_path / "fixed.pt2", convert="compile")
    rows = digits()[:5]
    for found, expected in zip(run(backend, rows), answers(net, rows), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class Counting(torch.nn.Module):
    """Changes a buffer of its own, as running statistics do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add_(1)
        return x + self.seen


def test_a_program_that_changes_its_buffers(tmp_path: Path) -> None:
    backend = opened(exported(tmp_path / "counting.pt2", Counting(), torch.zeros(3, 4)))
    rows = np.zeros((2, 4), np.float32)
    first, second = run(backend, rows)[0], run(backend, rows)[0]
    np.testing.assert_array_equal(second, first + 1)


@pytest.mark.parametrize(("form", "convert"), [("safetensors", "none"), ("exported", "compile")])
def test_through_the_server(form: str, convert: str, tmp_path: Path) -> None:
    path, net = saved(form, tmp_path)
    write_schema(tmp_path, with_class=form == "safetensors")
    expected = answers(net, digits()[:20])
    logs = tmp_path / "logs"
    logs.mkdir()
    settings = {"PENSTOCK_CONVERT": convert, "XDG_DATA_HOME": str(logs)}
    server = Server.start([f"digits={path}", "--max-batch-size", "8"], logs, settings)
    try:
        for row, probabilities, ink in zip(digits()[:20], *expected, strict=True):
            reply = server.predict(model="digits", inputs=row.tolist())
            assert reply.status == 200, reply.body
            found = reply.json()["outputs"]
            np.testing.assert_allclose(found["probabilities"], probabilities, rtol=1e-5, atol=1e-6)
            assert found["ink"] == pytest.approx(float(ink))
        assert "not writable" not in server.log.read_text()
    finally:
        server.stop()
