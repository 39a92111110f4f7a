"""Errors of tracking, with messages to the user."""


class TrackingError(ValueError):
    """The tracking server does not answer, or does not have what was requested."""


class HeldError(TrackingError):
    """Another process writes or delivers this part of an outbox."""
