"""A folder of images with an index that lasts: embedded once, rescanned in seconds, searched exactly.

``walking`` lists the files, ``reading`` gets the facts of one image, ``catalog`` and ``embedding_file`` keep them,
``updating`` brings them up to date, ``index`` is what callers use, ``query`` composes words and images into one query,
``duplicates`` lists copies, ``output`` writes results. Nothing here loads torch.
"""

from clerestory.apps.folder_index.filters import SearchFilter
from clerestory.apps.folder_index.index import FolderHit, FolderIndex, IndexUpdate, Unreadable
from clerestory.apps.folder_index.query import QueryPart, compose_query
from clerestory.apps.folder_index.updating import TaggedRows

__all__ = [
    "FolderHit",
    "FolderIndex",
    "IndexUpdate",
    "QueryPart",
    "SearchFilter",
    "TaggedRows",
    "Unreadable",
    "compose_query",
]
