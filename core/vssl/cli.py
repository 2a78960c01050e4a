"""The `vssl` command: finds the subcommands of the installed parts and turns their errors into exit statuses.

Each subcommand is an entry point of the group `vssl.commands`. Its module imports typer and the standard library
at the top and everything else inside the function, so that `vssl --help` stays fast and works in a base install.
"""

import functools
from collections.abc import Callable
from importlib.metadata import EntryPoint, distribution
from typing import Any

import typer

from vssl import __version__
from vssl.errors import VsslError

OUR_PACKAGES = ("vssl", "vssl_client", "vssl_server", "vssl_training", "vssl_export")
INTERRUPTED = 130


def fail(message: str, status: int) -> typer.Exit:
    """Print `message` on standard error and return the exit to raise."""
    typer.echo(f"vssl: {message}", err=True)
    return typer.Exit(status)


def guarded(command: Callable[..., None], entry: EntryPoint) -> Callable[..., None]:
    """Wrap a subcommand so that every failure a user can cause is one clear message and the right exit status."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 — the signature is the command's own
        try:
            command(*args, **kwargs)
        except VsslError as error:
            raise fail(str(error), error.exit_status) from None
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in OUR_PACKAGES:
                raise
            extras = ",".join(entry.extras)
            message = f"`vssl {entry.name}` needs {error.name}, which is not installed: pip install 'vssl[{extras}]'"
            raise fail(message, 2) from None
        except OSError as error:
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
        app.command(entry.name)(guarded(entry.load(), entry))
    return app


def main() -> None:
    """Entry point of the `vssl` script."""
    build_app()()


if __name__ == "__main__":
    main()
