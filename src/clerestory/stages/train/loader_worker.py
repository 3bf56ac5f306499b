"""Makes batches for ``feed.Feed``: ``python -m clerestory.stages.train.loader_worker PIXELS RECIPE``, with pipes."""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

from clerestory.stages.train.loader import READY, Recipe, varied


def main() -> None:
    """Answer each line ``[epoch, rows]`` with the number of pictures and their pixels, to the end of the input."""
    torch.set_num_threads(1)
    pixels_NHWC = torch.from_numpy(np.load(sys.argv[1], mmap_mode="c"))
    recipe = Recipe(*json.loads(sys.argv[2]))
    out = sys.stdout.buffer
    out.write(READY)
    out.flush()
    for line in sys.stdin:
        epoch, rows = json.loads(line)
        pixels_BCSS = varied(pixels_NHWC, np.array(rows, np.int64), epoch, recipe)
        out.write(len(rows).to_bytes(4, "little"))
        out.write(pixels_BCSS.permute(0, 2, 3, 1).contiguous().numpy().data)
        out.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # whoever asked is gone
        sys.stderr.close()
