"""VGG-19, its weights, and the objective: what is evaluated, as data.

Knows nothing of ONNX Runtime, of optimisation, or of the command line.
"""
