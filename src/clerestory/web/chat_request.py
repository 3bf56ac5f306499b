"""The request of ``POST /v1/chat/completions``: OpenAI's messages, of which a question on images is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clerestory.store import Store
from clerestory.web.embedding_request import check_model
from clerestory.web.input_values import (
    boolean,
    check_length,
    check_parameters,
    echo,
    image,
    integer,
    number,
    text,
    text_list,
)
from clerestory.web.loaded_model import LoadedModel
from clerestory.web.security import RequestRejected

MAX_MESSAGES = 64
MAX_IMAGES = 8
MAX_CHOICES = 8
MAX_OPTIONS = 100
MAX_CHARACTERS = 16_000
MAX_TOKENS = 4_096
DEFAULT_TOKENS = 128
ROLES = ("system", "developer", "user", "assistant")
# Parameters of OpenAI that change nothing here at these values; any other value is refused by name.
NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "store": (False,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "stop": ([], ""),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "service_tier": ("auto", "default"),
}
PARAMETERS = (
    "messages",
    "model",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "stream",
    "stream_options",
    "response_format",
    "guided_choice",
    "user",
    "seed",
    "metadata",
    *NEUTRAL,
)
# What a person who wants a caption writes, from start to end: "Please describe this image in one sentence."
_ARTICLE, _THING = r"(?:this|the|an?|that)", r"(?:image|picture|photo(?:graph)?|icon|drawing)"
_LENGTH = r"(?:short|brief|long|detailed|concise|one[- ]sentence|single)"
_HOW = r"(?:,? (?:please|briefly|shortly|in (?:detail|short|english|one (?:sentence|line)|a (?:few words|sentence))))?"
_CAPTION = re.compile(
    r"\s*(?:please,? |can you |could you |would you )*(?:"
    rf"(?:describe|caption|label) {_ARTICLE} {_THING}"
    rf"|(?:write|give|create|generate|suggest)(?: me)? (?:an? |the )?(?:{_LENGTH},? )*"
    rf"(?:caption|description|alt(?:ernative)? text)(?: (?:for|of) {_ARTICLE} {_THING})?"
    rf"|what(?:'s|’s| is) (?:this|(?:shown )?(?:in|on) {_ARTICLE} {_THING})"
    rf"|what (?:does {_ARTICLE} {_THING} show|do you see(?: (?:in|on) {_ARTICLE} {_THING})?)"
    r"|describe(?: (?:this|it))?|caption|alt text"
    rf"){_HOW}\s*[.?!:]*\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A validated request for a chat completion.

    Attributes:
        question: the text of the last message of the user.
        images: those of the newest message that has some.
        prompt: everything that was said, for a model that generates text.
        options: the answers to choose from; empty if the model shall write one.
        n: how many choices.
        max_tokens, temperature: of the answer.
        stream, include_usage: how the answer is sent.
        user: who asks.
        ignored: parameters that make no difference to the answer.
    """

    question: str
    images: tuple[bytes, ...]
    prompt: str
    options: tuple[str, ...]
    n: int
    max_tokens: int
    temperature: float
    stream: bool
    include_usage: bool
    user: str
    ignored: tuple[str, ...]

    @property
    def wants_caption(self) -> bool:
        """Whether it asks for a caption, and nothing more particular."""
        return not self.options and (not self.question.strip() or _CAPTION.fullmatch(self.question) is not None)


def parse_chat_request(body: Mapping[str, Any], store: Store, loaded: LoadedModel) -> ChatRequest:
    """The request in a JSON object; not for the event loop.

    Raises:
        RequestRejected: 400, 404 or 413.
    """
    check_parameters(body, PARAMETERS)
    for name, values in NEUTRAL.items():
        value = body.get(name)
        if value is not None and value not in values:
            fix = f"leave {name} out: it makes no difference here"
            problem = f"{name}={echo(value)} is not supported"
            raise RequestRejected(problem, fix, code="unsupported_parameter", param=name)
    messages = _messages(body.get("messages"))
    check_model(body.get("model"), store, loaded)
    limits = ("max_completion_tokens", "max_tokens")
    limit = next((name for name in limits if body.get(name) is not None), limits[0])
    stream = boolean(body.get("stream"), "stream")
    return ChatRequest(
        question=next((said for role, said, _ in reversed(messages) if role == "user"), ""),
        images=next((images for _, _, images in reversed(messages) if images), ()),
        prompt="\n\n".join(said for _, said, _ in messages if said.strip()),
        options=_options(body),
        n=integer(body.get("n"), "n", 1, MAX_CHOICES, 1),
        max_tokens=integer(body.get(limit), limit, 1, MAX_TOKENS, DEFAULT_TOKENS),
        temperature=number(body.get("temperature"), "temperature", 0, 2, 0),
        stream=stream,
        include_usage=_include_usage(body.get("stream_options"), stream),
        user=text(body.get("user"), "user", 1_000),
        ignored=tuple(name for name in ("seed", "metadata") if body.get(name) is not None),
    )


def _messages(value: object) -> list[tuple[str, str, tuple[bytes, ...]]]:
    """Role, text and images of each message."""
    if not isinstance(value, list) or not value:
        code = "missing_parameter" if value is None else "invalid_type"
        fix = 'send [{"role": "user", "content": [{"type": "text", …}, {"type": "image_url", …}]}]'
        raise RequestRejected("messages is not a list of messages", fix, code=code, param="messages")
    if len(value) > MAX_MESSAGES:
        problem = f"the request has {len(value):,} messages"
        raise RequestRejected(
            problem, f"send at most {MAX_MESSAGES}", 413, "too_large", code="too_many_inputs", param="messages"
        )
    messages = [_message(each, f"messages[{i}]") for i, each in enumerate(value)]
    for what, count, maximum in (
        ("images", sum(len(images) for _, _, images in messages), MAX_IMAGES),
        ("characters", sum(len(said) for _, said, _ in messages), MAX_CHARACTERS),
    ):
        if count > maximum:
            raise RequestRejected(
                f"the messages have {count:,} {what}; the maximum is {maximum:,}",
                "send fewer",
                413,
                "too_large",
                code="too_many_inputs" if what == "images" else "too_many_characters",
                param="messages",
            )
    if messages[-1][0] == "assistant":
        fix = "end with a message of the role user"
        raise RequestRejected("the last message is the assistant's", fix, code="invalid_value", param="messages")
    return messages


def _message(value: object, where: str) -> tuple[str, str, tuple[bytes, ...]]:
    if not isinstance(value, dict):
        fix = 'send {"role": "user", "content": …}'
        raise RequestRejected(f"{where} is not an object", fix, code="invalid_type", param=where)
    role = value.get("role")
    if role not in ROLES:
        problem, name = f"{where}.role is {echo(role)}", f"{where}.role"
        raise RequestRejected(problem, f"use {', '.join(ROLES)}", code="invalid_value", param=name)
    check_parameters(value, ("role", "content", "name", "refusal"), f"{where}.")
    content = value.get("content")
    if isinstance(content, str):
        return role, check_length(content, f"{where}.content", MAX_CHARACTERS), ()
    if content is None and role == "assistant":
        return role, "", ()
    if not isinstance(content, list):
        code = "missing_parameter" if content is None else "invalid_type"
        fix = "send a string, or a list of parts"
        raise RequestRejected(f"{where}.content is not a text or a list", fix, code=code, param=f"{where}.content")
    texts, images = [], []
    for i, part in enumerate(content):
        read = _part(part, f"{where}.content[{i}]")
        if isinstance(read, bytes):
            images.append(read)
        else:
            texts.append(read)
    return role, "\n".join(texts), tuple(images)


def _part(value: object, where: str) -> str | bytes:
    if not isinstance(value, dict):
        fix = 'send {"type": "text", …} or {"type": "image_url", …}'
        raise RequestRejected(f"{where} is not an object", fix, code="invalid_type", param=where)
    kind = value.get("type")
    if kind == "text":
        check_parameters(value, ("type", "text"), f"{where}.")
        if not isinstance(value.get("text"), str):
            name = f"{where}.text"
            raise RequestRejected(f"{name} is not a text", "send a string", code="invalid_type", param=name)
        return check_length(value["text"], f"{where}.text", MAX_CHARACTERS)
    if kind == "image_url":
        check_parameters(value, ("type", "image_url"), f"{where}.")
        address = value.get("image_url")
        if isinstance(address, dict):
            check_parameters(address, ("url", "detail"), f"{where}.image_url.")
            return image(address.get("url"), f"{where}.image_url.url")
        return image(address, f"{where}.image_url")
    name = f"{where}.type"
    raise RequestRejected(f"{name} is {echo(kind)}", "use text or image_url", code="invalid_value", param=name)


def _options(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The answers to choose from: ``guided_choice``, or the enum of a JSON schema of a string."""
    choices, name = body.get("guided_choice"), "guided_choice"
    form = body.get("response_format")
    if form is not None:
        kind = form.get("type") if isinstance(form, dict) else form
        if kind == "json_schema" and isinstance(form, dict):
            schema: Any = form.get("json_schema")
            schema = schema.get("schema") if isinstance(schema, dict) else None
            if isinstance(schema, dict) and schema.get("type") == "string" and isinstance(schema.get("enum"), list):
                choices, name = schema["enum"], "response_format.json_schema.schema.enum"
            else:
                kind = "a JSON schema"
        if kind not in {"text", "json_schema"}:
            raise RequestRejected(
                f"response_format {echo(kind)} is not supported",
                'use text, or a JSON schema of {"type": "string", "enum": [...]}, or guided_choice',
                code="unsupported_parameter",
                param="response_format",
            )
    return text_list(choices, name, 2, MAX_OPTIONS, 1_000) if choices is not None else ()


def _include_usage(value: object, stream: bool) -> bool:
    if value is None:
        return False
    if not isinstance(value, dict):
        fix = 'send {"include_usage": true}'
        raise RequestRejected("stream_options is not an object", fix, code="invalid_type", param="stream_options")
    if not stream:
        fix = "set stream to true, or leave it out"
        raise RequestRejected("stream_options is for streams", fix, code="invalid_value", param="stream_options")
    check_parameters(value, ("include_usage", "include_obfuscation"), "stream_options.")
    return boolean(value.get("include_usage"), "stream_options.include_usage")


def texts_of(wanted: ChatRequest) -> Sequence[str]:
    """The texts that a request sends to the model."""
    return [wanted.prompt, *wanted.options]
