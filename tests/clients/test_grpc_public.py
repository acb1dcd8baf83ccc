"""Our description of the inference service is a part of the one that tritonclient brings."""

import importlib
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from tests.grpc_contract import OURS, messages_of, methods_of, shape_of

pytestmark = pytest.mark.clients

SERVICE = "inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def public() -> Any:
    pool = descriptor_pool.DescriptorPool()
    for name in ("model_config_pb2", "service_pb2"):
        pool.AddSerializedFile(importlib.import_module(f"tritonclient.grpc.{name}").DESCRIPTOR.serialized_pb)
    return pool


def test_every_field_is_the_public_one(public: Any) -> None:
    for message in messages_of(OURS.FindFileByName("inference.proto")):
        theirs = {field.number: shape_of(field) for field in public.FindMessageTypeByName(message.full_name).fields}
        for field in message.fields:
            assert theirs[field.number] == shape_of(field), field.full_name


def test_every_value_is_the_public_one(public: Any) -> None:
    file = OURS.FindFileByName("inference.proto")
    enums = [*file.enum_types_by_name.values(), *(enum for each in messages_of(file) for enum in each.enum_types)]
    for enum in enums:
        theirs = public.FindEnumTypeByName(enum.full_name).values_by_name
        for value in enum.values:
            assert theirs[value.name].number == value.number, value.name


def test_every_method_is_the_public_one(public: Any) -> None:
    assert methods_of(OURS.FindServiceByName(SERVICE)) <= methods_of(public.FindServiceByName(SERVICE))
