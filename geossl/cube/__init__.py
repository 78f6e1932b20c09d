"""The Open Data Cube: which scenes there are, how they get in, and how their pixels are read."""
