"""Cutting a form's parts out of its body: Starlette's parser is the judge; a form that was cut short is refused."""

import asyncio
import re
from collections.abc import AsyncGenerator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.testclient import TestClient

from tests.server.conftest import png
from vssl_server.wire.errors import ApiError
from vssl_server.wire.multipart import Part, parse_form

KIND = "multipart/form-data; boundary=x"
HEAD = b'Content-Disposition: form-data; name="images"; filename="a.jpg"'


def judged(content_type: str, body: bytes) -> list[Part] | None:
    """What Starlette's parser finds, or None where it refuses."""

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    async def parse() -> list[Part]:
        parser = MultiPartParser(Headers({"content-type": content_type}), whole())
        form = await parser.parse()
        try:
            return [
                Part(name, part.filename, await part.read())
                if isinstance(part, UploadFile)
                else Part(name, None, part.encode())
                for name, part in form.multi_items()
            ]
        finally:
            for file in parser._files_to_close_on_error:  # the form lacks those whose end has not come
                file.close()

    try:
        return asyncio.run(parse())
    except MultiPartException:
        return None


def found(content_type: str, body: bytes) -> list[Part] | None:
    try:
        return parse_form(content_type, body, 100)
    except ApiError as error:
        return None if (error.status, error.code) == (400, "invalid_multipart") else []


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
    parts, truth = found(KIND, body), judged(KIND, body)
    if parts is not None and truth is not None:
        files = [part.data for part in parts if part.filename is not None]
        assert files == [part.data for part in truth if part.filename is not None] or b"filename*" in body
        assert len(parts) == len(truth)


names = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
forms = st.lists(
    st.tuples(names, names, st.binary(max_size=40), st.sampled_from([b"", b"\r\nContent-Type: image/jpeg"]))
)


def written(parts: list[tuple[str, str, bytes, bytes]], boundary: str, end: bytes = b"\r\n") -> bytes:
    body = b""
    for name, filename, data, kind in parts:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"'
        body += head.encode() + kind + b"\r\n\r\n" + data + b"\r\n"
    return body + f"--{boundary}--".encode() + end


@settings(max_examples=300, deadline=None)
@given(
    forms,
    st.sampled_from(["x", "----WebKitFormBoundary7MA4YWxk", "a'()+_,-./:=?", "=_0"]),
    st.sampled_from(["boundary={}", 'boundary="{}"', "boundary={}; charset=utf-8", "charset=utf-8; boundary={}"]),
    st.sampled_from([b"", b"\r\n", b"\r\nmore"]),
)
def test_a_form_with_any_names_and_data(
    parts: list[tuple[str, str, bytes, bytes]], boundary: str, parameter: str, end: bytes
) -> None:
    body = written(parts, boundary, end)
    content_type = "multipart/form-data; " + parameter.format(boundary)
    plain = all(not re.search(r'["\\]|=\?', name + filename) for name, filename, _, _ in parts)
    if plain and body.count(f"--{boundary}".encode()) == len(parts) + 1:
        assert found(content_type, body) == [Part(name, filename, data) for name, filename, data, _ in parts]
        assert found(content_type, body) == judged(content_type, body) or not parts


@settings(max_examples=100, deadline=None)
@given(forms, st.sampled_from(["x", "----WebKitFormBoundary7MA4YWxk"]))
@example(
    [("images", "a.jpg", b"one", b""), ("images", "b.jpg", b"two", b"\r\nX-Other: 1"), ("images", "c", b"", b"")], "x"
)
def test_a_form_that_is_cut_short_anywhere_is_an_error_or_whole(
    parts: list[tuple[str, str, bytes, bytes]], boundary: str
) -> None:
    body, content_type = written(parts, boundary), f"multipart/form-data; boundary={boundary}"
    whole = found(content_type, body)
    for at in range(len(body)):
        assert found(content_type, body[:at]) in (None, whole)


def test_a_client_is_told_of_a_form_that_is_cut_short(client: TestClient) -> None:
    """Without the closing boundary, and in the last image: two of three images must not be the answer."""
    body = written([("images", f"{shade}.png", png(shade), b"") for shade in (1, 2, 3)], "x")
    assert len(client.post("/v1/embed", content=body, headers={"Content-Type": KIND}).json()["data"]) == 3
    for broken in (body[: -len(b"--x--\r\n")], body[:-4], body[: body.rindex(b"IEND")], body[: len(body) // 3]):
        answer = client.post("/v1/embed", content=broken, headers={"Content-Type": KIND})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_multipart")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("filename*=UTF-8''%e2%82%ac%20b.jpg", "€ b.jpg"),
        ("filename*=iso-8859-1'de'%e4.jpg", "ä.jpg"),
        ("filename=a.jpg; filename*=utf-8''%c3%a4.jpg", "a.jpg"),
        ('filename="=?UTF-8?B?w6QucG5n?="', "ä.png"),
        ('filename="=?utf-8?q?a=20b?= c"', "a b c"),
        ('filename="=?unicode_escape?q?=5Cud800?="', "?"),
        ('filename="=?nothing?q?a?="', "=?nothing?q?a?="),
        ('filename="=?utf-8?b?a?="', "=?utf-8?b?a?="),
        ('filename="=?utf-8?q?=ff?="', "=?utf-8?q?=ff?="),
        ('filename="a;\\"b.png"', 'a;"b.png'),
    ],
)
def test_names_in_other_forms(given: str, read: str) -> None:
    body = f'--x\r\nContent-Disposition: form-data; name="images"; {given}\r\n\r\ndata\r\n--x--\r\n'.encode()
    assert parse_form(KIND, body, 1) == [Part("images", read, b"data")]


def test_more_parts_than_allowed_are_not_cut() -> None:
    body = (b"--x\r\n" + HEAD + b"\r\n\r\ndata\r\n") * 3 + b"--x--\r\n"
    assert parse_form(KIND, body, 3) == [Part("images", "a.jpg", b"data")] * 3
    assert parse_form(KIND, body, 2) is None


def test_a_header_before_the_disposition_and_a_name_beyond_ascii(client: TestClient) -> None:
    head = 'Content-Type: image/png\r\nContent-Disposition: form-data; name="images"; filename="ä.png"'
    body = f"--x\r\n{head}\r\n\r\n".encode() + png(7) + b"\r\n--x--\r\n"
    answer = client.post("/v1/embed", content=body, headers={"Content-Type": KIND})
    assert [item["name"] for item in answer.json()["data"]] == ["ä.png"]
