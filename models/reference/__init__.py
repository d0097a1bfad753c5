"""The yardstick: features, costs and gradients in float64, from the formulas, by NumPy alone.

Shares no code with the fast paths; never knows a runtime or another precision.
"""
