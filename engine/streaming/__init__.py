"""Pictures too large to be held whole: read some rows at a time, down to the size that they are used at."""
