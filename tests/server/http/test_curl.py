"""The curl commands of README.md and the pages about serving, as they stand there, with curl itself."""

import base64
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.server.conftest import png
from tests.server.process.test_serve import running
from tests.tiny_model import write_tiny_bundle

PAGES = ["README.md", "docs/serving.md", "docs/triton.md"]


def commands() -> list[str]:
    text = "\n".join((ROOT / page).read_text() for page in PAGES)
    return re.findall(r"^ *(curl .*?)(?: +#.*)?$", text, re.MULTILINE)


def test_every_page_has_some() -> None:
    assert len(commands()) >= 9
    assert all(re.search(r"^ *curl ", (ROOT / page).read_text(), re.MULTILINE) for page in PAGES)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_answer_200(tmp_path: Path) -> None:
    for name in ("one.png", "one.jpg", "cat.jpg", "dog.png"):
        (tmp_path / name).write_bytes(png(9))
    for name in ("quick", "NAME", "a", "b", "c"):
        write_tiny_bundle(tmp_path / name, name)
    (tmp_path / "keys").write_text("KEY\n")
    others = [str(tmp_path / name) for name in ("NAME", "a", "b")]
    with running(
        tmp_path / "quick", *others, "--admin-keys-file", str(tmp_path / "keys"), "--model-root", str(tmp_path)
    ) as server:
        for command in commands():
            asked = command.replace("http://127.0.0.1:8000", server.url).replace('"/models/c"', f'"{tmp_path}/c"')
            asked = re.sub("…(base64…)?", base64.b64encode(png(9)).decode(), asked)
            script = asked.replace("curl ", "curl -sS -o answer -w '%{http_code}' ", 1)
            done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
            assert done.stdout == "200", f"{command}: {(tmp_path / 'answer').read_text(errors='replace')}"
