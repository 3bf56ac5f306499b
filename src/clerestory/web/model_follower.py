"""The served model: follows the alias ``live``, loads what it points to in the background, then swaps one reference.

Only ``check`` chooses the served release, right after it has read the alias. A load runs in a thread of its
own and only puts its model into memory, so what became live meanwhile is never overwritten by what was live before.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

from clerestory import __version__
from clerestory.apps.confidence import LabelCalibrators, SearchCalibrators, fit_captions, fit_search
from clerestory.apps.golden import replay_golden
from clerestory.apps.label_scores import fit_labels
from clerestory.apps.loading import is_external, load_model, open_stored, remote_host_of
from clerestory.apps.query_language import QueryLanguages
from clerestory.apps.search import build_index
from clerestory.apps.training_reference import count_unlike, training_reference
from clerestory.core.errors import ClerestoryError, IntegrityError, NotWritable, Refused
from clerestory.core.progress import QUIET, Progress, ProgressTask
from clerestory.core.release import Alias, Release
from clerestory.core.sample import Dataset
from clerestory.models import AnyModel, Embedder
from clerestory.models.protocols import tokenizer_folder_of
from clerestory.models.resolve import remote_host
from clerestory.models.text_tower_files import find_text_tower
from clerestory.stages.release.promotion import LIVE, PREVIOUS, check_live, require_ship
from clerestory.stages.serve.rollout_router import NO_ROLLOUT, RolloutRouter
from clerestory.store import ResolvedModel, Store
from clerestory.store.operations.keyed_hash import KeyedHash
from clerestory.store.operations.prediction import Arm
from clerestory.store.operations.servers import ServerStatus
from clerestory.web.loaded_model import LoadedModel, TokenCounter
from clerestory.web.search_index import ImageSearcher
from clerestory.web.security import RequestRejected

LOG = logging.getLogger("clerestory.web")
POLL_SECONDS = 0.2
RETRY_SECONDS = 30.0
BEING_LOADED = "the model is being loaded"
_ONLY = 0  # the number of a model that is not followed


class Lease(NamedTuple):
    """The version that answers a request, and how it was chosen."""

    loaded: LoadedModel
    arm: Arm = Arm.STABLE
    rollout: str = ""
    propensity: float = 1.0


class ModelFollower:
    """Keeps the live release of a model name loaded, and the previous one, so that a rollback needs no loading.

    Args:
        store: the releases and models.
        data: the images to search, or None.
        name: the model name whose ``live`` alias is followed.
        progress: shows how far a load is.

    Attributes:
        live: the release that ``live`` points to, such as ``icons@3``; empty if none does, or if it cannot be read.
        loading: the release that is being loaded; empty if none is.
        load_error: why the release that is live now could not replace the served one; empty if nothing is wrong.
        draining: whether the server is shutting down.
        router: assigns requests to the candidate of a rollout; None if it is not followed.
        proved: the served release that has answered the golden inputs as before since it serves, and the generation of
            the alias then.
        settled: set once nothing was left to load.
    """

    def __init__(self, store: Store, data: Dataset | None, name: str, progress: Progress = QUIET) -> None:
        self.store, self.data, self.name, self.progress = store, data, name, progress
        self.live = ""
        self.loading = ""
        self.load_error = ""
        self.draining = False
        self.router: RolloutRouter | None = None
        self.proved: tuple[str, int] = ("", 0)
        self.server_id = f"srv_{secrets.token_hex(8)}"
        self.started = time.time()
        self._keyed: KeyedHash | None = None
        self.settled = asyncio.Event()
        self._reason = BEING_LOADED
        self._doubt = ""  # how the served model fails the golden inputs
        self._distrust = ""  # why the alias cannot be trusted
        self._current: LoadedModel | None = None
        self._memory: dict[int, LoadedModel] = {}  # by release number
        self._failed: dict[int, tuple[str, float]] = {}  # the problem, and when to try again, by release number
        self._checked: Alias | None = None  # the state of the alias that agreed with the journal
        self._wanted: int | None = None  # the release to load next
        self._loader: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def loaded(self) -> LoadedModel:
        """The model for a request that begins now.

        Raises:
            RequestRejected: 503, no model is loaded yet.
        """
        current = self._current
        if current is None:
            raise RequestRejected(self._reason, "try again in a moment", status=503, kind="not_ready")
        return current

    def admit(
        self,
        subject: str = "",
        response: str = "",
        model: str = "",
        can_answer: Callable[[LoadedModel], bool] | None = None,
    ) -> Lease:
        """Bind a request to the version that answers it, whatever happens to the aliases meanwhile.

        Args:
            subject: the keyed hash of the caller's user id, who stays with one side of a rollout; may be empty.
            response: the id of the response.
            model: one release in memory that the request names, such as ``icons@3``; which no rollout concerns.
            can_answer: whether a candidate has what the request needs, such as an index; if not, the live release
                answers, and the request takes no part in the rollout, since its arm would not be random.

        Raises:
            RequestRejected: 503, no model is loaded yet.
        """
        stable = self.loaded
        for pinned in tuple(self._memory.values()) if model else ():
            if model in (pinned.ref, pinned.model.digest):
                return Lease(pinned)
        waiting = self._memory.get(self.router.candidate) if can_answer is not None and self.router else None
        if waiting is not None and can_answer is not None and not can_answer(waiting):
            return Lease(stable)
        chosen = self.router.assign(subject, response) if self.router is not None else NO_ROLLOUT
        candidate = self._memory.get(self.router.candidate) if chosen.arm is Arm.CANDIDATE and self.router else None
        return Lease(candidate or stable, chosen.arm, chosen.rollout, chosen.propensity)

    def subject(self, user: str) -> str:
        """The keyed hash of a user id; empty for an empty one, and where no key can be made."""
        if user and self._keyed is None:
            with suppress(NotWritable):
                self._keyed = KeyedHash(self.store.files)
        return self._keyed.of_subject(user) if self._keyed is not None else ""

    def resident(self, number: int) -> LoadedModel | None:
        """A release in memory; None if it is not."""
        return self._memory.get(number)

    def is_loaded(self, number: int) -> bool:
        """Whether a release is in memory."""
        return number in self._memory

    def status(self) -> ServerStatus:
        """What this server reads, serves and loads."""
        rollout = self.router.rollout if self.router is not None else None
        candidate = self._failed.get(rollout.candidate, ("", 0.0))[0] if rollout is not None else ""
        return ServerStatus(
            self.server_id,
            self.name,
            self.live,
            self.served,
            self.loading,
            self.started,
            time.time(),
            host=socket.gethostname(),
            process=os.getpid(),
            version=__version__,
            resident=tuple(self._ref(number) for number in sorted(self._memory.copy())),
            rollout=rollout.id if rollout is not None else "",
            problem=self._distrust or self.load_error or self._doubt or candidate,
            proved=self.proved[0] if self.proved[0] == self.served else "",
            generation=self.proved[1],
        )

    @property
    def current(self) -> LoadedModel | None:
        """The loaded model, or None."""
        return self._current

    @property
    def served(self) -> str:
        """The release that answers now; empty if none does."""
        current = self._current
        return current.ref if current is not None else ""

    @property
    def not_ready_reason(self) -> str:
        """Why no request should be sent now; empty when ready."""
        if self.draining:
            return "the server is shutting down"
        return self._distrust or ("" if self._current else self._reason)

    async def follow(self) -> None:
        """Check until cancelled, and load in the background; if a load fails, the loaded model stays in place."""
        while True:
            wanted = await asyncio.to_thread(self.check)
            await asyncio.to_thread(self.prove)
            if wanted is None:
                self.settled.set()
            elif self._loader is None or not self._loader.is_alive():
                self._loader = threading.Thread(target=self._load_into_memory, args=(wanted,), name="loader")
                self._loader.start()
            await asyncio.sleep(POLL_SECONDS)

    def close(self) -> None:
        """Give up a load and wait for its end."""
        with self._lock:
            self.draining, self._wanted = True, None
        if self._loader is not None:
            self._loader.join()

    def poll(self) -> None:
        """Check, and load at once what is missing."""
        while (wanted := self.check()) is not None:
            self._load_into_memory(wanted)

    def check(self) -> int | None:
        """Read the alias once and serve what it points to, if that is in memory.

        Returns:
            The number of the release to load next: the live one, then the previous one; None if there is none.
        """
        with self._lock:
            try:
                self._wanted = self._follow_alias()
            except (IntegrityError, Refused) as error:
                self._distrust = self._reason = self.load_error = str(error)
                self._wanted, self.live = None, ""
            except ClerestoryError as error:
                self._reason = self.load_error = str(error)
                self.live = ""
            except Exception:  # the server continues with the loaded model
                LOG.exception("the live release cannot be read")
                self._reason = self.load_error = "the live release cannot be read; the server's log has the reason"
                self.live = ""
            return None if self.draining else self._wanted

    def prove(self) -> None:
        """Replay the golden inputs with the model that answers now, once for each move of the alias."""
        current, alias = self._current, self._checked
        if current is None or current.release is None or alias is None or alias.number != current.number:
            return
        if self.proved == (current.ref, alias.generation):
            return
        try:
            if not current.remote_host:
                replay_golden(self.store, current.release, current.model)
            self.proved, self._doubt = (current.ref, alias.generation), ""
        except ClerestoryError as error:
            self._doubt = str(error)
        except Exception:  # the model answers requests all the same, or fails them
            LOG.exception("the golden inputs cannot be replayed")
            self._doubt = f"{current.ref} does not answer the golden inputs; the server's log has the reason"

    def _follow_alias(self) -> int | None:
        alias = self._trusted_alias()
        self._distrust = ""
        if alias is None:
            self._reason = f"no release of {self.name!r} is live; promote one with: clerestory release promote"
            self.live, self.load_error, self._current = "", "", None
            return None
        self.live = f"{alias.name}@{alias.number}"
        if alias.number in self._memory:
            self._serve(self._memory[alias.number])
        else:
            problem, _ = self._failed.get(alias.number, ("", 0.0))
            self.load_error, self._reason = problem, problem or f"{self.live} is being loaded"
        previous = self.store.alias(self.name, PREVIOUS)
        candidate = self.router.candidate if self.router is not None else 0
        return self._next_load(alias.number, previous.number if previous else 0, candidate)

    def _trusted_alias(self) -> Alias | None:
        """The alias as it is now, in a state that has been compared with the journal and the decision."""
        while (alias := self.store.alias(self.name, LIVE)) != self._checked or alias is None:
            check_live(self.name, alias, self.store)
            if alias is None:
                return None
            self._checked = alias
            self._failed.clear()
        return alias

    def _serve(self, loaded: LoadedModel) -> None:
        if self._current is not loaded:
            LOG.info("serving %s (loaded in %.1f s)", loaded.ref, loaded.load_seconds)
        self._current, self.load_error = loaded, ""

    def _next_load(self, live: int, previous: int, candidate: int = 0) -> int | None:
        """The release to load next; forgets those in memory that neither serve nor may serve soon.

        A request that was admitted holds its version until it is answered, so a forgotten one leaves after its last
        request.
        """
        served = self._current.number if self._current else 0
        keep = {live, served, previous, candidate}
        spare = [number for number in self._memory if number not in keep]
        for number in spare if previous else spare[:-1]:
            del self._memory[number]
        now = time.monotonic()
        for number in (live, candidate, previous):
            if number and number not in self._memory and now >= self._failed.get(number, ("", 0.0))[1]:
                return number
        return None

    def _load_into_memory(self, number: int) -> None:
        """Load a release, unless something else is wanted meanwhile; then check what is to be served."""
        self.loading = self._ref(number)
        start = time.perf_counter()
        try:
            loaded = self._load(number, start)
        except _Superseded:
            LOG.info("%s is not loaded: it is not needed any more", self.loading)
        except ClerestoryError as error:
            self._fail(number, str(error))
        except Exception:  # the server continues with the loaded model
            LOG.exception("%s could not be loaded", self.loading)
            self._fail(number, f"{self.loading} could not be loaded; the server's log has the reason")
        else:
            with self._lock:
                self._failed.pop(number, None)
                self._memory[number] = loaded
            gc.freeze()  # or each garbage collection would visit the model, which took a fifth of the processor time
        finally:
            self.loading = ""
        self.check()

    def _fail(self, number: int, problem: str) -> None:
        with self._lock:
            self._failed[number] = (problem, time.monotonic() + RETRY_SECONDS)

    def _ref(self, number: int) -> str:
        return f"{self.name}@{number}"

    def _load(self, number: int, start: float) -> LoadedModel:
        release = self.store.release(self.name, number)
        require_ship(release, "served")
        self._verify_files(release.ref, release.model)
        self._check_wanted(number)
        model = open_stored(self.store, release.model, release.ref)
        host = remote_host_of(self.store.model_folder(release.model))
        if not host:
            replay_golden(self.store, release, model)
        return self._prepare(number, release.ref, release, model, start, host)

    def _verify_files(self, ref: str, digest: str) -> None:
        failed = [finding for finding in self.store.verify_model(digest) if finding.state == "fail"]
        if failed:
            raise IntegrityError(f"the files of {ref} have changed: {failed[0].message}", failed[0].fix)

    def _check_wanted(self, number: int) -> None:
        if self._wanted != number:
            raise _Superseded

    def _prepare(
        self, number: int, ref: str, release: Release | None, model: AnyModel, start: float, remote_host: str = ""
    ) -> LoadedModel:
        searcher, search, unlike, calibrators = None, SearchCalibrators(), (0, 0), LabelCalibrators()
        reference = training_reference(model, self.store)
        self._check_wanted(number)
        if isinstance(model, Embedder) and self.data is not None and len(self.data):
            progress = _WhileWanted(self, number, ref)
            index = build_index(model, self.data, self.store, progress)
            self._check_wanted(number)
            searcher = ImageSearcher(model, index)
            search = fit_search(model, index, self.store)
            calibrators = fit_labels(model, index, self.store)
            if reference.captions is None:
                reference = replace(reference, captions=fit_captions(model, self.data, self.store, progress))
            unlike = count_unlike(reference, self.data, self.store)
        languages = QueryLanguages(model, self.data or ())
        languages.check("a first query loads the detector")
        tower = _text_tower_of(model)
        # An exported model brings its tokenizer along; then the text tower need not be installed.
        tokens = TokenCounter(tokenizer_folder_of(model) or find_text_tower(tower)) if tower else None
        seconds = time.perf_counter() - start
        return LoadedModel(
            ref,
            release,
            model,
            searcher,
            search,
            reference,
            languages,
            tokens,
            seconds,
            remote_host,
            unlike,
            calibrators,
        )


class FixedModel(ModelFollower):
    """One model by any reference, such as ``hf:org/name``, in place of the live release; loaded once.

    Args:
        store: the cache of image embeddings.
        data: the images to search, or None.
        name: any reference of a model; see ``apps.loading.load_model``.
    """

    def _follow_alias(self) -> int | None:
        """Serve the model if it is in memory; after a failed load, try again ``RETRY_SECONDS`` later."""
        if _ONLY in self._memory:
            self._serve(self._memory[_ONLY])
            return None
        problem, retry_at = self._failed.get(_ONLY, ("", 0.0))
        self._reason = problem or BEING_LOADED
        return _ONLY if time.monotonic() >= retry_at else None

    def _ref(self, number: int) -> str:
        return self.name

    def _load(self, number: int, start: float) -> LoadedModel:
        if not is_external(self.name):
            self._verify_files(self.name, self.store.resolve(self.name).digest)
        model, resolved = load_model(self.store, self.name)
        ref = resolved.release.ref if resolved.release else self.name
        return self._prepare(number, ref, resolved.release, model, start, self._host(resolved))

    def _host(self, resolved: ResolvedModel) -> str:
        if is_external(self.name):
            return remote_host(self.name)
        return remote_host_of(self.store.model_folder(resolved.digest))


def _text_tower_of(model: AnyModel) -> str:
    """The digest of the text tower of one of Clerestory's own models; empty for any other.

    By the attributes, since importing the class of a model that is not served would load transformers.
    """
    settings = getattr(model, "settings", {})
    return str(
        getattr(getattr(model, "config", None), "text_tower_digest", "") or settings.get("text_tower_digest", "")
    )


class _Superseded(Exception):
    """What is being loaded is not needed any more."""


class _WhileWanted:
    """Shows the progress of a load, and ends the work once its result is not needed any more."""

    def __init__(self, follower: ModelFollower, number: int, ref: str) -> None:
        self._follower, self._number, self._ref = follower, number, ref
        self._task: ProgressTask | None = None

    @contextmanager
    def task(self, label: str, total: int) -> Iterator[ProgressTask]:
        """One stage of the work, which a cache saves the next time."""
        shown = self._follower.progress
        shown.write_line(
            f"notice: {label[:1].lower()}{label[1:]} with {self._ref}, which is done once; until then the pages say "
            "that it is being loaded"
        )
        with shown.task(label, total) as self._task:
            yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Go on, or end."""
        self._follower._check_wanted(self._number)
        if self._task is not None:
            self._task.advance(steps, note)

    def write_line(self, line: str) -> None:
        """Display one line."""
        self._follower.progress.write_line(line)
