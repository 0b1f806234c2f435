"""The table of names, and what importing the measures costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tinygen import metrics

WANTED = """mse loss recon kl active accuracy d_loss g_loss d_real d_fake d_accuracy d_grad g_grad cfid conf95 class_kl
digits penalty critic_estimate gradient_norm gradient_norm_sd modes within_3_sigma energy_distance classes_covered
precision recall psnr ssim auroc auprc P@1 R@10 MAP@R bits_per_dim nll"""


def test_every_name_is_described():
    assert set(WANTED.split()) <= set(metrics.NAMES)
    for name, metric in metrics.NAMES.items():
        assert metric.name == name and metric.title and metric.unit
        assert metric.good in ("low", "high", None)
    assert len({m.title for m in metrics.NAMES.values()}) == len(metrics.NAMES)  # no title twice


def test_directions():
    good = [metrics.describe(name).good for name in ("mse", "nll", "cfid", "ssim", "auroc", "P@1", "kl", "d_loss")]
    assert good == ["low", "low", "low", "high", "high", "high", None, None]


def test_a_headline_tells_which_way_is_good():
    headlines = [metric for metric in metrics.NAMES.values() if metric.headline]
    assert headlines and all(metric.good for metric in headlines)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(KeyError) as caught:
        metrics.describe("aurok")
    assert isinstance(caught.value, metrics.UnknownMetric)
    assert str(caught.value).startswith("no metric 'aurok' in NAMES (tinygen/metrics/names.py); the nearest is 'auroc'")
    with pytest.raises(metrics.UnknownMetric, match="nearest"):
        metrics.describe("§")  # like none of them


def test_importing_the_measures_loads_numpy_alone():
    code = "import sys, tinygen.metrics; print(*{m.split('.')[0] for m in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sklearn", "scipy", "matplotlib", "PIL", "rich", "cupy"} & set(run.stdout.split())
