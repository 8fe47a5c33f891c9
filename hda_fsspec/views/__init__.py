"""Views: what a notebook or a terminal shows of a query, of data sets and of what can be asked."""
