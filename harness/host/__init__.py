"""What this machine lends to a run: the hypervisor, the cache, folders, locks, ports, room and programs."""
