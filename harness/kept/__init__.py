"""VMs that a person keeps between commands."""
