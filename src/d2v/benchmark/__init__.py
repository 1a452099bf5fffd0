"""Objectives side by side: what each costs, and what its encoders are worth. (`d2v.bench` is about speed alone.)"""
