"""What `cuda_report` measures on a device, and what its sections share."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from nstx import choose_settings
from nstx.engine.bench.floor import time_calls
from nstx.engine.devices.device import Device, settle
from nstx.engine.devices.precisions import supported_precisions
from nstx.engine.devices.torch_device import TorchDevice
from nstx.engine.gradients.choice import choose_backend
from nstx.engine.gradients.opening import open_backend
from nstx.engine.gradients.torch_gradient import TorchGradient
from nstx.engine.settings import Precision
from nstx.engine.targets.targets import make_zero_targets
from nstx.models.vgg19 import Pooling

Row = dict[str, Any]
REPEATS = 5
PAIRS = (
    ("tubingen.jpg", "starry_night_google.jpg"),
    ("chelsea_cat.png", "the_scream.jpg"),
    ("china_temple.jpg", "great_wave_crop.jpg"),
    ("coffee.png", "kandinsky_composition_vii.jpg"),
    ("astronaut.png", "monet_water_lilies_1919.jpg"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured on a device.

    Attributes:
        data: folder of `content/` and `style/`; None if there is none.
        precisions: in which steps and solvers are measured.
        cells: side and batch of each step.
        peak_size: side of the matrices whose product is the peak.
        solver_size: width and height at which solvers are measured.
        solver_steps: of a short and of a long run of theirs.
        process_sizes: long sides of whole processes.
        process_steps: of each.
        pairs: pictures whose final costs are compared.
        pair_size: long side of these runs.
        odd_size: side at which gradients are compared with float64's.
        onnx_sizes: sides at which ONNX Runtime stands beside PyTorch.
        repeats: of what is timed, after its warm-up.
    """

    device: str
    data: Path | None
    precisions: tuple[Precision, ...] = ("bf16", "fp16", "tf32")
    cells: tuple[tuple[int, int], ...] = (
        (512, 1), (1024, 1), (2048, 1), (256, 32), (512, 8), (1024, 8),
    )  # fmt: skip
    peak_size: int = 8192
    solver_size: tuple[int, int] = (512, 384)
    solver_steps: tuple[int, int] = (60, 180)
    process_sizes: tuple[int, ...] = (512, 2048)
    process_steps: int = 150
    pairs: tuple[tuple[str, str], ...] = PAIRS
    pair_size: int = 512
    odd_size: int = 193
    onnx_sizes: tuple[int, ...] = (512, 1024)
    repeats: int = REPEATS

    @classmethod
    def on(cls, device: str, data: Path | None) -> "Plan":
        """Return the plan of a device: tiny on the CPU."""
        if device != "cpu":
            place = settle(device, by_torch=True)
            there = supported_precisions(place)
            names: tuple[Precision, ...] = ("bf16", "fp16", "tf32")
            precisions = tuple(name for name in names if name in there)
            return cls(device=str(place), data=data, precisions=precisions or ("fp32",))
        return cls(
            device="cpu", data=data, precisions=("fp32",), cells=((16, 1), (17, 2)), peak_size=256,
            solver_size=(24, 16), solver_steps=(1, 4), process_sizes=(32,), process_steps=1,
            pairs=PAIRS[:1], pair_size=24, odd_size=17, onnx_sizes=(16,), repeats=1,
        )  # fmt: skip

    @property
    def place(self) -> Device:
        """The device."""
        return settle(self.device, by_torch=True)

    def described(self) -> Row:
        """Return the plan as plain data, without paths."""
        return {**asdict(self), "data": self.data is not None, "warm_up": "2 or more"}

    def pictures(self, index: int = 0) -> tuple[Path, Path]:
        """Return the paths of a pair."""
        if self.data is None:
            raise FileNotFoundError("expected a folder of pictures in NSTX_TEST_DATA, got none")
        content, style = self.pairs[index]
        return self.data / "content" / content, self.data / "style" / style


@dataclass(slots=True)
class Section:
    """What a section knows of the run around it.

    Attributes:
        ends: when its time is over, by the monotonic clock.
        report: of the sections so far, by their names.
        cut: whether something was left out for want of time.
    """

    ends: float
    report: dict[str, Any] = field(default_factory=dict)
    cut: bool = False

    @property
    def left(self) -> float:
        """Seconds that are left, at least one."""
        return max(1.0, self.ends - time.monotonic())

    def has(self, seconds: float) -> bool:
        """Whether so much time is left; if not, the section counts as cut."""
        has = self.ends - time.monotonic() >= seconds
        self.cut = self.cut or not has
        return has


def tried(cell: Row, measure: Callable[..., Row], *arguments: Any) -> Row:
    """Return a cell with what is measured of it, or with ``error``; frees the device's memory."""
    try:
        return cell | measure(*arguments)
    except Exception as error:  # noqa: BLE001  (the cells after this one are worth their time)
        return cell | {"error": f"{type(error).__name__}: {error}"[:400]}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def median_ms(call: Callable[[], object], device: TorchDevice) -> float:
    """Return the milliseconds of a call."""
    repeats = REPEATS if device.place.is_cuda else 1
    return 1000 * statistics.median(time_calls(call, device, repeats))


def open_step(
    device: TorchDevice, size: int, batch: int = 1, pooling: Pooling | None = None
) -> TorchGradient:
    """Return the backend that a run would take."""
    settings = choose_settings(
        backend="torch", precision=cast(Precision, device.precision), device=str(device.place),
        pooling=pooling,
    )  # fmt: skip
    objective = settings.objective
    problems = [(objective, make_zero_targets(objective, size, size))] * batch
    backend = open_backend(settings, choose_backend(settings)).make(problems)
    assert isinstance(backend, TorchGradient)
    return backend


def random_pictures(device: TorchDevice, size: int, batch: int = 1) -> torch.Tensor:
    """Return pictures on the device."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(batch, size, size, 3, generator=generator) * 255).to(device.torch_device)
