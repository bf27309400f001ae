"""Recipes: from drives to trained networks, one file each over one loop."""
