"""The way to the enclaves: connections, the fleet that is routed over, and the egress tunnel."""
