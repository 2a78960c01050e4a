"""The gallery's commands for a fresh user without any network: they work, and leave nothing that is not ours."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.conftest import pictures
from tests.no_network import without_network
from vssl.bundle.reading import Bundle

# All in one process: each would take a second to begin.
RUN = """
import sys, json
from vssl.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["vssl", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise SystemExit(f"{' '.join(words)}: {end.code}")
"""
OURS = (Path(".cache/vssl"), Path(".local/share/vssl"))
VARIABLES = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME", "VSSL_GALLERIES")


@pytest.mark.parametrize(
    "where", ["the user's own folder", pytest.param("a folder that is named", marks=pytest.mark.slow)]
)
def test_a_fresh_user_without_a_network(where: str, tiny_bundle: Bundle, tmp_path: Path) -> None:
    home, images = tmp_path / "home", tmp_path / "images"
    home.mkdir()
    images.mkdir()
    for number, data in enumerate(pictures(4)):
        (images / f"{number}.png").write_bytes(data)
    bundle = ["--bundle", str(tiny_bundle.location)]
    words = [
        ["create", "shoes", *bundle],
        ["add", "shoes", str(images), *bundle],
        ["search", "shoes", str(images / "0.png"), "-k", "2", *bundle],
        ["label", "shoes", "boot", "0.png"],
        ["classify", "shoes", "--id", "1.png"],
        ["duplicates", "shoes"],
        ["outliers", "shoes"],
        ["pick", "shoes", "-n", "1"],
        ["map", "shoes", "--fast", "-o", str(tmp_path / "map.csv")],
        ["export", "shoes", "-o", str(tmp_path / "rows.csv")],
        ["snapshot", "shoes", "-o", str(tmp_path / "snapshot")],
        ["restore", "again", str(tmp_path / "snapshot")],
        ["maintain", "shoes"],
        ["info", "shoes"],
        ["delete", "again", "--all"],
    ]
    at = ["--at", str(tmp_path / "galleries")] if where.startswith("a folder") else []
    given = json.dumps([["gallery", *one, *at] for one in words])
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | {"HOME": str(home)}
    line = [*without_network(), sys.executable, "-c", RUN, given]
    done = subprocess.run(line, env=environment, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    left = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
    assert [path for path in left if not path.is_relative_to(OURS[0]) and not path.is_relative_to(OURS[1])] == []
    assert at or any(path.is_relative_to(OURS[1]) for path in left)
