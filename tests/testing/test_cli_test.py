"""`penstock test` as a person and as CI meets it: real models, real servers, what is printed and how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from tests.serving import Server

SECONDS = 300
HEAD = "import os\nimport numpy as np\nfrom penstock.worker import Tensor\n"
GOOD = """
class Model:
    inputs = {"x": Tensor("float32", (4,))}
    outputs = {"label": Tensor("int64"), "probabilities": Tensor("float32", (2,))}

    def predict(self, batch):
        share = 1 / (1 + np.exp(-np.clip(np.nan_to_num(batch["x"]).sum(axis=1, dtype="float64"), -50, 50)))
        return {"label": (share > 0.5).astype("int64"), "probabilities": np.stack([1 - share, share], axis=1)}
"""
# Each is wrong in one way, and the check that must find it.
FAULTY = {
    "raises": ('if (batch["n"] == 0).any(): raise ValueError("no zeros")', "valid rows are answered"),
    "not_finite": ('y = y / np.abs(np.sign(batch["n"]))[:, None]', "valid rows are answered"),
    "dies": ('if np.isnan(batch["x"]).any(): os._exit(3)', "no worker died"),
    "draws": ("y = y + np.random.rand()", "a row answered twice agrees"),
    "leaks": ("y = y + len(y)", "a row alone and in a batch agree"),
    "extreme": ('if np.isinf(batch["x"]).any(): raise ValueError("inf")', "extreme rows are answered"),
}
BODY = """
class Model:
    inputs = {{"x": Tensor("float32", (4,)), "n": Tensor("int64")}}
    outputs = {{"y": Tensor("float32", (4,))}}

    def predict(self, batch):
        y = batch["x"]
        with np.errstate(all="ignore"):
            {line}
        return {{"y": y}}
"""
LABELLED = "x.0,x.1,x.2,x.3,truth,site\n1,1,1,1,1,north\n-1,-1,-1,-1,0,north\n2,1,0,0,1,south\n-2,0,0,0,1,south\n"


def penstock(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock", "test", *arguments]
    environment = {**os.environ, **(env or {})}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
    )


def report(folder: Path, *arguments: str, status: int) -> dict[str, dict[str, Any]]:
    result = penstock(folder, *arguments, "--json")
    assert result.returncode == status, result.stdout + result.stderr
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["ok"] == (status == 0)
    return {check["name"]: check for check in document["checks"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.py").write_text(HEAD + GOOD)
    (tmp_path / "rows.csv").write_text(LABELLED)
    return tmp_path


def test_a_good_model_passes(folder: Path) -> None:
    result = penstock(folder, "good.py", "--junit", "report.xml")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "skipped  golden    golden rows" in result.stdout
    assert re.search(r"good 1: \d+ passed, 0 failed, 3 skipped in .* \(seed 1\)", result.stdout)
    assert result.stderr == ""
    suite = ElementTree.parse(folder / "report.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "3")


@pytest.mark.parametrize("name", list(FAULTY))
def test_a_faulty_model_is_found_out(folder: Path, name: str) -> None:
    line, finds = FAULTY[name]
    (folder / f"{name}.py").write_text(HEAD + BODY.format(line=line))
    checks = report(folder, f"{name}.py", "--fuzz-rows", "40", status=1)
    assert checks[finds]["outcome"] == "failed", checks
    assert checks["invalid rows are refused"]["outcome"] == ("failed" if name == "dies" else "passed")


def test_what_failed_can_be_repeated(folder: Path) -> None:
    (folder / "raises.py").write_text(HEAD + BODY.format(line=FAULTY["raises"][0]))
    detail = report(folder, "raises.py", status=1)["valid rows are answered"]["detail"]
    assert "500 model_error: ValueError: no zeros" in detail
    # As little of it as still fails.
    body = json.loads(re.search(r"-d '(.*)'", detail)[1])  # type: ignore[index]
    assert body == {"model": "raises", "inputs": {"x": body["inputs"]["x"], "n": 0}}


def test_extremes_may_be_refused_or_left_out(folder: Path) -> None:
    (folder / "extreme.py").write_text(HEAD + BODY.format(line=FAULTY["extreme"][0]))
    refused = report(folder, "extreme.py", "--extremes", "refuse", status=0)
    assert refused["extreme rows are answered"]["outcome"] == "passed"
    off = report(folder, "extreme.py", "--extremes", "off", status=0)
    assert off["extreme rows are answered"]["outcome"] == "skipped"


def test_a_record_is_tried_field_by_field(folder: Path) -> None:
    (folder / "people.py").write_text(
        HEAD
        + """
class Model:
    inputs = {"slots": Tensor("float64", (2,)), "note": Tensor("str")}
    outputs = {"age": Tensor("float64"), "note": Tensor("str")}

    def predict(self, batch):
        return {"age": np.nan_to_num(batch["slots"][:, 0]), "note": batch["note"]}
"""
    )
    record = {
        "age": {"type": ["integer", "null"], "minimum": 18},
        "sex": {"enum": ["female", "male"]},
        "note": {"type": "string", "minLength": 1, "maxLength": 200},
    }
    (folder / "people.processing.json").write_text(json.dumps({"format": 1, "record": record}))
    rows = [{"inputs": {"age": 20, "sex": "male", "note": "ü"}, "outputs": {"age": 20.0, "note": "ü"}}]
    (folder / "golden.ndjson").write_text("\n".join(map(json.dumps, rows)))
    checks = report(folder, "people.py", "--golden", "golden.ndjson", status=0)
    assert checks["golden.ndjson: age"]["figures"] == {"rows": 1, "differing": 0}
    assert checks["invalid rows are refused"]["figures"]["rows"] > 10
    assert 0 < checks["JSON and binary tensors agree"]["figures"]["rows"] < 50  # null has no form there


def test_golden_rows_that_differ_are_told_by_output(folder: Path) -> None:
    golden = {
        "inputs": {"x": [[0, 0, 0, 0], [9, 9, 9, 9]]},
        "outputs": {"label": [0, 1], "probabilities": [[0.5, 0.5], [0.1, 1]]},
    }
    (folder / "good.golden.json").write_text(json.dumps(golden))
    checks = report(folder, "good.py", status=1)
    assert "does not give its golden outputs" in checks["starts"]["detail"]
    assert (
        "1 of 2 rows differ; the worst is row 1, [0]: expected 0.1, got "
        in checks["good.golden.json: probabilities"]["detail"]
    )
    assert "good.golden.json: label" not in checks
    # Those that are given beside are no reason not to serve it.
    (folder / "good.golden.json").rename(folder / "more.json")
    checks = report(folder, "good.py", "--golden", "more.json", status=1)
    assert checks["more.json: label"]["outcome"] == "passed"
    assert checks["more.json: probabilities"]["figures"] == {"rows": 2, "differing": 1}


def test_thresholds_are_kept_or_missed(folder: Path) -> None:
    given = ("good.py", "--fuzz-rows", "0", "--labels", "rows.csv", "--target", "truth")
    good = report(folder, *given, "--min-accuracy", "0.75", "--min-auc", "0.6", status=0)
    assert good["accuracy of 0.75 at least"]["figures"] == {"accuracy": 0.75, "rows": 4}
    assert good["auc of 0.6 at least"]["figures"]["auc"] == 1.0
    bad = report(folder, *given, "--min-accuracy", "0.75", "--min-f1", "0.9", "--slice", "site", status=1)
    assert bad["f1 of 0.9 at least"]["outcome"] == "failed"
    assert bad["site: worst slice: accuracy of 0.75 at least"]["detail"].startswith("south: 0.5 on 2 rows")
    numbers = report(folder, *given, "--output", "label", "--max-mae", "0.25", "--max-rmse", "0.5", status=0)
    assert numbers["rmse of 0.5 at most"]["figures"]["rmse"] == 0.5


def test_a_threshold_that_cannot_be_computed_fails(folder: Path) -> None:
    (folder / "one.ndjson").write_text(
        '{"inputs": [1, 1, 1, 1], "truth": 1}\n{"inputs": {"x": [2, 2, 2, 2]}, "truth": 1}\n'
    )
    given = ("good.py", "--fuzz-rows", "0", "--labels", "one.ndjson", "--target", "truth")
    checks = report(folder, *given, "--min-auc", "0.5", "--min-accuracy", "1", status=1)
    assert "cannot be computed" in checks["auc of 0.5 at least"]["detail"]
    assert checks["accuracy of 1 at least"]["outcome"] == "passed"


def test_latency_is_proven_or_not(folder: Path) -> None:
    given = ("good.py", "--fuzz-rows", "0", "--rate", "300", "--duration", "2")
    good = report(folder, *given, "--p99-ms", "120000", status=0)
    (title,) = [name for name in good if name.startswith("p99")]
    assert good[title]["figures"]["requests"] > 459
    bad = report(folder, *given, "--p99-ms", "0.001", status=1)
    (title,) = [name for name in bad if name.startswith("p99")]
    assert bad[title]["outcome"] == "failed"
    few = report(
        folder, "good.py", "--fuzz-rows", "0", "--rate", "20", "--duration", "1", "--p99-ms", "120000", status=1
    )
    (title,) = [name for name in few if name.startswith("p99")]
    assert "too few requests to prove it" in few[title]["detail"], few[title]


def test_a_file_says_it_all(folder: Path) -> None:
    (folder / "serve.toml").write_text(
        '[server]\nport = 1\ngrpc_port = 2\nrequire_key = true\n[models.other]\npath = "good.py"\nmax_batch_size = 4\n'
    )
    text = 'model = "other"\nconfig = "serve.toml"\nfuzz.rows = 10\n[accuracy]\nlabels = "rows.csv"\ntarget = "truth"\n'
    (folder / "penstock-test.toml").write_text(text + "min_accuracy = 0.7\n")
    checks = report(folder, status=0)
    assert checks["accuracy of 0.7 at least"]["outcome"] == "passed"
    # The command line wins.
    checks = report(folder, "--min-accuracy", "0.8", status=1)
    assert checks["accuracy of 0.8 at least"]["outcome"] == "failed"
    other = report(folder, "good.py", "--fuzz-rows", "2", status=0)
    assert other["accuracy"]["outcome"] == "skipped"


def test_a_model_that_cannot_start_fails(folder: Path) -> None:
    (folder / "broken.py").write_text("def")
    checks = report(folder, "broken.py", "--p99-ms", "5", status=1)
    assert "SyntaxError" in checks["starts"]["detail"]
    assert checks["all of it"]["outcome"] == "failed"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "there is no model: penstock test MODEL"),
        (("nowhere.onnx",), "there is no file or folder nowhere.onnx"),
        (("good.py", "--golden", "none.json"), "cannot read the golden rows none.json"),
        (("good.py", "--labels", "rows.csv", "--target", "truth"), "no threshold"),
        (("good.py", "--labels", "rows.csv", "--target", "nix", "--min-f1", "0"), "there is no column 'nix'"),
        (("good.py", "--extremes", "maybe"), "expected 'answer', 'refuse' or 'off'"),
        (("good.py", "--config", "none.toml"), "none.toml"),
    ],
)
def test_wrong_usage_is_said(folder: Path, arguments: tuple[str, ...], complaint: str) -> None:
    result = penstock(folder, *arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_elsewhere_is_asked_by_its_name(folder: Path, server: Server) -> None:
    checks = report(folder, "affine", "--url", server.url, "--fuzz-rows", "20", status=0)
    assert "starts" not in checks
    assert checks["valid rows are answered"]["outcome"] == "passed"
    by_environment = penstock(folder, "affine", "--fuzz-rows", "0", env={"PENSTOCK_URL": server.url})
    assert by_environment.returncode == 0
    missing = penstock(folder, "nix", "--url", server.url)
    assert missing.returncode == 1
    assert "model_not_found" in missing.stderr


def test_nobody_answers(folder: Path) -> None:
    result = penstock(folder, "m", "--url", "http://127.0.0.1:1")
    assert result.returncode == 3
    assert "--url" in result.stderr


def test_a_long_row_is_repeated_from_a_file(folder: Path, tmp_path: Path) -> None:
    source = GOOD.replace('"x": Tensor("float32", (4,))', '"x": Tensor("float32", (3000,))')
    (folder / "long.py").write_text(
        HEAD + source.replace("def predict(self, batch):", "def predict(self, batch):\n        assert batch['x'].any()")
    )
    result = penstock(folder, "long.py", "--fuzz-rows", "5", "--json", env={"TMPDIR": str(tmp_path)})
    assert result.returncode == 1
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    file = re.search(r"-d @(\S+)", checks["valid rows are answered"]["detail"])
    assert file is not None
    body = json.loads(Path(file[1]).read_text())
    assert set(body["inputs"]["x"]) == {0}


def test_a_server_with_keys_is_asked_with_one(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = tmp_path_factory.mktemp("keys")
    made = subprocess.run(
        [sys.executable, "-m", "penstock", "keys", "create", "ci", "--role", "predict", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PENSTOCK_DATA_DIR": str(data / "data")},
        check=True,
        timeout=SECONDS,
    )
    (folder / "key").write_text(json.loads(made.stdout)["key"])
    running = Server.start([str(folder / "good.py"), "--require-key"], data)
    given = ("good", "--url", running.url, "--fuzz-rows", "5", "--p99-ms", "120000", "--rate", "300", "--duration", "2")
    try:
        checks = report(folder, *given, "--key-file", "key", status=0)
        assert any(name.startswith("p99") for name in checks)
        refused = penstock(folder, *given)
        assert refused.returncode == 1
        assert "unauthorized" in refused.stderr
    finally:
        running.stop()


def test_ctrl_c_ends_the_server_too(folder: Path) -> None:
    command = [sys.executable, "-m", "penstock", "test", "good.py", "--p99-ms", "100", "--duration", "600"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + SECONDS
        children: list[psutil.Process] = []
        while not children and time.monotonic() < deadline and process.poll() is None:
            children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert children
    assert (process.returncode, out, err) == (130, "", "")
    _, alive = psutil.wait_procs(children, timeout=SECONDS)
    assert not alive
