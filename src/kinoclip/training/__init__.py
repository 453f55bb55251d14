"""Training by recipes, and reproduction of the papers' rows."""
