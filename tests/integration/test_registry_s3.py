"""Artefacts on an S3 server, with copies in a local folder."""

import asyncio
import shutil
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from penstock.core.errors import ConfigError, RegistryUnavailableError
from penstock.registry import Registry
from tests.registries import Place


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """An empty bucket, as boto3 has it."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    made = boto3.resource("s3").Bucket(f"models-{abs(hash(request.node.name))}")
    made.create()
    return made


def keys(bucket: Any) -> list[str]:
    return sorted(item.key for item in bucket.objects.all())


def run(tmp_path: Path, bucket: Any, test: Callable[[Place, Registry, Registry], Awaitable[None]]) -> None:
    """Open a registry as two machines have it: one database, one bucket, a folder for copies each."""

    async def inside() -> None:
        here = Place(tmp_path / "here", f"sqlite:///{tmp_path}/penstock.db", f"s3://{bucket.name}/some/prefix")
        there = Place(tmp_path / "there", here.store, here.artefacts)
        async with here.open() as first, there.open() as second:
            await test(here, first, second)

    asyncio.run(inside())


def test_content_registered_here_is_fetched_there(tmp_path: Path, bucket: Any) -> None:
    async def test(place: Place, here: Registry, there: Registry) -> None:
        place.write("weights", "deep/er/é model.bin")
        place.write("{}", "schema.json")
        made, new = await here.register("m", place.folder / "source", version="1", by="me")
        assert new
        prefix = f"some/prefix/contents/{made.digest[:2]}/{made.digest}"
        assert keys(bucket) == [
            f"{prefix}/{name}" for name in ("files/deep/er/é model.bin", "files/schema.json", "manifest.json")
        ]
        assert (await there.register("m", place.folder / "source", version="1", by="you"))[1] is False
        for registry, folder in ((here, "here"), (there, "there")):
            found = await registry.fetch(await registry.version("m"))
            assert found.is_relative_to(tmp_path / folder)
            assert (found / "deep/er/é model.bin").read_text() == "weights"
            assert (found / "schema.json").stat().st_mode & 0o777 == 0o444
        # From then on the copy does.
        bucket.objects.delete()
        assert await there.fetch(made) == found

    run(tmp_path, bucket, test)


def test_what_is_damaged_is_fetched_again_or_refused(tmp_path: Path, bucket: Any) -> None:
    async def test(place: Place, here: Registry, there: Registry) -> None:
        made = await place.add(here, "m", "1", "weights")
        copy = await here.fetch(made) / "model.onnx"
        copy.chmod(0o644)
        copy.write_text("weighty")
        assert (await here.fetch(made) / "model.onnx").read_text() == "weights"
        (key,) = [key for key in keys(bucket) if key.endswith("model.onnx")]
        bucket.put_object(Key=key, Body=b"weighty")
        with pytest.raises(RegistryUnavailableError, match=r"'model\.onnx' at s3://.* is not what was registered"):
            await there.fetch(made)
        bucket.Object(key).delete()
        with pytest.raises(RegistryUnavailableError, match=r"'model\.onnx' is gone from s3://"):
            await there.fetch(made)
        staging = tmp_path / "there" / "cache" / "staging"
        assert list(staging.iterdir()) == []
        assert (await here.fetch(made) / "model.onnx").read_text() == "weights"

    run(tmp_path, bucket, test)


def test_what_was_not_uploaded_whole_counts_for_nothing(tmp_path: Path, bucket: Any) -> None:
    async def test(place: Place, here: Registry, there: Registry) -> None:
        digest = (await place.add(here, "m", "1", "weights")).digest
        await here.remove("m", "1", by="me")
        file, manifest = keys(bucket)
        # As a process leaves it that is killed while it uploads.
        bucket.Object(manifest).delete()
        bucket.put_object(Key=file, Body=b"half")
        made = await place.add(there, "m", "1", "weights")
        assert made.digest == digest
        assert (await there.fetch(made) / "model.onnx").read_text() == "weights"
        assert keys(bucket) == [file, manifest]
        bucket.put_object(Key=f"some/prefix/contents/ab/{'ab' * 32}/files/model.onnx", Body=b"half")
        assert await here.collect_garbage() == 1
        assert keys(bucket) == [file, manifest]

    run(tmp_path, bucket, test)


def test_content_goes_there_and_here(tmp_path: Path, bucket: Any) -> None:
    async def test(place: Place, here: Registry, there: Registry) -> None:
        made = [await place.add(here, "m", version) for version in ("1", "2")]
        copies = [await there.fetch(version) for version in made]
        await there.remove("m", "1", by="me")
        assert await there.collect_garbage() == 1
        assert [copy.exists() for copy in copies] == [False, True]
        assert not [key for key in keys(bucket) if made[0].digest in key]
        assert len(keys(bucket)) == 2
        # The copy of the other machine is its own business.
        assert await here.collect_garbage() == 1
        assert await here.collect_garbage() == 0

    run(tmp_path, bucket, test)


def test_a_bucket_that_cannot_be_used_is_said(tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(place: Place, here: Registry, there: Registry) -> None:
        await place.add(here, "m", "1", "weights")
        bucket.objects.delete()
        bucket.delete()
        with pytest.raises(RegistryUnavailableError, match=r"the artefacts at s3://.* cannot be used"):
            await place.add(here, "m", "2", "more")
        assert [version.version for version in await there.versions("m")] == ["1"]

    run(tmp_path, bucket, test)


def test_a_file_system_with_folders_elsewhere(tmp_path: Path) -> None:
    async def attempt() -> None:
        place = Place(tmp_path, f"sqlite:///{tmp_path}/penstock.db", "memory://models")
        async with place.open() as registry:
            place.write("weights", "deep/er/model.bin")
            made, _ = await registry.register("m", place.folder / "source", by="me")
            shutil.rmtree(tmp_path / "cache" / "contents" / made.digest[:2])
            assert (await registry.fetch(made) / "deep/er/model.bin").read_text() == "weights"
            await registry.remove("m", None, by="me")
            assert await registry.collect_garbage() == 1
            assert await registry.collect_garbage() == 0

    asyncio.run(attempt())


def test_other_urls_are_no_artefacts(tmp_path: Path) -> None:
    async def attempt(url: str) -> None:
        await Registry.open(f"sqlite:///{tmp_path}/penstock.db", url, tmp_path / "cache")

    with pytest.raises(ConfigError, match=r"artefacts = nothing://bucket: .*nothing"):
        asyncio.run(attempt("nothing://bucket"))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(RegistryUnavailableError, match="cannot be used") as refusal:
        asyncio.run(attempt(f"ftp://me:hidden@127.0.0.1:{port}/models"))
    assert "hidden" not in str(refusal.value)
