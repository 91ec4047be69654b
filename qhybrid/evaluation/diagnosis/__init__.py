"""What a trained model does with its circuits: outputs replaced, metrics compared, a verdict."""
