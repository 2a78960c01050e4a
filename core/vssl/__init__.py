"""What every part of VSSL shares: the bundle, preprocessing, the engine, the measures, and the `vssl` command.

Its rooms, each may import those after it: cli, uncertainty, measures, search, engine, bundle, sources, images, memory
and caches and files and arrays, errors.
"""

import os

# Turns off what our dependencies send to their makers by default. Set here because each reads its variable when it is
# imported, and every module of ours imports this one first. To send all the same, set the variable yourself.
for _name, _value in {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime's wheels for Linux
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # timm and transformers ask the hub by it
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}.items():
    os.environ.setdefault(_name, _value)

__version__ = "0.3.0"
