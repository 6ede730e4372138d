"""What is learnt: data sets, their splits, networks and losses.

    problem = build(study.problem, batch_size=100, seed=0, data_dir=None)        # hpo.problems.problem
    problem.loss(problem.weights, {}, problem.batches(0))                        # a scalar tensor

A source reads `Records`, `dataset.understood` makes a `Dataset` of them, `split.divide` three parts of float32 arrays,
`problem.build` tensors and a network. Only the last one and the networks load torch.
"""
