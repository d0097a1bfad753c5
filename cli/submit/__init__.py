"""``nstx submit``: a picture from a server."""
