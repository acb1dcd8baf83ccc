"""`schema.json`: what a model's format does not say, written down beside the model. docs/formats.md has examples."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from penstock.core.errors import ModelLoadError
from penstock.core.written_file import WrittenFile, shown
from penstock.worker.model import DTYPES, TEXTS, TensorSpec

__all__ = [
    "Category",
    "DeclaredTensor",
    "Schema",
    "find_schema",
    "read_schema",
    "refuse_strings",
    "schema_name",
    "specs_of",
    "template",
]

# Far more than a thousand columns with their categories need.
FILE_BYTES_MAX = 16 << 20
# What a row of the ring can have (batcher/row.hpp).
RANK_MAX = 6
SIZE_MAX = (1 << 31) - 1

Category: TypeAlias = str | int | float


@dataclass(frozen=True, slots=True)
class DeclaredTensor:
    """An input or output as the file declares it. `shape` is that of a row; a first size of None varies.

    With `categories` each element is an index into them: what the model sees is the category.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] = ()
    categories: tuple[Category, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """What a schema file says. `outputs` is empty when it leaves them out.

    `class_file` is the Python file that declares the model's class, `class_name`, which is made with `arguments`; None
    and empty without one.
    """

    file: Path
    inputs: tuple[DeclaredTensor, ...]
    outputs: tuple[DeclaredTensor, ...] = ()
    class_file: Path | None = None
    class_name: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)


def find_schema(path: Path) -> Path | None:
    """Return the schema file of the model at `path`: `schema.json` in its folder, or beside a single file.

    Beside `net.pt`, `net.schema.json` comes first: several models may lie in one folder.
    """
    folder = path if path.is_dir() else path.parent
    own = [] if path.is_dir() else [folder / f"{path.stem}.schema.json"]
    return next((file for file in [*own, folder / "schema.json"] if file.is_file()), None)


def schema_name(path: Path) -> Path:
    """Return the path under which a missing schema file is best written."""
    return path / "schema.json" if path.is_dir() else path.with_name(f"{path.stem}.schema.json")


def read_schema(file: Path) -> Schema:
    """Read a schema file; ModelLoadError names the file and the member that is wrong, and says what would be right."""
    reading = _Reading(file)
    document = reading.document()
    reading.members(document, "", needed=("inputs",), allowed=("outputs", "class", "arguments"))
    class_file, class_name = reading.declared_class(document)
    if "arguments" in document and class_file is None:
        raise reading.error("arguments", "is for the class, and there is none: add class, or leave it out")
    return Schema(
        file=file,
        inputs=reading.tensors(document["inputs"], "inputs"),
        outputs=reading.tensors(document["outputs"], "outputs") if "outputs" in document else (),
        class_file=class_file,
        class_name=class_name,
        arguments=reading.mapping(document.get("arguments", {}), "arguments"),
    )


def refuse_strings(schema: Schema, format_name: str) -> None:
    """Raise ModelLoadError for a tensor of strings, on behalf of a format that has none."""
    for tensor in (*schema.inputs, *schema.outputs):
        if tensor.dtype in TEXTS:
            raise ModelLoadError(
                f"{schema.file}: {tensor.name!r} is {tensor.dtype}, and {format_name} has tensors of numbers only: "
                "encode strings before the model, or write a plain Python model that does"
            )


def specs_of(tensors: Sequence[DeclaredTensor], lengths: Sequence[int], file: Path) -> tuple[TensorSpec, ...]:
    """Return the tensors with the longest of `lengths` where they vary; ModelLoadError when none is set."""
    for tensor in tensors:
        if tensor.shape[:1] == (None,) and not lengths:
            raise ModelLoadError(
                f"{tensor.name!r} in {file} varies in length: set lengths for the model, the lengths that rows are "
                "padded to, such as [32, 128, 512]; the last one is the longest that is taken"
            )
    return tuple(
        TensorSpec(
            tensor.name,
            tensor.dtype,
            tuple(lengths[-1] if size is None else size for size in tensor.shape),
            tensor.shape[:1] == (None,),
        )
        for tensor in tensors
    )


def template(
    inputs: Sequence[DeclaredTensor] = (DeclaredTensor("features", "float32", (4,)),),
    outputs: Sequence[DeclaredTensor] = (DeclaredTensor("scores", "float32", (3,)),),
    more: Mapping[str, object] | None = None,
) -> str:
    """Return a schema file's text to start from, for an error about one that is missing."""
    rows = {"inputs": [_json_of(tensor) for tensor in inputs], "outputs": [_json_of(tensor) for tensor in outputs]}
    members = [
        f'  "{name}": [\n' + ",\n".join(f"    {json.dumps(tensor)}" for tensor in tensors) + "\n  ]"
        for name, tensors in rows.items()
        if tensors
    ]
    members += [f'  "{name}": {json.dumps(value)}' for name, value in (more or {}).items()]
    return "{\n" + ",\n".join(members) + "\n}\n"


def _json_of(tensor: DeclaredTensor) -> dict[str, object]:
    members: dict[str, object] = {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
    return members | ({"categories": list(tensor.categories)} if tensor.categories else {})


class _Reading(WrittenFile):
    """Checks one schema file member by member."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, "schema", FILE_BYTES_MAX, template())

    def tensors(self, value: object, where: str) -> tuple[DeclaredTensor, ...]:
        if not isinstance(value, list) or not value:
            raise self.error(where, f"is {shown(value)}: it must be a list of one tensor or more")
        tensors = tuple(self.tensor(item, f"{where}[{place}]") for place, item in enumerate(value))
        names = [tensor.name for tensor in tensors]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise self.error(f"{where}[{place}].name", f"is {name!r} for the second time: names must differ")
        return tensors

    def tensor(self, value: object, where: str) -> DeclaredTensor:
        members = self.mapping(value, where)
        self.members(members, where, needed=("name", "dtype", "shape"), allowed=("categories",))
        name, dtype = members["name"], members["dtype"]
        if not isinstance(name, str) or not name:
            raise self.error(f"{where}.name", f"is {shown(name)}: it must be a string that is not empty")
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise self.error(f"{where}.dtype", f"is {shown(dtype)}: it must be one of {', '.join(sorted(DTYPES))}")
        categories = self.categories(members["categories"], dtype, where) if "categories" in members else ()
        return DeclaredTensor(name, dtype, self.shape(members["shape"], f"{where}.shape"), categories)

    def shape(self, value: object, where: str) -> tuple[int | None, ...]:
        if not isinstance(value, list) or len(value) > RANK_MAX:
            raise self.error(
                where,
                f"is {shown(value)}: it must be the shape of one row without the batch, a list of at most {RANK_MAX} "
                "sizes such as [4], or [] for one number",
            )
        for place, size in enumerate(value):
            if size is None and place == 0:
                continue
            if type(size) is not int or not 1 <= size <= SIZE_MAX:
                null = " (null, for rows that vary in length, may only come first)" if size is None else ""
                raise self.error(f"{where}[{place}]", f"is {shown(size)}: it must be a whole number from 1 on{null}")
        return tuple(value)

    def categories(self, value: object, dtype: str, where: str) -> tuple[Category, ...]:
        if "int" not in dtype:
            raise self.error(
                f"{where}.dtype", f"is {dtype!r}: an index into categories is a whole number, such as int64"
            )
        where = f"{where}.categories"
        if not isinstance(value, list) or not value:
            raise self.error(where, f"is {shown(value)}: it must be a list of one category or more")
        for place, category in enumerate(value):
            if isinstance(category, bool) or not isinstance(category, str | int | float):
                raise self.error(f"{where}[{place}]", f"is {shown(category)}: it must be a string or a number")
        if len(set(value)) != len(value):
            raise self.error(where, "has a category twice: they must differ")
        return tuple(value)

    def declared_class(self, document: Mapping[str, Any]) -> tuple[Path | None, str]:
        if "class" not in document:
            return None, ""
        declared = document["class"]
        name, _, class_name = declared.rpartition(":") if isinstance(declared, str) else ("", "", "")
        path = PurePosixPath(name)
        if not name.endswith(".py") or not class_name.isidentifier():
            raise self.error("class", f'is {shown(declared)}: it must be "FILE.py:CLASS", such as "net.py:Net"')
        folder = self.file.parent.resolve()
        found = (folder / name).resolve()
        if path.is_absolute() or ".." in path.parts or not found.is_relative_to(folder):
            raise self.error("class", f"is {declared!r}: the file must lie in the folder of {self.file.name}")
        if not found.is_file():
            raise self.error("class", f"is {declared!r}: there is no file {name} in {self.file.parent}")
        return self.file.parent / name, class_name
