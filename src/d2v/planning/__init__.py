"""From a source to an environment of `conf/`: a look at the data, a recipe, its time and memory, and the files.

`d2v.modalities.survey` looks, `Modality.suggest` says what is special about the modality's recipe, `measure` times it,
`plan` puts both together under a budget, `environment` writes it, `project` knows where.
"""
