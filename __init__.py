"""Limner: pictures from words, by graphs of nodes."""
