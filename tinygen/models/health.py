"""What numbers say about a training, in plain words: from metrics alone, without a model.

A verdict names what is seen and, where something is wrong, what to do. Thresholds are chosen by looking at runs; they
are no theory.
"""

from __future__ import annotations

from collections.abc import Mapping


def of_a_game(metrics: Mapping[str, float], floor: float = 0.0) -> str:
    """On a game of G and D, from means over an epoch. `floor`: the least that D's loss can be (smoothed labels).

    Read are d_accuracy, d_loss, d_grad, g_grad, critic_estimate and classes_covered, each where it is there.
    """
    accuracy = metrics.get("d_accuracy")
    d_grad, g_grad = metrics.get("d_grad", 0.0), metrics.get("g_grad", 0.0)
    if max(d_grad, g_grad) > 1000:
        verdict = "gradients explode: lower the learning rate"
    elif accuracy is None:
        verdict = f"the critic tells {metrics['critic_estimate']:.3g} between real and fake"
    elif accuracy > 0.99 and metrics["d_loss"] < floor + 0.05:
        verdict = "D has won: it is never wrong, so G learns little; lower D's learning rate, or smooth its labels"
    elif accuracy < 0.52:
        verdict = "D is guessing: G fools it, or D has stopped learning"
    elif accuracy > 0.95:
        verdict = "D is well ahead; G still learns"
    else:
        verdict = "the game is balanced"
    right = f"D right {accuracy:.0%}, " if accuracy is not None else ""
    found = f"{verdict} ({right}gradient norms D {d_grad:.2g}, G {g_grad:.2g})"
    if metrics.get("classes_covered", 10) < 8:
        found += f"; G makes {metrics['classes_covered']:.0f} of 10 digits"
    return found
