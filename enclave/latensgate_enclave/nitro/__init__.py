"""The two devices of a Nitro enclave: the security module and the socket to the parent."""
