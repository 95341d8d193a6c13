import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from features.errors import InputError
from features.wholefiles import whole_path, write_whole, writing_alone


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with write_whole(path) as file:
        file.write("first ü\n")
    with pytest.raises(RuntimeError, match="stop"), write_whole(path) as file:
        file.write("second")
        raise RuntimeError("stop")
    assert path.read_text(encoding="utf-8") == "first ü\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; from features.wholefiles import write_whole\n"
        "with write_whole(Path(sys.argv[1])) as file:\n"
        "    file.write('new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, cwd=Path(__file__).parent.parent)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with pytest.raises(OSError, match="No space left"), whole_path(path) as temporary:
        temporary.symlink_to("/dev/full")
        with temporary.open("w") as file:
            file.write("x" * 100_000)
    assert not list(tmp_path.iterdir())


def test_one_process_at_a_time_makes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    code = (
        "import sys; from pathlib import Path; from features.wholefiles import writing_alone\n"
        "with writing_alone(Path(sys.argv[1])): print('holding', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"holding\n"
        with pytest.raises(InputError) as error, writing_alone(path):
            pass
        assert str(error.value) == f"another process is making {path}; wait for its end and type the command again"
        other.kill()
    with writing_alone(path):
        pass


def test_what_a_killed_writer_left_is_removed_by_the_next_and_what_another_writes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    dead, living = (tmp_path / f".file.txt.{process}.tmp" for process in (ended.pid, os.getppid()))
    for leftover in (dead, living):
        leftover.write_text("half")
    with write_whole(path) as file:
        file.write("whole")
    assert sorted(tmp_path.iterdir()) == sorted([living, path])
