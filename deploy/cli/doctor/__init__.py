"""`flattr doctor`: what an installation needs, held against what is there. It changes nothing."""
