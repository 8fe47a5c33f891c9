"""Lazy variables of products, and the files that are open to read them."""
