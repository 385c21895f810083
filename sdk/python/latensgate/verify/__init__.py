"""The one verifier: attestation documents, manifests, receipts. No I/O, no clock."""
