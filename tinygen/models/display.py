"""How a Step shows itself: its class, and its modules as they show themselves.

>>> load_run("runs/vae-001")
VAEStep(
  (vae): VAE(...)
)
"""

from __future__ import annotations

from html import escape
from typing import Any


class ShowsModules:
    """Base class of the Steps; only the display."""

    modules: dict[str, Any]

    def __repr__(self) -> str:
        lines = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self.modules.items()]
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"

    def _repr_html_(self) -> str:
        """What a notebook shows: the table of each module under its name."""
        tables = [f"<p>{escape(name)}</p>{module._repr_html_()}" for name, module in self.modules.items()]
        return f"<p><b>{type(self).__name__}</b></p>{''.join(tables)}"
