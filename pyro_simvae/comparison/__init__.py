"""Comparisons: methods x seeds x data, each cell an ordinary run, brought together in tables and one page."""
