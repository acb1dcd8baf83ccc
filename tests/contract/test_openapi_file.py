"""The committed interface description is the one that the code gives."""

import yaml

from penstock.control.openapi import openapi_document
from tests.openapi_file import FILE, as_yaml


def test_file_is_what_the_code_gives() -> None:
    assert FILE.read_text() == as_yaml(), "run `make openapi`"


def test_file_reads_as_the_document() -> None:
    assert yaml.safe_load(FILE.read_text()) == openapi_document()
