"""What is sent says what the row says, read back by other implementations."""

import json
from typing import Any

import msgpack
import numpy as np
import pytest

from penstock.core.errors import ConfigError
from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import DIALECTS, OpenInference, PenstockJson, PenstockMsgpack, PenstockRaw, request_bytes
from penstock.load.generator import Address
from penstock.load.rows import TensorSpec, dtype_of, random_rows, same
from penstock.load.schedule import poisson

SPECS = [
    TensorSpec("a", "float32", (3,)),
    TensorSpec("b", "int64", (2, 2)),
    TensorSpec("c", "bool", ()),
    TensorSpec("d", "uint8", (2, 1, 2)),
    TensorSpec("e", "float64", ()),
    TensorSpec("f", "float16", (2,)),
    TensorSpec("g", "str", (2, 1)),
    TensorSpec("h", "bytes", ()),
]
NUMBERS = SPECS[:-2]
ROW = random_rows(SPECS, 1, seed=3)[0]


def assert_is_row(values: dict[str, Any]) -> None:
    assert same({spec.name: np.array(values[spec.name], dtype_of(spec)) for spec in SPECS}, ROW, tolerance=0)


def test_json() -> None:
    request = PenstockJson().request("m", ROW)
    document = json.loads(request.body)
    assert document["model"] == "m"
    assert_is_row(document["inputs"])
    assert b"0.1" not in PenstockJson().request("m", {"a": np.float32([0.25])}).body


def test_msgpack() -> None:
    document = msgpack.unpackb(PenstockMsgpack().request("m", ROW).body)
    assert document["model"] == "m"
    assert_is_row(document["inputs"])


def test_a_version_is_asked_for() -> None:
    assert json.loads(PenstockJson("7").request("m", ROW).body)["version"] == "7"
    assert msgpack.unpackb(PenstockMsgpack("7").request("m", ROW).body)["version"] == "7"
    assert PenstockRaw("a b&c").request("m", {"a": ROW["a"]}).target == "/predict?model=m&version=a%20b%26c"
    assert "version" not in json.loads(PenstockJson().request("m", ROW).body)


def test_long_and_odd_names() -> None:
    row = {"x" * 70_000: ROW["a"], "ä": ROW["b"]}
    for document in (
        msgpack.unpackb(PenstockMsgpack().request("m" * 300, row).body),
        json.loads(PenstockJson().request("m" * 300, row).body),
    ):
        assert document["model"] == "m" * 300 and set(document["inputs"]) == set(row)
    assert OpenInference().request("a/b c", ROW).target == "/v2/models/a%2Fb%20c/infer"
    assert PenstockRaw().request("a/b?", {"a": ROW["a"]}).target == "/predict?model=a%2Fb%3F"


@pytest.mark.parametrize("spec", NUMBERS, ids=lambda spec: spec.dtype)
def test_raw(spec: TensorSpec) -> None:
    row = {spec.name: ROW[spec.name]}
    request = PenstockRaw().request("m one", row)
    assert request.target == "/predict?model=m%20one"
    assert same(PenstockRaw().answer(request.body, [spec]), row, tolerance=0)
    with pytest.raises(ValueError):
        PenstockRaw().answer(request.body + bytes(8), [spec])
    with pytest.raises(ValueError):
        PenstockRaw().request("m", ROW)
    with pytest.raises(ValueError, match="no strings"):
        PenstockRaw().request("m", {"g": ROW["g"]})


@pytest.mark.parametrize("binary", [False, True])
def test_open_inference(binary: bool) -> None:
    dialect = OpenInference(binary=binary)
    request = dialect.request("m", ROW)
    assert request.target == "/v2/models/m/infer"
    head = json.loads(request.body[: int(request.headers.get("Inference-Header-Content-Length", len(request.body)))])
    assert [tensor["name"] for tensor in head["inputs"]] == [spec.name for spec in SPECS]
    assert head["inputs"][1]["shape"] == [1, 2, 2] and head["inputs"][1]["datatype"] == "INT64"
    # An answer has the form of a request, with "outputs".
    answer = request.body.replace(b'"inputs"', b'"outputs"')
    assert same(dialect.answer(answer, SPECS), ROW, tolerance=0)


def test_rows_differ_and_repeat_by_seed() -> None:
    rows = random_rows(SPECS, 50, seed=1)
    assert len({row["a"].tobytes() for row in rows}) == 50
    assert all(same(row, again, tolerance=0) for row, again in zip(rows, random_rows(SPECS, 50, seed=1), strict=True))
    assert max(row["d"].max() for row in rows) > 100


def test_corpus_cuts_requests_and_honours_shares() -> None:
    rows = random_rows(SPECS, 8)
    traffics = [
        Traffic("one", PenstockJson(), rows, SPECS, share=3, headers=(("X-A", "1"),)),
        Traffic("two", PenstockMsgpack(), rows[:4], SPECS, share=1),
    ]
    corpus = Corpus.of(traffics, "host")
    assert len(corpus.offsets) == 13
    sixth = corpus.requests[int(corpus.offsets[5]) : int(corpus.offsets[6])].tobytes()
    assert sixth == request_bytes("host", PenstockJson().request("one", rows[5]), [("X-A", "1")])
    assert b"X-A: 1\r\n" in sixth and b"Host: host\r\n" in sixth
    assert corpus.request(9) == (traffics[1], 1)
    picks = corpus.picks(20_000, seed=5)
    assert np.mean(corpus.kinds[picks] == 0) == pytest.approx(0.75, abs=0.02)
    assert set(picks.tolist()) == set(range(12))
    kinds = np.arange(100, dtype=np.uint32) % 2
    assert np.array_equal(corpus.kinds[corpus.picks(100, 5, kinds)], kinds)


def test_kinds_do_not_depend_on_when_they_are_due() -> None:
    """One seed for both, and yet a heavy kind must not come after a long gap of all times."""
    rows = random_rows(SPECS, 4)
    corpus = Corpus.of([Traffic(name, PenstockJson(), rows, SPECS) for name in "ab"])
    gaps, kinds = [], []
    for seed in range(50):
        due_ns = poisson(1000, 0.2, seed).due_ns[:64]
        gaps.append(np.diff(due_ns, prepend=0))
        kinds.append(corpus.kinds[corpus.picks(len(due_ns), seed)])
    assert abs(np.corrcoef(np.concatenate(gaps), np.concatenate(kinds))[0, 1]) < 0.05


def test_dialects_have_distinct_names() -> None:
    assert set(DIALECTS) == {"json", "msgpack", "raw", "oip", "oip-binary"}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:80", Address("127.0.0.1", 80)),
        ("localhost:8000/", Address("localhost", 8000)),
        ("http://[::1]:9", Address("::1", 9)),
        ("unix:/run/p.sock", Address("/run/p.sock", 0)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert Address.parse(str(address)) == address
    assert str(Address("::1", 9)) == "http://[::1]:9"


@pytest.mark.parametrize("text", ["", "http://host", "host:", ":80", "host:0", "host:99999", "unix:", "https://h:1"])
def test_bad_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        Address.parse(text)
