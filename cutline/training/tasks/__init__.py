"""What a run trains: one module for each task."""

from collections.abc import Callable

from cutline.config import Recipe, TaskName
from cutline.training.tasks.caption import CaptionTask
from cutline.training.tasks.match import MatchTask
from cutline.training.tasks.pretrain import PretrainTask
from cutline.training.tasks.scst import ScstTask
from cutline.training.tasks.task import BatchLoss, Task, TaskEvaluation

__all__ = ["BatchLoss", "Task", "TaskEvaluation", "make_task"]


def make_task(recipe: Recipe) -> Task:
    """Return the task of a recipe."""
    tasks: dict[TaskName, Callable[[Recipe], Task]] = {
        "caption": CaptionTask,
        "scst": ScstTask,
        "match": MatchTask,
        "pretrain": PretrainTask,
    }
    return tasks[recipe.task](recipe)
