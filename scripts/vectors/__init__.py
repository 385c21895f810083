"""An independent second implementation of docs/spec, used only to write tests/vectors.

Nothing here may import code under test: a mistake shared by both sides would be invisible.
"""
