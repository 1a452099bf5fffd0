"""Ranks: where they come from, how they meet, and how their end is noticed."""
