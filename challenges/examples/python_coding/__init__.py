"""Python coding: score a submitted function by what it answers and what it burns."""
