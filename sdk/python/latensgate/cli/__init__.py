"""The ``latensgate`` command line. It holds no verifier of its own and no primitive."""
