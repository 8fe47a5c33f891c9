"""What is in a file by its bytes, and whether it is complete."""
