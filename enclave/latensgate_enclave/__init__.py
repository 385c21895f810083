"""The trusted worker: what runs inside the enclave image besides ``latensgate_shared``."""
