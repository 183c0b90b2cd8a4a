"""Boot system VMs, live patch them, break them and judge what happened."""
