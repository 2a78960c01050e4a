"""Cutting a form's files out of its body: Starlette's parser is the judge."""

import asyncio
import re
from collections.abc import AsyncGenerator

from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException
from starlette.testclient import TestClient

from tests.server.conftest import png
from vssl_server.multipart import File, cut
from vssl_server.request import InMemoryParser

KIND = "multipart/form-data; boundary=x"
HEAD = b'Content-Disposition: form-data; name="images"; filename="a.jpg"'


def judged(content_type: str, body: bytes) -> list[File | tuple[str, str]] | None:
    """What Starlette's parser finds, or None where it refuses."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    async def parse() -> list[File | tuple[str, str]]:
        form = await InMemoryParser(Headers({"content-type": content_type}), whole()).parse()
        try:
            return [
                File(name, part.filename or "", await part.read()) if isinstance(part, UploadFile) else (name, part)
                for name, part in form.multi_items()
            ]
        finally:
            await form.close()

    try:
        return asyncio.run(parse())
    except MultiPartException:
        return None


PIECES = [
    *(b"--", b"--x", b"\r\n--x", b"\r\n--x\r\n", b"\r\n--x--", b"\r\n--x--\r\n", b"--x\r\n" + HEAD + b"\r\n\r\ndata"),
    *(b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"-", b"x", b"y", b'"', b"\\", b";", b": ", b"%22", b"\xc3\xa4"),
    *(HEAD, HEAD + b"\r\n\r\n", b'Content-Disposition: form-data; name="images"\r\n\r\n', b"filename*=UTF-8''b.jpg"),
    *(b"Content-Disposition: form-data; name=", b'"images"; filename="'),
    *(b"Content-Type: image/jpeg", b"\r\nContent-Type: image/png\r\n\r\n"),
]  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3)), max_size=12).map(b"".join))
@example(b"--x--\r\n")
@example(b"--x--")
@example(b"--x\r\n" + HEAD + b"\r\n\r\n--x--\r\n")
@example(b"--x\r\n" + HEAD + b"\r\n\r\na\r\n--xy\r\n--x-- \r\n--x--\r\n")
@example(b"--x\r\n" + HEAD + b"\r\n\r\na\r\n--x--\r\nepilogue")
def test_what_is_cut_out_of_any_body_is_what_the_parser_finds(body: bytes) -> None:
    found = cut(KIND, body, 100)
    assert found is None or found == judged(KIND, body)


names = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(names, names, st.binary(max_size=40), st.sampled_from([b"", b"\r\nContent-Type: image/jpeg"]))),
    st.sampled_from(["x", "----WebKitFormBoundary7MA4YWxk", "a'()+_,-./:=?", "=_0"]),
    st.sampled_from(["boundary={}", 'boundary="{}"', "boundary={}; charset=utf-16", "charset=utf-8; boundary={}"]),
    st.sampled_from([b"", b"\r\n", b"\r\nmore"]),
)
def test_a_form_with_any_names_and_data(
    parts: list[tuple[str, str, bytes, bytes]], boundary: str, parameter: str, end: bytes
) -> None:
    body = b""
    for name, filename, data, kind in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"'
        body += head.encode() + kind + b"\r\n\r\n" + data + b"\r\n"
    body += f"--{boundary}--".encode() + end
    content_type = "multipart/form-data; " + parameter.format(boundary)
    found = cut(content_type, body, 100)
    assert found is None or found == judged(content_type, body)
    plain = all(not re.search(r'["\\]', name + filename) for name, filename, _, _ in parts)
    delimiter = f"--{boundary}".encode()
    if plain and "charset" not in parameter and end != b"\r\nmore" and body.count(delimiter) == len(parts) + 1:
        assert found == [File(name, filename, data) for name, filename, data, _ in parts]


def test_more_files_than_allowed_are_left_to_the_parser() -> None:
    body = (b"--x\r\n" + HEAD + b"\r\n\r\ndata\r\n") * 3 + b"--x--\r\n"
    assert cut(KIND, body, 3) == [File("images", "a.jpg", b"data")] * 3
    assert cut(KIND, body, 2) is None


def test_a_header_before_the_disposition_and_a_name_beyond_ascii(client: TestClient) -> None:
    head = 'Content-Type: image/png\r\nContent-Disposition: form-data; name="images"; filename="ä.png"'
    body = f"--x\r\n{head}\r\n\r\n".encode() + png(7) + b"\r\n--x--\r\n"
    answer = client.post("/v1/embed", content=body, headers={"Content-Type": KIND})
    assert [item["name"] for item in answer.json()["data"]] == ["ä.png"]
