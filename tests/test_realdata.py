"""On real pictures and published numbers; skipped without the folder named by NSTX_TEST_DATA."""

from pathlib import Path

import numpy as np
import pytest

from nstx.engine.choices import choose_settings
from nstx.engine.pictures.reading import read_image
from nstx.engine.transfer.job import Job, prepare_job
from nstx.engine.transfer.run import run_job, stylize

pytestmark = pytest.mark.realdata

# Total, content and style cost that the published notebook prints at iterations 0 and 20.
PUBLISHED = {0: (5.05035e9, 7877.67, 1.26257e8), 20: (9.43272e8, 15187.1, 2.3578e7)}


@pytest.fixture(scope="module")
def published_start(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The notebook's own random start, which came after two other draws from its generator."""
    content = read_image(data_folder / "coursera" / "louvre_small.png").pixels.astype(np.float32)
    generator = np.random.RandomState(3)
    generator.randn(), generator.randn()
    noise = generator.uniform(-20, 20, (1, 300, 400, 3)).astype(np.float32)[0]
    mean = np.array([123.68, 116.779, 103.939], np.float32)
    path: Path = tmp_path_factory.mktemp("start") / "start.npy"
    np.save(path, mean + 0.6 * noise + 0.4 * (content - mean))
    return path


def assignment_job(data_folder: Path, start: Path, steps: int) -> Job:
    folder = data_folder / "coursera"
    settings = choose_settings("coursera", init=str(start), steps=steps)
    style = read_image(folder / "monet.png")
    return prepare_job(read_image(folder / "louvre_small.png"), [(style, 1.0)], settings)


def test_published_costs_come_out(data_folder: Path, published_start: Path) -> None:
    costs = {}
    job = assignment_job(data_folder, published_start, 21)
    assert job.sizes == ((300, 400),)
    # The notebook counts from 0 and prints after the step.
    run_job(job, on_step=lambda step: costs.update({step.step - 1: step.cost}))
    for iteration, (total, content, style) in PUBLISHED.items():
        cost = costs[iteration]
        assert cost.total == pytest.approx(total, rel=0.015)
        assert cost.content == pytest.approx(content, rel=0.015)
        assert cost.style == pytest.approx(style, rel=0.015)


def test_signs_of_the_published_first_gradient_agree(
    data_folder: Path, published_start: Path
) -> None:
    golden = np.load(data_folder / "coursera" / "golden_grad_sign_iter0.npz")["update_sign"]
    job = assignment_job(data_folder, published_start, 1)
    _, gradient = job.backend(0).cost_and_gradient(job.start(0))
    agree = np.sign(gradient) == -golden.reshape(gradient.shape)
    assert agree.mean() > 0.979
    large = np.abs(gradient) > np.median(np.abs(gradient))
    assert agree[large].mean() > 0.9999


def test_sixty_lbfgs_steps_reach_a_ninetieth_of_the_initial_cost(data_folder: Path) -> None:
    settings = choose_settings("coursera", solver="lbfgs", steps=60, width=80, height=60)
    result = stylize(
        read_image(data_folder / "content" / "tubingen.jpg"),
        [(read_image(data_folder / "style" / "starry_night_google.jpg"), 1.0)],
        settings,
    )
    assert result.initial_cost is not None
    assert result.cost.total < result.initial_cost.total / 90


@pytest.mark.parametrize(
    "name", ["camera_gray_L.png", "palette_color_P.png", "skimage_logo_RGBA.png"]
)
def test_odd_kinds_of_pictures_are_read(data_folder: Path, name: str) -> None:
    picture = read_image(data_folder / "edge" / name)
    assert picture.pixels.shape[2] == 3
    assert picture.pixels.std() > 5
    assert picture.alpha is None  # the RGBA one is opaque throughout
