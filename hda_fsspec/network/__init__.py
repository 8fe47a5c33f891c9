"""Requests, tokens, retries, and the calls of the service. Knows no disk."""
