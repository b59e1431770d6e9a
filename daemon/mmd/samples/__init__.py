"""The owner's samples: how they are read, stored, split, labelled and forgotten. Light to import."""
