"""What every part of VSSL shares: the bundle, preprocessing, the engine, the measures, and the `vssl` command."""

import os

# What our dependencies would send to their makers without being asked. Set here, because each must find its variable
# before it is imported, and everything of ours imports this first. Whoever wants to send sets the variable themselves.
for _name, _value in {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime's wheels for Linux
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",  # timm and transformers ask the hub by it
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}.items():
    os.environ.setdefault(_name, _value)

__version__ = "0.2.0"
