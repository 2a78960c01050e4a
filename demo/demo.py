"""Embed small real images and look at them: with the default model, or (`--train`) with one that is trained first.

Every step but the page is the `vssl` command that a user would type; it is printed before it runs. Without `--train`
nothing here needs torch.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.served import served
from demo.gallery import write_gallery

HERE = Path(__file__).parent
OUT = HERE / "out"
VSSL = str(Path(sys.executable).parent / "vssl")
MINUTES = "4"


def vssl(*arguments: str) -> None:
    """Print and run one `vssl` command; end the demo with its exit status if it fails."""
    print(f"\n$ vssl {' '.join(arguments)}", flush=True)
    done = subprocess.run([VSSL, *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def train(archive: Path) -> Path:
    """A bundle of a model of its own: train, export, judge."""
    run, bundle = OUT / "run", OUT / "bundle"
    vssl("train", "--recipe", "quick", "--data", f"{archive}::train", "--out", str(run), "--max-minutes", MINUTES)
    vssl("export", str(run), "--out", str(bundle), "--name", "fashion")
    vssl("evaluate", str(bundle), "--data", f"{archive}::test", "--bank", f"{archive}::train")
    return bundle


def main() -> None:
    """Run the demo."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--train", action="store_true", help="a model of its own")
    archive = HERE / "fashion-mnist.zip"
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    bundle = train(archive) if flags.parse_args().train else None
    print(f"\n$ vssl serve {f'{bundle} ' if bundle else ''}--port 0 &", flush=True)
    with served(bundle) as url:
        vssl("embed", f"{archive}::test", "--url", url, "-o", str(OUT / "embeddings"))
    page = HERE / "gallery.html"
    write_gallery(f"{archive}::test", OUT / "embeddings", page)
    print(f"\nLook at {page}")


if __name__ == "__main__":
    main()
