"""Loading a graph into ONNX Runtime, with options that suit the machine, and running it."""

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nstx.models.errors import DeviceError, ModelError, NstxError
from nstx.models.printable import printable
from nstx.models.storage.inputs import read_input

from ..graphs.feature_graph import INPUT_NAME
from .model_bytes import MOST_BYTES
from .providers import (
    CPU,
    PROVIDER_NAMES,
    Provider,
    import_onnxruntime,
    preload_libraries,
    quiet_runtime,
)

_log = logging.getLogger("nstx")

RuntimePrecision = Literal["fp32", "tf32", "fp16"]
"""What CUDA's convolutions and matrix products compute in; ``tf32`` is a float32 graph with TF32 on."""

_SILENT = 4  # of ONNX Runtime's log: the error alone reports what goes wrong

# Sizes that one TensorRT engine serves; another size is an error, not an engine of its own.
_SMALLEST, _USUAL, _LARGEST = (1, 16, 16), (1, 512, 512), (4, 2048, 2048)

# What ONNX Runtime and the libraries below it say.
_MEMORY_SIGNS = ("allocate memory", "out of memory", "alloc_failed", "bad_alloc", "bad allocation")
_MODEL_ERRORS = ("InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NoSuchFile", "NoModel")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionChoices:
    """How a graph is loaded.

    Attributes:
        threads: of the CPU, at most `usable_threads`; None takes one for each physical core that the
            process may use.
        fixed_shape: (batch, height, width) if the graph will see no other. All sizes are then
            folded into constants, and on CUDA its kernels are captured in a CUDA graph: inputs and
            outputs must be bound to addresses that do not change.
        capture: whether they are, on CUDA.
        precision: of convolutions on CUDA, as `provider_options` has it.
        interleaved: whether the graph's convolutions are (batch, height, width, channels)
            themselves, so that CUDA may add their biases while it convolves.
        stream: address of a CUDA stream to compute on, in place of ONNX Runtime's own.
        planar: whether the graph takes (batch, 3, height, width); TensorRT's profiles differ.
        optimised: whether the graph was optimised for this machine before.
        in_order: whether nodes run in the order of `nstx.export.nodes.node_order`, in which an
            optimised graph is kept. What is not optimised yet has ONNX Runtime's own order.
        keep_optimised: where to write the optimised graph, in a session that computes nothing.
        engine_folder: where TensorRT keeps its engines of this graph and of no other: their names
            tell neither weights nor sizes apart.
    """

    provider: Provider = CPU
    threads: int | None = None
    fixed_shape: tuple[int, int, int] | None = None
    capture: bool = True
    precision: RuntimePrecision = "fp32"
    interleaved: bool = False
    stream: int | None = None
    planar: bool = False
    optimised: bool = False
    in_order: bool = False
    keep_optimised: Path | None = None
    engine_folder: Path | None = None


def open_session(model: bytes | Path, choices: SessionChoices) -> Any:
    """Load a graph, and return its `onnxruntime.InferenceSession`."""
    runtime = import_onnxruntime()
    if isinstance(model, Path) and not _is_utf8(model):
        model = read_input(model, kind="an ONNX model", most_bytes=MOST_BYTES, error=ModelError)
    if choices.keep_optimised is not None and not _is_utf8(choices.keep_optimised):
        raise ModelError(
            "expected a path of UTF-8, which alone ONNX Runtime writes to, got "
            f"{printable(choices.keep_optimised)}; try another folder"
        )
    options = _session_options(runtime, choices)
    provider = choices.provider
    if provider != CPU:
        preload_libraries()
    try:
        with quiet_runtime():
            # Without its fallback, which would go on with another provider and print that it does.
            session = runtime.InferenceSession(
                model, options, providers=list(provider_options(choices).items()), enable_fallback=0
            )
    except runtime_errors() as error:
        raise _session_error(error, provider, model, "load a graph") from error
    if provider.name not in session.get_providers():
        raise DeviceError(
            f"expected ONNX Runtime's {provider.name}, got {', '.join(session.get_providers())}; "
            "try --device cpu, or 'nstx doctor'"
        )
    return session


def _is_utf8(path: Path) -> bool:
    """Whether a path is one that ONNX Runtime can open."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def run_session(run: Callable[..., Any], provider: Provider, *arguments: Any) -> Any:
    """Call a session's method; its errors become ours, MemoryError if memory does not suffice."""
    try:
        return run(*arguments)
    except runtime_errors() as error:
        if _exhausted(error):
            raise MemoryError(str(error)) from error
        raise _session_error(error, provider, b"", "run a graph") from error


def runtime_errors() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises: its own errors, which have no common base, and Python's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = [kind for kind in vars(state).values() if isinstance(kind, type)]
    own = (kind for kind in kinds if issubclass(kind, Exception))
    # ValueError: text that is not UTF-8, too.
    return (*own, RuntimeError, ValueError, MemoryError)


def _exhausted(error: Exception) -> bool:
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in message for sign in _MEMORY_SIGNS)


def _session_error(
    error: Exception, provider: Provider, model: bytes | Path, doing: str
) -> NstxError:
    reason = printable((str(error).strip() or type(error).__name__).splitlines()[0][:200])
    if _exhausted(error):
        return DeviceError(
            f"expected enough memory to {doing}, got less ({reason}); try --device cpu"
        )
    if provider != CPU and type(error).__name__ not in _MODEL_ERRORS:
        return DeviceError(
            f"expected {provider.name} on device {provider.index} to {doing}, got: {reason}; "
            "try --device cpu, or 'nstx doctor'"
        )
    place = f" in {printable(model)}" if isinstance(model, Path) else ""
    return ModelError(
        f"expected an ONNX model{place}, got one that ONNX Runtime cannot use ({reason}); "
        "try to export it again"
    )


def runtime_version() -> str:
    """Return the version of ONNX Runtime."""
    return str(import_onnxruntime().__version__)


_SYSTEM = Path("/sys")


def physical_cores(system: Path = _SYSTEM) -> int:
    """Return how many cores this process may use, on Linux by affinity and a container's quota."""
    if hasattr(os, "sched_getaffinity"):
        siblings = "devices/system/cpu/cpu{}/topology/thread_siblings_list"
        processors = os.sched_getaffinity(0)
        cores = len({_read(system / siblings.format(n)) or str(n) for n in processors})
    else:
        import psutil

        cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return _within_quota(cores, system)


def usable_threads(threads: int, system: Path = _SYSTEM) -> int:
    """Return a number of threads, or that of the processors that this process may use, if less.

    That is logged. More threads would wait for one another's turn, and a step take many times longer.
    """
    if hasattr(os, "sched_getaffinity"):
        present = len(os.sched_getaffinity(0))
    else:
        present = os.cpu_count() or 1
    most = _within_quota(present, system)
    if threads > most:
        _log.warning(
            "%d threads are more than this process has processors; %d are taken", threads, most
        )
    return min(threads, most)


def _within_quota(cores: int, system: Path) -> int:
    quota, _, period = _read(system / "fs/cgroup/cpu.max").partition(" ")
    most = round(int(quota) / int(period)) if quota.isdigit() else cores
    return max(1, min(cores, most))


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return ""


def _session_options(runtime: Any, choices: SessionChoices) -> Any:
    """Return ONNX Runtime's options.

    Measured at 512 px on two cores: without the memory arena a run takes 5 to 15 % longer. Memory
    patterns make a second run allocate one block for everything beside what the first left in the
    arena, which costs 60 % more memory and saves no time.
    """
    options = runtime.SessionOptions()
    options.enable_mem_pattern = False
    options.log_severity_level = _SILENT
    # Set explicitly, because ONNX Runtime's own default also pins threads to cores, which some
    # containers forbid. More threads than cores make convolutions slower.
    threads = choices.threads
    options.intra_op_num_threads = usable_threads(threads) if threads else physical_cores()
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_DISABLE_ALL if choices.optimised else levels.ORT_ENABLE_ALL
    )
    if choices.optimised and choices.in_order:
        options.execution_order = runtime.ExecutionOrder.PRIORITY_BASED
    if choices.fixed_shape is not None:
        for name, size in zip(("batch", "height", "width"), choices.fixed_shape, strict=True):
            options.add_free_dimension_override_by_name(name, size)
    if choices.keep_optimised is not None:
        options.optimized_model_filepath = str(choices.keep_optimised)
        # It only writes: that weights are packed for the processor is left to the session that computes.
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def provider_options(choices: SessionChoices) -> dict[str, dict[str, str]]:
    """Return each provider's options by its name, the first choice first."""
    provider = choices.provider
    options: dict[str, dict[str, str]] = {}
    if provider.kind == "tensorrt":
        options[provider.name] = _tensorrt_options(choices)
    if provider != CPU:
        options[PROVIDER_NAMES["cuda"]] = _cuda_options(choices)
    # The CPU takes the few nodes that compute sizes.
    return options | {CPU.name: {}}


def _cuda_options(choices: SessionChoices) -> dict[str, str]:
    """Return the CUDA provider's options, all of which ONNX Runtime 1.30 has.

    ``use_tf32=0`` takes tensor cores from every convolution, those of float16 too, so it stands for
    fp32 alone. Where fp16 values were widened to float32, a product in TF32 loses nothing of them:
    both have 11 significant bits. A bias is fused (``fuse_conv_bias``) in interleaved graphs only:
    planar ones clear the output on another stream first, and in fp32 a fusion that cuDNN lacks falls
    back to TF32 without a word.
    """
    provider, fixed = choices.provider, choices.fixed_shape is not None
    exact = choices.precision == "fp32"
    options = {
        "device_id": str(provider.index),
        "use_tf32": "0" if exact else "1",
        # The better of cuDNN's heuristics takes longer, which pays where a shape comes again.
        "cudnn_conv_algo_search": "EXHAUSTIVE" if fixed else "HEURISTIC",
        "fuse_conv_bias": "1" if choices.interleaved and not exact else "0",
        "arena_extend_strategy": "kSameAsRequested",
        "enable_cuda_graph": str(int(fixed and choices.capture and provider.kind == "cuda")),
    }
    if choices.stream is not None:
        options["user_compute_stream"] = str(choices.stream)
    return options


def _tensorrt_options(choices: SessionChoices) -> dict[str, str]:
    """Return TensorRT's options, whose flags are spelled True and False.

    ``trt_fp16_enable`` is left alone: without it TensorRT keeps to the graph's own types, so that
    Gram products stay float32 in an fp16 graph.
    """
    fixed = choices.fixed_shape is not None
    options = {"device_id": str(choices.provider.index), "trt_cuda_graph_enable": str(fixed)}
    if not fixed:
        for name, size in (("min", _SMALLEST), ("opt", _USUAL), ("max", _LARGEST)):
            batch, height, width = size
            shape = (batch, 3, height, width) if choices.planar else (batch, height, width, 3)
            options[f"trt_profile_{name}_shapes"] = f"{INPUT_NAME}:{'x'.join(map(str, shape))}"
    if choices.engine_folder is not None:
        folder = str(choices.engine_folder)
        options |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": folder}
        options |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": folder}
    return options
