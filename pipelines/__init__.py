"""The Kedro project package: in what order things happen, and nothing about how."""
