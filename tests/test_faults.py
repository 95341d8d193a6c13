import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_harness_can_be_imported() -> None:
    """What runs for hours by hand alone would otherwise be found broken then."""
    folder = ROOT / "tests" / "faults"
    names = ", ".join(sorted(path.stem for path in folder.glob("*.py")))
    done = subprocess.run(
        [sys.executable, "-c", f"import {names}"], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the harness reads /proc; make faults runs on Linux")
def test_a_few_kills_flips_and_other_faults_lose_nothing() -> None:
    """In a process of its own, since it forks, which nothing may have computed before."""
    command = [sys.executable, str(ROOT / "tests" / "faults" / "few.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "4 kills, 0 faults"
    assert "5 cases: {'svm': 3, 'report': 2}" in done.stdout
    assert "60 flips" in done.stdout
