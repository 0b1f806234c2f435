"""Recipes and studies: named experiments, a chapter of the lectures a file.

    run = start("vae", data="digits")       # or data="mnist", or a folder of images; a folder runs/vae-001 is made
    run.fit()
    step = load_run("runs/vae-001")         # the trained model, rebuilt from config.json with its weights

A recipe is a decorated function that builds a Step (recipe.py); a study, one that looks at trained runs (study.py).
Both stand in their chapter's file, and nowhere else.
"""

from importlib import import_module

from .pretrained import pretrained
from .recipe import RECIPES, Given, Recipe, find, recipe
from .reproduce import Reproduced, reproduce
from .run import RecipeRun, load_run, open_run, start
from .scores import samples, score
from .settings import RunError, Settings, prepare, read_settings
from .study import STUDIES, Findings, Study, find_study, run_study, study

CHAPTERS = (
    "autoencoders", "codes", "classic", "vaes", "latent_spaces", "gans", "generated", "semi_supervised",
    "image_to_image", "images_compared", "anomalies", "anomalies_found", "endless_textures", "noise_spaces", "theory",
    "game_theory", "game_signals", "game_trials", "classifiers",
)  # fmt: skip
for _chapter in CHAPTERS:
    import_module(f".{_chapter}", __name__)

__all__ = [
    "CHAPTERS", "RECIPES", "STUDIES", "Findings", "Given", "Recipe", "RecipeRun", "Reproduced", "RunError", "Settings",
    "Study", "find", "find_study", "load_run", "open_run", "prepare", "pretrained", "read_settings", "recipe",
    "reproduce", "run_study", "samples", "score", "start", "study",
]  # fmt: skip
