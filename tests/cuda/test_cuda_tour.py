"""The steps of csrc/cuda/tour compute a convolution, on shapes where nothing fits, in shuffled orders."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest

from benchmarks.cases import parse
from benchmarks.gpu_check import operands, tour_job, tour_steps
from tinygen.backends import reference
from tinygen.backends.cuda import emulated, sources
from tinygen.backends.geometry import Geometry

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++")
SHAPES = ["2,3,7,9,5,3,1,1", "3,5,9,8,9,4,2,1", "2,3,5,6,7,5,3,2", "1,9,11,10,70,3,1,0", "1,1,1,1,1,1,1,0",
          "2,20,8,8,18,3,2,1"]  # fmt: skip


@pytest.mark.parametrize("step", tour_steps())
def test_a_step_of_the_tour_is_a_convolution(step):
    kernels = emulated.on_numpy()
    try:
        for seed, text in enumerate(SHAPES):
            emulated.set_seed(seed)
            layer = parse(text)
            x, w, _ = operands(layer)
            job, y = tour_job(kernels, step, layer)
            job()
            geo = Geometry(layer.x_shape, layer.weight_shape, layer.y_shape, (layer.stride,) * 2, pad=(layer.pad,) * 2)
            np.testing.assert_allclose(y, reference.conv(x, w, geo), rtol=1e-4, atol=1e-5, err_msg=text)
    finally:
        emulated.set_seed(0)


@pytest.mark.emulated
@pytest.mark.skipif(not shutil.which("nvcc"), reason="nvcc is not installed")
@pytest.mark.parametrize("step", tour_steps())
def test_nvcc_compiles_a_step(step, tmp_path):
    (tmp_path / "step.cu").write_text(sources.source(f"tour/{step}"))
    command = ["nvcc", "-std=c++17", "-arch=sm_90", "-cubin", tmp_path / "step.cu", "-o", tmp_path / "step.cubin"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
