"""The data contract that every package shares: clicks, names, things, months, positions and rejections."""
