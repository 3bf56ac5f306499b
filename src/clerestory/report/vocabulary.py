"""The plain words for names of measurements, slices, kinds and events; ``format`` looks them up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """A name in plain words: a short ``title`` and one sentence of ``meaning``."""

    title: str
    meaning: str


METRICS = {
    "median rank": Words(
        "Typical place of the right answer",
        "Half of the questions have the right answer at this place or a better one.",
    ),
    "map": Words("How near the top the right answers are", "Mean average precision: 1 when they all come first."),
    "chrf": Words(
        "Likeness to the real caption",
        "Runs of letters that the first suggestion shares with the real caption (chrF): 0 is none, 1 is all of them.",
    ),
    "cider": Words(
        "Telling words shared with the real caption",
        "CIDEr-D, from 0 to 10: shared words count more when they are rare.",
    ),
    "clip score": Words(
        "Fit of caption and picture, by the model itself",
        "The model judges its own captions (CLIPScore, 0 to 2.5), so compare it only with itself.",
    ),
    "latency p50": Words("Usual wait", "Half of the answers took this long or less, asked for one at a time."),
    "latency p95": Words("Slow wait", "Nineteen of twenty answers took this long or less, asked for one at a time."),
    "latency p99": Words("Slowest wait", "Ninety-nine of a hundred answers took this long or less, one at a time."),
    "load p50": Words(
        "Usual wait under load", "Half of the answers took this long or less while requests kept coming."
    ),
    "load p95": Words("Slow wait under load", "Nineteen of twenty took this long or less while requests kept coming."),
    "load p99": Words("Slowest wait under load", "Ninety-nine of a hundred took this long or less under load."),
    "goodput": Words("Answered in time", "The share of all requests that were answered within the time promised."),
    "throughput": Words("Answers per second", "How many it gives when it is kept busy."),
    "peak memory": Words("Memory at most", "The most memory the process held while speed was measured."),
    "energy": Words("Energy of one answer", "Of the whole machine, its idle share included."),
    "cost per 1000": Words("Cost of 1,000 requests", "At the prices of the price file."),
    "cost per 1000 correct": Words(
        "Cost of 1,000 right answers", "A cheap model that is often wrong may be the dearer one."
    ),
    "accuracy": Words("Right answers", "How often its answer is the right one."),
    "accuracy all orders": Words(
        "Right in every order", "How often it is right however the options of a question are ordered."
    ),
    "baseline accuracy": Words("Right answers of the baseline", "What a method that sees only coarse colours reaches."),
    "guessing": Words("Guessing", "What guessing would reach."),
    "robust accuracy": Words("Right answers on damaged pictures", "The mean over every kind and strength of damage."),
    "mce": Words(
        "Errors on damaged pictures, against a baseline",
        "mCE: 1 is as many as the baseline makes on the same damaged pictures, 0 is none.",
    ),
    "relative mce": Words(
        "Errors that the damage adds, against a baseline",
        "Relative mCE: how much worse damage makes it, as a multiple of how much worse it makes the baseline.",
    ),
    "effective robustness": Words(
        "Holding up better than expected",
        "How much more it keeps in new surroundings than other models of its accuracy do.",
    ),
    "shift gap": Words("Lost in a new style", "How much lower its share of right answers is in a style it never saw."),
    "recall@10 loss": Words(
        "Lost by writing differently", "How much lower the share found is than for the same captions as they stand."
    ),
    "ece": Words(
        "Gap between sureness and truth",
        "Expected calibration error over bins of equal width: 0 when it is right exactly as often as it claims.",
    ),
    "ece mass": Words(
        "Gap between sureness and truth, equal bins", "The same over bins that hold equally many answers."
    ),
    "brier": Words("Brier score", "Squared distance of its probabilities from the truth: 0 is perfect."),
    "nll": Words("Surprise at the truth", "Negative log-likelihood of the right answer, in nats: 0 is none."),
    "temperature": Words(
        "Temperature",
        "What its scores are divided by to mend its sureness: above 1 it was too sure, below 1 too timid.",
    ),
    "ood auroc": Words(
        "Tells the unknown from the known",
        "AUROC: how often a known thing looks more familiar than an unknown one; guessing gives 50 of 100.",
    ),
    "ood aupr in": Words("Known things found", "AUPR with the known things as what is looked for."),
    "ood aupr out": Words("Unknown things found", "AUPR with the unknown things as what is looked for."),
    "ood fpr95": Words(
        "Unknown things let through",
        "FPR95: how many unknown things pass when 95 of 100 known ones must; guessing lets 95 of 100 through.",
    ),
    "worst group": Words("Worst group", "The lowest share of right answers that any group gets."),
    "largest gap": Words("Largest gap", "Between the best and the worst group."),
    "equalised odds": Words(
        "Equalised odds", "The largest difference between groups in how often a class is found or wrongly claimed."
    ),
    "max skew@10": Words(
        "Favour among the first ten",
        "How over-represented the most favoured group is there (log of the ratio): 0 is even.",
    ),
    "ndkl": Words(
        "Unevenness of the whole list", "How far the order favours some groups over others (NDKL): 0 is even."
    ),
    "blind gain": Words("What seeing adds", "How many more it gets right with the picture than without it."),
    "blind solvable": Words(
        "Solved without seeing", "The share of questions it solves without the picture, beyond what guessing solves."
    ),
    "contamination": Words(
        "Test pictures seen before", "The share of test pictures that are among those to learn from, or look the same."
    ),
    "contamination gain": Words(
        "Better on pictures seen before", "How much more often it is right on those than on the others."
    ),
    "faults caught": Words("Faults noticed", "Of the faults put in on purpose, how many raised an alarm."),
    "false alarms": Words("False alarms", "How often an alarm was raised although nothing had changed."),
    "loss": Words("Training loss", "What training tries to make small; only its direction matters."),
}

BEST_OF = "The same for whichever suggestion comes nearest: what a person who picks from the list could get."

_TASKS = {
    "image_to_text": "words for a picture",
    "text_to_image": "a picture for words",
    "zero_shot": "sorting by the names of the classes",
    "linear_probe": "sorting with a small trained layer",
    "knn": "sorting by the nearest known pictures",
    "caption": "writing a caption",
    "multiple_choice": "choosing the right caption of four",
    "yes_no": "answering yes or no",
    "short_answer": "answering in a few words",
    "ood": "noticing unknown things",
    "bias_search": "who comes first when nobody is named",
    "latency": "speed",
    "load": "speed under load",
    "throughput": "answers per second",
    "memory": "memory",
    "cost": "cost",
    "trust": "trust",
}
_SPLITS = {
    "train": "pictures it learnt from",
    "val": "tuning pictures",
    "test": "things it never saw",
    "test_style": "a drawing style it never saw",
    "all": "all pictures",
}
_OPERATIONS = {
    "embed_image": "reading a picture",
    "embed_text": "reading words",
    "describe": "writing a caption",
}
_CONCEPT_SPLITS = {
    "train": "thing seen in training",
    "val": "thing used for tuning only",
    "test": "thing never seen",
    "none": "thing that no other style has",
}
_STYLES = {
    "twemoji": "Twemoji",
    "openmoji": "OpenMoji",
    "noto": "Noto",
    "noto-v1": "Noto v1",
    "fluent-emoji-flat": "Fluent flat",
    "emojione": "EmojiOne",
    "emojione-v1": "EmojiOne v1",
    "fxemoji": "FxEmoji",
}
_CONDITIONS = {
    "gaussian_noise": "grain",
    "shot_noise": "low-light grain",
    "impulse_noise": "stray dots",
    "speckle_noise": "speckles",
    "defocus_blur": "out of focus",
    "glass_blur": "frosted glass",
    "motion_blur": "camera shake",
    "zoom_blur": "zoom blur",
    "gaussian_blur": "soft blur",
    "snow": "snow",
    "frost": "frost",
    "fog": "fog",
    "brightness": "too bright",
    "spatter": "spatter",
    "contrast": "low contrast",
    "elastic_transform": "warped",
    "pixelate": "large pixels",
    "jpeg_compression": "heavy JPEG",
    "saturate": "strong colours",
    "typos": "with typos",
    "upper_case": "IN CAPITALS",
    "lower_case": "in small letters",
    "synonyms": "in other words",
    "word_order": "in another order",
    "blind": "without the picture",
    "shuffled_image": "with another picture",
    "majority": "most frequent answer",
}
_SCORES = {
    "msp": "surest class (MSP)",
    "max_logit": "largest score (MaxLogit)",
    "energy": "energy",
    "mahalanobis": "distance (Mahalanobis)",
    "knn": "nearest neighbours",
    "mcm": "concept match (MCM)",
}
_GROUPS = {"style": "drawing style", "skin_tone": "skin tone", "licence": "licence", "gender": "gender"}
SLICES = {
    "task": _TASKS,
    "of": _TASKS,
    "split": _SPLITS,
    "operation": _OPERATIONS,
    "concept_split": _CONCEPT_SPLITS,
    "style": _STYLES,
    "condition": _CONDITIONS,
    "score": _SCORES,
    "group": _GROUPS,
    "scaled": {"yes": "after the temperature"},
    "value": _STYLES,
}
KINDS = {"train": "training", "evaluate": "examination", "self_test": "test of the gates", "compare": "comparison"}
EVENTS = {
    "data_added": "brought in data",
    "trained": "trained a model",
    "evaluated": "examined a model",
    "gated": "put it to the gate",
    "promoted": "put it live",
    "rolled_back": "rolled back",
    "rolled_forward": "rolled forward",
    "verified": "checked every digest",
    "incident": "reported an incident",
}
VERDICTS = {
    "ship": Words("Yes", "it may ship"),
    "refuse": Words("No", "it must not ship"),
    "cannot_tell": Words("Cannot tell", "evidence is missing or out of date"),
}
OUTCOMES = {"pass": "holds", "fail": "does not hold", "cannot_tell": "cannot tell"}
