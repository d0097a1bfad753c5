"""The arrays that hold pictures, in a module that imports nothing slow."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
"""float32, (height, width, 3), RGB, 0–255."""

Batch = NDArray[np.float32]
"""float32, (batch, height, width, 3): several pictures of one size."""
