"""The README's snippets run and print what they say, and its links lead somewhere."""

import doctest
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def test_every_value_in_the_readme_is_what_the_code_gives():
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted >= 8
    assert result.failed == 0


def test_every_link_and_path_of_the_readme_exists():
    text = README.read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    paths = re.findall(r"`((?:tinygen|csrc|examples|benchmarks|tests)/[\w/.]*)`", text)
    assert links and paths
    assert [p for p in links + paths if not (ROOT / p).exists()] == []
