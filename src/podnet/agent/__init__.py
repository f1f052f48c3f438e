"""The resident node agent, and the executable that talks to it."""
