"""What each click does to its flattr and to the counts. Pure."""
