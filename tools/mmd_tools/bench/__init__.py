"""How fast is the product, measured as ratios within one run? One command a question."""
