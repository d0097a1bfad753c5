"""The gradient's graph for CUDA's tensor cores: activations (batch, h, w, channels), and inputs in its own units."""

__all__: list[str] = []
