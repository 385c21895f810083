"""How databases of earlier releases come to the tables of this one."""
