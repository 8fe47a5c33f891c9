"""Planning: the products that an expression reads, their cost, and fetching them beforehand."""
