"""The agent of a system VM: it keeps a TLS connection to a management server and does what the type of VM is for.

Standard library only, Python 3.7 and later. The conversation is described in docs/payload.md.
"""
