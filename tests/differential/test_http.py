"""Requests as the data plane's parser and as h11 read them.

What the parser accepts, h11 must accept too and read alike: two servers on one path that disagree about where a
request ends is what request smuggling lives on. What is plainly valid, the parser must accept.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
NATIVE_TESTS = Path(os.environ.get("PENSTOCK_NATIVE_TESTS", ROOT / "build/release/tests/native"))
DETERMINISTIC = settings(max_examples=1000, derandomize=True, deadline=None)


@dataclass(frozen=True, slots=True)
class Reading:
    """A complete request, as one of the two read it."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    rest: bytes
    keep_alive: bool | None


class Parser:
    """The parser under test, in a process that answers one line for each line."""

    def __init__(self, process: subprocess.Popen[str], requests: IO[str], verdicts: IO[str]) -> None:
        self._process, self._requests, self._verdicts = process, requests, verdicts

    def judge(self, request: bytes) -> dict[str, str | int | bool]:
        """The verdict on one request, as http_parse_cli prints it."""
        self._requests.write(request.hex() + "\n")
        self._requests.flush()
        verdict: dict[str, str | int | bool] = json.loads(self._verdicts.readline())
        return verdict

    def read(self, request: bytes) -> Reading | None:
        """The request as read, or nothing when it was refused or is incomplete."""
        verdict = self.judge(request)
        if verdict["status"] != "complete":
            return None
        raw = {name: bytes.fromhex(str(verdict[name])) for name in ("method", "path", "query", "fields", "body")}
        lines = [line.partition(b":") for line in raw["fields"].split(b"\r\n")[:-1]]
        end = int(verdict["bytes"])
        return Reading(
            method=raw["method"],
            target=raw["path"] + (b"?" + raw["query"] if raw["query"] else b""),
            fields=tuple((name.lower(), value.strip(b" \t")) for name, _, value in lines),
            body=raw["body"],
            rest=request[end:],
            keep_alive=bool(verdict["keep_alive"]) if verdict["version_minor"] == 1 else None,
        )


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    program = NATIVE_TESTS / "http_parse_cli"
    if not program.exists():
        pytest.fail(f"{program} is missing: build the native tests with `make test-native`")
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield Parser(process, process.stdin, process.stdout)
        process.stdin.close()
        assert process.wait(timeout=300) == 0


def read_with_h11(request: bytes) -> Reading | None:
    """The request as h11 reads it, or nothing when h11 refuses it or waits for more."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    # RFC 9112 2.2 lets a server ignore one empty line before the request line; h11 does not.
    connection.receive_data(request.removeprefix(b"\r\n"))
    head: h11.Request | None = None
    body = b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return None
    assert head is not None
    return Reading(
        method=head.method,
        target=head.target,
        fields=tuple((name, value) for name, value in head.headers),
        body=body,
        rest=connection.trailing_data[0],
        keep_alive=connection.their_state is h11.DONE if head.http_version == b"1.1" else None,
    )


def comparable(reading: Reading) -> Reading:
    """Without what the two spell differently and mean alike."""
    # h11 lower-cases the value of Transfer-Encoding.
    fields = tuple((name, value.lower() if name == b"transfer-encoding" else value) for name, value in reading.fields)
    # The query mark of an empty query says nothing.
    target = reading.target.removesuffix(b"?")
    return Reading(reading.method, target, fields, reading.body, reading.rest, reading.keep_alive)


tokens = st.text("abcdefgXYZ0189-_.!~", min_size=1, max_size=12).map(lambda text: "X-" + text)
values = st.text('abc XYZ019\t,;="\xe9/*', max_size=20)
other_fields = st.lists(st.tuples(tokens, values), max_size=4)
targets = st.from_regex(
    r"/[a-zA-Z0-9._~!$&'()*+,;=:@/-]{0,20}(\?([a-zA-Z0-9=&/?+-]|%[0-9a-fA-F]{2}){1,20})?", fullmatch=True
)
bodies = st.binary(max_size=60)


def chunked(body: bytes, cuts: list[int], extension: str, trailers: list[tuple[str, str]]) -> bytes:
    """The body in chunks that end at `cuts`."""
    ends = sorted({cut % (len(body) + 1) for cut in cuts} | {len(body)})
    coded, begin = b"", 0
    for end in ends:
        if end > begin:
            coded += f"{end - begin:x}{extension}\r\n".encode() + body[begin:end] + b"\r\n"
        begin = end
    lines = "".join(f"{name}: {value}\r\n" for name, value in trailers)
    return coded + b"0\r\n" + lines.encode("latin-1") + b"\r\n"


@st.composite
def valid_requests(draw: st.DrawFn) -> bytes:
    """A request that every server must take."""
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"]))
    fields = [("Host", draw(st.sampled_from(["a", "a.example:80", "[::1]", ""]))), *draw(other_fields)]
    if draw(st.booleans()):
        fields.append(("Connection", draw(st.sampled_from(["close", "keep-alive", "Upgrade, Close"]))))
    body = draw(bodies)
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "none":
        body = b""
    elif framing == "length":
        fields.append(("Content-Length", str(len(body))))
    else:
        fields.append(("Transfer-Encoding", draw(st.sampled_from(["chunked", "Chunked"]))))
        extension = draw(st.sampled_from(["", ";a", ";a=b", ';a="b c"']))
        body = chunked(body, draw(st.lists(st.integers(0, 60), max_size=3)), extension, draw(other_fields))
    fields = draw(st.permutations(fields))
    version = draw(st.sampled_from(["1.1", "1.1", "1.0"])) if framing != "chunked" else "1.1"
    lines = "".join(f"{name}:{draw(st.sampled_from(['', ' ', '  ']))}{value}\r\n" for name, value in fields)
    head = f"{method} {draw(targets)} HTTP/{version}\r\n{lines}\r\n".encode("latin-1")
    return head + body + draw(st.sampled_from([b"", b"GET / HTTP/1.1\r\n"]))


FRAGMENTS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b";", b"\0", b"\x0b", b"0", b"1", b"+", b"-", b"0x", b"%", b"#",
    b"\x7f", b"\xff", b"\r\n\r\n", b"0\r\n\r\n", b"chunked", b"identity", b"Content-Length", b"HTTP/1.0", b"HTTP/1.2",
    b"\r\nContent-Length: 1", b"\r\nTransfer-Encoding: chunked", b"\r\nHost: b", b"\r\n folded", b"\r\nX : y",
]  # fmt: skip


@st.composite
def hostile_requests(draw: st.DrawFn) -> bytes:
    """A valid request after a few blows."""
    request = draw(valid_requests())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(request)))
        removed = draw(st.sampled_from([0, 0, 1, 2, 5]))
        request = request[:at] + draw(st.sampled_from([b"", *FRAGMENTS])) + request[at + removed :]
    return request


@DETERMINISTIC
@given(valid_requests())
def test_valid_requests_are_read_alike(parser: Parser, request_bytes: bytes) -> None:
    expected = read_with_h11(request_bytes)
    assert expected is not None
    actual = parser.read(request_bytes)
    assert actual is not None, parser.judge(request_bytes)
    assert comparable(actual) == comparable(expected)


# Where h11 is the stricter one for no reason of safety: it refuses white space before a chunk extension, which
# RFC 9112 7.1.1 lets a recipient take, and reads the framing fields among trailers, which we check for form and drop.
H11_IS_STRICTER = re.compile(
    rb"[0-9a-f][ \t]+;|\r\n0[^\n]*\r\n.*(content-length|transfer-encoding)", re.IGNORECASE | re.DOTALL
)


@DETERMINISTIC
@given(hostile_requests())
def test_what_is_accepted_is_read_alike(parser: Parser, request_bytes: bytes) -> None:
    actual = parser.read(request_bytes)
    if actual is None or not actual.target.startswith(b"/") or H11_IS_STRICTER.search(request_bytes):
        return
    expected = read_with_h11(request_bytes)
    assert expected is not None
    assert comparable(actual) == comparable(expected)
