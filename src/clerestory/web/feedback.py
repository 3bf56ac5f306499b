"""Feedback by the API and by the controls of pages; acknowledged only after the commit that holds it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from clerestory.apps.feedback_intake import parse_feedback, problem_of
from clerestory.core.errors import Conflict, InputError, NotFound
from clerestory.store.operations.feedback import Feedback, Recorded, check_feedback
from clerestory.web.access_control import ENTRY
from clerestory.web.json_body import parse_json
from clerestory.web.request_body import read_body
from clerestory.web.security import RequestRejected
from clerestory.web.state import ServerState, server_state
from clerestory.web.views import page, status_of, url

MAX_BODY_BYTES = 64_000
MAX_BATCH_BYTES = 1_000_000
MAX_BATCH = 5_000  # rows
MAX_FORM_BYTES = 20_000
SECOND_TRY_SECONDS = 0.6  # another server may be about to write the record of its response
_RESPONSE_ID = re.compile(r"resp_[0-9a-f]{32}")
_KEY = re.compile(r"[\x21-\x7e]{1,100}")
_LOCAL = re.compile(r"/(?![/\\])[^\s\\]*")  # a path of this server, and no address of another


async def feedback(request: Request) -> Response:
    """``POST /v1/feedback``: one JSON object; the header ``Idempotency-Key`` may have its key."""
    server = server_state(request)
    body = await _json_body(request, MAX_BODY_BYTES, parse_json)
    item = _parse(body)
    header = request.headers.get("idempotency-key", "")
    if header:
        if not _KEY.fullmatch(header):
            raise RequestRejected("the Idempotency-Key is not valid", "use up to 100 visible ASCII characters")
        if item.key and item.key != header:
            raise RequestRejected("the Idempotency-Key and the field key differ", "send one of them", param="key")
        item = replace(item, key=header)
    (result,) = await record(server, [_own_key(request, item)])
    if result.error is not None:
        status, kind = _status(result.error)
        code = "response_not_found" if status == 404 else "key_reused"
        raise RequestRejected(result.error.message, result.error.fix, status, kind, code=code)
    return JSONResponse(_answer(result.feedback, item.key))


async def feedback_batch(request: Request) -> Response:
    """``POST /v1/feedback/batch``: ``{"items": […]}``, such as late labels; says of each rejected one why."""
    server = server_state(request)
    body = await _json_body(request, MAX_BATCH_BYTES, _parse_batch)
    rows = body.get("items") if isinstance(body, dict) else body
    if not isinstance(rows, list) or not rows:
        raise RequestRejected("the body has no items", 'send {"items": [{"response": …, "kind": …, "value": …}]}')
    if len(rows) > MAX_BATCH:
        raise RequestRejected(f"a batch has at most {MAX_BATCH:,} items", "send several", 413, "too_large")
    rejected: list[dict[str, Any]] = []
    items: list[tuple[int, Feedback]] = []
    parsed = await asyncio.to_thread(_parse_all, rows)
    for index, each in enumerate(parsed):
        if isinstance(each, InputError):
            rejected.append({"index": index, "status": 400, "message": problem_of(each)})
        else:
            items.append((index, _own_key(request, each)))
    results = await record(server, [item for _, item in items]) if items else []
    added = known = 0
    for (index, _), result in zip(items, results, strict=True):
        if result.error is not None:
            message = problem_of(result.error)
            rejected.append({"index": index, "status": _status(result.error)[0], "message": message})
        elif result.is_new:
            added += 1
        else:
            known += 1
    rejected.sort(key=lambda each: each["index"])
    return JSONResponse({"object": "feedback.batch", "added": added, "known": known, "rejected": rejected})


async def say(request: Request) -> Response:
    """``POST /feedback``: a control of a page; leads back to the page, or replaces the control."""
    server = server_state(request)
    body = (await read_body(request, MAX_FORM_BYTES)).decode("utf-8", "replace")
    form = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=20))
    back = form.get("back", "")
    back = back if _LOCAL.fullmatch(back) else "/"
    kind, _, value = form.get("say", "").partition(":")
    if kind in ("caption", "text"):
        value = form.get("value", "").strip()
    data = {name: form.get(name, "") for name in ("response", "item", "suggested")}
    item = _parse({**data, "kind": kind, "value": value}, "page")
    (result,) = await record(server, [item])
    if result.error is not None:
        raise RequestRejected(result.error.message, "open the page again, and say it there", _status(result.error)[0])
    context = {"said": result.feedback, "back": back, "anchor": form.get("anchor", "")[:60]}
    if request.headers.get("hx-request") == "true":
        return page(request, "said.html", context)
    if form.get("more"):  # from the page that says thank you
        return RedirectResponse(back, status_code=303)
    said = result.feedback
    address = url("/feedback/received", response=said.response, item=said.item, kind=said.kind, back=back)
    return RedirectResponse(address, status_code=303)


async def received(request: Request) -> Response:
    """``GET /feedback/received``: thank you, and what would have been right?"""
    query = request.query_params
    back = query.get("back", "")
    context = {
        "response": query.get("response", "")[:64],
        "item": query.get("item", "")[:200],
        "kind": query.get("kind", "")[:20],
        "back": back if _LOCAL.fullmatch(back) else "/",
    }
    return page(request, "received.html", context)


async def record(server: ServerState, items: Sequence[Feedback]) -> list[Recorded]:
    """Write feedback, and wait until it is on the disk.

    Raises:
        RequestRejected: a value is out of its bounds.
        NotWritable: the disk is full or read-only; nothing was written.
    """
    recorder = server.request_log.recorder
    try:
        results = await asyncio.wrap_future(recorder.submit(items))
    except InputError as error:
        if status_of(error)[0] != 400:
            raise
        raise RequestRejected(error.message, error.fix) from error
    again = [i for i, each in enumerate(results) if _may_follow(each)]
    if again:
        await asyncio.sleep(SECOND_TRY_SECONDS)
        later = await asyncio.wrap_future(recorder.submit([items[i] for i in again]))
        for i, result in zip(again, later, strict=True):
            results[i] = result
    return results


def _may_follow(result: Recorded) -> bool:
    return isinstance(result.error, NotFound) and _RESPONSE_ID.fullmatch(result.feedback.response) is not None


async def _json_body(request: Request, limit: int, parse: Callable[[bytes], Any]) -> Any:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        problem = "the body is not JSON"
        raise RequestRejected(problem, "send it with Content-Type: application/json", 415, "unsupported_media_type")
    content = await read_body(request, limit)
    return await asyncio.to_thread(parse, content)


def _parse_batch(content: bytes) -> Any:
    """The JSON of a batch, which has more strings than ``parse_json`` accepts; ``MAX_BATCH_BYTES`` bounds its cost."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RequestRejected("the body is not valid JSON in UTF-8", "check it with a JSON parser") from error


def _parse(data: Any, source: str = "api") -> Feedback:
    try:
        item = parse_feedback(data, source)
        check_feedback(item)
    except InputError as error:
        hint = f"did you mean {' or '.join(error.closest)}? {error.fix}" if error.closest else error.fix
        raise RequestRejected(error.message, hint) from error
    return item


def _parse_all(rows: Sequence[Any]) -> list[Feedback | InputError]:
    parsed: list[Feedback | InputError] = []
    for row in rows:
        try:
            parsed.append(check_feedback(parse_feedback(row)))
        except InputError as error:
            parsed.append(error)
    return parsed


def _own_key(request: Request, item: Feedback) -> Feedback:
    """The feedback with the key of its sender: two senders may use the same one."""
    admitted = request.scope.get(ENTRY)
    return replace(item, key=f"{admitted.key.id}:{item.key}"[-128:]) if admitted and item.key else item


def _status(error: Exception) -> tuple[int, str]:
    if isinstance(error, Conflict):
        return 409, "conflict"
    return (404, "not_found") if isinstance(error, NotFound) else (400, "invalid_request")


def _answer(item: Feedback, key: str) -> dict[str, Any]:
    """The same for the same key, whenever it is sent."""
    return {
        "object": "feedback",
        "response": item.response,
        "kind": str(item.kind),
        "value": item.value,
        "source": item.source,
        "item": item.item,
        "key": key,
        "received": datetime.fromtimestamp(item.received, UTC).isoformat(timespec="milliseconds"),
    }
