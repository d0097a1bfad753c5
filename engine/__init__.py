"""Pictures, costs, targets, backends, solvers and the transfer loop.

Knows nothing of argument parsing and never prints: what it has to say goes to callbacks and to the
logger ``nstx``.
"""
