"""All detectors of one model: every monitor (embedding, number, category) on every slice, under one budget.

The same code watches live traffic and replays a log. Memory is bounded: of each slice the observations of the last
windows and what has been waiting for a full window.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from clerestory.core.errors import DataError
from clerestory.stages.watch.drift.alarms import (
    NUM_SHOWN,
    CarryingObservation,
    DriftAlarm,
    describe_change,
    nearest_references,
)
from clerestory.stages.watch.drift.episodes import DriftEpisode, EndOfShift
from clerestory.stages.watch.drift.observations import (
    ALL,
    CATEGORIES,
    EMBEDDING,
    NUMBERS,
    DriftObservation,
    ObservationTable,
)
from clerestory.stages.watch.drift.settings import DriftSettings
from clerestory.stats.alarm_budget import share_of, window_spend
from clerestory.stats.drift import MIN_WINDOWS_OF_REFERENCE, DriftDetector
from clerestory.stats.drift_features import CategoryFeatures, Features, FourierFeatures, Matrix, StepFeatures

MAX_SLICES = 16  # of each column
MAX_SUBJECTS = 100_000
KEPT_WINDOWS = 48
MAX_POINTS = 2_000
GAP = 2  # windows; a shift that returns sooner was never over
PENDING = ""  # the monitor under which the state of a slice has its waiting observations


@dataclass(frozen=True, slots=True)
class DriftPoint:
    """The evidence of a monitor after one window; an alarm at 1.

    Attributes:
        window: its number.
        at: the time of its last observation; None without times.
        evidence: the statistic.
        spend: what could be spent on the window.
    """

    window: int
    at: float | None
    evidence: float
    spend: float


@dataclass
class MonitorState:
    """One monitor on one slice.

    Attributes:
        monitor, slice: its name.
        features: of its observations.
        detector: with the evidence.
        points: the evidence after each window, the last ``MAX_POINTS`` of them.
        reference: the part of the reference that is in the slice.
        episodes: the shifts that were found, if the monitors restart.
        shift: the one that lasts now, if the monitors restart.
    """

    monitor: str
    slice: str
    features: Features
    detector: DriftDetector
    reference: ObservationTable
    points: deque[DriftPoint] = field(default_factory=lambda: deque(maxlen=MAX_POINTS))
    episodes: list[DriftEpisode] = field(default_factory=list)
    shift: EndOfShift | None = None

    def features_of(self, observations: Sequence[DriftObservation]) -> Matrix:
        """(N, D)."""
        return _features_of(self.features, self.monitor, observations)

    def reference_features(self) -> Matrix:
        """(N, D), of the reference in the slice."""
        return _reference_features(self.features, self.monitor, self.reference)


@dataclass
class _Slice:
    """The windows of one slice."""

    name: str
    monitors: list[MonitorState]
    pending: list[DriftObservation] = field(default_factory=list)
    windows: deque[tuple[int, list[DriftObservation]]] = field(default_factory=lambda: deque(maxlen=KEPT_WINDOWS))
    num_windows: int = 0
    last_end: float | None = None


class DriftMonitors:
    """Compare observations with a reference, monitor by monitor and slice by slice.

    Args:
        reference: named data or a log, embedded by the model whose traffic is watched.
        settings: the window, the budget, …
        columns: what the traffic has; None for what the reference has.
        restart: go on by itself when the shift of an alarm is over, as a replay does; a server waits for a person.

    Attributes:
        unwatched: why a monitor or a slice is not watched, in words, by its name.
        left_out: observations that were left out, by the reason in words.
        num_observed: all observations, with those left out.

    Raises:
        DataError: the reference is too small, or has nothing in common with the traffic.
    """

    def __init__(
        self,
        reference: ObservationTable,
        settings: DriftSettings,
        columns: Sequence[str] | None = None,
        restart: bool = False,
    ) -> None:
        self.reference = reference
        self.restart = restart
        self.settings = settings
        self.unwatched: dict[str, str] = {}
        self.left_out: Counter[str] = Counter()
        self.num_observed = 0
        self._width = reference.embeddings.shape[1] if reference.embeddings is not None else 0
        self._seen: OrderedDict[str, float] = OrderedDict()
        needed = MIN_WINDOWS_OF_REFERENCE * settings.window
        if len(reference) < needed:
            raise DataError(
                f"the reference has {len(reference):,} observations, and windows of {settings.window} need {needed:,}",
                f"use a larger reference, or windows of {max(8, len(reference) // MIN_WINDOWS_OF_REFERENCE)} or fewer",
            )
        self._slices = self._plan(columns)
        if not self._slices[ALL].monitors:
            raise DataError(
                "the traffic and the reference have no watched column in common",
                f"the reference has {', '.join(reference.columns) or 'none'}",
            )
        self.share = share_of(len(self.monitors))

    @property
    def monitors(self) -> list[MonitorState]:
        """Every monitor on every slice."""
        return [monitor for each in self._slices.values() for monitor in each.monitors]

    @property
    def num_pending(self) -> int:
        """Observations that wait for a full window of all traffic."""
        return len(self._slices[ALL].pending)

    def observe(self, observation: DriftObservation) -> list[DriftAlarm]:
        """Take one observation; the alarms of the windows that it completes."""
        self.num_observed += 1
        if reason := self._unusable(observation):
            self.left_out[reason] += 1
            return []
        alarms = []
        for each in self._slices_of(observation):
            each.pending.append(observation)
            if len(each.pending) == self.settings.window:
                alarms += self._step(each)
        return alarms

    def reset(self, monitor: str = "", slice: str = "") -> int:
        """Start monitors again after an alarm; all of them by default. Returns how many were latched."""
        latched = 0
        for each in self.monitors:
            if (not monitor or each.monitor == monitor) and (not slice or each.slice == slice):
                latched += each.detector.latched
                each.detector.reset()
        return latched

    def state(self) -> dict[tuple[str, str], bytes]:
        """Everything that changes, by monitor and slice, to go on in another process bit for bit."""
        states = {(each.monitor, each.slice): each.detector.state() for each in self.monitors}
        for name, each in self._slices.items():
            meta = {
                "windows": each.num_windows,
                "end": each.last_end,
                "rows": [[o.id, o.at, o.subject, dict(o.numbers), dict(o.categories)] for o in each.pending],
                "seen": list(self._seen.items()) if name == ALL else [],
                "left_out": dict(self.left_out) if name == ALL else {},
                "observed": self.num_observed if name == ALL else 0,
            }
            buffer = io.BytesIO()
            rows = [o.embedding for o in each.pending if o.embedding is not None]
            matrix = np.stack(rows) if rows else np.zeros((0, self._width), dtype=np.float32)
            np.savez(buffer, meta=np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8), embeddings=matrix)
            states[PENDING, name] = buffer.getvalue()
        return states

    def restore(self, states: Mapping[tuple[str, str], bytes]) -> None:
        """Go on from a ``state`` of the same reference and settings.

        Raises:
            DataError: a state cannot be read, or is of other monitors.
        """
        for each in self.monitors:
            if (each.monitor, each.slice) in states:
                each.detector.restore(states[each.monitor, each.slice])
        for name, part in self._slices.items():
            if (PENDING, name) not in states:
                continue
            try:
                with np.load(io.BytesIO(states[PENDING, name]), allow_pickle=False) as arrays:
                    meta, rows = json.loads(arrays["meta"].tobytes()), arrays["embeddings"]
            except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
                raise DataError("the state of the drift monitors cannot be read", "reset them") from error
            part.num_windows, part.last_end = meta["windows"], meta["end"]
            part.pending = [
                DriftObservation(name, at, subject, rows[i] if len(rows) else None, numbers, categories)
                for i, (name, at, subject, numbers, categories) in enumerate(meta["rows"])
            ]
            if name == ALL:
                self._seen = OrderedDict(meta["seen"])
                self.left_out, self.num_observed = Counter(meta["left_out"]), meta["observed"]

    def _plan(self, columns: Sequence[str] | None) -> dict[str, _Slice]:
        reference = self.reference
        watched = {EMBEDDING, *NUMBERS, *CATEGORIES, *self.settings.columns}
        known = [name for name in reference.columns if name in watched]
        shared = [name for name in known if columns is None or name in columns]
        for name in sorted({*known, *({*(columns or ())} & watched)} - {*shared}):
            self.unwatched[name] = f"only the {'reference' if name in reference.columns else 'traffic'} has it"
        slices = {ALL: self._slice(ALL, reference, shared)}
        for column in self.settings.slice_by:
            if column not in reference.categories:
                self.unwatched[column] = "the reference has no such column to slice by"
                continue
            counts = Counter(value for value in reference.categories[column] if value)
            for place, (value, count) in enumerate(sorted(counts.items(), key=lambda item: (-item[1], item[0]))):
                name = f"{column}={value}"
                needed = MIN_WINDOWS_OF_REFERENCE * self.settings.window
                if count < needed:
                    self.unwatched[name] = f"the reference has {count:,} observations of it, and {needed:,} are needed"
                elif place >= MAX_SLICES:
                    self.unwatched[name] = f"at most {MAX_SLICES} values of a column are watched"
                else:
                    rows = [i for i, each in enumerate(reference.categories[column]) if each == value]
                    part = reference.take(np.array(rows))
                    slices[name] = self._slice(name, part, [each for each in shared if each != column])
        return slices

    def _slice(self, name: str, reference: ObservationTable, columns: Sequence[str]) -> _Slice:
        monitors = []
        for column in columns:
            features = self._fit(column, reference)
            rows = _reference_features(features, column, reference)
            detector = DriftDetector(rows, self.settings.window, self.settings.seed)
            monitors.append(MonitorState(column, name, features, detector, reference))
        return _Slice(name, monitors)

    def _fit(self, column: str, reference: ObservationTable) -> Features:
        if column == EMBEDDING and reference.embeddings is not None:
            return FourierFeatures.fit(reference.embeddings, self.settings.seed)
        if column in reference.numbers:
            return StepFeatures.fit(reference.numbers[column])
        return CategoryFeatures.fit(reference.categories[column])

    def _unusable(self, observation: DriftObservation) -> str:
        """Why an observation is left out; empty if it is used."""
        if self._width:
            row = observation.embedding
            if row is None:
                return "no embedding"
            if len(row) != self._width:
                return f"an embedding of {len(row):,} instead of {self._width:,} numbers"
            if not np.isfinite(row).all():
                return "an embedding that is not finite"
        subject = observation.subject
        if subject:
            pending = self._slices[ALL].pending
            last, at = self._seen.get(subject), observation.at
            recent = last is not None and at is not None and at - last < self.settings.subject_hours * 3600
            if recent or any(each.subject == subject for each in pending):
                return "the same person again"
            if at is not None:
                self._seen[subject] = at
                self._seen.move_to_end(subject)
                while len(self._seen) > MAX_SUBJECTS:
                    self._seen.popitem(last=False)
        return ""

    def _slices_of(self, observation: DriftObservation) -> list[_Slice]:
        names = [f"{column}={observation.categories.get(column, '')}" for column in self.settings.slice_by]
        return [self._slices[ALL], *(self._slices[name] for name in names if name in self._slices)]

    def _step(self, part: _Slice) -> list[DriftAlarm]:
        window, part.pending = part.pending, []
        part.num_windows += 1
        part.windows.append((part.num_windows, window))
        end, start = window[-1].at, part.last_end if part.last_end is not None else window[0].at
        if end is None or start is None:
            spend = self.share / self.settings.windows_per_false_alarm
        else:
            spend = window_spend(self.settings.max_false_alarms_per_year, end - start, self.share)
        part.last_end = end
        alarms = []
        for each in part.monitors:
            live = each.features_of(window)
            if each.shift is not None and each.shift.step(live, part.num_windows, end):
                each.shift = None
                each.detector.reset()
            step = each.detector.step(live, spend)
            each.points.append(DriftPoint(step.window, end, step.evidence, spend))
            if step.alarm:
                alarm = self._alarm(part, each, step.rising_since, spend)
                if not self.restart or self._follow(part, each, alarm):
                    alarms.append(alarm)
        return alarms

    def _follow(self, part: _Slice, each: MonitorState, alarm: DriftAlarm) -> bool:
        """Follow the shift of an alarm to its end; whether it is another shift than the last one."""
        last = each.episodes[-1] if each.episodes else None
        is_new = last is None or alarm.began_window > (last.until_window or 0) + GAP
        if is_new or last is None:
            last = DriftEpisode(alarm)
            each.episodes.append(last)
        last.until_window = last.until = None
        recent = [one for number, window in part.windows if number >= alarm.began_window for one in window]
        features = each.features_of(recent)
        reference = each.reference_features()
        each.shift = EndOfShift(last, each.detector.witness_D, reference, features, self.settings.window)
        return is_new

    def _alarm(self, part: _Slice, each: MonitorState, began: int, spend: float) -> DriftAlarm:
        kept = [(number, window) for number, window in part.windows if number >= began] or [part.windows[-1]]
        recent = [observation for _, window in kept for observation in window]
        witness = each.detector.witness_D
        reference_scores = each.reference_features() @ witness
        scores = each.features_of(recent) @ witness
        centre, scale = float(reference_scores.mean()), float(reference_scores.std()) or 1.0
        order = np.argsort(-scores, kind="stable")[:NUM_SHOWN].tolist()
        observations = tuple(
            CarryingObservation(
                recent[i].id,
                recent[i].at,
                (float(scores[i]) - centre) / scale,
                nearest_references(recent[i].embedding, each.reference),
            )
            for i in order
        )
        change = describe_change(each.monitor, each.reference, recent, reference_scores, scores)
        first = kept[0][1][0].at
        return DriftAlarm(
            each.monitor, part.name, part.num_windows, part.last_end, began, first, spend, change, observations
        )


def _features_of(features: Features, monitor: str, observations: Sequence[DriftObservation]) -> Matrix:
    if isinstance(features, FourierFeatures):
        return features(np.stack([each.embedding for each in observations if each.embedding is not None]))
    if isinstance(features, StepFeatures):
        return features(np.array([each.numbers.get(monitor, np.nan) for each in observations]))
    return features([each.categories.get(monitor, "") for each in observations])


def _reference_features(features: Features, monitor: str, reference: ObservationTable) -> Matrix:
    if isinstance(features, FourierFeatures):
        assert reference.embeddings is not None  # its features were fitted on them
        return features(reference.embeddings)
    if isinstance(features, StepFeatures):
        return features(reference.numbers[monitor])
    return features(reference.categories[monitor])
