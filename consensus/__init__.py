"""Stake-weighted PBFT with ordered commits, as a pure state machine: no clock, socket or disk."""
