"""The clients of asyncio, made from the blocking ones: a coroutine for each method. `make sdk-types` writes them."""

import re
from pathlib import Path

from tests.sdk.document_types import formatted

__all__ = ["TWINS", "as_async"]

PACKAGE = Path(__file__).resolve().parents[2] / "sdk/python/penstock_client"
TWINS = {"client.py": "async_client.py", "admin.py": "async_admin.py"}
# In this order. What is a word is one in code and in prose alike.
RULES = (
    (
        r'\A"""Client: blocking calls, from any thread."""',
        '"""AsyncClient: the same calls as coroutines of asyncio."""',
    ),
    (r'\A"""Administration, blocking:', '"""Administration, with asyncio:'),
    (r"\A(\"\"\".*?\"\"\"\n)", r"\1\n# Written from {mine} by `make sdk-types`; edit that.\n"),
    (
        r"Threads may share one: each call takes a connection of the pool.",
        "Each loop that uses it has connections of its own.",
    ),
    (r"\bClient\b", "AsyncClient"),
    (r"\bModels\b", "AsyncModels"),
    (r"\bKeys\b(?= to|\(|,|\"|:|$)", "AsyncKeys"),
    (r"\bAsyncKeys to the", "Keys to the"),
    (r"\bRun\b", "AsyncRun"),
    (r"\bCoalescer\b", "AsyncCoalescer"),
    (r"\bSocketTransport\b", "LoopTransport"),
    (r"penstock_client\.sockets", "penstock_client.loops"),
    (r"penstock_client\.(admin|coalescing|in_flight)", r"penstock_client.async_\1"),
    (r"\bIterator\b", "AsyncIterator"),
    (r"\bin_order\b", "in_order_awaited"),
    (r"^import weakref\n", ""),
    (r"^        # Nobody has to close.*\n.*finalize.*\n", ""),
    (r"self\._finalizer\(\)", "self._transport.close()"),
    (r", in the caller's thread", ""),
    (r"^    def __enter__", "    async def __aenter__"),
    (r"^    def __exit__", "    async def __aexit__"),
    (r"^    def (?!_|iter_batch|coalescer)", "    async def "),
    (r"^        def predict\(", "        async def predict("),
    (r"\bfor part in self\._parts", "async for part in self._parts"),
    (r"(?<!async def )(?<!= )\bself\._run\(", "await self._run("),
    (r"= self\._run\(", "= await self._run("),
    (r"self\.close\(\)", "await self.close()"),
)


def as_async(mine: str) -> str:
    """Return the text of the twin of a module."""
    text = (PACKAGE / mine).read_text()
    for pattern, other in RULES:
        text = re.sub(pattern, other.replace("{mine}", mine), text, flags=re.MULTILINE)
    return formatted(text)


if __name__ == "__main__":
    for mine, other in TWINS.items():
        (PACKAGE / other).write_text(as_async(mine))
        print(f"wrote {other}")
