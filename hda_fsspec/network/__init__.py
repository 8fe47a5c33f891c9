"""The network half: requests, tokens, retries, and the calls of the service. Knows no disk."""
