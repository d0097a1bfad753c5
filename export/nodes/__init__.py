"""How ONNX graphs are written: nodes and constants, checked, and put in an order that saves memory.

Knows the onnx package; never a network or a cost.
"""
