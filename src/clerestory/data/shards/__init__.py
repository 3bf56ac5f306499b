"""A data set in shards: files of equal size with an index, in which any sample is found at once.

Samples lie in the order of the data set, so that position ``i`` is the same sample whatever the number of shards; who
reads them in which order (``stages/train/shuffle.py``) does not depend on how they are stored.
"""

from clerestory.data.shards.index import Index, Shard, is_sharded, read_index
from clerestory.data.shards.read import Shards, open_shards, verify_shards
from clerestory.data.shards.write import write_shards

__all__ = [
    "Index",
    "Shard",
    "Shards",
    "is_sharded",
    "open_shards",
    "read_index",
    "verify_shards",
    "write_shards",
]
