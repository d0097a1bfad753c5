"""Loading a graph into ONNX Runtime, with options that suit the machine, and running it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models.errors import DeviceError, ModelError, NstxError
from .providers import CPU, Provider, import_onnxruntime, provider_missing, quiet_runtime

_ERRORS_ONLY = 3  # of ONNX Runtime's log


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChoices:
    """How a graph is loaded.

    Attributes:
        provider: that runs it.
        threads: of the CPU; None takes one for each physical core that the process may use.
        fixed_shape: (batch, height, width) if the graph will see no other. All sizes are then
            folded into constants, and on CUDA its kernels are captured in a CUDA graph: inputs and
            outputs must be bound to addresses that do not change.
        fp16: whether the graph computes in fp16, which TensorRT must be told.
        optimised: whether the graph was optimised for this machine before.
        keep_optimised: where to write the optimised graph.
        engine_folder: where TensorRT keeps its engines.
    """

    provider: Provider = CPU
    threads: int | None = None
    fixed_shape: tuple[int, int, int] | None = None
    fp16: bool = False
    optimised: bool = False
    keep_optimised: Path | None = None
    engine_folder: Path | None = None


def open_session(model: bytes | Path, choices: SessionChoices) -> Any:
    """Load a graph and return its `onnxruntime.InferenceSession`.

    Args:
        model: the ONNX file, or its bytes.
        choices: how it is loaded.

    Raises:
        DeviceError: ONNX Runtime is not there, or the provider did not load.
        ModelError: the bytes are no model that ONNX Runtime can load.
    """
    runtime = import_onnxruntime()
    options = _session_options(runtime, choices)
    try:
        with quiet_runtime():
            session = runtime.InferenceSession(model, options, providers=_provider_options(choices))
    except Exception as error:
        raise _loading_error(error, model, choices.provider) from error
    if choices.provider.name not in session.get_providers():
        raise provider_missing(choices.provider)
    return session


# ONNX Runtime's errors have no common base but Exception; these say that the file is to blame.
_MODEL_ERRORS = ("InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NoSuchFile", "NoModel")


def _loading_error(error: Exception, model: bytes | Path, provider: Provider) -> NstxError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    if provider != CPU and type(error).__name__ not in _MODEL_ERRORS:
        return DeviceError(
            f"expected {provider.name} on device {provider.index} to load a graph, got: {reason}; "
            "try --device cpu, or 'nstx doctor'"
        )
    place = f" in {model}" if isinstance(model, Path) else ""
    return ModelError(
        f"expected an ONNX model{place}, got one that cannot be loaded ({reason}); "
        "try 'nstx export features' again"
    )


def runtime_version() -> str:
    """Return the version of ONNX Runtime."""
    return str(import_onnxruntime().__version__)


def physical_cores() -> int:
    """Return how many physical cores this process may use, at least 1."""
    import psutil

    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed))


def _session_options(runtime: Any, choices: SessionChoices) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # Said outright, because ONNX Runtime's own default also pins threads to cores, which some
    # containers forbid. More threads than cores make convolutions slower.
    options.intra_op_num_threads = choices.threads or physical_cores()
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_DISABLE_ALL if choices.optimised else levels.ORT_ENABLE_ALL
    )
    if choices.fixed_shape is not None:
        for name, size in zip(("batch", "height", "width"), choices.fixed_shape, strict=True):
            options.add_free_dimension_override_by_name(name, size)
    if choices.keep_optimised is not None:
        options.optimized_model_filepath = str(choices.keep_optimised)
    return options


def _provider_options(choices: SessionChoices) -> Sequence[str | tuple[str, dict[str, str]]]:
    provider = choices.provider
    if provider.kind == "cpu":
        return [provider.name]
    fixed = choices.fixed_shape is not None
    cuda = (
        Provider("cuda").name,
        {
            "device_id": str(provider.index),
            # Parity with float32: TF32 has 10 bits of mantissa.
            "use_tf32": "0",
            # A search for the fastest kernel pays where a shape comes again and again.
            "cudnn_conv_algo_search": "EXHAUSTIVE" if fixed else "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
            "enable_cuda_graph": "1" if fixed and provider.kind == "cuda" else "0",
        },
    )
    # The CPU takes the few nodes that compute sizes.
    if provider.kind == "cuda":
        return [cuda, CPU.name]
    tensorrt = {
        "device_id": str(provider.index),
        "trt_fp16_enable": "1" if choices.fp16 else "0",
        "trt_cuda_graph_enable": "1" if fixed else "0",
    }
    if choices.engine_folder is not None:
        folder = str(choices.engine_folder)
        tensorrt |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": folder}
        tensorrt |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": folder}
    return [(provider.name, tensorrt), cuda, CPU.name]
