"""Any endpoint that speaks OpenAI's API: vLLM, llama.cpp, Ollama, a hosted service, another Clerestory server.

Pictures are sent as PNG ``data:`` URLs. What a remote model is cannot be pinned: its digest covers what is known of it.
"""

from __future__ import annotations

import base64
import io
import math
import re
import string
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from clerestory.core.digest import digest
from clerestory.core.errors import CapabilityError, InputError, not_found
from clerestory.models.adapters.http_client import FORM, KEYS, HttpClient, HttpReply, RetryPolicy
from clerestory.models.adapters.loading import rgb
from clerestory.models.clip_scorer import log_softmax
from clerestory.models.protocols import CaptionCandidate, GenerationRequest, Matrix, Reply, Scores, check_items

PREFIX = "openai:"
PARALLEL = 4
INPUTS = 32  # pictures or texts in one request for embeddings
LETTERS = string.ascii_uppercase[:20]  # as many as endpoints tell the probabilities of
DESCRIBE = "Write {n} different short captions for this picture, one per line, without numbers or quotes."
CHOOSE = "{question}\n{options}\nAnswer with the letter of the right option only."
NO_LETTER = "the endpoint listed none of the options' letters"
NOT_PINNED = "the weights behind an endpoint cannot be pinned: it may answer with another model at any time"
BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s*")


class Endpoint:
    """A ``Generator`` and a ``Captioner`` behind an address; asks a few questions at a time, safe from several threads.

    Args:
        wire: the connection.
        model: its name there.

    Attributes:
        host: where pictures are sent.
        trouble: why something of the last call got no description or no scores; empty when all went well.
    """

    def __init__(self, wire: HttpClient, model: str) -> None:
        self.wire, self.model, self.host = wire, model, wire.host
        self.digest = _address(wire, model, DESCRIBE, CHOOSE)
        self.last_error = ""
        self._limit = "max_tokens"

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Reply]:
        """One reply for each request; what still fails after the retries is told in its ``error``."""
        if not requests:
            return []
        with ThreadPoolExecutor(max_workers=min(PARALLEL, len(requests))) as threads:
            return list(threads.map(self._answer, requests))

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        """Up to ``n`` distinct captions for each picture; an endpoint does not tell how sure it is (NaN)."""
        if n < 1:
            raise CapabilityError(f"{n} suggestions were asked for", "ask for at least one")
        replies = self.generate([GenerationRequest(DESCRIBE.format(n=n), (image,), 40 * n) for image in images])
        self.last_error = next((reply.error for reply in replies if reply.error), "")
        return [[CaptionCandidate(line, math.nan) for line in _lines(reply.text)[:n]] for reply in replies]

    def facts(self) -> dict[str, str]:
        """What is known of it, in short strings."""
        return {
            "kind": "OpenAI-compatible endpoint",
            "endpoint": self.wire.base,
            "model": self.model,
            "pinned": NOT_PINNED,
            "describe": DESCRIBE,
            "blind": "without an image the message holds words only",
        }

    def chat(self, request: GenerationRequest, retries: int | None = None, **more: Any) -> HttpReply:
        """One chat completion, as the endpoint gives it."""
        limited = more | {self._limit: request.max_tokens, "temperature": request.temperature}
        body = {"model": self.model, "messages": [_message(request)], **limited}
        answer = self.wire.post("chat/completions", body, retries)
        if answer.status == 400 and "max_completion_tokens" in answer.problem and self._limit == "max_tokens":
            self._limit = "max_completion_tokens"  # newer models of the service that made this API want this name
            return self.chat(request, retries, **more)
        return answer

    def _answer(self, request: GenerationRequest) -> Reply:
        started = time.perf_counter()
        answer = self.chat(request)
        milliseconds = (time.perf_counter() - started) * 1e3
        text, problem = ("", answer.problem) if answer.problem else _words(answer.body)
        usage = answer.body.get("usage")
        told = usage if isinstance(usage, Mapping) else {}
        tokens_in, tokens_out = (_count(told.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        return Reply(text, tokens_in, tokens_out, milliseconds, problem)


class ScoringEndpoint(Endpoint):
    """An ``Endpoint`` that tells the probabilities of its tokens, and so is a ``Scorer`` too."""

    order_matters = True

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options: of their letters as the first word of the answer.

        A letter the endpoint does not list gets the probability of the least likely token that it does list, which is
        the most it can have. An item without an answer, or without any of its letters, is all NaN.

        Raises:
            InputError: the numbers of items differ, or an item has no options or more than 20.
        """
        check_items(images, questions, options)
        if (most := max(map(len, options), default=0)) > len(LETTERS):
            raise InputError(
                f"an item has {most} options", f"an endpoint scores at most {len(LETTERS)} options at once"
            )
        if not images:
            return []
        with ThreadPoolExecutor(max_workers=min(PARALLEL, len(images))) as threads:
            found = list(threads.map(self._score, images, questions, options))
        self.last_error = next((problem for _, problem in found if problem), "")
        return [scores for scores, _ in found]

    def facts(self) -> dict[str, str]:
        """What is known of it, in short strings."""
        return super().facts() | {"scoring": "probabilities of the options' letters as the first token of the answer"}

    def _score(self, image: Image.Image | None, question: str, options: Sequence[str]) -> tuple[Scores, str]:
        """The scores, and why there are none."""
        letters = LETTERS[: len(options)]
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip(letters, options, strict=True))
        prompt = CHOOSE.format(question=question, options=listed).strip()
        request = GenerationRequest(prompt, () if image is None else (image,), max_tokens=1)
        answer = self.chat(request, logprobs=True, top_logprobs=len(LETTERS))
        first = _first_token(answer.body)
        found = {letter: [p for token, p in first if _letter(token) == letter] for letter in letters}
        if not any(found.values()):
            return np.full(len(options), np.nan), answer.problem or NO_LETTER
        least = min(p for _, p in first)
        return log_softmax(np.array([np.logaddexp.reduce(ps) if ps else least for ps in found.values()])), ""


class RemoteEmbedder:
    """An ``Embedder`` behind the address of a Clerestory server.

    Args:
        wire: the connection.
        model: its name there.
        about: its entry in the server's list of models.
    """

    def __init__(self, wire: HttpClient, model: str, about: Mapping[str, Any]) -> None:
        self.wire, self.model, self.host = wire, model, wire.host
        self.dims: tuple[int, ...] = tuple(int(d) for d in about["dimensions"])
        self.says = str(about.get("digest", ""))
        self.digest = _address(wire, model, self.says)

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32.

        Raises:
            CapabilityError: the endpoint gives no embeddings, whatever was tried.
        """
        return self._embed([data_url(image) for image in images], dim)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32; errors as ``embed_images``."""
        return self._embed(list(texts), dim)

    def facts(self) -> dict[str, str]:
        """What is known of it, in short strings."""
        return {
            "kind": "Clerestory server",
            "endpoint": self.wire.base,
            "model": self.model,
            "dims": " ".join(map(str, self.dims)),
            "pinned": f"{NOT_PINNED}; it says that it is {self.says[:12] or 'unknown'}",
        }

    def _embed(self, inputs: list[str], dim: int | None) -> Matrix:
        width = self.dims[-1] if dim is None else dim
        if width not in self.dims:
            raise CapabilityError(
                f"embeddings of width {dim} were asked for", f"it has {', '.join(map(str, self.dims))}"
            )
        out = np.empty((len(inputs), width), np.float32)
        for start in range(0, len(inputs), INPUTS):
            some = inputs[start : start + INPUTS]
            body = {"model": self.model, "input": some, "dimensions": width}
            answer = self.wire.post("embeddings", body)
            rows = _rows(answer.body, len(some), width)
            if rows is None:
                reason = answer.problem or "the endpoint answered without an embedding for each input"
                raise CapabilityError(reason, f"look at the server at {self.wire.base}, then run this again")
            out[start : start + len(some)] = rows
        return out


def open_endpoint(ref: str, patience: RetryPolicy | None = None) -> Endpoint | RemoteEmbedder:
    """Open ``openai:http://host/v1#model``; without ``#model`` the only model that is served there.

    One short question finds out whether the endpoint tells probabilities, which makes it a ``Scorer``.

    Raises:
        InputError: it is not an address, nothing answers there, or what answers does not speak this API.
        NotFound: there is no such model there.
    """
    base, _, model = ref.removeprefix(PREFIX).partition("#")
    wire = HttpClient(base, patience)
    listed = _listed(wire, model)
    if not model:
        if len(listed) != 1:
            raise InputError(f"{wire.base} serves {len(listed)} models", f"name one of them: {FORM}", list(listed)[:3])
        model = next(iter(listed))
    elif listed and model not in listed:
        raise not_found(f"model at {wire.base}", model, listed)
    about = listed.get(model, {})
    if "digest" in about and isinstance(about.get("dimensions"), list):
        return RemoteEmbedder(wire, model, about)
    probe = Endpoint(wire, model).chat(
        GenerationRequest("Say A.", max_tokens=1), retries=0, logprobs=True, top_logprobs=1
    )
    return (ScoringEndpoint if _first_token(probe.body) else Endpoint)(wire, model)


def data_url(image: Image.Image) -> str:
    """A picture as a PNG ``data:`` URL."""
    content = io.BytesIO()
    rgb(image).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _address(wire: HttpClient, model: str, *parameters: str) -> str:
    """Content address of what is known of a remote model."""
    return digest({"endpoint": wire.base, "model": model, "parameters": list(parameters)})


def _listed(wire: HttpClient, model: str) -> dict[str, Mapping[str, Any]]:
    """The models of the endpoint; empty where it does not list them but one was named."""
    answer = wire.get("models")
    if answer.status in (401, 403):
        raise InputError(
            f"{wire.base} wants a key ({answer.problem})", f"set it in the environment: {' or '.join(KEYS)}"
        )
    if answer.status in (404, 405) and model:
        return {}
    if answer.problem:
        fix = "check the address, and that the server is running; it usually ends in /v1"
        raise InputError(f"{wire.base} does not answer as an OpenAI-compatible endpoint: {answer.problem}", fix)
    entries = answer.body.get("data")
    entries = entries if isinstance(entries, list) else []
    return {str(entry["id"]): entry for entry in entries if isinstance(entry, dict) and "id" in entry}


def _message(request: GenerationRequest) -> dict[str, Any]:
    pictures = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in request.images]
    content = [*pictures, {"type": "text", "text": request.prompt}] if pictures else request.prompt
    return {"role": "user", "content": content}


def _choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return first if isinstance(first, Mapping) else {}


def _words(body: Mapping[str, Any]) -> tuple[str, str]:
    """The words of a completion, or the reason why there are none."""
    choice = _choice(body)
    if not choice:
        return "", "the endpoint answered without a choice"
    message = choice.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    if not isinstance(content, str) or not content.strip():
        return "", f"the endpoint answered without words (it ended for: {choice.get('finish_reason', 'unknown')})"
    return content.strip(), ""


def _first_token(body: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The likely first tokens of an answer with their log-probabilities; empty where they are not told."""
    told = _choice(body).get("logprobs")
    content = told.get("content") if isinstance(told, Mapping) else None
    first = content[0] if isinstance(content, list) and content else None
    likely = first.get("top_logprobs") if isinstance(first, Mapping) else None
    found = []
    for each in likely if isinstance(likely, list) else []:
        token, logprob = (each.get("token"), each.get("logprob")) if isinstance(each, Mapping) else (None, None)
        if isinstance(token, str) and isinstance(logprob, int | float) and math.isfinite(logprob):
            found.append((token, float(logprob)))
    return found


def _letter(token: str) -> str:
    return token.strip().strip("().:").upper()


def _lines(text: str) -> list[str]:
    lines = (" ".join(BULLET.sub("", line).strip().strip("\"“”'").split()) for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _rows(body: Mapping[str, Any], count: int, width: int) -> Matrix | None:
    """The embeddings of an answer in the order of the inputs, or None where they are not what was asked for."""
    data = body.get("data")
    if not isinstance(data, list) or len(data) != count:
        return None
    try:
        ordered = sorted(data, key=lambda entry: int(entry["index"]))
        rows = np.array([entry["embedding"] for entry in ordered], dtype=np.float32)
    except (KeyError, TypeError, ValueError):
        return None
    return rows if rows.shape == (count, width) else None
