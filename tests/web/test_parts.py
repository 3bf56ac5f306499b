from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from clerestory.core.errors import InputError, NotFound
from clerestory.core.evidence import Interval, Measurement
from clerestory.core.release import Reason, Rule
from clerestory.web import labels
from clerestory.web.confidence import Scale, _scale
from clerestory.web.inference_queue import Work
from clerestory.web.interval_bar import LEFT, RIGHT, gauge
from clerestory.web.releases import _doubt
from clerestory.web.reviews import Item, Page, Reviews
from clerestory.web.security import Busy
from clerestory.web.server import _is_loopback, _listen


def test_a_higher_score_is_never_less_sure_and_the_words_keep_their_promise() -> None:
    # Rightness by score rises from 0 to 1; one bin is out of order and must be smoothed, not believed.
    answers = [(i / 1000, (i * 7919) % 1000 < i) for i in range(1000)]
    scale = _scale(answers, 100, True)
    assert scale is not None
    assert list(scale.shares) == sorted(scale.shares)
    levels = [scale.sure(score / 100).level for score in range(101)]
    assert levels == sorted(levels)
    assert (levels[0], levels[-1]) == (0, 3)
    assert scale.sure(0.55).words == "fairly sure"
    assert abs(float(scale.sure(0.5).detail.split("about ")[1].split()[0]) - 50) < 10


def test_too_few_answers_are_not_worth_a_word() -> None:
    assert _scale([(0.5, True)] * 59, 20, True) is None


def test_a_model_that_knows_nothing_only_guesses() -> None:
    scale = _scale([(i / 100, i % 20 == 0) for i in range(100)], 10, True)
    assert isinstance(scale, Scale)
    assert {scale.sure(score / 10).words for score in range(11)} == {"a guess"}


def test_work_is_bounded_and_keeps_its_order() -> None:
    async def scene() -> list[int]:
        work = Work(most=2)
        done: list[int] = []
        with work.admit(), work.admit():
            with pytest.raises(Busy) as turned, work.admit():
                pass
            assert turned.value.after >= 1
            assert turned.value.status == 429
            await asyncio.gather(*(work.run(done.append, i) for i in range(20)))
        with work.admit():
            pass
        with pytest.raises(ZeroDivisionError):
            await work.run(lambda: 1 / 0)
        work.close()
        return done

    with asyncio.Runner() as runner:
        assert runner.run(scene()) == list(range(20))


def test_reviews_are_bounded_and_the_untouched_one_goes() -> None:
    reviews = Reviews(most=2)
    first, second = reviews.new("a@1"), reviews.new("a@1")
    reviews.get(first.id)
    third = reviews.new("a@1")
    assert reviews.get(first.id) is first
    assert reviews.get(third.id) is third
    with pytest.raises(NotFound, match="no longer here"):
        reviews.get(second.id)
    assert len({first.id, second.id, third.id}) == 3
    assert min(map(len, (first.id, second.id))) >= 20


def test_a_step_that_changes_nothing_is_no_step() -> None:
    review = Reviews().new("a@1")
    review.page = Page(items=(Item(1, "a.png", b"", (), "red"),), given=1)
    review.step("nothing", lambda page: page.with_captions({1: " red "}))
    assert review.undoes == ""
    review.step("editing", lambda page: page.with_captions({1: "blue", 7: "nobody"}))
    assert review.undoes == "editing"
    assert review.undo({}) == "editing"
    assert review.page.item(1).caption == "red"
    assert review.undo({}) == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "just now"), (59, "just now"), (60, "1 minute ago"), (7300, "2 hours ago"), (86400 * 3, "3 days ago")],
)
def test_ago(seconds: int, said: str) -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    assert labels.ago(then.isoformat(), datetime.fromtimestamp(then.timestamp() + seconds, UTC)) == said


def test_a_gauge_puts_interval_and_bound_in_order() -> None:
    measured = Measurement("recall@10", 0.5, "share", 100, Interval(0.4, 0.6, "wilson"))
    drawn = gauge(measured, "yes", 0.45)
    assert drawn.limit is not None
    assert LEFT < drawn.low < drawn.limit < drawn.point < drawn.high < RIGHT
    assert drawn.point == pytest.approx((LEFT + RIGHT) / 2)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "example.org", "::"])
def test_only_the_loopback_address_is_listened_on(host: str) -> None:
    with pytest.raises(InputError, match="can be reached from other computers"):
        _listen(host, 0)


def test_a_taken_port_is_told_in_one_sentence() -> None:
    taken = _listen("127.0.0.1", 0)
    with taken, pytest.raises(InputError, match="cannot be used"):
        _listen("127.0.0.1", taken.getsockname()[1])


def test_loopback_names() -> None:
    assert all(map(_is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))


def test_a_rule_that_fails_only_for_its_uncertainty_says_so() -> None:
    rule = Rule("found", "recall@10", at_least=0.4)
    lucky = Measurement("recall@10", 0.45, "share", 100, Interval(0.3, 0.6, "wilson"))
    poor = Measurement("recall@10", 0.35, "share", 100, Interval(0.3, 0.6, "wilson"))
    failed, passed = Reason("found", "fail", "…"), Reason("found", "pass", "…")
    assert "as low as 30" in _doubt(failed, rule, lucky)
    assert _doubt(failed, rule, poor) == ""
    assert _doubt(passed, rule, lucky) == ""
    slow = Measurement("latency_p95", 90, "ms", 100, Interval(80, 130, "order"), direction="lower")
    assert "as high as 130 ms" in _doubt(failed, Rule("fast", "latency_p95", at_most=100), slow).replace(
        "\N{NO-BREAK SPACE}", " "
    )
