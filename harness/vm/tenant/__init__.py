"""Tenants: tiny guests around a system VM, with clients and servers of the real protocols."""
