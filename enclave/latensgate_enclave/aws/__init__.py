"""What AWS speaks, as far as the enclave needs it; no I/O in here (docs/adr/0010)."""
