"""Images: sources, preparation, encoders and masks."""
