"""Roots of matrices by products and sums: no decomposition, which devices are slow at."""

import torch

from nstx.models.statistics import ROOT_STEPS


def inverse_root(matrices: torch.Tensor) -> torch.Tensor:
    """Return M^−½ of symmetric positive matrices M, (batch, n, n).

    The coupled Newton–Schulz iteration (Higham 2008, Functions of Matrices, 6.35) on M over its norm: an
    eigenvalue λ of that has converged after some log(1/λ) / log 2.25 steps and four more. What has not
    converged after `ROOT_STEPS`, as of a matrix that is not positive, is far from a root or not finite.
    """
    size = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    half = matrices / size
    # The first step, in which the inverse is still the identity.
    inverse = 1.5 * identity - 0.5 * half
    half = half @ inverse
    for index in range(1, ROOT_STEPS):
        step = torch.baddbmm(1.5 * identity[None], inverse, half, alpha=-0.5)
        if index < ROOT_STEPS - 1:
            half = half @ step
        inverse = step @ inverse
    result: torch.Tensor = inverse / size.sqrt()
    return result
