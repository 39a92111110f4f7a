"""What goes wrong with tracking, as messages to the user."""


class TrackingError(ValueError):
    """The tracking server does not answer, or does not have what was asked for."""


class HeldError(TrackingError):
    """Another process writes to this part of an outbox, or delivers it."""
