"""From records to columns of clicks."""
