"""A set of images in memory: what is held is the set, once."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.core.samples import encoded, noise
from vssl.images.decoding import Preprocessing
from vssl.sources.folder import Folder
from vssl.sources.in_memory import load_images


def test_bad_files_among_good_ones(tmp_path: Path) -> None:
    images = [noise(8, 8, seed) for seed in range(12)]
    for number, image in enumerate(images):
        (tmp_path / f"{number:02}.png").write_bytes(
            encoded(image, "PNG") if number not in (0, 5, 6, 11) else b"no image"
        )
    loaded = load_images(Folder(tmp_path), Preprocessing(8))

    good = [1, 2, 3, 4, 7, 8, 9, 10]
    assert np.array_equal(loaded.pixels, [images[number] for number in good])
    assert loaded.paths == [f"{number:02}.png" for number in good]
    assert [path for path, _ in loaded.failures] == ["00.png", "05.png", "06.png", "11.png"]


def test_one_bad_file_costs_no_second_copy(tmp_path: Path) -> None:
    """A process of its own, so that its peak is its own: 128 images of 512 × 512 are 96 MiB."""
    picture = encoded(noise(16, 16), "PNG")
    for number in range(128):
        (tmp_path / f"{number:03}.png").write_bytes(picture if number else b"no image")
    script = """
import json, resource, sys
from pathlib import Path
from vssl.sources.in_memory import load_images
from vssl.images.decoding import Preprocessing
from vssl.sources.folder import Folder
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
loaded = load_images(Folder(Path(sys.argv[1])), Preprocessing(512))
print(json.dumps([len(loaded), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    count, kilobytes = json.loads(done.stdout)

    assert count == 127
    assert kilobytes < 140 * 1024
