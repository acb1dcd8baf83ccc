"""What a user's type checker sees of the SDK."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import asyncio
from penstock_client import AsyncClient, Client

client = Client()
reveal_type(client.predict("m", [1]))
reveal_type(client.predict("m", [1]).receipt)
reveal_type(client.predict_batch("m", [[1]]).errors)
reveal_type(client.predict_batch("m", [[1]]).errors[0].code)
reveal_type([part.rows for part in client.iter_batch("m", [[1]])])
reveal_type(client.models.promote("m", "1")["version"])
reveal_type(client.models.list()[0]["state"])
reveal_type(client.coalescer("m").predict([1]).outputs)
client.predict("m", [1], priority="urgent")
client.predict("m", [1], version=1)
client.models.promote("m", "1")["verison"]

async def main() -> None:
    async with AsyncClient() as client:
        reveal_type(await client.predict("m", [1]))
        reveal_type((await client.models.show("m"))["aliases"])
        reveal_type([part.rows async for part in client.iter_batch("m", [[1]])])
        client.predict("m", [1]).outputs
"""
SEEN = [
    "penstock_client.predicting.Prediction",
    "penstock_client.predicting.Receipt | None",
    "dict[int, penstock_client.errors.PenstockError]",
    "str",
    "list[int]",
    "str",
    "Literal['registered'] | ",
    "dict[str, Any]",
    'error: Argument "priority" to "predict" of "Client" has incompatible type',
    'error: Argument "version" to "predict" of "Client" has incompatible type "int"',
    'error: TypedDict "Alias" has no key "verison"',
    "penstock_client.predicting.Prediction",
    "dict[str, str]",
    "list[int]",
    'error: "Coroutine[Any, Any, Prediction]" has no attribute "outputs"',
]


def test_types_of_a_program(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", str(program)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(ROOT / "sdk/python")},
    )
    line = re.compile(r'^program\.py:\d+: (?:note: Revealed type is "(.*)"|(error: .*)|note: .*)$', re.MULTILINE)
    seen = line.findall(done.stdout)
    said = ["".join(one) for one in seen if "".join(one)]
    assert len(said) == len(SEEN), done.stdout + done.stderr
    for found, expected in zip(said, SEEN, strict=True):
        assert found.replace("builtins.", "").replace("Union[", "").startswith(expected), done.stdout
