"""One module for each change, in the order that ``down_revision`` says."""
