"""Jobs: a table of what is to be made, claimed by workers, which loses nothing when one of them dies."""
