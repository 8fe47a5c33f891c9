"""The time index of products, as far as the catalogue tells it. Pure."""
