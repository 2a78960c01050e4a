"""What is exported: the network of a finished run, or of a checkpoint of one that is not."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vssl.bundle.manifest import Checkpoint
from vssl.errors import UsageError
from vssl_training.encoder.embedder import Embedder, build_embedder, build_encoder
from vssl_training.encoder.weights import load_embedder
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.recipe.sections import EmbeddingSettings
from vssl_training.run.folder import Run, read_checkpoint
from vssl_training.run.record import RunRecord


@dataclass(frozen=True)
class Trained:
    """A run with a network of it, ready to embed; `checkpoint` says how far that had come, None where it is the end."""

    run: Run
    record: RunRecord
    embedder: Embedder
    checkpoint: Checkpoint | None


def load(source: Path, module: nn.Module | None = None) -> Trained:
    """The network of a finished run, or of `RUN/checkpoints/NAME.pt` of any run, one that is still training too.

    In the encoder phase there is no variance head yet, unless it is trained with the encoder (`variance.joint`): a
    fresh one takes its place, which gives every image the same variance. Nor is there a fitted embedding: the record
    then says that the mean, by which the encoder is trained, is the embedding.

    A run that was attached to a `module` of another program needs it again.

    Raises:
        UsageError: there is no run at `source`, it is not finished, or it is a file but not this run's checkpoint.
        VsslError: the checkpoint is damaged.
    """
    if not source.is_file():
        run = Run(source)
        record = run.record()
        if not run.finished and run.checkpoint_path.exists():
            raise UsageError(
                f"{source}: the run is not finished; run the same `vssl train` command again, "
                f"or export what it has learned so far: {run.checkpoint_path}"
            )
        return Trained(run, record, load_embedder(run, module), None)
    file = source.resolve()
    run = Run(file.parents[1])
    if file.parent != run.checkpoint_path.parent or not run.record_path.is_file():
        raise UsageError(
            f"{source}: neither a run nor RUN/checkpoints/NAME.pt of one: "
            "RUN/recipe.yaml says what network a checkpoint is of"
        )
    record = run.record()
    state = read_checkpoint(file, torch.device("cpu"))
    try:
        phase, step = state["phase"], state["step"]
        reached = Checkpoint(phase=phase, step=step, steps=getattr(record.schedule, phase))
        if phase == EncoderTraining.name:
            network = record.recipe.network.model_copy(update={"embedding": EmbeddingSettings()})
            record = record.model_copy(update={"recipe": record.recipe.model_copy(update={"network": network})})
            encoder = build_encoder(record.recipe)
            encoder.load_state_dict(state["student"])
            embedder = build_embedder(record.recipe, encoder)
        else:
            embedder = build_embedder(record.recipe)
            embedder.load_state_dict(state["embedder"])
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        # What `load_state_dict` and pydantic raise over the weights of another network, or over another kind of file.
        raise UsageError(f"{source}: not a checkpoint of the run {run.path}: {error}") from error
    ended = run.finished and file == run.checkpoint_path
    return Trained(run, record, embedder.eval(), None if ended else reached)
