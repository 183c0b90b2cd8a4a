"""The management network of an agent VM: the server's port, a share, and a hypervisor's screens."""
