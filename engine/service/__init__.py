"""A service: jobs taken from strangers within limits, kept until they are made, and told of as they go."""
