"""The `vssl` command: its exit statuses and messages, and how little it imports to print its help."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ("train", "evaluate", "export", "serve", "embed")

STAND_IN = """
import errno, sys
from importlib.metadata import EntryPoint
import typer
from vssl import cli
from vssl.errors import BundleError, UsageError, VsslError

def command(option: int = 0) -> None:
    {body}

app = cli.build_app()
app.command("try")(cli.guarded(command, EntryPoint("try", "a:b [one,two]", "vssl.commands")))
app()
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def attempt(body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a subcommand with that body, in a process of its own."""
    return python(STAND_IN.format(body=body), "try", *arguments)


def vssl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    script = Path(sys.executable).with_name("vssl")
    return subprocess.run([script, *arguments], capture_output=True, text=True, check=False)


def test_help_lists_every_command() -> None:
    done = vssl("--help")

    assert done.returncode == 0
    assert [command for command in COMMANDS if f"\n  {command} " in done.stdout] == list(COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """What makes help fast, told without a clock. Typer itself needs pydantic to read a command's options."""
    code = """
import sys
from vssl.cli import main
try:
    main()
except SystemExit as end:
    heavy = {"numpy", "pydantic", "torch", "rich", "PIL", "onnxruntime", "fastapi", "pyarrow", "httpx2", "yaml"}
    print(end.code, sorted(heavy & {name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""
    allowed = ("0 []\n",) if arguments == ["--help"] else ("0 []\n", "0 ['pydantic']\n")
    assert python(code, *arguments).stderr in allowed


def test_version() -> None:
    assert vssl("--version").stdout.count(".") == 2
    assert vssl("--version").returncode == 0


@pytest.mark.parametrize("arguments", [["--bogus"], ["bogus"], *([command, "--bogus"] for command in COMMANDS)])
def test_what_is_unknown_is_a_usage_error(arguments: list[str]) -> None:
    done = vssl(*arguments)

    assert done.returncode == 2
    assert "bogus" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_command_shows_the_help() -> None:
    done = vssl()

    assert done.returncode == 2
    assert all(command in done.stdout + done.stderr for command in COMMANDS)


def test_success() -> None:
    done = attempt("print(option)", "--option", "7")

    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("raise VsslError('three images failed')", 1, "three images failed"),
        ("raise BundleError('b: model.onnx is missing')", 1, "b: model.onnx is missing"),
        ("raise UsageError('x: no such file')", 2, "x: no such file"),
        ("raise VsslError('a name that is no text: \\udcff')", 1, "a name that is no text: \\udcff"),
        ("raise OSError(errno.ENOSPC, 'No space left on device', '/disk/f')", 1, "No space left on device: /disk/f"),
        ("raise OSError(errno.ENOSPC, 'No space left on device')", 1, "No space left on device"),
        ("raise OSError('said in words')", 1, "said in words"),
        ("raise OSError", 1, "OSError"),
        ("open('/missing')", 1, "No such file or directory: /missing"),
        ("open('/dev/full', 'w', buffering=1).write('line\\n')", 1, "No space left on device"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("raise typer.Exit(1)", 1, None),
        (
            "import numpy.missing",
            2,
            "`vssl try` needs numpy.missing, which is not installed: pip install 'vssl[one,two]'",
        ),
    ],
)
def test_failures_are_one_line_and_a_status(body: str, status: int, message: str | None) -> None:
    done = attempt(body)

    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr == (f"vssl: {message}\n" if message else "")


def test_a_part_of_ours_that_is_missing_is_our_mistake() -> None:
    """No extra would bring it, so it is not said to be one."""
    done = attempt("import vssl.missing")

    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "pip install" not in done.stderr


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        (["torch", "yaml"], ["train", "--data", "DATA", "--out", "OUT"], "train"),
        (["torch", "onnx"], ["export", "DATA", "--out", "OUT"], "export"),
        (["fastapi", "uvicorn", "onnxruntime"], ["serve", "BUNDLE"], "server"),
        (["pyarrow"], ["embed", "DATA", "--bundle", "BUNDLE", "-o", "OUT"], "parquet"),
    ],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, fashion_folder: Path, missing: list[str], arguments: list[str], extra: str
) -> None:
    """The modules are hidden from the process, as in an install without the extra."""
    from tests.tiny_model import write_tiny_bundle

    places = {"DATA": str(fashion_folder), "OUT": str(tmp_path / "out"), "BUNDLE": str(tmp_path / "bundle")}
    write_tiny_bundle(tmp_path / "bundle")
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); from vssl.cli import main; main()"
    done = python(code, *[places.get(word, word) for word in arguments])

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"pip install 'vssl[{extra}]'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_while_a_command_works() -> None:
    code = STAND_IN.format(body="print('working', flush=True); sys.stdin.read()")
    with subprocess.Popen(
        [sys.executable, "-c", code, "try"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(2)
        assert process.stderr.read() == "vssl: interrupted\n"
    assert process.returncode == 130


@pytest.mark.parametrize(
    "body",
    [
        "import sys; [typer.echo('x' * 1000) for _ in range(1000)]",
        "sys.stdin.read(); typer.echo('after its reader has gone')",  # in the buffer until the end
    ],
    ids=["while it writes", "at its end"],
)
def test_a_reader_that_has_seen_enough_ends_a_command_quietly(body: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STAND_IN.format(body=body), "try"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdin is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_connection_that_breaks_is_an_error() -> None:
    assert attempt("raise BrokenPipeError(errno.EPIPE, 'Broken pipe')").returncode == 1


def test_no_name_drives_the_terminal() -> None:
    done = attempt(r"raise VsslError('\x1b]0;owned\x07\x9b31m is no image, \u202egnp.exe neither; \u00e9 is fine')")
    assert done.stderr == "vssl: \\u001b]0;owned\\u0007\\u009b31m is no image, \\u202egnp.exe neither; é is fine\n"


def test_a_terminal_that_lacks_a_character_shows_its_escape() -> None:
    code = "import sys; sys.argv[1:] = ['try']\n" + STAND_IN.format(body="cli.echo('日.png é')").replace(
        "\napp()\n", "\nimport vssl.cli; cli.build_app = lambda: app; cli.main()\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "iso-8859-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\\u65e5.png \xe9\n", b"")


def test_names_are_utf8_whatever_the_terminal_speaks(tmp_path: Path) -> None:
    (tmp_path / "日é.png").touch()
    code = (
        "import os, sys; from vssl import cli; cli.build_app = lambda: lambda: cli.echo(os.listdir(sys.argv[1])[0]); "
        "cli.main()"
    )
    latin = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for variables, shown in (
        (latin | {"PYTHONIOENCODING": "iso-8859-1"}, b"\\u65e5\xe9.png"),
        (os.environ, "日é.png".encode()),
    ):
        command = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, check=False, env=variables)
        assert (done.returncode, done.stdout, done.stderr) == (0, shown + b"\n", b"")


def test_closed_streams_are_no_traceback(tmp_path: Path) -> None:
    for redirection, status, message in (
        (f"embed - -o {tmp_path}/out <&-", 2, "standard input is closed"),
        ("info >&-", 0, ""),
    ):
        done = subprocess.run(
            ["sh", "-c", f"{Path(sys.executable).with_name('vssl')} {redirection}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vssl.cli", "--version"], capture_output=True, text=True, check=False, env=os.environ
    )
    assert (done.returncode, done.stderr) == (0, "")
