"""A first contact with a service: what is uncertain of it is asked, seen, and recorded."""
