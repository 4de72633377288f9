"""The whole stack on one machine, on embedded parts."""
