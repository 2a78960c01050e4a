"""`vssl open` as a process of its own: what the browser is told to open shows the gallery, until Ctrl-C."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from vssl.bundle.reading import Bundle
from vssl_gallery.gallery import Gallery
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.opening import open_place


@pytest.fixture
def place(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A folder with the gallery `shoes`."""
    manifest = tiny_bundle.manifest
    with closing(open_place(str(tmp_path / "galleries"))) as found:
        Gallery.create(found, "shoes", Spec(manifest.encoder_id, manifest.outputs.dimension, model="tiny")).close()
    return tmp_path / "galleries"


def vssl_open(*words: str, browser: str = "true") -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "vssl.cli", "open", *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"BROWSER": browser})


def test_the_browser_opens_where_the_gallery_is_served(tiny_bundle: Bundle, place: Path, tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {told}\n')
    browser.chmod(0o755)
    with vssl_open("shoes", "--at", str(place), "--bundle", str(tiny_bundle.location), browser=str(browser)) as process:
        try:
            page = told.read_text().strip()  # waits for the browser
            address, _, rest = page.partition("/ui/#/")
            assert address.startswith("http://127.0.0.1:")
            assert rest == "shoes"
            assert "<!doctype html>" in httpx2.get(f"{address}/ui/").text.lower()
            shown = httpx2.get(f"{address}/v1/galleries").json()["data"]
            assert [(one["name"], one["served"]) for one in shown] == [("shoes", True)]
            process.send_signal(signal.SIGINT)
            _, written = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert f"vssl: shoes is at {page} until Ctrl-C" in written
    assert "Traceback" not in written


def test_what_is_not_there_is_said_before_anything_is_served(tiny_bundle: Bundle, place: Path) -> None:
    for words in (("boots", "--at", str(place)), ("shoes", "--at", str(place / "elsewhere"))):
        with vssl_open(*words, "--bundle", str(tiny_bundle.location)) as process:
            _, written = process.communicate(timeout=60)
        assert process.returncode in (1, 2)
        assert written.startswith("vssl: ")
        assert "Traceback" not in written
    with closing(open_place(str(place))) as found:
        assert found.galleries() == ["shoes"]
