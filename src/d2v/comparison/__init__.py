"""Objectives side by side on the same data: what each costs, and how good its encoders are.

`compare` runs a whole benchmark: pretrainings, probes and a task with few and with many labels. `report` writes it down
beside published results. (Speed alone is measured in `benchmarks/`.)
"""
