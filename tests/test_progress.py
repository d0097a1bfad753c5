"""What people see of a run while it goes: a word before a long one, and lines now and then."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nstx.cli.console import Console, Pace
from nstx.cli.progress import Forecast, show_steps
from nstx.engine.devices.device import Device
from nstx.engine.gradients.choice import BackendChoice
from nstx.engine.sizes import split_steps
from nstx.engine.transfer.progress import Step
from nstx.models.cost import Cost

Nstx = Callable[..., tuple[int, str, str]]

ON_CPU = BackendChoice("onnx", Device("cpu"), "fp32")
SIZES = [(75, 100), (150, 200), (300, 400)]
STEPS = 30


def take_all(
    take: Callable[[Step], None],
    seconds: float,
    *,
    first: float = 2.5,
    second: float = 1.0,
    besides: int = 2_000,
    tick: Callable[[float], object] = lambda _: None,
) -> None:
    """Make the steps of a run that takes some seconds; ``tick`` is told each step's.

    The first of a scale takes as long as ``first`` others, the second as ``second``.
    """
    counts = split_steps(STEPS, len(SIZES))
    areas = [
        (height * width + besides) * (first, second, *[1.0] * STEPS)[number]
        for (height, width), count in zip(SIZES, counts, strict=True)
        for number in range(count)
    ]
    scales = np.repeat(np.arange(len(SIZES)), counts).tolist()
    began = 0.0
    for number, area in enumerate(areas):
        spent = seconds * area / sum(areas)
        began += spent
        tick(spent)
        scale = scales[number]
        cost = Cost(total=1.0, content=0.5, style=0.5, style_layers={}, total_variation=0.0)
        picture = np.zeros((*SIZES[scale], 3), np.float32)
        take(
            Step(
                step=number + 1,
                steps=STEPS,
                scale=scale + 1,
                scales=3,
                cost=cost,
                evaluations=number + 2,
                seconds=began,
                picture=picture,
            )
        )


def test_the_time_left_is_right_from_the_coarsest_scale_on() -> None:
    forecast = Forecast(SIZES, STEPS, ON_CPU)
    estimates: list[tuple[float, float]] = []

    def take(step: Step) -> None:
        forecast.take(step)
        left = forecast.seconds_left
        if left is not None:
            estimates.append((left, 100 - step.seconds))

    take_all(take, 100)
    assert len(estimates) > 20
    assert all(left == pytest.approx(right, abs=0.5) for left, right in estimates)
    assert forecast.share == 1


@pytest.mark.parametrize(
    ("first", "second", "besides"),
    [(1.0, 1.0, 2_000), (6.0, 1.0, 2_000), (2.5, 1.0, 0), (2.5, 8.0, 2_000)],
)
def test_the_first_step_of_a_scale_does_not_lead_astray(
    first: float, second: float, besides: int
) -> None:
    forecast = Forecast(SIZES, STEPS, ON_CPU)
    quotients: list[float] = []

    def take(step: Step) -> None:
        forecast.take(step)
        left = forecast.seconds_left
        if left is not None and 2 < step.step < STEPS:
            quotients.append(left / (600 - step.seconds))

    take_all(take, 600, first=first, second=second, besides=besides)
    assert len(quotients) > 20
    assert min(quotients) > 0.5
    assert max(quotients) < 1.3


def test_an_accelerator_is_asked_at_the_second_scale() -> None:
    forecast = Forecast(SIZES, STEPS, BackendChoice("torch", Device("cuda", 0), "fp32"))
    known: list[int] = []

    def take(step: Step) -> None:
        forecast.take(step)
        if forecast.seconds_left is not None:
            known.append(step.scale)

    take_all(take, 100)
    assert set(known) == {2, 3}


def test_a_long_run_has_a_word_before_it_and_lines_now_and_then(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(as_json=True, quiet=False)
    with show_steps(console, SIZES, STEPS, ON_CPU, memory=663 << 20) as show:
        take_all(show, 120, tick=clock)
    first, *lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        r"about 2 min for 400×300 pixels in 3 scales and 30 steps, with some 663 MiB of memory",
        first,
    )
    assert 4 <= len(lines) <= 10
    assert re.fullmatch(r"\d+×\d+  step \d+/30  cost 1.00e\+00, \d+%, about \d+ s left", lines[-1])


@pytest.mark.parametrize(("seconds", "quiet"), [(2, False), (8, False), (120, True)])
def test_a_short_run_and_a_quiet_one_say_nothing(
    seconds: float,
    quiet: bool,
    clock: Callable[[float], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console(as_json=False, quiet=quiet)
    with show_steps(console, SIZES, STEPS, ON_CPU) as show:
        take_all(show, seconds, tick=clock)
    assert capsys.readouterr().err == ""


def test_work_without_steps_says_what_it_is_once_it_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(as_json=False, quiet=False)
    with console.working("computing targets"):
        pass
    monkeypatch.setattr(Pace, "seconds", 0.0)
    with console.working("drawing"):
        time.sleep(0.1)
    assert capsys.readouterr().err == "drawing …\n"


def test_a_small_photograph_that_is_enlarged_is_a_warning(
    nstx: Nstx, save_picture: Callable[..., Path], tmp_path: Path
) -> None:
    content = save_picture("small.png", 30, 40)
    output = tmp_path / "out.png"
    _, _, err = nstx("optimize", content, content, "-o", output, "--steps", 1, "--size", 64)
    assert f"{content} has 40×30 pixels and is enlarged to 64×48" in err
