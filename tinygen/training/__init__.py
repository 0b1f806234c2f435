"""Training: what happens around a `Step`, the same for every model family.

    fit(step, batches, epochs=10)                      # the bare loop
    run = Run("runs/mine", step, batches, test); run.fit(epochs=10)      # with log, pictures, checkpoints, progress bar

A Step is one update of a model (tinygen/models): a callable on a batch of tensors with `modules`, `optimizers` and
`pictures`; `evaluate`, `sample`, `schedules`, `health` and `units` are used where it has them. Nothing here knows a
model by name. A run is a pure function of its config and seed: 10 epochs, resume, 10 more equal 20, bit for bit.
"""

from .checkpoint import load_checkpoint, restore, save_checkpoint, state_of
from .display import Display
from .loop import Batch, Callback, Position, Step, aside, fit, to_tensors
from .pictures import enlarged, make_grid, save_image
from .run import Interrupted, NotFinite, Run, new_folder

__all__ = [
    "Batch", "Callback", "Display", "Interrupted", "NotFinite", "Position", "Run", "Step", "aside", "enlarged", "fit",
    "load_checkpoint", "make_grid", "new_folder", "restore", "save_checkpoint", "save_image", "state_of", "to_tensors",
]  # fmt: skip
