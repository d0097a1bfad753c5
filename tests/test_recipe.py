"""`benchmarks/wasserstein_recipe.py`: roots by products, which CUDA takes, beside those by eigenvalues."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("wasserstein_recipe")


def test_roots_by_products_give_the_cost_and_gradient_of_those_by_eigenvalues(
    recipe: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, style = (
        recipe.load(str(ROOT / "examples" / name), 96) for name in ("harbour.jpg", "swirls.jpg")
    )
    network = recipe.make_network([content, style], torch.float32)
    with torch.no_grad():
        of_content, of_style = network(content), network(style)

    def differentiate(name: str) -> tuple[float, torch.Tensor]:
        flat = of_content[name][0].flatten(1).requires_grad_()
        target = recipe.prepare(of_style[name][0].flatten(1))
        cost = recipe.Wasserstein.apply(flat, *target)
        cost.backward()
        assert flat.grad is not None
        return cost.item(), flat.grad

    exact = {name: differentiate(name) for name in recipe.STYLE}
    monkeypatch.setattr(recipe, "decompose", recipe.iterate)
    for name, (cost, gradient) in exact.items():
        near, near_gradient = differentiate(name)
        assert 0 < abs(near / cost - 1) < 0.002, name
        error = float((near_gradient - gradient).norm() / gradient.norm())
        assert 0 < error < 0.01, name
