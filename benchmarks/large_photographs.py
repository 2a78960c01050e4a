"""What `decoder: scaled-1` costs and brings on large photographs, beside `exact`, with the same model.

Photographs are taken as they are, and enlarged (bicubic) to 3 and 12 megapixels with grain of `--grain` levels added to
their brightness, as JPEGs of quality 90, 4:2:0, turned by EXIF: what a phone writes. A photograph that was enlarged has
less detail than a real one of that size; grain is what its finest detail is made of.

Two tables. *Drift*: cosine of each embedding to that of `exact`, R@1 of `scaled` queries in a bank of `exact` ones, the
change of the percentile in points and of the flags; the same for pixels that are loaded already, which are averaged
over blocks; and how far the percentile of one photograph lies from that of its original. *Speed*: images/s that `vssl
embed` reports, in-process and through a server, and images per second of processors' work, client and server together,
which other processes disturb less; the start of a command does not count in either. The ways take turns.
"""

import io
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from shutil import copyfile
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.phone_photographs import originals, resized
from benchmarks.report import Row, parser, report
from benchmarks.served import VSSL, listening
from vssl.arrays import Float32s, Pixels
from vssl.bundle.default import default_bundle
from vssl.bundle.reading import Bundle, open_bundle
from vssl.bundle.writing import write_bundle
from vssl.engine import Engine
from vssl.images.decoding import DEFAULT_LIMITS, Preprocessing, decode, load_rgb
from vssl.uncertainty.calibrated import CalibratedUncertainty, apply_calibration
from vssl.uncertainty.familiarity import references_of
from vssl_client.inputs import snapshot

SIZES = (3, 12)
"""Megapixels, beside the originals."""
REPEATED = {"original": 16, "3 MP": 4, "12 MP": 1}
"""Files of each size for the speed, in multiples of those of 12 MP: the start of a job should not count."""


def main() -> None:
    """Print both tables."""
    flags = parser(__doc__)
    flags.add_argument("--photos", required=True, help="photographs: folder, archive, or archive.zip::folder")
    flags.add_argument("--bundle", type=str, help="the model; without it the default one")
    flags.add_argument(
        "--images", type=int, default=40, help="photographs for the drift, spread over all (12: --quick)"
    )
    flags.add_argument("--grain", type=float, default=2.0, help="standard deviation in levels of 255")
    flags.add_argument("--rounds", type=int, default=2, help="turns of each way (1 with --quick)")
    arguments = flags.parse_args()
    count = 12 if arguments.quick else arguments.images
    bundle = open_bundle(arguments.bundle or default_bundle())
    files = photographs(arguments.photos, count, arguments.grain)
    settings = {"model": bundle.encoder_id[:12], "photographs": count, "grain": arguments.grain}
    rows = list(drift(bundle, files))
    with tempfile.TemporaryDirectory() as name:
        rows += speed(
            bundle, files, Path(name), 1 if arguments.quick else arguments.rounds, 12 if arguments.quick else 48
        )
    report("Large photographs", rows, settings, arguments.json)


def photographs(location: str, count: int, grain: float) -> dict[str, list[bytes]]:
    """Files by the name of their size, of the same photographs in the same order."""
    files, rng = originals(location, count), np.random.default_rng(0)
    return {
        "original": files,
        **{f"{size} MP": [resized(data, size * 10**6, grain, rng) for data in files] for size in SIZES},
    }


# Drift ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """What the model says of some images: embeddings [N, D], and what a calibration makes of its uncertainties."""

    embedding: Float32s
    calibrated: CalibratedUncertainty | None


def drift(bundle: Bundle, files: dict[str, list[bytes]]) -> Iterator[Row]:
    """A row for each size and way."""
    engine = Engine(bundle)
    exact = replace(bundle.manifest.preprocessing, decoder="exact")
    scaled = replace(exact, decoder="scaled-1")
    originals: dict[str, Answers] = {}
    for size, images in files.items():
        truth = answers(bundle, engine, [decode(data, exact) for data in images])
        ways = {
            "exact": truth,
            "scaled-1": answers(bundle, engine, [decode(data, scaled) for data in images]),
            "scaled-1, loaded before": answers(bundle, engine, [loaded(data, scaled) for data in images]),
        }
        for way, found in ways.items():
            original = originals.setdefault(way, found)
            yield {"photographs": size, "way": way} | compared(found, truth) | moved(found, original)


def loaded(data: bytes, preprocessing: Preprocessing) -> Pixels:
    """Pixels of a photograph that comes as an array."""
    with Image.open(io.BytesIO(data)) as opened:
        array = np.asarray(load_rgb(opened))
    file = snapshot(array, 0)
    assert isinstance(file, bytes)
    return decode(file, preprocessing, replace(DEFAULT_LIMITS, max_bytes=len(file)))


def answers(bundle: Bundle, engine: Engine, pixels: Sequence[Pixels]) -> Answers:
    """Ask the model."""
    output, calibration = engine(np.stack(pixels)), bundle.manifest.calibration
    return Answers(
        output.embedding, None if calibration is None else apply_calibration(calibration, output, references_of(bundle))
    )


def compared(found: Answers, truth: Answers) -> Row:
    """Change of the embeddings and of what is said of them."""
    cosine = (found.embedding * truth.embedding).sum(axis=1)
    nearest = (found.embedding @ truth.embedding.T).argmax(axis=1)
    row: Row = {
        "1 - cosine": float(1 - cosine.mean()),
        "largest": float(1 - cosine.min()),
        "R@1": float((nearest == np.arange(len(nearest))).mean()),
    }
    if found.calibrated is None or truth.calibrated is None:
        return row
    points = np.abs(found.calibrated.percentile - truth.calibrated.percentile)
    changed = [(found.calibrated.flags[flag] != truth.calibrated.flags[flag]).mean() for flag in truth.calibrated.flags]
    return row | {
        "percentile": float(points.mean()),
        "largest change": float(points.max()),
        "flags changed": float(np.mean(changed)),
    }


def moved(found: Answers, original: Answers) -> Row:
    """How far the percentile lies from that of the same photograph as it was, in points."""
    if found.calibrated is None or original.calibrated is None:
        return {}
    points = np.abs(found.calibrated.percentile - original.calibrated.percentile)
    return {"from the original": float(points.mean()), "part over 5": float((points > 5).mean())}


# Speed ----------------------------------------------------------------------------------------------------------------


def speed(bundle: Bundle, files: dict[str, list[bytes]], folder: Path, rounds: int, count: int) -> Iterator[Row]:
    """A row for each size, decoder and way: medians of the rounds, and the largest memory."""
    bundles = {decoder: copy(bundle, folder / decoder, decoder) for decoder in ("exact", "scaled-1")}
    for size, images in files.items():
        data = folder / size
        data.mkdir()
        for number, content in enumerate(islice(cycle(images), REPEATED[size] * count)):
            (data / f"{number:04d}.jpg").write_bytes(content)
        found: dict[tuple[str, str], list[Job]] = {}
        for _ in range(rounds):
            for decoder, location in bundles.items():
                found.setdefault(("in-process", decoder), []).append(job(data, ["--bundle", str(location)], folder))
                with listening([VSSL, "serve", str(location), "--port", "0"]) as server:
                    done = job(data, ["--url", server.url], folder, server.pid)
                    found.setdefault(("server", decoder), []).append(done)
        for (way, decoder), jobs in found.items():
            rates = {rate: median(getattr(one, rate) for one in jobs) for rate in RATES}
            before = {rate: median(getattr(one, rate) for one in found[way, "exact"]) for rate in RATES}
            yield {
                "photographs": size,
                "way": f"{decoder}, {way}",
                "MB": sum(map(len, images)) / len(images) / 1e6,
                **rates,
                **{f"{rate} of exact": rates[rate] / before[rate] for rate in RATES},
                "peak_MiB": max(one.peak for one in jobs),
            }


def copy(bundle: Bundle, location: Path, decoder: str) -> Path:
    """The bundle with another decoder: only to measure, since nothing was trained or calibrated with it."""
    fields = bundle.manifest.model_dump(mode="json", exclude={"id", "files"})
    fields["preprocessing"] |= {"decoder": decoder}
    write_bundle(location, fields, {name: bundle.read(name) for name in bundle.manifest.files})
    return location


RATES = ("per_second", "per_CPU_second")


@dataclass(frozen=True)
class Job:
    """One job: images per second of its own clock, per second of all processors' work beyond that for one image, and
    the command's peak memory in MiB.
    """

    per_second: float
    per_CPU_second: float  # noqa: N815
    peak: float


def job(data: Path, by: list[str], folder: Path, server: int | None = None) -> Job:
    """`vssl embed` of a folder; the work of the process `server` counts too."""
    first = folder / "first"
    first.mkdir(exist_ok=True)
    copyfile(next(data.iterdir()), first / "first.jpg")
    alone = embedded(first, by, folder, server)
    every = embedded(data, by, folder, server)
    more = every.images - alone.images
    return Job(every.images / every.seconds, more / (every.work - alone.work), every.peak)


@dataclass(frozen=True)
class Done:
    """What a command did, took and said of itself: `work` in seconds of processors, `peak` in MiB."""

    images: int
    seconds: float
    work: float
    peak: float


def embedded(data: Path, by: list[str], folder: Path, server: int | None) -> Done:
    """Run `vssl embed`."""
    command = [VSSL, "embed", str(data), *by, "-o", tempfile.mkdtemp(dir=folder), "--json"]
    before = 0.0 if server is None else worked(server)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    work = peak = 0.0
    while process.poll() is None:  # what `wait4` tells of memory is never less than this process's own
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next((float(line.split()[1]) / 1024 for line in status.splitlines() if "VmHWM" in line), peak)
        work = worked(process.pid) or work
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"vssl embed ended with {process.returncode}")
    told = json.loads(process.communicate()[0])
    return Done(told["embedded"], told["seconds"], work + (0.0 if server is None else worked(server) - before), peak)


def worked(pid: int) -> float:
    """Seconds of processors that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
