"""What the parent says over HTTP: the sealed route, and what all routes share."""
