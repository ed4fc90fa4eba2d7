"""Tells people of alerts: the alerts topic is the queue, each channel has its place in it and its own thread.

`channels` reads the file that names them, `deliverer` takes steps off the topic and has them sent, `log` remembers on
disk what was told to whom, `webhook` and `apprised` send, `guard` keeps them away from internal addresses. Judging
never waits for any of it.
"""
