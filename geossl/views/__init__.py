"""Views of multispectral chips: recipes, a fused generator, and the same as a Kornia pipeline."""
