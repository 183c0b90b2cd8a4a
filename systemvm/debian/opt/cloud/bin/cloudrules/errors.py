"""Errors of applying rules."""


class Refused(Exception):
    """A databag is malformed or cannot be applied here; nothing was changed by it."""


class Unknown(Refused):
    """A databag of a type that this guest does not know, as a newer server may send it: harmless, so ignored."""


class Failed(Exception):
    """A rule could not be applied; what had been changed was put back."""
