"""The untrusted service on the parent instance: authenticate, limit, route, store, carry bytes.

It never holds plaintext of a prompt or an answer, and nothing it says has to be believed.
"""
