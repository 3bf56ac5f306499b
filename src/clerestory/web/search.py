"""``GET /``: find pictures by words, or more like one of them."""

from __future__ import annotations

import time
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from clerestory.apps.search import Hit
from clerestory.core.errors import CapabilityError
from clerestory.core.sample import Sample
from clerestory.report import format
from clerestory.web.confidence import Scale, Sure, explain
from clerestory.web.model_follower import Served
from clerestory.web.state import site
from clerestory.web.views import page, url

EXAMPLES = (
    "a feline",
    "automobile",
    "feeling of sadness",
    "something to eat with noodles",
    "bad weather",
    "musical instrument with strings",
)
STEP = 30
MOST = 240
LENGTH = 300


class Shown(NamedTuple):
    """A picture in the grid; ``sure`` is None where nothing was asked."""

    sample: Sample
    sure: Sure | None


class Asked(NamedTuple):
    """The state of the page; all of it is in the address."""

    query: str
    like: str
    style: str
    shown: int

    @property
    def more(self) -> str:
        """The address of the same with more pictures."""
        return url("/", q=self.query, like=self.like, style=self.style, n=self.shown + STEP)


async def search(request: Request) -> Response:
    """The search page in all its states: nothing asked, words, likeness, nothing found."""
    here = site(request)
    served = here.live.served
    if served.embedder is None:
        raise CapabilityError(
            f"{served.ref} describes pictures but cannot search them: it has no space that they share with words",
            "use the Describe page, or start the server with a model that can search, such as a CLIP (hf:org/name)",
        )
    if served.finder is None:
        raise CapabilityError("this server was started without pictures to search", "start it with --data")
    finder, asked = served.finder, _read(request)
    problem = ""
    if asked.style and asked.style not in finder.styles:
        problem = f"There is no style called “{asked.style}”."
        asked = asked._replace(style="")
    start = time.perf_counter()
    like = finder.sample(asked.like) if asked.like else None
    if asked.like:
        with here.work.admit():
            found = await here.work.run(finder.by_picture, asked.like, asked.shown + 1, asked.style)
        shown = _shown(found[: asked.shown], served.sure.likeness)
    elif asked.query:
        with here.work.admit():
            found = await here.work.run(finder.by_words, asked.query, asked.shown + 1, asked.style)
        shown = _shown(found[: asked.shown], served.sure.words)
    else:
        found = []
        shown = [Shown(sample, None) for sample in finder.some(STEP, asked.style)]
    seconds = time.perf_counter() - start
    tally = _tally(len(shown), finder.size(asked.style), seconds, bool(asked.query or like))
    heading = _heading(asked, like, bool(shown))
    levels = [hit.sure.level for hit in shown if hit.sure]
    return page(
        request,
        "search.html",
        {
            "served": served,
            "query": asked.query,
            "style": asked.style,
            "like": like,
            "keywords": _also_called(like) if like else [],
            "styles": finder.styles,
            "pretty": pretty,
            "examples": EXAMPLES,
            "hits": shown,
            "heading": heading,
            "tally": tally,
            "said": f"{heading}: {tally}" if asked.query or like else "",
            "doubtful": bool(levels) and max(levels) == 0,
            "problem": problem,
            "more": asked.more if len(found) > asked.shown and asked.shown < MOST else "",
            "explanation": _explanation(served, like is not None),
        },
    )


def _read(request: Request) -> Asked:
    query = request.query_params
    text = " ".join(query.get("q", "").split())[:LENGTH]
    count = query.get("n", "")
    wanted = min(MOST, max(STEP, int(count))) if count.isascii() and count.isdigit() and len(count) < 6 else STEP
    return Asked(text, "" if text else query.get("like", ""), query.get("style", ""), wanted)


def _shown(hits: list[Hit], scale: Scale | None) -> list[Shown]:
    return [Shown(hit.sample, scale.sure(hit.score) if scale else None) for hit in hits]


def _tally(shown: int, among: int, seconds: float, asked: bool) -> str:
    total = format.plural(among, "picture")
    if not asked:
        return f"{shown} of {total}"
    return f"the nearest {shown} of {total}, found in {max(1, round(1000 * seconds))} ms"


def _heading(asked: Asked, like: Sample | None, anything: bool) -> str:
    within = f" in {pretty(asked.style)}" if asked.style else ""
    if like:
        return f"More like this{within}" if anything else f"Nothing like this{within}"
    if asked.query:
        return f"“{asked.query}”{within}" if anything else f"Nothing to show for “{asked.query}”{within}"
    return f"A few of the pictures{within}"


def _also_called(sample: Sample) -> list[str]:
    seen = {sample.caption.casefold()}
    names = []
    for caption in sample.captions:
        if caption.text.casefold() not in seen and caption.lang == "en":
            seen.add(caption.text.casefold())
            names.append(caption.text)
    return names[:12]


def _explanation(served: Served, likeness: bool) -> str:
    if likeness:
        return explain(served.sure.likeness, "pictures of things", "an answer is right when it shows the same thing.")
    return explain(served.sure.words, "names of things", "an answer is right when it shows the thing that was named.")


def pretty(value: str) -> str:
    """The name of a group for people: ``fluent-emoji-flat`` becomes ``Fluent emoji flat``."""
    said = value.replace("-", " ").replace("_", " ")
    return said[:1].upper() + said[1:]
