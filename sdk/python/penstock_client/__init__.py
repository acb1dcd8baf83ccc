"""The Python client of Penstock: `Client("http://127.0.0.1:8000").predict("digits", row).outputs["label"]`."""

from importlib import import_module
from typing import TYPE_CHECKING

from penstock_client.about import __version__
from penstock_client.admin import Keys, Models
from penstock_client.batches import BatchResult, Progress
from penstock_client.client import Client
from penstock_client.coalescing import Coalescer
from penstock_client.core import Priority
from penstock_client.errors import (
    ArgumentError,
    BatchError,
    ClientError,
    ConnectError,
    ConnectionLostError,
    PenstockError,
    ProtocolError,
    RefusedError,
    ServerError,
    TimedOutError,
    TransportError,
)
from penstock_client.hooks import Hook, Span
from penstock_client.lines import LineFormat
from penstock_client.predicting import Encoding, Prediction, Receipt
from penstock_client.retrying import Retries
from penstock_client.schema import ModelSchema, TensorSpec

if TYPE_CHECKING:
    from penstock_client.async_admin import AsyncKeys, AsyncModels
    from penstock_client.async_client import AsyncClient
    from penstock_client.async_coalescing import AsyncCoalescer

__all__ = [
    "ArgumentError",
    "AsyncClient",
    "AsyncCoalescer",
    "AsyncKeys",
    "AsyncModels",
    "BatchError",
    "BatchResult",
    "Client",
    "ClientError",
    "Coalescer",
    "ConnectError",
    "ConnectionLostError",
    "Encoding",
    "Hook",
    "Keys",
    "LineFormat",
    "ModelSchema",
    "Models",
    "PenstockError",
    "Prediction",
    "Priority",
    "Progress",
    "ProtocolError",
    "Receipt",
    "RefusedError",
    "Retries",
    "ServerError",
    "Span",
    "TensorSpec",
    "TimedOutError",
    "TransportError",
    "__version__",
]

# Imported when they are asked for: asyncio takes as long as all the rest.
_ASYNC = {
    "AsyncClient": "async_client",
    "AsyncCoalescer": "async_coalescing",
    "AsyncKeys": "async_admin",
    "AsyncModels": "async_admin",
}

if not TYPE_CHECKING:  # to which any name would be one of the package otherwise

    def __getattr__(name: str) -> object:
        if name not in _ASYNC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_ASYNC[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_ASYNC})
