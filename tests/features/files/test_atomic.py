import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from thaw.features.files.atomic import reserve, whole_folder, whole_path, write_whole


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
        "import os, signal, sys; from pathlib import Path; from thaw.features.files.atomic import write_whole\n"
        "with write_whole(Path(sys.argv[1])) as file:\n"
        "    file.write('new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, cwd=Path(__file__).resolve().parents[3])
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


def test_what_a_killed_writer_left_is_removed_by_the_next_and_what_another_writes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    with whole_path(path) as temporary:
        temporary.write_text("whole")
        head, tail = temporary.name.split(f"-{os.getpid()}-")
    dead, living = (tmp_path / f"{head}-{process}-{tail}" for process in (ended.pid, os.getppid()))
    elsewhere = tmp_path / f".file.txt.{'0' * 8}-{ended.pid}-{tail}"  # a process of another machine, which may run
    for leftover in (dead, living, elsewhere, dead.with_suffix(".tmp.keras")):
        leftover.write_text("half")
    dead.with_suffix(".tmp.former").mkdir()
    with write_whole(path) as file:
        file.write("whole")
    assert sorted(tmp_path.iterdir()) == sorted([living, elsewhere, path])


def test_a_folder_is_whole_or_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "savedmodel"
    for content in ("first", "second"):
        with whole_folder(path) as folder:
            folder.mkdir()
            (folder / content).write_text(content)
            assert not (path / content).exists()
    with pytest.raises(RuntimeError, match="stop"), whole_folder(path) as folder:
        folder.mkdir()
        raise RuntimeError("stop")
    assert [entry.name for entry in path.iterdir()] == ["second"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["savedmodel"]


@pytest.mark.skipif(sys.platform != "linux", reason="room is reserved on Linux alone")
def test_room_is_taken_for_a_file_whose_length_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    reserve(path, 10**6)
    assert (path.stat().st_size, path.read_bytes()) == (3, b"abc")
    with pytest.raises(OSError, match="No space left|File too large") as error:
        reserve(path, 2**62)
    assert error.value.filename == str(path)
