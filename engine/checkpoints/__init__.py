"""Checkpoints: how far a run is, kept in a folder, so that it can be stopped and go on as if it had not been.

Knows what a run is made of and what its solver and backend export; never how it is run.
"""
