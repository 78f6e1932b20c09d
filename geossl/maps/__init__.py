"""From a head to a published layer: windows streamed through the model, blended, written, catalogued."""
