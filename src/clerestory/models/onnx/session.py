"""One graph in onnxruntime, which is imported with the first one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clerestory.core.errors import CapabilityError, IntegrityError
from clerestory.models.onnx.folder import EXPORT_AGAIN

THREADS = "OMP_NUM_THREADS"  # as in torch
INSTALL = "pip install onnxruntime"


class Graph:
    """A graph with named inputs and outputs, on the CPU; safe to use from several threads.

    Args:
        file: the graph.

    Raises:
        CapabilityError: onnxruntime is not installed.
        IntegrityError: the file is damaged.
    """

    def __init__(self, file: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise CapabilityError("running an exported model needs onnxruntime", f"run: {INSTALL}") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        if (threads := os.environ.get(THREADS, "")).isdecimal():
            options.intra_op_num_threads = int(threads)
        # Threads that wait without sleeping take the processor from the event loop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises nothing more specific
            raise IntegrityError(
                f"{file} cannot be read: {' '.join(str(error).split())[:200]}", EXPORT_AGAIN
            ) from error

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """The named outputs."""
        results: list[NDArray[np.float32]] = self._session.run(list(outputs), dict(inputs))
        return results
