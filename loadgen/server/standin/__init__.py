"""The stand-in model served by our own Triton; its code is copied into a model repository, not imported there."""
