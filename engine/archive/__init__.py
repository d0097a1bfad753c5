"""What a service keeps: the folder of its jobs, what happened to them, how they stand, and for how long it does."""
