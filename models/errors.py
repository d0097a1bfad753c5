"""The errors that a user's mistake can raise.

::

    NstxError
    ├── UsageError      an option, a layer name, a weight, a size that cannot be
    ├── ImageError      a picture that cannot be read or used
    ├── WeightsError    a weight file that is missing, damaged or of another network
    ├── ModelError      an ONNX model that is damaged, of other weights, or fails its checks
    ├── DeviceError     a device, precision or backend that this machine does not have
    ├── OutputError     a result that cannot be written
    └── NumericalError  a cost or gradient that is not finite

Every message reads "expected …, got …; try …". The base of the tree stands in the lowest room
because the readers of weights raise it too.
"""


class NstxError(Exception):
    """Base of every error that a user's input can cause."""


class UsageError(NstxError):
    """A value that an option or parameter cannot take."""


class ImageError(NstxError):
    """A picture that cannot be read, or that is too small, too thin or too large to use."""


class WeightsError(NstxError):
    """Weights that are missing, damaged, or not those of VGG-19."""


class ModelError(NstxError):
    """An ONNX model that cannot be used, or that was exported and does not pass its checks."""


class DeviceError(NstxError):
    """A device, precision or backend that was asked for and is not there."""


class OutputError(NstxError):
    """A result that cannot be written where it was asked for."""


class NumericalError(NstxError):
    """A cost or a gradient that stopped being a finite number."""
