"""What goes wrong in a way that the person at the keyboard can mend: one sentence, and no traceback."""


class ClusterError(Exception):
    """The cluster cannot start or has failed; the message says what, where, and what to do."""


class NotHereError(ClusterError):
    """This machine lacks what the level needs (a program, root); the message says what to install."""
