"""This machine's share in a run: the hypervisor, the cache, folders, locks, ports, room and programs."""
