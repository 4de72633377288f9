"""Health, lag, metrics, spans, and the guard against a broken producer."""
