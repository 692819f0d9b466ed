"""The series forecast challenge; see README.md."""
