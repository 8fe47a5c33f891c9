"""What computing something costs, and fetching it beforehand: ``ds.hda``."""
