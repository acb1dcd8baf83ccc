"""Files of others: pickles need their digest named, archives are measured before anything is unpacked."""

import hashlib
import pickle
import zipfile
from pathlib import Path

import pytest

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions
from penstock.worker.backends.trust import check_archive, refuse_code, refuse_pickle, sha256_of


def test_a_pickle_is_refused_unless_its_very_digest_is_named(tmp_path: Path) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps([1, 2]))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert sha256_of(file) == digest
    with pytest.raises(ModelLoadError, match=r"is a pickle, .* Save it with skops") as caught:
        refuse_pickle(file, LoadOptions(trusted_digests=("0" * 64,)), "Save it with skops.")
    assert f'trusted_digests = ["{digest}"]' in str(caught.value)
    with pytest.raises(ModelLoadError, match=r"holds machine code\. If you trust"):
        refuse_code(file, LoadOptions(), "holds machine code")

    options = LoadOptions(trusted_digests=("0" * 64, digest))
    refuse_pickle(file, options)
    file.write_bytes(pickle.dumps([1, 3]))
    with pytest.raises(ModelLoadError, match="is a pickle"):
        refuse_pickle(file, options)


def test_an_archive_of_ordinary_entries(tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/weights", bytes(1 << 20))  # 1,000 times its size, and harmless
        archive.writestr("model/a..b", b"")
    assert check_archive(file) == ("model/weights", "model/a..b")


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/passwd", "a\\..\\b", "C:/out", "a\0b"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    file = tmp_path / "model.zip"
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(info, b"")
    with pytest.raises(ModelLoadError, match="leads out of the folder"):
        check_archive(file)


def test_a_link_in_an_archive(tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    link = zipfile.ZipInfo("weights")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ModelLoadError, match="leads out of the folder"):
        check_archive(file)


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    file = tmp_path / "model.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("weights", b"2")
    with pytest.raises(ModelLoadError, match="two entries 'weights'"):
        check_archive(file)


def test_an_archive_that_unpacks_to_far_more_than_it_is(tmp_path: Path) -> None:
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zeros", "w") as entry:
        piece = bytes(1 << 20)
        for _ in range(1025):
            entry.write(piece)
    with pytest.raises(ModelLoadError, match=r"would unpack to 1074790400.*zip bombs"):
        check_archive(file)


def test_an_archive_that_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "cut.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights", bytes(1000))
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ModelLoadError, match="no complete zip archive"):
        check_archive(file)
    file.write_bytes(b"")
    with pytest.raises(ModelLoadError, match="no complete zip archive"):
        check_archive(file)
