"""Every example runs from end to end on a few batches and leaves its picture."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("name", ["autoencoder", "gan", "vae"])
def test_example_runs_and_leaves_a_picture(name, tmp_path):
    from PIL import Image

    picture = tmp_path / f"{name}.png"
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--tiny", "--out", str(picture)]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    assert "epoch   1:" in result.stdout
    with Image.open(picture) as image:
        assert min(image.size) >= 64
        assert len(image.convert("L").getcolors()) > 10  # not blank


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_an_example_is_one_file_of_at_most_120_lines(path):
    assert len(path.read_text().splitlines()) <= 120
