"""Time series: rows of numbers, several channels side by side."""
