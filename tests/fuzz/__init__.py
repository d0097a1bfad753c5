"""Inputs that are damaged, lie about themselves or are nonsense, and what reads them.

Each kind makes an input from a seed, so that it can be made again, and says what reads it in this
process. `python -m fuzz` (``scripts/fuzz``) runs any number of them in processes that are watched;
tests/test_fuzz.py runs a few.
"""
