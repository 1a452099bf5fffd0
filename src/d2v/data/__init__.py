"""Data on its way from a source to a training step: sources are read, ingested into shards and a manifest (`ingest`),
prepared for a model (`prepared`), and drawn in batches (`batch_sampler`). Order, augmentation and masks are functions
of integer keys (`random`), so a run repeats and resumes exactly.
"""
