"""Roots of matrices by products and sums: no decomposition, which devices are slow at."""

import torch

from nstx.models.statistics import ROOT_STEPS


def matrix_roots(
    matrices: torch.Tensor, steps: int = ROOT_STEPS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return size, Y and Z of symmetric positive M, (batch, n, n): M^½ = size · Y and M^−½ = Z / size.

    The coupled Newton–Schulz iteration (Higham 2008, Functions of Matrices, 6.35) on M over its norm: an
    eigenvalue λ of that has converged after some log(1/λ) / log 2.25 steps and four more. The size is
    (batch, 1, 1). What has not converged by then, as a matrix that is not positive, is far from a root or not
    finite.
    """
    size = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True)
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    half = matrices / size
    # The first step, in which the inverse is still the identity.
    step = 1.5 * identity - 0.5 * half
    half, inverse = half @ step, step
    for _ in range(steps - 1):
        step = torch.baddbmm(1.5 * identity[None], inverse, half, alpha=-0.5)
        half, inverse = half @ step, step @ inverse
    return size.sqrt(), half, inverse
