"""Genuine CloudStack trees as the subject: every VM type, with the tree's own patch script and with ours."""
