"""nstx beside the recipe of crowsonkb/style-transfer-pytorch: artefacts of both, by `nstx.measure_artefacts`.

python benchmarks/wasserstein_recipe.py --pairs CONTENT:STYLE… [--size 256] [--folder DIR] [--json FILE]
    [--device cuda]

The recipe as its code stood in 2023, made anew here: max pooling, the first convolution padded by replication,
Wasserstein-2 costs of means and covariances with layer weights 256, 64, 16, 4, 1, content 0.015, total variation of
nine points 2; Adam (0.02 on pixels 0–1, moments 0.9 and 0.99) from the photograph, scales from 128 pixels by √2, 1000
steps at the first and 500 at others, the moving average (0.99) of the iterates as the result.

Departures: the filters are nstx's own, in place of torchvision's, and scaled so that the layers' activations have a
mean of 1 over the pictures, as Gatys scaled his; the gradient of the Wasserstein cost is exact, by eigenvalues, in
place of twelve steps of an iteration; convolutions are in bfloat16 (`--fp32`: in float32, on CUDA in TF32 as PyTorch has it). On CUDA, where
eigenvalues take long, roots come of an iteration, too, twelve steps that are scaled to need no more: on real activations
the cost is within 0.2 % and its gradient within 1 % of those by eigenvalues (`tests/test_recipe.py`).
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  (PyTorch's own convention)
from cleaned_pictures import FIGURES, describe_spread
from PIL import Image

from nstx import measure_artefacts, stylize
from nstx.engine.devices.machine import describe_machine, package_versions
from nstx.models.vgg19 import truncate
from nstx.models.weights.load import load_weights

STYLE = {"conv1_1": 256.0, "conv2_1": 64.0, "conv3_1": 16.0, "conv4_1": 4.0, "conv5_1": 1.0}
CONTENT, CONTENT_WEIGHT, TV_WEIGHT = "conv4_2", 0.015, 2.0
MINIMUM, FIRST_STEPS, STEPS = 128, 1000, 500
EPS = 1e-4
LEAST_ROOT = 1e-4
"""Of a root's eigenvalue, relative to the largest: smaller ones are not reached in twelve steps."""
ROOT_STEPS = 12
MAKERS = "recipe", "nstx"
WARM_STEPS = 3  # before CUDA's work can be recorded

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Network:
    """VGG-19 with max pooling, its activations scaled to a mean of 1; pixels are 0–1."""

    layers: tuple[Any, ...]
    kernels: dict[str, Tensor]
    biases: dict[str, Tensor]
    mean: Tensor
    dtype: torch.dtype

    def __call__(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the activations of all convolutions, after their ReLU, of pixels (1, 3, h, w)."""
        x = (pixels * 255 - self.mean).to(self.dtype)
        features = {}
        for layer in self.layers:
            if layer.kind == "pool":
                x = F.max_pool2d(x, 2)
                continue
            first = layer.name == "conv1_1"
            x = F.pad(x, (1, 1, 1, 1), mode="replicate") if first else x
            kernel, bias = self.kernels[layer.name], self.biases[layer.name]
            x = F.relu(F.conv2d(x, kernel, bias, padding=0 if first else 1))
            features[layer.name] = x
        return features


def make_network(pictures: Iterable[Tensor], dtype: torch.dtype, device: str = "cpu") -> Network:
    """Return the network, scaled by the means of its activations over pictures."""
    weights = load_weights("embedded")
    kernels = {name: torch.from_numpy(value).to(device) for name, value in weights.kernels.items()}
    biases = {name: torch.from_numpy(value).to(device) for name, value in weights.biases.items()}
    mean = torch.tensor(weights.mean, dtype=torch.float32, device=device).reshape(1, 3, 1, 1)
    network = Network(tuple(truncate([*STYLE, CONTENT])), kernels, biases, mean, torch.float32)
    activations = [network(picture) for picture in pictures]
    before = 1.0
    for name in activations[0]:
        scale = float(np.mean([float(features[name].mean()) for features in activations]))
        kernels[name] = (kernels[name] * (before / scale)).to(
            dtype, memory_format=torch.channels_last
        )
        biases[name] = (biases[name] / scale).to(dtype)
        before = scale
    return Network(network.layers, kernels, biases, mean, dtype)


class Wasserstein(torch.autograd.Function):
    """⟨(μ − μ*)²⟩ + tr(Σ* + Σ − 2 (Σ*^½ Σ Σ*^½)^½) / C of activations F, (C, N), with its closed gradient."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, mean: Tensor, root: Tensor, trace: Tensor) -> Tensor:
        """Return the cost; ``root`` is Σ*^½ and ``trace`` tr Σ*."""
        channels, positions = flat.shape
        own_mean, covariance = moments(flat)
        find_mapping = decompose if flat.device.type == "cpu" else iterate
        of_root, mapping = find_mapping(root, covariance)
        identity = torch.eye(channels, device=flat.device)
        slope = (identity - mapping).float() * (2 / (channels * positions))
        shift = (own_mean - mean).float() * (2 / (channels * positions))
        ctx.save_for_backward(flat, own_mean.float(), slope, shift)
        distance: Tensor = trace + covariance.trace() - 2 * of_root
        return (own_mean - mean).square().mean() + distance / channels

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient for the activations."""
        flat, mean, slope, shift = ctx.saved_tensors
        gradient = slope @ (flat - mean[:, None]) + shift[:, None]
        return gradient * upstream[0], None, None, None


def decompose(root: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return tr A^½ and Σ*^½ A^-½ Σ*^½ of A = Σ*^½ Σ Σ*^½, by eigenvalues."""
    values, vectors = torch.linalg.eigh(root @ covariance @ root)
    singular = values.clamp_min(1e-12).sqrt()
    return singular.sum(), root @ (vectors / singular) @ vectors.T @ root


def iterate(root: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `decompose` does, by products alone: the coupled iteration of Newton and Schulz.

    With Y₀ = A / ‖A‖ and Z₀ = I, Y ← Y T and Z ← T Z with T = α (3 I − α² Z Y) / 2 come to the roots of Y₀ and of its
    inverse. α = (3 / (1 + l + l²))^½, with l the least root's eigenvalue so far, has small ones grow by 2.6 a step in
    place of 1.5 (Chen and Chow 2014, "A stable scaling of Newton-Schulz for improving the sign function computation of
    a Hermitian matrix").
    """
    matrix = root @ covariance @ root
    norm = torch.linalg.matrix_norm(matrix)
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    direct, inverse, least = matrix / norm, identity, LEAST_ROOT
    for _ in range(ROOT_STEPS):
        scale = (3 / (1 + least + least**2)) ** 0.5
        change = torch.addmm(identity, inverse, direct, beta=1.5 * scale, alpha=-(scale**3) / 2)
        direct, inverse = direct @ change, change @ inverse
        least *= scale / 2 * (3 - scale**2 * least**2)
    return direct.trace() * norm.sqrt(), root @ (inverse / norm.sqrt()) @ root


def moments(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return μ and Σ + εI of activations (C, N), in float64: roots of small eigenvalues need it."""
    mean = flat.double().mean(1)
    raw = (flat @ flat.T).double() / flat.shape[1]
    return mean, raw - torch.outer(mean, mean) + EPS * torch.eye(len(flat), device=flat.device)


def total_variation(pixels: Tensor) -> Tensor:
    """Return the squared differences to eight neighbours, diagonals at a quarter of the weight."""
    padded = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
    middle = padded[..., 1:-1, 1:-1]
    across = (padded[..., 1:-1, 2:] - middle).square().mean() / 3
    down = (padded[..., 2:, 1:-1] - middle).square().mean() / 3
    one = (padded[..., 1:, 1:] - padded[..., :-1, :-1]).square().mean() / 12
    other = (padded[..., 1:, :-1] - padded[..., :-1, 1:]).square().mean() / 12
    return 2 * (across + down + one + other)


def load(path: str, size: int, device: str = "cpu", *, enlarge: bool = True) -> Tensor:
    """Return a picture with a long side of ``size`` pixels, (1, 3, h, w), 0–1."""
    picture = Image.open(path).convert("RGB")
    share = size / max(picture.size)
    if enlarge or share < 1:
        sides = [max(1, round(side * share)) for side in picture.size]
        picture = picture.resize((sides[0], sides[1]), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(picture, np.float32) / 255).to(device)
    return pixels.permute(2, 0, 1)[None]


def scales_of(size: int) -> list[int]:
    """Return the long sides from 128 pixels up to ``size``, by √2."""
    sides = {size}
    while (side := round(size / 2 ** (len(sides) / 2))) >= MINIMUM:
        sides.add(side)
    return sorted(sides)


def run_recipe(
    content: str, style: str, size: int, dtype: torch.dtype, device: str = "cpu"
) -> Tensor:
    """Return the recipe's picture, (1, 3, h, w), 0–1."""
    network = make_network([load(content, size, device), load(style, size, device)], dtype, device)
    sides = scales_of(size)
    picture, moments_before = load(content, sides[0], device), None
    for side in sides:
        photograph = load(content, side, device)
        painting = load(style, side, device, enlarge=False)
        shape = tuple(photograph.shape[2:])
        picture = resample(picture, shape, "bicubic").clamp(0, 1).requires_grad_()
        optimiser = torch.optim.Adam(
            [picture], lr=0.02, betas=(0.9, 0.99), capturable=device == "cuda"
        )
        if moments_before is not None:
            optimiser.state[picture] = {
                "step": moments_before["step"],
                "exp_avg": resample(moments_before["exp_avg"], shape, "bicubic"),
                "exp_avg_sq": resample(moments_before["exp_avg_sq"], shape, "bilinear").relu(),
            }
        steps = FIRST_STEPS if side == sides[0] else STEPS
        average = minimise(network, picture, photograph, painting, optimiser, steps)
        picture, moments_before = average, optimiser.state[picture]
    return picture.clamp(0, 1)


def resample(values: Tensor, shape: tuple[int, ...], mode: str) -> Tensor:
    """Return values (1, 3, h, w) of another size."""
    return F.interpolate(values.detach(), shape, mode=mode, align_corners=False)


def minimise(
    network: Network, picture: Tensor, content: Tensor, style: Tensor,
    optimiser: torch.optim.Adam, steps: int,
) -> Tensor:  # fmt: skip
    """Move a picture at one scale, and return the average of where it was."""
    with torch.no_grad():
        target = network(content)[CONTENT].float()
        of_style = network(style)
        targets = {name: prepare(of_style[name][0].flatten(1).float()) for name in STYLE}
    average = picture.detach() * 0.01

    def step() -> None:
        optimiser.zero_grad()
        features = network(picture)
        cost = TV_WEIGHT * total_variation(picture)
        cost = cost + CONTENT_WEIGHT * F.mse_loss(features[CONTENT].float(), target)
        for name, weight in STYLE.items():
            flat = features[name][0].flatten(1).float()
            distance = Wasserstein.apply(flat, *targets[name])  # type: ignore[no-untyped-call]
            cost = cost + weight / sum(STYLE.values()) * distance
        cost.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            picture.clamp_(0, 1)
            average.copy_(0.99 * average + 0.01 * picture)

    repeat(step, steps, picture.device)
    accumulated = 0.99
    for _ in range(steps):
        accumulated *= 0.99
    return average / (1 - accumulated)


def repeat(step: Callable[[], None], steps: int, device: torch.device) -> None:
    """Take steps; on CUDA most of them as a graph, whose kernels Python does not launch one by one."""
    if device.type != "cuda":
        for _ in range(steps):
            step()
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(min(WARM_STEPS, steps)):
            step()
    torch.cuda.current_stream(device).wait_stream(stream)
    if steps > WARM_STEPS:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        for _ in range(steps - WARM_STEPS):
            graph.replay()
    torch.cuda.synchronize(device)


def prepare(flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return μ*, Σ*^½ and tr Σ* of a painting's activations."""
    mean, covariance = moments(flat)
    values, vectors = torch.linalg.eigh(covariance)
    return mean, (vectors * values.clamp_min(0).sqrt()) @ vectors.T, covariance.trace()


def compare(
    pair: str, size: int, folder: Path, dtype: torch.dtype, device: str
) -> list[dict[str, Any]]:
    """Return the artefacts of both pictures of a pair, which are written into a folder."""
    content, style = pair.split(":")
    name = f"{Path(content).stem}-{Path(style).stem}-{size}"
    theirs = run_recipe(content, style, size, dtype, device)[0].permute(1, 2, 0).cpu().numpy()
    Image.fromarray((theirs * 255 + 0.5).astype(np.uint8)).save(folder / f"{name}-recipe.png")
    stylize(content, style, size=size, device=device).save(folder / f"{name}-nstx.png")
    rows = []
    for maker in MAKERS:
        figures = measure_artefacts(str(folder / f"{name}-{maker}.png"), content, style)
        rows.append({"pair": name, "maker": maker, **asdict(figures)})
        shown = {key: rows[-1][key] for key in FIGURES}
        print(name, maker, json.dumps(shown), flush=True)
    return rows


def summarise(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each figure: medians, means and largest of both, and in how many pairs either has less."""
    for name in FIGURES:
        theirs, ours = (
            [row[name] or 0.0 for row in rows if row["maker"] == maker] for maker in MAKERS
        )
        pairs = list(zip(theirs, ours, strict=True))
        less, more = sum(b < a for a, b in pairs), sum(b > a for a, b in pairs)
        yield (
            f"{name}, {' and '.join(MAKERS)}: {describe_spread((theirs, ours))};"
            f" nstx has less in {less}, more in {more}"
        )


def main() -> None:
    """Make and measure all pairs, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs="+", required=True)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    chosen = parser.parse_args()
    dtype = torch.float32 if chosen.fp32 else torch.bfloat16
    rows = [
        row
        for pair in chosen.pairs
        for row in compare(pair, chosen.size, chosen.folder, dtype, chosen.device)
    ]
    print(*summarise(rows), sep="\n", flush=True)
    if chosen.json is not None:
        data = {"machine": describe_machine(), "packages": package_versions(), "rows": rows}
        chosen.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
