"""Any endpoint with OpenAI's API: vLLM, llama.cpp, Ollama, a hosted service, another Clerestory server.

Images are sent as PNG ``data:`` URLs. The weights of a remote model cannot be pinned: its digest covers its URL,
its name and the prompts used.
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
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clerestory.core.codec import Fact
from clerestory.core.errors import CapabilityError, InputError, IntegrityError, Undecided, not_found
from clerestory.models.adapters.endpoint_reference import changed_answers, read_reference, reference_digest
from clerestory.models.adapters.http_client import (
    API_KEY_VARIABLES,
    OPENAI,
    URL_FORM,
    HttpClient,
    HttpReply,
    RetryPolicy,
)
from clerestory.models.adapters.request_parameters import REFUSED, RequestParameters
from clerestory.models.clip_scorer import log_softmax
from clerestory.models.protocols import (
    CaptionCandidate,
    GenerationRequest,
    Matrix,
    Reply,
    Scores,
    check_caption_count,
    check_items,
    unknown_dim,
)
from clerestory.models.reasoning import without_reasoning

MAX_CONCURRENT_REQUESTS = 4
EMBEDDING_BATCH_SIZE = 32  # images or texts in one request for embeddings
LETTERS = string.ascii_uppercase[:20]  # endpoints report the probabilities of at most 20 tokens
CAPTION_PROMPT = "Write {n} different short captions for this picture, one per line, without numbers or quotes."
CHOICE_PROMPT = "{question}\n{options}\nAnswer with the letter of the right option only."
NO_LETTER = "the endpoint reported a probability for none of the options' letters"
NOT_PINNED = "the weights behind an endpoint cannot be pinned: it may respond with another model at any time"
BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s*")


class Endpoint:
    """A ``Generator`` and a ``Captioner`` behind a base URL, with a few concurrent requests; thread-safe.

    Args:
        client: of the endpoint.
        model: its name at the endpoint.
        parameters: those that it refused so far; none if None.

    Attributes:
        host: receives the images.
        methods: how it answers besides with text, as part of its digest.
        reference: the known properties of the model: base URL, name, prompts, and its fingerprint if it is pinned.
        last_error: the reason why an item of the last call has no captions or no scores; empty without failures.
    """

    methods: tuple[str, ...] = ()

    def __init__(self, client: HttpClient, model: str, parameters: RequestParameters | None = None) -> None:
        self.client, self.model, self.host = client, model, client.host
        self.reference = _reference(client, model, CAPTION_PROMPT, CHOICE_PROMPT, *self.methods)
        self.digest = reference_digest(self.reference)
        self.last_error = ""
        self.parameters = parameters or RequestParameters()

    def pin(self, answers: Mapping[str, str]) -> None:
        """Make the answers to the fixed requests part of the reference and of the digest."""
        self.reference = self.reference | {"fingerprint": dict(answers)}
        self.digest = reference_digest(self.reference)

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Reply]:
        """One reply for each request; a request that fails after the retries has its reason in ``Reply.error``."""
        if not requests:
            return []
        with ThreadPoolExecutor(max_workers=min(MAX_CONCURRENT_REQUESTS, len(requests))) as threads:
            return list(threads.map(self._reply, requests))

    def caption_images(self, images: Sequence[Image.Image], n: int = 3) -> list[list[CaptionCandidate]]:
        """Up to ``n`` distinct captions for each image; endpoints report no scores for them (NaN).

        Raises:
            InputError: ``n`` is less than 1.
        """
        check_caption_count(n)
        replies = self.generate([GenerationRequest(CAPTION_PROMPT.format(n=n), (image,), 40 * n) for image in images])
        self.last_error = next((reply.error for reply in replies if reply.error), "")
        return [[CaptionCandidate(line, math.nan) for line in _captions(reply)[:n]] for reply in replies]

    def facts(self) -> dict[str, Fact]:
        """Base URL, name and prompts."""
        return {
            "kind": "OpenAI-compatible endpoint",
            "endpoint": self.client.base,
            "model": self.model,
            "pinned": NOT_PINNED,
            "fingerprint_requests": len(self.reference.get("fingerprint", ())),
            "caption_prompt": CAPTION_PROMPT,
            "parameters_not_accepted": self.parameters.dropped,
            **{f"lowered_{name}": limit for name, limit in self.parameters.limits.items()},
            "no_image": "without an image the message has text only",
        }

    def chat(self, request: GenerationRequest, retries: int | None = None, **options: Any) -> HttpReply:
        """One chat completion, as the endpoint returns it."""
        limits = {"max_tokens": request.max_tokens, "temperature": request.temperature}
        body = {"model": self.model, "messages": [_message(request)], **options, **limits}
        while True:
            sent = self.parameters.adapt(body)
            reply = self.client.post("chat/completions", sent, retries)
            if not self.parameters.learn(sent, reply):
                return reply

    def _reply(self, request: GenerationRequest) -> Reply:
        started = time.perf_counter()
        reply = self.chat(request)
        milliseconds = (time.perf_counter() - started) * 1e3
        text, error = ("", reply.error) if reply.error else _completion_text(reply.body)
        cut_off = _choice(reply.body).get("finish_reason") == "length"
        reported = reply.body.get("usage")
        usage = reported if isinstance(reported, Mapping) else {}
        tokens_in, tokens_out = (_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        return Reply(text, tokens_in, tokens_out, milliseconds, error, cut_off and not error)


class ScoringEndpoint(Endpoint):
    """An ``Endpoint`` that reports the probabilities of its tokens, which makes it a ``Scorer``."""

    methods = ("scores",)
    order_matters = True
    max_options = len(LETTERS)

    def score_options(
        self, images: Sequence[Image.Image | None], questions: Sequence[str], options: Sequence[Sequence[str]]
    ) -> list[Scores]:
        """Log-probabilities of each item's options: of their letters as the first token of the reply.

        A letter that the endpoint does not list gets the probability of the least likely listed token, which is an
        upper bound. An item without a reply, or without any of its letters, is all NaN.

        Raises:
            InputError: the numbers of items differ, or an item has no options or more than 20.
        """
        check_items(images, questions, options)
        if (largest := max(map(len, options), default=0)) > len(LETTERS):
            raise InputError(f"an item has {largest} options", f"an endpoint scores at most {len(LETTERS)} options")
        if not images:
            return []
        with ThreadPoolExecutor(max_workers=min(MAX_CONCURRENT_REQUESTS, len(images))) as threads:
            scored = list(threads.map(self._score, images, questions, options))
        self.last_error = next((error for _, error in scored if error), "")
        return [scores for scores, _ in scored]

    def facts(self) -> dict[str, Fact]:
        """As for every endpoint, and the scoring method."""
        return super().facts() | {"scoring": "probabilities of the options' letters as the first token of the reply"}

    def _score(self, image: Image.Image | None, question: str, options: Sequence[str]) -> tuple[Scores, str]:
        """The scores, and the reason if there are none."""
        letters = LETTERS[: len(options)]
        lines = "\n".join(f"{letter}. {option}" for letter, option in zip(letters, options, strict=True))
        prompt = CHOICE_PROMPT.format(question=question, options=lines).strip()
        request = GenerationRequest(prompt, () if image is None else (image,), max_tokens=1)
        reply = self.chat(request, logprobs=True, top_logprobs=len(LETTERS))
        candidates = _first_token(reply.body)
        by_letter = {letter: [p for token, p in candidates if _letter(token) == letter] for letter in letters}
        if not any(by_letter.values()):
            return np.full(len(options), np.nan), reply.error or NO_LETTER
        bound = min(p for _, p in candidates)
        return log_softmax(np.array([np.logaddexp.reduce(ps) if ps else bound for ps in by_letter.values()])), ""


class RemoteEmbedder:
    """An ``Embedder`` on a Clerestory server.

    Args:
        client: of the server.
        model: its name at the server.
        entry: its entry in the server's list of models.
    """

    def __init__(self, client: HttpClient, model: str, entry: Mapping[str, Any]) -> None:
        self.client, self.model, self.host = client, model, client.host
        self.dims: tuple[int, ...] = tuple(int(d) for d in entry["dimensions"])
        self.reported_digest = str(entry.get("digest", ""))
        self.reference = _reference(client, model, self.reported_digest)
        self.digest = reference_digest(self.reference)

    def embed_images(self, images: Sequence[Image.Image], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32.

        Raises:
            CapabilityError: the endpoint returned no embeddings, even after the retries.
        """
        return self._embed([data_url(image) for image in images], dim)

    def embed_texts(self, texts: Sequence[str], dim: int | None = None) -> Matrix:
        """Unit rows ``(N, D)`` float32; errors as ``embed_images``."""
        return self._embed(list(texts), dim)

    def facts(self) -> dict[str, Fact]:
        """Base URL, name, embedding widths and reported digest."""
        return {
            "kind": "Clerestory server",
            "endpoint": self.client.base,
            "model": self.model,
            "dims": self.dims,
            "pinned": NOT_PINNED,
            "reported_digest": self.reported_digest or "unknown",
        }

    def _embed(self, inputs: list[str], dim: int | None) -> Matrix:
        width = self.dims[-1] if dim is None else dim
        if width not in self.dims:
            raise unknown_dim(width, self.dims)
        out = np.empty((len(inputs), width), np.float32)
        for start in range(0, len(inputs), EMBEDDING_BATCH_SIZE):
            batch = inputs[start : start + EMBEDDING_BATCH_SIZE]
            reply = self.client.post("embeddings", {"model": self.model, "input": batch, "dimensions": width})
            rows = _rows(reply.body, len(batch), width)
            if rows is None:
                reason = reply.error or "the endpoint did not return an embedding for each input"
                raise CapabilityError(reason, f"check the server at {self.client.base}, then run this again")
            out[start : start + len(batch)] = rows
        return out


def open_endpoint(ref: str, retry_policy: RetryPolicy | None = None) -> Endpoint | RemoteEmbedder:
    """Open ``openai:http://host/v1#model``; without ``#model`` the only model of the endpoint.

    One short request determines whether the endpoint reports probabilities, which makes it a ``Scorer``.

    Raises:
        InputError: the URL is invalid, nothing responds there, or the response does not conform to this API.
        Undecided: it lists its models and answers no request.
        NotFound: the endpoint does not serve the model.
    """
    base, _, model = ref.removeprefix(OPENAI).partition("#")
    client = HttpClient(base, retry_policy)
    served = _served_models(client, model)
    if not model:
        if len(served) != 1:
            fix = f"name one of them: {URL_FORM}"
            raise InputError(f"{client.base} serves {len(served)} models", fix, list(served)[:3])
        model = next(iter(served))
    elif served and model not in served:
        raise not_found(f"model at {client.base}", model, served)
    entry = served.get(model, {})
    if "digest" in entry and isinstance(entry.get("dimensions"), list):
        return RemoteEmbedder(client, model, entry)
    return _probed(client, model)


def _probed(client: HttpClient, model: str) -> Endpoint:
    """The endpoint as one short request shows it: with probabilities it is a ``ScoringEndpoint``.

    Raises:
        InputError: the endpoint requires a key.
        Undecided: the request had no answer, so it stays unknown whether the endpoint can score.
    """
    parameters = RequestParameters()
    request = GenerationRequest("Say A.", max_tokens=1)
    probe = Endpoint(client, model, parameters).chat(request, logprobs=True, top_logprobs=len(LETTERS))
    if _first_token(probe.body):
        return ScoringEndpoint(client, model, parameters)
    _check_authorised(client, probe)
    if probe.error and probe.status not in REFUSED:
        message = f"the endpoint {client.base} did not answer the test request: {probe.error}"
        raise Undecided(message, "run this again when it responds")
    return Endpoint(client, model, parameters)


def _check_authorised(client: HttpClient, reply: HttpReply) -> None:
    """Raise ``InputError`` if the endpoint requires a key, or another one."""
    if reply.status in (401, 403):
        fix = f"set it in the environment: {' or '.join(API_KEY_VARIABLES)}"
        raise InputError(f"{client.base} requires a key ({reply.error})", fix)


def data_url(image: Image.Image) -> str:
    """An image as a PNG ``data:`` URL."""
    from clerestory.models.adapters.loading import model_input  # here, because it imports torch

    content = io.BytesIO()
    model_input(image).save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def open_pinned(folder: Path) -> Endpoint | RemoteEmbedder:
    """Open the endpoint whose reference is in a folder, if it still has the same properties and answers.

    Raises:
        IntegrityError: the reference is damaged, or the endpoint now has other properties or answers.
        InputError, NotFound, Undecided: as ``open_endpoint``.
    """
    reference = read_reference(folder) or {}
    ref = f"{OPENAI}{reference['endpoint']}#{reference['model']}"
    model, known = open_endpoint(ref), reference.pop("fingerprint", None)
    changed = list(reference) if model.reference != reference else []
    if known is not None and isinstance(model, Endpoint):
        answers = changed_answers(model, known)
        if answers is None:
            raise Undecided(
                f"the endpoint {ref.removeprefix(OPENAI)} answered none of the fixed requests, so it is not known "
                "whether it is still the model that was evaluated",
                "try again when it responds",
            )
        changed += answers
        model.pin(known)
    if changed:
        raise IntegrityError(
            f"the endpoint {ref.removeprefix(OPENAI)} is no longer the model that was evaluated: it answers "
            "fixed requests in another way or has other properties",
            f"evaluate it again: clerestory evaluate {ref}",
        )
    return model


def _reference(client: HttpClient, model: str, *parameters: str) -> dict[str, Any]:
    """The known properties of a remote model."""
    return {"endpoint": client.base, "model": model, "parameters": list(parameters)}


def _served_models(client: HttpClient, model: str) -> dict[str, Mapping[str, Any]]:
    """The models of the endpoint; empty if it does not list them and ``model`` is set."""
    reply = client.get("models")
    _check_authorised(client, reply)
    if reply.status in (404, 405) and model:
        return {}
    if reply.error:
        fix = "check the URL, and that the server is running; the URL usually ends in /v1"
        raise InputError(f"{client.base} does not respond as an OpenAI-compatible endpoint: {reply.error}", fix)
    entries = reply.body.get("data")
    entries = entries if isinstance(entries, list) else []
    return {str(entry["id"]): entry for entry in entries if isinstance(entry, dict) and "id" in entry}


def _message(request: GenerationRequest) -> dict[str, Any]:
    images = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in request.images]
    content = [*images, {"type": "text", "text": request.prompt}] if images else request.prompt
    return {"role": "user", "content": content}


def _choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    return first if isinstance(first, Mapping) else {}


def _completion_text(body: Mapping[str, Any]) -> tuple[str, str]:
    """The text of a completion, and the reason if there is none."""
    choice = _choice(body)
    if not choice:
        return "", "the response of the endpoint has no completion"
    message = choice.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    if choice.get("finish_reason") == "length" and not (isinstance(content, str) and content.strip()):
        return "", ""  # the limit was reached before the first word of the answer, as in reasoning
    refusal = message.get("refusal") if isinstance(message, Mapping) else None
    if isinstance(refusal, str) and refusal.strip():
        return "", f"the model refused to answer: {' '.join(refusal.split())[:200]}"
    if not isinstance(content, str) or not content.strip():
        return "", f"the completion has no text (finish reason: {choice.get('finish_reason', 'unknown')})"
    return content.strip(), ""


def _first_token(body: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The candidates for the first token with their log-probabilities; empty if the endpoint reports none."""
    logprobs = _choice(body).get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    first = content[0] if isinstance(content, list) and content else None
    top = first.get("top_logprobs") if isinstance(first, Mapping) else None
    candidates = []
    for each in top if isinstance(top, list) else []:
        token, logprob = (each.get("token"), each.get("logprob")) if isinstance(each, Mapping) else (None, None)
        if isinstance(token, str) and isinstance(logprob, int | float) and math.isfinite(logprob):
            candidates.append((token, float(logprob)))
    return candidates


def _letter(token: str) -> str:
    return token.strip().strip("().:").upper()


def _captions(reply: Reply) -> list[str]:
    """The lines of a reply; a last line that was cut off is a caption only if it is the only one."""
    lines = _lines(without_reasoning(reply.text))
    return lines[:-1] if reply.cut_off and len(lines) > 1 else lines


def _lines(text: str) -> list[str]:
    lines = (" ".join(BULLET.sub("", line).strip().strip("\"“”'").split()) for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _rows(body: Mapping[str, Any], count: int, width: int) -> Matrix | None:
    """The embeddings of a response in the order of the inputs; None if their number or width is incorrect."""
    data = body.get("data")
    if not isinstance(data, list) or len(data) != count:
        return None
    try:
        ordered = sorted(data, key=lambda entry: int(entry["index"]))
        rows = np.array([entry["embedding"] for entry in ordered], dtype=np.float32)
    except (KeyError, TypeError, ValueError):
        return None
    return rows if rows.shape == (count, width) else None
