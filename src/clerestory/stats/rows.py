"""Per-sample rows to Parquet bytes and back: the only place that knows their stored form.

Text columns are strings, number columns 64-bit floats whose empty cells are nulls. The bytes are read back to
exactly the same arrays, so that every aggregate computed from them is exactly the same.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import DataError
from clerestory.stats.aggregate import Rows


def write_rows(rows: Rows) -> bytes:
    """Parquet bytes of a table given as columns; NaN becomes null."""
    import pyarrow as pa  # here, because a server that reads no rows may lack it
    import pyarrow.parquet as pq

    columns = {}
    for name, values in rows.items():
        array = np.asarray(values)
        if array.dtype.kind == "f":
            columns[name] = pa.array(array.astype(np.float64), type=pa.float64(), from_pandas=True)
        else:
            columns[name] = pa.array([str(value) for value in array.tolist()], type=pa.string())
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd")
    return out.getvalue()


def read_rows(content: bytes) -> dict[str, NDArray[Any]]:
    """The columns of Parquet bytes; null becomes NaN in number columns and an empty text in text columns.

    Raises:
        DataError: the bytes are not Parquet.
    """
    import pyarrow as pa  # as above
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"the stored rows cannot be read: {error}", "evaluate the model again") from error
    columns: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            columns[name] = column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
        else:
            columns[name] = np.array([value or "" for value in column.to_pylist()], dtype=object)
    return columns
