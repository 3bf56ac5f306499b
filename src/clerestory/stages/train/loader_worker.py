"""A worker of ``loader.BatchLoader``: ``python -m clerestory.stages.train.loader_worker PIXELS CONFIG``, over pipes."""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

from clerestory.stages.train.loader import READY, AugmentConfig, augmented_batch


def main() -> None:
    """Answer each line ``[epoch, rows]`` with the number of images and their pixels, until the input ends."""
    torch.set_num_threads(1)
    pixels_NHWC = torch.from_numpy(np.load(sys.argv[1], mmap_mode="c"))
    config = AugmentConfig(*json.loads(sys.argv[2]))
    out = sys.stdout.buffer
    out.write(READY)
    out.flush()
    for line in sys.stdin:
        epoch, rows = json.loads(line)
        pixels_BCSS = augmented_batch(pixels_NHWC, np.array(rows, np.int64), epoch, config)
        out.write(len(rows).to_bytes(4, "little"))
        out.write(pixels_BCSS.permute(0, 2, 3, 1).contiguous().numpy().data)
        out.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the training has ended
        sys.stderr.close()
