"""What the model answered: whether it stayed the same under load, and its tracks against a standalone run's."""
