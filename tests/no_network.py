"""Commands where there is no network at all."""

import shutil
import subprocess


def without_network() -> list[str]:
    """What runs a command so, where this machine lets us."""
    alone = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") and subprocess.run([*alone, "true"], check=False, capture_output=True).returncode == 0:
        return alone
    return []
