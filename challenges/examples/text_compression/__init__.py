"""The text compression challenge; see README.md."""
