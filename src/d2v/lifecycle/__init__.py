"""What becomes of trained models: what they were made of, whether one may take another's place, when to train again."""
