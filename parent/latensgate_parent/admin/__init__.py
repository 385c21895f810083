"""``latensgate-admin``: what an operator does with tenants, keys and a running parent."""
