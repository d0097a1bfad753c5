"""Whether fp32 on a provider is fp32: found out once, by running a small graph.

From its version 1.20 on, ONNX Runtime goes back to TF32 where cuDNN has no other kernel for a convolution, and
does not say so.
"""

from functools import cache

from nstx.models.errors import DeviceError

from .providers import Provider
from .session import SessionChoices, open_session, run_session


def check_fp32(provider: Provider) -> None:
    """Raise `DeviceError` if a provider computes float32 graphs in TF32, though it is switched off."""
    if provider.kind == "cuda" and not computes_in_fp32(provider):
        raise DeviceError(
            f"expected fp32 by ONNX Runtime's {provider.name}, got TF32 or less, though it is switched "
            "off; try --precision tf32, or PyTorch (--backend torch, --extractor torch)"
        )


@cache
def computes_in_fp32(provider: Provider) -> bool:
    """Whether convolutions and products of float32 on a provider are fp32's; it is tried once.

    Tried planar and with TF32 off, as `nstx.export.runtime.session` opens graphs in fp32.
    """
    # It imports the onnx package, which most runs do without.
    from .probe import PRECISION_INPUT, is_fp32, precision_model

    session = open_session(precision_model(), SessionChoices(provider=provider))
    return is_fp32(run_session(session.run, provider, None, PRECISION_INPUT))
