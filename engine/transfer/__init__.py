"""The transfer: a job, its run from coarse to fine, batches, and what is reported of them.

Knows all that one result needs; never what is drawn of it.
"""
