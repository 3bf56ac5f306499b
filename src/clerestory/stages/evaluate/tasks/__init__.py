"""Tasks: what a model is asked, on which data, and how its answers are scored."""

from clerestory.stages.evaluate.tasks.task import Task, check_model, load_task, required_capabilities

__all__ = ["Task", "check_model", "load_task", "required_capabilities"]
