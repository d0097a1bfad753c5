"""How much memory a run takes, before it is begun, and the tiles by which it fits into what there is."""
