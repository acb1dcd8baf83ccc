"""The digest by which servers share answers: whatever a model may be made of counts."""

from pathlib import Path

import pytest

from penstock.core.config import ModelConfig, ServerConfig
from penstock.serve.content import with_content


def digest(path: Path) -> str:
    model = ModelConfig(name="m", path=path, cache_ttl_s=60, cache_shared=True)
    (found,) = with_content(ServerConfig(models=(model,), cache_redis="redis://localhost"))
    assert found.content_digest
    return found.content_digest


@pytest.mark.parametrize("model", ["model.py", "model.onnx", ""])
def test_what_lies_in_folders_counts(tmp_path: Path, model: str) -> None:
    (tmp_path / "model.py").write_text("from package import weights")
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    deep = tmp_path / "package" / "deep"
    deep.mkdir(parents=True)
    seen = set()
    for content in ("1", "2"):
        for file in (deep.parent / "__init__.py", deep / "weights.bin"):
            file.write_text(content)
            seen.add(digest(tmp_path / model))
    assert len(seen) == 4


def test_what_python_and_others_keep_for_themselves_does_not_count(tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    model.write_text("")
    before = digest(model)
    for folder in ("__pycache__", ".git"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("1")
    assert digest(model) == before


@pytest.mark.parametrize("name", ["trees.processing.json", "processing.json", "trees.schema.json", "weights.bin"])
def test_what_lies_beside_a_model_counts(tmp_path: Path, name: str) -> None:
    model = tmp_path / "trees.json"
    model.write_text("{}")
    alone = digest(model)
    (tmp_path / name).write_text("{}")
    beside = digest(model)
    (tmp_path / name).write_text("{ }")
    assert len({alone, beside, digest(model)}) == 3


def test_another_model_beside_it_does_not(tmp_path: Path) -> None:
    model = tmp_path / "trees.json"
    model.write_text("{}")
    alone = digest(model)
    (tmp_path / "other.json").write_text("{}")
    assert digest(model) == alone
