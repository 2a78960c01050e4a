"""What every part of VSSL shares: the bundle, preprocessing, the engine, the measures, and the `vssl` command."""

__version__ = "0.2.0"
