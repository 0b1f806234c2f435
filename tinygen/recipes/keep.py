"""What `--keep best` and `--keep best:METRIC` mean for a recipe."""

from __future__ import annotations

from tinygen.metrics.names import NAMES
from tinygen.step import Step
from tinygen.training import Tensors, aside, evaluate

from .settings import RunError


def metric_of(keep: str | None) -> str | None:
    """The metric that `--keep best` or `--keep best:metric` names; "" for the recipe's own first."""
    if keep in (None, "last"):
        return None
    word, _, metric = str(keep).partition(":")
    if word != "best":
        raise RunError(f"--keep {keep}: write last, best, or best:METRIC, such as best:accuracy")
    return metric


def measured(metric: str, step: Step, batches: Tensors) -> str:
    """The metric that chooses an epoch: `metric`, or for "" the first of the Step's that has a way that is good."""
    with aside(step, 0):
        found = [name for name in evaluate(step, batches) if name not in NAMES or NAMES[name].good]
    if metric in found:
        return metric
    if not found:
        raise RunError("--keep: this model measures nothing that tells a good epoch; leave --keep out")
    if metric:
        raise RunError(f"--keep best:{metric}: epochs of this model are chosen by {' or '.join(found)}")
    return found[0]
