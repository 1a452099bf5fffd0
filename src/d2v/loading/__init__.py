"""Models for use: read from anywhere, fed with files, images, recordings and strings, written for other programs."""
