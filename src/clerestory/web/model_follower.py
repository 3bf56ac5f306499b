"""Follows the alias ``live``: loads what it points at off the path of requests, then swaps one reference."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from clerestory.apps.loading import load_model
from clerestory.apps.search import build_index
from clerestory.core.errors import ClerestoryError, IntegrityError
from clerestory.core.release import Release
from clerestory.core.sample import Dataset
from clerestory.models import AnyModel, Describer, Embedder, Model, capabilities, find_text_tower, open_model
from clerestory.models.resolve import leaves_for
from clerestory.models.text_tower import MAX_TOKENS
from clerestory.store import Store
from clerestory.web.confidence import Sureness, measure_sureness
from clerestory.web.search_index import Finder
from clerestory.web.security import Turned

LOG = logging.getLogger("clerestory.web")
POLL_SECONDS = 1.0
RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Everything one request works with; a request keeps the one it started with, whatever happens meanwhile.

    Attributes:
        ref: what is served, for people: ``icons@3``, or the reference of a model from elsewhere.
        release: the release that is served; None for a model from elsewhere.
        model: its model, loaded.
        finder: the searchable pictures; None when the server has no pictures, or the model cannot search.
        sure: how scores read in words.
        tokens: counts the word pieces of texts; None where the model does not tell.
        seconds: how long it took to load.
        host: where pictures and words are sent; empty when all stays on this computer.
    """

    ref: str
    release: Release | None
    model: AnyModel
    finder: Finder | None
    sure: Sureness
    tokens: Tokens | None
    seconds: float
    host: str = ""

    @property
    def embedder(self) -> Embedder | None:
        """The model where it can search."""
        return self.model if isinstance(self.model, Embedder) else None

    @property
    def describes(self) -> bool:
        """Whether the model can describe pictures."""
        return isinstance(self.model, Describer)

    @property
    def able(self) -> tuple[str, ...]:
        """What the model can do."""
        return capabilities(self.model)


class Tokens:
    """Counts word pieces as the model's text tower does."""

    most = MAX_TOKENS

    def __init__(self, tower: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tower / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, text: str) -> int:
        """How many word pieces a text has, begin and end marks included."""
        return len(self._tokenizer.encode(text).ids)


class Live:
    """The served release and the one before it (so that a rollback loads nothing).

    Args:
        store: where releases and models are.
        data: the pictures to search, or None.
        name: the line of models whose ``live`` is followed.
    """

    def __init__(self, store: Store, data: Dataset | None, name: str) -> None:
        self.store, self.data, self.name = store, data, name
        self.reason = "the model is still being loaded"
        self.trouble = ""  # why a newer release than the served one could not be loaded
        self.draining = False
        self._current: Served | None = None
        self._previous: Served | None = None
        self._failed: tuple[int, float] | None = None

    @property
    def served(self) -> Served:
        """What a request that begins now works with.

        Raises:
            Turned: 503, nothing is served yet.
        """
        if self._current is None:
            raise Turned(self.reason, "try again in a moment", status=503, kind="not_ready")
        return self._current

    @property
    def current(self) -> Served | None:
        """What is served, or None."""
        return self._current

    @property
    def why_not_ready(self) -> str:
        """Empty when ready."""
        if self.draining:
            return "the server is shutting down"
        return "" if self._current else self.reason

    async def follow(self) -> None:
        """Look at the alias again and again until cancelled; a failed load leaves the served release in place."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(POLL_SECONDS)

    def look(self) -> None:
        """Compare the alias with what is served, and load and swap when it has moved."""
        try:
            alias = self.store.alias(self.name, "live")
            if alias is None:
                self.reason = f"no release of {self.name!r} is live; promote one with: clerestory release promote"
                self.trouble = ""
                return
            if self._current is not None and _number(self._current) == alias.number:
                self.trouble = ""
                return
            if self._failed and self._failed[0] == alias.number and time.monotonic() < self._failed[1]:
                return
            self._swap(self.store.release(self.name, alias.number))
        except ClerestoryError as error:
            self._note(str(error))
        except Exception:  # a server goes on with what it has; the log has the traceback
            LOG.exception("the live release could not be loaded")
            self._note("the live release could not be loaded; the server's log says why")

    def _note(self, problem: str) -> None:
        if self._current is None:
            self.reason = problem
        else:
            self.trouble = problem

    def _swap(self, release: Release) -> None:
        kept = self._previous
        if kept is not None and _number(kept) == release.number:
            fresh = kept
        else:
            try:
                fresh = self._load(release)
            except Exception:
                self._failed = (release.number, time.monotonic() + RETRY_SECONDS)
                raise
        self._previous, self._current = self._current, fresh
        self.trouble, self._failed = "", None
        LOG.info("%s is served (ready in %.1f s)", release.ref, fresh.seconds)

    def _load(self, release: Release) -> Served:
        start = time.perf_counter()
        broken = [finding for finding in self.store.verify_model(release.model) if finding.state == "fail"]
        if broken:
            raise IntegrityError(f"{release.ref} is not what was released: {broken[0].message}", broken[0].fix)
        model = open_model(self.store.model_folder(release.model))
        return self._ready(release.ref, release, model, start)

    def _ready(self, ref: str, release: Release | None, model: AnyModel, start: float, host: str = "") -> Served:
        finder, sure = None, Sureness()
        if isinstance(model, Embedder) and self.data is not None and len(self.data):
            index = build_index(model, self.data, self.store)
            finder, sure = Finder(model, index), measure_sureness(model, index, self.data, self.store)
        tokens = Tokens(find_text_tower(model.config.text_tower_digest)) if isinstance(model, Model) else None
        return Served(ref, release, model, finder, sure, tokens, time.perf_counter() - start, host)


class Elsewhere(Live):
    """One model by any reference, such as ``hf:org/name``, in place of the live release; loaded once.

    Args:
        store: where embeddings of the pictures are kept.
        data: the pictures to search, or None.
        ref: see ``apps.loading.load_model``.
    """

    def __init__(self, store: Store, data: Dataset | None, ref: str) -> None:
        super().__init__(store, data, ref)
        self._again = 0.0

    def look(self) -> None:
        """Load the model, unless it is there; try again after a while when it cannot be had."""
        if self._current is not None or time.monotonic() < self._again:
            return
        start = time.perf_counter()
        try:
            model, resolved = load_model(self.store, self.name)
            ref = resolved.release.ref if resolved.release else self.name
            self._current = self._ready(ref, resolved.release, model, start, leaves_for(self.name))
            LOG.info("%s is served (ready in %.1f s)", self.name, self._current.seconds)
        except ClerestoryError as error:
            self._note(str(error))
        except Exception:  # as for a release: tried again later, and the log has the traceback
            LOG.exception("%s could not be loaded", self.name)
            self._note(f"{self.name} could not be loaded; the server's log says why")
        self._again = time.monotonic() + RETRY_SECONDS


def _number(served: Served) -> int:
    return served.release.number if served.release is not None else 0
