"""The drift monitors of a server: bounded, never waited for, on the disk after each window, and with an incident."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.colour_tiles import ColourModel
from tests.support.images import encode_image

from clerestory.apps import drift_live
from clerestory.apps.datasets import add_dataset
from clerestory.apps.drift_live import LiveDriftMonitor
from clerestory.apps.drift_reference import choose_reference, reference_choice, request_reset
from clerestory.core.errors import DataError, InputError
from clerestory.models.protocols import Embedder
from clerestory.stages.watch.drift.settings import DriftSettings
from clerestory.store import Store, open_store
from clerestory.store.operations.incidents import AlertKind, incidents
from clerestory.store.operations.kept_images import KeptImages
from clerestory.store.operations.monitor_states import SUMMARY, MonitorRecord, read_monitors, write_monitor
from clerestory.store.operations.prediction import Arm, Prediction, RequestKind

MODEL = ColourModel()
SETTINGS = DriftSettings(window=8, subject_hours=0, max_false_alarms_per_year=1000)


def picture(rng: np.random.Generator, blue: bool = False) -> bytes:
    warm, cold = int(rng.integers(120, 255)), int(rng.integers(0, 120))
    return encode_image(
        Image.new("RGB", (20, 16), (cold, 30, warm) if blue else (warm, int(rng.integers(0, 160)), cold))
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(160):
        (folder / f"{i}.png").write_bytes(picture(rng))
        (folder / f"{i}.txt").write_text(f"warm {i}", encoding="utf-8")
    store = open_store(tmp_path / "home")
    add_dataset(store, str(folder), "warm")
    choose_reference(store, "tiles", "warm", why="a test")
    return store


def monitor(store: Store, settings: DriftSettings = SETTINGS, server: str = "a") -> LiveDriftMonitor:
    def embedder(model: str) -> Embedder | None:
        return MODEL if model == MODEL.digest else None

    return LiveDriftMonitor(store, embedder, settings, server)


def prediction(number: int, **fields: object) -> Prediction:
    values = {
        "subject": f"person {number}",
        "at": 1.79e9 + 3600 * number,
        "model": MODEL.digest,
        "name": "tiles",
    } | fields
    return Prediction(f"resp_{number:032d}", f"req{number}", kind=RequestKind.EMBEDDINGS, number=1, **values)  # type: ignore[arg-type]


def send(watch: LiveDriftMonitor, numbers: range, blue: bool = False, **fields: object) -> None:
    for number in numbers:
        rng = np.random.default_rng([1, number])
        image = picture(rng, blue)
        rows = MODEL.embed_images([decoded(image)])
        watch.observe(prediction(number, **fields), rows, [image])


def decoded(image: bytes) -> Image.Image:
    return Image.open(io.BytesIO(image)).convert("RGB")


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def summary(store: Store, server: str = "a") -> dict[str, object]:
    (row,) = [row for row in read_monitors(store.database, "tiles", server) if row.monitor == SUMMARY]
    return dict(row.body)


def test_a_new_kind_of_image_opens_one_incident_with_its_images(store: Store) -> None:
    watch = monitor(store, DriftSettings(window=8, subject_hours=0, max_false_alarms_per_year=1000, keep_images=500))
    send(watch, range(120))
    send(watch, range(120, 420), blue=True)
    watch.close()
    body = summary(store)
    alarms = body["alarms"]
    assert isinstance(alarms, list)
    embedding = next(alarm for alarm in alarms if alarm["monitor"] == "embedding")
    assert embedding["began_window"] >= 12
    kept = KeptImages(store.files)
    for each in embedding["observations"]:
        assert int(each["id"].removeprefix("resp_")) >= 120, "an image from before the change"
        assert len(each["nearest"]) == 3
        assert kept.has(each["id"])
    opened = [one for one in incidents(store) if one.kind is AlertKind.DRIFT]
    assert {one.subject for one in opened} == {f"{alarm['monitor']}/all" for alarm in alarms}
    assert "alarm" in opened[0].title
    gauges = {(name, labels.get("monitor")): value for name, labels, value in watch.gauges()}
    assert gauges["clerestory_drift_alarm", "embedding"] == 1


def test_it_resumes_bit_for_bit_after_a_kill(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = monitor(store, server="whole")
    send(whole, range(200))
    whole.close()
    monkeypatch.setattr(drift_live, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(drift_live, "CHECK_SECONDS", 0.01)
    killed = monitor(store, server="killed")
    send(killed, range(91))  # in the middle of a window
    wait(lambda: _observed(store, "killed") == 91)
    resumed = monitor(store, server="killed")  # the first one is never closed
    send(resumed, range(91, 200))
    resumed.close()
    one, other = (
        {(r.monitor, r.slice): r.state for r in read_monitors(store.database, "tiles", server) if r.state}
        for server in ("whole", "killed")
    )
    assert one.keys() == other.keys()
    assert one == other
    killed.close()


def _observed(store: Store, server: str) -> int:
    rows = [row for row in read_monitors(store.database, "tiles", server) if row.monitor == SUMMARY]
    return int(rows[0].body["observed"]) if rows else 0


def test_only_one_image_of_a_request_and_only_of_the_stable_version_counts(store: Store) -> None:
    watch = monitor(store)
    image = picture(np.random.default_rng(1))
    rows = np.tile(MODEL.embed_images([decoded(image)]), (40, 1))
    watch.observe(prediction(1), rows, [image] * 40)
    watch.observe(prediction(2, arm=Arm.SHADOW), rows, [image] * 40)
    watch.observe(prediction(3, status=400), rows, [image] * 40)
    watch.observe(prediction(4), rows, [])  # texts
    watch.close()
    assert summary(store)["observed"] == 1


def test_the_queue_is_bounded_and_never_waits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = monitor(store)
    monkeypatch.setattr(drift_live, "MAX_WAITING", 5)
    monkeypatch.setattr(watch, "_run", lambda: None)  # a thread that is stuck
    send(watch, range(12))
    assert watch.dropped == 7
    assert len(watch._queue) == 5


def test_a_reset_and_another_reference_are_followed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_live, "CHECK_SECONDS", 0.05)
    watch = monitor(store)
    send(watch, range(200), blue=True)
    wait(lambda: any(value == 1 for name, _, value in watch.gauges() if name == "clerestory_drift_alarm"))
    with pytest.raises(InputError, match="only reset for a reason"):
        request_reset(store, "tiles", " ")
    request_reset(store, "tiles", "a campaign with blue pictures")
    wait(lambda: "reset by a person" in json.dumps(summary(store)["notes"]))
    assert not any(value == 1 for name, _, value in watch.gauges() if name == "clerestory_drift_alarm")
    with pytest.raises(DataError, match="has no split 'night'"):
        choose_reference(store, "tiles", "warm", "night")
    watch.close()
    kinds = [record.event.kind for record in store.journal.records("tiles")]
    assert kinds[-2:] == ["drift_reference", "drift_reset"]


def test_another_model_starts_again_and_says_so(store: Store) -> None:
    other = ColourModel()
    other.digest = "f" * 64

    def embedder(model: str) -> Embedder | None:
        return {MODEL.digest: MODEL, other.digest: other}[model]

    watch = LiveDriftMonitor(store, embedder, SETTINGS, "a")
    send(watch, range(50))
    send(watch, range(50, 60), model=other.digest)
    watch.close()
    body = summary(store)
    assert body["model"] == other.digest
    assert body["observed"] == 10
    assert "started again" in json.dumps(body["notes"])


def test_without_a_reference_it_says_what_to_do(tmp_path: Path) -> None:
    store = open_store(tmp_path / "home")
    assert reference_choice(store, "tiles", MODEL.digest) is None
    watch = monitor(store)
    send(watch, range(3))
    watch.close()
    assert "clerestory watch reference tiles --data DATA" in watch.problem


def test_two_servers_on_one_computer_do_not_share_a_state(store: Store) -> None:
    """The row of a server that runs belongs to it; pid 1 always runs."""
    first = monitor(store)
    send(first, range(20))
    first.close()
    body = {**summary(store), "pid": 1}
    with store.database.writing() as connection:
        write_monitor(connection, MonitorRecord("tiles", SUMMARY, "", "a", 1.0, body))
    second = monitor(store)
    send(second, range(20))
    second.close()
    assert summary(store, "a#2")["observed"] == 20
