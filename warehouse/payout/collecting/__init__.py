"""What members owe is collected: mandates, direct debits, and what the bank answers."""
