"""`vssl embed` as a process: what it prints, how it ends, and that it goes on after any end."""

import contextlib
import json
import os
import pty
import random
import resource
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kill_resume import killed_and_resumed
from tests.bad_files import bad_files
from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import command, proxied, serving, vssl
from tests.command_line import vssl_here
from tests.conftest import FASHION
from tests.ports import free_port
from vssl.bundle.reading import Bundle
from vssl.sources.opening import open_source
from vssl_client.parts.finding import parts_of
from vssl_client.parts.stored import read_embeddings

SMALL_PARTS = "from vssl_client.folder import part_writer; part_writer.PART_ROWS = 64"
IMPATIENT = "from vssl_client.exchange import retry; retry.FIRST = 0.001"
TRAIN = f"{FASHION}::train"


@pytest.fixture
def bundle(tiny_bundle: Bundle) -> Path:
    return tiny_bundle.location


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for number, data in enumerate(pictures(20)):
        (tmp_path / "data" / f"{number:02d}.png").write_bytes(data)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def train() -> list[str]:
    """Paths of the 4,000 images that the longer jobs embed."""
    return list(open_source(TRAIN).paths())


def test_both_ways_end_in_the_same_table(folder: Path, tmp_path: Path, server: str, tiny_bundle: Bundle) -> None:
    expected = oracle(tiny_bundle, pictures(20))
    for way in (["--url", server], ["--bundle", str(tiny_bundle.location)]):
        out = tmp_path / way[0]
        done = vssl("embed", folder, *way, "-o", out)
        assert done.stdout == f"{out}: 20 images embedded, 0 failed (20 in this run)\n"
        assert done.stderr == ""
        assert_same(read_embeddings(out), expected)


def test_folders_may_have_names_that_are_no_text(tmp_path: Path, bundle: Path) -> None:
    data, out = tmp_path / os.fsdecode(b"caf\xe9 \xff"), tmp_path / os.fsdecode(b"out \xff")
    data.mkdir()
    (data / os.fsdecode(b"\xff.png")).write_bytes(pictures(1)[0])
    for new in (1, 0):
        assert (
            f"1 images embedded, 0 failed ({new} in this run)"
            in vssl("embed", data, "--bundle", bundle, "-o", out).stdout
        )
    assert read_embeddings(out).paths == ["\\udcff.png"]
    assert "no such file" in vssl("embed", data / "x", "--bundle", bundle, "-o", out, status=2).stderr


def test_failures_are_listed_and_end_with_status_1_every_time(folder: Path, tmp_path: Path, bundle: Path) -> None:
    for name, data in bad_files().items():
        (folder / name).write_bytes(data)
    for new in (25, 0):
        done = vssl("embed", folder, "--bundle", bundle, "-o", tmp_path / "out", status=1)
        assert f"20 images embedded, 5 failed ({new} in this run)" in done.stdout
        assert done.stderr.startswith("vssl: 5 images could not be embedded:\n")
        for name in bad_files():
            assert f"  {name}: " in done.stderr


def test_what_failed_and_what_changed_is_embedded_again_if_asked(folder: Path, tmp_path: Path, bundle: Path) -> None:
    line: list[str | Path] = ["embed", folder, "--bundle", bundle, "-o", tmp_path / "out"]
    images = pictures(20)
    (folder / "03.png").write_bytes(b"")
    assert "--retry-failed tries them again" in vssl_here(*line, status=1).stderr
    (folder / "03.png").write_bytes(images[3])
    (folder / "04.png").write_bytes(images[4] + b"\0")
    told = vssl_here(*line, "--retry-failed", status=1)
    assert "20 images embedded, 0 failed (1 in this run)" in told.stdout
    assert told.stderr == (
        "vssl: 1 images have changed since they were embedded (--changed embeds them again):\n  04.png\n"
    )
    counted = json.loads(vssl_here(*line, "--json", status=1).stdout)
    assert (counted["changed"], counted["changes"], counted["new"]) == (1, ["04.png"], 0)
    assert "20 images embedded, 0 failed (1 in this run)" in vssl_here(*line, "--changed").stdout
    assert vssl_here(*line).stderr == ""


def test_a_dry_run_and_a_limit(folder: Path, tmp_path: Path, bundle: Path, server: str) -> None:
    out = tmp_path / "out"
    line: list[str | Path] = ["embed", folder, "-o", out, "--bundle", bundle]
    told = vssl_here(*line, "--dry-run").stdout
    assert told.endswith("20 images in the source, 0 rows, 0 of them failed; 20 to embed; nothing was done\n")
    assert not out.exists()
    flags = ["--connections", "2", "--timeout", "30", "--limit", "7", "--no-variance"]
    assert "(7 in this run)" in vssl_here("embed", folder, "-o", out, "--url", server, *flags).stdout
    plan = json.loads(vssl_here(*line, "--dry-run", "--json").stdout)
    assert plan == {"out": str(out), "images": 20, "done": 7, "failed": 0, "to_embed": 13}
    assert "(13 in this run)" in vssl_here(*line).stdout
    assert read_embeddings(out).paths == [f"{number:02d}.png" for number in range(20)]


def test_only_the_first_of_many_failures_are_listed(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(13):
        (tmp_path / "data" / f"{number}.jpg").touch()
    done = vssl("embed", tmp_path / "data", "--bundle", bundle, "-o", tmp_path / "out", status=1)
    assert done.stderr.count(".jpg: empty") == 10
    assert "and 3 more" in done.stderr


LOST = """
import os
scandir = os.scandir
def refusing(place):
    if os.fspath(place).endswith("lost+found"):
        raise PermissionError(13, os.strerror(13), place)
    return scandir(place)
os.scandir = refusing
"""


def test_every_file_that_find_sees_is_accounted_for(folder: Path, tmp_path: Path, bundle: Path) -> None:
    (folder / "class").mkdir()
    for number, data in enumerate(pictures(3)):
        (folder / "class" / f"{number}.jfif").write_bytes(data)
        (folder / f"{number}.cr3").write_bytes(data)
    (folder / "linked").symlink_to("class")
    (folder / "class" / "loop").symlink_to("..")
    (folder / "broken.jpg").symlink_to("nowhere")
    (folder / "notes.txt").touch()
    seen = subprocess.run(["find", "-L", folder, "!", "-type", "d"], capture_output=True, text=True, check=False)
    arguments = ["embed", str(folder), "--bundle", str(bundle), "-o", str(tmp_path / "out")]

    told = json.loads(vssl_here(*arguments, "--json", status=1).stdout)
    assert told["passed_over"] == {".cr3": 3, "links in a loop": 2, ".txt": 1}
    assert (told["embedded"], told["failed"], told["unreadable"]) == (26, 1, {})
    # One line names a file, or on the other channel a link that leads back.
    assert len(seen.stdout.splitlines()) + len(seen.stderr.splitlines()) == 26 + 1 + 6

    (folder / "broken.jpg").unlink()
    arguments[-1] = str(tmp_path / "other")
    line = "passed over: 3 .cr3, 2 links in a loop, 1 .txt\n"
    assert vssl_here(*arguments).stdout.endswith(line)
    assert vssl_here(*arguments, "--strict", status=1).stderr == f"vssl: {line}"
    assert vssl_here(*arguments, "--quiet").stdout == ""


def test_a_folder_that_cant_be_read_ends_with_status_1_and_hides_nothing(
    folder: Path, tmp_path: Path, bundle: Path
) -> None:
    (folder / "lost+found").mkdir()
    (folder / "z").mkdir()
    (folder / "z" / "last.png").write_bytes(pictures(1)[0])
    done = vssl("embed", folder, "--bundle", bundle, "-o", tmp_path / "out", status=1, before=LOST)
    assert "21 images embedded, 0 failed" in done.stdout
    assert done.stderr == "vssl: 1 folder or shard could not be read:\n  lost+found: Permission denied\n"


def test_quiet_says_nothing_but_what_went_wrong(folder: Path, tmp_path: Path, bundle: Path) -> None:
    done = vssl("embed", folder, "--bundle", bundle, "-o", tmp_path / "out", "--quiet")
    assert done.stdout + done.stderr == ""
    (folder / "bad.jpg").touch()
    done = vssl("embed", folder, "--bundle", bundle, "-o", tmp_path / "out", "--quiet", status=1)
    assert done.stdout == ""
    assert "bad.jpg: empty" in done.stderr


def test_usage_errors_say_what_to_do(folder: Path, tmp_path: Path, bundle: Path, server: str) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    wrong: dict[str, list[str | Path]] = {
        "one of the two": ["embed", folder, "-o", out, "--url", server, "--bundle", bundle],
        "no such file or folder": ["embed", tmp_path / "nowhere", "-o", out, "--bundle", bundle],
        "no such bundle": ["embed", folder, "-o", out, "--bundle", tmp_path / "nowhere"],
        "no images": ["embed", tmp_path / "empty", "-o", out, "--bundle", bundle],
        "not the address": ["embed", folder, "-o", out, "--url", "localhost"],
        "no model in int8": ["embed", folder, "-o", out, "--bundle", bundle, "--precision", "int8"],
        "a server has its own": ["embed", folder, "-o", out, "--url", server, "--precision", "fp32"],
    }
    for message, arguments in wrong.items():
        assert message in vssl_here(*arguments, status=2).stderr
    assert not out.exists()


def test_a_server_that_is_not_there_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    patience = "from vssl_client.exchange import retry; retry.FIRST = 1000.0"
    done = vssl("embed", folder, "-o", tmp_path / "out", "--url", "http://127.0.0.1:9", status=1, before=patience)
    assert "http://127.0.0.1:9" in done.stderr
    assert "is the server running?" in done.stderr


def test_a_server_with_keys_wants_one(folder: Path, tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "keys").write_text("secret\n")
    with serving(bundle, "--api-keys-file", str(tmp_path / "keys")) as url:
        assert "key" in vssl_here("embed", folder, "-o", tmp_path / "out", "--url", url, status=1).stderr
        vssl_here("embed", folder, "-o", tmp_path / "out", "--url", url, "--api-key", "secret")
    assert len(read_embeddings(tmp_path / "out").paths) == 20


def test_a_server_that_goes_away_leaves_what_is_finished(tmp_path: Path, server: str, train: list[str]) -> None:
    out = tmp_path / "out"
    with proxied(server) as (proxy, url):
        process = subprocess.Popen(
            command("embed", TRAIN, "-o", out, "--url", url, before=f"{SMALL_PARTS}; {IMPATIENT}"),
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(20):
            proxy.seen.get(timeout=60)
        proxy.always = "drop"
        _, message = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "run the same command again to go on" in message
        assert "Traceback" not in message
        assert 0 < len(parts_of(out)) < 20
        proxy.always = None
        vssl_here("embed", TRAIN, "-o", out, "--url", url)
    assert read_embeddings(out).paths == train


def test_a_server_that_restarts_costs_only_retries(tmp_path: Path, bundle: Path, train: list[str]) -> None:
    out, port = tmp_path / "out", free_port()
    with serving(bundle, port=port) as url:
        process = subprocess.Popen(
            command("embed", TRAIN, "-o", out, "--url", url, "--json", before=TELLING_PARTS),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "part-000000.parquet\n"
    assert len(parts_of(out)) < 60
    with serving(bundle, port=port):
        told, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    assert json.loads(told.splitlines()[-1])["embedded"] == len(train)
    assert read_embeddings(out).paths == train


def test_one_of_two_servers_dies_in_the_middle(tmp_path: Path, bundle: Path, server: str, train: list[str]) -> None:
    out = tmp_path / "out"
    with serving(bundle) as mortal:
        process = subprocess.Popen(
            command("embed", TRAIN, "-o", out, "--url", mortal, "--url", server, before=TELLING_PARTS),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "part-000000.parquet\n"
    told, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    assert "4,000 images embedded, 0 failed" in told
    assert read_embeddings(out).paths == train
    again = vssl_here("embed", TRAIN, "-o", out, "--url", mortal, "--url", server)  # the dead one is no obstacle
    assert "(0 in this run)" in again.stdout


@pytest.mark.parametrize("separator", ["\n", "\0"])
def test_a_list_of_paths_comes_on_standard_input(
    separator: str, folder: Path, tmp_path: Path, bundle: Path, tiny_bundle: Bundle
) -> None:
    out, names = tmp_path / "out", sorted(folder.iterdir())[::-1]
    line = command("embed", "-", "--bundle", bundle, "-o", out, "--quiet")
    listed = separator.join(map(str, [*names, names[0]]))
    for _ in range(2):
        subprocess.run(line, input=listed, text=True, check=True, timeout=60)
    stored = read_embeddings(out)
    assert stored.paths == list(map(str, names))
    assert_same(stored, oracle(tiny_bundle, pictures(20)[::-1]))
    subprocess.run(line, input=f"{listed}{separator}{tmp_path}/nowhere.png", text=True, check=False, timeout=60)
    assert [path for path, _ in read_embeddings(out).failures] == [f"{tmp_path}/nowhere.png"]


def test_patterns_and_files_are_sources(folder: Path, tmp_path: Path, bundle: Path) -> None:
    vssl_here("embed", f"{tmp_path}/**/0?.png", "--bundle", bundle, "-o", tmp_path / "pattern")
    assert read_embeddings(tmp_path / "pattern").paths == [f"data/{number:02d}.png" for number in range(10)]
    files = [folder / "03.png", folder / "01.png"]
    vssl_here("embed", *files, "--bundle", bundle, "-o", tmp_path / "files")
    assert read_embeddings(tmp_path / "files").paths == list(map(str, files))
    vssl_here("embed", files[0], "--bundle", bundle, "-o", tmp_path / "file")
    assert len(read_embeddings(tmp_path / "file")) == 1
    wrong = vssl_here("embed", *files, folder, "--bundle", bundle, "-o", tmp_path / "none", status=2)
    assert "one folder or archive, or one or more image files" in wrong.stderr


def test_a_script_gets_json(folder: Path, tmp_path: Path, bundle: Path) -> None:
    (folder / "bad.jpg").touch()
    flags: list[str | Path] = ["--bundle", bundle, "-o", tmp_path / "out", "--json", "--format", "jsonl"]
    told = json.loads(vssl_here("embed", folder, *flags, status=1).stdout)
    assert (told["embedded"], told["failed"], told["new"], told["out"]) == (20, 1, 21, str(tmp_path / "out"))
    assert told["failures"] == [["bad.jpg", "empty: the file is empty (0 bytes)"]]
    assert told["seconds"] > 0 < told["images_per_second"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "part-000000.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == sorted(path.name for path in folder.iterdir())


WITHOUT_RAY = "import sys; sys.modules['ray'] = None"


def test_ray_needs_a_bundle_and_its_extra(folder: Path, tmp_path: Path, bundle: Path, server: str) -> None:
    ray: list[str | Path] = ["embed", folder, "-o", tmp_path / "out", "--engine", "ray"]
    assert "--bundle too" in vssl_here(*ray, "--url", server, status=2).stderr
    assert (
        "--ray-address goes with" in vssl_here(*ray[:4], "--bundle", bundle, "--ray-address", "auto", status=2).stderr
    )
    assert "pip install 'vssl[ray]'" in vssl(*ray, "--bundle", bundle, status=2, before=WITHOUT_RAY).stderr


@pytest.mark.parametrize("way", ["triton", "grpc"])
def test_over_the_inference_protocol(way: str, folder: Path, tmp_path: Path, tiny_bundle: Bundle) -> None:
    pytest.importorskip("tritonclient")
    (folder / "bad.jpg").touch()
    port = free_port()
    with serving(tiny_bundle.location, "--grpc-port", str(port)) as url:
        address = f"127.0.0.1:{port}" if way == "grpc" else url.split(" and ")[0]
        flags = ["--url", address, "--transport", way, "--model", "tiny"]
        assert "bad.jpg: empty" in vssl_here("embed", folder, *flags, "-o", tmp_path / "out", status=1).stderr
    assert_same(read_embeddings(tmp_path / "out"), oracle(tiny_bundle, pictures(20)))


def test_a_progress_bar_shows_on_a_terminal(folder: Path, tmp_path: Path, bundle: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("embed", folder, "--bundle", bundle, "-o", tmp_path / "out"),
        stderr=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b"".join(terminal(ours))
    os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"20/20" in shown
    assert b"20 images embedded" in out


def terminal(handle: int) -> Iterator[bytes]:
    """All that comes until the other side is closed, which Linux reports as an error."""
    while True:
        try:
            data = os.read(handle, 4096)
        except OSError:
            return
        if not data:
            return
        yield data


TELLING_PARTS = """
from vssl_client.folder import part_writer
from vssl_client.formats import parquet
part_writer.PART_ROWS = 64
write_part = parquet.write_part
def tell(part, *rest):
    write_part(part, *rest)
    print(part.name, flush=True)
parquet.write_part = tell
"""


SLOWLY = """
import time
tell_at_once = parquet.write_part
def tell_slowly(part, *rest):
    tell_at_once(part, *rest)
    time.sleep(0.05)
parquet.write_part = tell_slowly
"""
"""Behind `TELLING_PARTS`, so that whoever is told is never too late."""


def test_a_job_killed_at_random_moments_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, bundle: Path, train: list[str], tiny_bundle: Bundle
) -> None:
    out, chance = tmp_path / "out", random.Random(0)
    finished: dict[str, bytes] = {}
    for _ in range(3):
        process = subprocess.Popen(
            command("embed", TRAIN, "-o", out, "--bundle", bundle, before=TELLING_PARTS + SLOWLY),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"part-")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, 0.1))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        now = {part.name: part.read_bytes() for part in parts_of(out)}
        assert finished.items() < now.items()
        finished = now
    vssl_here("embed", TRAIN, "-o", out, "--bundle", bundle)
    assert finished.items() < {part.name: part.read_bytes() for part in parts_of(out)}.items()
    stored = read_embeddings(out)
    assert stored.paths == train
    with zipfile.ZipFile(FASHION) as archive:
        assert_same(stored, oracle(tiny_bundle, [archive.read(f"train/{path}") for path in train]))


@pytest.mark.slow
def test_fifty_kills_lose_nothing_and_do_nothing_twice(tmp_path: Path, bundle: Path, server: str) -> None:
    ways = [["--bundle", str(bundle)], ["--url", server]]
    found = killed_and_resumed(TRAIN, ways, tmp_path, 50, random.Random(0))
    jobs = found.pop("jobs")
    assert found == {"images": 4000, "kills": 50, "lost": 0, "twice": 0, "parts_changed": 0}
    assert jobs >= 1


KILLED_WHILE_WRITING = """
import os, signal
from vssl_client.folder import part_writer
from vssl_client.formats import parquet
part_writer.PART_ROWS = 64
write_table, written = parquet.pq.write_table, []
def write_half(content, sink, **options):
    written.append(write_table(content, sink, **options))
    if len(written) == 3:
        sink.truncate(sink.tell() // 2)
        sink.flush()
        os.kill(os.getpid(), signal.SIGKILL)
parquet.pq.write_table = write_half
"""


def test_a_job_killed_while_it_writes_a_part_leaves_no_half_part(
    tmp_path: Path, bundle: Path, train: list[str]
) -> None:
    out = tmp_path / "out"
    vssl("embed", TRAIN, "-o", out, "--bundle", bundle, status=-signal.SIGKILL, before=KILLED_WHILE_WRITING)
    assert len(parts_of(out)) == 2
    assert [path.name.endswith(".tmp") for path in out.glob(".*")] == [True]
    assert read_embeddings(out).paths == train[:128]
    vssl_here("embed", TRAIN, "-o", out, "--bundle", bundle)
    assert read_embeddings(out).paths == train
    assert list(out.glob(".*")) == []


def test_a_job_killed_while_it_writes_a_part_again_leaves_the_old_one(
    folder: Path, tmp_path: Path, bundle: Path, tiny_bundle: Bundle
) -> None:
    out = tmp_path / "out"
    line: list[str | Path] = ["embed", folder, "--bundle", bundle, "-o", out]
    (folder / "03.png").write_bytes(b"")
    vssl_here(*line, status=1)
    before = {part.name: part.read_bytes() for part in parts_of(out)}
    (folder / "03.png").write_bytes(pictures(20)[3])
    at_once = KILLED_WHILE_WRITING.replace("== 3", "== 1")
    vssl(*line, "--retry-failed", status=-signal.SIGKILL, before=at_once)
    assert {part.name: part.read_bytes() for part in parts_of(out)} == before
    vssl_here(*line, "--retry-failed")
    assert_same(read_embeddings(out), oracle(tiny_bundle, pictures(20)))
    assert list(out.glob(".*")) == []


def interrupted(process: "subprocess.Popen[str]") -> str:
    """What a process prints when it is interrupted, which must end it at once."""
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130, message
    assert "Traceback" not in message
    return message


def test_ctrl_c_ends_it_at_once_while_a_server_keeps_it_waiting(
    folder: Path, tmp_path: Path, server: str, bundle: Path
) -> None:
    with proxied(server) as (proxy, url):
        process = subprocess.Popen(
            command("embed", folder, "-o", tmp_path / "out", "--url", url), stderr=subprocess.PIPE, text=True
        )
        for _ in range(2):  # the model, once to try the address and once by the job
            proxy.seen.get(timeout=60)
        proxy.always = "hang"
        proxy.seen.get(timeout=60)
        assert "run the same command again to go on" in interrupted(process)
        proxy.always = None
        proxy.released.set()
        vssl_here("embed", folder, "-o", tmp_path / "out", "--url", url)
    assert len(read_embeddings(tmp_path / "out")) == 20


def test_ctrl_c_ends_it_at_once_while_it_works(tmp_path: Path, bundle: Path, train: list[str]) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command("embed", TRAIN, "-o", out, "--bundle", bundle, before=TELLING_PARTS + SLOWLY),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "part-000000.parquet\n"
    assert "run the same command again to go on" in interrupted(process)
    assert 0 < len(read_embeddings(out)) < len(train)
    vssl_here("embed", TRAIN, "-o", out, "--bundle", bundle)
    assert read_embeddings(out).paths == train


def test_a_file_that_can_not_grow_ends_in_a_clear_error(tmp_path: Path, bundle: Path, train: list[str]) -> None:
    out = tmp_path / "out"
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, {resource.RLIM_INFINITY}))"
    done = vssl("embed", TRAIN, "-o", out, "--bundle", bundle, status=1, before=limit)
    assert "part-000000.parquet: can't be written (File too large)" in done.stderr
    assert [path.name for path in out.iterdir()] == ["_lock"]
    vssl_here("embed", TRAIN, "-o", out, "--bundle", bundle)
    assert read_embeddings(out).paths == train


def test_a_full_disk_ends_in_a_clear_error_and_room_lets_it_go_on(
    tmp_path: Path, bundle: Path, train: list[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    try:
        done = vssl("embed", TRAIN, "-o", disk / "out", "--bundle", bundle, status=1, before=SMALL_PARTS)
        assert "can't be written (No space left on device)" in done.stderr
        assert "run the same command again" in done.stderr
        assert 0 < len(parts_of(disk / "out")) < 40
        assert list((disk / "out").glob(".*")) == []
        subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
        vssl("embed", TRAIN, "-o", disk / "out", "--bundle", bundle, before=SMALL_PARTS)
        assert read_embeddings(disk / "out").paths == train
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_killed_job_does_not_block_the_next_one_but_a_running_one_does(
    folder: Path, tmp_path: Path, server: str, bundle: Path
) -> None:
    out = tmp_path / "out"
    with proxied(server) as (proxy, url):
        process = subprocess.Popen(command("embed", folder, "-o", out, "--url", url))
        for _ in range(2):
            proxy.seen.get(timeout=60)
        proxy.always = "hang"
        proxy.seen.get(timeout=60)
        assert "another vssl process" in vssl_here("embed", folder, "-o", out, "--bundle", bundle, status=2).stderr
        process.kill()
        process.wait()
    vssl_here("embed", folder, "-o", out, "--bundle", bundle)


LOADED = """
import atexit, sys
atexit.register(lambda: print("loaded:", *sorted({name.split(".")[0] for name in sys.modules}), flush=True))
"""


def test_the_client_brings_no_more_than_it_needs(folder: Path, tmp_path: Path, server: str, bundle: Path) -> None:
    served = vssl("embed", folder, "-o", tmp_path / "served", "--url", server, before=LOADED).stdout
    local = vssl("embed", folder, "-o", tmp_path / "local", "--bundle", bundle, before=LOADED).stdout
    listed = vssl("--help", before=LOADED).stdout
    served_modules, local_modules, help_modules = (
        set(text.split("loaded:")[1].split()) for text in (served, local, listed)
    )
    assert {"httpx2", "pyarrow"} <= served_modules
    assert not served_modules & {"torch", "onnxruntime", "fastapi", "uvicorn"}
    assert not local_modules & {"torch", "fastapi", "uvicorn"}
    assert not help_modules & {"httpx2", "numpy", "pyarrow", "rich", "PIL"}


WITHOUT_RUNTIME = "import sys; sys.modules['onnxruntime'] = None"


def test_in_process_without_onnxruntime_says_what_to_install(folder: Path, tmp_path: Path, bundle: Path) -> None:
    done = vssl("embed", folder, "-o", tmp_path / "out", "--bundle", bundle, status=2, before=WITHOUT_RUNTIME)
    assert "pip install 'vssl[server]'" in done.stderr
    assert done.stderr.count("\n") == 1
