"""The output of a closed month: statements, exports and approvals."""
