"""What pytest collects: the same tests in each process, or pytest-xdist runs none of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _start(folder: str, seed: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", folder],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        text=True,
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize("folder", ["tests/unit", "tests/guest"])
def test_two_processes_collect_the_same_tests(folder):
    names = []
    for collecting in [_start(folder, "1"), _start(folder, "2")]:
        output = collecting.communicate()[0]
        assert collecting.returncode == 0, output[-2000:]
        names.append([line for line in output.splitlines() if "::" in line])
    assert len(names[0]) > 300
    assert names[0] == names[1]
