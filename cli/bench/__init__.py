"""``nstx bench``: what is measured, and the tables that a person reads.

Knows the terminal; never how it is measured.
"""
