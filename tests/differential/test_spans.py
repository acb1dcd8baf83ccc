"""Spans: what is encoded natively against OpenTelemetry's SDK, with the same records."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from penstock.control.openapi import openapi_document
from penstock.native._dataplane import TAP_RECORD_BYTES, SpanEncoder
from tests.tap_records import LAYOUT, RECORD_BYTES, records_of
from tests.tap_spans import SpanMaker, encoded

RESOURCE = {"service.name": "of-tests", "deployment.environment.name": "é"}
VERSION = "1.2.3"
TRACED, ABORTED, HAS_PARENT, STREAMED = 1, 4, 8, 16
ROUTES = sorted(openapi_document()["paths"])
SIZES = {"request_id": 128, "path": 128, "model": 64, "version": 64, "principal": 64, "client": 48, "code": 48}
TRACE_STATE_BYTES = 512

times = st.integers(0, 2**63)
numbers = st.integers(0, 2**63 - 1)
small = st.integers(0, 2**32 - 1)
ids = st.binary(min_size=8, max_size=8).filter(any)
texts = st.one_of(st.text(max_size=40).map(str.encode), st.binary(max_size=40), st.just(b""))
segments = st.text("ab{}.-é", min_size=1, max_size=5)
paths = st.one_of(
    st.tuples(st.sampled_from(ROUTES), segments).map(lambda made: re.sub(r"\{\w+\}", lambda _: made[1], made[0])),
    st.tuples(st.sampled_from(ROUTES), st.sampled_from(["/", "x", "//"])).map("".join),
    st.text("/abv2predict{}", max_size=30),
).map(str.encode)
codes = st.sampled_from([b"", b"not_found", b"model_not_found", b"queue_full"])
members = st.one_of(
    st.from_regex(r"[a-z][_0-9a-z*/-]{0,8}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,8}", fullmatch=True),
    st.from_regex(r"[0-9a-z][_0-9a-z*/-]{0,4}@[a-z][0-9a-z]{0,14}=[a-z]", fullmatch=True),
    st.text(" =@a1-", max_size=6),
)
trace_states = st.one_of(st.just(""), st.lists(members, max_size=5).map(",".join), st.just("a=1, b=2 ,\t,c=3"))


@st.composite
def records(draw: st.DrawFn) -> bytes:
    fields = {name: draw(texts)[:size] for name, size in SIZES.items()}
    fields["path"] = draw(paths)[: SIZES["path"]]
    fields["code"] = draw(codes)
    state = draw(trace_states).encode()[:TRACE_STATE_BYTES]
    taken = draw(st.sampled_from([0, 1]))
    flags = TRACED | sum(draw(st.sampled_from([0, flag])) for flag in (ABORTED, HAS_PARENT, STREAMED))
    return LAYOUT.pack(
        draw(times),
        draw(times) * taken,
        *(draw(times) for _ in range(3)),
        draw(numbers),
        draw(numbers),
        draw(st.integers(1, 4)),  # batches that are shared
        *(draw(small) for _ in range(4)),
        draw(st.sampled_from([0, 200, 404, 499, 500, 503])),
        len(state),
        flags,
        draw(st.integers(0, 6)),
        draw(st.integers(0, 4)),
        1,
        draw(st.binary(min_size=16, max_size=16).filter(any)),
        draw(ids),
        draw(ids),
        draw(st.integers(0, 7)),
        *(len(fields[name]) for name in SIZES),
        *fields.values(),
        state,
    )


def canonical(request: ExportTraceServiceRequest, drawn: dict[bytes, bytes]) -> ExportTraceServiceRequest:
    """Number the ids that are drawn, sort what has no order, and let nothing be what says nothing."""
    (resource_spans,) = request.resource_spans
    resource_spans.resource.attributes.sort(key=lambda pair: pair.key)
    (scope_spans,) = resource_spans.scope_spans
    for span in scope_spans.spans:
        if span.name in ("queue", "batch", "run"):
            drawn.setdefault(span.span_id, len(drawn).to_bytes(8))
        span.span_id = drawn.get(span.span_id, span.span_id)
        span.parent_span_id = drawn.get(span.parent_span_id, span.parent_span_id)
        for link in span.links:
            link.span_id = drawn.get(link.span_id, link.span_id)
        if not span.status.ByteSize():
            span.ClearField("status")
        span.attributes.sort(key=lambda pair: pair.key)
        for pair in span.attributes:
            if pair.value.HasField("string_value"):  # how many bytes one replacement stands for is not agreed on
                pair.value.string_value = re.sub("�+", "�", pair.value.string_value)
    return request


@settings(max_examples=300)
@given(st.lists(records(), min_size=1, max_size=6))
def test_spans_are_those_of_the_sdk(data: list[bytes]) -> None:
    ours, theirs = SpanEncoder(list(RESOURCE.items()), VERSION), SpanMaker()
    our_ids: dict[bytes, bytes] = {}
    their_ids: dict[bytes, bytes] = {}
    for some in (b"".join(data), data[0]):  # batches are remembered from one message to the next
        found = ExportTraceServiceRequest.FromString(ours.encode(some))
        expected = encoded(theirs.spans_of(records_of(some)), RESOURCE, VERSION)
        assert canonical(found, our_ids) == canonical(expected, their_ids)


def test_halves_of_records_are_refused() -> None:
    assert RECORD_BYTES == TAP_RECORD_BYTES
    with pytest.raises(ValueError, match="half of a record"):
        SpanEncoder([], VERSION).encode(bytes(RECORD_BYTES + 1))


def test_every_call_of_the_contract_has_its_name() -> None:
    grpc, post = 64, 2
    for proto in (Path(__file__).resolve().parents[2] / "sdk/contract/grpc").glob("*.proto"):
        text = proto.read_text()
        (package,) = re.findall(r"^package ([\w.]+);", text, re.MULTILINE)
        (service,) = re.findall(r"^service (\w+)", text, re.MULTILINE)
        for method in re.findall(r"^ *rpc (\w+)", text, re.MULTILINE):
            path = f"/{package}.{service}/{method}".encode()
            record = LAYOUT.pack(
                *([1] + [0] * 11), 200, 0, TRACED | grpc, 0, 0, 1, bytes(16), bytes(8), bytes(8), post, 0, len(path),
                *([0] * 5), b"", path, *([b""] * 6),
            )  # fmt: skip
            request = ExportTraceServiceRequest.FromString(SpanEncoder([], VERSION).encode(record))
            assert request.resource_spans[0].scope_spans[0].spans[0].name == path[1:].decode()
