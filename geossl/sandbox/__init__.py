"""A simulated region whose truth is known: landscape, seasons, light, scenes, truth rasters, sparse labels."""
