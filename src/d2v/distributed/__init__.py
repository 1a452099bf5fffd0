"""Ranks: how they are started on one machine or many, how they join a process group, and how a rank that dies or hangs
is noticed.

`launch` calls a function on every rank. For more than one rank a `supervisor` starts all of them through a `launcher`
(or through that of `hosts`) and is none of them; each is a process of `worker`. `environment` says which rank this
process is, and `watchdog` watches it.
"""
