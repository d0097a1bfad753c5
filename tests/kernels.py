"""Where there is no GPU, Triton's kernels run in its interpreter, which is chosen before it is imported."""

import os

from nstx.export.runtime.providers import has_driver

if not has_driver():
    os.environ["TRITON_INTERPRET"] = "1"
