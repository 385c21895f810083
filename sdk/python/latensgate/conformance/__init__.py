"""Hold an implementation to test vectors: ours, and those that others published.

The protocol is docs/spec/conformance.md; any language can speak it.
"""
