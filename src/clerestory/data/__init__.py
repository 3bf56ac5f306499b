"""Sources of images and captions: the built-in icons, folders, tables and Parquet files.

The names below are imported on first use, so that a caller who only needs ``decode_image`` does not load Arrow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.data.icons import open_icons
    from clerestory.data.images import decode_image
    from clerestory.data.parquet import save_parquet
    from clerestory.data.sources import DataSource, locate, open_data

__all__ = ["DataSource", "decode_image", "locate", "open_data", "open_icons", "save_parquet"]

__getattr__ = lazy_exports(
    __name__,
    {
        "DataSource": ".sources",
        "decode_image": ".images",
        "locate": ".sources",
        "open_data": ".sources",
        "open_icons": ".icons",
        "save_parquet": ".parquet",
    },
)
