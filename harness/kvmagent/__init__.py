"""What CloudStack's KVM agent does to a running guest."""
