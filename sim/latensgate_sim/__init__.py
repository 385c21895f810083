"""A simulated AWS for Latensgate: NSM, KMS with ``Recipient``, STS, Bedrock and an egress tunnel.

Never in an image, and it imports nothing of the enclave: botocore and OpenSSL judge what it speaks.
What is real here and what is not stands in docs/adr/0013.
"""
