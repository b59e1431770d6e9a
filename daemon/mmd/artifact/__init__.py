"""What an artifact set is, how one is opened, and what a model made from it looks like. Light to import."""
