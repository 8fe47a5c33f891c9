"""Lazy data: recipes, stacks of products, and what reading them would read."""
