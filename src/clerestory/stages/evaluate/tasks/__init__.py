"""Tasks: what a model is asked, on which data, and how its answers are scored."""

from clerestory.stages.evaluate.tasks.load import load_task
from clerestory.stages.evaluate.tasks.task import Task, check_model, needs

__all__ = ["Task", "check_model", "load_task", "needs"]
