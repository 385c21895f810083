"""What crosses a Latensgate boundary, and nothing else.

Sealed protocol, frames, messages, key manifest, receipts, strict readers, limits, errors.
Pure rules without I/O: bytes in, values or typed errors out.
"""
