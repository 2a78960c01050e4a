"""Python for a process that is killed at a known place, however fast or slow it is."""

KILLED = """
import os, signal
import vssl.cli
from vssl_training.run.folder import Run
log = Run.log
def log_and_die(run, **fields):
    log(run, **fields)
    if len(run.metrics()) == KILL_AFTER:
        os.kill(os.getpid(), signal.SIGKILL)
Run.log = log_and_die
vssl.cli.main()
"""


def killed_after(lines: int) -> str:
    """A program that is `vssl train`, and gets SIGKILL the moment that so many lines of its log are on disk."""
    return KILLED.replace("KILL_AFTER", str(lines))
