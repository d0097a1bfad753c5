"""What computes the pointwise part of a step on CUDA, as data; without Triton or PyTorch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KernelSupport:
    """What computes the pointwise part of a step: ``triton`` with its version, or ``torch``.

    Attributes:
        reason: why it is not Triton; empty where it is.
    """

    name: str
    reason: str = ""

    @property
    def works(self) -> bool:
        """Whether Triton's kernels run."""
        return not self.reason
