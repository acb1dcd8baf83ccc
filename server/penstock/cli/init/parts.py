"""What projects of all templates have: settings, tests, a job for CI, and what is said of them."""

from __future__ import annotations

__all__ = ["of"]

_SETTINGS = """\
# The settings that the model is served with: `penstock serve --config penstock.toml`, and `penstock test`.
# docs/configuration.md lists all; `penstock config validate penstock.toml` checks them.

[server]
port = 8000

[models.iris]
path = "model"
max_batch_size = 64
"""

_TEST_FILE = """\
# What `penstock test` holds the model to. Flags win over it: penstock test --min-accuracy 0.95

model = "iris"
config = "penstock.toml"

[fuzz]
rows = 100

[accuracy]
labels = "labelled.csv"
target = "species"
min_accuracy = 0.9
min_f1 = 0.9

# Also 99 of 100 requests within a time, where `pip install 'penstock[bench]'` has been done:
# [latency]
# p99_ms = 20
# rate = 100
"""

_TESTS = '''\
"""What the model must do, by the fixture `penstock_server` that comes with Penstock."""

from pathlib import Path

import pytest

from penstock.testing import assert_accuracy, assert_fuzz, assert_golden

ROOT = Path(__file__).parents[1]
FLOWER = {"sepal_length": 5.0, "sepal_width": 3.4, "petal_length": 1.5, "petal_width": 0.2}


@pytest.fixture
def server(penstock_server):
    return penstock_server(config=ROOT / "penstock.toml")


def test_a_flower(server):
    assert server.client.predict("iris", FLOWER).outputs["label"] == "setosa"


def test_golden_rows(server):
    assert_golden(server, ROOT / "model" / "golden.json")


def test_rows_made_from_the_schema(server):
    assert_fuzz(server, rows=50)


def test_labelled_rows(server):
    assert_accuracy(server, ROOT / "labelled.csv", "species", min_accuracy=0.9)
'''

_CI = """\
name: test
on: [push, pull_request]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: pip install wheels/*.whl -r requirements.txt
      - run: penstock test --junit report.xml
      - run: pytest
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: report
          path: report.xml
"""

_README = """\
# Which iris is it?

{about}

| file | |
| --- | --- |
{files}| `model/processing.toml` | what clients send and get: the plan |
| `model/golden.json` | rows whose answers are known; a model that answers otherwise is not served |
| `labelled.csv` | rows that the model has not learned from, with their species |
| `penstock.toml` | how it is served |
| `penstock-test.toml` | what it is held to |
| `flower.json` | a request |
| `tests/` | tests with pytest |
| `.github/workflows/test.yml` | the same for every push |

Penstock's own wheels belong into `wheels/`: `make wheel` in its checkout writes them to `dist/`. PyPI's package of
that name is another project.

```sh
pip install wheels/*.whl -r requirements.txt
```

## Test it

```console
$ penstock test
passed ... starts ...
... 0 failed, ...
$ pytest -q
4 passed ...
```

## Serve it

```sh
penstock serve --config penstock.toml
```

```console
$ curl -s http://127.0.0.1:8000/predict -H 'Content-Type: application/json' -d @flower.json
{{"model":"iris","version":"1","outputs":{{"label":"virginica","confidence":0.9...}}}}
$ penstock predict iris sepal_length=5.1 sepal_width=3.5 petal_length=1.4 petal_width=0.2
label       "setosa"
confidence  0.9...
```

{change}
"""

_FLOWER = """\
{
  "model": "iris",
  "inputs": {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}
}
"""

_ABOUT = {
    "python": "A model in plain Python: the weights of a logistic regression, and NumPy.",
    "onnx": "A logistic regression as an ONNX file.",
    "sklearn": "A pipeline of scikit-learn: a scaler and a logistic regression.",
}
_FILES = {
    "python": "| `model/model.py` | the model |\n",
    "onnx": "| `model/model.onnx` | the model |\n",
    "sklearn": "| `train.py` | makes the model and the rows |\n| `model/model.skops` | the model |\n",
}
_CHANGE = {
    "python": "Put your own into `model/model.py`, write its golden rows anew, and run `penstock test`.",
    "onnx": "Put your own in the place of `model/model.onnx`, write its golden rows anew, and run `penstock test`.",
    "sklearn": "Change `train.py`, run `python train.py`, and then `penstock test`.",
}
_EXTRAS = {"python": "", "onnx": "[onnx]", "sklearn": "[sklearn]"}


def of(template: str) -> dict[str, str | bytes]:
    """Return files by their paths."""
    return {
        "README.md": _README.format(about=_ABOUT[template], files=_FILES[template], change=_CHANGE[template]),
        "requirements.txt": f"penstock{_EXTRAS[template]}\npytest\n",
        "penstock.toml": _SETTINGS,
        "penstock-test.toml": _TEST_FILE,
        "flower.json": _FLOWER,
        "tests/test_iris.py": _TESTS,
        ".gitignore": "__pycache__/\n.pytest_cache/\n.venv/\nreport.xml\n",
        ".github/workflows/test.yml": _CI,
    }
