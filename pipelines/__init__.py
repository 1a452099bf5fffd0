"""The Kedro project package: in what order things happen. What each step does is in `d2v`.

`steps` holds one file per step: its node functions and their wiring. `pipeline_registry` names the pipelines.
The other modules are Kedro's settings, hooks, configuration, catalog types and command line for this project.
"""
