"""From a request to valid clicks: who asks, whether they may, and what they say."""
