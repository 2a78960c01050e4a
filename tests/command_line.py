"""`vssl` in the process of a test, which has loaded what a process of its own takes seconds to load."""

from functools import cache
from pathlib import Path

from typer import Typer
from typer.testing import CliRunner, Result

from vssl.cli import build_app


@cache
def app() -> Typer:
    """Of all subcommands."""
    return build_app()


def vssl_here(*arguments: str | Path, status: int = 0) -> Result:
    """Run one command to its end, errors and their exit statuses included."""
    done = CliRunner().invoke(app(), [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done
