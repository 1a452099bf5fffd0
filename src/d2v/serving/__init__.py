"""`d2v serve`: a model behind HTTP, for requests that MLflow's server would take too, with limits, metrics and reloads.

request -> `app` (limits, ids, status codes) -> `rows` (body to rows) -> `d2v.tracking.served` (rows to answers)
           `source` (which version is served, and a newer one) and `server` (the process) stand around them.
"""
