"""What every part of VSSL shares: the bundle, preprocessing, the engine, the measures, and the `vssl` command.

Its rooms, each may import those after it: cli, uncertainty, measures, search, engine, bundle, sources, images, memory
and caches and files and arrays, errors.
"""

import os

# Set here because each library reads its variables when it is imported, and every module of ours imports this one
# first. What you set yourself stays.
for _name, _value in {
    # What our dependencies send to their makers by default is turned off.
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime's wheels for Linux
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # timm and transformers ask the hub by it
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    # After a product numpy's threads would stay awake for the next one, some 50 ms, on cores that could decode or infer
    # meanwhile. So they sleep after 2 to the 10th cycles.
    "OPENBLAS_THREAD_TIMEOUT": "10",
}.items():
    os.environ.setdefault(_name, _value)

__version__ = "0.3.0"
