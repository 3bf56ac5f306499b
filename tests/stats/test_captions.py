"""Caption scores against definitions written out plainly."""

import math

import numpy as np
import pytest

from clerestory.core.errors import InputError
from clerestory.stats.captions import CiderD, clip_score, tokenise

REFERENCES = [
    ["a red car on the road", "red car drives on a road in the sun"],
    ["a cat sleeps on the sofa", "the grey cat is asleep"],
    ["two dogs play with a ball in the park"],
]
CANDIDATES = ["a red car on a road", "a dog on the sofa", "two dogs play with a ball in the park"]


def cider_d(candidates: list[str], references: list[list[str]], corpus: list[list[str]] | None = None) -> np.ndarray:
    scorer = CiderD(corpus or references)
    return np.array([scorer.score(c, r) for c, r in zip(candidates, references, strict=True)])


def grams(words: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def naive_cider_d(candidate: str, own: list[str], corpus: list[list[str]]) -> float:
    """Vedantam et al. 2015, equations 1 to 3 with the clipping and the Gaussian of CIDEr-D, as dense vectors."""
    score = 0.0
    hyp = candidate.split()
    for n in range(1, 5):
        vocabulary = sorted({g for captions in [*corpus, [candidate]] for c in captions for g in grams(c.split(), n)})
        idf = []
        for gram in vocabulary:
            df = sum(any(gram in grams(c.split(), n) for c in captions) for captions in corpus)
            idf.append(math.log(len(corpus) / max(1, df)))
        h = np.array([grams(hyp, n).count(g) * w for g, w in zip(vocabulary, idf, strict=True)])
        for reference in own:
            ref = reference.split()
            r = np.array([grams(ref, n).count(g) * w for g, w in zip(vocabulary, idf, strict=True)])
            norm = np.linalg.norm(h) * np.linalg.norm(r)
            if norm:
                score += (np.minimum(h, r) @ r / norm) * math.exp(-((len(hyp) - len(ref)) ** 2) / 72) / len(own)
    return 10 * score / 4


def test_cider_d_is_its_definition() -> None:
    found = cider_d(CANDIDATES, REFERENCES)
    naive = [naive_cider_d(c, r, REFERENCES) for c, r in zip(CANDIDATES, REFERENCES, strict=True)]
    np.testing.assert_allclose(found, naive, atol=1e-12)
    assert found[2] == pytest.approx(10)
    assert 0 < found[1] < found[0] < 10


def test_repeating_a_rare_word_does_not_pay() -> None:
    once, often = (cider_d([text], REFERENCES[:1], REFERENCES)[0] for text in ("a red car", "a red car car car car"))
    assert often < once


def test_a_part_scores_the_same_with_the_corpus_of_the_whole() -> None:
    whole = cider_d(CANDIDATES, REFERENCES)
    assert cider_d(CANDIDATES[:1], REFERENCES[:1], REFERENCES)[0] == whole[0]


def test_short_captions_have_a_lower_ceiling() -> None:
    assert cider_d(["red car", "grey cat"], [["red car"], ["grey cat"]]).tolist() == pytest.approx([5.0, 5.0])
    assert cider_d(["", "grey cat"], [["red car"], ["grey cat"]])[0] == 0


def test_words_are_lower_case_without_punctuation() -> None:
    assert tokenise("It's a WELL-lit café, isn't it?") == ["it's", "a", "well", "lit", "café", "isn't", "it"]
    assert cider_d(["A red car on the road!"], REFERENCES[:1], REFERENCES) == pytest.approx(
        cider_d(["a red car on the road"], REFERENCES[:1], REFERENCES)
    )


def test_captions_that_cannot_be_scored_say_so() -> None:
    with pytest.raises(InputError, match="two images"):
        cider_d(["a"], [["a"]])
    with pytest.raises(InputError, match="has no reference"):
        cider_d(["a", "b"], [["a"], []])


def test_clip_scores_by_hand() -> None:
    image, text = [[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]], [[1.0, 1.0], [0.0, 5.0], [-1.0, 0.0]]
    found = clip_score(image, text)
    assert found == pytest.approx([2.5 / math.sqrt(2), 2.5, 0.0])
    with pytest.raises(InputError, match="shapes"):
        clip_score(image, text[:2])
    with pytest.raises(InputError, match="not finite"):
        clip_score([[math.nan]], [[1.0]])
    with pytest.raises(InputError, match="row 0 of the captions is zero"):
        clip_score([[1.0]], [[0.0]])
