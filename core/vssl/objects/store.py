"""The store of an address, opened once in a process, and its errors in one line."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from errno import EACCES, ECONNABORTED, EEXIST, EIO, ENOENT
from functools import lru_cache
from pathlib import Path
from typing import Any

from vssl.errors import UsageError

RETRIES: Any = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
"""Of lost connections, 5xx, 429, and answers cut short: about six seconds of pauses."""

CLIENT: Any = {"timeout": "60s", "connect_timeout": "5s"}

WHERE = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
"""The variables that name the credentials of a store."""


@lru_cache(maxsize=64)
def open_store(store: str) -> Any:  # noqa: ANN401 — obstore's types are there only where it is installed
    """The store `s3://BUCKET`, `gs://BUCKET` or `https://HOST`.

    Credentials, region and endpoint come from the variables that the store's own tools read (`AWS_…`, `GOOGLE_…`); an
    address of the web is read without any.

    Raises:
        UsageError: obstore is not installed, or a variable means nothing to it.
    """
    try:
        from obstore import store as stores
        from obstore.exceptions import BaseError
    except ModuleNotFoundError as error:
        raise UsageError(f"{store}: needs {error.name}, which is not installed: pip install 'vssl[objects]'") from None
    scheme, _, name = store.partition("://")
    try:
        if scheme == "s3":
            return _s3(stores, name)
        if scheme == "gs":
            return stores.GCSStore(name, client_options=CLIENT, retry_config=RETRIES)
        client = {**CLIENT, "allow_http": scheme == "http"}
        return stores.HTTPStore.from_url(store, client_options=client, retry_config=RETRIES)  # type: ignore[arg-type]
    except BaseError as error:
        raise UsageError(f"{store}: can't be opened: {_reason(error, scheme)[1]}") from None


def _s3(stores: Any, bucket: str) -> Any:  # noqa: ANN401 — see `open_store`
    """A bucket of S3, or of what speaks its language at AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    client = {**CLIENT, "allow_http": bool(endpoint and endpoint.startswith("http://"))}
    file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser()
    if "AWS_PROFILE" in os.environ or ("AWS_ACCESS_KEY_ID" not in os.environ and file.is_file()):
        with suppress(ImportError):  # the files of AWS's tools are read by its own library
            from obstore.auth.boto3 import Boto3CredentialProvider

            options["credential_provider"] = Boto3CredentialProvider()
    return stores.S3Store(bucket, client_options=client, retry_config=RETRIES, **options)


@contextmanager
def told(address: str) -> Iterator[None]:
    """Errors of obstore as an `OSError` that names the address and the reason, and nothing else of what was sent.

    Raises:
        FileNotFoundError: there is no such object.
        FileExistsError: the object is there already, or has changed.
        PermissionError: access is denied.
        OSError: no answer, or not the one that was wanted. With the number EIO, it may pass.
    """
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(ENOENT, "no such object", address) from None
    except (BaseError, OSError) as error:
        number, reason = _reason(error, address.partition(":")[0])
        raise OSError(number, reason, address) from None  # its class follows from the number


def _reason(error: Exception, scheme: str) -> tuple[int, str]:
    """Number and line. The error's own text may hold keys, tokens and pages of XML: it is only searched."""
    text = str(error).partition("\n\nDebug source")[0]
    kind = type(error).__name__
    status = re.search(r"status code: (\d{3}(?: [A-Z][A-Za-z]*)*)", text)
    code = re.search(r"<Code>(\w{1,60})</Code>", text)
    answer = f"the store answers {status[1]}{f', {code[1]}' if code else ''}" if status else ""
    if kind in ("AlreadyExistsError", "PreconditionError", "NotModifiedError"):
        return EEXIST, "another process has written it meanwhile"
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or (status and status[1][:3] in ("401", "403")):
        credentials = f"; credentials come from {WHERE[scheme]}" if scheme in WHERE else ""
        return EACCES, f"access is denied ({answer or 'no credentials'}){credentials}"
    if code and code[1] == "NoSuchBucket":
        return ENOENT, "no such bucket"
    if status:
        return ECONNABORTED, answer
    if "169.254." in text or "metadata" in text or "credential" in text.lower():
        return EACCES, f"no credentials were found; they come from {WHERE.get(scheme, 'the environment')}"
    if "redirect" in text:
        return ECONNABORTED, "the bucket is in another region: set AWS_REGION"
    if kind == "InvalidPathError":
        key = re.search(r'parsing Path "(.*?)": ', text, re.DOTALL)
        return (
            ECONNABORTED,
            f"the key {key[1] if key else '?'!r} is no path (an empty name, . or .., or a control character)",
        )
    if "body" in text:
        return EIO, "the answer was cut short"
    if "timed out" in text:
        return ECONNABORTED, "no answer in time"
    if "not supported" in text.lower() or kind == "NotSupportedError":
        return ECONNABORTED, "the server does not give parts of a file, or does not say how long it is"
    return ECONNABORTED, "no answer: is the address right, and can it be reached from here?"
