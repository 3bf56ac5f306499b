"""The served model: follows the alias ``live``, loads what it points to in the background, then swaps one reference."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clerestory import models
from clerestory.apps.loading import load_model
from clerestory.apps.search import build_index
from clerestory.core.errors import ClerestoryError, IntegrityError
from clerestory.core.release import Release
from clerestory.core.sample import Dataset
from clerestory.models import AnyModel, Captioner, ClerestoryEncoder, Embedder, find_text_tower, open_model
from clerestory.models.loading import load_word_pieces
from clerestory.models.resolve import remote_host
from clerestory.models.text_tower import MAX_TOKENS
from clerestory.store import Store
from clerestory.web.confidence import Calibrators, fit_calibrators
from clerestory.web.search_index import ImageSearcher
from clerestory.web.security import RequestRejected

LOG = logging.getLogger("clerestory.web")
POLL_SECONDS = 1.0
RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A loaded model with its index; a request uses one from start to end, even if the model is swapped meanwhile.

    Attributes:
        ref: its name for people: ``icons@3``, or the reference of another model.
        release: the served release; None for any other model.
        model: the model itself.
        searcher: the searchable images; None without images, or if the model is not an Embedder.
        calibrators: from scores to confidence.
        tokens: counts the tokens of a text; None where the tokenizer is not known.
        load_seconds: the time it took to load.
        remote_host: the host that images and text are sent to; empty if the model runs on this computer.
    """

    ref: str
    release: Release | None
    model: AnyModel
    searcher: ImageSearcher | None
    calibrators: Calibrators
    tokens: TokenCounter | None
    load_seconds: float
    remote_host: str = ""

    @property
    def embedder(self) -> Embedder | None:
        """The model if it is an Embedder."""
        return self.model if isinstance(self.model, Embedder) else None

    @property
    def can_describe(self) -> bool:
        """Whether the model writes captions."""
        return isinstance(self.model, Captioner)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The protocols that the model implements, by name."""
        return models.capabilities(self.model)


class TokenCounter:
    """Counts the tokens of a text as the text tower does."""

    limit = MAX_TOKENS

    def __init__(self, tower: Path) -> None:
        self._tokenizer = load_word_pieces(tower)

    def count(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, begin and end tokens included."""
        # Unlike `encode`, this lets other threads run.
        return [len(encoding) for encoding in self._tokenizer.encode_batch(list(texts))]


class ModelFollower:
    """Keeps the live release of a model name loaded, and the previous one, so that a rollback needs no loading.

    Args:
        store: the releases and models.
        data: the images to search, or None.
        name: the model name whose ``live`` alias is followed.
    """

    def __init__(self, store: Store, data: Dataset | None, name: str) -> None:
        self.store, self.data, self.name = store, data, name
        self.reason = "the model is being loaded"
        self.load_error = ""  # why the release that is live now could not replace the served one
        self.draining = False
        self._current: LoadedModel | None = None
        self._previous: LoadedModel | None = None
        self._failed: tuple[int, float] | None = None  # release number, and when to try it again

    @property
    def loaded(self) -> LoadedModel:
        """The model for a request that begins now.

        Raises:
            RequestRejected: 503, no model is loaded yet.
        """
        if self._current is None:
            raise RequestRejected(self.reason, "try again in a moment", status=503, kind="not_ready")
        return self._current

    @property
    def current(self) -> LoadedModel | None:
        """The loaded model, or None."""
        return self._current

    @property
    def not_ready_reason(self) -> str:
        """Why no request should be sent now; empty when ready."""
        if self.draining:
            return "the server is shutting down"
        return "" if self._current else self.reason

    async def follow(self) -> None:
        """Poll the alias until cancelled; if a load fails, the loaded model stays in place."""
        while True:
            await asyncio.to_thread(self.poll)
            await asyncio.sleep(POLL_SECONDS)

    def poll(self) -> None:
        """Read the alias once; load and swap if it has moved."""
        try:
            alias = self.store.alias(self.name, "live")
            if alias is None:
                self.reason = f"no release of {self.name!r} is live; promote one with: clerestory release promote"
                self.load_error = ""
                return
            if self._current is not None and _number(self._current) == alias.number:
                self.load_error = ""
                return
            if self._failed and self._failed[0] == alias.number and time.monotonic() < self._failed[1]:
                return
            self._swap(self.store.release(self.name, alias.number))
        except ClerestoryError as error:
            self._report(str(error))
        except Exception:  # the server continues with the loaded model
            LOG.exception("the live release could not be loaded")
            self._report("the live release could not be loaded; the server's log has the reason")

    def _report(self, problem: str) -> None:
        if self._current is None:
            self.reason = problem
        else:
            self.load_error = problem

    def _swap(self, release: Release) -> None:
        if self._previous is not None and _number(self._previous) == release.number:
            loaded = self._previous
        else:
            try:
                loaded = self._load(release)
            except Exception:
                self._failed = (release.number, time.monotonic() + RETRY_SECONDS)
                raise
        self._previous, self._current = self._current, loaded
        self.load_error, self._failed = "", None
        LOG.info("serving %s (ready in %.1f s)", release.ref, loaded.load_seconds)

    def _load(self, release: Release) -> LoadedModel:
        start = time.perf_counter()
        failed = [finding for finding in self.store.verify_model(release.model) if finding.state == "fail"]
        if failed:
            raise IntegrityError(f"the files of {release.ref} have changed: {failed[0].message}", failed[0].fix)
        model = open_model(self.store.model_folder(release.model))
        return self._prepare(release.ref, release, model, start)

    def _prepare(
        self, ref: str, release: Release | None, model: AnyModel, start: float, remote_host: str = ""
    ) -> LoadedModel:
        searcher, calibrators = None, Calibrators()
        if isinstance(model, Embedder) and self.data is not None and len(self.data):
            index = build_index(model, self.data, self.store)
            searcher = ImageSearcher(model, index)
            calibrators = fit_calibrators(model, index, self.data, self.store)
        tokens = (
            TokenCounter(find_text_tower(model.config.text_tower_digest))
            if isinstance(model, ClerestoryEncoder)
            else None
        )
        seconds = time.perf_counter() - start
        return LoadedModel(ref, release, model, searcher, calibrators, tokens, seconds, remote_host)


class FixedModel(ModelFollower):
    """One model by any reference, such as ``hf:org/name``, in place of the live release; loaded once.

    Args:
        store: the cache of image embeddings.
        data: the images to search, or None.
        ref: see ``apps.loading.load_model``.
    """

    def __init__(self, store: Store, data: Dataset | None, ref: str) -> None:
        super().__init__(store, data, ref)
        self._retry_at = 0.0

    def poll(self) -> None:
        """Load the model if it is not loaded; after a failure, try again ``RETRY_SECONDS`` later."""
        if self._current is not None or time.monotonic() < self._retry_at:
            return
        start = time.perf_counter()
        try:
            model, resolved = load_model(self.store, self.name)
            ref = resolved.release.ref if resolved.release else self.name
            self._current = self._prepare(ref, resolved.release, model, start, remote_host(self.name))
            LOG.info("serving %s (ready in %.1f s)", self.name, self._current.load_seconds)
        except ClerestoryError as error:
            self._report(str(error))
        except Exception:  # tried again later, as for a release
            LOG.exception("%s could not be loaded", self.name)
            self._report(f"{self.name} could not be loaded; the server's log has the reason")
        self._retry_at = time.monotonic() + RETRY_SECONDS


def _number(loaded: LoadedModel) -> int:
    return loaded.release.number if loaded.release is not None else 0
