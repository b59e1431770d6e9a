"""How is a Mentee derived from a Mentor? `groups`, `prune`, `depth`, `resolution` change it; `frontier` weighs it."""
