"""A system VM with its tenants: cabled, started, frozen, restored."""
