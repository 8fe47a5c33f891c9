"""What a data set may be asked, by its schema: names, types, dates. No I/O."""
