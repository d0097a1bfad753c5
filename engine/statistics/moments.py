"""What styles' moments cost beside their targets', and the slope of it: the formulas of `nstx.models.statistics`.

All of it is products and sums of matrices, in the precision of sums, and is never waited for.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from nstx.models.statistics import DEVIATION_FLOOR, LEAST, RIDGE, Statistic

from .roots import inverse_root


@dataclass(frozen=True, slots=True)
class MomentCost:
    """The cost of a layer of a batch of pictures, before all factors.

    Attributes:
        target: moments, (batch, channels + 1, channels + 1).
        root: of the target's covariance with its ridge, (batch, channels, channels); of ``wasserstein`` only.
    """

    statistic: Statistic
    target: torch.Tensor
    root: torch.Tensor | None = None

    def strength(self) -> torch.Tensor:
        """Return what the cost is at an activation of 0, (batch)."""
        if self.statistic == "covariance":
            return _covariance(self.target).square().flatten(1).mean(1)
        return _diagonal(self.target)[:, :-1].mean(1)

    def compare(self, moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cost, (batch), and its slope D, as the moments: symmetric, with dJ = Σ D ∘ d(moments)."""
        mean, shift = moments[:, :-1, -1], (moments - self.target)[:, :-1, -1]
        channels = mean.shape[1]
        if self.statistic == "covariance":
            difference = _covariance(moments) - _covariance(self.target)
            by_covariance = difference * (2 / channels**2)
            border = -_times(by_covariance, mean)
            return difference.square().flatten(1).mean(1), _join(by_covariance, border)
        cost = shift.square().mean(1)
        if self.statistic == "mean-std":
            floor = DEVIATION_FLOOR * self.strength()[:, None] + LEAST
            ours, theirs = (_deviations(x, floor) for x in (moments, self.target))
            share = (ours - theirs) / ours / channels
            cost = cost + (ours - theirs).square().mean(1)
            return cost, _join(torch.diag_embed(share), shift / channels - share * mean)
        distance, by_covariance = self._transport(_with_ridge(moments))
        border = shift / channels - _times(by_covariance, mean)
        spread = RIDGE / channels * _diagonal(by_covariance).sum(1)
        by_gram = by_covariance + spread[:, None, None] * _identity(by_covariance)
        return cost + distance, _join(by_gram, border)

    def _transport(self, covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cost between covariances, (batch), and its gradient with respect to the picture's.

        With T the map that carries one Gaussian to the other, the cost is the mean square of x − T x, which is
        tr (I − T) Σ (I − T): near the target its rounding shrinks with it, and that of the traces does not.
        """
        root, channels = self.root, covariance.shape[1]
        assert root is not None
        transport = root @ inverse_root(root @ covariance @ root) @ root
        # Rounding leaves it symmetric but for a millionth.
        change = _identity(covariance) - (transport + transport.transpose(1, 2)) / 2
        cost = ((change @ covariance) * change).sum((1, 2)) / channels
        return cost, change / channels


Compare = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Returns the cost of moments, (batch), and its slope."""


def compare_by_autograd(compare: Compare, moments: torch.Tensor) -> torch.Tensor:
    """Return the cost, (batch), of moments that are differentiated by autograd: with the slope that is known."""
    result: torch.Tensor = _Compared.apply(moments, compare)  # type: ignore[no-untyped-call]
    return result


class _Compared(torch.autograd.Function):
    """Autograd's way to a slope that was computed with the cost."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, moments: torch.Tensor, compare: Compare
    ) -> torch.Tensor:
        value, slope = compare(moments)
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *gradients: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        (slope,) = ctx.saved_tensors  # type: ignore[attr-defined]
        (gradient,) = gradients
        # The cost of a picture is that of all its regions.
        gradient = gradient.repeat_interleave(len(slope) // len(gradient))
        return gradient[:, None, None] * slope, None


def _covariance(moments: torch.Tensor) -> torch.Tensor:
    mean = moments[:, :-1, -1:]
    return moments[:, :-1, :-1] - mean * mean.transpose(1, 2)


def _with_ridge(moments: torch.Tensor) -> torch.Tensor:
    covariance = _covariance(moments)
    ridge = RIDGE * _diagonal(moments)[:, :-1].mean(1) + LEAST
    return covariance + ridge[:, None, None] * _identity(covariance)


def _deviations(moments: torch.Tensor, floor: torch.Tensor) -> torch.Tensor:
    variances = _diagonal(moments)[:, :-1] - moments[:, :-1, -1].square()
    return (variances.clamp(min=0) + floor).sqrt()


def _diagonal(matrices: torch.Tensor) -> torch.Tensor:
    return matrices.diagonal(dim1=1, dim2=2)


def _identity(like: torch.Tensor) -> torch.Tensor:
    return torch.eye(like.shape[1], dtype=like.dtype, device=like.device)


def _times(matrices: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _join(by_gram: torch.Tensor, border: torch.Tensor) -> torch.Tensor:
    """Put together the slope of moments; a mean stands in them twice, so its border is half of ∂J/∂μ."""
    top = torch.cat([by_gram, border[:, :, None]], 2)
    return torch.cat([top, pad(border[:, None], (0, 1))], 1)
