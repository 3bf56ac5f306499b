"""No picture takes more than 600 MB, whatever its few bytes claim, through any entry.

The images have as many pixels as are allowed, so this takes about a minute; each is measured in another process, where
nothing else uses memory. ``bench/images.py`` measures every image through every entry.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.large_images import LARGE_IMAGES

MAX_MB = 600.0
MAX_FILE_BYTES = 10_000_000
ROOT = Path(__file__).parents[2]
DECODE = """
import json, sys
from pathlib import Path
from tests.support.images import solid_image
from tests.support.memory import memory, peak_of
from clerestory.data.images import check_image, decode_image
from clerestory.models.pixels import pad_to_square

def use(file):
    content = file.read_bytes()
    check_image(content)
    return [pad_to_square(decode_image(content), side) for side in (48, 384)]

ordinary = Path(sys.argv[1]) / "ordinary.png"
ordinary.write_bytes(solid_image())
use(ordinary)
idle = memory("VmRSS")
files = [file for file in sorted(Path(sys.argv[1]).iterdir()) if file != ordinary]
print(json.dumps({file.name: peak_of(use, file) - idle for file in files}))
"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset the peak")


def write(folder: Path, *names: str) -> Path:
    for name in names:
        content = LARGE_IMAGES[name]()
        assert len(content) <= MAX_FILE_BYTES
        (folder / name).write_bytes(content)
    return folder


def measure(*command: str) -> dict[str, object]:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_decoding_checking_and_shrinking_any_image_takes_at_most_600_mb(tmp_path: Path) -> None:
    peaks = measure("-c", DECODE, str(write(tmp_path, *LARGE_IMAGES)))
    assert set(peaks) == set(LARGE_IMAGES)
    assert not {name: peak for name, peak in peaks.items() if peak > MAX_MB}  # type: ignore[operator]


def test_the_hardest_images_take_at_most_600_mb_through_every_entry(tmp_path: Path) -> None:
    folder = write(tmp_path, "1x30000.png", "animated.webp")
    peaks = measure("-m", "tests.support.peak_memory", str(folder))
    assert len(peaks) == 6
    high = {
        (entry, name): peak
        for entry, by_file in peaks.items()
        for name, peak in by_file.items()  # type: ignore[attr-defined]
        if peak > MAX_MB
    }
    assert not high
