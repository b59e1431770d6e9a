"""The demonstration: one real person's handwriting, the real daemon, simulated sensors."""
