"""A real server on the loopback address with OpenAI's API, correct or faulty."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "tiny-vision"
BAD: dict[str, tuple[Any, ...]] = {
    "broken": (500, {"error": "out of memory"}),
    "empty": (200, {"choices": []}),
    "refuses": (400, {"error": {"message": "pictures are not taken"}}),
    "error": (200, {"error": {"message": "the model is being loaded"}}),
    "declines": (200, {"choices": [{"message": {"content": None, "refusal": "I cannot\nhelp with that"}}]}),
}


@dataclass
class Endpoint:
    """The behaviour of the server, and the requests it received.

    Attributes:
        moods: the behaviour for the next chat requests, in order: ``ok``, ``busy`` (429), ``broken`` (500),
            ``garbage``, ``empty`` (no choices), ``late``, ``refuses`` (400), ``rude`` (401 that repeats the key),
            ``error`` (200 with an error), ``declines`` (a refusal); then ``always``.
        refused: parameters that requests must not have.
        most_logprobs: the largest ``top_logprobs``.
        after: the values of ``Retry-After`` of the next 429s; then ``0``.
        logprobs: log-probabilities of first tokens, if it returns them.
        finish, content: why a completion ends, and its text in place of the usual one.
        asked: the bodies of the chat requests.
        keys: the Authorization header of each request.
    """

    address: str = ""
    moods: list[str] = field(default_factory=list)
    always: str = "ok"
    logprobs: dict[str, float] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": MODEL, "object": "model"}])
    listing: str = "ok"
    after: list[str] = field(default_factory=list)
    refused: tuple[str, ...] = ()
    most_logprobs: int = 20
    finish: str = "stop"
    content: str | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    freed: threading.Event = field(default_factory=threading.Event)

    @property
    def ref(self) -> str:
        return f"openai:{self.address}#{MODEL}"

    def mood(self) -> str:
        with self.lock:
            return self.moods.pop(0) if self.moods else self.always


def answer(body: dict[str, Any], logprobs: dict[str, float]) -> dict[str, Any]:
    """The prompt and the SHA-256 of each image's bytes, so that a test can check the request."""
    content = body["messages"][0]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    pictures = [base64.b64decode(p["image_url"]["url"].partition(",")[2]) for p in parts if p["type"] == "image_url"]
    said = [hashlib.sha256(p).hexdigest()[:8] for p in pictures] + [p["text"] for p in parts if p["type"] == "text"]
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": "1. " + " | ".join(said)}}
    if logprobs and body.get("logprobs"):
        likely = [{"token": token, "logprob": value} for token, value in logprobs.items()]
        choice["logprobs"] = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": likely}]}
    return {"choices": [choice], "usage": {"prompt_tokens": 7 + len(pictures), "completion_tokens": 3}}


@contextmanager
def endpoint(**settings: Any) -> Iterator[Endpoint]:  # noqa: C901 a server with all behaviours, in one place
    """The server, running in a thread until the end of the block."""
    state = Endpoint(**settings)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            state.keys.append(self.headers.get("authorization", ""))
            if state.listing == "garbage":
                self.send(200, b"<html>hello</html>")
            elif state.listing == "bare":
                self.say(200, state.models)
            elif state.listing == "key":
                self.say(401, {"error": {"message": f"bad key {state.keys[-1]}"}})
            else:
                self.say(200, {"object": "list", "data": state.models})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.keys.append(self.headers.get("authorization", ""))
            state.asked.append(body)
            mood = state.mood()
            refused = next((name for name in state.refused if name in body), None)
            if refused or body.get("top_logprobs", 0) > state.most_logprobs:
                name = refused or "top_logprobs"
                self.say(400, {"error": {"message": f"Unsupported value: '{name}' is not accepted", "param": name}})
            elif mood == "busy":
                after = state.after.pop(0) if state.after else "0"
                self.say(429, {"error": {"message": "too many requests"}}, {"retry-after": after})
            elif mood in BAD:
                self.say(*BAD[mood])
            elif mood == "rude":
                self.say(401, {"error": {"message": f"bad key {state.keys[-1]}"}})
            elif mood == "garbage":
                self.send(200, b"<html>proxy</html>")
            elif mood == "late":
                state.freed.wait(20)
                self.close_connection = True
            elif mood == "new" and "max_tokens" in body:
                self.say(400, {"error": {"message": "use max_completion_tokens instead"}})
            else:
                reply = answer(body, state.logprobs)
                reply["choices"][0]["finish_reason"] = state.finish
                if state.content is not None:
                    reply["choices"][0]["message"]["content"] = state.content
                self.say(200, reply)

        def say(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
            self.send(status, json.dumps(body).encode(), headers)

        def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.freed.set()
        server.shutdown()
        server.server_close()
        thread.join()
