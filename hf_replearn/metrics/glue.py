"""Which metrics the tasks of GLUE are scored with (Wang et al. 2018, arXiv:1804.07461, table 1)."""

GLUE = {
    "cola": ("matthews_correlation",),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "qqp": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
    "mnli": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
}

POSITIVE = {"mrpc": "equivalent", "qqp": "duplicate"}  # the class that F1 is of
