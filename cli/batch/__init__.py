"""``nstx batch``: which jobs are asked for, how they go, what has come of them."""
