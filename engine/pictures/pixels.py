"""What a picture is while it is worked on, apart from the code that reads files and loads slowly."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
"""float32, (height, width, 3), RGB, 0–255."""

Batch = NDArray[np.float32]
"""float32, (batch, height, width, 3): several pictures of one size."""
