"""Later uses of a VM, after a patch: all that it must still do, from a new machine to a reboot."""
