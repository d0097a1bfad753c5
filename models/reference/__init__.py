"""The yardstick: features, costs and gradients in float64, by NumPy alone.

Shares no code with the fast paths; never knows a runtime.
"""
