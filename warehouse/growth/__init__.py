"""The log grows: what is stated by partition is stated for the new ones."""
