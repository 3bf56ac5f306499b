"""``clerestory watch trace``: which release answered a request, what it was made from, and who approved it."""

from __future__ import annotations

from rich.text import Text

from clerestory.cli.output import PLAIN, Common
from clerestory.store import open_store

STYLES = {"known": "green", "none": "dim", "missing": "yellow"}


def trace_(id: str, /, *, common: Common = PLAIN) -> int:
    """Show what served a request: model, data, training, evaluation, gate, approvals, promotion, rollout, feedback.

    Args:
        id: Of the request or of the response, or the beginning of one. An exit code of 3 says that something which
            should be recorded is missing.
    """
    from clerestory.apps.response_origin import trace_response  # here, because it is heavy

    trace = trace_response(open_store(common.home), id)
    lines: list[str | Text] = [Text(trace.headline, "bold"), ""]
    for item in trace.items:
        lines.append(Text.assemble((f"{item.title}  ", "bold"), (item.answer, STYLES[item.state])))
        lines += [f"    {line}" for line in item.lines]
        if item.link:
            lines.append(Text(f"    {item.link}", "dim"))
    if trace.others:
        lines.append(f"further responses to this request: {', '.join(trace.others)}")
    common.out.result(trace, *lines)
    return 3 if trace.missing else 0
