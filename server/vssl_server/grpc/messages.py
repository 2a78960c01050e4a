"""What a call of ModelInfer holds, in the types that HTTP's requests have too."""

from collections.abc import Sequence

from vssl_server.grpc.calls import Message
from vssl_server.inference_v2.protocol import check_parameters, requested_outputs
from vssl_server.models.deadline import from_microseconds
from vssl_server.wire.json_body import MAX_ELEMENTS
from vssl_server.wire.tensors import Tensor, invalid


def timeout_of(request: Message) -> float | None:
    """The parameter `timeout` in seconds; None where there is none."""
    if "timeout" not in request.parameters:
        return None
    value = request.parameters["timeout"]
    return from_microseconds(getattr(value, value.WhichOneof("parameter_choice") or "int64_param"))


def outputs_of(request: Message) -> Sequence[str]:
    """The outputs to answer; ApiError 400 where one is not known."""
    if len(request.outputs) > MAX_ELEMENTS:
        raise invalid(f"over {MAX_ELEMENTS} outputs")
    for output in request.outputs:
        check_parameters(output.name, output.parameters)
    return requested_outputs([output.name for output in request.outputs])


def tensors_of(request: Message) -> list[Tensor]:
    """The inputs, in their typed fields or as raw bytes; ApiError 400 where they don't fit together."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise invalid(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs")
    if len(request.inputs) > MAX_ELEMENTS or any(len(given.shape) > MAX_ELEMENTS for given in request.inputs):
        raise invalid(f"over {MAX_ELEMENTS} inputs, or an input of over {MAX_ELEMENTS} dimensions")
    tensors = []
    for index, given in enumerate(request.inputs):
        check_parameters(given.name, given.parameters)
        values = given.contents.bytes_contents if given.datatype == "BYTES" else given.contents.uint_contents
        data = raw[index] if raw else values
        tensors.append(Tensor(given.name, given.datatype, list(given.shape), data))
    return tensors
