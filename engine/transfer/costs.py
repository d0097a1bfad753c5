"""The cost at the scales of a job, bound to the targets of one scale at a time."""

from nstx.models.cost import Cost

from ..devices.memory import memory_errors
from ..gradients.backend import GradientBackend
from ..pictures.picture import Pixels
from .job import Job


class BoundCosts:
    """Binds the cost to the targets of a scale when it is first asked for, and keeps it.

    Binding moves the targets to the device; whatever a scale needs is freed before the next is bound.

    Args:
        job: whose costs they are.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._scale: int | None = None
        self._backend: GradientBackend | None = None

    def at(self, scale: int) -> GradientBackend:
        """Return the cost with its gradient at a scale, counted from 0."""
        if self._backend is None or scale != self._scale:
            self._backend = None
            self._backend, self._scale = self._job.backend(scale), scale
        return self._backend

    @property
    def final(self) -> GradientBackend:
        """The cost with its gradient at the result's size."""
        return self.at(len(self._job.sizes) - 1)

    def measure(self, pixels: Pixels) -> Cost:
        """Return the cost of any picture of the result's size.

        Raises:
            NumericalError: it is not finite.
            DeviceError: memory does not suffice.
        """
        with memory_errors(self._job.sizes[-1]):
            return self.final.cost(pixels)
