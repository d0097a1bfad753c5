"""Whether an equal run on the same machine ends in the same bytes, and why not."""

from ..gradients.choice import BackendChoice


def why_not_repeatable(
    choice: BackendChoice, extractor: tuple[str, str] | None = None
) -> str | None:
    """Return why an equal run may end in other bytes on the same machine; None where it does not.

    PyTorch on CUDA repeats itself, as each of its operators does that a run goes through. cuDNN is asked for
    deterministic algorithms, which its heuristics choose and no stopwatch
    (`nstx.engine.devices.torch_device.TorchDevice.numerics`). cuBLAS repeats itself on one stream, with the
    workspace of its own that PyTorch gives it, and cuFFT always. PyTorch's reductions add in a fixed order,
    and the backward passes of 2×2 poolings gather: no two windows overlap. Nothing is scattered by atomic
    additions. Precisions are chosen by rule.

    Args:
        choice: of the backend.
        extractor: that computed targets in this run, with what it runs on; None if all were there.
    """
    if choice.device.is_mps:
        return "PyTorch does not promise it on MPS"
    if choice.device.is_cuda and choice.name == "onnx":
        return "ONNX Runtime does not ask cuDNN for deterministic algorithms"
    if choice.device.is_cuda and _tunes():
        return "PyTorch's TunableOp chooses matrix products by the time that they take"
    if extractor is not None and choice.device.is_cuda and extractor[0] != "torch":
        return (
            f"targets were computed by {extractor[0]} on {extractor[1]}, which may round otherwise "
            "another time; from the cache they stay the same"
        )
    return None


def _tunes() -> bool:
    import torch

    return torch.cuda.tunable.is_enabled()
