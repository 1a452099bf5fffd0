"""What can be asked of an encoder's features: a class, several classes, a number, a transcript."""
