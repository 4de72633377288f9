"""The demo: the whole pipeline once, every cent explained."""
