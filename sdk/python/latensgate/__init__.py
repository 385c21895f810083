"""Latensgate client: sealed requests to an attested enclave, and the one verifier."""
