"""The committed stubs of the compiled modules are true: names and signatures are regenerated and compared."""

import ast
import importlib
from pathlib import Path

import pytest
from nanobind.stubgen import StubGen

STUBS = Path(__file__).resolve().parents[2] / "server/penstock/native"
# Annotations that both sides can only spell in one way. Arrays and containers have many spellings.
PLAIN = {"int", "float", "bool", "str", "bytes", "None"}

Signature = tuple[tuple[str, str, bool, str], ...]


@pytest.mark.parametrize("name", ["_kernels", "_batcher", "_dataplane", "_loadgen"])
def test_stub_matches_the_module(name: str) -> None:
    module = importlib.import_module(f"penstock.native.{name}")
    generator = StubGen(module)
    generator.put(module)
    generated = describe(ast.parse(generator.get()))
    committed = describe(ast.parse((STUBS / f"{name}.pyi").read_text()))
    assert committed.keys() == generated.keys()
    for member, signature in committed.items():
        assert_equal(member, signature, generated[member])


def describe(tree: ast.Module | ast.ClassDef, prefix: str = "") -> dict[str, Signature]:
    """Functions, methods, properties and classes by their qualified names."""
    members: dict[str, Signature] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            members[prefix + node.name] = ()
            members |= describe(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            setter = any(isinstance(mark, ast.Attribute) and mark.attr == "setter" for mark in node.decorator_list)
            members[prefix + node.name + (" (setter)" if setter else "")] = signature_of(node)
    return members


def signature_of(function: ast.FunctionDef) -> Signature:
    """Every parameter as (name, kind, has a default, annotation), and the result as the last one."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    with_default = len(positional) - len(arguments.defaults)
    rows = [
        (argument.arg, "positional", index >= with_default, annotation_of(argument.annotation))
        for index, argument in enumerate(positional)
        if argument.arg != "self"
    ]
    rows += [
        (argument.arg, "keyword", default is not None, annotation_of(argument.annotation))
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return (*rows, ("return", "result", False, annotation_of(function.returns)))


def annotation_of(node: ast.expr | None) -> str:
    return ast.unparse(node) if node is not None else "None"


def assert_equal(member: str, committed: Signature, generated: Signature) -> None:
    assert [row[:3] for row in committed] == [row[:3] for row in generated], member
    for (name, _, _, ours), (_, _, _, theirs) in zip(committed, generated, strict=True):
        if ours in PLAIN and theirs in PLAIN:
            assert ours == theirs, f"{member}: {name}"
