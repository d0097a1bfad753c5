"""Adam's step as ONNX nodes, so that one call of a session makes a step of the optimisation."""

import numpy as np

from .builder import GraphBuilder
from .feature_graph import INPUT_NAME

# Kingma and Ba 2015, with ε as in their section 2, on gradients that `gradient_factor` scales to 1.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def add_adam(builder: GraphBuilder, gradient: str) -> None:
    """Add Adam's update of the pixels: `ADAM_INPUTS` and a gradient to `ADAM_OUTPUTS`."""

    def number(name: str, value: float) -> str:
        return builder.constant(name, np.array(value, np.float32))

    scaled = builder.add("Mul", [gradient, "gradient_factor"], "gradient_scaled")
    squared = builder.add("Mul", [scaled, scaled], "gradient_squared")
    for name, value, beta in (("first_moment", scaled, BETA1), ("second_moment", squared, BETA2)):
        change = builder.add("Sub", [value, name], f"{name}_difference")
        share = number(f"one_minus_{name}_decay", 1 - beta)
        change = builder.add("Mul", [change, share], f"{name}_change")
        builder.add("Add", [name, change], f"next_{name}")
    one = number("adam_one", 1)
    for name, beta in (("first_moment", BETA1), ("second_moment", BETA2)):
        power = builder.add("Pow", [number(f"{name}_decay", beta), "step"], f"{name}_power")
        builder.add("Sub", [one, power], f"{name}_bias")
    root_bias = builder.add("Sqrt", ["second_moment_bias"], "second_moment_bias_root")
    rate = builder.add("Div", [root_bias, "first_moment_bias"], "rate_correction")
    rate = builder.add("Mul", [rate, "learning_rate"], "rate")
    root = builder.add("Sqrt", ["next_second_moment"], "next_second_moment_root")
    root = builder.add("Add", [root, number("epsilon", EPSILON)], "next_second_moment_root_safe")
    direction = builder.add("Div", ["next_first_moment", root], "direction")
    move = builder.add("Mul", [direction, rate], "move")
    moved = builder.add("Sub", [INPUT_NAME, move], "moved")
    builder.add("Clip", [moved, "low", "high"], "next_pixels")
