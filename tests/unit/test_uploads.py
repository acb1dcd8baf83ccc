"""Archives that are sent: what is unpacked, and what is refused without harm."""

import gzip
import io
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.control.uploads import FILES_MAX, artefact_of, place, receive, unpack
from penstock.core.errors import RequestError


def packed(fill: Callable[[tarfile.TarFile], None], format: int = tarfile.PAX_FORMAT) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=format) as tar:
        fill(tar)
    return content.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes = b"x", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


def refusal(content: bytes, folder: Path) -> RequestError:
    """Return why an archive is refused; nothing may have been written beside the folder."""
    (folder / "before").mkdir()
    with receive(io.BytesIO(content), folder / "before") as (archive, unpacked), pytest.raises(RequestError) as refused:
        unpack(archive, unpacked)
    assert [path.name for path in folder.iterdir()] == ["before"]
    assert not list((folder / "before").iterdir())
    assert str(folder) not in refused.value.detail
    return refused.value


def test_folder_is_unpacked_and_gone_afterwards(tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "./model.py", b"class Model: ...")
        add(tar, "./weights/w.bin", b"123")

    with receive(io.BytesIO(packed(fill)), tmp_path) as (archive, unpacked):
        unpack(archive, unpacked)
        source = artefact_of(unpacked)
        assert (source / "model.py").read_bytes() == b"class Model: ..."
        assert (source / "weights/w.bin").read_bytes() == b"123"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.onnx", "digits/model.onnx"])
def test_one_thing_at_the_top_is_the_artefact(tmp_path: Path, name: str) -> None:
    with receive(io.BytesIO(packed(lambda tar: add(tar, name))), tmp_path) as (archive, unpacked):
        unpack(archive, unpacked)
        assert artefact_of(unpacked).name == name.split("/")[0]


def test_modes_and_owners_of_the_archive_do_not_matter(tmp_path: Path) -> None:
    content = packed(lambda tar: add(tar, "model.py", mode=0o4777, uid=12345))
    with receive(io.BytesIO(content), tmp_path) as (archive, unpacked):
        unpack(archive, unpacked)
        assert not artefact_of(unpacked).stat().st_mode & 0o7111


@pytest.mark.parametrize("name", ["../out.py", "a/../../out.py", "..", "a" * 300, "a/" * 2000 + "b"])
def test_name_that_leads_nowhere_good(tmp_path: Path, name: str) -> None:
    assert refusal(packed(lambda tar: add(tar, name)), tmp_path).code == "invalid_input"


def test_absolute_name_stays_in_the_folder(tmp_path: Path) -> None:
    content = packed(lambda tar: add(tar, "/tmp/penstock-out.py"))
    with receive(io.BytesIO(content), tmp_path) as (archive, unpacked):
        unpack(archive, unpacked)
        assert (unpacked / "tmp/penstock-out.py").read_bytes() == b"x"
    assert not Path("/tmp/penstock-out.py").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_what_is_neither_file_nor_folder(tmp_path: Path, kind: bytes) -> None:
    error = refusal(packed(lambda tar: add(tar, "m", b"", type=kind, linkname="/etc/passwd")), tmp_path)
    assert error.code == "invalid_input"
    assert "neither a file nor a folder" in error.detail


def test_a_file_behind_a_link_is_not_written(tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        add(tar, "d", b"", type=tarfile.SYMTYPE, linkname="/tmp")
        add(tar, "d/penstock-out")

    assert refusal(packed(fill), tmp_path).code == "invalid_input"
    assert not Path("/tmp/penstock-out").exists()


def test_sparse_file_of_a_terabyte(tmp_path: Path) -> None:
    fields = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    content = packed(
        lambda tar: add(
            tar, "huge.bin", b"0\n".ljust(512, b"\0"), pax_headers={**fields, "GNU.sparse.name": "huge.bin"}
        )
    )
    error = refusal(content, tmp_path)
    assert error.code == "body_too_large"
    assert "huge.bin" in error.detail


def test_declared_size_larger_than_what_came(tmp_path: Path) -> None:
    content = bytearray(packed(lambda tar: add(tar, "huge.bin"), tarfile.USTAR_FORMAT))
    member = tarfile.TarInfo("huge.bin")
    member.size = 1 << 32
    content[:512] = member.tobuf(tarfile.USTAR_FORMAT)
    assert refusal(bytes(content), tmp_path).code == "body_too_large"


def test_too_many_files(tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        for number in range(FILES_MAX + 1):
            add(tar, f"d{number}", b"", type=tarfile.DIRTYPE)

    error = refusal(packed(fill), tmp_path)
    assert error.code == "body_too_large"
    assert str(FILES_MAX) in error.detail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a tar archive at all",
        b"\x7fELF" + bytes(2000),
        gzip.compress(packed(lambda tar: add(tar, "m"))),
        packed(lambda tar: add(tar, "m", b"x" * 5000))[:2000],
    ],
    ids=["empty", "text", "binary", "compressed", "truncated"],
)
def test_no_archive(tmp_path: Path, content: bytes) -> None:
    error = refusal(content, tmp_path)
    assert error.code in {"malformed_body", "invalid_input", "body_too_large"}


def test_empty_archive(tmp_path: Path) -> None:
    with receive(io.BytesIO(packed(lambda tar: None)), tmp_path) as (archive, unpacked):
        unpack(archive, unpacked)
        with pytest.raises(RequestError, match="empty"):
            artefact_of(unpacked)


def test_what_a_killed_server_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in ("upload-old", "upload-young", "kept"))
    for folder in (old, young, other):
        folder.mkdir()
        (folder / "archive.tar").write_bytes(b"x")
    yesterday = time.time() - 90_000
    for folder in (old, other):
        os.utime(folder, (yesterday, yesterday))
    with place(tmp_path) as here:
        assert {path.name for path in tmp_path.iterdir()} == {"upload-young", "kept", here.name}
