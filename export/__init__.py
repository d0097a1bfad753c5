"""How VGG-19 and a cost become ONNX graphs.

Knows nothing of picture files, caches, solvers or the command line.
"""
