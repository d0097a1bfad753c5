import pytest

from nstx.engine.sizes import fit_size, pyramid_sizes, split_steps, style_size
from nstx.models.errors import UsageError


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"size": 512}, (384, 512)),
        ({"width": 400, "height": 300}, (300, 400)),
        ({"width": 317, "height": 211}, (211, 317)),
        ({"width": 200}, (150, 200)),
        ({"height": 75}, (75, 100)),
    ],
)
def test_size_of_a_4_to_3_picture(choice: dict[str, int], expected: tuple[int, int]) -> None:
    assert fit_size((768, 1024), **choice) == expected


@pytest.mark.parametrize(
    ("source", "choice", "message"),
    [
        ((768, 1024), {"size": 512, "width": 100}, "--size, or else --width, got both"),
        ((768, 1024), {}, "got none"),
        ((768, 1024), {"size": 15}, "16 … 65535"),
        ((768, 1024), {"width": -4}, "16 … 65535"),
        ((10000, 12), {"size": 512}, "16 pixels or more"),
    ],
)
def test_impossible_sizes_are_refused(
    source: tuple[int, int], choice: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fit_size(source, **choice)


def test_style_follows_the_long_side_of_the_result() -> None:
    assert style_size((1000, 500), (300, 400), 1.0) == (400, 200)
    assert style_size((1000, 500), (300, 400), 0.5) == (200, 100)
    with pytest.raises(UsageError, match="style-scale"):
        style_size((1000, 500), (300, 400), 0.01)


def test_pyramid_doubles_up_to_the_result() -> None:
    assert pyramid_sizes(211, 317, 3) == ((53, 79), (106, 158), (211, 317))
    assert pyramid_sizes(300, 400, 1) == ((300, 400),)


@pytest.mark.parametrize(("size", "scales"), [(100, 1), (300, 2), (512, 3), (1024, 4), (4000, 6)])
def test_automatic_pyramid_starts_at_120_pixels_or_more(size: int, scales: int) -> None:
    sizes = pyramid_sizes(size, size, None)
    assert len(sizes) == scales
    assert scales == 1 or 120 <= sizes[0][0] < 240


def test_automatic_pyramid_keeps_thin_pictures_wide_enough() -> None:
    sizes = pyramid_sizes(40, 1000, None)
    assert min(sizes[0]) >= 32


def test_too_many_scales_are_refused() -> None:
    with pytest.raises(UsageError, match="scales auto"):
        pyramid_sizes(100, 100, 4)


@pytest.mark.parametrize(
    ("steps", "shares"),
    [
        (60, (60,)), (60, (20, 40)), (120, (30, 30, 60)), (121, (30, 30, 61)), (120, (20, 20, 20, 20, 40)),
        (1, (1,)), (1, (0, 0, 1)), (2, (0, 1, 1)), (3, (1, 1, 1)), (4, (1, 1, 2)), (3, (1, 2)), (7, (2, 2, 3)), (9, (1, 2, 2, 2, 2)),
    ],
)  # fmt: skip
def test_the_finest_scale_has_twice_the_steps_of_each_other(
    steps: int, shares: tuple[int, ...]
) -> None:
    assert split_steps(steps, len(shares)) == shares
    assert sum(shares) == steps
