"""The form parser gives what was sent, wherever the network cut it, and refuses the rest by name."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_fleet.gateway.multipart import MAX_FIELDS, MAX_HEADERS_BYTES, FieldEnd, FieldStart, FormError, FormParser

TYPE = "multipart/form-data; boundary=edge"
Field = tuple[str, str | None, bytes]

names = st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n', exclude_categories=["Cs"]), min_size=1)
nearly_delimiters = st.lists(st.sampled_from([b"\r\n--edg", b"\r\n", b"--", b"-", b"\r", b"\n--edge", b"x", b"e"]))
contents = st.binary(max_size=200) | nearly_delimiters.map(b"".join)
fields = st.lists(
    st.tuples(names, st.none() | names, contents.filter(lambda content: b"\r\n--edge" not in b"\r\n" + content)),
    max_size=6,
)


def encoded(form: Iterable[Field]) -> bytes:
    pieces: list[bytes] = []
    for name, filename, content in form:
        file = f'; filename="{filename}"' if filename is not None else ""
        pieces.append(
            f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return b"".join(pieces) + b"--edge--\r\n"


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return [body[start:end] for start, end in pairwise(edges)]


def parse(pieces: Iterable[bytes], content_type: str = TYPE) -> list[Field]:
    parser = FormParser(content_type)
    found: list[Field] = []
    name, filename, content = "", None, b""
    for piece in pieces:
        for event in parser.feed(piece):
            if isinstance(event, FieldStart):
                name, filename, content = event.name, event.filename, b""
            elif isinstance(event, FieldEnd):
                found.append((name, filename, content))
            else:
                content += event
    parser.finish()
    return found


@given(fields, st.lists(st.integers(min_value=0), max_size=12))
@example([("file", "a.jsonl", b"")], [])
def test_what_was_sent_is_found_wherever_the_body_is_cut(form: list[Field], places: list[int]):
    assert parse(cut(encoded(form), places)) == form


@given(fields)
def test_what_was_sent_is_found_byte_by_byte(form: list[Field]):
    assert parse(bytes([byte]) for byte in encoded(form)) == form


@given(
    st.binary(max_size=400)
    | st.lists(st.sampled_from([b"--edge", b"\r\n", b"--", b"name", b": ", b"\r\n\r\n"])).map(b"".join)
)
def test_no_other_body_makes_the_parser_fail_in_another_way(body: bytes):
    with suppress(FormError):
        parse([body])


@given(fields, st.integers(min_value=1))
def test_a_form_that_is_cut_short_is_refused(form: list[Field], missing: int):
    body = encoded(form)[: -len(b"--\r\n")]
    with pytest.raises(FormError):
        parse([body[: len(body) - missing % len(body)]])


def test_the_parser_holds_back_no_more_than_a_delimiter():
    parser = FormParser(TYPE)
    list(parser.feed(b'--edge\r\nContent-Disposition: form-data; name="file"\r\n\r\n'))
    sent = given_out = 0
    for _ in range(200):
        sent += 1000
        given_out += sum(len(event) for event in parser.feed(b"\r\n--edg" + b"x" * 993) if isinstance(event, bytes))
        assert sent - given_out < len(b"\r\n--edge")


def test_endless_headers_are_refused():
    with pytest.raises(FormError, match="longer than"):
        parse([b"--edge\r\n" + b"x" * (MAX_HEADERS_BYTES + 10)])


def test_too_many_fields_are_refused():
    with pytest.raises(FormError, match="more than 100 fields"):
        parse([encoded([("a", None, b"")] * (MAX_FIELDS + 1))])


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary="]
)
def test_a_content_type_without_a_boundary_is_refused(content_type: str):
    with pytest.raises(FormError):
        FormParser(content_type)


@pytest.mark.parametrize(
    "content_type", ['Multipart/Form-Data; charset=utf-8; boundary="edge"', "multipart/form-data;boundary=edge"]
)
def test_a_boundary_is_found_however_it_is_written(content_type: str):
    assert parse([encoded([("a", None, b"b")])], content_type) == [("a", None, b"b")]
