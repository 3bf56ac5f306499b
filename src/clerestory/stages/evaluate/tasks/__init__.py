"""Tasks: the questions, the data, and the scoring of a model's answers."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.stages.evaluate.tasks.task import Task, check_model, load_task, required_capabilities

__all__ = ["Task", "check_model", "load_task", "required_capabilities"]

# Lazy, so that the code of a suite does not depend on modules that it does not use.
__getattr__ = lazy_exports(__name__, dict.fromkeys(__all__, ".task"))
