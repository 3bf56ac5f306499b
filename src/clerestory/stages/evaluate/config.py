"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from clerestory.core.errors import ConfigError
from clerestory.core.sample import TEST, TEST_STYLE
from clerestory.core.settings import Range, Seed, check_settings

RetrievalProtocol = Literal["all_captions", "five_captions", "first_caption"]


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """What to measure, and on how many samples.

    Attributes:
        splits: the splits to evaluate on. Data in which no sample has a split is evaluated whole, as split ``all``.
        language: the language of the captions to use (BCP 47; ``en`` includes ``en-GB``).
        slice_by: groups for whose values the retrieval and classification metrics are also measured one by one.
        min_slice_concepts: a slice with fewer concepts is not measured (a finding names it).
        caption_samples: how many images per split the model captions, 0 for none.
        captions_per_image: how many candidate captions to generate per image; the best of them is scored as well.
        latency_samples: how many single requests to time per operation, 0 for none. Bounding the 99th percentile
            takes 368.
        warm_up_requests: how many untimed requests precede them.
        batch_size: how many images or texts are embedded or captioned at a time.
        seed: selects the samples that are captioned, timed, corrupted and asked about.
        suites: the suites to run, such as ``retrieval``; all of them when empty.
        corruption_samples: how many images of the first split are evaluated under every corruption, 0 for none.
        vqa_samples: how many images of the first split questions are generated for, 0 for none.
        retrieval_protocol: the captions of an image that take part in retrieval: ``all_captions`` of the language,
            ``five_captions`` at most (the published protocol of Flickr8k, Flickr30k and COCO, Karpathy & Fei-Fei 2015),
            or the ``first_caption`` only. An image with several is found by any of them, and each is a query.
        max_reply_tokens: the length at which the reply of a generator is cut off; reasoning models need thousands.
        calibration_bins: the number of bins of reliability diagrams and calibration errors.
        min_group_concepts: a group with fewer concepts is not measured (a finding names it).
        arrival_rate_per_s: requests per second of the load test, 0 for a rate derived from the measured latency.
        load_seconds: the duration of the load test, 0 for none.
        prices: a price file; the examples that come with Clerestory when empty.
        tasks: task files (TOML) to run besides the suites.
        label_field: the group (or ``concept``) whose values are the classes of classification; chosen automatically
            when empty.
    """

    splits: tuple[str, ...] = (TEST, TEST_STYLE)
    language: str = "en"
    slice_by: tuple[str, ...] = ("style", "concept_split")
    min_slice_concepts: Annotated[int, Range(0)] = 20
    caption_samples: Annotated[int, Range(0)] = 200
    captions_per_image: Annotated[int, Range(1)] = 3
    latency_samples: Annotated[int, Range(0)] = 400
    warm_up_requests: Annotated[int, Range(0)] = 5
    batch_size: Annotated[int, Range(1)] = 64
    seed: Seed = 0
    suites: tuple[str, ...] = ()
    corruption_samples: Annotated[int, Range(0)] = 160
    vqa_samples: Annotated[int, Range(0)] = 300
    retrieval_protocol: RetrievalProtocol = "all_captions"
    max_reply_tokens: Annotated[int, Range(1, 1_000_000)] = 256
    calibration_bins: Annotated[int, Range(1, 1000)] = 15
    min_group_concepts: Annotated[int, Range(2)] = 10
    arrival_rate_per_s: Annotated[float, Range(0, 100_000)] = 0.0
    load_seconds: Annotated[float, Range(0, 86_400)] = 10.0
    prices: str = ""
    tasks: tuple[str, ...] = ()
    label_field: str = ""

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.splits:
            raise ConfigError("EvaluateConfig.splits is empty", "name at least one split, such as test")


@dataclass(frozen=True, slots=True)
class SelfTestConfig:
    """The size of a self-test, and when a gate raises an alarm.

    Attributes:
        num_images: how many images each fault is tested on; all of the split if it has fewer.
        num_rebuilds: how many times the unchanged pipeline is built again, to count false alarms.
        rebuild_images: how many images each rebuild is tested on.
        reload_every: number of rebuilds after which the model is read from disk again.
        alpha: the false alarm rate of each of the two tests of the quality gate.
        margin: the drop in mean reciprocal rank that the quality gate has to rule out.
        max_churn: the tolerated share of changed predictions, and of changed labels.
        max_distance: the tolerated cosine distance between two embeddings of the same input.
        split: the split of the images; the first one of the data if empty.
        language: of the captions.
        seed: selects images and seeds the faults.
    """

    num_images: Annotated[int, Range(1)] = 600
    num_rebuilds: Annotated[int, Range(1)] = 100
    rebuild_images: Annotated[int, Range(1)] = 64
    reload_every: Annotated[int, Range(1)] = 10
    alpha: Annotated[float, Range(0, 0.5, exclusive_minimum=True, exclusive_maximum=True)] = 0.001
    margin: Annotated[float, Range(0, exclusive_minimum=True)] = 0.01
    max_churn: Annotated[float, Range(0, 1)] = 0.005
    max_distance: Annotated[float, Range(0, 2)] = 1e-4
    split: str = "test"
    language: str = "en"
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_settings(self)
