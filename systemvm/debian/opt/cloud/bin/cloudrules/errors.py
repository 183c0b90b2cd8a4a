"""What can go wrong when rules are applied."""


class Refused(Exception):
    """A databag is unknown or malformed; nothing was changed."""


class Failed(Exception):
    """A rule could not be applied; what had been changed was put back."""
