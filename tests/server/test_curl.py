"""The commands of docs/serving.md, as they stand there, with curl itself."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server.conftest import png
from tests.server.test_process import running
from vssl.bundle import Bundle

DOCUMENT = Path(__file__).parents[2] / "docs" / "serving.md"


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("curl ")]
    return [line for line in lines if "…" not in line and "/repository/" not in line]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_page_answer_200(tiny_bundle: Bundle, tmp_path: Path) -> None:
    for name in ("cat.jpg", "dog.png"):
        (tmp_path / name).write_bytes(png(9))
    found = commands()
    assert len(found) >= 3
    with running(tiny_bundle.location) as server:
        for command in found:
            asked = command.replace("http://127.0.0.1:8000", server.url).replace("/quick_image/", "/tiny_image/")
            script = asked.replace("curl ", "curl -sS -o answer -w '%{http_code}' ", 1)
            done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
            assert done.stdout == "200", f"{command}: {(tmp_path / 'answer').read_text(errors='replace')}"
