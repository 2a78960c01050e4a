"""Which model answers."""

from dataclasses import dataclass, field

from vssl.images.decoding import Preprocessing


@dataclass(frozen=True)
class ModelInfo:
    """The model: `id` is its bundle's hash, `dimension` is D, `size` the side of its input in pixels.

    `preprocessing` makes this input of an image. `max_images`, `max_body_bytes` and `max_request_pixels` are the
    server's limits for one request. `encoder_id` names the encoder, whose vectors can be compared. `precision` is that
    of a model in this process. `takes_pixels`: the server answers pixels as fully as files. None is what the server
    does not tell.
    """

    name: str
    version: str
    id: str
    dimension: int
    size: int
    preprocessing: Preprocessing | None = None
    # Servers of one model may differ in these.
    max_images: int | None = field(default=None, compare=False)
    max_body_bytes: int | None = field(default=None, compare=False)
    max_request_pixels: int | None = field(default=None, compare=False)
    encoder_id: str | None = field(default=None, compare=False)
    precision: str | None = field(default=None, compare=False)
    takes_pixels: bool = field(default=False, compare=False)
