"""From a request to valid clicks: authentication, authorisation, rate limits, parsing and validation."""
