"""Recipes: named experiments, each a data set, a model, and the settings that are known to work.

    run = start("vae", data="digits")       # or data="mnist", or a folder of images; a folder runs/vae-001 is made
    run.fit()
    step = load_run("runs/vae-001")         # the trained model, rebuilt from config.json with its weights

What the command line trains is listed in catalogue.py.
"""

from .catalogue import RECIPES
from .recipe import (
    Recipe,
    RecipeRun,
    RunError,
    Settings,
    build,
    expected,
    find,
    load_run,
    open_run,
    prepare,
    samples,
    start,
)
from .scores import score

__all__ = [
    "RECIPES", "Recipe", "RecipeRun", "RunError", "Settings", "build", "expected", "find", "load_run", "open_run",
    "prepare", "samples", "score", "start",
]  # fmt: skip
