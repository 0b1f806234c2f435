"""What the constructors of layers refuse.

Options beyond the leading ones are keyword-only. In torch `BatchNorm2d(64, 0.8)` silently sets eps, which has gone
wrong in public code more than once; here it raises and says so.
"""

from __future__ import annotations


def refuse(layer: str, misplaced: tuple, options: str) -> None:
    """Raises TypeError for options that were given by position, where they are easily mistaken for one another."""
    if misplaced:
        values, first = ", ".join(map(repr, misplaced)), options.split(", ")[0]
        raise TypeError(
            f"{layer}: the options {options} are keyword-only, but {values} came by position; "
            f"write {first}={misplaced[0]!r} if that is meant"
        )
