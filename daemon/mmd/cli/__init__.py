"""The commands: each only parses, calls and prints."""
