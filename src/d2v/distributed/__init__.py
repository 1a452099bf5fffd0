"""Ranks: how they are started on one machine or many, how they join a process group, and how a rank that dies or hangs
is noticed. `environment` says which rank this process is; `launch` starts the others; `watchdog` watches them.
"""
