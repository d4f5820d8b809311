"""Our message classes against those that the clients bring: every field, and the same bytes."""

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2, service_pb2

from stoker.protocol import protobuf
from stoker.protocol.oip_messages import HEALTH, INFERENCE, REFLECTION, REFLECTION_ALPHA
from stoker.protocol.protobuf import File

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
PAIRS = [(INFERENCE, service_pb2), (HEALTH, health_pb2), (REFLECTION_ALPHA, reflection_pb2)]


def theirs(file: File, module: Any, name: str) -> type[Any]:
    found: Any = model_config_pb2 if name in ("ModelConfig", "ModelInput", "ModelOutput") else module
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def fields(descriptor: Descriptor) -> dict[str, tuple[Any, ...]]:
    return {
        each.name: (
            each.number,
            each.type,
            each.is_repeated,
            each.message_type.full_name if each.message_type else None,
            each.containing_oneof.name if each.containing_oneof else None,
        )
        for each in descriptor.fields
    }


@pytest.mark.parametrize(
    ("file", "module", "name"), [(file, module, name) for file, module in PAIRS for name in file.messages]
)
def test_every_field_has_the_number_and_type_of_the_public_protocol(file: File, module: Any, name: str) -> None:
    ours = fields(file.messages[name].DESCRIPTOR)
    reference = fields(theirs(file, module, name).DESCRIPTOR)
    assert {field: reference.get(field) for field in ours} == ours


def test_datatypes_of_the_configuration_have_the_public_numbers() -> None:
    ours = INFERENCE.messages["ModelInput"].DESCRIPTOR.fields_by_name["data_type"].enum_type
    assert {value.name: value.number for value in ours.values} == dict(model_config_pb2.DataType.items())


def test_every_method_has_the_types_and_directions_of_the_public_service() -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    for method in INFERENCE.methods.values():
        reference = service.methods_by_name[method.path.rpartition("/")[2]]
        assert method.path == f"/inference.GRPCInferenceService/{reference.name}"
        assert method.request.DESCRIPTOR.full_name == reference.input_type.full_name
        assert method.response.DESCRIPTOR.full_name == reference.output_type.full_name


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """Return one of Triton's requests with anything in it."""
    made = service_pb2.ModelInferRequest(
        model_name=draw(TEXTS),
        model_version=draw(TEXTS),
        id=draw(TEXTS),
        raw_input_contents=draw(st.lists(st.binary())),
    )
    for name in draw(st.lists(TEXTS, max_size=3)):
        tensor = made.inputs.add(name=name, datatype="FP32", shape=draw(st.lists(st.integers(-(2**63), 2**63 - 1))))
        tensor.contents.int_contents.extend(draw(st.lists(st.integers(-(2**31), 2**31 - 1))))
        tensor.contents.uint64_contents.extend(draw(st.lists(st.integers(0, 2**64 - 1))))
        tensor.contents.fp32_contents.extend(draw(st.lists(st.floats(width=32))))
        tensor.contents.bytes_contents.extend(draw(st.lists(st.binary())))
        made.outputs.add(name=name).parameters["double"].double_param = draw(st.floats())
    for name in draw(st.lists(TEXTS, max_size=2)):
        made.parameters[name].string_param = draw(TEXTS)
    return made


@settings(max_examples=50)
@given(requests())
def test_what_their_classes_write_ours_read_and_write_as_the_same_bytes(request: Any) -> None:
    data = request.SerializeToString(deterministic=True)
    ours: Any = INFERENCE.messages["ModelInferRequest"].FromString(data)
    assert ours.SerializeToString(deterministic=True) == data
    assert list(ours.DESCRIPTOR.fields_by_name) == list(request.DESCRIPTOR.fields_by_name)


def test_both_versions_of_reflection_are_alike() -> None:
    assert {name: list(kind.DESCRIPTOR.fields_by_name) for name, kind in REFLECTION.messages.items()} == {
        name: list(kind.DESCRIPTOR.fields_by_name) for name, kind in REFLECTION_ALPHA.messages.items()
    }
    assert REFLECTION.services == ("grpc.reflection.v1.ServerReflection",)


@pytest.mark.parametrize(
    "text", ["package p; message M { Nobody x = 1; }", "option x;", "package p; message M { int64 x = y; }", "message"]
)
def test_text_that_is_no_proto_is_refused(text: str) -> None:
    with pytest.raises((ValueError, StopIteration)):
        protobuf.load("x.proto", text)
