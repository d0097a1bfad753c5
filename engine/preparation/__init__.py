"""What a run is made of, taken and checked before it begins: pictures, a start, settings, a backend.

Knows pictures, targets and backends; never a run.
"""
