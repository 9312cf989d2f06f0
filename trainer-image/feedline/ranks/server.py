"""Imported first by the process that ranks are forked from: it ends with the launcher, and hears no Ctrl-C.

By itself it would end when the launcher does, but for the ranks, which hold open what it waits for.
"""

import signal

from feedline.ranks.end import end_with_parent

end_with_parent()
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
