"""A second computation of a closed month, which shares no SQL with the close."""
