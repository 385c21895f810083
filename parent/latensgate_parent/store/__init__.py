"""What the parent keeps: tenants, API keys, receipts, documents, idempotency records."""
