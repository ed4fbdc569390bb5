"""What a run trains: one module for each task."""

from cutline.config import Recipe
from cutline.training.tasks.caption import CaptionTask
from cutline.training.tasks.match import MatchTask
from cutline.training.tasks.pretrain import PretrainTask
from cutline.training.tasks.task import BatchLoss, Task, TaskEvaluation

__all__ = ["BatchLoss", "Task", "TaskEvaluation", "make_task"]


def make_task(recipe: Recipe) -> Task:
    """Return the task of a recipe."""
    if recipe.task == "pretrain":
        return PretrainTask(recipe)
    return MatchTask(recipe) if recipe.task == "match" else CaptionTask(recipe)
