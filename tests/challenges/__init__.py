"""Tests of the author kit and the example challenges."""
