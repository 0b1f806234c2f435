"""What numbers say about a training, in plain words: from metrics alone, without a model.

A verdict names what is seen and, where something is wrong, what to do. Thresholds are chosen by looking at runs; they
are no theory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

WON = 0.05  # above its floor: D's loss says that it has won
STEEP = 100.0  # a gradient norm that is called exploding (ganhacks 10)

def of_a_game(metrics: Mapping[str, float], floor: float = 0.0) -> str:
    """On a game of G and D, from means over an epoch. `floor`: the least that D's loss can be (smoothed labels).

    Read are d_accuracy, d_loss, d_grad, g_grad, critic_estimate and what `coverage` reads, each where it is there.
    """
    accuracy = metrics.get("d_accuracy")
    d_grad, g_grad = metrics.get("d_grad", 0.0), metrics.get("g_grad", 0.0)
    if max(d_grad, g_grad) > STEEP:
        verdict = "gradients explode: lower the learning rate"
    elif accuracy is None:
        verdict = f"the critic tells {metrics['critic_estimate']:.3g} between real and fake"
    elif accuracy > 0.99 and metrics["d_loss"] < floor + WON:
        verdict = "D has won: it is never wrong, so G learns little; lower D's learning rate, or smooth its labels"
    elif accuracy < 0.52:
        verdict = "D is guessing: G fools it, or D has stopped learning"
    elif accuracy > 0.95:
        verdict = "D is well ahead; G still learns"
    else:
        verdict = "the game is balanced"
    right = f"D right {accuracy:.0%}, " if accuracy is not None else ""
    return f"{verdict} ({right}gradient norms D {d_grad:.2g}, G {g_grad:.2g}){coverage(metrics, 'G')}"


def of_classes(metrics: Mapping[str, float], names: Sequence[str]) -> str:
    """Which class is drawn worst, behind a verdict, where less than 80 % of its samples are taken for it.

    Read are worst_class (its label) and gan_test_worst.
    """
    right = metrics.get("gan_test_worst", 1.0)
    if right >= 0.8:
        return ""
    worst = names[int(metrics["worst_class"])]
    return f"; {1 - right:.0%} of the samples of class {worst} are drawn as others"


def of_codes(metrics: Mapping[str, float], latent: int) -> str:
    """On a KL and the latent dimensions it is spent on, from means over an epoch and test figures.

    Read are kl (nats), active and what `coverage` reads, each where it is there.
    """
    kl, active = metrics["kl"], metrics.get("active", latent)
    if kl < 0.1 or active == 0:
        verdict = "the KL is near 0: codes say nothing of images, and samples are alike; train longer, or lower beta"
    elif active < latent / 2:
        verdict = "few latent dimensions are in use: fewer would do, or lower beta"
    else:
        verdict = "the codes are in use"
    used = f", {active:.0f} of {latent} dimensions active" if "active" in metrics else ""
    return f"{verdict} (KL {kl:.3g} nats{used}){coverage(metrics, 'the decoder')}"


def coverage(metrics: Mapping[str, float], maker: str) -> str:
    """What of the data samples show, behind a verdict: always of modes, of classes where a fifth or more is missing.

    Read are modes and modes_there, classes_covered and classes_there.
    """
    if "modes" in metrics:
        return f"; {maker} finds {metrics['modes']:.0f} of {metrics['modes_there']:.0f} modes"
    covered, there = metrics.get("classes_covered", 0), metrics.get("classes_there", 0)
    return f"; {maker} makes {covered:.0f} of {there:.0f} classes" if covered < 0.8 * there else ""
