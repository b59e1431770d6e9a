"""How does a recording become what the networks take? The two graphs of an audio set, and how sounds are varied."""
