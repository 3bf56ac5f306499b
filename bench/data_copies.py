"""Copies, the join of hashes, and the speed of reading images: ``make bench-data-copies PHOTOGRAPHS=folder``.

Sections: ``planted`` (five minutes with 5,000 photographs), ``join``, ``skewed``, ``speed``, ``icons`` (a minute each).

``PHOTOGRAPHS`` is a folder of JPEG photographs, 5,000 or more for the bar. imagehash and cleanvision are installed by
this bench into an environment of their own, ``bench/.peers/hashes``, and run in a process of their own.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clerestory.core.progress import QUIET
from clerestory.data import open_data
from clerestory.stages.audit.hamming import near_pairs
from clerestory.stages.audit.image_facts import read_image_facts
from clerestory.stages.audit.near_duplicates import find_near_duplicates
from clerestory.stages.audit.partial_copies import find_partial_copies
from clerestory.stages.audit.similar_embeddings import InvertedFile, similar_pairs
from clerestory.store.answer_cache import AnswerCache
from table import Row, measure

PEERS = Path(__file__).parent / ".peers" / "hashes"
PEER = ("cleanvision==0.3.7", "ImageHash==4.3.2")
NUM_IMAGES, PLANTED = 5000, 100
PHASH_RADIUS = 10
CODES, PLANTED_CODES, NEW_CODES = 1_000_000, 4000, 1000
ROUNDS, TIMED_IMAGES = 5, 400
PHASH = """
import json, sys, imagehash
from PIL import Image
print(json.dumps([str(imagehash.phash(Image.open(path))) for path in json.load(sys.stdin)]))
"""
TIMED = """
import json, logging, sys, time
paths = json.load(sys.stdin)
start = time.perf_counter()
if sys.argv[1] == "imagehash":
    import imagehash
    from PIL import Image
    start = time.perf_counter()
    for path in paths:
        imagehash.phash(Image.open(path))
else:
    import contextlib, io
    from cleanvision import Imagelab
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        Imagelab(filepaths=paths).find_issues(n_jobs=2, verbose=False)
print(time.perf_counter() - start)
"""
Change = Callable[[Image.Image, random.Random], Image.Image]


def cropped(share: float) -> Change:
    """A crop that leaves out ``share`` of each side, at a random place."""

    def change(image: Image.Image, rng: random.Random) -> Image.Image:
        width, height = int(image.width * share), int(image.height * share)
        left, top = rng.randint(0, width), rng.randint(0, height)
        return image.crop((left, top, left + image.width - width, top + image.height - height))

    return change


def framed(share: float) -> Change:
    """The image with a white bar and a text below it."""

    def change(image: Image.Image, rng: random.Random) -> Image.Image:
        larger = Image.new("RGB", (image.width, image.height + int(image.height * share)), "white")
        larger.paste(image)
        ImageDraw.Draw(larger).text((5, image.height + 2), "a text about this image", fill="black")
        return larger

    return change


CHANGES: dict[str, tuple[Change, int]] = {
    "JPEG quality 30": (lambda image, rng: image, 30),
    "JPEG quality 70": (lambda image, rng: image, 70),
    "half the size": (lambda image, rng: image.resize((image.width // 2, image.height // 2)), 90),
    "a third of the size": (lambda image, rng: image.resize((image.width // 3, image.height // 3)), 90),
    "mirrored": (lambda image, rng: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 90),
    "upside down": (lambda image, rng: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), 90),
    "turned by 90°": (lambda image, rng: image.transpose(Image.Transpose.ROTATE_90), 90),
    "turned by 180°": (lambda image, rng: image.transpose(Image.Transpose.ROTATE_180), 90),
    "cropped by 5 %": (cropped(0.05), 90),
    "cropped by 10 %": (cropped(0.10), 90),
    "cropped by 20 %": (cropped(0.20), 90),
    "bar of 10 %": (framed(0.10), 90),
    "bar of 20 %": (framed(0.20), 90),
}


def photographs(count: int) -> list[Path]:
    """The first photographs of the folder."""
    folder = Path(os.environ.get("PHOTOGRAPHS", ""))
    found = sorted(folder.glob("*.jpg"))[:count] if folder.is_dir() else []
    if not found:
        sys.exit("set PHOTOGRAPHS to a folder of JPEG photographs")
    return found


def peer(program: str, paths: list[str], *arguments: str) -> str:
    """The output of a program in the environment of the peers, which is made first."""
    python = PEERS / "bin" / "python"
    if not python.is_file():
        venv.create(PEERS, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER], check=True)
    run = [str(python), "-c", program, *arguments]
    done = subprocess.run(
        run, input=json.dumps(paths), text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return done.stdout


def planted() -> Iterator[Row]:
    """Recall of each kind of copy, and precision, beside pHash at the usual radius."""
    rng = random.Random(0)
    originals = photographs(NUM_IMAGES)
    with TemporaryDirectory() as name:
        folder, truth = Path(name) / "images", dict[str, set[frozenset[str]]]()
        folder.mkdir()
        for path in originals:
            shutil.copy(path, folder / path.name)
        each = min(PLANTED, len(originals) // len(CHANGES))
        for k, (change, quality) in enumerate(CHANGES.values()):
            for path in originals[k * each : (k + 1) * each]:
                with Image.open(path) as image:
                    copy = f"{path.stem}.copy.jpg"
                    change(image.convert("RGB"), rng).save(folder / copy, quality=quality)
                truth.setdefault(list(CHANGES)[k], set()).add(frozenset({path.name, copy}))
        data = open_data(str(folder))
        facts, _ = read_image_facts(data, AnswerCache(Path(name) / "cache.db"), QUIET)
        near = find_near_duplicates(data, facts, 20, QUIET)
        copied = {place for group in near.groups for place in group[1:]}
        places = np.array([place for place in range(len(data)) if place not in copied])
        crops = find_partial_copies(data, facts, places, QUIET)
        ids = [sample.id for sample in data]
        pairs = {frozenset({ids[one], ids[other]}) for one, other in near.kinds}
        pairs |= {frozenset({ids[copy.whole], ids[copy.part]}) for copy in crops}
        hashes = [int(value, 16) for value in json.loads(peer(PHASH, [str(folder / i) for i in ids]))]
        codes = np.array(hashes, dtype=np.uint64).view(np.uint8).reshape(-1, 8)
        rival = near_pairs(codes, radius=PHASH_RADIUS, max_bucket=10**6)
        theirs = {frozenset({ids[i], ids[j]}) for i, j in zip(rival.first.tolist(), rival.second.tolist(), strict=True)}
    for kind, wanted in truth.items():
        found, phash = len(wanted & pairs) / len(wanted), len(wanted & theirs) / len(wanted)
        yield Row(
            f"recall, {kind}", found, "share", "≥ 0.98", found >= 0.98, len(wanted), "pHash", f"pHash {phash:.2f}"
        )
    everything = frozenset[frozenset[str]]().union(*truth.values())
    precision, their_precision = (len(p & everything) / max(1, len(p)) for p in (pairs, theirs))
    others = sorted(" and ".join(sorted(pair)) for pair in pairs - everything)
    note = f"pHash {their_precision:.3f}; not planted: {', '.join(others[:3]) or 'none'}"
    yield Row("precision of pairs", precision, "share", "≥ 0.99", precision >= 0.99, len(pairs), "pHash", note)


def random_codes(count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Codes of 256 independent bits."""
    return rng.integers(0, 256, (count, 32), dtype=np.uint8)


def near_copies(codes: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Codes that differ from these in 0 to 31 bits, and in how many."""
    distances = np.arange(len(codes)) % 32
    flips = np.zeros((len(codes), 256), np.uint8)
    for row, distance in enumerate(distances):
        flips[row, rng.choice(256, distance, replace=False)] = 1
    return codes ^ np.packbits(flips, axis=1), distances


def joined(kind: str, first: NDArray[np.uint8], second: NDArray[np.uint8], distances: NDArray[np.int64]) -> list[Row]:
    """A million codes against a million, of which the first ones are near copies."""
    start, processor = time.perf_counter(), time.process_time()
    found = near_pairs(first, second, radius=31)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    own = found.first[found.first == found.second]
    hit = np.isin(np.arange(len(distances)), own)
    near = distances <= 15
    work = f"{processor:.0f} s of processor time; {found.left_out:,} comparisons left out"
    expected = f"expected {found.recall:.5f} at 31 bits"
    close, far = float(hit[near].mean()), float(hit.mean())
    return [
        Row(f"1M × 1M {kind} codes, radius 31", seconds, "s", "≤ 60 s", seconds <= 60, 1, "", work),
        Row(f"{kind} codes: peak memory", peak, "GiB", "≤ 4 GiB", peak <= 4, 1),
        Row(f"{kind} codes: recall to 15 bits", close, "share", "1", close == 1, int(near.sum())),
        Row(f"{kind} codes: recall to 31 bits", far, "share", "≥ 0.999", far >= 0.999, len(hit), "", expected),
    ]


def join() -> Iterator[Row]:
    """Independent codes, and a thousand new ones."""
    rng = np.random.default_rng(0)
    first, second = random_codes(CODES, rng), random_codes(CODES, rng)
    second[:PLANTED_CODES], distances = near_copies(first[:PLANTED_CODES], rng)
    yield from joined("uniform", first, second, distances)
    times = []
    for _ in range(ROUNDS):
        start, processor = time.perf_counter(), time.process_time()
        near_pairs(first[:NEW_CODES], second, radius=31)
        times.append((time.perf_counter() - start, time.process_time() - processor))
    seconds, processor = min(times)
    note = f"least of {ROUNDS}; {processor:.1f} s of processor time"
    yield Row("1,000 new codes against 1M", seconds, "s", "≤ 2 s", seconds <= 2, ROUNDS, "", note)


def skewed() -> Iterator[Row]:
    """Codes whose bits are rarely even, a tenth of them with two common bands, and many equal ones."""
    rng = np.random.default_rng(1)
    shares = rng.beta(2, 2, 256)
    sides = []
    for _ in range(2):
        parts = [np.packbits(rng.random((CODES // 10, 256)) < shares, axis=1) for _ in range(9)]
        side = np.concatenate([*parts, parts[0]])
        side[CODES // 2 : CODES // 2 + CODES // 10, :4] = 7
        sides.append(side)
    sides[1][:PLANTED_CODES], distances = near_copies(sides[0][:PLANTED_CODES], rng)
    yield from joined("skewed", sides[0], sides[1], distances)


def speed() -> Iterator[Row]:
    """Reading every fact of an image, beside imagehash (pHash alone, one process) and cleanvision (two), in turns."""
    paths = photographs(TIMED_IMAGES)
    with TemporaryDirectory() as name:
        for kind, factor in (("JPEG", 10.0), ("PNG", 3.0)):
            folder = Path(name) / kind
            folder.mkdir()
            for path in paths if kind == "JPEG" else paths[: TIMED_IMAGES // 4]:
                with Image.open(path) as image:
                    if kind == "JPEG":
                        shutil.copy(path, folder / path.name)
                    else:
                        image.save(folder / f"{path.stem}.png")
            yield from timed(kind, folder, {"cleanvision": factor} | ({"imagehash": 5.0} if kind == "JPEG" else {}))


def timed(kind: str, folder: Path, factors: dict[str, float]) -> Iterator[Row]:
    """Our time for the images of a folder, and that of each peer over ours."""
    data = open_data(str(folder))
    names = [str(folder / sample.id) for sample in data]
    times: dict[str, list[float]] = {"ours": [], **{rival: [] for rival in factors}}
    with TemporaryDirectory() as caches:
        for k in range(ROUNDS):
            start = time.perf_counter()
            read_image_facts(data, AnswerCache(Path(caches) / f"cache-{k}.db"), QUIET)
            times["ours"].append(time.perf_counter() - start)
            for rival in factors:
                times[rival].append(float(peer(TIMED, names, rival)))
    rate = len(names) / min(times["ours"])
    note = "two threads: decoding, hashes and every check"
    yield Row(f"{kind} images read", rate, "a second", "–", True, len(names), "", note)
    for rival, factor in factors.items():
        ratios = sorted(t / own for t, own in zip(times[rival], times["ours"], strict=True))
        ratio = ratios[len(ratios) // 2]
        note = f"{ratios[0]:.1f} to {ratios[-1]:.1f}; {rival} {len(names) / min(times[rival]):.0f} a second"
        yield Row(
            f"{kind}: times as fast as {rival}", ratio, "×", f"≥ {factor:g}", ratio >= factor, ROUNDS, rival, note
        )


def icons() -> Iterator[Row]:
    """An audit of the built-in icons, and the same one again."""
    with TemporaryDirectory() as name:
        run = [sys.executable, "-m", "clerestory", "data", "audit", "icons", "--home", name, "--json"]
        for what, bar in (("data audit icons", 120), ("data audit icons, again", 5)):
            start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(run, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
            seconds = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            holds = seconds <= bar and done.returncode in (0, 1)
            yield Row(what, seconds, "s", f"≤ {bar} s", holds, 1, "", f"{processor:.0f} s of processor time")


def embeddings() -> Iterator[Row]:
    """A million embeddings and ten thousand queries, half of them copies with a cosine of about 0.95."""
    rng = np.random.default_rng(2)
    vectors = unit(rng.standard_normal((CODES, 64), dtype=np.float32))
    queries = unit(rng.standard_normal((10_000, 64), dtype=np.float32))
    noise = unit(rng.standard_normal((5_000, 64), dtype=np.float32))
    queries[:5_000] = unit(vectors[rng.choice(CODES, 5_000, replace=False)] + 0.32 * noise)
    start, before = time.perf_counter(), time.process_time()
    exact = similar_pairs(vectors, queries, 0.9)
    seconds, processor = time.perf_counter() - start, time.process_time() - before
    note = f"{processor:.0f} s of processor time; {len(exact.queries_P):,} pairs of a cosine of 0.9 or more"
    yield Row("1M × 10k embeddings (d = 64), exact", seconds, "s", "≤ 20 s", seconds <= 20, 1, "", note)
    start = time.perf_counter()
    index = InvertedFile.of(vectors)
    built = time.perf_counter() - start
    start = time.perf_counter()
    found = index.pairs(queries, 0.9)
    seconds = time.perf_counter() - start
    every = set(zip(exact.queries_P.tolist(), exact.vectors_P.tolist(), strict=True))
    recall = len(every.intersection(zip(found.queries_P.tolist(), found.vectors_P.tolist(), strict=True))) / len(every)
    note = f"the inverted file itself takes {built:.1f} s"
    yield Row("the same by an inverted file", seconds, "s", "≤ 5 s", seconds <= 5, 1, "", note)
    yield Row("its recall", recall, "share", "≥ 0.98", recall >= 0.98, len(every))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length 1."""
    shortened: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return shortened


SECTIONS = {
    "planted": planted,
    "join": join,
    "skewed": skewed,
    "embeddings": embeddings,
    "speed": speed,
    "icons": icons,
}

if __name__ == "__main__":
    sys.exit(measure("data_copies", SECTIONS, sys.argv[1:]))
