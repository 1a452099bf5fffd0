"""Objectives side by side: what each costs, and what its encoders are worth. (`benchmarks` is about speed alone.)"""
