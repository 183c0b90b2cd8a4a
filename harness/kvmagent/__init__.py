"""CloudStack's KVM agent, as far as it acts on a running guest."""
