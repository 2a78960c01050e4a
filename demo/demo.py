"""The whole road on small real images: train, export, serve, embed, and a page to look at.

Every step but the last is the `vssl` command that a user would type; it is printed before it runs.
"""

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


def embed_through_server(bundle: Path, source: str, out: Path) -> None:
    """Serve the bundle on a free port, embed a folder through it, and stop it."""
    print(f"\n$ vssl serve {bundle} --port 0 &", flush=True)
    with served(bundle) as url:
        vssl("embed", source, "--url", url, "-o", str(out))


def main() -> None:
    """Run the demo."""
    archive = HERE / "fashion-mnist.zip"
    run, bundle, embeddings = OUT / "run", OUT / "bundle", OUT / "embeddings"
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    vssl("train", "--recipe", "quick", "--data", f"{archive}::train", "--out", str(run), "--max-minutes", MINUTES)
    vssl("export", str(run), "--out", str(bundle), "--name", "fashion")
    vssl("evaluate", str(bundle), "--data", f"{archive}::test", "--bank", f"{archive}::train")
    embed_through_server(bundle, f"{archive}::test", embeddings)
    page = HERE / "gallery.html"
    write_gallery(f"{archive}::test", embeddings, page)
    print(f"\nLook at {page}")


if __name__ == "__main__":
    main()
