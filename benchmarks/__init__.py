"""One file per figure; `flattr bench` runs them."""
