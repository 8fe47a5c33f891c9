"""Threads, futures, tasks and forks: small tools that know nothing of products."""
