"""Asks a service of nstx for pictures over HTTP; it knows nothing of how they are made."""
