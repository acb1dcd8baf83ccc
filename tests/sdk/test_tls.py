"""Encrypted connections."""

import ssl
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from penstock.native._dataplane import has_tls
from penstock_client import Client, ConnectError, Retries
from tests.integration.test_tls import write_certificate
from tests.sdk.asking import async_asker, sync_asker
from tests.serving import Server

pytestmark = pytest.mark.skipif(not has_tls(), reason="Penstock was built without TLS")


@pytest.fixture
def url(serve: Callable[..., Server], model_folder: Path, tmp_path: Path) -> str:
    write_certificate(tmp_path, "first.test")
    files = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    return serve(*files, models={"affine": model_folder / "affine.onnx"}).url.replace("http:", "https:")


def test_predictions_over_tls(url: str, tmp_path: Path) -> None:
    trusting = {"tls": ssl.create_default_context(cafile=tmp_path / "cert.pem")}
    for ask in (sync_asker(url), async_asker(url)):
        assert ask("predict", "affine", [1, 2, 3, 4], client=trusting).output == [3.0, 5.0, 7.0, 9.0]
        rows = np.ones((60_000, 4), np.float32)
        assert (ask("predict_batch", "affine", rows, client=trusting).outputs["y"] == 3).all()


def test_a_connection_is_kept(url: str, tmp_path: Path) -> None:
    with Client(url, tls=ssl.create_default_context(cafile=tmp_path / "cert.pem"), connections_max=1) as client:
        for number in range(50):
            assert client.predict("affine", [number, 0, 0, 0]).output[0] == 2 * number + 1


def test_nobody_is_trusted_who_is_not_known(url: str) -> None:
    for ask in (sync_asker(url), async_asker(url)):
        with pytest.raises(ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            ask("predict", "affine", [1, 2, 3, 4], client={"retries": Retries(1)})
