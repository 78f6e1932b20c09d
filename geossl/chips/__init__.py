"""Chips: tiles of a region on its dates, in a store or as ready files; splits by block; the resident sampler."""
