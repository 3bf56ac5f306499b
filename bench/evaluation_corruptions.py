"""The nineteen corruptions beside the package imagecorruptions: speed, equality, and whether all of them run.

The peer lives in an environment of its own (``bench/.peers/imagecorruptions``, created here when it is missing) and
answers as a process, so that its requirements do not conflict with ours. Both use one thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.data.corruptions import NAMES, SEVERITIES, corrupt
from table import Row, publish

PEER = "imagecorruptions 1.1.2"
PLACE = Path(__file__).parent / ".peers" / "imagecorruptions"
PINS = (
    "imagecorruptions==1.1.2",
    "setuptools==65.5.0",
    "numpy==2.4.6",
    "scipy==1.17.1",
    "pillow==13.0.0",
    "scikit-image==0.26.0",
    "opencv-python-headless==5.0.0.93",
)
ROUNDS = 5
DRAWS = 16
DETERMINISTIC = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "saturate")
RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "snow", "elastic_transform", "speckle_noise")
SIZES = ((64, 64), (224, 224), (65, 97))

# Reads one request per line: [image, name, severity, seed, output file]; answers [seconds] or [null, type of error].
SERVE = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import cv2, numpy
from imagecorruptions import corrupt
cv2.setNumThreads(1)
images = {}
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    file, name, severity, seed, out = json.loads(line)
    image = images[file] if file in images else images.setdefault(file, numpy.load(file))
    numpy.random.seed(seed)
    try:
        start = time.perf_counter()
        made = corrupt(image, severity, name)
        answer = [time.perf_counter() - start]
        if out:
            numpy.save(out, made)
    except Exception as error:  # whatever the peer raises is reported by its name
        answer = [None, type(error).__name__]
    answers.write(json.dumps(answer) + "\\n")
    answers.flush()
"""


@dataclass
class Peer:
    """The other package, in its own process."""

    process: subprocess.Popen[str]
    folder: Path
    files: dict[int, str] = field(default_factory=dict)

    def seconds(self, image: NDArray[np.uint8], name: str, severity: int, seed: int = 0, out: str = "") -> float | None:
        """How long it took, or None when it failed."""
        if id(image) not in self.files:
            self.files[id(image)] = str(self.folder / f"{len(self.files)}.npy")
            np.save(self.files[id(image)], image)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([self.files[id(image)], name, severity, seed, out]) + "\n")
        self.process.stdin.flush()
        answer: list[Any] = json.loads(self.process.stdout.readline())
        return None if answer[0] is None else float(answer[0])

    def made(self, image: NDArray[np.uint8], name: str, severity: int, seed: int = 0) -> NDArray[np.uint8]:
        """The corrupted image."""
        out = str(self.folder / "made.npy")
        if self.seconds(image, name, severity, seed, out) is None:
            raise RuntimeError(f"{PEER} fails in {name}")
        made: NDArray[np.uint8] = np.load(out)
        return made


def rows() -> list[Row]:
    """Every requirement on the corruptions."""
    images = [drawn(*size) for size in SIZES]
    done = [all_run(images)]
    try:
        python = installed()
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"{PEER} could not be installed ({type(error).__name__}); connect once and run again"
        bars = {
            "corruptions, speed against the peer": "≥ 4 ×",
            "corruptions, largest difference where nothing is random": "≤ 1 level of 255",
            "corruptions, random ones: gap of mean and spread": "≤ 4 standard errors",
        }
        return done + [Row(name, float("nan"), "", bar, False, 0, PEER, reason) for name, bar in bars.items()]
    with tempfile.TemporaryDirectory() as folder, answering(python, Path(folder)) as peer:
        return [*done, speed(peer, images[1]), difference(peer, images), distribution(peer, images[1])]


def drawn(height: int, width: int) -> NDArray[np.uint8]:
    """An image with slopes, edges and fine grain; the same every time."""
    y, x = np.mgrid[:height, :width]
    layers = [128 + 100 * np.sin(x / 20), y * (255 / height), (x // 16 + y // 16) % 2 * 200 + 20]
    image = np.stack(layers, axis=-1) + np.random.default_rng(0).normal(0, 6, (height, width, 3))
    image[: height // 8, : width // 8] = 255
    image[-height // 8 :, -width // 8 :] = 0
    return np.clip(image, 0, 255).astype(np.uint8)


def all_run(images: list[NDArray[np.uint8]]) -> Row:
    """How many of all corruptions, severities and sizes give an image of the same shape."""
    cases = [(image, name, severity) for image in images for name in NAMES for severity in SEVERITIES]
    good = sum(corrupt(image, name, severity).shape == image.shape for image, name, severity in cases)
    note = "sizes " + ", ".join(f"{width}×{height}" for height, width in SIZES)
    return Row(
        "corruptions that run", good, "", f"{len(cases)} of {len(cases)}", good == len(cases), len(cases), note=note
    )


def speed(peer: Peer, image: NDArray[np.uint8]) -> Row:
    """The sum over corruptions and severities of the fastest of some rounds, theirs over ours, taken in turns."""
    ours: dict[tuple[str, int], float] = {}
    theirs: dict[tuple[str, int], float] = {}
    failed: set[str] = set()
    for _ in range(ROUNDS + 1):  # the first round also warms up
        for name in NAMES:
            for severity in SEVERITIES:
                other = peer.seconds(image, name, severity)
                start = time.perf_counter()
                corrupt(image, name, severity, "bench")
                own = time.perf_counter() - start
                if other is None:
                    failed.add(name)
                    continue
                case = (name, severity)
                ours[case] = min(own, ours.get(case, own))
                theirs[case] = min(other, theirs.get(case, other))
    ratio = sum(theirs.values()) / sum(ours.values())
    count = len(NAMES) - len(failed)
    note = (
        f"{count} working ones: {sum(theirs.values()) / 5 * 1e3:.0f} → {sum(ours.values()) / 5 * 1e3:.0f} ms "
        f"at 224×224, one thread, fastest of {ROUNDS + 1}; the peer fails in {', '.join(sorted(failed)) or 'none'}"
    )
    return Row("corruptions, speed against the peer", ratio, "×", "≥ 4 ×", ratio >= 4, len(ours), PEER, note)


def difference(peer: Peer, images: list[NDArray[np.uint8]]) -> Row:
    """The largest difference of any value of any image, over the corruptions in which nothing is drawn at random."""
    worst = 0
    cases = [(image, name, severity) for image in images for name in DETERMINISTIC for severity in SEVERITIES]
    for image, name, severity in cases:
        gap = np.abs(peer.made(image, name, severity).astype(int) - corrupt(image, name, severity))
        worst = max(worst, int(gap.max()))
    note = "the peer fails in gaussian_blur, which the tests compare with a corrected peer"
    return Row(
        "corruptions, largest difference where nothing is random",
        worst,
        "of 255",
        "≤ 1 level of 255",
        worst <= 1,
        len(cases),
        PEER,
        note,
    )


def distribution(peer: Peer, image: NDArray[np.uint8]) -> Row:
    """The largest gap of mean and of spread of the difference image, in standard errors over draws."""
    worst, where = 0.0, ""
    cases = [(name, severity) for name in RANDOM for severity in (1, 3, 5)]
    for name, severity in cases:
        theirs = moments(image, [peer.made(image, name, severity, seed) for seed in range(DRAWS)])
        ours = moments(image, [corrupt(image, name, severity, f"draw {seed}") for seed in range(DRAWS)])
        error = np.sqrt((theirs.var(axis=0, ddof=1) + ours.var(axis=0, ddof=1)) / DRAWS)
        gap = float((np.abs(theirs.mean(axis=0) - ours.mean(axis=0)) / error).max())
        if gap > worst:
            worst, where = gap, f"{name} {severity}"
    note = f"largest in {where}; {DRAWS} draws each; frost has textures of our own, spatter is compared in the tests"
    name = "corruptions, random ones: gap of mean and spread"
    return Row(name, worst, "s.e.", "≤ 4 standard errors", worst <= 4, 2 * len(cases), PEER, note)


def moments(image: NDArray[np.uint8], made: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """(draws, 2) mean and standard deviation of what each draw changes."""
    changes = [each.astype(np.float64) - image for each in made]
    return np.array([(change.mean(), change.std()) for change in changes])


def installed() -> Path:
    """The Python that has the peer; makes it on first use."""
    python = PLACE / "bin" / "python"
    ready = PLACE / "ready"
    if not ready.exists():
        PLACE.mkdir(parents=True, exist_ok=True)
        (PLACE.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        subprocess.run([sys.executable, "-m", "venv", "--clear", PLACE], check=True, timeout=120)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, *PINS], check=True, timeout=600, capture_output=True)
        ready.touch()
    return python


@contextmanager
def answering(python: Path, folder: Path) -> Iterator[Peer]:
    """The peer's process, ended with the block."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    process = subprocess.Popen(
        [python, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads}
    )
    try:
        yield Peer(process, folder)
    finally:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait(30)


if __name__ == "__main__":
    sys.exit(0 if publish("evaluation-corruptions", rows()) else 1)
