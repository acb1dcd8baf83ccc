"""Looks into PyTorch's archives before PyTorch does: what they would run, open or write beside computing.

torch.export.load unpickles example inputs and whatever is marked as pickled, evaluates the text of symbolic sizes,
resolves operators by their dotted names and makes Python source out of names. A program that torch.export.save has
written of tensors and PyTorch's own operators passes; another one needs its digest trusted. This closes the ways that
are known for PyTorch 2.13. It is no sandbox: the worker's limits are around it.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from penstock.core.errors import ModelLoadError
from penstock.worker.backends.trust import sha256_of

__all__ = ["holds_machine_code", "vet_exported", "vet_script"]

_MACHINE_CODE = re.compile(r"(?:data/aotinductor/.*|.*\.(?:so|o|a|cubin|ptx))", re.DOTALL)

_OPERATOR = re.compile(r"torch\.ops\.(aten|prims|quantized_decomposed)\.(\w+)\.(\w+)")
# Those that call subgraphs of the program itself.
_HIGHER_ORDER = re.compile(
    r"torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
)
_ON_SIZES = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.(sym_\w+|_sym_\w+)"
)
# Operators that read files.
_REFUSED = {"from_file"}

# Members whose text is prose to PyTorch: it is shown or thrown away.
_PROSE = {"stack_trace", "source_fn_stack", "nn_module_stack", "torch_fn", "as_string", "torch_version", "guards_code"}
_NAME = re.compile(r"[\w.\-:]*", re.ASCII)
_NODE_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}

# In the source of TorchScript: what reads or writes files.
_SCRIPT_FILES = re.compile(rb"\b(?:torch|ops\.\w+)\.(save|load|from_file)\b")


def holds_machine_code(entries: Iterable[str]) -> bool:
    """Tell whether an archive with these entries is an AOTInductor package."""
    return any(_MACHINE_CODE.fullmatch(entry) for entry in entries)


def vet_exported(file: Path) -> None:
    """ModelLoadError unless loading the exported program in `file` runs nothing but PyTorch's operators."""
    _Vetting(file).run()


def vet_script(file: Path) -> None:
    """ModelLoadError if the TorchScript in `file` reads or writes files."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.namelist():
            found = _SCRIPT_FILES.search(archive.read(entry)) if entry.endswith(".py") else None
            if found is not None:
                _refuse(file, f"calls {found[0].decode()}, which reads or writes files")


def _refuse(file: Path, reason: str) -> NoReturn:
    raise ModelLoadError(
        f"{file} {reason}: that is not loaded from a file that nobody vouches for. If you trust it, name its digest in "
        f'the model\'s settings: trusted_digests = ["{sha256_of(file)}"]'
    )


class _Vetting:
    """One exported program's archive."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def run(self) -> None:
        with zipfile.ZipFile(self._file) as archive:
            entries = {entry.partition("/")[2]: entry for entry in archive.namelist()}
            for inside, entry in entries.items():
                if inside.startswith("data/sample_inputs/"):
                    self._sample_inputs(archive.read(entry))
                elif inside.startswith(("data/weights/", "data/constants/")):
                    self._payload(inside, entry, archive)
                elif inside.startswith("models/"):
                    self._program(_json(self._file, archive.read(entry)))

    def _refuse(self, reason: str) -> NoReturn:
        _refuse(self._file, reason)

    def _sample_inputs(self, content: bytes) -> None:
        if not content:
            return
        try:
            torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception:
            self._refuse("has example inputs that are more than tensors, a pickle that could run code")

    def _payload(self, inside: str, entry: str, archive: zipfile.ZipFile) -> None:
        name = inside.rpartition("/")[2]
        if name.endswith("_config.json"):
            members = _json(self._file, archive.read(entry)).get("config")
            for payload in members.values() if isinstance(members, Mapping) else ():
                if not isinstance(payload, Mapping) or payload.get("use_pickle") is not False:
                    self._refuse("has pickled weights or constants, which could run code")
        elif not re.fullmatch(r"(weight|tensor)_\d+", name):
            self._refuse(f"has an entry {inside!r}, which could be a pickle that runs code")

    def _program(self, program: Mapping[str, Any]) -> None:
        pending: list[tuple[str, Any]] = [("", program)]
        while pending:
            member, value = pending.pop()
            if isinstance(value, dict):
                for key, inner in value.items():
                    # Ranges of sizes are by the size, such as 2*s1.
                    if not _NAME.fullmatch(key) and not _is_expression(key):
                        self._refuse(f"has a member {key[:60]!r}, which is no name")
                    pending.append((key, inner))
            elif isinstance(value, list):
                pending += [(member, inner) for inner in value]
            elif isinstance(value, str):
                self._text(member, value)

    def _text(self, member: str, text: str) -> None:
        if member in ("target", "as_operator"):
            self._operator(text)
        elif member == "expr_str":
            if not _is_expression(text):
                self._refuse(f"has a size {text[:60]!r}, which is no arithmetic")
        elif member in ("in_spec", "out_spec"):
            self._tree(_json(self._file, text))
        elif member in _PROSE:
            # It may come into generated source as a comment, which a line's end would close.
            if any(ord(letter) < 32 and letter not in "\n\t" for letter in text):
                self._refuse("has control characters in its text")
        elif not _NAME.fullmatch(text):
            self._refuse(f"has a {member or 'text'} {text[:60]!r}, which is no name")

    def _operator(self, target: str) -> None:
        found = _OPERATOR.fullmatch(target)
        known = found is not None and found[2] not in _REFUSED and "__" not in target
        if not (known or _HIGHER_ORDER.fullmatch(target) or _ON_SIZES.fullmatch(target)):
            self._refuse(f"calls {target[:80]!r}, which is no operator of PyTorch's that only computes")

    def _tree(self, spec: Any) -> None:
        """How arguments nest. Other types than these would have their modules imported."""
        nodes = spec[1:] if isinstance(spec, list) else [spec]
        while nodes:
            node = nodes.pop()
            if not isinstance(node, Mapping) or node.get("type") not in _NODE_TYPES:
                self._refuse("takes or gives something else than tensors in tuples, lists and dicts")
            context = node.get("context")
            keys = _json(self._file, context) if isinstance(context, str) else context
            if not all(isinstance(key, int) or (isinstance(key, str) and key.isidentifier()) for key in keys or ()):
                self._refuse("takes or gives a dict whose keys are no names")
            nodes += node.get("children_spec") or []


def _json(file: Path, text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(
            f"{file} is damaged: it has JSON that cannot be read ({error}); copy or export it again"
        ) from error


def _is_expression(text: str) -> bool:
    """Tell whether a size's text is arithmetic on symbols: calls of SymPy's classes, and strings as names only."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    names = {id(call.args[0]) for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Symbol"}
    return all(_is_arithmetic(node, names) for node in ast.walk(tree))


def _is_arithmetic(node: ast.AST, names: set[int]) -> bool:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            return id(node) in names and node.value.isidentifier()
        return isinstance(node.value, bool | int | float)
    if isinstance(node, ast.Name):
        return "__" not in node.id
    if isinstance(node, ast.Call):
        return (
            isinstance(node.func, ast.Name) and node.func.id[:1].isupper() and all(word.arg for word in node.keywords)
        )
    return isinstance(
        node,
        ast.Expression
        | ast.keyword
        | ast.Load
        | ast.BinOp
        | ast.UnaryOp
        | ast.operator
        | ast.unaryop
        | ast.Compare
        | ast.cmpop,
    )
