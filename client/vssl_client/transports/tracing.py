"""A name for each request, which the server's log has too, on whatever error comes of it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from vssl_client.errors import ClientError

REQUEST_ID = "x-request-id"


@contextmanager
def traced() -> Iterator[str]:
    """A new request's id; an error that leaves the block has it."""
    request_id = uuid.uuid4().hex
    try:
        yield request_id
    except ClientError as error:
        error.request_id = request_id
        raise
