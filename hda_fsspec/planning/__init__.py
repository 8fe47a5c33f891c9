"""What an expression reads and costs, and fetching it beforehand."""
