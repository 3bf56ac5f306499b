"""Hostile uploads: none gets through, none takes the server down, and the good pictures beside them are described."""

from __future__ import annotations

import base64
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.testclient import TestClient
from tests.support.images import solid_image

from clerestory.stages.serve.inference_queue import InferenceQueue, Overloaded, Place
from clerestory.web.uploads import MAX_IMAGE_BYTES, file_name

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def bomb(side: int = 30_000) -> bytes:
    """A PNG of a few kilobytes that claims 900 megapixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


HOSTILE = {
    "SVG": (SVG, 415, "not a JPEG, PNG or WEBP"),
    "HTML named .png": (b"<!doctype html><script>alert(1)</script>", 415, "not a JPEG, PNG or WEBP"),
    "GIF": (b"GIF89a" + b"\0" * 100, 415, "not a JPEG, PNG or WEBP"),
    "truncated": (solid_image(size=(200, 200))[:120], 400, "damaged or truncated"),
    "only a head": (b"\x89PNG\r\n\x1a\n", 400, "damaged or truncated"),
    "bomb": (bomb(), 413, "more than 25 megapixels"),
    "too many bytes": (solid_image() + b"\0" * MAX_IMAGE_BYTES, 413, "larger than 10 MB"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_api_answers_a_hostile_picture_with_a_typed_error(client: TestClient, kind: str) -> None:
    content, status, said = HOSTILE[kind]
    uri = "data:image/png;base64," + base64.b64encode(content).decode()
    answer = client.post("/v1/embeddings", json={"input": ["cat", uri]})
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
    assert "input[1]" in answer.json()["error"]["message"]


def test_the_form_names_every_bad_file_and_goes_on_with_the_good_ones(client: TestClient) -> None:
    files = [("images", ("first.png", solid_image(), "image/png"))]
    files += [("images", (f"{kind}.png", content, "image/png")) for kind, (content, _, _) in HOSTILE.items()]
    files += [
        ("images", ("empty.png", b"", "image/png")),
        ("images", ("last.jpg", solid_image(kind="JPEG"), "image/jpeg")),
    ]
    page = client.post("/describe", files=files)
    assert page.status_code == 200
    assert "8 of 10 files were not read" in page.text
    for kind, (_, _, said) in HOSTILE.items():
        assert f"<b>{kind}.png</b>: " in page.text
        assert said in page.text
    assert "<b>empty.png</b>: the file is empty" in page.text
    assert 'id="name-1">first.png' in page.text
    assert 'id="name-2">last.jpg' in page.text
    assert "<script>alert" not in page.text


def test_pictures_beyond_the_bound_are_named(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clerestory.web.describe.MAX_IMAGES", 2)
    small = solid_image(size=(4, 4))
    page = client.post("/describe", files=[("images", (f"{i}.png", small)) for i in range(3)])
    assert "<b>2.png</b>: one upload has at most 2 pictures" in page.text
    assert 'id="name-2"' in page.text


def test_a_form_without_a_picture_says_so(client: TestClient) -> None:
    answer = client.post("/describe", files=[("images", ("", b""))])
    assert answer.status_code == 400
    assert "No picture was chosen" in answer.text


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"", 415),
        ("multipart/form-data; boundary=x", b"", 400),
        ("multipart/form-data; boundary=x", b"nonsense", 400),
        ("multipart/form-data; boundary=x", b"--x\r\nno header at all", 400),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\ncut', 400),
        ("multipart/form-data; boundary=" + "x" * 300, b"", 400),
    ],
)
def test_a_broken_form_is_a_readable_400(client: TestClient, kind: str, body: bytes, status: int) -> None:
    answer = client.post("/describe", content=body, headers={"content-type": kind})
    assert answer.status_code == status
    assert "<h1>" in answer.text


def test_a_form_with_too_many_fields_is_refused(client: TestClient) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    answer = client.post(
        "/describe", content=part * 500 + b"--x--\r\n", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("cat.png", "cat.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\cat.png", "cat.png"),
        ("a\x00b\n\u202ec.png", "abc.png"),
        ("", "picture"),
        ("holiday/beach/1.jpg", "holiday/beach/1.jpg"),
        ("holiday/../../1.jpg", "1.jpg"),
        ("/etc/passwd", "passwd"),
        ("x" * 500, "x" * 120),
    ],
)
def test_a_file_name_is_only_a_name(given: str, kept: str) -> None:
    assert file_name(given) == kept


# On a real socket: what the declared length says must not matter.


def talk(base: str, head: str, body: bytes = b"", close: bool = False) -> bytes:
    """Send bytes as they are; the answer until the server closes, or empty when nothing came."""
    place = urlsplit(base)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=20) as plug:
        try:
            plug.sendall(head.replace("\n", "\r\n").encode() + body)
            if close:
                plug.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the server may hang up before everything is sent; the answer is what counts
        answer = b""
        try:
            while piece := plug.recv(65536):
                answer += piece
        except OSError:
            pass
        return answer


def head(base: str, path: str, *more: str) -> str:
    host = urlsplit(base).netloc
    return "\n".join([f"POST {path} HTTP/1.1", f"Host: {host}", f"Origin: {base}", "Connection: close", *more, "", ""])


def test_a_huge_stream_without_a_length_is_cut_off(server: str) -> None:
    sent = 0

    def endless() -> object:
        nonlocal sent
        yield b'{"input": "'
        while sent < 400_000_000:
            sent += 1_000_000
            yield b"x" * 1_000_000

    with httpx.Client(base_url=server) as client:
        try:
            kind = {"content-type": "application/json"}
            answer = client.post("/v1/embeddings", content=endless(), headers=kind)  # type: ignore[arg-type]  # bytes
            assert answer.status_code == 413
        except httpx.TransportError:
            pass  # hung up on while still sending: just as good, if it came early enough
        assert sent < 100_000_000
        assert client.get("/healthz").status_code == 200


def test_a_length_that_is_too_large_does_not_keep_the_server(server: str) -> None:
    kind = "Content-Type: application/json"
    answer = talk(server, head(server, "/v1/embeddings", kind, "Content-Length: 9999"), b'{"input": "cat"}', close=True)
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert httpx.get(f"{server}/healthz").status_code == 200


def test_a_length_that_is_too_small_does_not_smuggle(server: str) -> None:
    kind = "Content-Type: application/json"
    answer = talk(server, head(server, "/v1/embeddings", kind, "Content-Length: 5"), b'{"input": "cat"}')
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert httpx.get(f"{server}/healthz").status_code == 200


def test_a_form_that_ends_early_is_refused(server: str) -> None:
    kind = "Content-Type: multipart/form-data; boundary=x"
    body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + solid_image()
    answer = talk(server, head(server, "/describe", kind, "Content-Length: 99999"), body, close=True)
    assert b" 303 " not in answer.split(b"\r\n")[0]
    assert httpx.get(f"{server}/healthz").status_code == 200


def test_a_large_file_in_a_form_is_counted_and_not_kept(server: str) -> None:
    files = [
        ("images", ("large.png", solid_image() + b"\0" * (3 * MAX_IMAGE_BYTES))),
        ("images", ("fine.png", solid_image())),
    ]
    answer = httpx.post(
        f"{server}/describe", files=files, headers={"origin": server}, follow_redirects=True, timeout=60
    )
    assert "<b>large.png</b>: the file is larger than 10 MB" in answer.text
    assert 'id="name-1">fine.png' in answer.text


@pytest.mark.parametrize(("places", "status"), [(1, 200), (0, 429)])
def test_a_queue_that_fills_up_during_an_upload_keeps_what_is_described(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, places: int, status: int
) -> None:
    class Filling(InferenceQueue):
        """Full once it has admitted ``places`` requests."""

        @contextmanager
        def admit(self, timeout: float | None = None) -> Iterator[Place]:
            nonlocal places
            places -= 1
            if places < 0:
                raise Overloaded("requests", retry_after=3)
            with super().admit(timeout) as place:
                yield place

    state = client.app.state.server  # type: ignore[attr-defined]  # behind the ASGI type
    filling = Filling()
    monkeypatch.setattr(state, "queue", filling)
    answer = client.post("/describe", files=[("images", (f"{i}.png", solid_image())) for i in range(3)])
    filling.close()
    assert answer.status_code == status
    if status == 200:
        assert 'id="name-1">0.png' in answer.text
        assert "2 files: the server is busy" in answer.text
        assert "<li>1.png</li><li>2.png</li>" in answer.text
    else:
        assert answer.headers["retry-after"] == "3"
