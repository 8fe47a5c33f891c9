"""What comes from outside, random and mutated, against all that reads it: only typed errors."""
