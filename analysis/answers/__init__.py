"""What the model answered: whether it stayed the same under load, and how its tracks compare with a standalone run's."""
