from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import pytest

from clerestory.apps.confidence import Confidence, ScoreCalibrator, fit_calibrator
from clerestory.core.errors import InputError, NotFound, NotWritable
from clerestory.core.evidence import Interval, Measurement
from clerestory.core.release import Reason, Rule
from clerestory.core.sample import Caption, Dataset, Sample
from clerestory.models.adapters.http_client import is_loopback
from clerestory.stages.serve.config import QueueConfig
from clerestory.stages.serve.inference_queue import InferenceQueue, Overloaded
from clerestory.store import open_store
from clerestory.web import labels
from clerestory.web.app import create_app
from clerestory.web.interval_bar import LEFT, RIGHT, interval_bar
from clerestory.web.releases import _doubt
from clerestory.web.review_files import ReviewFiles
from clerestory.web.review_values import Proposal, RejectedFile, ReviewItem, ReviewPage
from clerestory.web.reviews import Reviews
from clerestory.web.search import EXAMPLES, example_queries
from clerestory.web.server import _listen, run
from clerestory.web.views import RELEASE_HEADER, release_header


def test_confidence_rises_with_the_score_and_the_labels_stand_for_the_accuracy() -> None:
    # Accuracy rises with the score from 0 to 1; isotonic regression must smooth the bins that are out of order.
    answers = [(i / 1000, (i * 7919) % 1000 < i) for i in range(1000)]
    calibrator = fit_calibrator(answers, 100, True)
    assert calibrator is not None
    assert list(calibrator.accuracies) == sorted(calibrator.accuracies)
    levels = [calibrator.confidence(score / 100).level for score in range(101)]
    assert levels == sorted(levels)
    assert (levels[0], levels[-1]) == (0, 2)
    assert calibrator.confidence(0.3).label == "possible"
    assert abs(float(calibrator.confidence(0.5).detail.split("about ")[1].split()[0]) - 50) < 10


def test_no_calibrator_is_fitted_on_too_few_answers() -> None:
    assert fit_calibrator([(0.5, True)] * 59, 20, True) is None


def test_no_answer_of_a_model_at_chance_is_likely() -> None:
    calibrator = fit_calibrator([(i / 100, i % 20 == 0) for i in range(100)], 10, True)
    assert isinstance(calibrator, ScoreCalibrator)
    assert {calibrator.confidence(score / 10).label for score in range(11)} == {"unlikely"}


def test_the_queue_is_bounded_and_in_order() -> None:
    async def scene() -> list[int]:
        queue = InferenceQueue(QueueConfig(max_requests=2))
        done: list[int] = []
        with queue.admit(), queue.admit():
            with pytest.raises(Overloaded) as rejected, queue.admit():
                pass
            assert rejected.value.retry_after >= 1
            assert rejected.value.reason == "requests"
            await asyncio.gather(*(queue.run(done.append, i) for i in range(20)))
        with queue.admit():
            pass
        with pytest.raises(ZeroDivisionError):
            await queue.run(lambda: 1 / 0)
        queue.close()
        return done

    with asyncio.Runner() as runner:
        assert runner.run(scene()) == list(range(20))


def test_reviews_are_bounded_in_memory_and_go_on_from_the_disk(tmp_path: Path) -> None:
    reviews = Reviews(ReviewFiles(tmp_path), max_in_memory=2)
    first = reviews.new("a@1")
    proposals = (Proposal("red", Confidence("unlikely", 0, "why")), Proposal("é", None))
    item = ReviewItem(1, "a.png", b"webp", proposals, "red")
    first.add([(item, b"large")], [RejectedFile("b", "c", "d")])
    first.step("editing", lambda page: page.with_edits({"caption-1": "a caption nobody has accepted yet"}))
    page, first_id = first.page, first.id
    del first
    others = [reviews.new("a@1").id for _ in range(41)]
    assert len(reviews._open) == 2
    again = reviews.get(first_id)
    assert (again.page, again.release) == (page, "a@1")
    assert reviews.get(first_id) is again
    assert len({first_id, *others}) == 42
    assert min(map(len, others)) >= 20
    for unknown in ("never-was", others[0], "..", "../" * 8, "a" * 5000, "\0" * 20):
        with pytest.raises(NotFound, match="no longer open"):
            reviews.get(unknown)


def test_untouched_reviews_are_removed_after_a_week_and_others_never(tmp_path: Path) -> None:
    reviews = Reviews(ReviewFiles(tmp_path))
    item = ReviewItem(1, "a.png", b"webp", (), "red")
    touched, untouched, young = (reviews.new("a@1") for _ in range(3))
    for review in (touched, untouched, young):
        review.add([(item, b"large")], [])
    touched.step("editing", lambda page: page.with_edits({"caption-1": "blue"}))
    for review in (touched, untouched):
        os.utime(tmp_path / review.id / "review.json", (0, 0))
    reviews.files.remove_untouched()
    assert {path.name for path in tmp_path.iterdir()} == {touched.id, young.id}


def test_a_step_that_cannot_be_written_is_not_acknowledged(tmp_path: Path) -> None:
    reviews = Reviews(ReviewFiles(tmp_path / "reviews"))
    (tmp_path / "reviews").write_text("in the way")
    review = reviews.new("a@1")
    review.add([(ReviewItem(1, "a.png", b"webp", (), "red"), b"large")], [])
    page = review.page
    with pytest.raises(NotWritable, match="cannot be written"):
        review.step("editing", lambda page: page.with_edits({"caption-1": "blue"}))
    assert (review.page, review.next_undo) == (page, "")


def test_a_step_that_changes_nothing_is_not_recorded(tmp_path: Path) -> None:
    review = Reviews(ReviewFiles(tmp_path)).new("a@1")
    review.page = ReviewPage(items=(ReviewItem(1, "a.png", b"", (), "red"),), last_number=1)
    review.step("nothing", lambda page: page.with_edits({"caption-1": " red "}))
    assert review.next_undo == ""
    review.step("editing", lambda page: page.with_edits({"caption-1": "blue", "caption-7": "nobody"}))
    assert review.next_undo == "editing"
    assert review.undo({}) == "editing"
    assert review.page.item(1).caption == "red"
    assert review.undo({}) == ""


def test_the_number_of_a_picture_that_was_undone_is_not_given_to_another(tmp_path: Path) -> None:
    reviews = Reviews(ReviewFiles(tmp_path))
    review = reviews.new("a@1")
    review.add([(ReviewItem(0, "first.png", b"first", (), ""), b"large")], [])
    review.add([(ReviewItem(0, "more.png", b"undone", (), ""), b"large")], [])
    review.undo({})
    review.add([(ReviewItem(0, "more.png", b"kept", (), ""), b"large")], [])
    stored = reviews.files.read(review.id)
    assert stored is not None
    assert [item.preview for item in stored[1].items] == [b"first", b"kept"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "just now"), (59, "just now"), (60, "1 minute ago"), (7300, "2 hours ago"), (86400 * 3, "3 days ago")],
)
def test_ago(seconds: int, expected: str) -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    assert labels.ago(then.isoformat(), datetime.fromtimestamp(then.timestamp() + seconds, UTC)) == expected


def test_an_interval_bar_has_interval_and_bound_in_order() -> None:
    measured = Measurement("recall@10", 0.5, "share", 100, Interval(0.4, 0.6, "wilson"))
    drawn = interval_bar(measured, "yes", 0.45)
    assert drawn.limit is not None
    assert LEFT < drawn.low < drawn.limit < drawn.point < drawn.high < RIGHT
    assert drawn.point == pytest.approx((LEFT + RIGHT) / 2)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "example.org", "::"])
def test_no_other_address_than_loopback_is_listened_on_without_keys(host: str, tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        app = create_app(store, None)
        with pytest.raises(InputError, match="can be reached from other computers"):
            run(app, host, 0, on_listening=lambda url: pytest.fail(f"listens on {url}"))


def test_a_port_in_use_is_an_error_of_one_sentence() -> None:
    taken = _listen("127.0.0.1", 0)
    with taken, pytest.raises(InputError, match="cannot be used"):
        _listen("127.0.0.1", taken.getsockname()[1])


def test_loopback_names() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))


def test_a_rule_that_fails_only_for_its_uncertainty_says_so() -> None:
    rule = Rule("found", "recall@10", at_least=0.4)
    lucky = Measurement("recall@10", 0.45, "share", 100, Interval(0.3, 0.6, "wilson"))
    poor = Measurement("recall@10", 0.35, "share", 100, Interval(0.3, 0.6, "wilson"))
    failed, passed = Reason("found", "fail", "below_minimum", "…"), Reason("found", "pass", "meets_bound", "…")
    assert "as low as 30" in _doubt(failed, rule, lucky)
    assert _doubt(failed, rule, poor) == ""
    assert _doubt(passed, rule, lucky) == ""
    slow = Measurement("latency_p95", 90, "ms", 100, Interval(80, 130, "order"), direction="lower")
    assert "as high as 130 ms" in _doubt(failed, Rule("fast", "latency_p95", at_most=100), slow).replace(
        "\N{NO-BREAK SPACE}", " "
    )


def test_example_queries_come_from_the_data() -> None:
    captions = [f"a {colour} shoe" for colour in ("red", "green", "blue")] + ["word " * 30, ""]
    samples = [Sample(f"{i}", "0" * 64, (Caption(text),) if text else ()) for i, text in enumerate(captions)]
    data = Dataset("shoes", samples, lambda sample: b"")
    assert list(example_queries(data)) == captions[:3]
    assert not example_queries(data.filter(lambda sample: not sample.caption))
    assert example_queries(Dataset("icons", samples, lambda sample: b"")) is EXAMPLES


def test_any_reference_of_a_model_fits_into_a_header() -> None:
    for ref in ("icons@3", "hf:org/name", "./my model"):
        assert release_header(ref) == {RELEASE_HEADER: ref}
    for ref in ("./模型", "a\r\nSet-Cookie: b", "100%"):
        (value,) = release_header(ref).values()
        assert value.encode("latin-1").decode().isprintable()
        assert unquote(value) == ref
