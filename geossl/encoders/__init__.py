"""Backbones with their bands and normalisation, built, saved and loaded whole."""
