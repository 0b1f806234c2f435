"""Training: what happens around a `Step`, the same for every model.

    fit(step, batches, epochs=10)                                        # the bare loop
    run = Run("runs/mine", step, batches, test); run.fit(epochs=10)      # log, pictures, checkpoints, progress bar

A Step (tinygen/step.py) is one update of a model. Nothing here knows a model by name. A run is a pure function of its
config and seed: 10 epochs, resume, 10 more equal 20, bit for bit.
"""

from .checkpoint import load_checkpoint, restore, save_checkpoint, state_of
from .evaluate import Batch, Tensors, aside, evaluate, to_tensors
from .interrupts import Interrupted
from .log import read_log
from .loop import Callback, Position, fit
from .pictures import enlarged, make_grid, panels, picture_of, save_image, save_picture
from .plots import _figure as figure
from .plots import draw_powers, draw_repeats, scatter
from .progress import Display, Tracked, duration, track
from .run import Diverged, Keep, Run, new_folder

__all__ = [
    "Batch", "Callback", "Display", "Diverged", "Interrupted", "Keep", "Position", "Run", "Tensors", "Tracked", "aside",
    "draw_powers", "draw_repeats", "duration", "enlarged", "evaluate", "figure", "fit", "load_checkpoint", "make_grid",
    "new_folder", "panels", "picture_of", "read_log", "restore", "save_checkpoint", "save_image", "save_picture",
    "scatter", "state_of", "to_tensors", "track",
]  # fmt: skip
