"""Sparse labels: read from vector and raster files, burned onto the pixels of tiles. Knows nothing of tasks."""
