"""Sharded datasets: files of about equal size with an index that gives random access to every sample.

Samples are in the order of the dataset, so position ``i`` is the same sample for any number of shards; the order of
training (``stages/train/shuffle.py``) does not depend on the storage.
"""

from clerestory.data.shards.index import Shard, ShardIndex, is_sharded, read_index
from clerestory.data.shards.read import Shards, open_shards, verify_shards
from clerestory.data.shards.write import write_shards

__all__ = [
    "Shard",
    "ShardIndex",
    "Shards",
    "is_sharded",
    "open_shards",
    "read_index",
    "verify_shards",
    "write_shards",
]
