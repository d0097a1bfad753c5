"""The yardstick: features, costs and gradients in float64, from the formulas, by NumPy alone.

Shares with the fast paths only how layers' costs are summed; never knows a
runtime or another precision.
"""
