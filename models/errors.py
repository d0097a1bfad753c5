"""The errors that a user's mistake can raise. Every message reads "expected …, got …; try …".

`NstxError` is the base of all. It stands in the lowest room because readers of weights raise it.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class NstxError(Exception):
    """Base of every error that a user's input can cause.

    Attributes:
        setting: the name of the setting whose value cannot be, such as ``size``; None if the error
            is of no value, or of several that do not go together.
    """

    def __init__(self, message: str = "", *, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting


class UsageError(NstxError):
    """An option, a layer name, a weight or a size that cannot be."""


class ImageError(NstxError):
    """A picture that cannot be read, or that is too small, too thin or too large to use."""


class WeightsError(NstxError):
    """A weight file that is missing, damaged, or not of VGG-19."""


class ModelError(NstxError):
    """An ONNX model that is damaged, of other weights, or does not pass its checks."""


class DeviceError(NstxError):
    """A device, precision or backend that this machine does not have."""


class OutputError(NstxError):
    """A result that cannot be written."""


class NumericalError(NstxError):
    """A cost or a gradient that is not finite.

    Attributes:
        evaluation: of a run's, from 1, which it came of; None if that is not known.
    """

    evaluation: int | None = None


@contextmanager
def about(setting: str) -> Iterator[None]:
    """Name the setting that errors raised in a block or function are about, if they name none."""
    try:
        yield
    except NstxError as error:
        error.setting = error.setting or setting
        raise
