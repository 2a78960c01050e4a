"""The `vssl` command: finds the subcommands of the installed parts, and turns their errors into exit statuses.

Each subcommand is an entry point of the group `vssl.commands`. Its module imports typer and the standard library
at the top and everything else inside the function, so that `vssl --help` stays fast and works in a base install.
"""

import functools
import io
import os
import select
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, distribution
from typing import Any

import typer

from vssl import __version__
from vssl.errors import VsslError
from vssl.images.names import printable

OUR_PACKAGES = ("vssl", "vssl_client", "vssl_server", "vssl_training", "vssl_export")
INTERRUPTED = 130


def echo(text: str, err: bool = False) -> None:
    """Print a line for people; file names in it are harmless (`printable`)."""
    typer.echo(printable(text), err=err)


def fail(message: str, status: int) -> typer.Exit:
    """Print `message` on standard error and return the exit to raise."""
    echo(f"vssl: {message}", err=True)
    return typer.Exit(status)


def reader_is_gone() -> bool:
    """Whether nobody reads our standard output any more, as behind `| head`."""
    if not hasattr(select, "poll") or sys.stdout is None:
        return False
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)  # poll reports errors without being asked to
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):  # closed
        return True


def end_quietly() -> typer.Exit:
    """The exit of a command whose reader has left; the rest of the buffer is dropped."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return typer.Exit(0)


def guarded(command: Callable[..., None], entry: EntryPoint) -> Callable[..., None]:
    """Wrap a subcommand so that every failure a user can cause is one clear message and the right exit status."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 — the signature is the command's own
        try:
            command(*args, **kwargs)
            if sys.stdout is not None:
                sys.stdout.flush()  # here: when Python ends, a broken pipe would be a traceback
        except VsslError as error:
            raise fail(str(error), error.exit_status) from None
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in OUR_PACKAGES:
                raise
            extras = ",".join(entry.extras)
            message = f"`vssl {entry.name}` needs {error.name}, which is not installed: pip install 'vssl[{extras}]'"
            raise fail(message, 2) from None
        except OSError as error:
            if isinstance(error, BrokenPipeError) and reader_is_gone():
                raise end_quietly() from None
            where = f": {error.filename}" if error.filename else ""
            raise fail(f"{error.strerror or str(error) or type(error).__name__}{where}", 1) from None
        except KeyboardInterrupt:
            raise fail("interrupted", INTERRUPTED) from None

    return run


def build_app() -> typer.Typer:
    """The command line with every subcommand that this distribution declares."""
    app = typer.Typer(
        name="vssl",
        help="Self-supervised image embeddings that say how far each one can be trusted.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        no_args_is_help=True,
    )

    @app.callback(invoke_without_command=True)
    def top(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        if version:
            typer.echo(__version__)
            raise typer.Exit

    for entry in distribution("vssl").entry_points.select(group="vssl.commands"):
        command = entry.load()
        if isinstance(command, typer.Typer):  # a command with subcommands
            for one in command.registered_commands:
                assert one.callback is not None
                one.callback = guarded(one.callback, entry)
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(guarded(command, entry))
    return app


def read_names_as_utf8() -> None:
    """Restart in Python's UTF-8 mode where file names would be read in another encoding.

    Names are bytes, nearly everywhere UTF-8. Read as ISO-8859-1, `path` in the results would name no file. Output stays
    in the terminal's own encoding.
    """
    if sys.getfilesystemencoding() == "utf-8" or sys.platform == "win32":
        return
    streams = (stream for stream in (sys.stdout, sys.stderr) if stream is not None)
    shown_in = os.environ.get("PYTHONIOENCODING") or next((stream.encoding for stream in streams), "utf-8")
    os.environ["PYTHONIOENCODING"] = shown_in
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def main() -> None:
    """Entry point of the `vssl` script."""
    read_names_as_utf8()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character gets its escape: a name must not end a job. A closed stream is None.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    build_app()()


if __name__ == "__main__":
    main()
