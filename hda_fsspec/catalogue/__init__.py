"""The use case: list a location, make its products local."""
