"""The version, told once; model files carry it."""

__version__ = "0.1.0"
