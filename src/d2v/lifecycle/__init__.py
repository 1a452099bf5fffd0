"""Lineage, promotion and retraining of registered models.

A retraining run looks for new items and drift, trains on from the champion, and the gate promotes a challenger only if
it is measurably better. `rollback` goes back to an earlier champion.
"""
