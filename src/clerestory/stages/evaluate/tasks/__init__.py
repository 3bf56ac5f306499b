"""Tasks: what a model is asked, on which data, and how its answers are scored."""

from typing import TYPE_CHECKING

from clerestory.core.extensions import lazy_exports

if TYPE_CHECKING:
    from clerestory.stages.evaluate.tasks.task import Task, check_model, load_task, required_capabilities

__all__ = ["Task", "check_model", "load_task", "required_capabilities"]

# Lazy, so that a suite that needs one module of the package does not depend on the others.
__getattr__ = lazy_exports(__name__, dict.fromkeys(__all__, ".task"))
