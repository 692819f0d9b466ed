"""Challenges and submissions as the replicated state knows them: specs, catalogue, lifecycle."""
