"""A bundle → three models of a Triton model repository. Needs the base install only.

`NAME` takes pixels, `NAME_preprocessing` turns encoded images into pixels with the one preprocessing of VSSL, and the
ensemble `NAME_image` ties them, so that one can send a JPEG. A later version of the same name goes beside the earlier.
"""

from dataclasses import asdict
from pathlib import Path

import vssl.images.decoding
from vssl.bundle.manifest import Manifest, protocol_parameters
from vssl.bundle.reading import Bundle
from vssl.engine import FEATURES, OUTPUTS
from vssl.errors import UsageError
from vssl.files import atomic_write, write_directory

MAX_BATCH = 32
QUEUE_REQUESTS = 1024
QUEUE_SECONDS = 30


def write_repository(bundle: Bundle, root: Path, gpu: bool = False) -> list[str]:
    """Write or extend the repository at `root`; returns the models' names, the ensemble last.

    Args:
        bundle: its fp32 model is served; on GPUs the fp16 one where there is one.
        root: the folder that `tritonserver --model-repository` names; other models in it are left alone.
        gpu: run the encoder on GPUs, through ONNX Runtime's TensorRT provider.

    Raises:
        UsageError: the bundle's version is no whole number, or a folder in the way is not a Triton model.
    """
    manifest = bundle.manifest
    version = manifest.version
    if not (version.isascii() and version.isdigit() and 0 < int(version) < 2**63):
        raise UsageError(
            f"{bundle.location}: Triton's versions are whole numbers from 1, this bundle's is {version!r}; "
            "export the run again with --model-version 1"
        )
    name = manifest.name
    served = manifest.models["fp16" if gpu and "fp16" in manifest.models else "fp32"]
    here = Path(__file__).parent
    models: dict[str, tuple[str, dict[str, bytes]]] = {
        name: (encoder_config(manifest, gpu), {"model.onnx": bundle.read(served.path)}),
        f"{name}_preprocessing": (
            preprocessing_config(manifest),
            {
                "model.py": (here / "triton_model.py").read_bytes(),
                "preprocessing.py": Path(vssl.images.decoding.__file__).read_bytes(),
            },
        ),
        f"{name}_image": (ensemble_config(manifest), {".keep": b""}),
    }
    for model in models:
        folder = root / model
        if folder.exists() and not (folder / "config.pbtxt").is_file():
            raise UsageError(f"{folder}: exists and is not a Triton model; name another folder")
    for model, (config, files) in models.items():
        folder = root / model
        folder.mkdir(parents=True, exist_ok=True)
        write_directory(folder / str(int(version)), files)
        with atomic_write(folder / "config.pbtxt") as file:
            file.write(config.encode())
    return list(models)


def encoder_config(manifest: Manifest, gpu: bool) -> str:
    """`config.pbtxt` of the encoder: ONNX Runtime behind Triton's batcher, with a bounded queue."""
    size = manifest.preprocessing.size
    return f"""\
name: "{manifest.name}"
backend: "onnxruntime"
max_batch_size: {MAX_BATCH}
input [ {{ name: "image" data_type: TYPE_UINT8 dims: [ {size}, {size}, 3 ] }} ]
output [
{_answers(manifest, " reshape { shape: [ ] }")}
]
{_BATCHING}
{_gpu(manifest) if gpu else _CPU}
{"".join(_warm_up(size, batch) for batch in (1, MAX_BATCH))}{_about(manifest)}"""


def preprocessing_config(manifest: Manifest) -> str:
    """`config.pbtxt` of the preprocessing: Python on CPU cores."""
    how = manifest.preprocessing
    parameters = "".join(
        f'parameters [ {{ key: "{key}" value {{ string_value: "{value}" }} }} ]\n' for key, value in asdict(how).items()
    )
    return f"""\
name: "{manifest.name}_preprocessing"
backend: "python"
max_batch_size: {MAX_BATCH}
input [ {{ name: "image" data_type: TYPE_STRING dims: [ 1 ] }} ]
output [ {{ name: "pixels" data_type: TYPE_UINT8 dims: [ {how.size}, {how.size}, 3 ] }} ]
{_BATCHING}
{_CPU}
{parameters}{_about(manifest)}"""


def ensemble_config(manifest: Manifest) -> str:
    """`config.pbtxt` of the ensemble. The queue policies are those of its steps."""
    name = manifest.name
    answers = OUTPUTS if manifest.outputs.features is None else (*OUTPUTS, FEATURES)
    kept = "\n".join(f'      output_map {{ key: "{answer}" value: "{answer}" }}' for answer in answers)
    return f"""\
name: "{name}_image"
platform: "ensemble"
max_batch_size: {MAX_BATCH}
input [ {{ name: "image" data_type: TYPE_STRING dims: [ 1 ] }} ]
output [
{_answers(manifest)}
]
ensemble_scheduling {{
  step [
    {{
      model_name: "{name}_preprocessing"
      model_version: -1
      input_map {{ key: "image" value: "image" }}
      output_map {{ key: "pixels" value: "pixels" }}
    }},
    {{
      model_name: "{name}"
      model_version: -1
      input_map {{ key: "image" value: "pixels" }}
{kept}
    }}
  ]
}}
{_about(manifest)}"""


# No delay: a batch forms of what waits when the model is free.
_BATCHING = f"""\
dynamic_batching {{
  max_queue_delay_microseconds: 0
  default_queue_policy {{
    max_queue_size: {QUEUE_REQUESTS}
    timeout_action: REJECT
    default_timeout_microseconds: {QUEUE_SECONDS * 1_000_000}
    allow_timeout_override: true
  }}
}}"""

_CPU = "instance_group [ { count: 1 kind: KIND_CPU } ]"


def _answers(manifest: Manifest, scalar: str = "") -> str:
    dimension, features = manifest.outputs.dimension, manifest.outputs.features
    further = "" if features is None else f',\n  {{ name: "{FEATURES}" data_type: TYPE_FP32 dims: [ {features} ] }}'
    # Triton has no output without dimensions, so that its clients see the uncertainty as [N, 1].
    return f"""\
  {{ name: "embedding" data_type: TYPE_FP32 dims: [ {dimension} ] }},
  {{ name: "variance" data_type: TYPE_FP32 dims: [ {dimension} ] }},
  {{ name: "uncertainty" data_type: TYPE_FP32 dims: [ 1 ]{scalar} }}{further}"""


def _gpu(manifest: Manifest) -> str:
    """GPUs through TensorRT: one engine for all batch sizes, kept on disk so that only the first start builds it."""
    pixels = f"{manifest.preprocessing.size}x{manifest.preprocessing.size}x3"
    settings = {
        "precision_mode": "FP16" if "fp16" in manifest.models else "FP32",
        "max_workspace_size_bytes": str(2**30),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": f"/tmp/vssl-engines/{manifest.id[:16]}",
        "trt_profile_min_shapes": f"image:1x{pixels}",
        "trt_profile_opt_shapes": f"image:{MAX_BATCH // 4}x{pixels}",
        "trt_profile_max_shapes": f"image:{MAX_BATCH}x{pixels}",
    }
    parameters = "\n".join(f'        parameters {{ key: "{key}" value: "{value}" }}' for key, value in settings.items())
    return f"""\
instance_group [ {{ count: 1 kind: KIND_GPU }} ]
optimization {{
  execution_accelerators {{
    gpu_execution_accelerator [
      {{
        name: "tensorrt"
{parameters}
      }}
    ]
  }}
}}"""


def _warm_up(size: int, batch: int) -> str:
    return f"""\
model_warmup [ {{
  name: "batch {batch}"
  batch_size: {batch}
  inputs {{ key: "image" value {{ data_type: TYPE_UINT8 dims: [ {size}, {size}, 3 ] zero_data: true }} }}
}} ]
"""


def _about(manifest: Manifest) -> str:
    return "".join(
        f'parameters [ {{ key: "{key}" value {{ string_value: "{value}" }} }} ]\n'
        for key, value in protocol_parameters(manifest).items()
    )
