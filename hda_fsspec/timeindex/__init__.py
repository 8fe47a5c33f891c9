"""Where products stand in time, as far as the catalogue tells it. Pure."""
