"""A file is whole or not there: on an exception, on a full disk, when killed."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vssl.files import atomic_write


def test_the_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"half")
        assert not path.exists()
        file.write(b" and half")

    assert path.read_bytes() == b"half and half"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, b"old"])
def test_an_exception_leaves_what_was_there(tmp_path: Path, error: type[BaseException], before: bytes | None) -> None:
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)

    def fail_half_way() -> None:
        with atomic_write(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == ([("file", before)] if before else [])


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """The limit on a file's size stands in for the disk's: the same failing write, for a process of its own."""
    script = """
import resource, sys
from pathlib import Path
from vssl.files import atomic_write
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    with atomic_write(Path(sys.argv[1])) as file:
        file.write(bytes(2_000_000))
except OSError as error:
    print(error.errno)
"""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)

    assert int(done.stdout) == errno.EFBIG
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_in_the_middle_leaves_what_was_there(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from vssl.files import atomic_write
with atomic_write(Path(sys.argv[1])) as file:
    file.write(b"new")
    file.flush()
    print("written", flush=True)
    sys.stdin.read()
"""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        writer.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"
    assert all(found.name.startswith(".") for found in tmp_path.iterdir() if found != path)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as file:
            file.write(b"new")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


HELD = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
if sys.argv[2] == "without fcntl":
    sys.modules["fcntl"] = None
from vssl.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("system", ["as it is", "without fcntl"])
def test_a_folder_is_locked_on_any_system_until_its_process_ends(system: str, tmp_path: Path) -> None:
    line = [sys.executable, "-c", HELD, str(tmp_path), system]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    for _ in range(2):
        with subprocess.Popen(line, text=True, **pipes) as holder:  # type: ignore[call-overload]
            assert holder.stdout.readline() == "held\n"
            second = subprocess.run(line, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            assert "another vssl process is writing to it" in second.stderr
            if system == "as it is":
                holder.kill()
            holder.communicate(timeout=60)
