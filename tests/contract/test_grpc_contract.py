"""The files of sdk/contract/grpc, the descriptors made of them, and the public protocols agree."""

from typing import Any

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from penstock.control.grpc import contract
from tests.grpc_contract import OURS, compiled, files_of, messages_of, methods_of, shape_of


def assert_part_of(ours: Any, public: Any) -> None:
    """Every message, field, value and method of ours is one of the public file's."""
    theirs = {message.full_name: message for message in messages_of(public)}
    for message in messages_of(ours):
        numbers = {field.number: shape_of(field) for field in theirs[message.full_name].fields}
        for field in message.fields:
            assert numbers[field.number] == shape_of(field), field.full_name
        for enum in message.enum_types:
            known = theirs[message.full_name].enum_types_by_name[enum.name].values_by_number
            assert {value.number: value.name for value in enum.values}.items() <= {
                number: value.name for number, value in known.items()
            }.items()
    for name, service in ours.services_by_name.items():
        assert methods_of(service) <= methods_of(public.services_by_name[name])


def test_descriptors_are_what_the_files_give() -> None:
    assert files_of(contract.DESCRIPTORS.read_bytes()) == files_of(compiled()), "run `make grpc-contract`"


def test_reflection_is_the_public_one() -> None:
    assert_part_of(OURS.FindFileByName("reflection_v1alpha.proto"), reflection_pb2.DESCRIPTOR)
    newer = OURS.FindFileByName("reflection.proto")
    older = OURS.FindFileByName("reflection_v1alpha.proto")
    assert [m.name for m in messages_of(newer)] == [m.name for m in messages_of(older)]
    for one, other in zip(messages_of(newer), messages_of(older), strict=True):
        assert [(f.number, f.name, f.type) for f in one.fields] == [(f.number, f.name, f.type) for f in other.fields]


def test_health_is_the_public_one() -> None:
    ours, public = OURS.FindFileByName("health.proto"), health_pb2.DESCRIPTOR
    for name, message in public.message_types_by_name.items():
        known = {field.number: shape_of(field) for field in message.fields}
        assert known == {field.number: shape_of(field) for field in ours.message_types_by_name[name].fields}
    listing = {"List"}  # which older releases of the client do not have
    assert {row for row in methods_of(ours.services_by_name["Health"]) if row[0] not in listing} == {
        row for row in methods_of(public.services_by_name["Health"]) if row[0] not in listing
    }
