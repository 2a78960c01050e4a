"""A name for each request, in the server's log and on the error that the request causes."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from vssl_client.errors import ClientError

REQUEST_ID = "x-request-id"


@contextmanager
def traced() -> Iterator[str]:
    """A new request's id. A ClientError that leaves the block carries it."""
    request_id = uuid.uuid4().hex
    try:
        yield request_id
    except ClientError as error:
        error.request_id = request_id
        raise
