"""The key of a small target, which the tests of targets share."""

from nstx.engine.targets.store import TargetKey

KEY = TargetKey(
    picture="a" * 64,
    height=2,
    width=1,
    layer="conv1_1",
    statistic="activation",
    pooling="avg",
    pool_rounding="ceil",
    weights="b" * 64,
    computed_by="onnx cpu fp32",
)
